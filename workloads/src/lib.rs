//! The guest image, the ABI it shares with the harness, and the workload catalogue.
//!
//! The lowest crate of the workspace, so it also holds the unit types that every other crate uses.
#![forbid(unsafe_code)]

pub mod abi;
pub mod catalogue;
#[cfg(feature = "image")]
pub mod image;
// Four files and folders are shared with the guest, where casts are of the machine's own word size.
#[allow(clippy::cast_possible_truncation)]
pub mod content;
#[allow(clippy::cast_possible_truncation)]
pub mod pages;
pub mod params;
#[allow(clippy::cast_possible_truncation)]
pub mod programs;
#[allow(clippy::cast_possible_truncation)]
pub mod random;
pub mod settings;
pub mod units;

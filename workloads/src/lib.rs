//! The guest image, the ABI it shares with the harness, and the workload catalogue.
//!
//! The lowest crate of the workspace, so it also holds the unit types that every other crate uses.
#![forbid(unsafe_code)]

pub mod abi;
pub mod catalogue;
#[cfg(feature = "image")]
pub mod image;
// Shared with the guest, where the casts are of the machine's own word size.
#[allow(clippy::cast_possible_truncation)]
pub mod kernel;
pub mod params;
pub mod settings;
pub mod units;

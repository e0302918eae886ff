//! The guest image, the ABI it shares with the harness, and the workload catalogue.
//!
//! The lowest crate of the workspace, so it also holds the unit types that every other crate uses.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod settings;
pub mod units;

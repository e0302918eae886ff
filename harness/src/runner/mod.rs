//! From a plan to records.

pub mod host;
pub mod noise;

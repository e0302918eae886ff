//! Records and reports.
#![forbid(unsafe_code)]

pub mod manifest;
pub mod record;

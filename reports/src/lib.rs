//! Records and reports.
#![forbid(unsafe_code)]
pub mod record;

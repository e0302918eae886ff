//! The integration tests, in one binary.
#![allow(clippy::unwrap_used, clippy::needless_raw_string_hashes)]

mod claims;
mod extremes;
mod format;
mod partition;
mod plans;
mod refusals;

//! Suites.
#![forbid(unsafe_code)]

pub mod cell;

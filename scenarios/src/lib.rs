//! Suites.
#![forbid(unsafe_code)]

pub mod cell;
pub mod check;
mod document;
pub mod error;
pub mod key;
pub mod layer;
pub mod place;
mod value;

pub use error::{Problem, SuiteError};
pub use layer::{Assignment, Draft};
pub use place::Place;

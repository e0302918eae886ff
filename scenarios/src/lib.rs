//! Suites: what is measured, as TOML files with the reasons beside the numbers, and their expansion into cells and an
//! order of runs. Text and command-line arguments go in, a [`Plan`] comes out; everything doubtful is refused with its
//! place before a guest starts. `FORMAT.md` documents the files.
#![forbid(unsafe_code)]

pub mod cell;
pub mod check;
pub mod claims;
mod comparison;
mod document;
mod draft;
pub mod error;
pub mod estimate;
pub mod frozen;
pub mod gate;
pub mod key;
mod layer;
mod matrix;
mod order;
mod partition;
pub mod place;
pub mod plan;
pub mod qemu;
pub mod replace;
pub mod schema;
pub mod shipped;
mod sides;
mod suite;
mod value;

pub use claims::Claims;
pub use comparison::COMPARISON_KEYS;
pub use draft::{Assignment, Draft};
pub use error::{Problem, SuiteError};
pub use partition::{Slice, SliceError};
pub use place::Place;
pub use plan::{Comparison, Plan, PlannedCell, PlannedRun, RunKind};
pub use suite::{Overrides, SUITE_KEYS, Suite, WORKLOAD_KEYS, workload_names};

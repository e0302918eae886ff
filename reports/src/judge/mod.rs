//! Whether something became worse: two run directories laid beside each other, or the two sides of one directory whose
//! cells ran side by side.
//!
//! ```text
//! two RunData, or one with sides -> measurement (which runs stand against which, and what the host did meanwhile)
//!     -> samples (a figure of the runs of a cell, and which of them are relabelled together)
//!     -> compare: every cell and metric in one joint test, for people
//!     -> gate:    the suite's gated metrics, in the mean over cells and in each cell, for CI
//!     -> nights:  the same over the nights of a nightly job
//!     -> text
//! ```

pub mod accepted;
pub mod compare;
pub mod fresh;
mod gate;
#[cfg(test)]
pub(crate) mod gate_tests;
mod host;
pub(crate) mod measurement;
pub mod nights;
mod samples;
mod stage;
mod text;

pub use accepted::{Acceptance, Accepted, Size};
pub use gate::{GateResult, Judgement, Outcome, Verdict, judge};
pub use host::{HostChange, Sides};
pub use measurement::{Allowed, CellPair, JudgeError, Measurement, Origin, Runs};

//! Whether something became worse: two run directories laid beside each other, or the two sides of one directory whose
//! cells ran side by side.
//!
//! ```text
//! two RunData, or one with sides -> measurement (which runs stand against which, and what the host did meanwhile)
//!     -> compare: every cell and metric by itself, for people
//!     -> gate:    the suite's gated metrics, one test each, for CI; accepted changes are left out
//!     -> text
//! ```

pub mod accepted;
pub mod compare;
pub mod gate;
#[cfg(test)]
pub(crate) mod gate_tests;
pub mod host;
pub mod measurement;
pub mod stage;
mod text;

pub use accepted::{Acceptance, Accepted};
pub use gate::{GateResult, Judgement, Outcome, Verdict, judge};
pub use host::{HostChange, Sides};
pub use measurement::{Allowed, CellPair, JudgeError, Measurement, Origin, Runs};

//! The parametric memory kernel: what a guest does to its memory, as numbers.
//!
//! An operation is a batch of `accesses` to pages of the working set. A share `reads` of the operations only
//! reads; every other one also writes `writes` pages. Named settings (`read-heavy`, ...) stand in the catalogue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Rate};

/// In which order operations choose pages of the working set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Each page once per cycle, in address order.
    Sequential,
    /// Every page equally likely.
    Uniform,
    /// Zipf-distributed with exponent theta (0 < theta < 1), ranks scattered over the working set.
    Zipf(f64),
}

/// What a page write changes: `bytes` in `pieces` evenly spaced runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Bytes changed by one page write, 1 to 4080; the page's 8-byte write counter changes besides.
    pub bytes: u32,
    /// In how many evenly spaced runs they lie, 1 to `bytes`.
    pub pieces: u32,
    /// Whether the runs move on with every write of the page, or stay where they are.
    pub moves: bool,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The page's write count, over and over.
    Counter,
    /// Pseudo-random bytes that differ with every write.
    Random,
    /// The same bytes at every write; the page's counter stays too, so that a second write changes nothing.
    Same,
}

/// How hard the guest works, summed over its vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Open loop: bytes of written pages per second over the link's bytes per second.
    Pressure(f64),
    /// Open loop: page writes per second.
    Pages(f64),
    /// Open loop: operations per second.
    Operations(f64),
    /// Closed loop: the next operation starts when the last one ends.
    FlatOut,
}

/// Shares of all guest memory by initial content; the rest is zero. The working set is never zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// Share of pages outside of the working set that stay zero.
    pub zero: f64,
    /// Share of pseudo-random pages.
    pub random: f64,
    /// Share of text-like pages.
    pub text: f64,
}

/// The kernel's parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Memory the operations touch.
    pub working_set: Bytes,
    /// Share of operations that only read, 0 to 1.
    pub reads: f64,
    /// Order of the pages.
    pub pattern: Pattern,
    /// Accesses per operation.
    pub accesses: u32,
    /// Page writes among the accesses of a writing operation.
    pub writes: u32,
    /// What one page write changes.
    pub change: Change,
    /// What it writes.
    pub content: Content,
    /// How hard the guest works.
    pub load: Load,
    /// What memory holds at first.
    pub fill: Fill,
}

impl Settings {
    /// Operations per second of all vCPUs that this load asks for over a link of `link` bytes per second;
    /// `None` for a closed loop. A pressure over an unlimited link is an error of the suite, caught there:
    /// here it counts as no pressure at all.
    #[must_use]
    pub fn operations_per_second(&self, link: Option<Rate>) -> Option<f64> {
        let writes_per_operation = (1.0 - self.reads) * f64::from(self.writes);
        match self.load {
            Load::FlatOut => None,
            Load::Operations(rate) => Some(rate),
            Load::Pages(rate) => Some(rate / writes_per_operation),
            #[expect(clippy::cast_precision_loss, reason = "rates stay far under 2^53")]
            Load::Pressure(p) => link.map(|l| p * l.0 as f64 / 4096.0 / writes_per_operation),
        }
    }
}

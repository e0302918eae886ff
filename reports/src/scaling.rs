//! What size costs: trackers as guest memory and dirty set grow, engines as guest memory grows.

pub mod engines;
pub mod trackers;

use crate::cells::ComparisonRuns;

/// A sentence for each cost that can be fitted: of trackers, and of engines.
#[must_use]
pub fn sentences(comparisons: &[ComparisonRuns<'_>]) -> Vec<String> {
    [trackers::sentences(comparisons), engines::sentences(comparisons)].concat()
}

//! What size costs: trackers as guest memory and dirty set grow, engines as guest memory grows.

mod engines;
mod fit;
mod trackers;

use migbench_scenarios::cell::Cell;

use crate::cells::ComparisonRuns;

/// A sentence for each cost that can be fitted: of trackers, and of engines.
#[must_use]
pub fn sentences(comparisons: &[ComparisonRuns<'_>]) -> Vec<String> {
    [trackers::sentences(comparisons), engines::sentences(comparisons)].concat()
}

/// Guest memory in GiB.
fn gib(cell: &Cell) -> f64 {
    cell.memory.0 as f64 / 1_073_741_824.0
}

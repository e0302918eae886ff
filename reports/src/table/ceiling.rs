//! What delta can save at most, and how much of it was saved. Delta sends round 0 in full as the baseline does, and at
//! best saves all of the rest.

use migbench_scenarios::cell::Engine;

use super::partner;
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::Measure;
use crate::metric::MetricKey;
use crate::quantity;

/// A ceiling under which no share of it is told: a share of nothing is noise.
const NOTHING_TO_SAVE: f64 = 0.01;

/// The ceiling of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// The share of the baseline's traffic that can be saved: 1 - 1/A, where A is its amplification.
    pub share: f64,
}

impl Ceiling {
    /// Where the baseline sends whole pages, none of its runs was capped, and something could save.
    #[must_use]
    pub fn of(comparison: &ComparisonRuns<'_>) -> Option<Self> {
        let baseline = partner(comparison).filter(|baseline| baseline.cell.engine == Engine::Full)?;
        deltas(comparison).next()?;
        let amplification = Measure::Metric(MetricKey::Amplification).summary(&baseline.ok)?.median;
        Some(Self { share: (1.0 - 1.0 / amplification).max(0.0) })
    }

    /// The share of it that a cell reached, negative where it sent more than the baseline; none of a ceiling that is as good
    /// as nothing.
    #[must_use]
    pub fn reached(self, comparison: &ComparisonRuns<'_>, cell: &CellRuns<'_>) -> Option<f64> {
        let ratio = Measure::Metric(MetricKey::Traffic).difference(partner(comparison)?, cell)?.ratio;
        (self.share >= NOTHING_TO_SAVE).then(|| (1.0 - ratio) / self.share)
    }

    /// As a sentence.
    #[must_use]
    pub fn note(self, comparison: &ComparisonRuns<'_>) -> String {
        let most = format!("most that delta can save on traffic here: {}", quantity::percent(self.share));
        if self.share < NOTHING_TO_SAVE {
            return format!("{most}, which is nothing to speak of");
        }
        let several = deltas(comparison).count() > 1;
        let reached: Vec<_> = deltas(comparison)
            .filter_map(|cell| {
                let reached = self.reached(comparison, cell)?;
                let by = if several { format!(" by {}", cell.label) } else { String::new() };
                Some(if reached > 0.0 {
                    format!("reached {} of it{by}", quantity::percent(reached))
                } else {
                    format!("reached none of it{by}")
                })
            })
            .collect();
        if reached.is_empty() { most } else { format!("{most} ({})", reached.join(", ")) }
    }
}

/// The cells that send deltas and were not left out.
pub(super) fn deltas<'a, 'r>(comparison: &'a ComparisonRuns<'r>) -> impl Iterator<Item = &'a CellRuns<'r>> {
    comparison.cells.iter().filter(|cell| cell.cell.engine == Engine::Delta && cell.skipped.is_none())
}

//! What delta can save at most, and how much of that it saved. Delta sends round 0 in full as the baseline does, and at
//! best saves all of the rest.

use migbench_scenarios::cell::Engine;

use super::{PrintedFigure, partner};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::Measure;
use crate::metric::MetricKey;
use crate::quantity;
use crate::stats::Spread;

/// A ceiling under which nothing is said of what was saved of it: a share of nothing is noise.
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

    /// As a sentence, with what was saved of the rounds after the first, of which it is the whole.
    #[must_use]
    pub fn note(self, comparison: &ComparisonRuns<'_>) -> String {
        let most = format!("most that delta can save on traffic here: {}", quantity::percent(self.share));
        if self.share < NOTHING_TO_SAVE {
            return format!("{most}, which is nothing to speak of");
        }
        let several = deltas(comparison).count() > 1;
        let saved: Vec<_> = deltas(comparison)
            .filter_map(|cell| {
                let saved = saved(comparison, cell, Measure::LaterTraffic)?;
                let by = if several { format!(" by {}", cell.label) } else { String::new() };
                let kind = if matches!(saved.numbers.spread, Some(Spread::Range { .. })) {
                    "range "
                } else {
                    "95 % "
                };
                let spread = saved.spread.map(|ends| format!(" ({kind}{ends})")).unwrap_or_default();
                Some(format!("{}{spread}{by}", saved.value))
            })
            .collect();
        if saved.is_empty() {
            most
        } else {
            let first = if deltas(comparison).any(|cell| cell.cell.codec.compresses()) {
                "; a codec that compresses saves in the first round too"
            } else {
                ""
            };
            format!(
                "{most}, which is all of the rounds after the first; of those it saved {}{first}",
                saved.join(", ")
            )
        }
    }
}

/// The share of the baseline's that a cell saved, negative where it has more, marked where it may be chance; of these runs.
pub(super) fn saved(
    comparison: &ComparisonRuns<'_>,
    cell: &CellRuns<'_>,
    measure: Measure,
) -> Option<PrintedFigure> {
    let difference = measure.difference(partner(comparison)?, cell)?;
    let spread = difference.spread.map(|spread| {
        // The other way round.
        let (low, high) = spread.ends();
        let (low, high) = (1.0 - high, 1.0 - low);
        match spread {
            Spread::Range { .. } => Spread::Range { low, high },
            Spread::Interval { confidence, .. } => Spread::Interval { low, high, confidence },
        }
    });
    let figure = PrintedFigure::share(cell.ok.len(), 1.0 - difference.ratio, spread);
    Some(if difference.significant == Some(false) { figure.marked() } else { figure })
}

/// The cells that send deltas and were not left out.
pub(super) fn deltas<'a, 'r>(comparison: &'a ComparisonRuns<'r>) -> impl Iterator<Item = &'a CellRuns<'r>> {
    comparison.cells.iter().filter(|cell| cell.cell.engine == Engine::Delta && cell.skipped.is_none())
}

//! Every metric of every cell, for formats that programs read. Tables for people show a part of it.

use super::Table;
use crate::cells::ComparisonRuns;
use crate::measure::{Measure, Tails};

/// Of one comparison, whose report has these tails: a column for everything that any of its runs has.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>, tails: Tails) -> Table {
    let known = |measure: &Measure| {
        comparison
            .cells
            .iter()
            .any(|cell| measure.summary(&cell.ok).is_some() || measure.summary(&cell.capped).is_some())
    };
    let measures: Vec<_> = Measure::all(tails).into_iter().filter(known).collect();
    Table::of_measures(comparison, &measures)
}

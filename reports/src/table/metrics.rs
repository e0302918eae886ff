//! Every metric of every cell, for formats that programs read. Tables for people show a part of it.

use super::Table;
use crate::cells::ComparisonRuns;
use crate::measure::Measure;

/// Of one comparison: a column for everything that any of its runs has.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>) -> Table {
    let known = |measure: &Measure| {
        comparison
            .cells
            .iter()
            .any(|cell| measure.summary(&cell.ok).is_some() || measure.summary(&cell.capped).is_some())
    };
    let measures: Vec<_> = Measure::all(comparison).into_iter().filter(known).collect();
    Table::of_measures(comparison, &measures)
}

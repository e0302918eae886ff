//! Every metric of every cell, for formats that programs read. Tables for people show a part of it.

use super::Table;
use crate::cells::ComparisonRuns;
use crate::measure::{Measure, alike};

/// Of one comparison among `all` of a report: a column for everything that any of its runs has.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>, all: &[ComparisonRuns<'_>]) -> Table {
    let known = |measure: &Measure| {
        comparison
            .cells
            .iter()
            .any(|cell| measure.summary(&cell.ok).is_some() || measure.summary(&cell.capped).is_some())
    };
    let measures: Vec<_> = Measure::all(&alike(comparison, all)).into_iter().filter(known).collect();
    Table::of_measures(comparison, &measures)
}

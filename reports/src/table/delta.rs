//! The delta table: what became of the pages that were found dirty, and how much traffic that saved.

use super::ceiling::{self, Ceiling, deltas};
use super::{Column, PrintedFigure, Row, RowKind, Table, parts, skipped};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::Measure;
use crate::metric::{MetricKey, Unit};
use crate::record::Record;

const MEASURES: [Measure; 6] = [
    Measure::Metric(MetricKey::PagesFull),
    Measure::Metric(MetricKey::PagesZero),
    Measure::Metric(MetricKey::PagesDelta),
    Measure::Metric(MetricKey::PagesUnchanged),
    Measure::Metric(MetricKey::PagesOverflow),
    Measure::Metric(MetricKey::DeltaBytesPerPage),
];

/// What the table is, in a sentence.
pub const ABOUT: &str = "pages sent by outcome, all rounds together (unchanged: found dirty, equal to what the destination \
                         holds, not sent; overflowed: tried as a delta and sent whole); traffic saved against the \
                         baseline over all rounds, and over the rounds after the first, which are all that delta can \
                         save on; the ceiling on the former, which is all of the latter";

/// Of one comparison; none where no cell sends deltas.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>) -> Option<Table> {
    deltas(comparison).next()?;
    let derived = [
        ("traffic_saved", "saved, all rounds"),
        ("traffic_saved_later_rounds", "saved, later rounds"),
        ("delta_ceiling", "ceiling"),
    ];
    let derived = derived.map(|(name, label)| Column::new(name, label, Unit::Ratio));
    let columns = MEASURES.map(Column::from).into_iter().chain(derived).collect();
    let ceiling = Ceiling::of(comparison);
    let rows = comparison.cells.iter().flat_map(|cell| match skipped(cell) {
        Some(row) => vec![row],
        None => parts(comparison, cell)
            .into_iter()
            .map(|(kind, label, runs)| {
                let figures = figures(comparison, cell, kind, runs, ceiling);
                Row::of(kind, label, cell, runs.len(), figures)
            })
            .collect(),
    });
    Some(Table { rows: rows.collect(), ..Table::empty(comparison, columns) })
}

fn figures(
    comparison: &ComparisonRuns<'_>,
    cell: &CellRuns<'_>,
    kind: RowKind,
    runs: &[&Record],
    ceiling: Option<Ceiling>,
) -> Vec<Option<PrintedFigure>> {
    let counted = MEASURES.map(|measure| {
        let summary = measure.summary(runs)?;
        Some(PrintedFigure::of(measure.unit(), &summary, None, runs.len()))
    });
    let saved = |measure: Measure| {
        (kind == RowKind::Compared).then(|| ceiling::saved(comparison, cell, measure)).flatten()
    };
    let of_delta = ceiling
        .filter(|_| kind == RowKind::Compared && deltas(comparison).any(|delta| delta.label == cell.label));
    counted
        .into_iter()
        .chain([saved(Measure::Metric(MetricKey::Traffic)), saved(Measure::LaterTraffic)])
        .chain([of_delta.map(|ceiling| PrintedFigure::share(runs.len(), ceiling.share, None))])
        .collect()
}

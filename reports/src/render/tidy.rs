//! Every number of a report once, for formats that programs read: each metric of each cell, then what tables derive beside
//! them.

use crate::report::Report;
use crate::table::{Column, PrintedFigure, Row, RowKind, Table};

/// What a figure's value is.
pub const METRICS: &str = "metrics";

/// A table and what it is called.
#[derive(Debug, Clone, Copy)]
pub struct NamedTable<'a> {
    /// `metrics`, or the name of a section.
    pub name: &'static str,
    /// The table.
    pub table: &'a Table,
}

/// All tables, those of metrics first. Costs are metrics, and are not listed again.
#[must_use]
pub fn tables(report: &Report) -> Vec<NamedTable<'_>> {
    let metrics = report.metrics.iter().map(|table| NamedTable { name: METRICS, table });
    let sections = report.sections.iter().filter(|section| section.name != "cost");
    let rest = sections
        .flat_map(|section| section.tables.iter().map(|table| NamedTable { name: section.name, table }));
    metrics.chain(rest).collect()
}

impl<'a> NamedTable<'a> {
    /// The figures of a row that no table before has.
    pub fn figures(self, row: &'a Row) -> impl Iterator<Item = (&'a Column, &'a PrintedFigure)> {
        let known = self.name == "delta";
        let pairs = self.table.columns.iter().zip(&row.figures);
        pairs
            .filter(move |(column, _)| !known || !is_metric(column))
            .filter_map(|(column, figure)| Some((column, figure.as_ref()?)))
    }
}

fn is_metric(column: &Column) -> bool {
    crate::metric::MetricKey::find(&column.name).is_some()
}

/// How many runs a row is of.
#[must_use]
pub const fn runs(row: &Row) -> usize {
    let [ok, capped, _] = row.subject.runs;
    if matches!(row.kind, RowKind::Capped) { capped } else { ok }
}

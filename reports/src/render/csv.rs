//! One line per cell and metric, for spreadsheets and statistics programs. The columns stand in METRICS.md; behind them is one
//! for each parameter in which cells differ.

use std::collections::{BTreeMap, BTreeSet};

use super::tidy::{self, METRICS, NamedTable};
use crate::cells;
use crate::report::Report;
use crate::settings::{self, Flat};
use crate::stats::Spread;
use crate::table::{PrintedFigure, Row, RowKind};

/// The header.
pub const COLUMNS: [&str; 24] = [
    "directory",
    "suite",
    "table",
    "comparison",
    "workload",
    "cell",
    "engine",
    "row",
    "phase",
    "metric",
    "unit",
    "n",
    "value",
    "spread",
    "low",
    "high",
    "confidence",
    "ratio",
    "ratio_spread",
    "ratio_low",
    "ratio_high",
    "significant",
    "p",
    "note",
];

/// All reports in one table with one header.
#[must_use]
pub fn render(reports: &[Report]) -> String {
    let mut out = csv::Writer::from_writer(Vec::new());
    let parameters: Vec<_> = reports.iter().map(parameters).collect();
    let axes = axes(&parameters);
    // Writing to memory can't fail, and all lines have as many fields as the header.
    let mut line = |fields: &[String]| out.write_record(fields).is_ok();
    line(&COLUMNS.map(str::to_owned).into_iter().chain(axes.iter().cloned()).collect::<Vec<_>>());
    for (report, parameters) in reports.iter().zip(&parameters) {
        for named in tidy::tables(report) {
            for row in &named.table.rows {
                let of_cell = parameters.get(&(named.table.comparison.clone(), row.subject.cell.clone()));
                let value =
                    |axis: &String| of_cell.and_then(|flat| flat.get(axis)).cloned().unwrap_or_default();
                let values: Vec<_> = axes.iter().map(value).collect();
                for fields in lines(report, named, row) {
                    line(&[fields, values.clone()].concat());
                }
            }
        }
    }
    out.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The parameters of each cell, by comparison and label.
fn parameters(report: &Report) -> BTreeMap<(String, String), Flat> {
    let (comparisons, _) = cells::sort(&report.manifest, &[]);
    let of_each = comparisons.iter().flat_map(|comparison| {
        comparison
            .cells
            .iter()
            .map(|cell| ((comparison.plan.name.clone(), cell.label.clone()), settings::raw(cell.cell)))
    });
    of_each.collect()
}

/// The parameters that two cells have differently, but for those that have a column of their own.
fn axes(parameters: &[BTreeMap<(String, String), Flat>]) -> Vec<String> {
    let cells = || parameters.iter().flat_map(BTreeMap::values);
    let names: BTreeSet<&String> = cells().flat_map(BTreeMap::keys).collect();
    let varies = |name: &&String| cells().map(|flat| flat.get(*name)).collect::<BTreeSet<_>>().len() > 1;
    names.into_iter().filter(|name| !COLUMNS.contains(&name.as_str())).filter(varies).cloned().collect()
}

fn lines(report: &Report, named: NamedTable<'_>, row: &Row) -> Vec<Vec<String>> {
    let subject = &row.subject;
    let start = [
        report.path.display().to_string(),
        report.manifest.suite.clone(),
        named.name.to_owned(),
        named.table.comparison.clone(),
        subject.workload.clone(),
        subject.cell.clone(),
        subject.engine.clone(),
        row.kind.word().to_owned(),
        subject.phase.map(|phase| phase.word().to_owned()).unwrap_or_default(),
    ];
    // A table over comparisons has no name but its title.
    let title = || if named.table.comparison.is_empty() { named.table.title.clone() } else { String::new() };
    let note = row.text.clone().unwrap_or_else(title);
    let whole = |metric: &str, unit: &str, numbers: Vec<String>| {
        let fields = start.iter().cloned().chain([metric.to_owned(), unit.to_owned()]).chain(numbers);
        fields.chain([note.clone()]).collect::<Vec<_>>()
    };
    let mut lines = Vec::new();
    if named.name == METRICS {
        // So that a cell without any figure is seen too.
        let mut count = |metric: &str, runs: usize| {
            let mut numbers = vec![String::new(); COLUMNS.len() - start.len() - 3];
            numbers[..2].clone_from_slice(&[runs.to_string(), runs.to_string()]);
            lines.push(whole(metric, "count", numbers));
        };
        count("runs", tidy::runs(row));
        if row.kind != RowKind::Capped {
            count("runs_failed", subject.runs[2]);
        }
    }
    let figures = named.figures(row);
    lines.extend(figures.map(|(column, figure)| whole(&column.name, column.unit.symbol(), numbers(figure))));
    lines
}

/// From `n` to `p`.
fn numbers(figure: &PrintedFigure) -> Vec<String> {
    let numbers = figure.numbers;
    let some = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let low = |spread: Option<Spread>| spread.map(|spread| spread.ends().0);
    let high = |spread: Option<Spread>| spread.map(|spread| spread.ends().1);
    let kind = |spread: Option<Spread>| spread.map_or("", Spread::word).to_owned();
    let ratio = numbers.difference.and_then(|difference| difference.spread);
    vec![
        numbers.samples.to_string(),
        numbers.value.to_string(),
        kind(numbers.spread),
        some(low(numbers.spread)),
        some(high(numbers.spread)),
        some(numbers.spread.and_then(Spread::confidence)),
        some(numbers.difference.map(|difference| difference.ratio)),
        kind(ratio),
        some(low(ratio)),
        some(high(ratio)),
        numbers
            .difference
            .and_then(|difference| difference.significant)
            .map(|significant| significant.to_string())
            .unwrap_or_default(),
        some(numbers.difference.and_then(|difference| difference.p)),
    ]
}

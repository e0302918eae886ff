//! The latency table: quantiles of the guest's operations by phase. The histograms of a cell's runs are merged first,
//! since one run rarely has the samples that a tail takes.

use std::collections::BTreeSet;

use super::{Column, PrintedFigure, Row, Table, parts};
use crate::cells::ComparisonRuns;
use crate::histogram::{self, Clock, Latencies, Phase};
use crate::metric::Unit;

/// The quantiles shown: how they are called, what they are.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// What the tables are, in a sentence.
pub const ABOUT: &str = "how long operations of the guest took, over all timed runs of a cell together, by when they ran; a \
                         response time counts from when the operation was due, and a quantile q is shown where at \
                         least 10 / (1 - q) operations stand behind it";

/// Of one comparison: one per operation and clock.
#[must_use]
pub fn tables(comparison: &ComparisonRuns<'_>) -> Vec<Table> {
    operations(comparison)
        .into_iter()
        .map(|(operation, clock)| {
            let (what, name) = match clock {
                Clock::Service => (operation.clone(), format!("latency_{operation}")),
                Clock::Response => {
                    (format!("{operation}, response"), format!("latency_{operation}_response"))
                }
            };
            let quantile =
                |(label, _): (&str, f64)| Column::new(format!("{name}_{label}"), label, Unit::Seconds);
            let columns = [Column::new(format!("{name}_count"), "operations", Unit::Count)]
                .into_iter()
                .chain(QUANTILES.map(quantile))
                .chain([Column::new(format!("{name}_max"), "max", Unit::Seconds)])
                .collect();
            let mut table = Table::empty(comparison, columns);
            table.title = format!("{}: {what}", table.title);
            table.head = "phase".to_owned();
            table.rows =
                Phase::ALL.into_iter().flat_map(|phase| rows(comparison, &operation, clock, phase)).collect();
            table
        })
        .collect()
}

/// Operations and clocks that any timed run has.
fn operations(comparison: &ComparisonRuns<'_>) -> BTreeSet<(String, Clock)> {
    let runs = comparison.cells.iter().flat_map(|cell| cell.ok.iter().chain(&cell.capped));
    runs.flat_map(|run| run.histograms.keys())
        .filter_map(|key| histogram::parse_key(key))
        .map(|(operation, clock, _)| (operation.to_owned(), clock))
        .collect()
}

fn rows(comparison: &ComparisonRuns<'_>, operation: &str, clock: Clock, phase: Phase) -> Vec<Row> {
    let key = histogram::key(operation, clock, phase);
    let parts = comparison.cells.iter().flat_map(|cell| {
        parts(comparison, cell).into_iter().map(move |(kind, label, runs)| (cell, kind, label, runs))
    });
    parts
        .filter_map(|(cell, kind, label, runs)| {
            let all = histogram::merged(runs, &key);
            if all.is_empty() {
                return None;
            }
            let mut row = Row::of(kind, format!("{phase}: {label}"), cell, runs.len(), figures(&all));
            row.subject.phase = Some(phase);
            // The number of operations says more than that of runs.
            row.samples = None;
            Some(row)
        })
        .collect()
}

fn figures(all: &Latencies) -> Vec<Option<PrintedFigure>> {
    let seconds =
        |nanoseconds: u64| PrintedFigure::plain(Unit::Seconds, all.len(), histogram::seconds(nanoseconds));
    let mut figures = vec![Some(PrintedFigure::plain(Unit::Count, all.len(), histogram::exact(all.len())))];
    figures.extend(QUANTILES.map(|(_, q)| histogram::supported_quantile(all, q).map(seconds)));
    figures.push(Some(seconds(all.max())));
    figures
}

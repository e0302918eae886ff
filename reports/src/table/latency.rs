//! The latency table: quantiles of the guest's operations by phase. The histograms of a cell's runs are merged first,
//! since one run rarely has the samples that a tail takes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, PrintedFigure, Row, RowKind, Table, parts};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::histogram::{self, Clock, Latencies, Phase};
use crate::metric::Unit;

/// The quantiles shown: how they are called, what they are.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// What the tables are, in a sentence.
pub const ABOUT: &str = "how long operations of the guest took, over all timed runs of a cell together, by when they ran; a \
                         response time counts from when the operation was due, and a quantile q is shown where at \
                         least 10 / (1 - q) operations stand behind it";

/// Runs that stand in rows together, and what they have by key.
struct Merged<'a, 'r> {
    cell: &'a CellRuns<'r>,
    kind: RowKind,
    label: String,
    runs: usize,
    by_key: BTreeMap<String, Latencies>,
}

/// Of one comparison: one per operation and clock.
#[must_use]
pub fn tables(comparison: &ComparisonRuns<'_>) -> Vec<Table> {
    let parts = comparison.cells.iter().flat_map(|cell| {
        parts(comparison, cell).into_iter().map(move |(kind, label, runs)| {
            let by_key = histogram::merged_by_key(runs);
            Merged { cell, kind, label, runs: runs.len(), by_key }
        })
    });
    let parts: Vec<_> = parts.collect();
    // Operations and clocks that any timed run has.
    let keys = parts.iter().flat_map(|part| part.by_key.keys());
    let operations: BTreeSet<(&str, Clock)> = keys
        .filter_map(|key| histogram::parse_key(key))
        .map(|(operation, clock, _)| (operation, clock))
        .collect();
    operations
        .into_iter()
        .map(|(operation, clock)| {
            let (what, name) = match clock {
                Clock::Service => (operation.to_owned(), format!("latency_{operation}")),
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
            let row = |phase| {
                let key = histogram::key(operation, clock, phase);
                parts.iter().filter_map(move |part| part.row(&key, phase))
            };
            table.rows = Phase::ALL.iter().flat_map(|(_, phase)| row(*phase)).collect();
            table
        })
        .collect()
}

impl Merged<'_, '_> {
    fn row(&self, key: &str, phase: Phase) -> Option<Row> {
        let all = self.by_key.get(key).filter(|all| !all.is_empty())?;
        let label = format!("{phase}: {}", self.label);
        let mut row = Row::of(self.kind, label, self.cell, self.runs, figures(all));
        row.subject.phase = Some(phase);
        // The number of operations says more than that of runs.
        row.samples = None;
        Some(row)
    }
}

fn figures(all: &Latencies) -> Vec<Option<PrintedFigure>> {
    let seconds =
        |nanoseconds: u64| PrintedFigure::plain(Unit::Seconds, all.len(), histogram::seconds(nanoseconds));
    let mut figures = vec![Some(PrintedFigure::plain(Unit::Count, all.len(), histogram::exact(all.len())))];
    figures.extend(QUANTILES.map(|(_, q)| histogram::supported_quantile(all, q).map(seconds)));
    figures.push(Some(seconds(all.max())));
    figures
}

//! Figures: a module for each kind, which makes [`model`] out of cells. Renderers (`render/svg`) draw that model and compute
//! no number, so that a figure reads the same wherever it is drawn, and the same as the tables.
//!
//! What is compared keeps its style (colour, dash, marker) throughout a comparison; controls are grey and lie under the rest.

pub mod axis;
mod bars;
mod differences;
pub(crate) mod frontier;
mod latency;
pub mod model;
mod rounds;
pub(crate) mod scaling;
pub mod style;
mod switchover;
mod timeline;

#[cfg(test)]
pub(crate) mod tests;

use migbench_scenarios::cell::Engine;

use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::{Measure, Tails};
use crate::metric::MetricKey;
use crate::record::Record;

pub use model::{Mark, MarkKind, Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape};
pub use style::Style;

/// All figures of a report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Of the suite as a whole: differences over comparisons, cost over axes of numbers.
    pub suite: Vec<Plot>,
    /// Of each comparison, in the order of the plan; empty where no run of it ended.
    pub comparisons: Vec<Vec<Plot>>,
}

impl Figures {
    /// Of all comparisons of a run directory, with the tails of each.
    #[must_use]
    pub fn of(comparisons: &[ComparisonRuns<'_>], tails: &[Tails]) -> Self {
        let mut figures = Self {
            suite: [
                differences::plots(comparisons),
                frontier::plots(comparisons),
                scaling::plots(comparisons),
            ]
            .concat(),
            comparisons: comparisons
                .iter()
                .zip(tails)
                .map(|(comparison, tails)| {
                    let mut plots = bars::plots(comparison, *tails);
                    plots.extend(timeline::plot(comparison));
                    plots.extend(switchover::plot(comparison));
                    plots.extend(rounds::plot(comparison));
                    plots.extend(latency::plots(comparison));
                    plots
                })
                .collect(),
        };
        figures.name_apart();
        figures
    }

    /// Suite first, then each comparison.
    pub fn all(&self) -> impl Iterator<Item = &Plot> {
        self.suite.iter().chain(self.comparisons.iter().flatten())
    }

    /// Two comparisons may have names that read the same as anchors.
    fn name_apart(&mut self) {
        let mut known = std::collections::BTreeSet::new();
        for plot in self.suite.iter_mut().chain(self.comparisons.iter_mut().flatten()) {
            let plain = plot.id.clone();
            let mut number = 2;
            while !known.insert(plot.id.clone()) {
                plot.id = format!("{plain}-{number}");
                number += 1;
            }
        }
    }
}

/// Small letters and digits of a text, the rest as single hyphens: for anchors and names of files.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches('-').to_owned()
}

/// The cells of a comparison with their styles, in the order of its table; those that were left out take none.
fn styled<'a, 'r>(comparison: &'a ComparisonRuns<'r>) -> Vec<(&'a CellRuns<'r>, Style)> {
    let (mut compared, mut controls) = (0, 0);
    comparison
        .cells
        .iter()
        .filter(|cell| cell.skipped.is_none())
        .map(|cell| {
            let style = if comparison.is_control(cell) {
                controls += 1;
                Style::Control(controls - 1)
            } else {
                compared += 1;
                Style::Compared(compared - 1)
            };
            (cell, style)
        })
        .collect()
}

/// The run in the middle of its cell by total time (by throughput where nothing migrates), the lower one of two; of capped
/// runs, marked by `true`, where no other run ended.
fn median_run<'r>(cell: &CellRuns<'r>) -> Option<(&'r Record, bool)> {
    let capped = cell.ok.is_empty();
    let runs = if capped { &cell.capped } else { &cell.ok };
    let key = if cell.cell.engine.migrates() { MetricKey::TotalTime } else { MetricKey::ThroughputSteady };
    let mut known: Vec<(f64, &Record)> =
        runs.iter().filter_map(|run| Some((Measure::Metric(key).sample(run)?, *run))).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let middle = known.len().saturating_sub(1) / 2;
    let found = known.get(middle).map(|(_, run)| *run).or_else(|| runs.first().copied());
    found.map(|run| (run, capped))
}

/// A cell's label, with a dagger where its runs were capped.
fn label(cell: &CellRuns<'_>, capped: bool) -> String {
    if capped { format!("{} \u{2020}", cell.label) } else { cell.label.clone() }
}

/// `full: run 0004-read-heavy-full-1; delta: run ...`.
fn runs_named(runs: &[(String, &Record)]) -> String {
    runs.iter().map(|(label, run)| format!("{label}: run {}", run.run_id)).collect::<Vec<_>>().join("; ")
}

/// When the host noted an event of that name, in seconds from the start of the migration.
fn event(record: &Record, name: &str) -> Option<f64> {
    record.timeline.get().events.iter().find(|(_, event)| event == name).map(|(time, _)| *time)
}

/// Whether the engines of a comparison migrate at all.
fn migrates(comparison: &ComparisonRuns<'_>) -> bool {
    comparison
        .cells
        .iter()
        .any(|cell| matches!(cell.cell.engine, Engine::Full | Engine::Delta | Engine::StopAndCopy))
}

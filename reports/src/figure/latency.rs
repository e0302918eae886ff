//! Percentile curves of the guest's operations, as `HdrHistogram` draws them: a panel for each phase, the latency on a
//! logarithmic axis over percentiles whose tails are stretched.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::Axis;
use super::{Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape, Style, slug, styled};
use crate::cells::ComparisonRuns;
use crate::histogram::{self, Clock, Latencies, Phase};
use crate::metric::Unit;
use crate::quantity::show;

/// Points of a curve for each factor of ten in 1 / (1 - q).
const PER_DECADE: u32 = 16;

/// A panel's phases.
const PHASES: [(&str, &[Phase]); 6] = [
    ("pre-copy, switchover and catch-up", &[Phase::Precopy, Phase::Switchover, Phase::Catchup]),
    ("steady", &[Phase::Steady]),
    ("pre-copy", &[Phase::Precopy]),
    ("switchover", &[Phase::Switchover]),
    ("catch-up", &[Phase::Catchup]),
    ("after", &[Phase::After]),
];

/// A cell, and what its runs have together, by key.
struct Merged {
    label: String,
    style: Style,
    by_key: BTreeMap<String, Latencies>,
}

/// One for each operation that was timed: response times under open-loop load, else service times.
pub fn plots(comparison: &ComparisonRuns<'_>) -> Vec<Plot> {
    let cells = styled(comparison).into_iter().map(|(cell, style)| Merged {
        label: cell.label.clone(),
        style,
        by_key: histogram::merged_by_key(&cell.ok),
    });
    let cells: Vec<_> = cells.collect();
    let timed: BTreeSet<(&str, bool)> = cells
        .iter()
        .flat_map(|cell| cell.by_key.keys())
        .filter_map(|key| {
            let name = key.strip_prefix("latency_")?.split('/').next()?;
            Some(name.strip_suffix("_response").map_or((name, false), |operation| (operation, true)))
        })
        .collect();
    let operations: BTreeSet<&str> = timed.iter().map(|(operation, _)| *operation).collect();
    operations
        .into_iter()
        .filter_map(|operation| {
            let response = timed.contains(&(operation, true));
            let clock = if response { Clock::Response } else { Clock::Service };
            plot(comparison, &cells, operation, clock)
        })
        .collect()
}

fn plot(comparison: &ComparisonRuns<'_>, cells: &[Merged], operation: &str, clock: Clock) -> Option<Plot> {
    let merged = |phases: &[Phase]| -> Vec<(String, Style, Latencies)> {
        let all = cells
            .iter()
            .map(|cell| (cell.label.clone(), cell.style, cell.of_phases(operation, clock, phases)));
        all.filter(|(_, _, latencies)| !latencies.is_empty()).collect()
    };
    let panels: Vec<_> = PHASES
        .iter()
        .map(|(title, phases)| (*title, merged(phases)))
        .filter(|(_, cells)| !cells.is_empty())
        .map(|(title, cells)| {
            let curves: Vec<_> = cells.iter().map(|(_, _, latencies)| curve(latencies)).collect();
            (title, cells, curves)
        })
        .collect();
    // The same axes in all panels of a figure, so that phases can be compared.
    let points = || panels.iter().flat_map(|(_, _, curves)| curves.iter().flatten());
    points().next()?;
    let x = Axis::percentiles(points().map(|(tail, _)| *tail).fold(0.0, f64::max));
    let (clock_word, from) = match clock {
        Clock::Response => ("response time", "from the moment at which an operation was due to its end"),
        Clock::Service => ("service time", "from the start of an operation to its end"),
    };
    let y = Axis::log(clock_word, Unit::Seconds, points().map(|(_, seconds)| *seconds));
    let panels = panels.iter().map(|(title, cells, curves)| panel(title, cells, curves, &x, &y)).collect();
    let name = &comparison.title;
    Some(Plot {
        kind: PlotKind::Latency,
        id: format!("{}-latency-{}", slug(name), slug(operation)),
        title: format!("{name}: {clock_word} of operation {operation}"),
        caption: format!(
            "{} {from}, all timed runs of a cell together. A curve ends where fewer than ten operations lie beyond the percentile. \
             Both axes are the same in all panels.",
            capital(clock_word)
        ),
        size: PanelSize::Third,
        panels,
    })
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |c| c.to_uppercase().chain(characters).collect())
}

fn panel(
    title: &str,
    cells: &[(String, Style, Latencies)],
    curves: &[Vec<(f64, f64)>],
    x: &Axis,
    y: &Axis,
) -> Panel {
    let mut series: Vec<_> = cells
        .iter()
        .zip(curves)
        .filter(|(_, curve)| !curve.is_empty())
        .map(|((label, style, _), curve)| PlotSeries {
            label: label.clone(),
            style: *style,
            shape: Shape::Line,
            points: curve.iter().map(|(tail, seconds)| Point::at(*tail, *seconds)).collect(),
        })
        .collect();
    series.sort_by_key(|series| !series.style.is_control());
    let count = |(label, _, latencies): &(String, Style, Latencies)| format!("{label} {}", latencies.len());
    let few: Vec<_> =
        cells.iter().zip(curves).filter(|(_, curve)| curve.is_empty()).map(|(c, _)| c).collect();
    let longest = |(label, _, latencies): &&(String, Style, Latencies)| {
        format!("{label} {}", show(Unit::Seconds, histogram::seconds(latencies.max())))
    };
    let note = (!few.is_empty()).then(|| {
        format!("Too few for a curve. Longest: {}", few.iter().map(longest).collect::<Vec<_>>().join(", "))
    });
    Panel {
        title: title.to_owned(),
        subtitle: format!("operations: {}", cells.iter().map(count).collect::<Vec<_>>().join(", ")),
        x: x.clone(),
        y: y.clone(),
        series,
        marks: Vec::new(),
        note,
    }
}

impl Merged {
    fn of_phases(&self, operation: &str, clock: Clock, phases: &[Phase]) -> Latencies {
        let mut all = histogram::empty();
        for part in
            phases.iter().filter_map(|phase| self.by_key.get(&histogram::key(operation, clock, *phase)))
        {
            let _ = all.add(part);
        }
        all
    }
}

/// Pairs of 1 / (1 - q) and the latency in seconds, as far as samples support them; empty where they don't support the
/// median.
fn curve(latencies: &Latencies) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    if histogram::supported_quantile(latencies, 0.5).is_none() {
        return points;
    }
    for step in 0.. {
        let tail = 10_f64.powf(f64::from(step) / f64::from(PER_DECADE));
        let Some(value) = histogram::supported_quantile(latencies, 1.0 - 1.0 / tail) else { break };
        points.push((tail, histogram::seconds(value.max(1))));
    }
    points
}

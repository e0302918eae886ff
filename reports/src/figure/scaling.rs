//! Cost over an axis of numbers that a suite varies, such as memory, vCPUs, the link's rate, the load or the size of a change,
//! with the span in which an engine becomes cheaper than the baseline.

use std::collections::{BTreeMap, BTreeSet};

use super::axis::{Axis, Spacing};
use super::{Mark, MarkKind, Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape, Style, slug};
use crate::cells::{CellRuns, ComparisonRuns, short_key};
use crate::measure::Measure;
use crate::metric::{MetricKey, Unit};
use crate::quantity::Scale;
use crate::settings::{self, Flat};

const COSTS: [MetricKey; 4] =
    [MetricKey::TotalTime, MetricKey::Downtime, MetricKey::Traffic, MetricKey::CpuSource];

/// From that ratio of its ends on, an axis is logarithmic.
const LOG_FROM: f64 = 8.0;

/// A cell at its place on an axis.
pub(crate) struct Placed<'a, 'r> {
    at: f64,
    /// Where that is, as a suite writes it.
    pub text: String,
    /// The cell.
    pub cell: &'a CellRuns<'r>,
}

/// Cells that differ in nothing but the axis, by what they share.
pub(crate) type Families<'a, 'r> = BTreeMap<Flat, Vec<Placed<'a, 'r>>>;

/// One figure for each workload and each parameter that is a number and of which cells that are alike otherwise have three values
/// or more: two always lie on a line.
pub fn plots(comparisons: &[ComparisonRuns<'_>]) -> Vec<Plot> {
    let cells = by_workload(comparisons);
    let of_each = cells.iter().flat_map(|(workload, own)| {
        let mut paths: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for (path, value) in own.iter().flat_map(|cell| settings::numbers(cell.cell)) {
            paths.entry(path).or_default().insert(value.to_bits());
        }
        let varied = paths.into_iter().filter(|(_, values)| values.len() > 1);
        varied.filter_map(|(path, _)| plot(&path, own)).map(|plot| (*workload, plot)).collect::<Vec<_>>()
    });
    let mut plots: Vec<_> = of_each.collect();
    if plots.iter().map(|(workload, _)| workload).collect::<BTreeSet<_>>().len() > 1 {
        for (workload, plot) in &mut plots {
            plot.title = format!("{workload}: {}", plot.title);
            plot.id = format!("{}-{}", plot.id, slug(workload));
        }
    }
    plots.into_iter().map(|(_, plot)| plot).collect()
}

/// Cells of engines that have samples, by what their guests do.
pub(crate) fn by_workload<'a, 'r>(
    comparisons: &'a [ComparisonRuns<'r>],
) -> BTreeMap<&'a str, Vec<&'a CellRuns<'r>>> {
    let mut cells = BTreeMap::<&str, Vec<&CellRuns<'_>>>::new();
    let all = comparisons.iter().flat_map(|comparison| &comparison.cells);
    for cell in all.filter(|cell| cell.cell.engine.migrates() && !cell.is_control() && !cell.ok.is_empty()) {
        cells.entry(&cell.cell.workload).or_default().push(cell);
    }
    cells
}

/// Those of a parameter of which a family has three values or more, in order of these.
pub(crate) fn families<'a, 'r>(path: &str, cells: &[&'a CellRuns<'r>]) -> Families<'a, 'r> {
    let mut families = Families::new();
    for cell in cells {
        let Some((_, at)) = settings::numbers(cell.cell).find(|(other, _)| other == path) else { continue };
        let mut family = settings::flat(cell.cell);
        let text = family.remove(path).unwrap_or_default();
        families.entry(family).or_default().push(Placed { at, text, cell });
    }
    // The same cell may stand in two comparisons.
    for placed in families.values_mut() {
        placed.sort_by(|a, b| a.at.total_cmp(&b.at));
        placed.dedup_by(|a, b| a.at.to_bits() == b.at.to_bits());
    }
    families.retain(|_, placed| placed.len() > 2);
    families
}

fn plot(path: &str, cells: &[&CellRuns<'_>]) -> Option<Plot> {
    let families = families(path, cells);
    if families.is_empty() {
        return None;
    }
    let labels = labels(&families);
    let x = axis(path, &families);
    let panels: Vec<_> = COSTS.iter().filter_map(|key| panel(*key, &families, &labels, &x)).collect();
    (!panels.is_empty()).then(|| Plot {
        kind: PlotKind::Scaling,
        id: format!("over-{}", slug(path)),
        title: format!("Cost over {path}"),
        caption: "Medians over runs, joined by straight lines for the eye alone: nothing was measured between them. Whiskers \
                  reach over the range of the runs (from six runs on the 95 % interval of the median). In a shaded \
                  span two curves cross: at both of its ends their whiskers lie apart, and change sides."
            .to_owned(),
        size: PanelSize::Half,
        panels,
    })
}

/// The engine, with every setting in which families differ besides what follows from it.
pub(crate) fn labels(families: &Families<'_, '_>) -> Vec<String> {
    let first = families.keys().next();
    let differs =
        |path: &str| families.keys().any(|family| family.get(path) != first.and_then(|f| f.get(path)));
    let paths: BTreeSet<&str> = families
        .keys()
        .flat_map(Flat::keys)
        .map(String::as_str)
        .filter(|path| !["engine", "codec", "cache"].contains(path) && differs(path))
        .collect();
    let label = |family: &Flat| {
        let engine = family.get("engine").cloned().unwrap_or_default();
        let others = paths.iter().filter_map(|path| Some((path, family.get(*path)?)));
        others.fold(engine, |label, (path, value)| format!("{label}, {} {value}", short_key(path, &paths)))
    };
    families.keys().map(label).collect()
}

fn axis(path: &str, families: &Families<'_, '_>) -> Axis {
    let placed = || families.values().flatten();
    let low = placed().map(|placed| placed.at).fold(f64::INFINITY, f64::min);
    let high = placed().map(|placed| placed.at).fold(0.0, f64::max);
    let log = low > 0.0 && high / low >= LOG_FROM;
    let (spacing, low, high) = if log {
        let room = (high / low).powf(0.06);
        (Spacing::Log, low / room, high * room)
    } else {
        let room = (high - low) * 0.06;
        (Spacing::Linear, low - room, high + room)
    };
    // The values that were measured, each with its text; they are few.
    let mut ticks: Vec<(f64, String)> = placed().map(|placed| (placed.at, placed.text.clone())).collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    ticks.dedup_by(|a, b| a.0.to_bits() == b.0.to_bits());
    Axis { label: path.to_owned(), unit: String::new(), spacing, low, high, ticks, factor: 1.0 }
}

fn panel(key: MetricKey, families: &Families<'_, '_>, labels: &[String], x: &Axis) -> Option<Panel> {
    let unit = key.definition().unit;
    let measure = Measure::Metric(key);
    let curves: Vec<Vec<_>> = families
        .values()
        .map(|placed| {
            let known =
                placed.iter().filter_map(|placed| Some((placed.at, measure.summary(&placed.cell.ok)?)));
            known.filter(|(_, summary)| summary.median > 0.0).collect()
        })
        .collect();
    let values = curves.iter().flatten().flat_map(|(_, summary)| {
        let (low, high) = summary.spread.map_or((summary.median, summary.median), crate::stats::Spread::ends);
        [low, summary.median, high]
    });
    let y = Axis::log("", unit, values);
    let series: Vec<_> = curves
        .iter()
        .zip(labels)
        .enumerate()
        .filter(|(_, (curve, _))| curve.len() > 1)
        .map(|(number, (curve, label))| PlotSeries {
            label: label.clone(),
            style: style(families, number),
            shape: Shape::MarkedLine,
            points: curve
                .iter()
                .map(|(at, summary)| Point {
                    y_range: summary.spread.map(crate::stats::Spread::ends),
                    text: Some(Scale::suiting(unit, summary.median).show(summary.median)),
                    ..Point::at(*at, summary.median)
                })
                .collect(),
        })
        .collect();
    let (marks, note) = crossovers(families, &curves, labels, x);
    (!series.is_empty()).then(|| Panel {
        title: format!("{}{}", key.definition().label, if unit == Unit::Count { "" } else { ", log scale" }),
        subtitle: String::new(),
        x: x.clone(),
        y,
        series,
        marks,
        note,
    })
}

/// Whole pages are the baseline of all suites and keep the first style; the rest follows in order.
pub(super) fn style(families: &Families<'_, '_>, number: usize) -> Style {
    let full: Vec<bool> =
        families.keys().map(|family| family.get("engine").map(String::as_str) == Some("full")).collect();
    let before = |wanted: bool| full[..number].iter().filter(|is| **is == wanted).count();
    let baselines = full.iter().filter(|is| **is).count();
    Style::Compared(if full[number] { before(true) } else { baselines + before(false) })
}

/// Where two families that differ in their engine alone change places, from a value at which the spreads of both lie apart to
/// the next at which they lie apart the other way round. A single run has no spread, and shows no crossing.
fn crossovers(
    families: &Families<'_, '_>,
    curves: &[Vec<(f64, crate::stats::Summary)>],
    labels: &[String],
    x: &Axis,
) -> (Vec<Mark>, Option<String>) {
    let strip = |family: &Flat| -> Flat {
        let mut family = family.clone();
        family.retain(|path, _| !["engine", "codec", "cache"].contains(&path.as_str()));
        family
    };
    let keys: Vec<_> = families.keys().collect();
    let (mut marks, mut texts) = (Vec::new(), Vec::new());
    for first in 0..keys.len() {
        for second in first + 1..keys.len() {
            if strip(keys[first]) != strip(keys[second]) {
                continue;
            }
            let shared: Vec<(f64, f64)> = curves[first]
                .iter()
                .filter_map(|(at, one)| {
                    let (_, other) =
                        curves[second].iter().find(|(place, _)| place.to_bits() == at.to_bits())?;
                    let ((low, high), (low_other, high_other)) = (one.spread?.ends(), other.spread?.ends());
                    (low > high_other || high < low_other).then_some((*at, one.median - other.median))
                })
                .collect();
            for pair in shared.windows(2) {
                if pair[0].1 * pair[1].1 < 0.0 {
                    let name = |at: f64| {
                        x.ticks
                            .iter()
                            .find(|(tick, _)| tick.to_bits() == at.to_bits())
                            .map_or("", |(_, t)| t.as_str())
                    };
                    texts.push(format!(
                        "{} and {} cross between {} and {}",
                        labels[first],
                        labels[second],
                        name(pair[0].0),
                        name(pair[1].0)
                    ));
                    marks.push(Mark {
                        at: pair[0].0,
                        until: Some(pair[1].0),
                        kind: MarkKind::Crossover,
                        label: "cross".to_owned(),
                    });
                }
            }
        }
    }
    let note = (!texts.is_empty()).then(|| texts.join("; "));
    (marks, note)
}

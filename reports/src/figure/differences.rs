//! Differences to the baseline over all comparisons of a suite: where it pays, at a glance.

use super::axis::{Axis, Spacing};
use super::{
    Mark, MarkKind, Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape, Style, migrates, slug,
};
use crate::cells::{ComparisonRuns, short_names};
use crate::measure::Measure;
use crate::metric::MetricKey;
use crate::stats::{Spread, real};
use crate::table::partner;

const SHOWN: [MetricKey; 4] =
    [MetricKey::TotalTime, MetricKey::Downtime, MetricKey::Blackout, MetricKey::Traffic];

/// None with fewer than two comparisons of the same axis and baseline that have differences. Where each workload is in several
/// comparisons, a figure for each workload.
pub fn plots(comparisons: &[ComparisonRuns<'_>]) -> Vec<Plot> {
    let found = comparisons.iter().filter(|comparison| migrates(comparison));
    let mut with_baseline = found.filter_map(|comparison| Some((comparison, comparison.baseline()?)));
    let Some((first, baseline)) = with_baseline.clone().next() else { return Vec::new() };
    let mut workloads: Vec<(&str, Vec<&ComparisonRuns<'_>>)> = Vec::new();
    let rows: Vec<&ComparisonRuns<'_>> = with_baseline
        .by_ref()
        .filter(|(row, cell)| row.plan.compare == first.plan.compare && cell.label == baseline.label)
        .map(|(row, cell)| {
            let workload = cell.cell.workload.as_str();
            match workloads.iter_mut().find(|(known, _)| *known == workload) {
                Some((_, of)) => of.push(row),
                None => workloads.push((workload, vec![row])),
            }
            row
        })
        .collect();
    if workloads.len() < 2 || workloads.iter().any(|(_, of)| of.len() < 2) {
        return plot(&rows, &baseline.label, "").into_iter().collect();
    }
    workloads.into_iter().filter_map(|(workload, of)| plot(&of, &baseline.label, workload)).collect()
}

/// Of comparisons of one workload, or of all where it has no name.
fn plot(rows: &[&ComparisonRuns<'_>], baseline: &str, workload: &str) -> Option<Plot> {
    let mut labels: Vec<&str> = Vec::new();
    for cell in rows.iter().flat_map(|row| row.compared()) {
        if !labels.contains(&cell.label.as_str()) {
            labels.push(&cell.label);
        }
    }
    let panels: Vec<_> = SHOWN.iter().filter_map(|key| panel(*key, rows, &labels)).collect();
    let shown = panels.iter().flat_map(|panel| &panel.series).map(|series| series.points.len()).max()?;
    let of = if workload.is_empty() { "all comparisons" } else { workload };
    (rows.len() > 1 && shown > 1).then(|| Plot {
        kind: PlotKind::Differences,
        id: slug(&format!("differences {workload}")),
        title: format!("Differences to {baseline}, {of}"),
        caption: format!(
            "Each marker is the difference that the tables show, paired by repetition; left of the line is less than {baseline}. \
             The axis is logarithmic, so that half and twice are equally far from no difference. Comparisons whose baseline did \
             not converge have none."
        ),
        size: PanelSize::Half,
        panels,
    })
}

fn panel(key: MetricKey, rows: &[&ComparisonRuns<'_>], labels: &[&str]) -> Option<Panel> {
    let measure = Measure::Metric(key);
    let mut series = Vec::new();
    for (number, label) in labels.iter().enumerate() {
        let points = rows.iter().enumerate().filter_map(|(place, row)| {
            let baseline = partner(row)?;
            let cell = row.compared().find(|cell| cell.label == *label)?;
            let difference = measure.difference(baseline, cell)?;
            Some(Point {
                x_range: difference.spread.map(Spread::ends),
                text: Some(difference.show()),
                ..Point::at(difference.ratio, real(rows.len() - 1 - place) + dodge(number, labels.len()))
            })
        });
        let points: Vec<_> = points.collect();
        // The baseline has style 0 in its own figures.
        let style = Style::Compared(number + 1);
        series.push(PlotSeries { label: (*label).to_owned(), style, shape: Shape::Points, points });
    }
    series.retain(|series| !series.points.is_empty());
    if series.is_empty() {
        return None;
    }
    let ratios = series.iter().flat_map(|series| &series.points).flat_map(|point| {
        let (low, high) = point.x_range.unwrap_or((point.x, point.x));
        [low, point.x, high]
    });
    let names: Vec<_> = rows.iter().map(|row| row.plan.name.as_str()).collect();
    let names = short_names(&names).into_iter().rev();
    Some(Panel {
        title: key.definition().label.to_owned(),
        subtitle: String::new(),
        x: ratio_axis(ratios),
        y: Axis::categories("", names),
        series,
        marks: vec![Mark { at: 1.0, until: None, kind: MarkKind::Reference, label: String::new() }],
        note: None,
    })
}

/// Several cells of one comparison stand a little above each other, the first on top.
fn dodge(number: usize, of: usize) -> f64 {
    (real(of) - 1.0 - 2.0 * real(number)) / 2.0 * 0.8 / real(of.max(1))
}

/// Ratios with no difference among them; ticks in percent, and as factors from twice on.
fn ratio_axis(ratios: impl IntoIterator<Item = f64>) -> Axis {
    const PLACES: [f64; 15] =
        [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0, 1.25, 2.0, 5.0, 10.0, 100.0];
    let (mut low, mut high) = (0.7_f64, 1.3_f64);
    for ratio in ratios {
        (low, high) = (low.min(ratio / 1.3), high.max(ratio * 1.3));
    }
    let within: Vec<f64> = PLACES.into_iter().filter(|at| (low..=high).contains(at)).collect();
    // At most some six, always with no difference.
    let one = within.iter().position(|at| *at == 1.0).unwrap_or(0);
    let every = within.len().div_ceil(6).max(1);
    let ticks = within.iter().enumerate().filter(|(n, _)| n.abs_diff(one) % every == 0);
    Axis {
        label: "difference".to_owned(),
        unit: String::new(),
        spacing: Spacing::Log,
        low,
        high,
        ticks: ticks.map(|(_, at)| (*at, tick(*at))).collect(),
        factor: 1.0,
    }
}

fn tick(ratio: f64) -> String {
    if ratio >= 2.0 {
        return format!("x {ratio:.0}");
    }
    let percent = (ratio - 1.0) * 100.0;
    let decimals = usize::from(percent.fract().abs() > 1e-9 && ratio < 0.01);
    if ratio == 1.0 { "0 %".to_owned() } else { format!("{percent:+.decimals$} %") }
}

//! What a shorter pause costs: downtime reached against what it took, over the limits that a suite allowed. A single point of it mostly
//! shows the limit; a curve that lies to the left of and under another is better whatever the limit.

use super::axis::Axis;
use super::scaling::{Families, by_workload, families, labels, style};
use super::{Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape, slug};
use crate::cells::ComparisonRuns;
use crate::measure::Measure;
use crate::metric::{MetricKey, Unit};
use crate::quantity;
use crate::stats::Spread;

/// What differs along a curve.
pub(crate) const LIMIT: &str = "stop.downtime_limit";

/// What a pause costs: the engine, the network, and the guest, by how it is loaded.
const COSTS: [MetricKey; 4] =
    [MetricKey::TotalTime, MetricKey::Traffic, MetricKey::DelayTotal, MetricKey::OperationsLost];

/// A figure for each workload of which cells differ in the limit alone, at three values or more.
pub fn plots(comparisons: &[ComparisonRuns<'_>]) -> Vec<Plot> {
    by_workload(comparisons)
        .into_iter()
        .filter_map(|(workload, cells)| plot(workload, &families(LIMIT, &cells)))
        .collect()
}

fn plot(workload: &str, families: &Families<'_, '_>) -> Option<Plot> {
    let labels = labels(families);
    let panels: Vec<_> = COSTS.iter().filter_map(|key| panel(*key, families, &labels)).collect();
    (!panels.is_empty()).then(|| Plot {
        kind: PlotKind::Frontier,
        id: format!("frontier-{}", slug(workload)),
        title: format!("{workload}: what a shorter pause costs"),
        caption: "Medians of cells of which no run was cut short, at each downtime limit that was allowed, which stands at the point; joined by \
                  straight lines for the eye alone. Whiskers reach over the range of the runs (from six runs on the 95 % interval of the \
                  median). Left of and under another curve is better at any limit."
            .to_owned(),
        size: PanelSize::Half,
        panels,
    })
}

fn panel(cost: MetricKey, families: &Families<'_, '_>, labels: &[String]) -> Option<Panel> {
    let unit = cost.definition().unit;
    let of = |key: MetricKey, cell: &crate::cells::CellRuns<'_>| {
        Measure::Metric(key).summary(&cell.ok).filter(|summary| summary.median > 0.0)
    };
    let curves: Vec<Vec<Point>> = families
        .values()
        .map(|placed| {
            // Of a cell of which some runs were cut short, those that ended by themselves are the lucky ones.
            let is_whole = |placed: &&super::scaling::Placed<'_, '_>| placed.cell.capped.is_empty();
            let point = |placed: &super::scaling::Placed<'_, '_>| {
                let (x, y) = (of(MetricKey::Downtime, placed.cell)?, of(cost, placed.cell)?);
                Some(Point {
                    x_range: x.spread.map(Spread::ends),
                    y_range: y.spread.map(Spread::ends),
                    text: Some(format!(
                        "limit {}: {}, {}",
                        placed.text,
                        quantity::show(Unit::Seconds, x.median),
                        quantity::show(unit, y.median)
                    )),
                    ..Point::at(x.median, y.median)
                })
            };
            let mut points: Vec<_> = placed.iter().filter(is_whole).filter_map(point).collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            points
        })
        .collect();
    let all = |ends: fn(&Point) -> [f64; 2]| curves.iter().flatten().flat_map(ends).collect::<Vec<_>>();
    let x = all(|point| point.x_range.map_or([point.x; 2], |(low, high)| [low, high]));
    let y = all(|point| point.y_range.map_or([point.y; 2], |(low, high)| [low, high]));
    let series: Vec<_> = curves
        .into_iter()
        .zip(labels)
        .enumerate()
        .filter(|(_, (points, _))| points.len() > 1)
        .map(|(number, (points, label))| PlotSeries {
            label: label.clone(),
            style: style(families, number),
            shape: Shape::MarkedLine,
            points,
        })
        .collect();
    (!series.is_empty()).then(|| Panel {
        title: format!("{}, log scale", cost.definition().label),
        subtitle: String::new(),
        x: Axis::log("downtime reached", Unit::Seconds, x),
        y: Axis::log("", unit, y),
        series,
        marks: Vec::new(),
        note: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;
    use crate::manifest::{Manifest, ManifestCell, ManifestComparison};
    use crate::record::Record;
    use crate::sample::{self, Sample};
    use migbench_scenarios::cell::Cell;

    /// Both engines at these limits in ms; a pause takes all that is allowed, and delta half of the time.
    pub fn swept(limits: &[u32]) -> (Manifest, Vec<Record>) {
        let mut manifest = sample::manifest();
        let cell = |engine: &str, limit: u32| -> Cell {
            let mut cell = sample::cell("write-heavy", engine);
            cell.stop.downtime_limit.0 = f64::from(limit) / 1e3;
            cell
        };
        let name = |limit: u32| format!("write-heavy, {limit} ms");
        manifest.comparisons = limits
            .iter()
            .map(|&limit| ManifestComparison {
                name: name(limit),
                compare: "engine".to_owned(),
                baseline: format!("full-{limit}"),
                cells: ["full", "delta"]
                    .map(|engine| ManifestCell { id: format!("{engine}-{limit}"), cell: cell(engine, limit) })
                    .to_vec(),
                analysis: String::new(),
            })
            .collect();
        let runs = limits.iter().flat_map(|&limit| ["full", "delta"].map(|engine| (limit, engine)));
        let records = runs.flat_map(|(limit, engine)| {
            (1..=2).map(move |n| {
                let limit_seconds = f64::from(limit) / 1e3;
                let took = if engine == "delta" { 1.0 } else { 2.0 } * (2.0 - limit_seconds);
                Sample::new("write-heavy", engine)
                    .repetition(n)
                    .metric(MetricKey::Downtime, limit_seconds)
                    .metric(MetricKey::TotalTime, took)
                    .with(|record| {
                        record.comparison = format!("write-heavy, {limit} ms");
                        record.cell.stop.downtime_limit.0 = limit_seconds;
                        record.run_id = format!("{engine}-{limit}-{n}");
                    })
                    .build()
            })
        });
        (manifest, records.collect())
    }

    #[test]
    fn a_curve_for_each_engine_through_what_each_limit_reached() {
        let (manifest, records) = swept(&[10, 100, 1000]);
        let (sorted, strangers) = cells::sort(&manifest, &records);
        assert_eq!(strangers, 0);
        let plots = plots(&sorted);
        assert_eq!(plots.len(), 1);
        let total = &plots[0].panels[0];
        assert_eq!(
            total.series.iter().map(|series| &series.label[..]).collect::<Vec<_>>(),
            ["full", "delta"]
        );
        let places: Vec<(f64, f64)> = total.series[0].points.iter().map(|point| (point.x, point.y)).collect();
        assert_eq!(places, [(0.01, 3.98), (0.1, 3.8), (1.0, 2.0)]);
        assert_eq!(total.series[1].points[0].text.as_deref(), Some("limit 10 ms: 10.0 ms, 1.99 s"));
        let (manifest, records) = swept(&[10, 100]);
        assert!(super::plots(&cells::sort(&manifest, &records).0).is_empty(), "two points are no curve");
    }
}

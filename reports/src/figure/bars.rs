//! The columns of a comparison's table as bars with their spread: a panel for each metric, a bar for each row.

use super::axis::Axis;
use super::{Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape, Style, slug, styled};
use crate::cells::ComparisonRuns;
use crate::measure::{Measure, Tails, columns};
use crate::quantity::Scale;
use crate::record::Record;
use crate::stats::{Spread, Summary, real};

/// One bar's runs.
struct Bar<'a> {
    label: String,
    style: Style,
    runs: &'a [&'a Record],
    capped: bool,
}

/// The table's metrics, and all others: a panel for each that any row has a figure in; none without figures.
pub fn plots(comparison: &ComparisonRuns<'_>, tails: Tails) -> Vec<Plot> {
    let name = &comparison.title;
    let shown = columns(comparison, tails);
    let further: Vec<_> =
        Measure::all(tails).into_iter().filter(|measure| !shown.contains(measure)).collect();
    let of = |kind, word: &str, title: &str, measures: &[Measure]| {
        let (mut panels, caption) = panels(comparison, measures);
        if kind == PlotKind::FurtherBars {
            // What is zero throughout, such as stalls of a tracker that is not in use, is in the table.
            panels.retain(|panel| panel.series.iter().flat_map(|series| &series.points).any(|p| p.x != 0.0));
        }
        (!panels.is_empty()).then(|| Plot {
            kind,
            id: format!("{}-{word}", slug(name)),
            title: format!("{name}: {title}"),
            caption,
            size: PanelSize::Third,
            panels,
        })
    };
    let table = of(PlotKind::Bars, "bars", "metrics", &shown);
    let further = of(PlotKind::FurtherBars, "further-bars", "all other metrics", &further);
    table.into_iter().chain(further).collect()
}

fn panels(comparison: &ComparisonRuns<'_>, measures: &[Measure]) -> (Vec<Panel>, String) {
    let mut rows = Vec::new();
    for (cell, style) in styled(comparison) {
        if !cell.ok.is_empty() {
            rows.push(Bar { label: cell.label.clone(), style, runs: &cell.ok, capped: false });
        }
        if !cell.capped.is_empty() {
            let label = format!("{} \u{2020}", cell.label);
            rows.push(Bar { label, style, runs: &cell.capped, capped: true });
        }
    }
    let panels = measures.iter().filter_map(|measure| panel(*measure, &rows)).collect();
    let spreads = measures.iter().flat_map(|measure| {
        rows.iter().filter_map(|row| measure.summary(row.runs).and_then(|summary| summary.spread))
    });
    (panels, caption(spreads, rows.iter().any(|row| row.capped)))
}

fn caption(spreads: impl Iterator<Item = Spread>, capped: bool) -> String {
    let (mut range, mut interval) = (false, false);
    for spread in spreads {
        match spread {
            Spread::Range { .. } => range = true,
            Spread::Interval { .. } => interval = true,
        }
    }
    let whiskers = match (range, interval) {
        (true, true) => {
            " Whiskers reach from the smallest to the largest run, and from six runs on over the 95 % interval of the median."
        }
        (true, false) => " Whiskers reach from the smallest to the largest run.",
        (false, true) => " Whiskers are the 95 % interval of the median.",
        (false, false) => "",
    };
    let capped = if capped {
        " Hollow bars with a dagger are of runs that a limit forced to switch over."
    } else {
        ""
    };
    format!("Bars are medians over runs, as in the table.{whiskers}{capped}")
}

fn panel(measure: Measure, rows: &[Bar<'_>]) -> Option<Panel> {
    let known: Vec<(&Bar<'_>, Summary)> =
        rows.iter().filter_map(|row| Some((row, measure.summary(row.runs)?))).collect();
    let ends = |summary: &Summary| summary.spread.map_or((summary.median, summary.median), Spread::ends);
    let highest = known.iter().map(|(_, summary)| ends(summary).1).fold(0.0, f64::max);
    let lowest = known.iter().map(|(_, summary)| ends(summary).0).fold(0.0, f64::min);
    if known.is_empty() {
        return None;
    }
    let x = if lowest < 0.0 {
        Axis::linear("", measure.unit(), lowest * 1.08, highest * 1.08)
    } else {
        Axis::from_zero("", measure.unit(), highest)
    };
    // Every row has its place in every panel, so that panels can be read side by side.
    let names = rows.iter().map(|row| row.label.clone());
    let series = rows.iter().enumerate().filter_map(|(place, row)| {
        let (_, summary) = known.iter().find(|(other, _)| std::ptr::eq(*other, row))?;
        let text = Scale::suiting(measure.unit(), summary.median).show(summary.median);
        let range = summary.spread.map(|spread| {
            let (low, high) = spread.ends();
            (x.scaled(low), x.scaled(high))
        });
        Some(PlotSeries {
            label: row.label.clone(),
            style: row.style,
            shape: Shape::Bars,
            points: vec![Point {
                x: x.scaled(summary.median),
                y: real(rows.len() - 1 - place),
                x_range: range,
                text: Some(text),
                hollow: row.capped,
                ..Point::default()
            }],
        })
    });
    let series = series.collect();
    let y = Axis::categories("", names.rev());
    Some(Panel {
        title: measure.label().to_owned(),
        subtitle: String::new(),
        x,
        y,
        series,
        marks: Vec::new(),
        note: None,
    })
}

//! What each round of a median run found dirty and sent, over the number of the round.

use super::axis::{Axis, Spacing};
use super::{
    Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape, Style, label, median_run, runs_named, slug,
    styled,
};
use crate::cells::ComparisonRuns;
use crate::histogram::exact;
use crate::metric::Unit;
use crate::quantity::show;
use crate::record::{Record, Round};

/// None where no run has rounds.
pub fn plot(comparison: &ComparisonRuns<'_>) -> Option<Plot> {
    let runs: Vec<_> = styled(comparison)
        .into_iter()
        .filter_map(|(cell, style)| {
            let (run, capped) = median_run(cell)?;
            (!run.rounds.is_empty()).then(|| (label(cell, capped), style, run))
        })
        .collect();
    if runs.is_empty() {
        return None;
    }
    let panels = vec![
        panel("bytes sent per round", Unit::Bytes, &runs, |round| exact(round.traffic)),
        panel("pages found dirty per round", Unit::Count, &runs, |round| exact(round.dirty_pages)),
        panel("length of each round", Unit::Seconds, &runs, |round| round.duration),
    ];
    let named: Vec<_> = runs.iter().map(|(label, _, run)| (label.clone(), *run)).collect();
    let name = &comparison.title;
    Some(Plot {
        kind: PlotKind::Rounds,
        id: format!("{}-rounds", slug(name)),
        title: format!("{name}: rounds"),
        caption: format!(
            "Round 0 sends all memory; the last round, hollow, is sent while the guest is paused. Vertical axes are logarithmic, \
             so a value of zero stands at their lower end. The same median runs: {}.",
            runs_named(&named)
        ),
        size: PanelSize::Third,
        panels,
    })
}

fn panel(title: &str, unit: Unit, runs: &[(String, Style, &Record)], value: impl Fn(&Round) -> f64) -> Panel {
    let values = runs.iter().flat_map(|(_, _, run)| &run.rounds).map(&value);
    let y = Axis::log("", unit, values);
    let last = runs.iter().flat_map(|(_, _, run)| &run.rounds).map(|round| round.round).max().unwrap_or(0);
    let series = runs.iter().map(|(label, style, run)| PlotSeries {
        label: label.clone(),
        style: *style,
        shape: Shape::MarkedLine,
        points: run
            .rounds
            .iter()
            .map(|round| Point {
                text: Some(show(unit, value(round))),
                hollow: round.paused,
                ..Point::at(f64::from(round.round), value(round).max(y.low))
            })
            .collect(),
    });
    let mut series: Vec<_> = series.collect();
    series.sort_by_key(|series| !series.style.is_control());
    Panel {
        title: title.to_owned(),
        subtitle: String::new(),
        x: round_numbers(last),
        y,
        series,
        marks: Vec::new(),
        note: None,
    }
}

/// Whole numbers, with at most some eight ticks.
fn round_numbers(last: u32) -> Axis {
    let every = last.div_ceil(8).max(1);
    Axis {
        label: "round".to_owned(),
        unit: String::new(),
        spacing: Spacing::Linear,
        low: -0.35,
        high: f64::from(last.max(1)) + 0.35,
        ticks: (0..=last)
            .filter(|round| round % every == 0)
            .map(|round| (f64::from(round), round.to_string()))
            .collect(),
        factor: 1.0,
    }
}

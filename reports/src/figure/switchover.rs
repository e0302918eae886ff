//! The guest's throughput around the pause, step by step as it was sampled, engines over each other: how long the guest was
//! still, and how long it took to catch up.

use super::axis::Axis;
use super::{
    Mark, MarkKind, Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape, event, label, median_run,
    runs_named, slug, styled,
};
use crate::cells::ComparisonRuns;
use crate::metric::Unit;
use crate::quantity::time;
use crate::record::Record;
use crate::stats::real;

/// None where no engine paused.
pub fn plot(comparison: &ComparisonRuns<'_>) -> Option<Plot> {
    let runs: Vec<_> = styled(comparison)
        .into_iter()
        .filter_map(|(cell, style)| {
            let (run, capped) = median_run(cell)?;
            let (pause, resume) = (event(run, "pause")?, event(run, "resume")?);
            (run.timeline.get().interval > 0.0)
                .then(|| (label(cell, capped), style, run, pause, resume - pause))
        })
        .collect();
    let engines = || runs.iter().filter(|(_, style, ..)| !style.is_control());
    let longest = engines().map(|(.., length)| *length).fold(0.0, f64::max);
    if longest <= 0.0 {
        return None;
    }
    let span = (longest * 2.5).max(0.05);
    let (from, to) = (-span / 4.0, span);
    let x = Axis::linear("time since the order to pause", Unit::Seconds, from, to);
    let curves: Vec<_> = runs.iter().map(|(_, _, run, pause, _)| steps(run, *pause, from, to)).collect();
    let highest = curves.iter().flatten().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let y = Axis::from_zero("throughput", Unit::OperationsPerSecond, highest);
    let mut series: Vec<_> = runs
        .iter()
        .zip(&curves)
        .map(|((label, style, ..), steps)| PlotSeries {
            label: label.clone(),
            style: *style,
            shape: Shape::Steps,
            points: steps.iter().map(|(at, rate)| Point::at(x.scaled(*at), y.scaled(*rate))).collect(),
        })
        .collect();
    series.retain(|series| !series.points.is_empty());
    if series.iter().all(|series| series.style.is_control()) {
        return None;
    }
    // Controls first, under the rest.
    series.sort_by_key(|series| !series.style.is_control());
    let mut marks = vec![Mark { at: 0.0, until: None, kind: MarkKind::Start, label: "pause".to_owned() }];
    marks.extend(engines().map(|(label, _, _, _, length)| Mark {
        at: x.scaled(*length),
        until: None,
        kind: MarkKind::Resume,
        label: format!("{label} goes on"),
    }));
    let named: Vec<_> = runs.iter().map(|(label, _, run, ..)| (label.clone(), *run)).collect();
    let interval = runs.iter().map(|(_, _, run, ..)| run.timeline.get().interval).fold(0.0, f64::max);
    let name = &comparison.title;
    Some(Plot {
        kind: PlotKind::Switchover,
        id: format!("{}-switchover", slug(name)),
        title: format!("{name}: throughput around the pause"),
        caption: format!(
            "Guest operations per second in steps of {}, as sampled. Where the host came late to sample, what was done meanwhile \
             is spread evenly. The same median runs: {}.",
            time(interval),
            runs_named(&named)
        ),
        size: PanelSize::Wide,
        panels: vec![Panel {
            title: String::new(),
            subtitle: String::new(),
            x,
            y,
            series,
            marks,
            note: None,
        }],
    })
}

/// Start of each interval after the pause, in seconds, and operations per second in it; the last one again at its end.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "indices of a timeline, clamped to it"
)]
fn steps(run: &Record, pause: f64, from: f64, to: f64) -> Vec<(f64, f64)> {
    let timeline = run.timeline.get();
    let at = |time: f64| ((pause + time - timeline.start) / timeline.interval).ceil().max(0.0) as usize;
    let all = timeline.operations.len();
    let (first, last) = (at(from).min(all), at(to).min(all));
    let time = |n: usize| timeline.start + real(n) * timeline.interval - pause;
    let mut steps: Vec<_> =
        (first..last).map(|n| (time(n), f64::from(timeline.operations[n]) / timeline.interval)).collect();
    if let Some((_, rate)) = steps.last().copied() {
        steps.push((time(last).min(to), rate));
    }
    steps
}

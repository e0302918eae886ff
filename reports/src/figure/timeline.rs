//! The guest's throughput around the migration: a panel for each engine, with the rounds, the pause and the end of a median
//! run, and the controls' curves under it.

use super::axis::Axis;
use super::{
    Mark, MarkKind, Panel, PanelSize, Plot, PlotKind, PlotSeries, Point, Shape, Style, event, label,
    median_run, runs_named, slug, styled,
};
use crate::cells::ComparisonRuns;
use crate::metric::Unit;
use crate::quantity::{show, time};
use crate::record::Record;
use crate::stats::real;

/// At most that many steps across a panel: finer ones would be thinner than the line.
const STEPS: f64 = 240.0;

/// A run with what it is called and drawn as.
struct DrawnRun<'a> {
    label: String,
    style: Style,
    run: &'a Record,
}

/// None where no run of an engine has a timeline.
pub fn plot(comparison: &ComparisonRuns<'_>) -> Option<Plot> {
    let drawn: Vec<_> = styled(comparison)
        .into_iter()
        .filter_map(|(cell, style)| {
            let (run, capped) = median_run(cell)?;
            Some(DrawnRun { label: label(cell, capped), style, run })
        })
        .filter(|drawn| {
            let timeline = drawn.run.timeline.get();
            timeline.interval > 0.0 && !timeline.operations.is_empty()
        })
        .collect();
    let (controls, engines): (Vec<_>, Vec<_>) = drawn.into_iter().partition(|drawn| drawn.style.is_control());
    let longest = engines.iter().filter_map(|drawn| end(drawn.run)).fold(0.0, f64::max);
    if engines.is_empty() || longest <= 0.0 {
        return None;
    }
    let margin = (longest * 0.2).max(0.05);
    let (from, to) = (-margin, longest + margin);
    let interval = engines.iter().map(|drawn| drawn.run.timeline.get().interval).fold(0.0, f64::max);
    let width = step_width(to - from, interval);
    let curves: Vec<_> =
        controls.iter().chain(&engines).map(|d| (d, steps(d.run, from, to, width))).collect();
    let highest = curves.iter().flat_map(|(_, steps)| steps).map(|step| step.mean).fold(0.0, f64::max);
    let x = Axis::linear("time since the migration started", Unit::Seconds, from, to);
    let y = Axis::from_zero("throughput", Unit::OperationsPerSecond, highest * 1.05);
    let series = |drawn: &DrawnRun<'_>| PlotSeries {
        label: drawn.label.clone(),
        style: drawn.style,
        shape: Shape::Steps,
        points: curves
            .iter()
            .find(|(other, _)| std::ptr::eq(*other, drawn))
            .map(|(_, steps)| {
                steps.iter().map(|step| step.point(&x, &y, !drawn.style.is_control())).collect()
            })
            .unwrap_or_default(),
    };
    let panels = engines.iter().map(|drawn| Panel {
        title: drawn.label.clone(),
        subtitle: String::new(),
        x: x.clone(),
        y: y.clone(),
        series: controls
            .iter()
            .chain([drawn])
            .map(series)
            .filter(|series| !series.points.is_empty())
            .collect(),
        marks: marks(drawn.run, &x),
        note: None,
    });
    let panels = panels.collect();
    let named: Vec<_> = engines.iter().chain(&controls).map(|d| (d.label.clone(), d.run)).collect();
    let under =
        if controls.is_empty() { "" } else { " The controls' curves lie under those of the engines." };
    let name = &comparison.title;
    Some(Plot {
        kind: PlotKind::Timeline,
        id: format!("{}-timeline", slug(name)),
        title: format!("{name}: throughput around the migration"),
        caption: format!(
            "Guest operations per second in steps of {}; the pale band reaches from the slowest to the fastest {} of each step. \
             Dashed lines with a number are the starts of rounds, the shaded span is the pause.{under} Median run by total time of each: {}.",
            time(width),
            time(interval),
            runs_named(&named)
        ),
        size: PanelSize::Wide,
        panels,
    })
}

fn end(run: &Record) -> Option<f64> {
    event(run, "running").or_else(|| event(run, "end"))
}

/// A multiple of the timeline's own interval, 1, 2 or 5 times a power of ten of it.
fn step_width(length: f64, interval: f64) -> f64 {
    let wanted = length / STEPS / interval;
    let decade = 10_f64.powf(wanted.max(1.0).log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * decade >= wanted);
    found.unwrap_or(10.0) * decade * interval
}

/// Operations per second over one step, with the extremes of the intervals in it.
struct RateStep {
    start: f64,
    end: f64,
    mean: f64,
    least: f64,
    most: f64,
}

impl RateStep {
    fn point(&self, x: &Axis, y: &Axis, band: bool) -> Point {
        let range = (y.scaled(self.least), y.scaled(self.most));
        Point {
            y_range: (band && self.most > self.least).then_some(range),
            ..Point::at(x.scaled(self.start), y.scaled(self.mean))
        }
    }
}

/// What a timeline has between `from` and `to`, with a last step of no length that ends it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "indices of a timeline, clamped to it"
)]
fn steps(run: &Record, from: f64, to: f64, width: f64) -> Vec<RateStep> {
    let timeline = run.timeline.get();
    let at = |time: f64| ((time - timeline.start) / timeline.interval).round().max(0.0) as usize;
    let all = timeline.operations.len();
    let (first, last) = (at(from).min(all), at(to).min(all));
    let each = ((width / timeline.interval).round() as usize).max(1);
    let mut steps: Vec<RateStep> = timeline.operations[first..last]
        .chunks(each)
        .enumerate()
        .map(|(n, counts)| {
            let start = timeline.start + real(first + n * each) * timeline.interval;
            let rates = || counts.iter().map(|&count| f64::from(count) / timeline.interval);
            RateStep {
                start,
                end: start + real(counts.len()) * timeline.interval,
                mean: rates().sum::<f64>() / real(counts.len()),
                least: rates().fold(f64::INFINITY, f64::min),
                most: rates().fold(0.0, f64::max),
            }
        })
        .collect();
    if let Some(RateStep { end, mean, .. }) = steps.last() {
        let (start, mean) = (*end, *mean);
        steps.push(RateStep { start, end: start, mean, least: mean, most: mean });
    }
    steps
}

/// What the host did, in the unit of the axis.
pub(super) fn marks(run: &Record, x: &Axis) -> Vec<Mark> {
    let mut marks = Vec::new();
    let mut push = |at: f64, until: Option<f64>, kind, label: String| {
        marks.push(Mark { at: x.scaled(at), until: until.map(|until| x.scaled(until)), kind, label });
    };
    if let Some(at) = event(run, "start") {
        push(at, None, MarkKind::Start, "start".to_owned());
    }
    for (at, name) in &run.timeline.get().events {
        if let Some(number) = name.strip_prefix("round-") {
            push(*at, None, MarkKind::Round, number.to_owned());
        }
    }
    if let (Some(pause), Some(resume)) = (event(run, "pause"), event(run, "resume")) {
        push(pause, Some(resume), MarkKind::Pause, format!("paused {}", show(Unit::Seconds, resume - pause)));
        push(resume, None, MarkKind::Resume, "resume".to_owned());
    }
    if let Some(at) = end(run) {
        push(at, None, MarkKind::End, "end".to_owned());
    }
    marks
}

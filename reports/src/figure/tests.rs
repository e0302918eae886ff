//! What must hold of every figure, whatever the records.

use proptest::prelude::*;

use super::*;
use crate::cells;
use crate::manifest::{Manifest, ManifestCell};
use crate::measure::Tails;
use crate::part::Part;
use crate::record::{Record, Round, Status, Timeline};
use crate::sample::{self, Sample};
use crate::store::RunData;

/// The committed run of the quick suite.
pub fn reference() -> RunData {
    RunData::load(concat!(env!("CARGO_MANIFEST_DIR"), "/reference/quick")).unwrap()
}

fn drawn(comparisons: &[cells::ComparisonRuns<'_>]) -> Figures {
    Figures::of(comparisons, &Tails::of_each(comparisons))
}

fn figures(manifest: &Manifest, records: &[Record]) -> Figures {
    drawn(&cells::sort(manifest, records).0)
}

/// Checks one figure: places that can be drawn, texts that say something.
fn check(plot: &Plot) {
    assert!(!plot.panels.is_empty() && !plot.title.is_empty() && !plot.caption.is_empty(), "{}", plot.id);
    assert_eq!(slug(&plot.id), plot.id);
    for panel in &plot.panels {
        for axis in [&panel.x, &panel.y] {
            assert!(
                axis.low.is_finite() && axis.high.is_finite() && axis.low < axis.high,
                "{}: {axis:?}",
                plot.id
            );
            assert!(axis.spacing == axis::Spacing::Linear || axis.low > 0.0, "{}: {axis:?}", plot.id);
            assert!(
                axis.ticks.iter().all(|(at, _)| (axis.low..=axis.high).contains(at)),
                "{}: {axis:?}",
                plot.id
            );
        }
        for series in &panel.series {
            assert!(!series.points.is_empty(), "{}: {}", plot.id, series.label);
            let ranges =
                |point: &Point| [point.x_range, point.y_range].into_iter().flatten().collect::<Vec<_>>();
            for point in &series.points {
                let ends = ranges(point).into_iter().flat_map(|(low, high)| [low, high]);
                assert!(
                    [point.x, point.y].into_iter().chain(ends).all(f64::is_finite),
                    "{} {}: {point:?}",
                    plot.id,
                    series.label
                );
            }
            if matches!(series.shape, Shape::Line | Shape::MarkedLine | Shape::Steps) {
                assert!(series.points.is_sorted_by_key(|point| point.x), "{} {}", plot.id, series.label);
            }
        }
        let marks = panel.marks.iter().flat_map(|mark| [Some(mark.at), mark.until]).flatten();
        assert!(marks.into_iter().all(f64::is_finite), "{}: {:?}", plot.id, panel.marks);
    }
}

#[test]
fn the_reference_run_has_every_figure_of_a_comparison_of_engines() {
    let data = reference();
    let figures = figures(&data.manifest, &data.records);
    figures.all().for_each(check);
    for plots in &figures.comparisons {
        let kinds: Vec<_> = plots.iter().map(|plot| plot.kind).collect();
        assert_eq!(
            kinds,
            [
                PlotKind::Bars,
                PlotKind::FurtherBars,
                PlotKind::Timeline,
                PlotKind::Switchover,
                PlotKind::Rounds,
                PlotKind::Latency,
                PlotKind::Latency
            ]
        );
    }
    assert_eq!(figures.suite.iter().map(|plot| plot.kind).collect::<Vec<_>>(), [PlotKind::Differences]);
    let ids: std::collections::BTreeSet<_> = figures.all().map(|plot| &plot.id).collect();
    assert_eq!(ids.len(), figures.all().count());
}

/// The bars carry the very texts of the table.
#[test]
fn bars_say_what_the_table_says() {
    let data = reference();
    let (comparisons, _) = cells::sort(&data.manifest, &data.records);
    for comparison in &comparisons {
        let table = crate::table::comparison::table(comparison, Tails::of(&[comparison]), false);
        let plot = bars::plots(comparison, Tails::of(&[comparison])).remove(0);
        for (column, label) in table.columns.iter().enumerate() {
            let panel = plot.panels.iter().find(|panel| panel.title == label.label).unwrap();
            let bars: Vec<_> = panel.series.iter().map(|s| s.points[0].text.clone().unwrap()).collect();
            let figures = table.rows.iter().filter_map(|row| row.figures[column].as_ref());
            assert_eq!(
                bars,
                figures.map(|figure| figure.value.clone()).collect::<Vec<_>>(),
                "{}",
                label.label
            );
        }
    }
}

/// A migration of 0.4 s whose guest stands still from 0.3 s to 0.35 s.
pub fn migrated(record: &mut Record) {
    let events = [
        (-1.0, "steady"),
        (0.0, "start"),
        (0.001, "armed"),
        (0.001, "round-0"),
        (0.2, "round-1"),
        (0.3, "pause"),
        (0.35, "resume"),
        (0.36, "running"),
    ];
    record.timeline = Part::from(Timeline {
        interval: 0.001,
        start: -1.0,
        operations: (0..2400).map(|ms| if (1300..1350).contains(&ms) { 0 } else { 40 }).collect(),
        gaps: Vec::new(),
        events: events.iter().map(|(at, name)| (*at, (*name).to_owned())).collect(),
    });
}

#[test]
fn a_timeline_marks_rounds_pause_and_end() {
    let mut records = sample::records();
    records.iter_mut().for_each(migrated);
    let figures = figures(&sample::manifest(), &records);
    let plot = figures.comparisons[1].iter().find(|plot| plot.kind == PlotKind::Timeline).unwrap();
    assert_eq!(plot.panels.len(), 2, "a panel for each engine");
    let marks: Vec<_> = plot.panels[0].marks.iter().map(|mark| (mark.kind, mark.label.as_str())).collect();
    assert_eq!(
        marks,
        [
            (MarkKind::Start, "start"),
            (MarkKind::Round, "0"),
            (MarkKind::Round, "1"),
            (MarkKind::Pause, "paused 50.0 ms"),
            (MarkKind::Resume, "resume"),
            (MarkKind::End, "end"),
        ]
    );
    // The guest stood still from the pause to the resume, and nowhere else.
    let pause = &plot.panels[0].marks[3];
    let (from, until) = (pause.at, pause.until.unwrap());
    let still = |point: &&Point| point.y == 0.0;
    let points = &plot.panels[0].series[0].points;
    assert!(points.iter().filter(still).all(|point| (from..until).contains(&(point.x + 1e-6))), "{points:?}");
    assert!(points.iter().any(|point| point.y == 0.0));
}

#[test]
fn controls_lie_under_the_engines_and_are_listed_last() {
    let mut manifest = sample::manifest();
    let mut records = sample::records();
    for engine in ["none", "stop-and-copy"] {
        let cell = sample::cell("write-heavy", engine);
        manifest.comparisons[1].cells.push(ManifestCell { id: engine.to_owned(), cell });
        records.push(Sample::new("write-heavy", engine).build());
    }
    records.iter_mut().for_each(migrated);
    let figures = figures(&manifest, &records);
    let timeline = figures.comparisons[1].iter().find(|plot| plot.kind == PlotKind::Timeline).unwrap();
    assert_eq!(timeline.panels.len(), 2);
    for panel in &timeline.panels {
        let controls: Vec<_> = panel.series.iter().map(|series| series.style.is_control()).collect();
        assert_eq!(controls, [true, true, false]);
    }
    let legend: Vec<_> = timeline.legend().into_iter().map(|(label, ..)| label.to_owned()).collect();
    assert_eq!(legend, ["full", "delta", "none", "stop-and-copy"]);
}

#[test]
fn capped_runs_are_drawn_as_such() {
    let mut records = sample::records();
    for record in records.iter_mut().filter(|record| record.run_id.starts_with("write-heavy-full")) {
        record.status = Status::Capped;
    }
    records.iter_mut().for_each(migrated);
    let figures = figures(&sample::manifest(), &records);
    let plots = &figures.comparisons[1];
    let timeline = plots.iter().find(|plot| plot.kind == PlotKind::Timeline).unwrap();
    assert_eq!(timeline.panels[0].title, "full \u{2020}");
    let bars = plots.iter().find(|plot| plot.kind == PlotKind::Bars).unwrap();
    assert!(bars.caption.contains("dagger"));
    assert!(bars.panels[0].series[0].points[0].hollow && bars.panels[0].series[0].label == "full \u{2020}");
}

/// Engines over three sizes of memory; deltas are dearer below 2 GiB and cheaper above.
pub fn grown() -> (Manifest, Vec<Record>) {
    let (mut manifest, mut records) = (sample::manifest(), Vec::new());
    manifest.comparisons.truncate(1);
    manifest.comparisons[0].cells.clear();
    for engine in ["full", "delta"] {
        for gib in [1_u32, 2, 4, 8] {
            let time = if engine == "full" { f64::from(gib) } else { 1.5 + f64::from(gib) / 2.0 };
            for repetition in 1..=3 {
                let record = Sample::new("read-heavy", engine).repetition(repetition).with(|record| {
                    record.cell.memory = migbench_workloads::units::Bytes(u64::from(gib) << 30);
                    record.run_id = format!("{engine}-{gib}-{repetition}");
                });
                let time = time * (1.0 + 0.01 * f64::from(repetition));
                records.push(record.metric(MetricKey::TotalTime, time).build());
            }
            let cell = records[records.len() - 1].cell.clone();
            manifest.comparisons[0].cells.push(ManifestCell { id: format!("{engine} {gib}"), cell });
        }
    }
    "full 1".clone_into(&mut manifest.comparisons[0].baseline);
    (manifest, records)
}

#[test]
fn single_runs_and_runs_that_overlap_show_no_crossing() {
    let note = |records: &[Record]| {
        let figures = figures(&grown().0, records);
        figures.suite.iter().find(|plot| plot.kind == PlotKind::Scaling).unwrap().panels[0].note.clone()
    };
    let (_, mut records) = grown();
    let single: Vec<_> = records.iter().filter(|record| record.repetition == 1).cloned().collect();
    assert_eq!(note(&single), None);
    // At 2 GiB the runs of both overlap: it may be anywhere between 1 and 4.
    for record in records.iter_mut().filter(|record| record.run_id == "full-2-3") {
        record.metrics.get_mut("total_time").unwrap().value = 3.0;
    }
    assert_eq!(note(&records).as_deref(), Some("full and delta cross between 1 GiB and 4 GiB"));
}

#[test]
fn cost_over_memory_shows_where_engines_cross() {
    let (manifest, records) = grown();
    let figures = figures(&manifest, &records);
    let plot = figures.suite.iter().find(|plot| plot.kind == PlotKind::Scaling).unwrap();
    check(plot);
    assert_eq!((plot.id.as_str(), plot.title.as_str()), ("over-memory", "Cost over memory"));
    let panel = &plot.panels[0];
    let ticks: Vec<_> = panel.x.ticks.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(ticks, ["1 GiB", "2 GiB", "4 GiB", "8 GiB"]);
    assert_eq!(panel.note.as_deref(), Some("full and delta cross between 2 GiB and 4 GiB"));
    assert_eq!(panel.marks.len(), 1);
    // The baseline keeps the first style.
    let styles: Vec<_> = panel.series.iter().map(|series| (series.label.as_str(), series.style)).collect();
    assert_eq!(styles, [("full", Style::Compared(0)), ("delta", Style::Compared(1))]);
}

#[test]
fn anchors_are_unique_and_plain() {
    assert_eq!(slug("1GiB, 2 vCPUs / \u{fc}"), "1gib-2-vcpus");
    let mut manifest = sample::manifest();
    manifest.comparisons[0].name = "write heavy".to_owned();
    let mut records = sample::records();
    for record in records.iter_mut().filter(|record| record.comparison == "read-heavy") {
        "write heavy".clone_into(&mut record.comparison);
    }
    let figures = figures(&manifest, &records);
    let ids: std::collections::BTreeSet<_> = figures.all().map(|plot| &plot.id).collect();
    assert_eq!(ids.len(), figures.all().count());
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1e-12), 1e-9_f64..1e12, Just(1e300), -1e6_f64..0.0]
}

/// Engine, repetition, whether it was capped, metrics, rounds, and a timeline.
type WildRun =
    (&'static str, u32, bool, Vec<f64>, Vec<(u32, u64, f64, bool)>, Vec<u32>, (f64, f64), Vec<(f64, String)>);

/// Records with numbers as wild as the schema allows.
pub fn wild() -> impl Strategy<Value = Vec<Record>> {
    let round = (any::<u32>(), any::<u64>(), value(), any::<bool>());
    let run = (
        prop_oneof![Just("full"), Just("delta"), Just("stop-and-copy")],
        1..4_u32,
        any::<bool>(),
        prop::collection::vec(value(), 5),
        prop::collection::vec(round, 0..4),
        prop::collection::vec(any::<u32>(), 0..60),
        (prop_oneof![Just(0.0), Just(0.001), 1e-6_f64..10.0], -10.0_f64..10.0),
        prop::collection::vec((-1e3_f64..1e3, "start|round-[0-9]|pause|resume|running|<b>&\""), 0..8),
    );
    prop::collection::vec(run, 1..8).prop_map(|runs| {
        let build = |run: WildRun| {
            let (engine, repetition, capped, values, rounds, operations, (interval, start), events) = run;
            let sample = Sample::new("write-heavy", engine).repetition(repetition);
            let keys = [
                MetricKey::TotalTime,
                MetricKey::Downtime,
                MetricKey::Blackout,
                MetricKey::Traffic,
                MetricKey::CpuSource,
            ];
            let set = |sample: Sample, (key, value): (MetricKey, &f64)| sample.metric(key, *value);
            let sample = keys.into_iter().zip(&values).fold(sample, set);
            let mut record = if capped { sample.capped() } else { sample }.build();
            record.rounds = rounds
                .into_iter()
                .enumerate()
                .map(|(n, (dirty, traffic, duration, paused))| Round {
                    round: u32::try_from(n).unwrap(),
                    dirty_pages: u64::from(dirty),
                    traffic,
                    duration,
                    paused,
                    ..Round::default()
                })
                .collect();
            record.timeline = Timeline { interval, start, operations, gaps: Vec::new(), events }.into();
            record
        };
        runs.into_iter().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_records_say_figures_can_be_drawn(records in wild()) {
        let mut manifest = sample::manifest();
        let cell = sample::cell("write-heavy", "stop-and-copy");
        manifest.comparisons[1].cells.push(ManifestCell { id: "stop-and-copy".to_owned(), cell });
        let figures = figures(&manifest, &records);
        figures.all().for_each(check);
    }
}

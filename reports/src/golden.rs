//! Whole reports from hand-made records, kept as snapshots, and what must hold for every report.

use std::collections::{BTreeMap, BTreeSet};

use migbench_scenarios::cell::Cell;
use migbench_workloads::settings::Load;

use crate::format::Format;
use crate::manifest::{ManifestCell, Skipped};
use crate::measure::Difference;
use crate::metric::MetricKey;
use crate::part::Part;
use crate::quantity;
use crate::record::{Cause, GuestAt, Record, Stall, Stalls, Timeline};
use crate::render::json::Document;
use crate::render::{self, latex};
use crate::report::Report;
use crate::sample::{self, Sample, data};
use crate::show;
use crate::stats::{Spread, Summary};
use crate::store::RunData;
use crate::table::{NOT_SIGNIFICANT, PrintedFigure, RowKind, Table};

fn render(reports: &[Report], format: Format, width: usize) -> String {
    render::render(reports, format, width).unwrap()
}

/// Records of [`sample::records`] but for those of the write-heavy cell of `engine`, which `change` replaces.
fn but(engine: &str, change: impl Fn(Sample, u32) -> Sample) -> Vec<Record> {
    let replaced = |record: Record| {
        if record.comparison == "write-heavy" && record.cell.engine.word() == engine && record.repetition > 0
        {
            change(Sample::new("write-heavy", engine).repetition(record.repetition), record.repetition)
                .build()
        } else {
            record
        }
    };
    sample::records().into_iter().map(replaced).collect()
}

fn capped_baseline() -> RunData {
    data(sample::manifest(), but("full", |sample, _| sample.capped()))
}

/// Controls, a cell that is not available, one failed and two capped runs of delta, flags and a slow link.
fn troubled() -> RunData {
    let mut manifest = sample::manifest();
    let plan = &mut manifest.comparisons[1];
    for engine in ["stop-and-copy", "track-only", "none"] {
        let cell = sample::cell("write-heavy", engine);
        plan.cells.push(ManifestCell { id: engine.to_owned(), cell });
    }
    manifest.skipped.push(Skipped {
        comparison: "write-heavy".to_owned(),
        cell: "track-only".to_owned(),
        reason: "the kernel has no dirty log".to_owned(),
    });
    let mut records = but("delta", |sample, repetition| match repetition {
        1 => sample.failed("precopy", "the link closed after 12 of 31 MiB").with(|r| {
            r.error.iter_mut().for_each(|error| error.guest = GuestAt::Source);
        }),
        2 | 4 => sample.capped().flag("not_steady"),
        _ => sample.metric(MetricKey::LinkRateAchieved, 0.951),
    });
    for repetition in 1..=5 {
        records.push(Sample::new("write-heavy", "stop-and-copy").repetition(repetition).build());
        records.push(Sample::new("write-heavy", "none").repetition(repetition).build());
    }
    records.push(Sample::new("write-heavy", "stop-and-copy").verification(Some(true)).build());
    manifest.planned_runs = 40;
    manifest.tool.dirty = Some(true);
    data(manifest, records)
}

fn single_sample() -> RunData {
    let mut manifest = sample::manifest();
    manifest.repetitions = 1;
    manifest.planned_runs = 8;
    let records = sample::records().into_iter().filter(|record| record.repetition <= 1).collect();
    data(manifest, records)
}

fn damaged() -> RunData {
    let mut records = sample::records();
    let delta = |record: &&mut Record| record.run_id == "write-heavy-delta-0";
    records.iter_mut().filter(delta).for_each(|record| record.verified = Some(false));
    records[2].guest_checked = None;
    data(sample::manifest(), records)
}

fn ten_runs() -> RunData {
    let mut manifest = sample::manifest();
    manifest.repetitions = 10;
    let mut records = sample::records();
    for repetition in 6..=10 {
        for engine in ["full", "delta"] {
            records.push(Sample::new("write-heavy", engine).repetition(repetition).build());
        }
    }
    data(manifest, records)
}

/// Guests that stalled, with a timeline of the migration.
fn stalled() -> RunData {
    let stall = |start: f64, duration, phase: &str, cause| Stall {
        start: Some(start),
        duration,
        vcpu: 0,
        phase: phase.to_owned(),
        operation: "write".to_owned(),
        cause,
    };
    let records = but("full", |sample, _| {
        sample.with(|record| {
            record.stalls = Part::from(Some(Stalls {
                threshold: 1.5e-5,
                clock_error: Some(2e-7),
                dropped: 3,
                list: vec![
                    stall(0.001, 0.0004, "precopy", Cause::Arm),
                    stall(0.31, 0.0012, "precopy", Cause::Harvest),
                    stall(0.32, 0.00002, "precopy", Cause::None),
                    stall(0.4, 0.08, "switchover", Cause::Switchover),
                    stall(0.9, 0.5, "after", Cause::None),
                ],
            }));
            let events =
                [(0.0, "start"), (0.3, "round-1"), (0.4, "pause"), (0.48, "resume"), (0.481, "running")];
            let busy = |ms: i32| if (400..480).contains(&ms) { 0 } else { 20 + ms.unsigned_abs() % 5 };
            record.timeline = Part::from(Timeline {
                interval: 0.001,
                start: -1.0,
                operations: (-1000..1500).map(busy).collect(),
                events: events.map(|(time, event)| (time, event.to_owned())).to_vec(),
                gaps: vec![(100, 4)],
            });
        })
    });
    data(sample::manifest(), records)
}

/// Cells of an engine that another VMM ran: it reports how long it took and what it sent, and nothing more.
fn peer() -> RunData {
    const REPORTED: [&str; 4] = ["total_time", "downtime", "blackout", "traffic"];
    let mut records = sample::records();
    for record in records.iter_mut().filter(|record| record.cell.engine.word() == "delta") {
        record.metrics.retain(|name, _| REPORTED.contains(&name.as_str()));
        record.rounds.clear();
        record.histograms = Part::default();
        record.timeline = Part::default();
    }
    data(sample::manifest(), records)
}

fn all() -> [(&'static str, RunData); 8] {
    [
        ("good", data(sample::manifest(), sample::records())),
        ("capped_baseline", capped_baseline()),
        ("troubled", troubled()),
        ("single_sample", single_sample()),
        ("damaged", damaged()),
        ("ten_runs", ten_runs()),
        ("stalled", stalled()),
        ("peer", peer()),
    ]
}

#[test]
fn reports_look_as_they_did() {
    for (name, data) in all() {
        let report = Report::of(&data);
        insta::assert_snapshot!(format!("terminal_{name}"), report.terminal(100));
    }
    insta::assert_snapshot!("terminal_narrow", Report::of(&troubled()).terminal(60));
    insta::assert_snapshot!("markdown_good", Report::of(&all()[0].1).markdown());
    insta::assert_snapshot!("markdown_troubled", Report::of(&troubled()).markdown());
    insta::assert_snapshot!("markdown_stalled", Report::of(&stalled()).markdown());
}

#[test]
fn single_runs_look_as_they_did() {
    let data = troubled();
    insta::assert_snapshot!("show_list", show::list(&data));
    insta::assert_snapshot!("show_run", show::run(&data, "write-heavy-full-3").unwrap());
    insta::assert_snapshot!("show_stalled", show::run(&stalled(), "write-heavy-full-3").unwrap());
    insta::assert_snapshot!("show_failed", show::run(&data, "write-heavy-delta-1").unwrap());
    assert!(
        show::run(&data, "write-heavy-full").unwrap_err().to_string().starts_with("several runs begin with")
    );
    let missing = show::run(&data, "x").unwrap_err().to_string();
    assert!(missing.starts_with("no run is called `x`; there are read-heavy-full-0, "), "{missing}");
}

#[test]
fn what_a_cell_does_not_report_is_absent_in_every_format_and_never_zero() {
    let report = Report::of(&peer());
    for (name, format) in Format::ALL.iter().filter(|(_, format)| format.file().is_some()) {
        let text = render(std::slice::from_ref(&report), *format, 100);
        assert!(text.contains("delta"), "{name}");
    }
    let of_peer = |read: BTreeMap<FigureKey, Read>| -> BTreeSet<String> {
        let cells = read.into_keys().filter(|[comparison, cell, row, ..]| {
            !comparison.is_empty() && cell.contains("delta") && row == "compared"
        });
        cells.map(|[.., metric]| metric).filter(|metric| !metric.starts_with("runs")).collect()
    };
    // All that is there comes from what was reported.
    let expected = ["blackout", "downtime", "total_time", "traffic"].map(str::to_owned);
    let json = of_peer(read_json(&render(std::slice::from_ref(&report), Format::Json, 100)));
    let csv = of_peer(read_csv(&render(std::slice::from_ref(&report), Format::Csv, 100)));
    for (name, found) in [("json", json), ("csv", csv)] {
        let measured: BTreeSet<_> =
            found.iter().filter(|metric| MetricKey::find(metric).is_some()).cloned().collect();
        assert_eq!(measured.into_iter().collect::<Vec<_>>(), expected, "{name}: {found:?}");
    }
    let shown = show::run(&peer(), "write-heavy-delta-3").unwrap();
    assert!(!shown.contains("round ") && !shown.contains("latency"), "{shown}");
}

#[test]
fn terminal_lines_fit() {
    for (name, data) in all() {
        let report = Report::of(&data);
        for width in [60, 80, 100] {
            for line in report.terminal(width).lines() {
                assert!(line.chars().count() <= width, "{name} at {width}: {line}");
                assert!(!line.contains('\u{1b}'), "{name}: colour in {line:?}");
            }
        }
    }
}

/// The tables that people read.
fn shown(report: &Report) -> impl Iterator<Item = &Table> {
    report.tables.iter().chain(report.sections.iter().flat_map(|section| &section.tables))
}

/// Every figure of the model stands in both formats, letter for letter.
#[test]
fn both_formats_show_the_same_numbers() {
    for (name, data) in all() {
        let report = Report::of(&data);
        let (terminal, markdown) = (report.terminal(100), report.markdown());
        let mut figures = 0;
        for row in shown(&report).flat_map(|table| &table.rows) {
            let label = row.label.as_str();
            let line = markdown.lines().filter(|line| line.starts_with(&format!("| {label}")));
            let lines: Vec<_> = line.collect();
            for figure in row.figures.iter().flatten() {
                let parts = [
                    Some(&figure.value),
                    figure.difference.as_ref(),
                    figure.difference_spread.as_ref(),
                    figure.spread.as_ref(),
                ];
                let parts: Vec<_> = parts.into_iter().flatten().map(String::as_str).collect();
                assert!(parts.iter().all(|part| terminal.contains(part)), "{name} {label}: {parts:?}");
                assert!(
                    lines.iter().any(|line| parts.iter().all(|part| line.contains(part))),
                    "{name} {label}: {parts:?}"
                );
                figures += 1;
            }
        }
        assert!(figures > 0, "{name}");
        // And the other way round: what looks like a figure in one format stands in the other.
        let numbers = |text: &str| -> BTreeSet<String> {
            let words = text.split(|c: char| c.is_whitespace() || "<>();".contains(c));
            let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
            let ranges = words.iter().filter(|word| word.contains("..")).map(|word| (*word).to_owned());
            let percents = words.windows(2).filter(|pair| pair[1] == "%").map(|pair| pair[0].to_owned());
            ranges.chain(percents).collect()
        };
        assert_eq!(numbers(&terminal), numbers(&markdown), "{name}");
    }
}

/// What a program reads of a figure: unit, n, value, spread, ratio and its spread.
type Read = (String, u64, f64, Option<(f64, f64)>, Option<f64>, Option<(f64, f64)>);
/// Comparison (empty for a summary), cell, row, phase, metric.
type FigureKey = [String; 5];

fn read_csv(text: &str) -> BTreeMap<FigureKey, Read> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let mut all = BTreeMap::new();
    for line in reader.records() {
        let line = line.unwrap();
        let of = |name: &str| &line[columns.iter().position(|column| column == name).unwrap()];
        let number = |name: &str| of(name).parse::<f64>().ok();
        let pair = |low, high| Some((number(low)?, number(high)?));
        let place = ["comparison", "cell", "row", "phase", "metric"].map(|name| of(name).to_owned());
        let (Ok(n), Some(value)) = (of("n").parse(), number("value")) else {
            panic!("no numbers in {line:?}");
        };
        let read = (
            of("unit").to_owned(),
            n,
            value,
            pair("low", "high"),
            number("ratio"),
            pair("ratio_low", "ratio_high"),
        );
        assert_eq!(all.insert(place.clone(), read), None, "{place:?} is there twice");
    }
    all
}

fn read_json(text: &str) -> BTreeMap<FigureKey, Read> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    jsonschema::validator_for(&crate::schema::report()).unwrap().validate(&value).unwrap();
    let document: Document = serde_json::from_value(value).unwrap();
    let mut all = BTreeMap::new();
    for table in document.reports.into_iter().flat_map(|report| report.tables) {
        for row in table.rows {
            for (metric, figure) in row.figures {
                let comparison = table.comparison.clone().unwrap_or_default();
                let phase = row.phase.map(|phase| phase.to_string()).unwrap_or_default();
                let place = [comparison, row.cell.clone(), row.row.to_string(), phase, metric];
                let ends = |spread: &Spread| spread.ends();
                let difference = figure.difference.as_ref();
                let read = (
                    figure.unit,
                    figure.n,
                    figure.value,
                    figure.spread.as_ref().map(ends),
                    difference.map(|difference| difference.ratio),
                    difference.and_then(|difference| difference.spread.as_ref()).map(ends),
                );
                assert_eq!(all.insert(place.clone(), read), None, "{place:?} is there twice");
            }
        }
    }
    all
}

/// What programs read is what people read: each figure of each table, made again from the numbers in CSV and in JSON,
/// gives the very text.
#[test]
fn formats_for_programs_have_the_numbers_of_those_for_people() {
    let reference = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/quick");
    let reports = all().into_iter().map(|(name, data)| (name, Report::of(&data)));
    for (name, report) in reports.chain([("reference", Report::load(reference).unwrap())]) {
        let reports = std::slice::from_ref(&report);
        let json = read_json(&render(reports, Format::Json, 100));
        let mut csv = read_csv(&render(reports, Format::Csv, 100));
        csv.retain(|[.., metric], _| !metric.starts_with("runs"));
        assert_eq!(csv, json, "{name}");
        for table in shown(&report) {
            for (row, (column, figure)) in table
                .rows
                .iter()
                .flat_map(|row| table.columns.iter().zip(&row.figures).map(move |pair| (row, pair)))
            {
                let Some(figure) = figure else { continue };
                let phase = row.subject.phase.map(|phase| phase.to_string()).unwrap_or_default();
                let place = [
                    table.comparison.clone(),
                    row.subject.cell.clone(),
                    row.kind.word().to_owned(),
                    phase,
                    column.name.clone(),
                ];
                let [of_csv, of_json] = [&csv, &json].map(|read| read.get(&place).cloned());
                assert_eq!(of_csv, of_json, "{name} {place:?}");
                let (unit, n, value, spread, ratio, ratio_spread) =
                    of_csv.unwrap_or_else(|| panic!("{name}: {place:?} is missing"));
                assert_eq!(unit, column.unit.symbol());
                let spread = spread.map(|(low, high)| Spread::Range { low, high });
                let marked = figure.value == NOT_SIGNIFICANT;
                let again = if (marked || figure.value.contains('%')) && unit == "ratio" && ratio.is_none() {
                    let share = PrintedFigure::share(1, value, spread);
                    if marked { share.marked() } else { share }
                } else if table.comparison.is_empty() {
                    PrintedFigure { value: quantity::difference(value), difference: None, ..figure.clone() }
                } else {
                    let median = Summary { samples: usize::try_from(n).unwrap(), median: value, spread };
                    let runs =
                        if row.kind == RowKind::Capped { row.subject.runs[1] } else { row.subject.runs[0] };
                    let difference = ratio.map(|ratio| Difference {
                        ratio,
                        spread: ratio_spread.map(|(low, high)| Spread::Range { low, high }),
                        significant: figure.numbers.difference.and_then(|difference| difference.significant),
                        p: None,
                    });
                    PrintedFigure::of(column.unit, &median, difference, runs)
                };
                assert_eq!(again.value, figure.value, "{name} {place:?}");
                // Stalls have their number for a spread; what few runs have says itself what it is.
                let bare = |text: &Option<String>| {
                    text.clone()
                        .map(|text| text.trim_start_matches("range ").trim_start_matches("95 % ").to_owned())
                };
                if again.numbers.spread.is_some() {
                    assert_eq!(again.spread, bare(&figure.spread), "{name} {place:?}");
                }
                // The table of pages leaves differences out that the metrics have.
                // What people read of memory is its difference in bytes.
                if figure.numbers.difference.is_some() && !column.name.starts_with("memory") {
                    assert_eq!(again.difference, figure.difference, "{name} {place:?}");
                    assert_eq!(again.difference_spread, bare(&figure.difference_spread), "{name} {place:?}");
                }
            }
        }
    }
}

#[test]
fn latex_has_every_figure_of_every_table() {
    for (name, data) in all() {
        let report = Report::of(&data);
        let text = render(std::slice::from_ref(&report), Format::Latex, 100);
        for figure in
            shown(&report).flat_map(|table| &table.rows).flat_map(|row| row.figures.iter().flatten())
        {
            let parts = [&figure.difference, &figure.difference_spread, &figure.spread].into_iter().flatten();
            for part in parts.chain([&figure.value]) {
                assert!(text.contains(&latex::number(part)), "{name}: {part}");
            }
        }
        // The same braces open and close, and every environment.
        let count = |what: &str| text.matches(what).count();
        assert_eq!(count("{") - count("\\{"), count("}") - count("\\}"), "{name}");
        assert_eq!(
            count("\\begin{") - 1,
            count("\\end{"),
            "{name}: one begins in the comment on the preamble"
        );
    }
    insta::assert_snapshot!("latex_troubled", render(&[Report::of(&troubled())], Format::Latex, 100));
}

#[test]
fn formats_for_programs_look_as_they_did() {
    let reports = [Report::of(&troubled())];
    insta::assert_snapshot!("csv_troubled", render(&reports, Format::Csv, 100));
    insta::assert_snapshot!("json_troubled", render(&reports, Format::Json, 100));
}

#[test]
fn failed_and_capped_runs_and_cells_left_out_are_in_the_csv() {
    let text = render(&[Report::of(&troubled())], Format::Csv, 100);
    let read = read_csv(&text);
    let runs = |cell: &str, row: &str, metric: &str| {
        let place = ["write-heavy", cell, row, "", metric].map(str::to_owned);
        read.get(&place).map(|(_, n, ..)| *n)
    };
    assert_eq!(runs("delta", "compared", "runs"), Some(2));
    assert_eq!(runs("delta", "compared", "runs_failed"), Some(1));
    assert_eq!(runs("delta", "capped", "runs"), Some(2));
    assert_eq!(runs("track-only", "skipped", "runs"), Some(0));
    assert!(text.contains("not available here: the kernel has no dirty log"));
    // Those that a limit did not cut short are no fair sample: they have medians, and no difference.
    let survivors = ["write-heavy", "delta", "compared", "", "total_time"].map(str::to_owned);
    let (.., ratio, _) = &read[&survivors];
    assert_eq!((read[&survivors].1, *ratio), (2, None));
}

/// Names from suites may be of any length.
#[test]
fn long_names_fit_and_are_shown_whole() {
    let long = "a-very-long-name-of-a-cell-that-somebody-thought-of-and-that-goes-on-for-more-than-a-line-of-a-terminal-does";
    let mut manifest = sample::manifest();
    long.clone_into(&mut manifest.suite);
    let plan = &mut manifest.comparisons[1];
    plan.name = format!("{long}-too");
    plan.compare = "vcpus".to_owned();
    let mut other = sample::cell("write-heavy", "delta");
    other.link.rate = None;
    plan.cells[1].id = long.to_owned();
    plan.cells.push(ManifestCell { id: format!("{long}-2"), cell: other.clone() });
    let mut records =
        but("delta", |sample, repetition| if repetition == 2 { sample.capped() } else { sample });
    records.extend((1..=3).map(|repetition| {
        Sample::new("write-heavy", "delta").repetition(repetition).with(|r| r.cell = other.clone()).build()
    }));
    for record in records.iter_mut().filter(|record| record.comparison == "write-heavy") {
        record.comparison = format!("{long}-too");
    }
    manifest.command.push(format!("--filter={long}"));
    manifest.skipped.push(Skipped {
        comparison: format!("{long}-too"),
        cell: "full".to_owned(),
        reason: long.to_owned(),
    });
    let report = Report::of(&data(manifest, records));
    for width in [60, 100] {
        let text = report.terminal(width);
        let words = |line: &&str| !line.starts_with("  --filter=");
        for line in text.lines().filter(words) {
            assert!(line.chars().count() <= width, "at {width}: {line}");
        }
        let whole: String = text.split_whitespace().collect();
        assert!(whole.matches(&format!("{long}-2")).count() > 2, "{text}");
    }
}

#[test]
fn the_reference_run_looks_as_it_did() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/quick");
    let mut report = Report::load(path).unwrap();
    // Where lines end must not depend on where this was checked out.
    report.path = "DIR".into();
    insta::assert_snapshot!("reference_terminal", report.terminal(100));
    insta::assert_snapshot!("reference_brief", report.brief(100));
    insta::assert_snapshot!("reference_markdown", report.markdown());
}

#[test]
fn against_a_capped_baseline_nothing_is_compared() {
    let report = Report::of(&capped_baseline());
    let table = &report.tables[1];
    assert!(table.rows.iter().flat_map(|row| row.figures.iter().flatten()).all(|f| f.difference.is_none()));
    assert!(table.notes[0].starts_with("the baseline did not converge (0/5 runs did)"), "{:?}", table.notes);
    assert!(!table.notes.iter().any(|note| note.contains("most that delta")));
    assert!(report.sound());
}

#[test]
fn only_sound_reports_are_called_sound() {
    let sound = all().map(|(name, data)| (name, Report::of(&data).sound()));
    let unsound: Vec<_> = sound.iter().filter(|(_, sound)| !sound).map(|(name, _)| *name).collect();
    assert_eq!(unsound, ["troubled", "damaged"]);
}

#[test]
fn the_ceiling_is_that_of_the_baseline() {
    // A is 300/101 x 1.02 in the middle block, so that 1 - 1/A is 67.0 %; delta halves the traffic.
    let report = Report::of(&all()[0].1);
    assert_eq!(
        report.tables[1].notes,
        ["most that delta can save on traffic here: 67.0 %, which is all of the rounds after the first; \
          of those it saved ~ (range 73.9..75.4 %)"]
    );
}

#[test]
fn an_empty_run_directory_is_a_report_too() {
    let report = Report::of(&data(sample::manifest(), Vec::new()));
    assert!(report.terminal(100).contains("0 of 24 planned runs are recorded"));
    assert!(report.markdown().contains("nothing was migrated"));
}

#[test]
fn each_delta_cell_says_what_it_saved() {
    let mut manifest = sample::manifest();
    let mut other = sample::cell("write-heavy", "delta");
    other.vcpus = 2;
    manifest.comparisons[1].cells.push(ManifestCell { id: "delta-2".to_owned(), cell: other.clone() });
    manifest.comparisons[1].cells[1].id = "delta-1".to_owned();
    let mut records = sample::records();
    let sample = |repetition| Sample::new("write-heavy", "delta").repetition(repetition);
    records.extend(
        (1..=5).map(|repetition| sample(repetition).with(|record| record.cell = other.clone()).build()),
    );
    let report = Report::of(&data(manifest, records));
    assert!(
        report.tables[1].notes[0]
            .ends_with("it saved ~ (range 73.9..75.4 %) by delta-1, ~ (range 73.9..75.4 %) by delta-2"),
        "{:?}",
        report.tables[1].notes
    );
}

#[test]
fn closed_loops_show_the_writes_achieved() {
    let mut manifest = sample::manifest();
    let closed = |cell: &mut Cell| cell.settings.load = Load::FlatOut;
    manifest.comparisons[1].cells.iter_mut().for_each(|planned| closed(&mut planned.cell));
    let record = Sample::new("write-heavy", "full").metric(MetricKey::PageWritesPrecopy, 120_000.0);
    let record = record.with(|record| closed(&mut record.cell));
    let report = Report::of(&data(manifest, vec![record.build()]));
    let notes = &report.tables[1].notes;
    assert!(notes.iter().any(|note| note.ends_with("page writes in pre-copy: full 120000")), "{notes:?}");
}

#[test]
fn a_metric_that_some_runs_lack_states_its_own_number() {
    let mut records = sample::records();
    let lacking = records.iter_mut().find(|record| record.run_id == "write-heavy-full-2").unwrap();
    lacking.metrics.remove("blackout");
    let report = Report::of(&data(sample::manifest(), records));
    let row = &report.tables[1].rows[0];
    let spread = |column: usize| row.figures[column].as_ref().unwrap().spread.clone().unwrap();
    assert_eq!((spread(1).as_str(), spread(2).as_str()), ("95.0..98.8", "range 96.0..99.8, n = 4"));
}

/// "95 %" stands over what is one: with six runs, a metric that five of them have shows a range, and says so.
#[test]
fn a_range_among_intervals_is_called_one() {
    let mut records = sample::records();
    let sixth = ["full", "delta"].map(|engine| Sample::new("write-heavy", engine).repetition(6).build());
    records.extend(sixth);
    let lacking = records.iter_mut().find(|record| record.run_id == "write-heavy-full-2").unwrap();
    lacking.metrics.remove("total_time");
    let report = Report::of(&data(sample::manifest(), records));
    let [full, delta] = [0, 1].map(|row| &report.tables[1].rows[row]);
    assert_eq!(full.samples.as_deref(), Some("95 %, n = 6"), "though its first figure has a range");
    let spread = |row: &crate::table::Row, column: usize| {
        row.figures[column].as_ref().unwrap().spread.clone().unwrap()
    };
    assert!(spread(full, 0).starts_with("range 2.40") && spread(full, 0).ends_with(", n = 5"), "{full:?}");
    assert!(spread(full, 1).starts_with("95.0"), "{full:?}");
    // Differences are of the pairs that are there.
    assert_eq!(delta.difference_spread(), Some("its 95 %"));
    let difference =
        |column: usize| delta.figures[column].as_ref().unwrap().difference_spread.clone().unwrap();
    assert!(difference(0).starts_with("range -50") && !difference(1).contains("range"), "{delta:?}");
}

/// One unit in one figure: `+887 % (+300..x 25.3)` mixed two.
#[test]
fn a_difference_and_its_ends_share_a_unit() {
    let mut records = sample::records();
    for record in records.iter_mut().filter(|record| record.run_id.starts_with("write-heavy-delta")) {
        let factor = [0.0, 8.0, 9.0, 9.5, 14.0, 25.3][record.repetition as usize];
        let value = 2.4 * (1.0 + 0.01 * f64::from(record.repetition % 5)) * factor;
        record.metrics.get_mut("total_time").unwrap().value = value;
    }
    let report = Report::of(&data(sample::manifest(), records));
    let figure = report.tables[1].rows[1].figures[0].as_ref().unwrap();
    assert_eq!(figure.compared(), "~ (x 8.00..25.3)");
}

//! What other programs make of the files that we write: TeX of a report, HdrHistogram's Python port of our logs and records,
//! Prometheus' library of our exports.
//! From the reference run, or a simulated one, without KVM. They come from the network where they are missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use migbench_reports::format::Format;
use migbench_reports::histogram::{self, Latencies};
use migbench_reports::record::Status;
use migbench_reports::render::latex::PREAMBLE;
use migbench_reports::store::{Accept, RunData};

use crate::support::{Migbench, skip};

/// Values and how often each was recorded.
type BucketCounts = Vec<(u64, u64)>;

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/reference/quick")
}

fn migbench(arguments: &[&str]) -> String {
    let outcome = Migbench::new().args(arguments).run();
    assert_eq!(outcome.status, 0, "{arguments:?}: {}", outcome.stderr);
    outcome.stdout
}

/// Runs a program; what it said if it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn all_formats_come_from_records_alone() {
    let directory = reference();
    let directory = directory.to_str().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for (name, _) in Format::ALL.iter().filter(|(_, format)| format.file().is_some()) {
        let file = scratch.path().join(name);
        let out = ["report", directory, "--format", name, "-o", file.to_str().unwrap()];
        assert_eq!(migbench(&out), "");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("write-heavy"), "{name}");
        assert!(!text.contains('\u{1b}'), "{name} has colour");
        if *name != "terminal" {
            assert_eq!(text, migbench(&["report", directory, "--format", name]), "{name}");
        }
    }
    // Several at once, those of other programs among them, are files of one directory.
    let into = scratch.path().join("all").to_str().unwrap().to_owned();
    let printed = migbench(&["report", directory, "--format", "latex,junit,csv", "-o", &into]);
    let made: Vec<_> =
        ["report.tex", "report.csv", "junit.xml"].map(|name| format!("{into}/{name}\n")).to_vec();
    assert_eq!(printed, made.concat());
    assert_eq!(migbench(&["report", directory, "--format", "csv", "-o", &into]), made[1]);
    let csv = std::fs::read(scratch.path().join("csv")).unwrap();
    assert_eq!(std::fs::read(made[1].trim()).unwrap(), csv);
    let figures = scratch.path().join("figures").to_str().unwrap().to_owned();
    assert_eq!(migbench(&["report", directory, "--figures", &figures]), "", "figures alone");
    assert!(std::fs::read_dir(&figures).unwrap().count() > 4);
    for (arguments, words) in [
        (&[directory, "--format", "junit"][..], "junit has files of its own: name their directory with -o"),
        (&[directory, "--format", "csv,markdown"], "csv, markdown are a file each"),
        (&[directory, directory, "--format", "csv,bmf", "-o", &into], "bmf is made of one run directory"),
        (
            &[directory, "--wide", "--format", "html"],
            "--wide is for --format terminal, and changes nothing of html",
        ),
    ] {
        let refused = Migbench::new().args([&["report"], arguments].concat()).run();
        assert!(refused.status == 2 && refused.stderr.contains(words), "{}", refused.stderr);
    }
    let plain = Migbench::new().args(["report", directory]).env("NO_COLOR", "1").env("TERM", "xterm").run();
    assert!(plain.stdout.lines().all(|line| line.chars().count() <= 100), "{}", plain.stdout);
}

#[test]
#[ignore = "compiles a document with TeX"]
fn a_minimal_document_compiles() {
    if let Err(why) = run(Command::new("pdflatex").arg("--version")) {
        skip(&why);
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let report = scratch.path().join("report.tex");
    let (plain, hostile) = (reference(), scratch.path().join("hostile"));
    renamed(&plain, &hostile, r"50%_{of} $a & #b^~\\d\\ \\end caf\u00e9 \u65e5 <|> --x");
    let directories = [plain, hostile].map(|path| path.to_str().unwrap().to_owned());
    let [first, second] = directories.each_ref().map(String::as_str);
    migbench(&["report", first, second, "--format", "latex", "-o", report.to_str().unwrap()]);
    let document = format!(
        "\\documentclass[a4paper]{{article}}\n\\usepackage[margin=2cm]{{geometry}}\n{PREAMBLE}\\begin{{document}}\n\
         \\input{{report}}\n\\end{{document}}\n"
    );
    std::fs::write(scratch.path().join("document.tex"), document).unwrap();
    let arguments = ["-interaction=nonstopmode", "-halt-on-error", "document.tex"];
    let said = run(Command::new("pdflatex").args(arguments).current_dir(&scratch)).unwrap();
    assert!(said.contains("Output written on document.pdf"), "{said}");
    assert!(!said.contains("Missing character"), "{said}");
}

/// A copy of a run directory in which a comparison has another name, as it stands in JSON.
fn renamed(from: &Path, into: &Path, name: &str) {
    std::fs::create_dir(into).unwrap();
    for file in ["manifest.json", "runs.jsonl"] {
        let text = std::fs::read_to_string(from.join(file)).unwrap();
        let old = |key: &str, space: &str| format!("\"{key}\":{space}\"write-heavy\"");
        let text = text.replace(&old("comparison", ""), &format!("\"comparison\":\"{name}\""));
        let text = text.replace(&old("name", " "), &format!("\"name\": \"{name}\""));
        std::fs::write(into.join(file), text).unwrap();
    }
    let data = RunData::load(into).unwrap();
    assert!(data.records.iter().any(|record| record.comparison.starts_with("50%")));
    assert!(data.manifest.comparisons.iter().any(|comparison| comparison.name.starts_with("50%")));
}

const READER: &str = r#"
import json, sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
for path in sys.argv[1:]:
    reader = HistogramLogReader(path, HdrHistogram(1, 1 << 50, 3))
    while (one := reader.get_next_interval_histogram()) is not None:
        highest = one.get_highest_equivalent_value
        values = one.get_recorded_iterator()
        print(json.dumps([path, [[highest(v.value_iterated_to), v.count_at_value_iterated_to] for v in values]]))
    reader.close()
"#;

/// What the reader above prints of a histogram: every value that was recorded, and how often.
fn values(latencies: &Latencies) -> BucketCounts {
    let recorded = latencies.iter_recorded();
    recorded
        .map(|step| (latencies.highest_equivalent(step.value_iterated_to()), step.count_at_value()))
        .collect()
}

/// A Python in `scratch` that has a package of PyPI; without one, the test that asks is skipped.
fn python(scratch: &Path, package: &str) -> Option<PathBuf> {
    let environment = scratch.join("venv");
    let python = environment.join("bin/python");
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&environment))
        .and_then(|_| run(Command::new(&python).args(["-m", "pip", "install", "--quiet", package])));
    made.map_err(|why| skip(&why)).is_ok().then_some(python)
}

const RECORDS: &str = r#"
import json, sys
from hdrh.histogram import HdrHistogram
for line in open(sys.argv[1]):
    record = json.loads(line)
    for key, text in record["histograms"].items():
        one = HdrHistogram.decode(text)
        highest = one.get_highest_equivalent_value
        values = [[highest(v.value_iterated_to), v.count_at_value_iterated_to] for v in one.get_recorded_iterator()]
        quantiles = [one.get_value_at_percentile(p) for p in (50, 90, 99, 99.9, 100)]
        print(json.dumps([record["run_id"], key, one.get_total_count(), values, quantiles]))
"#;

/// The value with `percent` of all at or below it, to the nearest count, as the Python port has it.
fn at_percentile(values: &BucketCounts, percent: f64) -> u64 {
    let all: u64 = values.iter().map(|(_, count)| count).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let wanted = ((percent * all as f64 / 100.0 + 0.5) as u64).max(1);
    let mut counted = 0;
    let reaches = |(_, count): &&(u64, u64)| {
        counted += count;
        counted >= wanted
    };
    values.iter().find(reaches).unwrap().0
}

#[test]
#[ignore = "installs a package from PyPI"]
fn hdrhistogram_of_pypi_decodes_our_records_as_they_stand() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(python) = python(scratch.path(), "hdrhistogram") else { return };
    let directory = scratch.path().join("run");
    migbench(&["run", "quick", "--repeat", "1", "--simulate", "-o", directory.to_str().unwrap()]);
    let data = RunData::load_as(&directory, Accept::Simulated).unwrap();
    let said = run(Command::new(&python).args(["-c", RECORDS]).arg(directory.join("runs.jsonl"))).unwrap();
    let mut read = 0;
    for line in said.lines() {
        let (run_id, key, count, values, quantiles): (String, String, u64, BucketCounts, Vec<u64>) =
            serde_json::from_str(line).unwrap();
        let record = data.records.iter().find(|record| record.run_id == run_id).unwrap();
        let ours = histogram::decode(&record.histograms.get()[&key]).unwrap();
        assert_eq!((count, &values), (ours.len(), &self::values(&ours)), "{run_id} {key}");
        let expected = [50.0, 90.0, 99.0, 99.9, 100.0].map(|percent| at_percentile(&values, percent));
        assert_eq!(quantiles, expected, "{run_id} {key}");
        assert_eq!(quantiles[4], ours.value_at_quantile(1.0));
        read += 1;
    }
    let written: usize = data.records.iter().map(|record| record.histograms.get().len()).sum();
    assert_eq!(read, written);
    assert!(read >= 8, "{said}");
}

/// The page beside METRICS.md, as it stands.
#[test]
#[ignore = "installs a package from PyPI"]
fn the_page_of_python_reads_a_run_directory() {
    const PAGE: &str = include_str!("../../../reports/PYTHON.md");
    let scratch = tempfile::tempdir().unwrap();
    let Some(python) = python(scratch.path(), "hdrhistogram") else { return };
    let code = PAGE.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let directory = scratch.path().join("run");
    migbench(&["run", "quick", "--repeat", "3", "--simulate", "-o", directory.to_str().unwrap()]);
    let data = RunData::load_as(&directory, Accept::Simulated).unwrap();
    let said = run(Command::new(&python).args(["-c", code]).arg(&directory)).unwrap();
    let lines = |words: &str| said.lines().filter(|line| line.contains(words)).collect::<Vec<_>>();
    let mut found = 0;
    for comparison in &data.manifest.comparisons {
        for planned in &comparison.cells {
            let runs: Vec<_> = data
                .records
                .iter()
                .filter(|r| r.cell == planned.cell && r.repetition > 0 && r.status == Status::Ok)
                .collect();
            let times: Vec<f64> = runs.iter().map(|run| run.metrics["total_time"].value).collect();
            let expected = migbench_reports::stats::median(&times).unwrap();
            let engine = planned.cell.engine;
            let line = lines(&format!("{} {engine} total_time {} ", comparison.name, times.len()));
            let value: f64 = line[0].split(' ').rev().nth(1).unwrap().parse().unwrap();
            assert!((value / expected - 1.0).abs() < 1e-12, "{line:?}, {expected}");
            for key in runs[0].histograms.get().keys() {
                let merged = histogram::merged(&runs, key).len();
                let line = lines(&format!("{} {engine} {key} {merged} ", comparison.name));
                assert_eq!(line.len(), 1, "{key} of {engine} in {said}");
                found += 1;
            }
        }
    }
    // Other axes than engines, and cells that migrate nothing.
    let trackers = scratch.path().join("trackers");
    migbench(&["run", "trackers", "--repeat", "2", "--simulate", "-o", trackers.to_str().unwrap()]);
    let of_trackers = run(Command::new(&python).args(["-c", code]).arg(&trackers)).unwrap();
    assert!(of_trackers.contains("total_time over "), "{of_trackers}");
    assert!(found > 8 && lines("total_time over ").len() == 2, "{said}");
}

#[test]
#[ignore = "installs a package from PyPI"]
fn hdrhistogram_of_pypi_reads_what_we_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let into = scratch.path().join("out");
    let Some(python) = python(scratch.path(), "hdrhistogram") else { return };
    let data = RunData::load(reference()).unwrap();
    let printed = migbench(&[
        "report",
        reference().to_str().unwrap(),
        "--format",
        "hlog,hgrm",
        "-o",
        into.to_str().unwrap(),
    ]);
    let logs: Vec<&str> = printed.lines().filter(|path| path.ends_with(".hlog")).collect();
    assert!(logs.len() >= 60, "{printed}");

    // By file, in the order of the runs.
    let mut read: BTreeMap<String, Vec<BucketCounts>> = BTreeMap::new();
    let said = run(Command::new(&python).args(["-c", READER]).args(&logs)).unwrap();
    for line in said.lines() {
        let (path, values): (String, BucketCounts) = serde_json::from_str(line).unwrap();
        read.entry(path).or_default().push(values);
    }
    let mut compared = 0;
    for comparison in &data.manifest.comparisons {
        for planned in &comparison.cells {
            let mut runs: Vec<_> =
                data.records.iter().filter(|r| r.cell == planned.cell && r.repetition > 0).collect();
            runs.sort_by_key(|run| run.order);
            let keys = runs.iter().flat_map(|run| run.histograms.get().keys().cloned().collect::<Vec<_>>());
            for key in &keys.collect::<std::collections::BTreeSet<_>>() {
                let name = key.trim_start_matches("latency_").replace('/', "-");
                let stem = into.join(format!("{}-{}-{name}", comparison.name, planned.cell.engine));
                let ours: Vec<_> = runs
                    .iter()
                    .filter_map(|run| run.histograms.get().get(key).cloned())
                    .map(|text| values(&histogram::decode(&text).unwrap()))
                    .collect();
                let file = stem.with_extension("hlog");
                compared += ours.len();
                assert_eq!(read.remove(file.to_str().unwrap()), Some(ours), "{}", file.display());

                // The percentile file of the same runs ends with their number and their largest value.
                let all = histogram::merged(&runs, key);
                let text = std::fs::read_to_string(stem.with_extension("hgrm")).unwrap();
                let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
                let last: Vec<f64> = last.split_whitespace().map(|word| word.parse().unwrap()).collect();
                assert_eq!(last[1..], [1.0, all.len() as f64], "{text}");
                assert!((last[0] - all.max() as f64 / 1000.0).abs() < 0.01, "{text}");
            }
        }
    }
    assert!(read.is_empty() && compared > 200, "{compared} compared, left: {:?}", read.keys());
}

const FAMILIES: &str = r#"
import json, sys
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
for read, path in [(openmetrics, sys.argv[1]), (parser, sys.argv[2])]:
    families = list(read.text_string_to_metric_families(open(path).read()))
    samples = [[s.name, s.labels, s.value] for family in families for s in family.samples]
    print(json.dumps([sorted({family.type for family in families}), samples]))
"#;

/// The library of Prometheus itself.
#[test]
#[ignore = "installs a package from PyPI"]
fn prometheus_reads_both_texts_alike() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(python) = python(scratch.path(), "prometheus_client") else { return };
    let (ab, into) = (scratch.path().join("ab"), scratch.path().join("out"));
    let [ab, into] = [&ab, &into].map(|path| path.to_str().unwrap());
    let slower = "--simulate=noise=0.01,new.encode=3,new.send=1.1,cap=9";
    let status = Migbench::new().args(["ab", "quick", slower, "-o", ab]).run().status;
    assert!(matches!(status, 3 | 4), "{status}");
    let format = "openmetrics,prometheus";
    migbench(&["report", ab, "--simulated", "--format", format, "-o", into]);
    let files = ["openmetrics.txt", "migbench-quick.prom"].map(|name| Path::new(into).join(name));
    let said = run(Command::new(&python).args(["-c", FAMILIES]).args(&files)).unwrap();
    type Sample = (String, BTreeMap<String, String>, f64);
    let read: Vec<(Vec<String>, Vec<Sample>)> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [(types, samples), other] = &read[..] else { panic!("{said}") };
    assert_eq!((types, samples), (&other.0, &other.1));
    assert_eq!(types[..], ["gauge"]);
    let of = |name: &str| samples.iter().filter(|(n, ..)| n == name).collect::<Vec<_>>();
    assert_eq!(of("migbench_runs_capped").iter().map(|(.., value)| value).sum::<f64>(), 1.0);
    let gates = of("migbench_gate_status");
    assert!(!gates.is_empty() && gates.iter().all(|(_, labels, _)| labels["side"] == "new"), "{gates:?}");
    let times = of("migbench_total_time_seconds");
    assert!(times.iter().any(|(_, labels, _)| labels["side"] == "base" && labels.contains_key("commit")));
}

//! Claims tested against records that are made by hand, small enough to check by eye, and the pages as snapshots.

use std::path::{Path, PathBuf};

use migbench_scenarios::cell::Engine;
use migbench_scenarios::{Claims, Plan};

use super::*;
use crate::manifest::{Manifest, ManifestComparison};
use crate::record::{Record, Status};
use crate::sample::{self, Sample};

/// What one run of a cell has: traffic, its first round, total time, the first round's, and downtime.
#[derive(Clone, Copy)]
struct RunFigures {
    traffic: f64,
    time: f64,
    downtime: f64,
    capped: bool,
}

const FIRST_BYTES: f64 = 400e6;
const FIRST_TIME: f64 = 3.2;

fn manifest(plan: &Plan) -> Manifest {
    Manifest {
        suite: plan.suite.clone(),
        suite_hash: plan.hash.clone(),
        comparisons: plan.comparisons.iter().map(|one| ManifestComparison::of(one, plan)).collect(),
        repetitions: plan.repetitions,
        planned_runs: u32::try_from(plan.order.len()).unwrap(),
        command: ["migbench", "run", &plan.suite].map(str::to_owned).to_vec(),
        ..sample::manifest()
    }
}

/// Every run of a plan, each as `of` says.
fn data(plan: &Plan, of: impl Fn(&str, Engine, u32) -> RunFigures) -> RunData {
    let record = |(number, run): (usize, &migbench_scenarios::PlannedRun)| -> Record {
        let comparison = &plan.comparisons[run.comparison];
        let cell = &plan.cell(run).unwrap().cell;
        let made = of(&comparison.name, cell.engine, run.repetition);
        let metrics = [
            (MetricKey::Traffic, made.traffic),
            (MetricKey::FirstRoundBytes, FIRST_BYTES),
            (MetricKey::Amplification, made.traffic / FIRST_BYTES),
            (MetricKey::TotalTime, made.time),
            (MetricKey::Downtime, made.downtime),
        ];
        let sample = Sample::new("write-heavy", "full").repetition(run.repetition);
        let sample = if run.repetition == 0 { sample.verification(Some(true)) } else { sample };
        let sample = metrics.into_iter().fold(sample, |sample, (key, value)| sample.metric(key, value));
        let mut record = sample
            .with(|record| {
                record.suite = plan.suite.clone();
                record.run_id = format!("{number:04}-{}-{}-{}", comparison.name, cell.engine, run.repetition);
                record.comparison = comparison.name.clone();
                record.cell = cell.clone();
                if made.capped {
                    record.status = Status::Capped;
                }
            })
            .build();
        // Capped runs have all of their metrics, and the sample's own rounds are of another size.
        record.rounds[0].duration = FIRST_TIME;
        record
    };
    let records = plan.order.iter().enumerate().map(record).collect();
    let path = PathBuf::from(format!("results/{}", plan.suite));
    RunData { path, ..sample::data(manifest(plan), records) }
}

/// Deltas save most of what full pages send after the first round: little with a guest that reads, half with one that writes.
fn usual(comparison: &str, engine: Engine, repetition: u32) -> RunFigures {
    let wobble = 1.0 + 0.002 * f64::from(repetition % 5);
    let again = if comparison.starts_with("read") { 0.1 } else { 1.2 };
    let again = if engine == Engine::Delta { again * 0.05 } else { again } * wobble;
    let downtime = if engine == Engine::Delta { 0.004 } else { 0.2 } * wobble;
    RunFigures {
        traffic: FIRST_BYTES * (1.0 + again),
        time: FIRST_TIME * (1.0 + again),
        downtime,
        capped: false,
    }
}

fn bhardwaj() -> Claims {
    Claims::find("bhardwaj2019", &metrics()).unwrap()
}

fn plan(name: &str) -> Plan {
    migbench_scenarios::Suite::find(name).unwrap().expand().unwrap()
}

fn verdicts(found: &Reproduction) -> Vec<(&str, &str)> {
    found.findings.iter().map(|finding| (finding.claim.as_str(), finding.verdict.word())).collect()
}

#[test]
fn a_reduction_over_the_ceiling_is_unreachable_and_one_under_it_reachable() {
    let found = Reproduction::of(&bhardwaj(), &[data(&plan("paper"), usual)]);
    assert_eq!(
        verdicts(&found),
        [
            ("read-downtime", "no bound"),
            ("read-time", "unreachable"),
            ("read-traffic", "unreachable"),
            ("write-downtime", "no bound"),
            ("write-time", "reachable"),
            ("write-traffic", "reachable"),
        ]
    );
    let traffic = &found.findings[5];
    // 1 - 1/2.2, less the wobble; the delta engine sends 1.06 in place of 2.2.
    let (most, ours) = (traffic.reachable.unwrap(), traffic.ours.unwrap());
    assert!((most.low..=most.high).contains(&0.5459) && most.interval, "{most:?}");
    assert!((ours.value - 0.5189).abs() < 0.001 && ours.samples == 6, "{ours:?}");
    assert_eq!(traffic.runs.len(), 12);
    assert!(!found.lacks_evidence() && found.sound());
}

#[test]
fn pages_are_as_they_were() {
    let claims = bhardwaj();
    let mut all = vec![data(&plan("paper"), usual)];
    let found = Reproduction::of(&claims, &all);
    insta::assert_snapshot!("reproduce_terminal", terminal(&ReproductionPage::whole(&claims, &found), 100));
    all.push(varied());
    let found = Reproduction::of(&claims, &all);
    let page = ReproductionPage::whole(&claims, &found);
    insta::assert_snapshot!("reproduce_sensitivity_terminal", terminal(&page, 100));
    insta::assert_snapshot!("reproduce_sensitivity_markdown", markdown(&page));
    for line in terminal(&page, 100).lines() {
        let copied = line.starts_with("  migbench");
        assert!(copied || line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
    for page in [terminal(&page, 100), markdown(&page)] {
        // Only to say that it is not said.
        assert_eq!(page.matches("reproduced").count(), 1, "{page}");
    }
}

#[test]
fn a_capped_baseline_gives_neither_a_reduction_nor_a_ceiling() {
    let capped = |comparison: &str, engine, repetition| RunFigures {
        capped: comparison.starts_with("write") && engine == Engine::Full && repetition == 3,
        ..usual(comparison, engine, repetition)
    };
    let found = Reproduction::of(&bhardwaj(), &[data(&plan("paper"), capped)]);
    let traffic = &found.findings[5];
    assert_eq!((traffic.verdict, traffic.ours, traffic.reachable), (Reach::NoEvidence, None, None));
    assert!(traffic.remarks[0].contains("5 of 6 runs did"), "{:?}", traffic.remarks);
    assert!(found.lacks_evidence());
    assert_eq!(found.findings[2].verdict, Reach::Unreachable, "the other comparison keeps its verdict");
}

/// Those of a row that converged all the same are no sample of it.
#[test]
fn a_capped_row_gives_no_reduction() {
    let capped = |comparison: &str, engine, repetition| RunFigures {
        capped: comparison.starts_with("write") && engine == Engine::Delta && repetition == 3,
        ..usual(comparison, engine, repetition)
    };
    let found = Reproduction::of(&bhardwaj(), &[data(&plan("paper"), capped)]);
    let traffic = &found.findings[5];
    assert_eq!(traffic.ours, None);
    assert!(traffic.reachable.is_some(), "the ceiling is the baseline's");
    assert!(traffic.remarks[0].contains("(5 of 6 runs did), and those that did are no fair sample"));
    let mut varied = varied();
    for record in varied.records.iter_mut().filter(|record| record.cell.engine == Engine::Delta) {
        if record.comparison == "pressure(0.1)" {
            record.status = crate::record::Status::Capped;
        }
    }
    let found = Reproduction::of(&bhardwaj(), &[varied]);
    let points = &found.sensitivity.as_ref().unwrap().metrics[2].points;
    let point = points.iter().find(|point| point.name == "pressure(0.1)").unwrap();
    assert_eq!((point.ours.as_ref(), point.missing.as_deref()), (None, Some("delta converged 0/2")));
    assert!(point.most.is_some(), "the ceiling is the baseline's");
}

#[test]
fn runs_of_two_directories_are_not_mixed_and_other_cells_are_reported() {
    let plan = plan("paper");
    let mut short = data(&plan, usual);
    short.path = PathBuf::from("results/short");
    short.records.truncate(12);
    let mut whole = data(&plan, usual);
    for comparison in &mut whole.manifest.comparisons {
        for planned in &mut comparison.cells {
            planned.cell.vcpus = 2;
        }
    }
    whole.records.iter_mut().for_each(|record| record.cell.vcpus = 2);
    let found = Reproduction::of(&bhardwaj(), &[whole, short]);
    let finding = &found.findings[0];
    assert_eq!((finding.directory.as_deref(), finding.runs.len()), (Some("results/paper"), 12));
    let remarks = finding.remarks.join("\n");
    assert!(remarks.contains("NOT THOSE OF THE SUITE: vcpus 2 (in the suite 1)"), "{remarks}");
    assert!(remarks.contains("results/short not used"), "{remarks}");
}

/// Full pages do not converge at 1.2 times the link; most else is as at the base point.
fn varied() -> RunData {
    let mut data = data(&plan("paper-sensitivity"), |comparison, engine, repetition| {
        let run = usual("write", engine, repetition);
        let again = |share: f64| {
            let share = if engine == Engine::Delta { share * 0.05 } else { share };
            RunFigures { traffic: FIRST_BYTES * (1.0 + share), time: FIRST_TIME * (1.0 + share), ..run }
        };
        match comparison {
            "pressure(0.1)" => again(0.1),
            "pressure(0.95)" => again(4.0),
            "pressure(1.2)" => RunFigures { capped: engine == Engine::Full, ..again(9.0) },
            _ => run,
        }
    });
    data.records.retain(|record| record.comparison != "memory 4GiB");
    data
}

#[test]
fn one_factor_at_a_time_shows_where_a_figure_can_be_reached() {
    let found = Reproduction::of(&bhardwaj(), &[varied()]);
    let sensitivity = found.sensitivity.as_ref().unwrap();
    let metrics: Vec<_> = sensitivity.metrics.iter().map(|one| one.metric.as_str()).collect();
    assert_eq!(metrics, ["downtime", "total_time", "traffic"]);
    let traffic = &sensitivity.metrics[2];
    let at = |name: &str| traffic.points.iter().find(|point| point.name == name).unwrap();
    let words = |name: &str| at(name).verdicts.iter().map(|verdict| verdict.word()).collect::<Vec<_>>();
    // 74.21 % and 51.37 %, in this order.
    assert_eq!(words("base point"), ["unreachable", "reachable"]);
    assert_eq!(words("pressure(0.1)"), ["unreachable", "unreachable"]);
    assert_eq!(words("pressure(0.95)"), ["reachable", "reachable"]);
    assert_eq!(words("pressure(1.2)"), ["no evidence", "no evidence"]);
    assert_eq!(at("pressure(1.2)").missing.as_deref(), Some("baseline converged 0/2"));
    assert_eq!(at("memory 4GiB").missing.as_deref(), Some("no timed run of the baseline ended"));
    // The cells themselves say what was varied.
    let memory = ("memory".to_owned(), "1 GiB".to_owned(), "512 MiB".to_owned());
    assert_eq!(at("memory 1GiB").differs, [memory]);
    assert!(
        traffic.summary[0]
            .starts_with("read-traffic, 74.21 %: reachable at 1 (pressure(0.95)); unreachable at ")
    );
    // The claims themselves have no run here.
    assert!(found.lacks_evidence());
}

#[test]
fn every_point_of_the_sensitivity_suite_varies_one_factor() {
    let found = Reproduction::of(&bhardwaj(), &[varied()]);
    for point in &found.sensitivity.unwrap().metrics[0].points {
        let keys: std::collections::BTreeSet<_> = point
            .differs
            .iter()
            .map(|(path, ..)| match path.strip_prefix("settings.") {
                Some(rest) => rest.split('.').next().unwrap(),
                None => path.as_str(),
            })
            .collect();
        // A guest that writes faster than the link carries is cut off earlier, which its suite says.
        let allowed = if point.name == "pressure(1.2)" { 2 } else { 1 };
        let base = usize::from(point.name != "base point");
        assert!(keys.len() >= base && keys.len() <= allowed, "{}: {keys:?}", point.name);
    }
}

#[test]
fn values_and_convergence_are_judged_by_all_rows() {
    let claims = Claims::find("clark2005", &metrics()).unwrap();
    let found = Reproduction::of(
        &claims,
        &[data(&plan("clark2005"), |comparison, _, repetition| match comparison {
            "memory writer" => RunFigures {
                traffic: FIRST_BYTES * 2.5,
                time: 20.0,
                downtime: if repetition == 1 { 2.1 } else { 4.3 },
                capped: true,
            },
            _ => RunFigures { traffic: FIRST_BYTES * 1.2, time: 8.0, downtime: 0.19, capped: false },
        })],
    );
    assert_eq!(
        verdicts(&found),
        [
            ("writer-amplification", "reachable"),
            ("writer-downtime", "reachable"),
            ("web-amplification", "unreachable"),
            // 165 to 210 ms, of which ours are a point.
            ("web-downtime", "undecided"),
        ]
    );
    assert!(found.findings[0].remarks.iter().any(|remark| remark.contains("cut off by a limit and count")));

    let claims = Claims::find("xbzrle-doc", &metrics()).unwrap();
    let found = Reproduction::of(
        &claims,
        &[data(&plan("xbzrle-doc"), |_, engine, _| RunFigures {
            traffic: FIRST_BYTES,
            time: 2.4,
            downtime: 0.01,
            capped: engine == Engine::Full,
        })],
    );
    assert_eq!(verdicts(&found), [("plain", "same"), ("xbzrle", "same"), ("xbzrle-time", "unreachable")]);
    assert_eq!(found.findings[0].shown().as_deref(), Some("0 of 3 runs"));
    insta::assert_snapshot!(
        "reproduce_convergence_terminal",
        terminal(&ReproductionPage::results(&claims, &found), 100)
    );
}

#[test]
fn without_runs_there_is_no_verdict() {
    let found = Reproduction::of(&bhardwaj(), &[]);
    assert!(found.findings.iter().all(|finding| finding.verdict == Reach::NoEvidence));
    assert!(found.lacks_evidence() && found.sensitivity.is_none());
    assert!(found.findings[0].remarks[0].contains("migbench run paper --filter"));
}

#[test]
fn damage_stands_on_the_page() {
    let mut damaged = data(&plan("paper"), usual);
    damaged.records[7].guest_checked = Some(false);
    let claims = bhardwaj();
    let found = Reproduction::of(&claims, &[damaged]);
    assert!(!found.sound());
    let page = terminal(&ReproductionPage::results(&claims, &found), 100);
    assert!(page.contains("!! GUEST STATE WAS WRONG in 1 run"), "{page}");
}

#[test]
fn a_directory_of_run_directories_is_looked_into() {
    let scratch = tempfile::tempdir().unwrap();
    let plan = plan("paper");
    for name in ["one", "two"] {
        let data = data(&plan, usual);
        let mut directory =
            crate::store::RunDirectory::begin(scratch.path().join(name), &data.manifest).unwrap();
        directory.append(&data.records[0]).unwrap();
    }
    let gather = |path: &Path| gather(&[path.to_owned()], crate::store::Accept::Guests);
    assert_eq!(gather(scratch.path()).unwrap().len(), 2);
    assert_eq!(gather(&scratch.path().join("one")).unwrap().len(), 1);
    let error = gather(&scratch.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("is this a run directory?"), "{error}");
}

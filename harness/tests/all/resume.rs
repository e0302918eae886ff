//! Interrupted suites on the simulated testbed: wherever one was cut off, what is finished later is what an
//! uninterrupted one would have left.

use std::path::{Path, PathBuf};

use migbench::runner::simulated::{SimulatedTestbed, Simulation};
use migbench::runner::suite::{Job, Listener, SuiteRunError, run_plan};
use migbench_reports::manifest::Manifest;
use migbench_reports::store::{Accept, RunData};
use migbench_scenarios::{Overrides, Plan, Suite};
use proptest::prelude::*;

fn plan(repeat: u32) -> Plan {
    let mut suite = Suite::find("quick").unwrap();
    suite.apply(&Overrides { repeat: Some(repeat), ..Overrides::default() }).unwrap();
    suite.expand().unwrap()
}

/// Hears nothing.
struct Deaf;

impl Listener for Deaf {}

fn job(plan: Plan, directory: &Path, resume: bool) -> Job {
    Job {
        plan,
        slice: None,
        suite_text: "name = \"quick\"".to_owned(),
        directory: directory.to_owned(),
        resume,
        command: vec!["migbench".to_owned(), "run".to_owned()],
        rest: String::new(),
        fault: None,
        planted: None,
        passes: None,
        time_limit: None,
        // A simulation starts no nodes; it is hashed, and small.
        binary: concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(),
    }
}

fn simulate(job: &Job, spec: &str) -> Result<usize, SuiteRunError> {
    let simulation: Simulation = spec.parse().unwrap();
    run_plan(job, &mut SimulatedTestbed::new(simulation), &mut Deaf)
}

fn runs(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("runs.jsonl")).unwrap()
}

fn manifest(directory: &Path) -> Manifest {
    RunData::load_as(directory, Accept::Simulated).unwrap().manifest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Interrupted any number of times after any numbers of runs, each time with any part of the file gone from its end.
    #[test]
    fn what_is_resumed_is_what_was_never_interrupted(
        interruptions in prop::collection::vec((0_usize..14, prop_oneof![Just(0.0), Just(1e-9), 0.0..1.0_f64]), 1..4),
        fail in 0_usize..12,
        drift in prop_oneof![Just(0.0), Just(0.09)],
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let (whole, parts) = (scratch.path().join("whole"), scratch.path().join("parts"));
        let host = format!("fail={fail},drift={drift},noise=0.05");
        simulate(&job(plan(2), &whole, false), &host).unwrap();
        let due = runs(&whole);
        for (attempt, (after, cut)) in interruptions.iter().enumerate() {
            let kept = if attempt == 0 { 0 } else {
                RunData::load_as(&parts, Accept::Simulated).unwrap().records.len()
            };
            let outcome = simulate(&job(plan(2), &parts, attempt > 0), &format!("{host},interrupt={after}"));
            if kept + after < 12 {
                prop_assert!(matches!(outcome, Err(SuiteRunError::Interrupted { done, planned: 12, .. })
                    if done == kept + after), "{outcome:?}");
            } else {
                prop_assert!(outcome.is_ok(), "{outcome:?}");
            }
            let text = runs(&parts);
            prop_assert!(due.starts_with(&text), "nothing but the first runs in their order");
            // As a file system may leave it after a crash: the end is missing, mostly in the middle of a line.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a file")]
            let lost = (cut * text.len() as f64).ceil() as usize;
            std::fs::write(parts.join("runs.jsonl"), &text[..text.len() - lost]).unwrap();
        }
        simulate(&job(plan(2), &parts, true), &host).unwrap();
        prop_assert!(runs(&parts) == due, "cells, repetitions, order and every figure");
        let (one, other) = (manifest(&whole), manifest(&parts));
        prop_assert!(other.resumptions.len() <= interruptions.len());
        prop_assert_eq!(Manifest { resumptions: Vec::new(), ..other }, one);
    }
}

/// A directory with the first three runs.
fn begun() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("run");
    simulate(&job(plan(1), &directory, false), "interrupt=3").unwrap_err();
    // In the middle of the third.
    let text = runs(&directory);
    std::fs::write(directory.join("runs.jsonl"), &text[..text.len() - 50]).unwrap();
    (scratch, directory)
}

/// Refused for what differs in `what`, with nothing changed.
#[track_caller]
fn assert_refused(directory: &Path, plan: Plan, spec: &str, what: &str) {
    let files = || {
        let manifest = std::fs::read(directory.join("manifest.json")).unwrap();
        (runs(directory), manifest, std::fs::read_dir(directory).unwrap().count())
    };
    let before = files();
    let error = simulate(&job(plan, directory, true), spec).unwrap_err();
    assert!(error.is_incomparable(), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("its {what} was ")) && text.contains("start anew"), "{text}");
    assert_eq!(files(), before, "a directory that is refused stays as it was");
}

#[test]
fn another_plan_is_refused() {
    let (_scratch, directory) = begun();
    assert_refused(&directory, plan(2), "", "plan");
    let mut other = plan(1);
    other.order.swap(4, 5);
    assert_refused(&directory, other, "", "plan");
    let mut other = plan(1);
    other.comparisons[0].cells[0].cell.timing = false;
    assert_refused(&directory, other, "", "plan");
    simulate(&job(plan(1), &directory, true), "").unwrap();
}

#[test]
fn another_host_is_refused() {
    let (_scratch, directory) = begun();
    for (spec, what) in
        [("host=other", "host name"), ("cpu-name=other", "CPU"), ("cores=8", "number of CPUs")]
    {
        assert_refused(&directory, plan(1), spec, what);
    }
    simulate(&job(plan(1), &directory, true), "").unwrap();
}

#[test]
fn another_program_and_another_backend_are_refused() {
    let (_scratch, directory) = begun();
    let path = directory.join("manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    for (from, to, what) in [
        (r#""version": ""#, r#""version": "9"#, "migbench"),
        (r#""backend": "simulated""#, r#""backend": "kvm""#, "backend"),
    ] {
        let other = manifest.replace(from, to);
        assert_ne!(manifest, other);
        std::fs::write(&path, other).unwrap();
        assert_refused(&directory, plan(1), "", what);
    }
    std::fs::write(&path, manifest).unwrap();
    simulate(&job(plan(1), &directory, true), "").unwrap();
}

#[test]
fn a_host_that_lost_a_tracker_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("run");
    let plan = || Suite::find("trackers").unwrap().expand().unwrap();
    simulate(&job(plan(), &directory, false), "interrupt=3").unwrap_err();
    assert_refused(&directory, plan(), "without=kvm-ring", "list of cells that are left out");
}

#[test]
fn what_disturbs_the_rest_is_kept_with_it() {
    let (_scratch, directory) = begun();
    simulate(&job(plan(1), &directory, true), "load=9").unwrap();
    let resumption = &manifest(&directory).resumptions[0];
    assert_eq!(resumption.records, 2, "the third was cut off");
    assert!(resumption.disturbances[0].contains("other processes use 9.00 of 4 CPUs"), "{resumption:?}");
    let report = migbench_reports::report::Report::load_as(&directory, Accept::Simulated).unwrap();
    assert!(report.markdown().contains("when the suite was resumed after 2 runs, other processes"));
    // Nothing is left to do, and nothing is added.
    let (before, text) = (manifest(&directory), runs(&directory));
    simulate(&job(plan(1), &directory, true), "load=9").unwrap();
    assert_eq!((manifest(&directory), runs(&directory)), (before, text));
}

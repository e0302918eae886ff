//! The order of execution: every step of the runner, from the lock to the end, as it writes them down.

use std::path::Path;

use crate::support::{CommandOutcome, Migbench, require_kvm};
use migbench::node::protocol::Role;
use migbench::runner::run::Moment;
use migbench::runner::simulated::SimulatedTestbed;
use migbench::runner::suite::{Job, Listener, Step, run_plan};
use migbench_reports::record::Status;

/// Two engines and a control, each verified and timed once.
const SUITE: &str = r#"
name = "order"
description = "two engines and a control, as little as is a suite"
seed = 1
repetitions = 1

[defaults]
memory = "32MiB"
settings.working_set = "8MiB"
windows = { steady = "50ms", after = "50ms", control = "100ms", warmup_max = "150ms" }

[[comparison]]
axes = { workload = ["write-heavy"], engine = ["full", "delta", "none"] }
compare = "engine"
baseline = "full"
"#;

/// Works the suite off with `arguments`; gives the steps.
fn steps(scratch: &Path, arguments: &[&str]) -> (CommandOutcome, Vec<String>) {
    let of = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    let (suite, steps) = (of("order.toml"), of("steps"));
    std::fs::write(&suite, SUITE).unwrap();
    let outcome =
        Migbench::new().args(["run", &suite, "-o", &of("run"), "--steps", &steps]).args(arguments).run();
    (outcome, std::fs::read_to_string(steps).unwrap().lines().map(str::to_owned).collect())
}

/// A migration as the runner sees it, between its first line and its record.
const MIGRATION: &[&str] = &[
    "start destination",
    "start source",
    "listening",
    "steady",
    "migrate",
    "round 0",
    "report source",
    "closed source",
    "report destination",
    "closed destination",
];
/// The same of a control.
const CONTROL: &[&str] = &["start source", "steady", "migrate", "report source", "closed source"];

/// What the suite does with its timed run of `full`, number 4, ending as `fourth` says, and `failed` failures in all.
fn expected(fourth: &str, failed: usize) -> Vec<String> {
    let migration = |number, id: &str, record: &str| run(number, id, MIGRATION, record);
    let control = |number| run(number, "write-heavy/none", CONTROL, "ok");
    let parts: Vec<Vec<String>> = vec![
        ["lock", "admit", "disturbances 0", "create", "canary 0"].map(str::to_owned).to_vec(),
        migration(0, "write-heavy/delta", "ok verified"),
        control(1),
        migration(2, "write-heavy/full", "ok verified"),
        vec!["canary 1".to_owned()],
        migration(3, "write-heavy/delta", "ok"),
        migration(4, "write-heavy/full", fourth),
        control(5),
        vec![format!("end {failed}")],
    ];
    parts.concat()
}

fn run(number: usize, id: &str, moments: &[&str], record: &str) -> Vec<String> {
    let first = std::iter::once(format!("run {number} {id}"));
    let last = [format!("record {record}"), format!("write {number}")];
    first.chain(moments.iter().map(|&moment| moment.to_owned())).chain(last).collect()
}

#[test]
fn every_step_comes_in_its_order_and_a_failure_is_reported_at_the_end() {
    let scratch = tempfile::tempdir().unwrap();
    let (outcome, steps) = steps(scratch.path(), &["--simulate"]);
    assert_eq!(steps, expected("ok", 0));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);

    let scratch = tempfile::tempdir().unwrap();
    let (outcome, steps) = self::steps(scratch.path(), &["--simulate=fail=4"]);
    assert_eq!(steps, expected("failed", 1), "the suite goes on, and ends as it would have");
    assert_eq!(outcome.status, 1, "{}", outcome.stdout);
    assert!(outcome.stdout.contains("full (baseline)"), "there is a report all the same");
}

#[test]
fn a_run_that_hangs_is_given_up_and_the_suite_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let (outcome, steps) = steps(scratch.path(), &["--simulate=hang=4"]);
    let mut due = expected("failed", 1);
    let ordered = due.iter().position(|step| step.starts_with("run 4")).unwrap() + 5;
    due.splice(ordered + 1..ordered + 6, ["timeout".to_owned()]);
    assert_eq!(steps, due);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("failed in timeout: "), "{}", outcome.stderr);
}

#[test]
fn an_interruption_ends_the_suite_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let (outcome, steps) = steps(scratch.path(), &["--simulate=interrupt=1"]);
    let mut due = expected("ok", 0);
    due.truncate(due.iter().position(|step| step.starts_with("run 1")).unwrap() + 2);
    due.push("interrupted".to_owned());
    assert_eq!(steps, due);
    assert_eq!(outcome.status, 130);
    assert!(outcome.stderr.contains("interrupted: 1 of 6 records are kept"), "{}", outcome.stderr);
}

/// What the simulation plays is what real nodes do.
#[test]
#[ignore = "more than a few seconds"]
fn real_runs_take_the_same_steps() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let (outcome, mut steps) = steps(scratch.path(), &["--repeat", "1"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    // How busy the host is, which node is ready first, and which rounds it hears of (at most two a second) are no matter of
    // the runner.
    steps
        .iter_mut()
        .filter(|step| step.starts_with("disturbances "))
        .for_each(|step| *step = "disturbances 0".into());
    steps.retain(|step| !step.starts_with("round "));
    let unordered = |steps: &mut [String]| {
        for at in 1..steps.len() {
            if (steps[at - 1].as_str(), steps[at].as_str()) == ("steady", "listening") {
                steps.swap(at - 1, at);
            }
        }
        let report = |step: &String| step.starts_with("report ") || step.starts_with("closed ");
        steps.chunk_by_mut(|a, b| report(a) && report(b)).filter(|part| part.len() > 1).for_each(<[_]>::sort);
    };
    let mut due = expected("ok", 0);
    due.retain(|step| !step.starts_with("round "));
    unordered(&mut steps);
    unordered(&mut due);
    assert_eq!(steps, due);
}

/// Looks at the file of records at each step.
struct StepWatch {
    file: std::path::PathBuf,
    written: usize,
}

impl Listener for StepWatch {
    fn step(&mut self, step: Step<'_>) {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        match step {
            Step::Run { .. } | Step::Recorded(_) => assert_eq!(text.lines().count(), self.written, "{step}"),
            Step::Written(record) => {
                self.written += 1;
                assert_eq!(text.lines().count(), self.written, "each is written before the next one starts");
                assert!(text.ends_with('\n'));
                let last = text.lines().last().unwrap();
                assert!(last.contains(&format!("\"run_id\":\"{}\"", record.run_id)), "{last}");
                assert_eq!(record.status == Status::Failed, record.order == 2, "{}", record.run_id);
            }
            Step::In(Moment::Started(Role::Source)) => assert_eq!(text.lines().count(), self.written),
            _ => {}
        }
    }
}

#[test]
fn each_record_is_in_the_file_before_the_next_run_starts() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("run");
    let mut watch = StepWatch { file: directory.join("runs.jsonl"), written: 0 };
    let job = Job {
        plan: migbench_scenarios::Suite::find("quick").unwrap().expand().unwrap(),
        slice: None,
        suite_text: String::new(),
        directory,
        resume: false,
        command: vec!["migbench".to_owned()],
        rest: String::new(),
        fault: None,
        planted: None,
        passes: None,
        time_limit: None,
        // A simulation starts no nodes; it is hashed, and small.
        binary: concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(),
    };
    let failed = run_plan(&job, &mut SimulatedTestbed::new("fail=2".parse().unwrap()), &mut watch).unwrap();
    assert_eq!((failed, watch.written), (1, 28));
}

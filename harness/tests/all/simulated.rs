//! Suites on the simulated testbed, through the binary: what its records are like, and who reads them.

use std::path::Path;

use crate::support::{CommandOutcome, Migbench, metric, migbench, validated};
use migbench_reports::record::{Backend, Record, RunKind, Status};
use migbench_scenarios::cell::{Codec, Engine, Proof, Throttle};

/// Works `suite` off, simulated as `spec` says, and gives the records.
fn simulate(suite: &str, spec: &str, output: &Path) -> (CommandOutcome, Vec<Record>) {
    // A schema takes longer to read than a suite to simulate: one record of each suite stands for all.
    let flag = format!("--simulate={spec}");
    let outcome = migbench(&["run", suite, &flag, "-o", output.to_str().unwrap()]);
    let text = std::fs::read_to_string(output.join("runs.jsonl"))
        .unwrap_or_else(|error| panic!("{error}: {}", outcome.stderr));
    let first = text.lines().take(1).map(validated);
    let others = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap());
    (outcome, first.chain(others).collect())
}

/// Two sums of floating-point numbers, or sums of whole nanoseconds.
#[track_caller]
fn assert_same(record: &Record, what: &str, sum: f64, whole: f64) {
    let near = (sum - whole).abs() <= 1e-6 * whole.abs().max(1e-3);
    assert!(near, "{}: {what}: {sum} against {whole}", record.run_id);
}

/// What holds of every record of a migration that ended, real or not.
fn assert_consistent(record: &Record) {
    let of = |name: &str| metric(record, name);
    let sum = |names: &[&str]| names.iter().map(|name| of(name)).sum::<f64>();
    let downtime =
        ["downtime_pause", "downtime_harvest", "downtime_send", "downtime_state", "downtime_resume"];
    assert_same(record, "downtime", sum(&downtime), of("downtime"));
    assert!(of("setup_time") + of("downtime") < of("total_time"), "{}", record.run_id);
    let mut traffic = vec!["traffic_full", "traffic_zero", "traffic_state", "traffic_control"];
    if record.cell.codec != Codec::None {
        traffic.push("traffic_delta");
    }
    assert_same(record, "traffic", sum(&traffic), of("traffic"));
    assert_same(record, "A", of("amplification"), of("traffic") / of("first_round_bytes"));
    assert_eq!(of("rounds") + 1.0, record.rounds.len() as f64);
    let rounds = |f: fn(&migbench_reports::record::Round) -> Option<f64>| {
        record.rounds.iter().filter_map(f).sum::<f64>()
    };
    assert_same(record, "encoding", rounds(|r| r.encode_time), of("encode_time"));
    // The harvest that led to the pause is no round's.
    assert!(rounds(|r| r.harvest_time) <= of("harvest_time"), "{}", record.run_id);
    assert_same(record, "pages", rounds(|r| Some(r.pages_full as f64)), of("pages_full"));
    assert!(rounds(|r| Some(r.traffic as f64)) < of("traffic"), "the state comes on top");
    assert!(record.rounds.last().unwrap().paused);
    assert!(record.rounds.is_sorted_by(|a, b| a.start + 0.999 * a.duration <= b.start), "{}", record.run_id);
    // The guest stands still from the pause of its last vCPU on, and samples are a millisecond apart.
    let still = of("downtime") - of("downtime_pause");
    assert!((still..still + 3e-3).contains(&of("blackout")), "{}: {}", record.run_id, of("blackout"));
    let due = record.kind == RunKind::Verification || record.cell.proof == Proof::Every;
    assert_eq!(record.verified, due.then_some(true), "{}", record.run_id);
    assert_eq!(record.guest_checked, Some(true));
    if record.cell.timing {
        assert!(record.histograms.get().keys().any(|key| key.ends_with("/switchover")));
        assert!(record.stalls.get().as_ref().as_ref().is_some_and(|stalls| !stalls.list.is_empty()));
    }
    assert!(!record.timeline.get().operations.is_empty() && !record.timeline.get().events.is_empty());
}

/// Suites of every kind of cell.
const SUITES: [&str; 4] = ["quick", "nightly", "trackers", "workloads"];

#[test]
fn records_of_every_suite_are_whole_and_add_up() {
    for suite in SUITES {
        let scratch = tempfile::tempdir().unwrap();
        let (outcome, records) = simulate(suite, "noise=0.05", &scratch.path().join("run"));
        assert_eq!(outcome.status, 0, "{suite}: {}", outcome.stderr);
        assert!(!records.is_empty());
        for record in &records {
            assert_eq!(record.backend, Backend::Simulated);
            assert!(record.error.is_none() && metric(record, "canary_copy") > 0.0);
            assert!(metric(record, "throughput_steady") > 0.0, "{}", record.run_id);
            if record.cell.engine.migrates() {
                assert_consistent(record);
            }
        }
    }
}

#[test]
fn a_throttled_guest_sleeps_writes_less_and_does_less() {
    let scratch = tempfile::tempdir().unwrap();
    let (outcome, records) = simulate("throttle", "noise=0.0", &scratch.path().join("run"));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let of = |throttle| {
        let is_one = move |record: &&Record| {
            record.comparison == "open loop, full"
                && record.kind == RunKind::Timed
                && record.cell.throttle == throttle
        };
        records.iter().find(is_one).unwrap()
    };
    let free = of(Throttle::None);
    assert!(free.throttled.is_empty() && !free.metrics.contains_key("throttled_time"));
    let left = |record: &Record| record.rounds.last().unwrap().dirty_pages;
    for throttle in [Throttle::AutoConverge, Throttle::DirtyLimit, Throttle::Quota] {
        let slowed = of(throttle);
        assert!(slowed.throttled.len() == 1 && metric(slowed, "throttled_time") > 0.1, "{throttle}");
        assert!(left(slowed) < left(free), "{throttle}: {} pages, {} without", left(slowed), left(free));
        let work = |record| metric(record, "throughput_precopy");
        assert!(work(slowed) < work(free), "{throttle}");
    }
}

#[test]
fn real_runs_have_the_metrics_that_simulated_ones_have() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/reference/quick/runs.jsonl");
    let real: Vec<Record> = std::fs::read_to_string(reference).unwrap().lines().map(validated).collect();
    let scratch = tempfile::tempdir().unwrap();
    let (_, records) = simulate("quick", "", &scratch.path().join("run"));
    for engine in [Engine::Full, Engine::Delta] {
        let of = |records: &[Record]| {
            let mut of_engine =
                records.iter().filter(|r| r.cell.engine == engine && r.kind == RunKind::Timed);
            let record = of_engine.next().unwrap();
            let metrics = record.metrics.iter().map(|(name, metric)| (name.clone(), metric.unit.clone()));
            (metrics.collect::<Vec<_>>(), record.histograms.get().keys().cloned().collect::<Vec<_>>())
        };
        let ((real, _), (simulated, histograms)) = (of(&real), of(&records));
        assert_eq!(real, simulated, "{engine}");
        assert!(histograms.len() >= 18, "{histograms:?}");
    }
}

#[test]
fn nobody_reads_simulated_runs_unless_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    let (outcome, _) = simulate("quick", "", &run);
    assert!(outcome.stdout.contains("simulated, no guest ran"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("warning: simulated: no guest ran"), "{}", outcome.stdout);
    let (run, exports) = (run.to_str().unwrap(), scratch.path().join("exports"));
    for command in [
        vec!["report", run],
        vec!["show", run],
        vec!["compare", run, run],
        vec!["export", run, "--format", "bmf", "-o", exports.to_str().unwrap()],
    ] {
        let refused = migbench(&command);
        assert_eq!((refused.status, refused.stdout.as_str()), (2, ""), "{command:?}");
        assert!(refused.stderr.contains("holds simulated runs"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("panicked"));
        let asked = migbench(&[&command[..], &["--simulated"]].concat());
        assert_eq!(asked.status, 0, "{command:?}: {}", asked.stderr);
        let help = migbench(&[command[0], "--help"]).stdout;
        assert!(!help.contains("--simulated"), "a matter of tests alone");
    }
    assert!(!migbench(&["run", "--help"]).stdout.contains("simulate"));
}

#[test]
fn what_is_simulated_follows_from_the_seeds() {
    let scratch = tempfile::tempdir().unwrap();
    let read = |name: &str, spec: &str| {
        let run = scratch.path().join(name);
        simulate("quick", spec, &run);
        std::fs::read_to_string(run.join("runs.jsonl")).unwrap()
    };
    let first = read("a", "noise=0.1");
    assert_eq!(first, read("b", "noise=0.1"));
    assert_ne!(first, read("c", "noise=0.1,seed=1"));
}

#[test]
fn a_disturbed_host_is_reported_before_and_flagged_after() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    let (outcome, records) = simulate("quick", "load=3,steal=0.2,slow-block=3,throttle=5", &run);
    let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap();
    // Lines of a terminal are broken anywhere.
    let reported = outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for (text, remedy) in [
        ("other processes use 3.00 of 4 CPUs, most of it another program (1)", "wait until they have ended"),
        ("20 % of the CPU time is stolen", "measure when its host is quieter"),
    ] {
        let warned = outcome.stderr.lines().find(|line| line.starts_with("warning: ") && line.contains(text));
        assert!(warned.is_some_and(|line| line.contains(remedy)), "{text}: {}", outcome.stderr);
        assert!(manifest.contains(text) && reported.contains(text), "{text}: {reported}");
    }
    for record in &records {
        let flagged = |flag: &str| record.flags.iter().any(|found| found == flag);
        assert!(flagged("cpu_stolen"), "{}", record.run_id);
        // That is for reports to judge, from what the canary found before each block.
        assert!(!flagged("host_moved"), "{}", record.run_id);
        let canary = record.canary.as_ref().unwrap();
        assert_eq!((canary.copy.len(), canary.socket.len()), (9, 9));
        assert_eq!(flagged("cpu_throttled"), record.order == 5, "{}", record.run_id);
        for noise in ["canary_copy", "canary_socket", "steal_time", "vcpu_run_delay", "engine_run_delay"] {
            metric(record, noise);
        }
    }
    for flag in ["cpu_stolen", "host_moved", "cpu_throttled"] {
        assert!(outcome.stdout.contains(flag), "{flag}: {}", outcome.stdout);
    }
    let timed = records.iter().filter(|record| record.repetition > 0).count();
    let slow = records.iter().filter(|record| record.repetition == 3).count();
    assert!(reported.contains(&format!("host_moved in {slow} of {timed} timed runs")), "{reported}");
    let one = records.iter().find(|record| record.repetition == 3).unwrap();
    let shown =
        Migbench::new().args(["show", run.to_str().unwrap(), &one.run_id, "--simulated"]).run().stdout;
    assert!(shown.contains("flags: ") && shown.contains("host_moved"), "{shown}");
    assert!(shown.contains("of the median of all blocks before this one"), "{shown}");
}

#[test]
fn a_quiet_host_is_not_flagged() {
    let scratch = tempfile::tempdir().unwrap();
    // A tenth is what a small virtual machine's runs vary by.
    for (name, simulation) in [("run", ""), ("noisy", "noise=0.1,seed=4")] {
        let (outcome, records) = simulate("quick", simulation, &scratch.path().join(name));
        assert!(records.iter().all(|record| record.flags.is_empty()));
        assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
        assert!(!outcome.stdout.contains("host_moved"), "{}", outcome.stdout);
    }
}

#[test]
fn a_simulation_waits_for_nobody_but_for_the_lock_that_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let lock = scratch.path().join("lock");
    let file = std::fs::File::create(&lock).unwrap();
    let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let run = scratch.path().join("run");
    let arguments = ["run", "quick", "--simulate", "-o", run.to_str().unwrap()];
    let with = || Migbench::new().args(arguments).env("MIGBENCH_LOCK", lock.to_str().unwrap()).run();
    let refused = with();
    assert_eq!((refused.status, run.exists()), (6, false), "{}", refused.stderr);
    assert!(refused.stderr.contains("another migbench measures on this host"), "{}", refused.stderr);
    drop(held);
    assert_eq!(with().status, 0);
}

#[test]
fn factors_move_what_they_name_and_no_more() {
    let scratch = tempfile::tempdir().unwrap();
    let mut number = 0;
    let mut of = |spec: &str, name: &str| -> Vec<f64> {
        number += 1;
        let (_, records) = simulate("quick", spec, &scratch.path().join(number.to_string()));
        let timed = |r: &&Record| {
            r.kind == RunKind::Timed && r.comparison == "write-heavy" && r.cell.engine == Engine::Delta
        };
        records.iter().filter(timed).map(|record| metric(record, name)).collect()
    };
    for (factor, name, ratio) in [
        ("total_time=1.2", "total_time", 1.2),
        ("delta.downtime=1.5", "downtime", 1.5),
        ("full.downtime=1.5", "downtime", 1.0),
        ("traffic=1.1", "traffic", 1.1),
        ("resume=2", "downtime_resume", 2.0),
        ("harvest=1.3", "harvest_time", 1.3),
        ("decode=1.3", "decode_time", 1.3),
        ("cpu=1.4", "cpu_source", 1.4),
        ("memory=1.1", "memory_source", 1.1),
    ] {
        let (plain, moved) = (of("noise=0", name), of(&format!("noise=0,{factor}"), name));
        for (before, after) in plain.iter().zip(&moved) {
            assert!((after / before / ratio - 1.0).abs() < 0.02, "{factor}: {name} {before} {after}");
        }
        assert!(plain.iter().all(|value| (value / plain[0] - 1.0).abs() < 1e-6), "no noise: {plain:?}");
    }
    // With the same seed the same noise, so that a factor is all the difference.
    let (plain, moved) = (of("noise=0.1", "total_time"), of("noise=0.1,total_time=1.2", "total_time"));
    assert!(plain.iter().zip(&moved).all(|(before, after)| (after / before - 1.2).abs() < 1e-3));
}

#[test]
fn mishaps_end_as_they_should() {
    let scratch = tempfile::tempdir().unwrap();
    let spec = "fail=5,die=6,cap=7,differ=0,throttle=8";
    let (outcome, records) = simulate("quick", spec, &scratch.path().join("run"));
    assert_eq!((outcome.status, records.len()), (1, 28), "the suite goes on: {}", outcome.stderr);
    let ended = |number: usize| {
        let record = &records[number];
        let error = record.error.as_ref().map(|error| (error.phase.as_str(), format!("{:?}", error.guest)));
        (record.status, record.verified, error)
    };
    let failed = |phase, guest: &str| Some((phase, guest.to_owned()));
    assert_eq!(ended(0), (Status::Failed, Some(false), failed("verification", "Source")));
    assert_eq!(ended(1), (Status::Ok, Some(true), None));
    assert_eq!(ended(5), (Status::Failed, None, failed("precopy", "Source")));
    assert_eq!(ended(6), (Status::Failed, None, failed("precopy", "Lost")));
    assert_eq!(ended(7), (Status::Capped, None, None));
    assert_eq!(records[8].flags, ["cpu_throttled"]);
    assert!(outcome.stderr.contains("killed by signal 9"), "{}", outcome.stderr);
}

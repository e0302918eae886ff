//! Stop rules and throttles on real guests: every rule says what it knew, and a vCPU that sleeps is awake wherever the guest goes on.

use migbench_reports::record::{Cause, Decided, GuestAt, Record, Status};
use migbench_scenarios::cell::{Rule, Throttle};

use crate::support::{Migbench, metric, migbench, migrate, require_kvm};

#[test]
fn every_rule_brings_the_guest_over_and_says_what_it_knew() {
    require_kvm!();
    for (word, rule) in Rule::ALL {
        for engine in ["full", "delta"] {
            let set = format!("stop.rule={word}");
            let (outcome, record) =
                migrate(&["--engine", engine, "--verify", "--set", &set, "--set", "stop.rounds=3"]);
            assert_eq!(outcome.status, 0, "{rule}, {engine}: {}", outcome.stderr);
            assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{rule}, {engine}");
            assert_eq!(record.cell.stop.rule(), *rule);
            let (paused, running) = record.rounds.split_last().unwrap();
            assert!(paused.paused && paused.decision.is_none());
            let decisions: Vec<_> = running.iter().map(|round| round.decision.unwrap()).collect();
            let (last, before) = decisions.split_last().unwrap();
            assert_ne!(last.decided, Decided::Continue, "{rule}, {engine}");
            assert!(before.iter().all(|decision| decision.decided == Decided::Continue), "{rule}, {engine}");
            // Pages come to what was decided about, and none goes.
            assert!(paused.dirty_pages >= last.pages, "{rule}, {engine}: {last:?}, {paused:?}");
            if record.status == Status::Ok && *rule != Rule::Rounds {
                assert!(last.estimate.unwrap() <= last.limit.unwrap(), "{rule}, {engine}: {last:?}");
            }
            let counts_all = !matches!(rule, Rule::Pages | Rule::Raw | Rule::Encoded);
            assert_eq!(last.overhead.is_some(), counts_all, "{rule}, {engine}: {last:?}");
            let (predicted, error) =
                (metric(&record, "downtime_predicted"), metric(&record, "prediction_error"));
            assert_eq!(Some(predicted), last.estimate);
            assert!((predicted + error - metric(&record, "downtime")).abs() < 1e-9, "{rule}, {engine}");
            if *rule == Rule::Rounds {
                assert_eq!(running.len(), 3, "{engine}");
            }
        }
    }
}

#[test]
fn what_the_guest_paid_is_in_the_record_by_its_loop() {
    require_kvm!();
    let (_, open) =
        migrate(&["--engine", "full", "--set", "settings.load=pages(2000)", "--set", "windows.after=1s"]);
    if !open.flags.contains(&"overloaded".to_owned()) && open.metrics.contains_key("recovery_time") {
        // The pause alone delays the operations that were due in it.
        assert!(metric(&open, "delay_total") > 0.0, "{:?}", open.metrics);
    }
    assert!(!open.metrics.contains_key("operations_lost"));
    let (_, closed) =
        migrate(&["--engine", "full", "--set", "settings.load=flat-out", "--set", "windows.after=1s"]);
    assert!(!closed.metrics.contains_key("delay_total"));
    // On a busy host it may not be itself again in time.
    assert_eq!(closed.metrics.contains_key("recovery_time"), closed.metrics.contains_key("operations_lost"));
}

/// A guest that writes flat out over a slow link, for a second and a half at most.
const HOT: [&str; 10] = [
    "--verify",
    "--link",
    "200Mbit/s",
    "--set",
    "settings.load=flat-out",
    "--set",
    "stop.downtime_limit=20ms",
    "--set",
    "stop.max_time=1500ms",
    "--engine",
];

fn throttled(throttle: &str, settings: &[&str], engine: &str) -> Record {
    let throttle = format!("throttle={throttle}");
    let more: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let (outcome, record) = migrate(&[&HOT[..], &[engine, "--set", &throttle], &more].concat());
    assert_eq!(outcome.status, 0, "{throttle}: {}", outcome.stderr);
    assert_eq!(
        (record.verified, record.guest_checked),
        (Some(true), Some(true)),
        "{throttle}: {:?}",
        record.error
    );
    record
}

#[test]
fn each_throttle_slows_the_guest_and_says_for_how_long() {
    require_kvm!();
    let free = throttled("none", &[], "full");
    assert!(free.throttled.is_empty() && !free.metrics.contains_key("throttled_time"));
    for (throttle, settings) in [
        // It begins late and goes far.
        ("auto-converge", &["throttle_settings.initial=0.8", "throttle_settings.trigger=0.01"][..]),
        ("dirty-limit", &["throttle_settings.dirty_rate=4Mbit/s"]),
        ("quota", &["throttle_settings.pages=1", "vcpus=2"]),
    ] {
        for engine in ["full", "delta"] {
            let record = throttled(throttle, settings, engine);
            assert_eq!(record.throttled.len(), record.cell.vcpus as usize);
            let slept = metric(&record, "throttled_time");
            assert!(
                slept > 0.0 && (slept - record.throttled.iter().sum::<f64>()).abs() < 1e-9,
                "{throttle}: {record:?}"
            );
            // No more than there was time for.
            let time = metric(&record, "total_time") * f64::from(record.cell.vcpus);
            assert!(slept < time, "{throttle}: {slept} of {time}");
            let Some(stalls) = Option::clone(&record.stalls.get()) else { continue };
            // Where the clocks can be compared, naps are the longest stalls of pre-copy.
            if stalls.clock_error.is_some() && record.cell.throttle != Throttle::None {
                let caused = stalls.list.iter().any(|stall| stall.cause == Cause::Throttle);
                assert!(caused, "{throttle}, {engine}: {:?}", stalls.list);
            }
        }
    }
}

/// Its naps would last for minutes: a vCPU that owes so much is awake as soon as nobody migrates it.
#[test]
fn no_throttle_outlives_its_migration() {
    require_kvm!();
    let slow = [
        "--set",
        "throttle=quota",
        "--set",
        "throttle_settings.pages=1",
        "--set",
        "throttle_settings.slice=1s",
    ];
    let failed: &[&str] = &["--fault", "destination:kill@precopy"];
    for more in [failed, &[]] {
        let arguments = [
            &["--engine", "full", "--set", "settings.load=flat-out", "--link", "200Mbit/s"][..],
            &slow,
            more,
        ]
        .concat();
        let (_, record) = migrate(&arguments);
        match &record.error {
            Some(error) => assert_eq!((error.guest, more.is_empty()), (GuestAt::Source, false), "{error:?}"),
            None => assert!(metric(&record, "throughput_after") > 0.0 && more.is_empty()),
        }
        assert_eq!(record.guest_checked, Some(true), "{:?}", record.error);
    }
}

#[test]
fn migrations_are_played_again_under_other_rules() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let recorded = at("recorded");
    let outcome = migbench(&["run", "quick", "--simulate", "--repeat", "2", "-o", &recorded]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let replay = format!("--simulate=replay={recorded}");
    let outcome = migbench(&["run", "quick", &replay, "--repeat", "2", "-o", &at("same")]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let said = "replay, against what was recorded under the same rule: 8 of 8 migrations stopped after the same round; of these \
                total time within 0.";
    assert!(outcome.stdout.contains(said), "{}", outcome.stdout);
    let other = ["--set", "stop.rule=rounds", "--set", "stop.rounds=2"];
    let outcome =
        migbench(&[&["run", "quick", &replay, "--repeat", "2", "-o", &at("other")][..], &other].concat());
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("replay: none of these migrations was recorded"), "{}", outcome.stdout);
    let text = std::fs::read_to_string(scratch.path().join("other/runs.jsonl")).unwrap();
    let records: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().all(|record| record.rounds.len() == 3), "two rounds and the paused one");
    // What was not recorded is not made up.
    let outcome = migbench(&["run", "quick", &replay, "--set", "memory=256MiB", "-o", &at("none")]);
    assert_eq!(outcome.status, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("no recorded migration differs from this cell"), "{}", outcome.stderr);
    let outcome =
        Migbench::new().args(["run", "quick", "--simulate=replay=/nowhere", "-o", &at("nowhere")]).run();
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("/nowhere"), "{}", outcome.stderr);
}

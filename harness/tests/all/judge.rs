//! `migbench compare`, with `--gate` and without, as CI meets them: exit statuses and what is printed. The records are those of the
//! kept reference run, laid out anew: scaled, and as the two sides of one directory.

use std::path::{Path, PathBuf};

use crate::support::{CommandOutcome, Migbench};
use serde_json::{Value, json};

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../reports/reference/quick");

fn migbench(directory: &Path, arguments: &[&str]) -> CommandOutcome {
    Migbench::new()
        .env("MIGBENCH_HISTORY", directory.join("history").to_str().unwrap())
        .current_dir(directory)
        .args(arguments)
        .run()
}

/// The reference run, with what bears a name of its own set, and as on a quiet host: what kept the recording of it from being one is not
/// what is tested here.
struct Reference {
    manifest: Value,
    records: Vec<Value>,
}

/// The commit that made the reference, as messages have it.
fn commit() -> String {
    let manifest = Reference::read().manifest;
    manifest["tool"]["commit"].as_str().unwrap().chars().take(7).collect()
}

impl Reference {
    fn read() -> Self {
        let text = |name: &str| std::fs::read_to_string(format!("{REFERENCE}/{name}")).unwrap();
        let mut manifest: Value = serde_json::from_str(&text("manifest.json")).unwrap();
        manifest["plan"]["gates"] = json!([
            { "metric": "total_time", "floor": 0.005 },
            { "metric": "downtime", "floor": 0.002 },
        ]);
        let mut records: Vec<Value> =
            text("runs.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        records.iter_mut().filter_map(Value::as_object_mut).for_each(|record| drop(record.remove("flags")));
        Self { manifest, records }
    }

    /// Timed runs of this engine take longer.
    fn slower(mut self, engine: &str, factor: f64) -> Self {
        self.records
            .iter_mut()
            .filter(|record| record["cell"]["engine"] == engine)
            .for_each(|record| slow(record, factor));
        self
    }

    /// Each cell twice, as `migbench ab` writes it; the new side takes longer by this factor.
    fn sides(mut self, factor: f64) -> Self {
        let comparisons = self.manifest["comparisons"].take();
        let mut pairs = Vec::new();
        for comparison in comparisons.as_array().unwrap() {
            for planned in comparison["cells"].as_array().unwrap() {
                let name = planned["id"].as_str().unwrap();
                let on = |side: &str| {
                    let mut cell = planned["cell"].clone();
                    cell["side"] = json!(side);
                    json!({ "id": format!("{name}/{side}"), "cell": cell })
                };
                pairs.push(json!({
                    "name": name, "compare": "side", "baseline": format!("{name}/base"),
                    "cells": [on("base"), on("new")],
                }));
            }
        }
        self.manifest["comparisons"] = json!(pairs);
        let mut records = Vec::new();
        for record in &self.records {
            for (side, factor) in [("base", 1.0), ("new", factor)] {
                let mut record = record.clone();
                let (comparison, engine) =
                    (record["comparison"].as_str().unwrap(), record["cell"]["engine"].as_str().unwrap());
                record["comparison"] = json!(format!("{comparison}/{engine}"));
                record["run_id"] = json!(format!("{}-{side}", record["run_id"].as_str().unwrap()));
                record["cell"]["side"] = json!(side);
                slow(&mut record, factor);
                records.push(record);
            }
        }
        self.records = records;
        self
    }

    /// Begun later than the others, with another seed.
    fn later(mut self) -> Self {
        self.manifest["started"] = json!("2031-02-03T04:05:06Z");
        self.manifest["seed"] = json!(2);
        self
    }

    fn write(self, path: PathBuf) -> PathBuf {
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("manifest.json"), self.manifest.to_string()).unwrap();
        let lines: String = self.records.iter().map(|record| format!("{record}\n")).collect();
        std::fs::write(path.join("runs.jsonl"), lines).unwrap();
        path
    }
}

fn slow(record: &mut Value, factor: f64) {
    for metric in ["total_time", "downtime"] {
        if let Some(value) = record["metrics"][metric]["value"].as_f64() {
            record["metrics"][metric]["value"] = json!(value * factor);
        }
    }
}

#[track_caller]
fn assert_says(outcome: &CommandOutcome, status: i32, words: &[&str]) {
    let all = format!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.status, status, "{all}");
    for word in words {
        assert!(all.contains(word), "no {word:?} in {all}");
    }
    assert!(outcome.stdout.lines().all(|line| line.chars().count() <= 160), "{all}");
}

#[test]
fn two_directories_are_compared_cell_by_cell() {
    let scratch = tempfile::tempdir().unwrap();
    Reference::read().write(scratch.path().join("a"));
    Reference::read().slower("delta", 1.5).write(scratch.path().join("b"));
    let outcome = migbench(scratch.path(), &["compare", "a", "b"]);
    assert_says(&outcome, 0, &["write-heavy/delta", "total time", "1.500", "worse", "none found"]);
    assert!(outcome.stdout.lines().all(|line| line.chars().count() <= 100), "{}", outcome.stdout);
    let one = migbench(scratch.path(), &["compare", "a", "b", "--metric", "encode_time"]);
    assert_says(&one, 0, &["encoding"]);
    assert!(!one.stdout.contains("total time"));
    assert_says(
        &migbench(scratch.path(), &["compare", "a", "b", "--metric", "encod_time"]),
        2,
        &["did you mean `encode_time`"],
    );
}

#[test]
fn other_plans_and_other_hosts_are_not_comparable() {
    let scratch = tempfile::tempdir().unwrap();
    Reference::read().write(scratch.path().join("a"));
    let mut other = Reference::read();
    other.manifest["host"]["kernel"] = json!("5.10.0");
    other.write(scratch.path().join("host"));
    let mut other = Reference::read();
    other.manifest["comparisons"][0]["cells"][1]["cell"]["vcpus"] = json!(2);
    other.write(scratch.path().join("plan"));
    for command in ["compare", "gate"] {
        assert_says(&migbench(scratch.path(), &[command, "a", "host"]), 5, &["kernel is", "5.10.0"]);
        assert_says(&migbench(scratch.path(), &[command, "a", "plan"]), 5, &["different plans", "vcpus"]);
    }
    assert_says(&migbench(scratch.path(), &["compare", "a", "host", "--different-hosts"]), 0, &["note: "]);
    assert_says(&migbench(scratch.path(), &["compare", "a", "plan", "--different-plans"]), 0, &["note: "]);
    assert_says(&migbench(scratch.path(), &["compare", "a", "nowhere"]), 2, &["is this a run directory?"]);
}

#[test]
fn schemas_are_not_mixed() {
    let scratch = tempfile::tempdir().unwrap();
    let old = |mut reference: Reference| {
        reference.manifest["schema"] = json!(1);
        reference.records.iter_mut().for_each(|record| record["schema"] = json!(1));
        reference
    };
    old(Reference::read()).write(scratch.path().join("old"));
    Reference::read().write(scratch.path().join("new"));
    old(Reference::read().sides(1.1)).write(scratch.path().join("old-ab"));
    Reference::read().sides(1.1).later().write(scratch.path().join("new-ab"));
    let words =
        ["old holds records of schema 1 and new of schema 2", "measure both with one build of migbench"];
    for command in [&["compare", "old", "new"][..], &["gate", "old", "new"]] {
        assert_says(&migbench(scratch.path(), command), 5, &words);
    }
    let allowed = ["compare", "old", "new", "--different-plans", "--different-hosts"];
    assert_says(&migbench(scratch.path(), &allowed), 5, &words);
    let confirm = migbench(scratch.path(), &["gate", "old-ab", "--confirm", "new-ab"]);
    assert_says(&confirm, 5, &["old-ab holds records of schema 1 and new-ab of schema 2"]);
    // A history of nights of schema 1, as it was written before nights named theirs.
    let night = json!({
        "started": "2030-01-01T00:00:00Z", "suite": "quick", "verdict": "good", "status": 0, "against": "last good",
        "builds": [], "directory": "old-ab"
    });
    std::fs::create_dir(scratch.path().join("history")).unwrap();
    std::fs::write(scratch.path().join("history/nights.jsonl"), format!("{night}\n")).unwrap();
    let mut later = night.clone();
    (later["schema"], later["directory"]) = (json!(2), json!("new-ab"));
    let list = scratch.path().join("history/nights.jsonl");
    std::fs::write(list, format!("{night}\n{later}\n")).unwrap();
    assert_says(
        &migbench(scratch.path(), &["history", "history"]),
        5,
        &["history holds records of schema 1 and new-ab of schema 2", "history directory"],
    );
    // Nor are records of two schemas in one directory.
    let mut mixed = Reference::read();
    mixed.records[3]["schema"] = json!(1);
    mixed.write(scratch.path().join("mixed"));
    assert_says(&migbench(scratch.path(), &["report", "mixed"]), 5, &["runs.jsonl:4: a record of schema 1"]);
    assert_says(&migbench(scratch.path(), &["report", "old"]), 0, &[]);
}

#[test]
fn the_gate_passes_what_is_alike() {
    let scratch = tempfile::tempdir().unwrap();
    Reference::read().sides(1.0).write(scratch.path().join("ab"));
    assert_says(
        &migbench(scratch.path(), &["gate", "ab"]),
        0,
        &["fine       total_time", "fine       downtime", "PASS"],
    );
}

#[test]
fn an_alarm_needs_fresh_samples_to_stand() {
    let scratch = tempfile::tempdir().unwrap();
    Reference::read().sides(1.1).write(scratch.path().join("ab"));
    Reference::read().sides(1.1).later().write(scratch.path().join("again"));
    Reference::read().sides(1.0).later().write(scratch.path().join("alike"));
    let first = migbench(scratch.path(), &["gate", "ab"]);
    // What made the reference is not there any more.
    let by_whom = format!(
        "Measure again with `ab --resume ab` of the build that measured it, 0.1.0 of commit {}",
        commit()
    );
    assert_says(&first, 3, &["ALARM      total_time: +10.0 %", "NOT CONFIRMED", &by_whom]);
    let confirmed = migbench(scratch.path(), &["gate", "ab", "--confirm", "again"]);
    assert_says(
        &confirmed,
        4,
        &[
            "by the first samples:\nALARM      total_time: +10.0 %",
            "WORSE      total_time: +10.0 %",
            "commits: ",
            "cells, 4 of 4",
            "REGRESSION: the first samples raised an alarm for total_time, downtime, and fresh samples alone",
            "made by: ",
        ],
    );
    let not = migbench(scratch.path(), &["gate", "ab", "--confirm", "alike"]);
    assert_says(
        &not,
        0,
        &["ALARM      total_time", "fine       total_time: 0.0 %", "PASS: the first samples raised an alarm"],
    );
    let itself = migbench(scratch.path(), &["gate", "ab", "--confirm", "ab"]);
    assert_says(&itself, 5, &["ab can't confirm what ab has raised: it has the same seed, 1"]);
    // What `migbench ab` has measured again is read without being named; what is no such thing is left out.
    Reference::read().sides(1.1).later().write(scratch.path().join("ab-again"));
    assert_says(&migbench(scratch.path(), &["gate", "ab/"]), 4, &["REGRESSION"]);
    Reference::read().sides(1.1).write(scratch.path().join("ab-again"));
    assert_says(
        &migbench(scratch.path(), &["gate", "ab"]),
        3,
        &["warning: ab-again is left out: ab-again can't confirm", "NOT CONFIRMED"],
    );
}

#[test]
fn only_fresh_samples_of_the_same_confirm() {
    let scratch = tempfile::tempdir().unwrap();
    let write = |name: &str, change: &dyn Fn(&mut Reference)| {
        let mut reference = Reference::read().sides(1.1).later();
        change(&mut reference);
        reference.write(scratch.path().join(name));
    };
    Reference::read().sides(1.1).write(scratch.path().join("ab"));
    let memory = |reference: &mut Reference| {
        for comparison in reference.manifest["comparisons"].as_array_mut().unwrap() {
            for planned in comparison["cells"].as_array_mut().unwrap() {
                planned["cell"]["memory"] = json!(64 << 20);
            }
        }
        reference.records.iter_mut().for_each(|record| record["cell"]["memory"] = json!(64 << 20));
    };
    write("suite", &|reference| reference.manifest["suite"] = json!("nightly"));
    write("size", &memory);
    write("build", &|reference| reference.manifest["builds"][0]["blake3"] = json!("another file"));
    write("seed", &|reference| reference.manifest["seed"] = json!(1));
    for (name, words) in [
        ("suite", "the suite is nightly and not quick"),
        ("size", "differs in memory"),
        ("build", &format!("the build of read-heavy/full/base is 0.1.0 of commit {}", commit())),
        ("seed", "it has the same seed, 1"),
    ] {
        let outcome = migbench(scratch.path(), &["gate", "ab", "--confirm", name]);
        assert_says(&outcome, 5, &[&format!("{name} can't confirm what ab has raised: "), words]);
        assert_eq!(outcome.stdout, "", "nothing is judged");
    }
    Reference::read().write(scratch.path().join("one"));
    let one = migbench(scratch.path(), &["gate", "ab", "--confirm", "one"]);
    assert_says(&one, 2, &["one has no sides"]);
    let two = migbench(scratch.path(), &["gate", "one", "one", "--confirm", "ab"]);
    assert_says(&two, 2, &["--confirm is for one directory"]);
}

#[test]
fn a_known_change_is_accepted_up_to_its_size_until_its_day_and_printed_meanwhile() {
    let scratch = tempfile::tempdir().unwrap();
    Reference::read().sides(1.1).write(scratch.path().join("ab"));
    let accept = |metric: &str, until: &str| {
        migbench(
            scratch.path(),
            &[
                "gate",
                "accept",
                "--metric",
                metric,
                "--size",
                "10%",
                "--reason",
                "checksums",
                "--until",
                until,
            ],
        )
    };
    assert_says(&accept("total_time", "2999-12-31"), 0, &["history/accepted.toml: total_time"]);
    assert_says(&accept("downtime", "2999-12-31"), 0, &[]);
    let gate = || migbench(scratch.path(), &["gate", "ab"]);
    let accepted = "accepted: total_time may be worse by 10 % until 2999-12-31: checksums";
    let beyond = "beyond the change that is accepted";
    let all = "NOTHING JUDGED: a change is accepted of all that could be judged";
    assert_says(&gate(), 3, &[accepted, "fine       total_time: +10.0 %", beyond, all]);
    let size = [
        "gate",
        "accept",
        "--metric",
        "total_time",
        "--size",
        "ten",
        "--reason",
        "r",
        "--until",
        "2999-12-31",
    ];
    assert_says(&migbench(scratch.path(), &size), 2, &["write it in percent, such as 10%"]);
    assert_says(&accept("total_tim", "2999-12-31"), 2, &["is not a metric that a suite can gate"]);
    assert_says(&accept("total_time", "2001-01-01"), 2, &["has passed"]);
    let file = scratch.path().join("history/accepted.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("2999-12-31", "2001-01-01");
    std::fs::write(&file, text).unwrap();
    assert_says(&gate(), 3, &["expired and is ignored: total_time", "ALARM      total_time"]);
}

#[test]
fn a_host_that_changed_is_no_regression() {
    let scratch = tempfile::tempdir().unwrap();
    Reference::read().write(scratch.path().join("a"));
    let mut slow = Reference::read().slower("full", 1.5).slower("delta", 1.5);
    for record in &mut slow.records {
        let copy = record["metrics"]["canary_copy"]["value"].as_f64().unwrap();
        record["metrics"]["canary_copy"]["value"] = json!(copy / 3.0);
    }
    slow.write(scratch.path().join("b"));
    let outcome = migbench(scratch.path(), &["gate", "a", "b"]);
    assert_says(&outcome, 3, &["HOST CHANGED", "host: host copies moved by -66.7 %"]);
}

#[test]
fn what_can_not_be_judged_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let mut without = Reference::read();
    without.manifest["plan"]["gates"] = json!([]);
    without.write(scratch.path().join("a"));
    Reference::read().sides(1.0).write(scratch.path().join("ab"));
    let look = "`migbench compare a a` shows what was measured";
    assert_says(&migbench(scratch.path(), &["gate", "a", "a"]), 2, &["declares no [[gate]]", look]);
    Reference::read().write(scratch.path().join("b"));
    assert_says(&migbench(scratch.path(), &["gate", "b", "b"]), 2, &["b and b are one measurement"]);
    assert_says(&migbench(scratch.path(), &["gate", "a"]), 2, &["was not made by `migbench ab`"]);
    assert_says(&migbench(scratch.path(), &["gate", "a", "ab"]), 2, &["holds both sides already"]);
}

/// From the suite to the verdict without KVM: two directories that a simulated testbed fills.
#[test]
fn suites_that_ran_are_judged() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, simulation) in [
        ("base", "--simulate=seed=1,noise=0.02"),
        ("same", "--simulate=seed=2,noise=0.02"),
        ("slow", "--simulate=seed=3,noise=0.02,encode=3,send=1.3"),
    ] {
        let run = migbench(scratch.path(), &["run", "quick", "--repeat", "8", simulation, "-o", name]);
        assert_eq!(run.status, 0, "{}", run.stderr);
    }
    assert_says(&migbench(scratch.path(), &["gate", "base", "same"]), 2, &["simulat"]);
    let same = migbench(scratch.path(), &["gate", "base", "same", "--simulated"]);
    assert_says(
        &same,
        0,
        &["PASS (advisory): judged were total_time in 4 cells", "traffic in 4 cells, by 8"],
    );
    let slow = migbench(scratch.path(), &["gate", "base", "slow", "--simulated"]);
    assert_says(
        &slow,
        3,
        &[
            "ALARM      total_time",
            "stage that moved: send",
            "NOT CONFIRMED (advisory)",
            "note: both were measured with one build",
            "Both are of one build: there is nothing that side by side could tell apart",
        ],
    );
    let compared = migbench(scratch.path(), &["compare", "base", "slow", "--simulated"]);
    assert_says(&compared, 0, &["worse", "one permutation of repetitions"]);
}

//! scripts/nightly from night to night: on a simulated testbed, which makes a night take no time, and on real guests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::require_kvm;

/// A cell and two gates: small enough to be judged by six runs of low noise.
const TINY: &str = r#"
name = "tiny"
description = "as little as is a nightly suite"
repetitions = 10

[defaults]
memory = "32MiB"
link.rate = "unlimited"
settings = { working_set = "8MiB", load = "pages(10000)" }
windows = { steady = "50ms", after = "50ms", warmup_max = "150ms" }

[[comparison]]
axes = { workload = ["write-heavy"], engine = ["full", "delta"] }
compare = "engine"
baseline = "full"

[[gate]]
metric = "encode_time"
floor = "0s"
"#;

struct Nights {
    scratch: tempfile::TempDir,
    suite: PathBuf,
}

impl Nights {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let suite = scratch.path().join("tiny.toml");
        std::fs::write(&suite, TINY).unwrap();
        Self { scratch, suite }
    }

    fn history(&self) -> PathBuf {
        self.scratch.path().join("history")
    }

    fn script(&self, arguments: &[&str]) -> Output {
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/nightly"))
            .args(["--history", self.history().to_str().unwrap(), "--suite", self.suite.to_str().unwrap()])
            .args(["--binary", assert_cmd::cargo::cargo_bin!("migbench").to_str().unwrap()])
            .args(arguments)
            .env("MIGBENCH_LOCK", self.scratch.path().join("host.lock"))
            .output()
            .unwrap()
    }

    /// Requires the status and the words, on standard output or standard error.
    #[track_caller]
    fn night(&self, arguments: &[&str], status: i32, words: &[&str]) -> String {
        let output = self.script(arguments);
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        assert!(!self.history().join("tonight").exists(), "nothing half done is left");
        text.into_owned()
    }

    /// When the last good build was kept.
    fn kept(&self) -> std::time::SystemTime {
        let good = std::fs::metadata(self.history().join("good/migbench")).unwrap();
        good.modified().unwrap()
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.history().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Directories of nights, the oldest first.
    fn nights(&self) -> Vec<PathBuf> {
        let mut nights: Vec<_> =
            std::fs::read_dir(self.history().join("nights")).unwrap().flatten().map(|d| d.path()).collect();
        nights.sort();
        nights
    }
}

#[test]
fn a_night_is_judged_against_the_last_good_build_and_an_alarm_keeps_it() {
    let nights = Nights::new();
    nights.night(&[], 0, &["the first night: nothing to compare with"]);
    assert_eq!(nights.lines("nights.jsonl"), [""; 0]);
    assert!(nights.history().join("pinned/migbench").exists(), "creep has its reference from now on");

    let kept = nights.kept();
    nights.night(&["--", "--simulate=noise=0.01"], 0, &["PASS", "good: this build is the next night's base"]);
    assert!(nights.kept() > kept, "the new build is the base");
    let night = &nights.nights()[0];
    for file in ["report.md", "history.txt", "export/junit.xml", "export/bmf.json", "ab/runs.jsonl"] {
        assert!(night.join(file).exists(), "{file} is left");
    }
    assert!(!night.join("new").exists(), "a good night's build is kept once");
    let csv = nights.lines("history.csv");
    assert!(csv.iter().any(|line| line.contains("write-heavy/delta/new") && line.contains("encode_time")));

    let kept = nights.kept();
    nights.night(
        &["--", "--simulate=noise=0.01,new.encode=1.2"],
        4,
        &["REGRESSION", "a confirmed regression"],
    );
    assert_eq!(nights.kept(), kept, "an alarmed night's build is no base");
    let last = nights.nights().pop().unwrap();
    assert!(last.join("ab-again/runs.jsonl").exists(), "fresh samples confirmed it");
    assert!(
        last.join("new").exists() && last.join("base").exists(),
        "what the alarm is about can be run again"
    );
    let verdicts = nights.lines("nights.jsonl");
    assert!(verdicts.len() == 2 && verdicts[1].contains("\"verdict\":\"alarm\""), "{verdicts:?}");

    nights.night(&["--", "--simulate=noise=0.5"], 3, &["not enough evidence; the base stays"]);
    assert_eq!(nights.kept(), kept, "nor is a build of which nobody knows");
}

/// Puts a build in place of the last good one that answers to `node --about` with `answer`.
fn replace_good(nights: &Nights, which: &str, answer: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = nights.history().join(which).join("migbench");
    std::fs::write(&path, format!("#!/bin/sh\n{answer}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_base_of_another_protocol_is_replaced_as_on_a_first_night_and_that_is_recorded() {
    const OLD: &str =
        "echo '{\"program\":\"migbench\",\"protocol\":999,\"version\":\"9.9\",\"commit\":\"c0ffee\"}'";
    let ours = std::fs::read(assert_cmd::cargo::cargo_bin!("migbench")).unwrap();
    let nights = Nights::new();
    nights.night(&[], 0, &[]);
    let simulated = ["--pinned-every", "1", "--", "--simulate=noise=0.01"];
    nights.night(&simulated, 0, &["good: this build is the next night's base"]);
    let before = nights.lines("nights.jsonl").len();
    for (build, recorded) in [(OLD, "\"protocol\":999"), ("exit 7", "\"binary\":\"own\"")] {
        replace_good(&nights, "good", build);
        replace_good(&nights, "pinned", build);
        let words = [
            "as on a first night",
            "the pinned build speaks another protocol",
            "the next night measures against it",
        ];
        nights.night(&simulated, 0, &words);
        for which in ["good", "pinned"] {
            let kept = std::fs::read(nights.history().join(which).join("migbench")).unwrap();
            assert!(kept == ours, "{which} is tonight's build");
        }
        let last = nights.lines("nights.jsonl").pop().unwrap();
        assert!(last.contains("\"verdict\":\"unlike\"") && last.contains(recorded), "{last}");
        assert!(last.contains("\"suite\":\"tiny\""), "{last}");
    }
    assert_eq!(
        (nights.nights().len(), nights.lines("nights.jsonl").len()),
        (1, before + 2),
        "nothing was measured"
    );
    // From then on nights go on, and those of before the beginning are no baseline.
    nights.night(
        &simulated,
        0,
        &["good against the pinned build too", "begins anew, the last good build spoke protocol 999"],
    );
    nights.night(&simulated, 0, &["drift: 1 good night before the last one"]);
}

#[test]
fn a_pinned_build_is_measured_against_every_few_nights() {
    let nights = Nights::new();
    nights.night(&[], 0, &[]);
    nights.night(&["--pin"], 0, &["pinned: {\"program\":\"migbench\""]);
    let simulated = ["--pinned-every", "1", "--", "--simulate=noise=0.01"];
    nights.night(&simulated, 0, &["good against the pinned build too", "next night's base"]);
    assert!(nights.nights()[0].join("pinned/runs.jsonl").exists());
}

#[test]
fn two_nights_at_once_and_mistakes_are_refused() {
    let nights = Nights::new();
    nights.night(&[], 0, &[]);
    let lock = std::fs::File::open(nights.history().join("lock")).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    nights.night(&[], 1, &["another night is at work"]);
    drop(lock);
    nights.night(&["--frobnicate"], 2, &["unknown argument --frobnicate"]);
    nights.night(&["--keep", "0"], 2, &["want a number"]);
}

#[test]
#[ignore = "two nights of real guests"]
fn real_nights() {
    require_kvm!();
    let nights = Nights::new();
    nights.night(&[], 0, &[]);
    let output = nights.script(&["--", "--repeat", "2"]);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Two runs are no evidence, or are by chance; both ways the night was made and kept.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    assert_eq!(nights.lines("nights.jsonl").len(), 1, "{text}");
    assert!(nights.nights()[0].join("report.md").exists(), "{text}");
}

//! `migbench ab` as a user meets it: both sides interleaved, two builds of the program, and builds that do not go together.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use migbench_reports::record::{Record, Status};
use migbench_reports::store::RunData;
use migbench_scenarios::cell::{Side, Tracker};

use crate::support::{migbench, require_kvm};

/// One cell, a small guest, short windows.
const SMALL: &str = r#"
name = "small"
description = "as little as is a cell"
repetitions = 2

[defaults]
memory = "32MiB"
link.rate = "unlimited"
settings = { working_set = "8MiB", load = "pages(10000)" }
windows = { steady = "50ms", after = "50ms", warmup_max = "150ms" }

[[comparison]]
axes = { workload = ["write-heavy"], engine = ["delta"] }
compare = "engine"
baseline = "delta"
"#;

fn suite(directory: &Path) -> String {
    let path = directory.join("small.toml");
    std::fs::write(&path, SMALL).unwrap();
    path.to_str().unwrap().to_owned()
}

fn build(directory: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn sides(records: &[Record]) -> Vec<(u32, Side)> {
    records.iter().map(|record| (record.repetition, record.cell.side.unwrap())).collect()
}

#[test]
fn both_sides_of_an_axis_run_in_every_block() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let (suite, directory) = (suite(scratch.path()), scratch.path().join("ab"));
    let outcome = migbench(&[
        "ab",
        &suite,
        "--base",
        "tracker=kvm-bitmap",
        "--new",
        "tracker=uffd-async",
        "stop.downtime_limit=50ms",
        "-o",
        directory.to_str().unwrap(),
    ]);
    let data = RunData::load(&directory).unwrap_or_else(|error| panic!("{error}: {}", outcome.stderr));
    assert_eq!(data.records.len(), 6, "{}", outcome.stderr);
    for record in &data.records {
        assert_ne!(record.status, Status::Failed, "{:?}", record.error);
        let tracker = match record.cell.side.unwrap() {
            Side::Base => Tracker::KvmBitmap,
            Side::New => Tracker::UffdAsync,
        };
        assert_eq!(record.cell.tracker, tracker);
    }
    for pair in sides(&data.records).chunks(2) {
        assert!(pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1, "a block has both sides: {pair:?}");
    }
    let builds: Vec<_> = data.manifest.builds.iter().map(|build| build.binary.as_str()).collect();
    assert_eq!(builds, ["own"], "one build served both");
    assert!(outcome.stdout.contains("write-heavy/delta"), "{}", outcome.stdout);
}

#[test]
fn nodes_of_the_named_build_run_and_the_manifest_says_which() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let (suite, directory) = (suite(scratch.path()), scratch.path().join("ab"));
    // A build of its own that leaves a trace: it is the program itself behind a script.
    let program = assert_cmd::cargo::cargo_bin!("migbench");
    let text = format!("#!/bin/sh\necho \"$@\" >>\"$0.calls\"\nexec {} \"$@\"\n", program.display());
    let old = build(scratch.path(), "old", text.as_bytes());
    let new = scratch.path().join("new");
    std::fs::copy(program, &new).unwrap();
    let outcome = migbench(&[
        "ab",
        &suite,
        "--base",
        &format!("binary={}", old.display()),
        "--new",
        &format!("binary={}", new.display()),
        "--repeat",
        "1",
        "-o",
        directory.to_str().unwrap(),
    ]);
    let data = RunData::load(&directory).unwrap_or_else(|error| panic!("{error}: {}", outcome.stderr));
    assert_eq!(data.records.len(), 4, "{}", outcome.stderr);
    assert!(data.records.iter().all(|record| record.status != Status::Failed), "{}", outcome.stderr);
    let calls = std::fs::read_to_string(scratch.path().join("old.calls")).unwrap();
    let (asked, nodes): (Vec<_>, Vec<_>) = calls.lines().partition(|line| line.ends_with("--about"));
    assert_eq!((asked.len(), nodes.len()), (1, 4), "asked once, two runs of two nodes: {calls}");
    let builds = &data.manifest.builds;
    assert_eq!(builds.len(), 2);
    for (build, path) in builds.iter().zip([&old, &new]) {
        assert_eq!((Path::new(&build.binary), build.program.as_str()), (path.as_path(), "migbench"));
        assert_eq!(build.tool, data.manifest.tool, "both are this program");
        assert_eq!(build.blake3, blake3::hash(&std::fs::read(path).unwrap()).to_hex().to_string());
    }
}

#[test]
fn a_cost_is_planted_on_one_side_and_said_so() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let (suite, directory) = (suite(scratch.path()), scratch.path().join("ab"));
    let plant = ["--plant", "new:harvest+5ms", "--repeat", "1", "-o", directory.to_str().unwrap()];
    let outcome = migbench(&[&["ab", &suite][..], &plant].concat());
    let data = RunData::load(&directory).unwrap_or_else(|error| panic!("{error}: {}", outcome.stderr));
    assert_eq!(data.manifest.planted.as_deref(), Some("new:harvest+5ms"));
    assert_eq!(data.records.len(), 4, "{}", outcome.stderr);
    for record in &data.records {
        let planted = (record.cell.side == Some(Side::New)).then_some("harvest+5ms");
        assert_eq!(record.planted.as_deref(), planted);
    }
    assert!(outcome.stdout.contains("a cost was planted"), "{}", outcome.stdout);
}

#[test]
fn what_cannot_be_compared_is_refused_before_any_guest_starts() {
    let scratch = tempfile::tempdir().unwrap();
    let suite = suite(scratch.path());
    let directory = scratch.path().join("ab");
    let refused = |binary: &str, status: i32, words: &str| {
        let base = format!("binary={binary}");
        let outcome = migbench(&["ab", &suite, "--base", &base, "-o", directory.to_str().unwrap()]);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (status, ""), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        assert!(!directory.exists(), "nothing stands in the way of the next try");
    };
    refused("/nowhere/migbench", 2, "cannot read /nowhere/migbench");
    refused("/bin/false", 2, "is no build of migbench that can say what it is");
    let text = b"#!/bin/sh\necho '{\"program\":\"migbench\",\"protocol\":999,\"version\":\"7.0.0\"}'\n";
    let unlike = build(scratch.path(), "unlike", text);
    require_kvm!();
    refused(unlike.to_str().unwrap(), 5, "speaks protocol 999 with its nodes");
}

#[test]
fn a_dry_run_shows_both_sides_and_mistakes_name_their_flag() {
    let outcome = migbench(&["ab", "quick", "--new", "backing=memfd", "--dry-run", "--repeat", "1"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    for words in ["16 runs of 8 cells", "\n  write-heavy/delta: side base (baseline), new\n"] {
        assert!(outcome.stdout.contains(words), "{}", outcome.stdout);
    }
    let outcome = migbench(&["ab", "quick", "--base", "memry=1GiB", "--dry-run"]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("--base memry=1GiB"), "{}", outcome.stderr);
}

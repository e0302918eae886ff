//! Dirty logging alone, on real guests.

use crate::support::{cell, own_lock, require_kvm};
use migbench::track::{Passes, TrackOptions, measure};
use migbench_scenarios::cell::Cell;
use migbench_workloads::settings::{Pattern, Settings};

const LOCK_STEP: TrackOptions = TrackOptions { passes: 4, lock_step: true, overlap: false };

fn passes(vcpus: u32, reads: f64, pattern: Pattern, options: TrackOptions) -> Passes {
    let settings = Settings { reads, pattern, ..cell().settings };
    measure(&Cell { vcpus, settings, ..cell() }, 1, options).unwrap()
}

#[test]
fn a_pass_in_order_writes_each_page_once_and_all_are_found() {
    require_kvm!();
    for vcpus in [1, 2] {
        let made = passes(vcpus, 0.0, Pattern::Sequential, LOCK_STEP);
        assert_eq!(made.passes.len(), 4);
        for pass in made.passes {
            // 8 MiB are 2048 pages; the program's own stack and tables may be among the dirty ones.
            assert_eq!(pass.writes, 2048);
            assert!((2048..2048 + 64).contains(&pass.dirty), "{pass:?}");
        }
    }
}

#[test]
fn overlap_random_order_and_reads_mean_what_they_mean_in_the_kernels_test() {
    require_kvm!();
    let overlap = TrackOptions { overlap: true, ..LOCK_STEP };
    let whole = passes(2, 0.0, Pattern::Sequential, overlap);
    assert!(whole.passes.iter().all(|p| p.writes == 4096 && p.dirty < 2048 + 64), "{whole:?}");

    // 2048 random choices among 2048 pages leave 1/e of them out.
    let random = passes(1, 0.0, Pattern::Uniform, LOCK_STEP);
    assert!(random.passes.iter().all(|p| p.writes == 2048 && (1200..1400).contains(&p.dirty)), "{random:?}");

    let half = passes(1, 0.5, Pattern::Sequential, LOCK_STEP);
    assert!(half.passes.iter().all(|p| (900..1150).contains(&p.writes) && p.dirty >= p.writes), "{half:?}");
}

#[test]
fn a_guest_that_runs_freely_is_harvested_meanwhile() {
    require_kvm!();
    let free = passes(1, 0.0, Pattern::Sequential, TrackOptions { lock_step: false, ..LOCK_STEP });
    assert!(free.passes.iter().all(|p| p.dirty > 0), "{free:?}");
}

#[test]
fn the_command_compares_trackers_and_keeps_records() {
    require_kvm!();
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("run");
    let run = assert_cmd::Command::cargo_bin("migbench")
        .unwrap()
        .args(["track", "--tracker", "kvm-bitmap,kvm-manual", "--memory", "32MiB,64MiB"])
        .args(["--working-set", "4MiB,16MiB", "--passes", "2", "--repeat", "2", "-o"])
        .arg(&output)
        .env("MIGBENCH_LOCK", own_lock())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    // Four sizes, each a table of both trackers, and the fits over them.
    for part in [
        "first",
        "re-arm",
        "disarm",
        "kvm-bitmap (baseline)",
        "harvest kvm-manual:",
        "per GiB tracked",
        "\u{b1}",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let data = migbench_reports::store::RunData::load(&output).unwrap();
    assert_eq!(data.records.len(), 16);
    for record in &data.records {
        // Not even the first harvest reports what was not written; the program's own pages are few.
        let most = record.cell.settings.working_set.pages().0 + 64;
        assert!(record.rounds.iter().all(|round| round.dirty_pages <= most), "{record:?}");
        assert_eq!(record.rounds.len(), 2);
        for metric in ["arm_time", "first_write_time", "harvest_time", "rearm_time", "disarm_time"] {
            assert!(record.metrics.contains_key(metric), "{metric} in {}", record.run_id);
        }
        let pages = record.cell.settings.working_set.pages().0;
        assert!(record.rounds.iter().all(|round| round.dirty_pages >= pages), "{record:?}");
    }
}

#[test]
fn scaling_has_its_own_sizes() {
    let run = assert_cmd::Command::cargo_bin("migbench")
        .unwrap()
        .args(["track", "--scaling", "--memory", "1GiB"])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).contains("--memory"));
}

#[test]
fn an_unknown_tracker_is_refused_with_the_nearest_one() {
    let run = assert_cmd::Command::cargo_bin("migbench")
        .unwrap()
        .args(["track", "--tracker", "kvm-bitmp"])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(2));
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(text.contains("kvm-bitmap"), "{text}");
}

#[test]
fn an_interrupted_one_is_finished_with_the_flags_that_it_was_begun_with() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("run");
    let directory = directory.to_str().unwrap();
    let flags = ["--tracker", "kvm-bitmap,kvm-ring", "--memory", "64MiB", "--working-set", "8MiB"];
    let begun = ["track", "--passes", "3", "--repeat", "2", "--simulate=interrupt=3", "-o", directory];
    let run = |arguments: &[&str]| {
        let output = assert_cmd::Command::cargo_bin("migbench").unwrap().args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    };
    let (status, text) = run(&[&begun[..], &flags].concat());
    assert_eq!(status, Some(130), "{text}");
    assert!(text.contains("interrupted: 3 of 4 records") && text.contains("track --simulate"), "{text}");
    let (status, text) = run(&["run", "--resume", directory, "--simulate"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("track --resume"), "{text}");
    let (status, text) = run(&["track", "--resume", directory, "--repeat", "3", "--simulate"]);
    assert_eq!(status, Some(2), "{text}");

    let (status, text) = run(&["track", "--resume", directory, "--simulate"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("kvm-ring") && text.contains("harvest"), "{text}");
    let accept = migbench_reports::store::Accept::Simulated;
    let data = migbench_reports::store::RunData::load_as(directory, accept).unwrap();
    assert_eq!(data.records.len(), 4);
    for record in data.records {
        assert_eq!(record.rounds.len(), 3, "as many passes as at first");
        assert!(record.metrics.contains_key("canary_copy") && record.canary.is_some(), "{record:?}");
    }
}

//! Two thousand migrations by one command, of every engine, over every link: the runner's memory and descriptors stay what they
//! were after the first hundred. `MIGBENCH_SOAK` says how many, where there is no time for so many.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::{Migbench, assert_nothing_left, netns_or_skip, require_kvm, validated};

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Of its own memory, in KiB.
    anonymous: u64,
    descriptors: usize,
    threads: usize,
}

fn held(pid: u32) -> Option<Held> {
    let process = Path::new("/proc").join(pid.to_string());
    let status = fs::read_to_string(process.join("status")).ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(Held {
        anonymous: number.trim().strip_suffix(" kB")?.parse().ok()?,
        descriptors: fs::read_dir(process.join("fd")).ok()?.count(),
        threads: fs::read_dir(process.join("task")).ok()?.count(),
    })
}

#[test]
#[ignore = "two thousand migrations take half an hour"]
fn memory_and_descriptors_stay_the_same_over_two_thousand_migrations() {
    require_kvm!();
    let wanted: usize = std::env::var("MIGBENCH_SOAK").map_or(2000, |text| text.parse().unwrap());
    let links = if netns_or_skip() { r#"["unix", "tcp", "netns"]"# } else { r#"["unix", "tcp"]"# };
    let cells = if links.contains("netns") { 6 } else { 4 };
    // One block more verifies.
    let repetitions = wanted.div_ceil(cells).saturating_sub(1).max(1);
    let scratch = tempfile::tempdir().unwrap();
    let (suite, output) = (scratch.path().join("soak.toml"), scratch.path().join("out"));
    let text = format!(
        r#"
name = "soak"
description = "many migrations in a row"
repetitions = {repetitions}
[defaults]
memory = "32MiB"
wait = "doorbell"
settings.working_set = "8MiB"
settings.load = "pages(1000)"
windows = {{ steady = "10ms", after = "10ms", warmup_max = "20ms" }}
[[comparison]]
workload = "write-heavy"
axes = {{ engine = ["full", "delta"], link.transport = {links} }}
"#
    );
    fs::write(&suite, text).unwrap();
    let runs = output.join("runs.jsonl");
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("migbench"));
    // Into files: nobody reads two pipes at once here.
    let said = |name: &str| fs::File::create(scratch.path().join(name)).unwrap();
    command.args([Path::new("run"), &suite, Path::new("-o"), &output]);
    let (mut runner, mark) = Migbench::of(command).start_into(said("stdout"), said("stderr"));
    let mut samples: Vec<(usize, Held)> = Vec::new();
    let status = loop {
        if let Some(status) = runner.try_wait().unwrap() {
            break status;
        }
        let done = fs::read(&runs).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count();
        // The report at the end holds all records.
        if done < (repetitions + 1) * cells
            && let Some(now) = held(runner.id())
            && samples.last().is_none_or(|(before, _)| done >= before + 10)
        {
            eprintln!("after {done}: {now:?}");
            samples.push((done, now));
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    let stderr = fs::read_to_string(scratch.path().join("stderr")).unwrap();
    assert!(status.success(), "{status}: {stderr}");
    assert_nothing_left(&mark);
    let records = fs::read_to_string(&runs).unwrap();
    assert_eq!(records.lines().count(), (repetitions + 1) * cells);
    assert!(records.lines().all(|line| validated(line).error.is_none()));
    // While a run is made there are more: what counts is the most of a stretch.
    let most = |from: usize, to: usize| {
        let of = samples.iter().filter(|(done, _)| (from..to).contains(done)).map(|(_, held)| *held);
        of.fold((0, 0, 0), |(memory, fds, threads), held| {
            (memory.max(held.anonymous), fds.max(held.descriptors), threads.max(held.threads))
        })
    };
    let (early, late) = (most(0, wanted / 5), most(wanted / 5 * 4, usize::MAX));
    assert!(late.1 <= early.1 && late.2 <= early.2, "descriptors and threads: {early:?}, then {late:?}");
    // A heap that was built up once is as large as it is; a record that is kept takes some KiB.
    assert!(late.0 <= early.0 + 2048, "KiB: {early:?}, then {late:?}");
}

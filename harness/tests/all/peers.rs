//! QEMU as a peer, with real guests: every way to migrate on every link brings memory over, and whatever becomes of a QEMU is told
//! in a record that is readable, with nothing left behind.

use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use migbench_reports::record::{GuestAt, Record, Status};
use migbench_reports::store::RunData;
use migbench_workloads::abi;

use crate::support::{CommandOutcome, Migbench, marked, metric, migbench, require_kvm, require_netns, skip};

const QEMU: &str = "qemu-system-x86_64";

/// Ends the test with a printed reason where there is no QEMU, or fails it where KVM is required.
macro_rules! require_qemu {
    () => {
        require_kvm!();
        if std::process::Command::new(QEMU).arg("--version").output().is_err() {
            assert!(
                std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(),
                "{QEMU} is missing (Debian: qemu-system-x86)"
            );
            return skip("QEMU is not installed");
        }
    };
}

/// A small guest that writes.
const GUEST: [&str; 14] = [
    "--workload",
    "write-heavy",
    "--memory",
    "32MiB",
    "--set",
    "settings.working_set=8MiB",
    "--set",
    "settings.load=pages(2000)",
    "--set",
    "windows.steady=100ms",
    "--set",
    "windows.after=100ms",
    "--set",
    "windows.warmup_max=1s",
];

fn migrate(directory: &Path, arguments: &[&str]) -> (CommandOutcome, Option<Record>) {
    let json = directory.join("record.json");
    let outcome = Migbench::new()
        .args(["migrate", "--engine", "qemu", "--json", json.to_str().unwrap()])
        .args(GUEST)
        .args(arguments)
        .run();
    let text = std::fs::read_to_string(json).ok();
    (outcome, text.map(|text| serde_json::from_str(&text).unwrap()))
}

#[test]
fn every_way_and_link_brings_the_guest_over_whole() {
    require_qemu!();
    require_netns!();
    let directory = tempfile::tempdir().unwrap();
    for (mode, link) in [
        ("precopy", &["--link", "unlimited"][..]),
        ("xbzrle", &["--transport", "tcp", "--vcpus", "2"]),
        ("multifd", &["--link", "unlimited", "--transport", "tcp"]),
        ("multifd-zstd", &["--transport", "netns"]),
        ("auto-converge", &["--link", "unlimited", "--set", "backing=thp"]),
    ] {
        let mode = format!("qemu.mode={mode}");
        let (outcome, record) = migrate(directory.path(), &[&["--verify", "--set", &mode], link].concat());
        assert_eq!(outcome.status, 0, "{mode}: {outcome:?}");
        let record = record.unwrap();
        let peer = record.peer.as_ref().unwrap();
        assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{mode}: {record:?}");
        assert_eq!((&peer.name[..], peer.hash.len()), ("QEMU", 64));
        assert!(peer.destination_arguments.contains(&"-incoming".to_owned()));
        assert_eq!(peer.said["status"], "completed", "{mode}");
        // All memory was sent at least once, as pages or as marks.
        let pages = metric(&record, "pages_full") + metric(&record, "pages_zero");
        assert!(mode.contains("multifd") || pages >= 8192.0, "{mode}: {pages}");
        assert!(metric(&record, "total_time") > 0.0 && metric(&record, "traffic") > 0.0);
        assert!(metric(&record, "throughput_after") > 0.0, "{mode}");
        // It keeps to a rate by itself but in its paused round.
        let paced = link.contains(&"--transport") && !link.contains(&"netns") && !link.contains(&"unlimited");
        assert_eq!(
            (peer.paced_by_itself, record.metrics.contains_key("downtime")),
            (paced, !paced),
            "{mode}"
        );
    }
}

/// Under QEMU's own CPU too, where no host hides what the guest gets wrong when it starts its vCPUs.
#[test]
fn further_vcpus_start_under_another_cpu() {
    require_qemu!();
    let directory = tempfile::tempdir().unwrap();
    let (outcome, record) = migrate(
        directory.path(),
        &[
            "--verify",
            "--link",
            "unlimited",
            "--vcpus",
            "3",
            "--set",
            "qemu.accel=tcg",
            "--set",
            "settings.load=pages(300)",
        ],
    );
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let record = record.unwrap();
    assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{record:?}");
}

#[test]
fn peers_stand_beside_our_engines_in_one_table() {
    require_qemu!();
    let directory = tempfile::tempdir().unwrap();
    let suite = r#"
name = "beside"
description = "a test"
repetitions = 2
[defaults]
memory = "32MiB"
settings.working_set = "8MiB"
settings.load = "pages(2000)"
link.rate = "unlimited"
windows = { steady = "100ms", after = "100ms", warmup_max = "1s" }
[[comparison]]
workload = "write-heavy"
axes.engine = ["full", "delta"]
compare = "engine"
include = [
    { engine = "qemu" },
    { engine = "qemu", qemu.mode = "xbzrle", qemu.xbzrle_cache_size = "32MiB" },
    { engine = "qemu", qemu.mode = "multifd", qemu.binary = "/nowhere/qemu" },
]
optional = [{ engine = "qemu" }]
"#;
    let (file, results) = (directory.path().join("beside.toml"), directory.path().join("results"));
    std::fs::write(&file, suite).unwrap();
    let outcome = migbench(&["run", file.to_str().unwrap(), "-o", results.to_str().unwrap()]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("qemu mode=xbzrle xbzrle_cache_size=32MiB"), "{}", outcome.stdout);
    let data = RunData::load(&results).unwrap();
    assert_eq!(data.records.len(), 4 * 3, "one cell is not available");
    for record in &data.records {
        assert_eq!((record.status, record.guest_checked), (Status::Ok, Some(true)), "{:?}", record.error);
        assert_eq!(record.peer.is_some(), record.cell.engine.is_peer());
    }
    let skipped = &data.manifest.skipped[..];
    assert!(skipped.len() == 1 && skipped[0].reason.contains("/nowhere/qemu is no program"), "{skipped:?}");
    let report = migbench(&["report", results.to_str().unwrap(), "--format", "markdown"]);
    assert!(report.stdout.contains("/nowhere/qemu is no program that can be run"), "{}", report.stdout);
}

#[test]
fn a_qemu_that_is_not_here_or_cannot_is_refused_with_the_remedy() {
    require_qemu!();
    let directory = tempfile::tempdir().unwrap();
    let (outcome, _) =
        migrate(directory.path(), &["--link", "unlimited", "--set", "qemu.binary=no-such-qemu"]);
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("no-such-qemu is not installed; install QEMU"), "{}", outcome.stderr);
    let (outcome, record) = migrate(directory.path(), &["--set", "qemu.machine=q36"]);
    assert_ne!(outcome.status, 0);
    assert!(record.is_none() && outcome.stderr.contains("has no machine q36"), "{}", outcome.stderr);
    let (outcome, record) = migrate(directory.path(), &["--fault", "source:kill@precopy"]);
    assert_eq!((outcome.status, record), (2, None));
    assert!(outcome.stderr.contains("`qemu` is another VMM"), "{}", outcome.stderr);
    // What QEMU itself refuses is a failed record in its words, and the partner does not wait for it.
    let begun = Instant::now();
    let (outcome, record) =
        migrate(directory.path(), &["--link", "unlimited", "--set", "qemu.arguments=-no-such-option"]);
    assert_ne!(outcome.status, 0);
    let error = record.unwrap().error.unwrap();
    assert!(error.message.contains("invalid option"), "{error:?}");
    assert_eq!(error.guest, GuestAt::Nowhere);
    assert!(begun.elapsed() < Duration::from_secs(60), "somebody waited for nobody");
}

/// The QEMUs of a marked command, that of the source last: it is started later.
fn qemus(mark: &str) -> Vec<u32> {
    let mut found: Vec<u32> = marked(mark)
        .into_iter()
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().starts_with("qemu")
        })
        .collect();
    found.sort_unstable();
    found
}

/// A word of the telemetry of that QEMU's guest.
fn telemetry(qemu: u32, offset: u64) -> Option<u32> {
    let is_telemetry = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|file| file.to_string_lossy().contains("migbench-telemetry"))
    };
    let mut open = std::fs::read_dir(format!("/proc/{qemu}/fd")).ok()?.flatten().map(|entry| entry.path());
    let mut word = [0; 4];
    std::fs::File::open(open.find(is_telemetry)?).ok()?.read_exact_at(&mut word, offset).ok()?;
    Some(u32::from_le_bytes(word))
}

fn phase(qemu: u32) -> Option<u32> {
    telemetry(qemu, offset_of!(abi::Control, phase) as u64)
}

/// When something happens to a QEMU.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    /// The guest works at the source.
    Steady,
    /// Its pages are on their way.
    Precopy,
    /// It has stopped at the source, and its last pages are on their way.
    Paused,
}

impl When {
    fn holds(self, qemu: u32) -> bool {
        match self {
            Self::Steady => {
                telemetry(qemu, abi::vcpu_offset(0) as u64).is_some_and(|state| state >= abi::STATE_RUNNING)
            }
            Self::Precopy => phase(qemu) == Some(abi::PHASE_PRECOPY),
            Self::Paused => phase(qemu) == Some(abi::PHASE_CATCHUP),
        }
    }

    /// What makes the time long enough to be met. QEMU lifts a limit of its own in the pause, the kernel's it can't.
    const fn lengthened(self) -> [&'static str; 6] {
        match self {
            Self::Steady => ["--link", "50Mbit/s", "--set", "windows.steady=1s", "--transport", "unix"],
            Self::Precopy => {
                ["--link", "50Mbit/s", "--set", "stop.downtime_limit=300ms", "--transport", "unix"]
            }
            Self::Paused => ["--link", "50Mbit/s", "--set", "stop.downtime_limit=2s", "--transport", "netns"],
        }
    }
}

/// Has one of the two QEMUs get a signal, or its node, while the guest runs at the source; gives the record.
fn struck(side: &str, node: bool, signal: &str, when: When) -> Record {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("record.json");
    let (mut child, mark) = Migbench::new()
        .args(["migrate", "--engine", "qemu", "--json", json.to_str().unwrap()])
        .args(GUEST)
        .args(when.lengthened())
        .start();
    let is = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("-incoming") == (side == "destination")
    };
    let begun = Instant::now();
    let victim = loop {
        let found = qemus(&mark);
        if let (2, Some(&victim)) = (found.len(), found.iter().find(|pid| is(**pid)))
            && when.holds(victim)
        {
            break victim;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(),
            "no two QEMUs came"
        );
        std::thread::sleep(Duration::from_millis(2));
    };
    let parent = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        line.trim().parse::<u32>().unwrap()
    };
    let victim = if node { parent(victim) } else { victim };
    std::process::Command::new("kill").args([signal, &victim.to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(marked(&mark).is_empty(), "a process is left");
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

#[test]
fn a_qemu_or_a_node_that_is_killed_is_named_and_leaves_nothing() {
    require_qemu!();
    require_netns!();
    for (side, node, when, words, guest) in [
        ("source", false, When::Steady, "source: QEMU was killed by signal 9", GuestAt::Lost),
        ("source", false, When::Precopy, "source: QEMU was killed by signal 9", GuestAt::Lost),
        ("destination", false, When::Precopy, "destination: QEMU was killed by signal 9", GuestAt::Source),
        ("source", true, When::Precopy, "the source node was killed by signal 9", GuestAt::Lost),
        ("destination", true, When::Precopy, "the destination node was killed by signal 9", GuestAt::Source),
        ("source", false, When::Paused, "source: QEMU was killed by signal 9", GuestAt::Lost),
        // The source's QEMU has its guest go on by itself.
        ("destination", false, When::Paused, "destination: QEMU was killed by signal 9", GuestAt::Source),
        ("source", true, When::Paused, "the source node was killed by signal 9", GuestAt::Lost),
        ("destination", true, When::Paused, "the destination node was killed by signal 9", GuestAt::Source),
    ] {
        let error = struck(side, node, "-9", when).error.unwrap();
        assert!(error.message.contains(words), "{side}, {node}, {when:?}: {error:?}");
        assert_eq!(error.guest, guest, "{side}, {node}, {when:?}: {error:?}");
    }
}

/// A VMM that stops answering is given up after half a minute, and ended with its partner.
#[test]
#[ignore = "waits for half a minute"]
fn a_qemu_that_stands_still_is_given_up() {
    require_qemu!();
    let record = struck("source", false, "-STOP", When::Precopy);
    let error = record.error.unwrap();
    assert!(error.message.contains("source: QEMU: it did not answer `query-migrate`"), "{error:?}");
    assert_eq!(error.guest, GuestAt::Lost);
}

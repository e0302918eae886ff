//! Every kind of guest memory: migrations arrive whole on it under every tracker and engine, and what a host cannot
//! give is refused before any guest starts.

use crate::support::{Migbench, SHORT, in_turn, metric, migrate, require_huge_pages, require_kvm};
use migbench_reports::record::{Record, Status};

const TRACKERS: [&str; 5] = ["kvm-bitmap", "kvm-manual", "kvm-ring", "uffd-wp", "uffd-async"];

/// Both nodes of a guest of 32 MiB.
const BOTH: u64 = 64 << 20;

fn arrives(engine: &str, backing: &str, tracker: &str, more: &[&str]) -> Record {
    let (backing, tracker) = (format!("backing={backing}"), format!("tracker={tracker}"));
    let fixed = ["--engine", engine, "--set", &backing, "--set", &tracker, "--verify"];
    let load = ["--link", "4Gbit/s", "--set", "settings.load=pages(20000)", "--set", "windows.control=300ms"];
    let (outcome, record) = migrate(&[&fixed[..], &load, more].concat());
    let what = format!("{engine}, {backing}, {tracker}: {:?}", record.error);
    assert_eq!(outcome.status, 0, "{what}: {}", outcome.stderr);
    assert_eq!(record.status, Status::Ok, "{what}");
    assert_eq!(record.guest_checked, Some(true), "{what}");
    let moves = !["none", "track-only"].contains(&engine);
    assert_eq!(record.verified, moves.then_some(true), "{what}");
    record
}

/// The engines that need no tracker, and the usual ones under the usual tracker.
fn every_engine_works_on(backing: &str) {
    for (vcpus, engine) in ["full", "delta", "stop-and-copy", "track-only", "none"].into_iter().enumerate() {
        let vcpus = (vcpus % 4 + 1).to_string();
        let record = arrives(engine, backing, "kvm-bitmap", &["--vcpus", &vcpus]);
        match backing {
            "hugetlb" => assert_eq!(metric(&record, "huge_page_share"), 1.0),
            // How many the kernel finds is its business.
            "thp" => assert!((0.0..=1.0).contains(&metric(&record, "huge_page_share"))),
            _ => assert!(!record.metrics.contains_key("huge_page_share"), "{backing}"),
        }
    }
}

fn every_tracker_works_on(backing: &str) {
    for (n, tracker) in TRACKERS.into_iter().enumerate() {
        let turn = n + usize::from(backing == "thp");
        for engine in in_turn(["full", "delta", "track-only"], turn) {
            let vcpus = ((n + engine.len()) % 4 + 1).to_string();
            // A third of the runs touch memory only when it is written, on either side.
            let prefault = format!("prefault={}", turn % 3 != 0);
            arrives(engine, backing, tracker, &["--vcpus", &vcpus, "--set", &prefault]);
        }
    }
}

#[test]
fn every_engine_works_on_small_pages() {
    require_kvm!();
    every_engine_works_on("anonymous");
    every_engine_works_on("memfd");
}

#[test]
fn every_engine_works_on_transparent_huge_pages() {
    require_kvm!();
    every_engine_works_on("thp");
}

#[test]
fn every_engine_works_on_reserved_huge_pages() {
    require_kvm!();
    let _pages = require_huge_pages!(BOTH);
    every_engine_works_on("hugetlb");
}

#[test]
fn every_tracker_works_on_transparent_huge_pages() {
    require_kvm!();
    every_tracker_works_on("thp");
}

#[test]
fn every_tracker_works_on_reserved_huge_pages() {
    require_kvm!();
    let _pages = require_huge_pages!(BOTH);
    every_tracker_works_on("hugetlb");
}

/// A guest larger than any pool, and larger than any host.
#[test]
fn a_guest_without_enough_huge_pages_is_refused_with_the_number_that_would_do() {
    require_kvm!();
    let outcome = Migbench::new().args(["migrate", "--memory", "16TiB", "--set", "backing=hugetlb"]).run();
    assert_eq!(outcome.status, 2, "{}", outcome.stderr);
    if !std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        assert!(outcome.stderr.contains("CONFIG_HUGETLBFS"), "{}", outcome.stderr);
        return;
    }
    let words = [
        "a guest of 16TiB does not fit into huge pages",
        "need 16777216 of 2MiB",
        "`sysctl vm.nr_hugepages=",
    ];
    for word in words {
        assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
    }
}

const GROWING: &str = r#"
name = "growing"
description = "a guest that fits, and one that fits nowhere"
repetitions = 1
[defaults]
workload = "idle"
engine = "full"
link.rate = "4Gbit/s"
settings.working_set = "8MiB"
windows = { steady = "100ms", after = "100ms", warmup_max = "200ms" }
[[comparison]]
axes.memory = ["32MiB", "512TiB"]
compare = "memory"
baseline = "32MiB"
optional = [{ memory = "512TiB" }]
"#;

#[test]
fn an_optional_cell_that_does_not_fit_is_left_out_with_its_sentence() {
    require_kvm!();
    let scratch = tempfile::tempdir().unwrap();
    let suite = scratch.path().join("growing.toml");
    std::fs::write(&suite, GROWING).unwrap();
    let suite = suite.to_str().unwrap();
    let sentence = "not available here: a guest of 512TiB does not fit: source and destination need ";

    let dry = Migbench::new().args(["run", suite, "--dry-run"]).run();
    assert_eq!(dry.status, 0, "{}", dry.stderr);
    assert!(dry.stdout.contains(sentence), "{}", dry.stdout);
    assert!(dry.stdout.contains("would be left out: idle/512TiB"), "{}", dry.stdout);

    let output = scratch.path().join("run");
    let outcome = Migbench::new().args(["run", suite, "-o", output.to_str().unwrap()]).run();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let expected = outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(expected.contains(sentence), "{}", outcome.stdout);
    assert_eq!(std::fs::read_to_string(output.join("runs.jsonl")).unwrap().lines().count(), 2);

    std::fs::write(scratch.path().join("growing.toml"), GROWING.replace("optional", "# optional")).unwrap();
    let dry = Migbench::new().args(["run", suite, "--dry-run"]).run();
    assert!(dry.stdout.contains("would refuse the suite: idle/512TiB"), "{}", dry.stdout);
    let refused =
        Migbench::new().args(["run", suite, "-o", scratch.path().join("2").to_str().unwrap()]).run();
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("write `optional` to leave such cells out"), "{}", refused.stderr);
}

/// Set before or after, on the command line or implied: userfaultfd cannot work in less than a page of its mapping.
#[test]
fn a_block_smaller_than_the_page_is_refused() {
    let set = |fault_block: &str| {
        let mut arguments =
            vec!["migrate", "--memory", "16TiB", "--set", "backing=hugetlb", "--set", "tracker=uffd-wp"];
        let block = format!("tracker_settings.fault_block={fault_block}");
        arguments.extend(["--set", &block]);
        arguments.extend(SHORT);
        Migbench::new().args(arguments).run()
    };
    let refused = set("64KiB");
    assert_eq!(refused.status, 2);
    assert!(refused.stderr.contains("fault_block 64KiB with backing hugetlb"), "{}", refused.stderr);
    assert!(!set("2MiB").stderr.contains("fault_block"), "the only block that fits");
}

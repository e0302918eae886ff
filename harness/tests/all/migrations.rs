//! Whole migrations, driven as a user does: every engine, workload and link, with all memory compared.

use crate::support::{in_turn, metric, migrate, require_kvm};
use migbench_reports::record::{Record, RunKind, Status};

/// Every migration has these.
const ALWAYS: &[&str] = &[
    "total_time",
    "setup_time",
    "destination_prepare_time",
    "downtime",
    "downtime_pause",
    "downtime_harvest",
    "downtime_send",
    "downtime_state",
    "downtime_resume",
    "blackout",
    "throughput_steady",
    "page_write_rate",
    "throughput_after",
    "traffic",
    "traffic_full",
    "traffic_zero",
    "traffic_state",
    "traffic_control",
    "first_round_bytes",
    "amplification",
    "rounds",
    "pages_full",
    "pages_zero",
    "encode_time",
    "decode_time",
    "harvest_time",
    "cpu_source",
    "cpu_destination",
    "cpu_vcpu",
    "memory_source",
    "memory_destination",
    "steal_time",
    "vcpu_run_delay",
    "engine_run_delay",
];
/// Those that migrate while the guest runs.
const PRECOPY: &[&str] = &["throughput_precopy", "page_writes_precopy"];
/// Those with a codec.
const CODEC: &[&str] = &["traffic_delta", "pages_delta", "pages_unchanged", "pages_overflow"];
/// Those with a limit on the link.
const LIMITED: &[&str] = &["link_rate_achieved"];
/// Those with an open loop.
const OPEN_LOOP: &[&str] = &["backlog_max"];

fn assert_metrics(record: &Record, present: &[&[&str]], absent: &[&[&str]]) {
    for name in present.iter().copied().flatten() {
        metric(record, name);
    }
    for name in absent.iter().copied().flatten() {
        assert!(!record.metrics.contains_key(*name), "{} does not apply to {}", name, record.run_id);
    }
    for (name, value) in &record.metrics {
        assert!(value.value.is_finite(), "{name}");
        let may_be_negative = ["tsc_jump", "stall_precopy", "brownout", "slowdown_precopy"];
        assert!(value.value >= 0.0 || may_be_negative.contains(&name.as_str()), "{name} = {}", value.value);
    }
}

/// What holds for every migration that came to its end.
fn assert_adds_up(record: &Record) {
    let m = |name| metric(record, name);
    let parts = ["traffic_full", "traffic_zero", "traffic_state", "traffic_control"];
    let delta = record.metrics.get("traffic_delta").map_or(0.0, |metric| metric.value);
    let pages = m("traffic_full") + m("traffic_zero") + delta;
    assert_eq!(parts.map(m).iter().sum::<f64>() + delta, m("traffic"));

    let rounds = &record.rounds;
    assert_eq!(rounds.len() as f64, m("rounds") + 1.0);
    assert!(rounds.iter().enumerate().all(|(n, round)| round.round as usize == n));
    assert_eq!(rounds.iter().filter(|round| round.paused).count(), 1, "one paused round");
    assert!(rounds.last().unwrap().paused, "the paused round is the last");
    assert_eq!(rounds[0].traffic as f64, m("first_round_bytes"));
    assert_eq!(rounds[0].dirty_pages * 4096, record.cell.memory.0, "round 0 is all memory");
    // In rounds `traffic_control` is a header and a count of entries for each batch, and a frame that ends the round.
    let in_rounds: u64 = rounds.iter().map(|round| round.traffic).sum();
    let control = in_rounds as f64 - pages;
    let batches = (control - 40.0 * rounds.len() as f64) / 44.0;
    assert!(batches >= 1.0 && batches.fract() == 0.0 && control <= m("traffic_control"), "{control}");
    type Count = fn(&migbench_reports::record::Round) -> u64;
    let counts: [(&str, Count); 5] = [
        ("pages_full", |r| r.pages_full),
        ("pages_zero", |r| r.pages_zero),
        ("pages_delta", |r| r.pages_delta),
        ("pages_unchanged", |r| r.pages_unchanged),
        ("pages_overflow", |r| r.pages_overflow),
    ];
    for (name, count) in counts {
        let sum: u64 = rounds.iter().map(count).sum();
        assert_eq!(sum as f64, record.metrics.get(name).map_or(0.0, |metric| metric.value), "{name}");
    }

    let parts = ["downtime_pause", "downtime_harvest", "downtime_send", "downtime_state", "downtime_resume"];
    assert!((parts.map(m).iter().sum::<f64>() - m("downtime")).abs() < 1e-6, "the parts are the downtime");
    assert!((m("traffic") / m("first_round_bytes") - m("amplification")).abs() < 1e-9);
    assert!(m("throughput_after") > 0.0, "the guest works at the destination");
}

fn assert_whole(record: &Record) {
    assert_ne!(record.status, Status::Failed, "{}: {:?}", record.run_id, record.error);
    assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{}", record.run_id);
    assert!(record.histograms.get().keys().any(|key| key.ends_with("/steady")), "histograms");
    assert!(!record.timeline.get().operations.is_empty(), "a timeline");
    assert_adds_up(record);
}

#[test]
fn every_engine_moves_every_workload_over_every_link() {
    require_kvm!();
    for engine in ["full", "delta", "stop-and-copy"] {
        for (number, workload) in ["read-heavy", "write-heavy", "idle"].into_iter().enumerate() {
            // Every pair of the three, and every three where there is time.
            for transport in in_turn(["unix", "tcp"], number + engine.len()) {
                let (outcome, record) = migrate(&[
                    "--engine",
                    engine,
                    "--workload",
                    workload,
                    "--transport",
                    transport,
                    "--verify",
                ]);
                assert_eq!(outcome.status, 0, "{}", outcome.stderr);
                assert_eq!(record.status, Status::Ok, "{}", record.run_id);
                assert_eq!(record.kind, RunKind::Verification);
                assert_whole(&record);
                let (mut present, mut absent) = (vec![ALWAYS, LIMITED, OPEN_LOOP], vec![]);
                if engine == "stop-and-copy" { &mut absent } else { &mut present }.push(PRECOPY);
                if engine == "delta" { &mut present } else { &mut absent }.push(CODEC);
                absent.push(&["slowdown_precopy"]);
                assert_metrics(&record, &present, &absent);
                if engine == "stop-and-copy" {
                    assert_eq!(metric(&record, "rounds"), 0.0);
                }
                if workload == "idle" && engine != "stop-and-copy" {
                    assert_eq!(metric(&record, "page_writes_precopy"), 0.0, "idle writes nothing");
                }
            }
        }
    }
}

#[test]
fn a_shadow_is_as_large_as_the_guest_and_counted() {
    require_kvm!();
    // Without zero pages, so that all of the shadow is in use.
    let fill = ["settings.fill.zero=0", "settings.fill.random=0.5", "settings.fill.text=0.5"];
    let fill = fill.map(|text| ["--set", text]);
    let memory = ["full", "delta"].map(|engine| {
        let arguments = [&["--engine", engine, "--link", "4Gbit/s"][..], fill.as_flattened()].concat();
        let (_, record) = migrate(&arguments);
        assert_eq!(record.guest_checked, Some(true), "{:?}", record.error);
        assert_eq!((record.kind, record.verified), (RunKind::Timed, None), "nothing was hashed");
        metric(&record, "memory_source")
    });
    // The first quarter of this guest is its program's and nearly all zero, of which no copy is kept.
    let shadow = memory[1] - memory[0];
    let guest = f64::from(32 << 20);
    assert!(shadow > 0.7 * guest && shadow < guest + f64::from(16 << 20), "{memory:?}");
}

#[test]
fn brownout_is_reported_where_samples_cover_its_span() {
    require_kvm!();
    for engine in ["full", "none"] {
        let (_, long) = migrate(&["--engine", engine, "--set", "windows.after=1s"]);
        // Negative where the steady window was the worse one.
        metric(&long, "brownout");
        let (_, short) = migrate(&["--engine", engine, "--set", "windows.after=200ms"]);
        assert!(!short.metrics.contains_key("brownout"), "silence after the samples' end is no brownout");
    }
}

#[test]
fn two_vcpus_and_shared_memory_arrive_whole() {
    require_kvm!();
    for engine in ["full", "delta"] {
        let (_, record) =
            migrate(&["--engine", engine, "--vcpus", "2", "--set", "backing=memfd", "--verify"]);
        assert_whole(&record);
        assert_eq!(record.cell.vcpus, 2);
        assert!(!record.flags.contains(&"clock_backwards".to_owned()), "{:?}", record.flags);
    }
}

#[test]
fn timed_runs_prove_memory_where_asked() {
    require_kvm!();
    for engine in ["full", "delta", "stop-and-copy"] {
        let (_, record) = migrate(&["--engine", engine, "--set", "proof=every"]);
        assert_eq!(record.kind, RunKind::Timed);
        assert_whole(&record);
    }
}

/// Live pages are torn while they leave, and have to be found dirty and sent again.
#[test]
fn a_guest_that_writes_flat_out_arrives_whole_under_either_checksum() {
    require_kvm!();
    for engine in ["full", "delta"] {
        for checksum in ["header", "pages"] {
            let checksum = format!("link.checksum={checksum}");
            let (_, record) = migrate(&[
                "--engine",
                engine,
                "--link",
                "unlimited",
                "--set",
                &checksum,
                "--set",
                "settings.load=flat-out",
                "--set",
                "stop.max_rounds=6",
                "--set",
                "proof=every",
            ]);
            assert_whole(&record);
        }
    }
}

#[test]
fn zero_pages_are_sent_whole_where_asked() {
    require_kvm!();
    for engine in ["full", "delta"] {
        let (_, record) =
            migrate(&["--engine", engine, "--set", "elide_zero=false", "--link", "4Gbit/s", "--verify"]);
        assert_whole(&record);
        assert_eq!((metric(&record, "pages_zero"), metric(&record, "traffic_zero")), (0.0, 0.0));
        assert_eq!(record.rounds[0].pages_full, (32 << 20) / 4096);
    }
}

#[test]
fn controls_measure_without_moving() {
    require_kvm!();
    for engine in ["none", "track-only"] {
        // Long enough for several harvests on a host that has no CPU to spare.
        let (outcome, record) = migrate(&["--engine", engine, "--set", "windows.control=1500ms"]);
        assert_eq!((outcome.status, record.status), (0, Status::Ok), "{:?}", record.error);
        assert_eq!((record.verified, record.guest_checked), (None, Some(true)));
        let here: &[&str] = &[
            "throughput_steady",
            "page_write_rate",
            "throughput_precopy",
            "throughput_after",
            "page_writes_precopy",
            "backlog_max",
            "cpu_source",
            "cpu_vcpu",
            "memory_source",
            "vcpu_run_delay",
            "engine_run_delay",
        ];
        let moving: &[&str] =
            &["total_time", "downtime", "blackout", "traffic", "rounds", "cpu_destination", "decode_time"];
        let tracking: &[&str] = &["dirty_rate"];
        if engine == "track-only" {
            assert_metrics(&record, &[here, tracking, &["harvest_time"]], &[moving, CODEC]);
            assert!(record.rounds.len() > 1, "harvests");
            assert!(record.rounds.iter().all(|round| round.traffic == 0 && !round.paused));
            assert!(record.rounds[1..].iter().any(|round| round.dirty_pages > 0));
        } else {
            assert_metrics(&record, &[here], &[moving, tracking, CODEC]);
        }
    }
}

#[test]
fn a_link_without_limit_has_no_rate_to_achieve() {
    require_kvm!();
    let load = ["--set", "settings.load=pages(10000)", "--link", "unlimited", "--verify"];
    for engine in ["full", "delta"] {
        let (_, record) = migrate(&[&["--engine", engine][..], &load].concat());
        assert_whole(&record);
        assert_metrics(&record, &[ALWAYS, PRECOPY, OPEN_LOOP], &[LIMITED]);
    }
}

#[test]
fn a_closed_loop_has_a_slowdown_and_no_backlog() {
    require_kvm!();
    let (_, record) = migrate(&["--engine", "full", "--set", "settings.load=flat-out", "--verify"]);
    assert_whole(&record);
    assert_metrics(&record, &[ALWAYS, PRECOPY, &["slowdown_precopy"]], &[OPEN_LOOP]);
}

#[test]
fn stalls_are_reported_where_enough_operations_stand_behind_them() {
    require_kvm!();
    let (_, record) =
        migrate(&["--engine", "full", "--workload", "idle", "--set", "windows.steady=300ms", "--verify"]);
    assert_whole(&record);
    metric(&record, "stall_precopy");
}

#[test]
fn rounds_shrink_until_the_pause_is_short_enough() {
    require_kvm!();
    let arguments =
        ["--set", "settings.load=pages(8000)", "--set", "stop.downtime_limit=5ms", "--verify", "--engine"];
    for engine in ["full", "delta"] {
        let (_, record) = migrate(&[&arguments[..], &[engine]].concat());
        assert_eq!(record.status, Status::Ok);
        assert_whole(&record);
        assert!(record.rounds.len() > 2, "{} rounds", record.rounds.len());
        metric(&record, "dirty_rate");
        if engine == "delta" {
            assert!(metric(&record, "pages_delta") > 0.0 && metric(&record, "delta_bytes_per_page") > 0.0);
        }
    }
}

const HOT: [&str; 5] =
    ["--verify", "--set", "settings.load=pages(50000)", "--set", "stop.downtime_limit=1ms"];

#[test]
fn a_cap_on_rounds_forces_the_switchover_and_is_reported() {
    require_kvm!();
    for engine in ["full", "delta"] {
        // Whole pages change, so that delta converges no better.
        let whole = ["--set", "settings.change.bytes=4080", "--set", "settings.change.pieces=1"];
        let (outcome, record) =
            migrate(&[&HOT[..], &whole, &["--engine", engine, "--set", "stop.max_rounds=3"]].concat());
        assert_eq!((outcome.status, record.status), (0, Status::Capped));
        assert_whole(&record);
        assert_eq!(record.rounds.len(), 4, "three rounds and the paused one");
    }
}

#[test]
fn a_cap_on_time_cuts_the_first_round_short() {
    require_kvm!();
    for engine in ["full", "delta"] {
        let (_, record) = migrate(&[&HOT[..], &["--engine", engine, "--set", "stop.max_time=20ms"]].concat());
        assert_eq!(record.status, Status::Capped);
        assert_whole(&record);
        assert_eq!(record.rounds.len(), 2);
        let first = &record.rounds[0];
        assert!(first.pages_full + first.pages_zero < first.dirty_pages, "pages are left for the pause");
        assert!(record.rounds[1].dirty_pages >= first.dirty_pages - first.pages_full - first.pages_zero);
    }
}

#[test]
fn vector_registers_survive_a_migration() {
    require_kvm!();
    let flags = migbench_workloads::abi::FLAG_REGISTERS.to_string();
    let (_, record) = migrate(&["--engine", "full", "--verify", "--guest-flags", &flags]);
    assert_ne!(record.status, Status::Failed, "{:?}", record.error);
    assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)));
    assert!(record.flags.contains(&"fault_injected".to_owned()), "the flag keeps it out of comparisons");
}

/// What is queued has left before the pause is ordered, and is no part of it.
#[test]
fn a_queue_longer_than_the_limit_keeps_nobody_from_the_pause() {
    require_kvm!();
    for (workload, load) in [("idle", "pages(0)"), ("write-heavy", "pages(300)")] {
        let load = format!("settings.load={load}");
        let load: &[&str] = if workload == "idle" { &[] } else { &["--set", &load] };
        let asked = ["--engine", "full", "--workload", workload, "--link", "400Mbit/s"];
        let limit = ["--set", "link.queue=4MiB", "--set", "stop.downtime_limit=50ms"];
        let (outcome, record) = migrate(&[&asked[..], &limit, load].concat());
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        // The queue alone takes 84 ms.
        assert_eq!(record.status, Status::Ok, "{workload}: {:?}", record.rounds);
        assert_adds_up(&record);
        for round in &record.rounds {
            let stages: f64 = round.stages().iter().filter_map(|(_, time)| *time).sum();
            assert!((stages - round.duration).abs() < 1e-6, "{workload}: {round:?}");
        }
    }
}

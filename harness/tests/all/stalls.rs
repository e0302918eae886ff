//! What the guest feels on real migrations: stalls with their causes, a clock that never goes back, no operation lost.

use crate::support::{metric, migrate, require_kvm, skip};
use migbench_reports::histogram;
use migbench_reports::record::{Cause, Record, Stalls, Status};

/// Windows long enough for a threshold and for a second around the migration.
const LONG: [&str; 6] =
    ["--set", "windows.steady=1s", "--set", "windows.after=1s", "--set", "settings.load=flat-out"];

fn stalls(record: &Record) -> Stalls {
    assert_eq!((record.status, record.guest_checked), (Status::Ok, Some(true)), "{:?}", record.error);
    record.stalls.get().into_owned().expect("a threshold, and so stalls")
}

fn count(stalls: &Stalls, phase: &str, cause: Option<Cause>) -> usize {
    let wanted = |s: &&_| -> bool {
        let s: &migbench_reports::record::Stall = s;
        s.phase == phase && cause.is_none_or(|cause| s.cause == cause)
    };
    stalls.list.iter().filter(wanted).count()
}

#[test]
fn long_stalls_under_userfaultfd_are_its_faults() {
    require_kvm!();
    let settings = migbench_scenarios::cell::TrackerSettings::DEFAULT;
    if let Err(error) = migbench::dirty::available(
        migbench_scenarios::cell::Tracker::UffdWp,
        &settings,
        migbench_scenarios::cell::Backing::Anonymous,
    ) {
        skip(&error.to_string());
        return;
    }
    let (_, record) = migrate(&[&["--engine", "full", "--set", "tracker=uffd-wp"][..], &LONG].concat());
    let stalls = stalls(&record);
    assert!(stalls.clock_error.is_some(), "the clocks were compared");
    let (all, faults) = (count(&stalls, "precopy", None), count(&stalls, "precopy", Some(Cause::Fault)));
    // A vCPU that waits for a CPU stalls too, as often as the host is busy; of what the host did, most is faults.
    let others = all - faults - count(&stalls, "precopy", Some(Cause::None));
    assert!(faults > 0 && faults > others, "{faults} of {all} stalls in pre-copy are faults: {stalls:?}");
    assert!(metric(&record, "stall_precopy_fault") > 0.0);
    assert_eq!(metric(&record, "stall_precopy_ring_full"), 0.0, "there is no ring");
    assert_switchover(&record);
}

/// The operation that overlaps the pause stalled for it.
fn assert_switchover(record: &Record) {
    let stalls = stalls(record);
    let mut during = stalls.list.iter().filter(|stall| stall.phase == "switchover").peekable();
    // It is listed where it took longer than the threshold, which is where the pause hit an operation and not a wait.
    let blackout = metric(record, "blackout");
    assert!(during.all(|stall| stall.cause == Cause::Switchover && stall.duration <= blackout + 1e-3));
    assert!(stalls.list.is_sorted_by_key(|stall| stall.start.unwrap()), "in order of time");
}

/// Flat out, an operation always runs: the pause hits one of each vCPU, and its stall is the switchover's.
#[test]
fn the_operation_that_the_pause_hits_is_reported() {
    require_kvm!();
    for tracker in ["kvm-bitmap", "kvm-manual", "kvm-ring"] {
        let (_, record) = migrate(&[
            "--engine",
            "full",
            "--set",
            &format!("tracker={tracker}"),
            "--set",
            "settings.load=flat-out",
            "--set",
            "windows.steady=1s",
            "--set",
            "windows.after=1s",
        ]);
        let stalls = stalls(&record);
        assert_eq!(count(&stalls, "switchover", Some(Cause::Switchover)), 1, "{tracker}: {stalls:?}");
        assert_eq!(count(&stalls, "precopy", Some(Cause::Fault)), 0, "{tracker}: {stalls:?}");
        assert_switchover(&record);
    }
}

#[test]
fn a_control_has_stalls_without_a_cause() {
    require_kvm!();
    let (_, record) = migrate(&[&["--engine", "none", "--set", "windows.control=500ms"][..], &LONG].concat());
    let stalls = stalls(&record);
    assert!(stalls.list.iter().all(|stall| stall.cause == Cause::None), "{stalls:?}");
}

#[test]
fn a_timeline_reaches_a_second_around_the_migration() {
    require_kvm!();
    let (_, record) = migrate(&[&["--engine", "full"][..], &LONG].concat());
    let timeline = record.timeline.get();
    let end = timeline.start + timeline.interval * timeline.operations.len() as f64;
    let running = timeline.events.iter().find(|(_, event)| event == "running").unwrap().0;
    assert!(
        timeline.interval == 0.001 && timeline.start <= -1.0 && end >= running + 1.0,
        "{}..{end}",
        timeline.start
    );
    assert!(timeline.gaps.iter().all(|gap| (gap.0 + gap.1) as usize <= timeline.operations.len()));
}

#[test]
fn no_operation_seems_negative_or_is_lost() {
    require_kvm!();
    for vcpus in ["1", "2"] {
        for engine in ["full", "delta", "stop-and-copy"] {
            let (_, record) = migrate(&["--engine", engine, "--vcpus", vcpus]);
            let place = format!("{engine}, {vcpus} vCPUs");
            assert_eq!(record.status, Status::Ok, "{place}: {:?}", record.error);
            // The guest's own count of operations and of page writes is telemetry's, before and after.
            assert_eq!(record.guest_checked, Some(true), "{place}");
            // How exactly a jump can be known depends on when a busy host lets anybody look; this does not.
            assert!(!record.flags.contains(&"clock_backwards".to_owned()), "{place}: {:?}", record.flags);
            let filed = |phase: &str| -> u64 {
                let histograms = record.histograms.get();
                let of_phase = histograms
                    .iter()
                    .filter(|(key, _)| key.ends_with(&format!("/{phase}")) && !key.contains("_response"));
                of_phase.map(|(_, text)| histogram::decode(text).unwrap().len()).sum()
            };
            assert_eq!(
                filed("switchover").to_string(),
                vcpus,
                "{place}: one operation of each overlaps the pause"
            );
            assert!(filed("catchup") + filed("after") > 0, "{place}");
        }
    }
}

/// The clock is set back behind the guest's back. Hosts whose guests read the host's clock ignore that; there is nothing
/// to see there.
#[test]
fn a_clock_that_is_set_back_is_reported() {
    require_kvm!();
    let (_, record) = migrate(&["--engine", "full", "--fault", "destination:clock@switchover"]);
    assert_ne!(record.status, Status::Failed, "{:?}", record.error);
    if metric(&record, "tsc_jump") > -0.5 {
        skip("this host's KVM does not apply the TSC offset to what guests read");
        return;
    }
    for flag in ["clock_backwards", "tsc_jumped"] {
        assert!(record.flags.contains(&flag.to_owned()), "{:?}", record.flags);
    }
    // The guest's clock says less; the host knows better.
    assert!(metric(&record, "blackout") >= metric(&record, "downtime") - metric(&record, "downtime_pause"));
}

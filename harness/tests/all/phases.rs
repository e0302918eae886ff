//! Workloads that change with time, and working sets that vCPUs share, on real guests.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};

use crate::support::{cell, metric, migrate, require_kvm, telemetry_file};
use migbench::guest::telemetry;
use migbench::sys::memory::Telemetry;
use migbench::vm::Vm;
use migbench_reports::record::Status;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::settings::{Load, Sharing, WorkloadPhase};
use migbench_workloads::units::{Bytes, Seconds};

fn boot(cell: &Cell) -> Vm {
    let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
    telemetry.control().phase.store(abi::PHASE_STEADY, Relaxed);
    Vm::boot(cell, 1, 0, Arc::new(telemetry)).unwrap()
}

fn phase(seconds: f64, reads: f64, load: Load) -> WorkloadPhase {
    WorkloadPhase {
        duration: Seconds(seconds),
        reads: Some(reads),
        writes: None,
        load: Some(load),
        working_set: None,
    }
}

/// Waits until every vCPU is in `stage`.
fn wait_for_stage(vm: &Vm, stage: u32) {
    let start = Instant::now();
    while (0..vm.telemetry().vcpus()).any(|n| vm.telemetry().vcpu(n).stage.load(Relaxed) != stage) {
        assert!(start.elapsed() < Duration::from_secs(10), "not in stage {stage}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Page writes and operations of a while, each read while the guest is paused, so that they differ by no more than what
/// each vCPU is in the middle of.
fn progress(vm: &Vm) -> (u64, u64) {
    let of = || {
        vm.pause().unwrap();
        let counters = (telemetry::page_writes(vm.telemetry()), telemetry::operations(vm.telemetry()));
        vm.resume();
        counters
    };
    let before = of();
    std::thread::sleep(Duration::from_millis(300));
    let after = of();
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn a_held_phase_stays_and_phases_follow_when_it_is_let_go() {
    require_kvm!();
    for vcpus in [1, 2] {
        let mut cell = Cell { vcpus, ..cell() };
        cell.settings.phases = vec![
            phase(0.2, 1.0, Load::Operations(20_000.0)),
            phase(0.2, 0.0, Load::Pages(5_000.0)),
            phase(0.2, 1.0, Load::Operations(1_000.0)),
        ];
        let vm = boot(&cell);
        let control = vm.telemetry().control();
        // Longer than the phase lasts: it is held. Nothing here depends on how fast the guest is.
        control.hold.store(1, Release);
        wait_for_stage(&vm, 0);
        let (writes, operations) = progress(&vm);
        assert!(writes == 0 && operations > 0, "{writes} writes in a phase that reads");
        control.hold.store(2, Release);
        wait_for_stage(&vm, 1);
        let (writes, operations) = progress(&vm);
        // One under way for each vCPU at either end.
        let expected = format!("{writes} writes of {operations} in a phase that writes");
        assert!(writes > 0 && writes.abs_diff(operations) <= 2 * u64::from(vcpus), "{expected}");
        control.hold.store(0, Release);
        wait_for_stage(&vm, 2);
        wait_for_stage(&vm, 0);
        wait_for_stage(&vm, 1);
        migbench::guest::validate(&vm).unwrap();
    }
}

#[test]
fn a_phase_can_go_to_a_part_of_the_working_set() {
    require_kvm!();
    let mut cell = cell();
    let small = WorkloadPhase { working_set: Some(Bytes(64 << 10)), ..phase(60.0, 0.0, Load::FlatOut) };
    cell.settings.phases = vec![small, phase(60.0, 0.0, Load::FlatOut)];
    let vm = boot(&cell);
    vm.telemetry().control().hold.store(1, Release);
    let pages = vm.ram().pages();
    let read = || {
        vm.pause().unwrap();
        let mut memory = vec![0; usize::try_from(pages * 4096).unwrap()];
        vm.ram().read(0, &mut memory).unwrap();
        vm.resume();
        memory
    };
    wait_for_stage(&vm, 0);
    let before = read();
    std::thread::sleep(Duration::from_millis(200));
    let after = read();
    let first = usize::try_from(abi::RESERVED / 4096).unwrap();
    let changed: Vec<usize> = (first..usize::try_from(pages).unwrap())
        .filter(|page| before[page * 4096..(page + 1) * 4096] != after[page * 4096..(page + 1) * 4096])
        .map(|page| page - first)
        .collect();
    assert_eq!(changed, (0..16).collect::<Vec<_>>());
    migbench::guest::validate(&vm).unwrap();
}

#[test]
fn every_vcpu_writes_everywhere_in_a_shared_working_set() {
    require_kvm!();
    let mut cell = Cell { vcpus: 2, ..cell() };
    cell.settings.sharing = Sharing::Shared;
    cell.settings.load = Load::FlatOut;
    let vm = boot(&cell);
    std::thread::sleep(Duration::from_millis(300));
    // Each write of a page is counted in it: two vCPUs that got into each other's way would lose some.
    migbench::guest::validate(&vm).unwrap();
    for n in 0..2 {
        assert!(vm.telemetry().vcpu(n).page_writes.load(Relaxed) > 100, "vCPU {n} wrote nothing");
    }
}

#[test]
fn a_migration_starts_in_the_phase_that_is_set() {
    require_kvm!();
    const PHASES: &str =
        "settings.phases=300ms reads=1 load=operations(2000); 300ms reads=0 load=pages(8000)";
    for (start, wrote) in [("1", false), ("2", true)] {
        let start_phase = format!("start_phase={start}");
        let (outcome, record) = migrate(&["--engine", "delta", "--set", PHASES, "--set", &start_phase]);
        assert_eq!(record.status, Status::Ok, "{outcome:?}");
        assert_eq!(metric(&record, "page_write_rate") > 0.0, wrote, "phase {start} is the steady one");
    }
}

#[test]
fn shared_working_sets_migrate_whole() {
    require_kvm!();
    for engine in ["full", "delta"] {
        let (outcome, record) = migrate(&[
            "--engine",
            engine,
            "--verify",
            "--vcpus",
            "2",
            "--set",
            "settings.sharing=shared",
            "--set",
            "settings.load=pages(5000)",
        ]);
        assert_eq!(record.status, Status::Ok, "{outcome:?}");
        assert_eq!(record.verified, Some(true), "{outcome:?}");
    }
}

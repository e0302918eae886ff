//! Guests that keep data (stores, page cache, collector, journal): migrated by every engine, all memory compared, and
//! checked by the program itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{cell, in_turn, metric, migrate, require_kvm, telemetry_file};
use migbench::sys::memory::Telemetry;
use migbench::vm::Vm;
use migbench_reports::record::Status;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::catalogue;
use migbench_workloads::settings::{Load, Settings};
use migbench_workloads::units::Bytes;

const WORKLOADS: [&str; 7] = ["kv-a", "kv-b", "kv-c", "kv-f", "page-cache", "gc", "log"];

fn migrates(vcpus: &str, sharing: &str) {
    for (number, workload) in WORKLOADS.into_iter().enumerate() {
        // Each program with both engines and in all three ways; every engine in every way where there is time.
        let turn = number + usize::from(vcpus == "2") + usize::from(sharing == "shared");
        for engine in in_turn(["full", "delta"], turn) {
            let sharing = format!("settings.sharing={sharing}");
            let (outcome, record) = migrate(&[
                "--engine",
                engine,
                "--workload",
                workload,
                "--vcpus",
                vcpus,
                "--set",
                &sharing,
                "--verify",
            ]);
            let what = &record.run_id;
            assert_ne!(record.status, Status::Failed, "{what}: {:?}\n{}", record.error, outcome.stderr);
            assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{what}");
            assert!(metric(&record, "throughput_after") > 0.0, "{what} works at the destination");
            // Not of the pre-copy phase, in which a guest on a busy host may not have had a CPU at all.
            let written = metric(&record, "page_write_rate");
            assert!((written > 0.0) == (workload != "kv-c"), "{what}: {written} page writes a second");
            // Each type of operation has a name of its own, whichever of them fell into the window.
            let operations = record.cell.settings.program.operations();
            let filed = |name: &&str| record.histograms.get().contains_key(&format!("latency_{name}/steady"));
            assert!(operations.iter().any(filed), "{what}: {:?}", record.histograms.get().keys());
        }
    }
}

#[test]
fn every_engine_moves_them() {
    require_kvm!();
    migrates("1", "partitioned");
}

#[test]
fn every_engine_moves_them_with_two_vcpus() {
    require_kvm!();
    migrates("2", "partitioned");
}

#[test]
fn every_engine_moves_them_with_shared_parts() {
    require_kvm!();
    migrates("2", "shared");
}

/// A small guest with a program of the catalogue.
fn small(workload: &str, load: Load) -> Cell {
    let settings = catalogue::lookup(workload).unwrap().settings.clone();
    Cell { settings: Settings { working_set: Bytes(8 << 20), load, ..settings }, ..cell() }
}

fn boot(cell: &Cell) -> Vm {
    let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
    telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    Vm::boot(cell, 1, 0, Arc::new(telemetry)).unwrap()
}

/// Puts `bytes` where `page` begins while the guest is paused, and lets it do no more than what it was at before it checks.
fn plant(vm: &Vm, page: u64, bytes: &[u8]) -> String {
    vm.ram().write(page, bytes).unwrap();
    vm.telemetry().control().command.store(abi::COMMAND_STOP, Ordering::Release);
    vm.resume();
    migbench::guest::validate(vm).unwrap_err().to_string()
}

#[test]
fn a_flipped_bit_and_stale_pages_are_found_in_each() {
    require_kvm!();
    for workload in WORKLOADS {
        let page = abi::RESERVED / 4096 + 700;
        let cell = small(workload, Load::FlatOut);
        let vm = boot(&cell);
        migbench::guest::validate(&vm).unwrap();

        let vm = boot(&cell);
        vm.pause().unwrap();
        let mut one = vec![0; 4096];
        vm.ram().read(page, &mut one).unwrap();
        one[1234] ^= 4;
        plant(&vm, page, &one);

        if workload == "kv-c" {
            continue;
        }
        let vm = boot(&cell);
        let mut old = vec![0; 1024 * 4096];
        vm.pause().unwrap();
        vm.ram().read(page, &mut old).unwrap();
        vm.resume();
        std::thread::sleep(Duration::from_millis(200));
        vm.pause().unwrap();
        plant(&vm, page, &old);
    }
}

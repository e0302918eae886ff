//! Real guests in this process: boot, work, validation, faults, registers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{cell, require_kvm, telemetry_file};
use migbench::guest::telemetry;
use migbench::sys::memory::Telemetry;
use migbench::vm::{Vm, VmError};
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::programs::parametric;

fn boot(cell: &Cell, flags: u32) -> Result<Vm, VmError> {
    let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
    telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    Vm::boot(cell, 1, flags, Arc::new(telemetry))
}

#[test]
fn works_and_validates() {
    require_kvm!();
    for vcpus in [1, 2] {
        let vm = boot(&Cell { vcpus, ..cell() }, 0).unwrap();
        let before = telemetry::operations(vm.telemetry());
        std::thread::sleep(Duration::from_millis(200));
        let done = telemetry::operations(vm.telemetry()) - before;
        assert!(done > 100, "{done} operations in 200 ms");
        for n in 0..vcpus as usize {
            assert!(vm.telemetry().vcpu(n).page_writes.load(Ordering::Relaxed) > 0, "vCPU {n} wrote nothing");
        }
        let mut filed = telemetry::empty_histogram();
        telemetry::lift(vm.telemetry(), 0, parametric::WRITE, 0, &mut filed);
        assert!(!filed.is_empty());
        migbench::guest::validate(&vm).unwrap();
    }
}

#[test]
fn pauses_and_goes_on() {
    require_kvm!();
    let vm = boot(&Cell { vcpus: 2, ..cell() }, 0).unwrap();
    for _ in 0..50 {
        vm.pause().unwrap();
        let before = telemetry::operations(vm.telemetry());
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(telemetry::operations(vm.telemetry()), before, "operations while paused");
        vm.resume();
        std::thread::sleep(Duration::from_millis(2));
    }
    migbench::guest::validate(&vm).unwrap();
}

#[test]
fn a_lost_write_and_a_flipped_bit_are_found() {
    require_kvm!();
    let vm = boot(&cell(), 0).unwrap();
    // The working set starts at the end of what the image reserves. Its first pages as they were a while ago:
    let page = abi::RESERVED / 4096;
    let mut old = vec![0; 1024 * 4096];
    vm.pause().unwrap();
    vm.ram().read(page, &mut old).unwrap();
    vm.resume();
    std::thread::sleep(Duration::from_millis(200));
    vm.pause().unwrap();
    vm.ram().write(page, &old).unwrap();
    vm.resume();
    let error = migbench::guest::validate(&vm).unwrap_err().to_string();
    assert!(error.contains("a written page was lost"), "{error}");

    let vm = boot(&cell(), 0).unwrap();
    vm.pause().unwrap();
    let mut one = vec![0; 4096];
    vm.ram().read(page + 77, &mut one).unwrap();
    one[4090] ^= 4;
    vm.ram().write(page + 77, &one).unwrap();
    vm.resume();
    let error = migbench::guest::validate(&vm).unwrap_err().to_string();
    let place = format!("{:#x}", (page + 77) * 4096);
    assert!(error.contains(&place), "{error}");
}

#[test]
fn a_fault_of_the_guest_is_reported_with_its_place() {
    require_kvm!();
    let error = match boot(&cell(), abi::FLAG_FAULT) {
        Err(error) => error.to_string(),
        Ok(vm) => {
            std::thread::sleep(Duration::from_millis(500));
            vm.check().unwrap_err().to_string()
        }
    };
    assert!(error.contains("exception 6 at instruction 0x2"), "{error}");
}

#[test]
fn vector_registers_live_through_pauses() {
    require_kvm!();
    let vm = boot(&cell(), abi::FLAG_REGISTERS).unwrap();
    for _ in 0..20 {
        vm.pause().unwrap();
        vm.resume();
        std::thread::sleep(Duration::from_millis(1));
    }
    migbench::guest::validate(&vm).unwrap();
}

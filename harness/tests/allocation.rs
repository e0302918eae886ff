//! No tracker allocates while a migration goes on: neither to harvest nor to arm pages again before they are read. Nor does
//! anything that becomes of a vCPU's state while the guest is paused. What this thread allocates is counted, by an allocator that stands in for the usual one in this whole binary.
#![allow(clippy::unwrap_used)]

#[path = "all/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use allocation_counter::measure;
use migbench::dirty::{available, tracker};
use migbench::sys::memory::Telemetry;
use migbench::vm::Vm;
use migbench::vm::model::create_vcpu;
use migbench::vm::msr::StateMsrs;
use migbench::vm::page_set::PageSet;
use migbench::vm::state::VcpuState;
use migbench_scenarios::cell::{Cell, Tracker, TrackerSettings};
use migbench_workloads::abi;
use migbench_workloads::settings::{Load, Pattern};
use migbench_workloads::units::Bytes;
use support::{cell, require_kvm, telemetry_file};

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![0_u64; 64]))).count_total, 1);
}

#[test]
fn no_tracker_allocates_once_it_is_armed() {
    require_kvm!();
    for &(name, tracker_word) in Tracker::ALL {
        // Few entries and ranges, so that rings get full and vectors have to be taken in turns.
        let tracker_settings =
            TrackerSettings { ring_entries: 1024, scan_ranges: 64, ..TrackerSettings::DEFAULT };
        if let Err(error) = available(tracker_word, &tracker_settings, cell().backing) {
            assert!(std::env::var_os("MIGBENCH_REQUIRE_KVM").is_none(), "{error}");
            eprintln!("skipped: {error}");
            continue;
        }
        let mut cell = Cell { tracker: tracker_word, tracker_settings, timing: false, vcpus: 2, ..cell() };
        cell.settings.working_set = Bytes(16 << 20);
        cell.settings.load = Load::FlatOut;
        cell.settings.pattern = Pattern::Uniform;
        let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
        telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
        let vm = Vm::boot(&cell, 1, 0, Arc::new(telemetry)).unwrap();
        let mut tracker = tracker(&cell, &vm).unwrap();
        let mut dirty = PageSet::new(vm.ram().pages()).unwrap();
        tracker.arm().unwrap();
        dirty.fill();
        let (mut reported, mut allocations) = (0, 0);
        for _ in 0..50 {
            let counted = measure(|| {
                while let Some((first, count)) = dirty.take_run(64) {
                    tracker.before_read(first, count).unwrap();
                }
                tracker.harvest(&mut dirty).unwrap();
            });
            allocations += counted.count_total;
            reported += dirty.len();
            std::thread::sleep(Duration::from_millis(2));
        }
        tracker.disarm().unwrap();
        assert_eq!(allocations, 0, "{name} allocates while it works");
        assert!(reported > 100, "{name} found next to nothing: {reported} pages");
    }
}

#[test]
fn neither_saving_nor_restoring_a_vcpu_allocates() {
    require_kvm!();
    let kvm = migbench::host::kvm::open_kvm(std::path::Path::new("/dev/kvm")).unwrap();
    let vm = kvm.create_vm().unwrap();
    let (source, destination) = (create_vcpu(&kvm, &vm, 0).unwrap(), create_vcpu(&kvm, &vm, 1).unwrap());
    let msrs = StateMsrs::of(&kvm, &source).unwrap();
    let (mut saved, mut restored) =
        (VcpuState::new(&vm, &msrs).unwrap(), VcpuState::new(&vm, &msrs).unwrap());
    assert_eq!(measure(|| saved.save(&source).unwrap()).count_total, 0);
    let bytes = saved.as_bytes().concat();
    let restoring = measure(|| {
        restored.load(&bytes).unwrap();
        restored.restore(&destination).unwrap();
    });
    assert_eq!(restoring.count_total, 0);
}

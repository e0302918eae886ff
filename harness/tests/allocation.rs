//! No tracker allocates while a migration goes on: neither to harvest nor to arm pages again before they are read. What
//! this thread allocates is counted, by an allocator that stands in for the usual one in this whole binary.
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
use migbench::vm::page_set::PageSet;
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
        let mut dirty = PageSet::new(vm.ram().pages());
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

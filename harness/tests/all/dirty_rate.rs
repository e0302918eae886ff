//! Whether a load in pages or bytes per second is what a dirty tracker then finds, on real guests.
//!
//! This is no assertion about speed: the rates are far below what a guest can do, and an open loop makes up for time in
//! which it had no CPU. Where the host is so busy that it had none at the end of the second, one more try is made.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::{cell, require_kvm, telemetry_file};
use migbench::dirty::tracker;
use migbench::sys::memory::Telemetry;
use migbench::vm::Vm;
use migbench::vm::page_set::PageSet;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::settings::{Load, Pattern, ProgramName, Settings, Sharing};
use migbench_workloads::units::{Bytes, Rate};

/// Pages of the working set that a tracker finds per second. No page is written twice between two harvests: all programs
/// here go through their memory in order, which takes them longer than a second.
fn found(cell: &Cell) -> f64 {
    let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
    telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    let vm = Vm::boot(cell, 1, 0, Arc::new(telemetry)).unwrap();
    let mut tracker = tracker(cell, &vm).unwrap();
    let mut dirty = PageSet::new(vm.ram().pages()).unwrap();
    tracker.arm().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    tracker.harvest(&mut dirty).unwrap();
    let (start, mut pages) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(1200) {
        std::thread::sleep(Duration::from_millis(40));
        dirty.clear();
        tracker.harvest(&mut dirty).unwrap();
        // Without the pages that the program keeps its state in.
        pages += (abi::RESERVED / 4096..vm.ram().pages()).filter(|&page| dirty.contains(page)).count();
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(tracker);
    migbench::guest::validate(&vm).unwrap();
    pages as f64 / seconds
}

/// Within 5 % of `asked` pages per second.
fn assert_holds(settings: &Settings, asked: f64) {
    for vcpus in [1, 2] {
        for sharing in [Sharing::Partitioned, Sharing::Shared] {
            let settings = Settings { sharing, ..settings.clone() };
            let cell = Cell { vcpus, settings, ..cell() };
            let what = format!(
                "{} at {:?}, {vcpus} vCPUs, {sharing:?}",
                cell.settings.program.word(),
                cell.settings.load
            );
            let near = |found: f64| (found / asked - 1.0).abs() <= 0.05;
            let mut rate = found(&cell);
            if !near(rate) {
                println!("{what}: asked {asked:.0}, found {rate:.0} pages/s; trying once more");
                rate = found(&cell);
            }
            println!("{what}: asked {asked:.0}, found {rate:.0} pages/s");
            assert!(near(rate), "{what}: asked {asked:.0}, found {rate:.0} pages/s");
        }
    }
}

/// All of a small guest's memory, in order.
fn settings(program: ProgramName, load: Load) -> Settings {
    Settings { program, load, working_set: Bytes(24 << 20), pattern: Pattern::Sequential, ..cell().settings }
}

#[test]
fn the_parametric_program_holds_its_rate() {
    require_kvm!();
    let of = |load| Settings { reads: 0.5, writes: 2, ..settings(ProgramName::Parametric, load) };
    assert_holds(&of(Load::Pages(4000.0)), 4000.0);
    assert_holds(&of(Load::Bytes(Rate(5000 * 4096))), 5000.0);
}

#[test]
fn programs_with_a_shape_of_their_own_hold_their_rate() {
    require_kvm!();
    assert_holds(&settings(ProgramName::Stream, Load::Pages(5000.0)), 5000.0);
    assert_holds(&settings(ProgramName::Guestperf, Load::Bytes(Rate(4000 * 4096))), 4000.0);
}

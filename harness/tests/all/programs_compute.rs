//! Programs that compute, and those of others, on real guests: they arrive whole, and find what is broken on purpose.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{cell, metric, migrate, require_kvm, telemetry_file};
use migbench::sys::memory::Telemetry;
use migbench::vm::Vm;
use migbench_reports::record::Status;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::settings::{Load, ProgramName};

const PROGRAMS: [ProgramName; 7] = [
    ProgramName::Analytics,
    ProgramName::Sort,
    ProgramName::Matmul,
    ProgramName::Stream,
    ProgramName::Memstress,
    ProgramName::XbzrleDoc,
    ProgramName::Guestperf,
];

#[test]
fn workloads_arrive_whole() {
    require_kvm!();
    let names =
        ["analytics", "sort", "matmul", "stream", "memstress", "xbzrle-doc", "guestperf-stress", "mmuncher"];
    let full = std::env::var_os("MIGBENCH_FULL").is_some();
    for (number, name) in names.into_iter().chain(["mixed"]).enumerate() {
        let ways = [
            ("full", "1", "partitioned"),
            ("delta", "2", "partitioned"),
            ("full", "2", "shared"),
            ("delta", "1", "shared"),
        ];
        // Both engines either way; a program in two of the four ways, and in all of them where there is time.
        for (way, (engine, vcpus, sharing)) in ways.into_iter().enumerate() {
            if !full && (way / 2 + number) % 2 == 1 {
                continue;
            }
            let sharing = format!("settings.sharing={sharing}");
            // Closed loops do not converge: the cap is part of the test.
            let arguments =
                ["--workload", name, "--engine", engine, "--vcpus", vcpus, "--set", &sharing, "--verify"];
            let (_, record) = migrate(&[&arguments[..], &["--set", "stop.max_rounds=4"]].concat());
            let what = format!("{name} {engine} {vcpus} {sharing}: {:?}", record.error);
            assert_ne!(record.status, Status::Failed, "{what}");
            assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{what}");
            assert!(metric(&record, "throughput_after") > 0.0, "{what}");
            for operation in record.cell.settings.program.operations() {
                // Seldom ones need not come about in a short run, and mmuncher reads nothing.
                let reads_nothing = *operation == "read" && record.cell.settings.reads == 0.0;
                let seldom = ["rekey", "initialise"].contains(operation) || reads_nothing;
                let key = format!("latency_{operation}/");
                assert!(
                    seldom || record.histograms.get().keys().any(|name| name.starts_with(&key)),
                    "{what}: {operation}"
                );
            }
        }
    }
}

fn boot(cell: &Cell) -> Vm {
    let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
    telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    Vm::boot(cell, 1, 0, Arc::new(telemetry)).unwrap()
}

/// A page as it was a while ago, or a flipped bit, in a guest that is otherwise right.
#[test]
fn a_stale_page_and_a_flipped_bit_are_found() {
    require_kvm!();
    for program in PROGRAMS {
        // The guest works on until it is asked, and may by then have written all of the page anew: that is no miss.
        assert!(
            (0..5).any(|_| spoilt_page_is_found(program)),
            "{program:?}: a spoilt page missed five times"
        );
    }
}

/// Puts an old page back into a new guest, or flips a bit where no page changes.
fn spoilt_page_is_found(program: ProgramName) -> bool {
    let mut cell = cell();
    cell.settings.program = program;
    cell.settings.load = Load::FlatOut;
    let vm = boot(&cell);
    let first = abi::RESERVED / 4096;
    let pages = cell.settings.working_set.pages().0;
    let read = || {
        let mut memory = vec![0; usize::try_from(pages * 4096).unwrap()];
        vm.ram().read(first, &mut memory).unwrap();
        memory
    };
    vm.pause().unwrap();
    let old = read();
    let changed = || {
        vm.resume();
        std::thread::sleep(Duration::from_millis(30));
        vm.pause().unwrap();
        let new = read();
        let differs =
            |page: &usize| old[page * 4096..(page + 1) * 4096] != new[page * 4096..(page + 1) * 4096];
        (0..usize::try_from(pages).unwrap()).find(differs)
    };
    // A busy host may give the guest no CPU for a while. What Memstress writes again and again without a change can't be lost.
    let tries = if program == ProgramName::Memstress { 1 } else { 100 };
    let stale = (0..tries).find_map(|_| changed());
    assert!(stale.is_some() || program == ProgramName::Memstress, "{program:?} wrote nothing");
    let page = stale.unwrap_or(0);
    let mut bytes = old[page * 4096..(page + 1) * 4096].to_vec();
    if stale.is_none() {
        bytes[4001] ^= 0x10;
    }
    vm.ram().write(first + page as u64, &bytes).unwrap();
    vm.resume();
    migbench::guest::validate(&vm).is_err()
}

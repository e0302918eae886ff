//! Guests that rest until their next operation is due: on schedule, with hardly any CPU, and whole wherever they are
//! interrupted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use kvm_bindings::kvm_regs;
use migbench::guest::telemetry;
use migbench::host::kvm::open_kvm;
use migbench::host::noise::thread_times;
use migbench::sys::kvm::Logging;
use migbench::sys::machine::Machine;
use migbench::sys::memory::Telemetry;
use migbench::sys::ram::Ram;
use migbench::vm::Vm;
use migbench::vm::model::create_vcpu;
use migbench::vm::msr::StateMsrs;
use migbench::vm::state::VcpuState;
use migbench::vm::vcpu::Vcpu;
use migbench_reports::record::Status;
use migbench_scenarios::cell::{Backing, Cell, Wait};
use migbench_workloads::settings::Load;
use migbench_workloads::units::{Bytes, Gpa};
use nix::unistd::Pid;

use crate::support::{cell, metric, migrate, require_kvm, telemetry_file};

/// Operations a second of one vCPU, far enough apart for a rest between any two.
const RATE: f64 = 50.0;

fn sparse(wait: Wait, vcpus: u32) -> Cell {
    let mut cell = Cell { wait, vcpus, ..cell() };
    cell.settings.load = Load::Operations(RATE * f64::from(vcpus));
    cell
}

fn boot(cell: &Cell) -> Vm {
    let telemetry = Telemetry::map(telemetry_file(), cell.vcpus as usize, cell.timing).unwrap();
    Vm::boot(cell, 1, 0, Arc::new(telemetry)).unwrap()
}

fn operations(vm: &Vm) -> f64 {
    telemetry::operations(vm.telemetry()) as f64
}

/// CPU that the threads of its vCPUs have used.
fn cpu(vm: &Vm) -> Duration {
    let thread = |vcpu: &Vcpu| Pid::from_raw(vcpu.thread());
    let of = |vcpu| thread_times(Path::new("/"), Pid::this(), thread(vcpu)).unwrap().unwrap().cpu;
    vm.vcpus().iter().map(of).sum()
}

/// Two guests beside each other, so that a busy host is one for both.
#[test]
fn a_guest_that_rests_keeps_its_schedule_with_a_small_share_of_the_cpu() {
    require_kvm!();
    const VCPUS: u32 = 2;
    let rate = RATE * f64::from(VCPUS);
    let begun = Instant::now();
    let guests = [Wait::Spin, Wait::Doorbell].map(|wait| boot(&sparse(wait, VCPUS)));
    let before = guests.each_ref().map(|vm| (operations(vm), cpu(vm)));
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let due = rate * start.elapsed().as_secs_f64();
    let used: Vec<f64> =
        guests.iter().zip(&before).map(|(vm, (_, before))| (cpu(vm) - *before).as_secs_f64()).collect();
    assert!(used[1] < used[0] / 3.0, "CPU seconds while spinning and while resting: {used:?}");
    for (vm, (operations_before, _)) in guests.iter().zip(&before) {
        // Late where the host is busy, but what is due is done in the end; and nothing before it is due.
        let patience = Instant::now() + Duration::from_secs(20);
        while operations(vm) < operations_before + due - f64::from(VCPUS) {
            assert!(Instant::now() < patience, "{} of {due} operations", operations(vm) - operations_before);
            std::thread::sleep(Duration::from_millis(1));
        }
        let done = operations(vm);
        assert!(
            done <= rate * begun.elapsed().as_secs_f64() + f64::from(VCPUS),
            "{done} operations are too many"
        );
    }
    let rested = |vm: &Vm| (0..VCPUS as usize).any(|n| vm.telemetry().vcpu(n).rest.load(Relaxed) > 0);
    assert_eq!(guests.each_ref().map(rested), [false, true]);
    for vm in &guests {
        migbench::guest::validate(vm).unwrap();
    }
}

/// Nothing rests that has something to do, or something due soon.
#[test]
fn a_closed_loop_and_a_dense_one_never_rest() {
    require_kvm!();
    for load in [Load::FlatOut, Load::Operations(100_000.0)] {
        let mut cell = Cell { wait: Wait::Doorbell, ..cell() };
        cell.settings.load = load;
        let vm = boot(&cell);
        let before = operations(&vm);
        while operations(&vm) < before + 1000.0 {
            vm.check().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(vm.telemetry().vcpu(0).rest.load(Relaxed), 0, "{load:?}");
        migbench::guest::validate(&vm).unwrap();
    }
}

#[test]
fn pauses_and_goes_on_from_within_its_rests() {
    require_kvm!();
    let vm = boot(&sparse(Wait::Doorbell, 2));
    for n in 0..100 {
        vm.pause().unwrap();
        let before = operations(&vm);
        std::thread::sleep(Duration::from_micros(100));
        assert_eq!(operations(&vm), before, "operations while paused");
        vm.resume();
        std::thread::sleep(Duration::from_micros(n * 37 % 3000));
    }
    migbench::guest::validate(&vm).unwrap();
}

/// A vCPU that says again and again that it has nothing to do for ever, and counts.
#[test]
fn an_order_ends_a_rest_however_long_it_is() {
    require_kvm!();
    const START: u64 = 0x1000;
    const AFTER_OUT: u64 = 0x1004;
    const COUNT: u64 = 2;
    #[rustfmt::skip]
    let code = [
        0xba, 0xe8, 0x00,       // mov dx, 0xe8
        0xee,                   // out dx, al
        0xff, 0x06, 0x00, 0x20, // inc word [0x2000]
        0xeb, 0xf9,             // jmp to the out
    ];
    let telemetry = Arc::new(Telemetry::map(telemetry_file(), 1, false).unwrap());
    telemetry.vcpu(0).rest.store(u64::MAX, Relaxed);
    let ram = Ram::new(Bytes(32 << 20), Backing::Anonymous).unwrap();
    ram.write_at(Gpa(START), &code).unwrap();
    let kvm = open_kvm(Path::new("/dev/kvm")).unwrap();
    let machine = Arc::new(Machine::new(kvm, Arc::clone(&ram), telemetry, Logging::Bitmap).unwrap());
    let fd = create_vcpu(machine.kvm(), machine.vm(), 0).unwrap();
    let msrs = StateMsrs::of(machine.kvm(), &fd).unwrap();
    let mut sregs = fd.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    fd.set_sregs(&sregs).unwrap();
    fd.set_regs(&kvm_regs { rip: START, rflags: 2, ..Default::default() }).unwrap();
    let state = VcpuState::new(machine.vm(), &msrs).unwrap();
    let vcpu = Vcpu::start(&machine, 0, fd, state, None, &Arc::default(), None).unwrap();
    let count = || {
        let mut page = [0; 4096];
        ram.read(COUNT, &mut page).unwrap();
        u64::from(u16::from_le_bytes([page[0], page[1]]))
    };
    let mut rests = 0;
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    for n in 0.. {
        // On a busy host orders may come before the thread has run at all.
        if (n >= 200 && rests > 0) || std::time::Instant::now() > patience {
            break;
        }
        vcpu.resume();
        // From right before the rest to well into it.
        std::thread::sleep(Duration::from_micros(n * 13 % 500));
        vcpu.order_pause();
        vcpu.wait_paused().unwrap();
        if vcpu.entered().is_none() {
            continue;
        }
        let at = vcpu.with_state(VcpuState::instruction_pointer);
        assert!((START..START + code.len() as u64).contains(&at), "{at:#x}");
        // What was interrupted is complete: the `out` is over and does not happen again.
        rests += u64::from(at == AFTER_OUT);
        assert!(count() <= n, "{} rests after {n} orders", count());
    }
    assert!(rests > 0, "no order came while it rested");
    // An end of the thread is an order as well.
    vcpu.resume();
    drop(vcpu);
}

#[test]
fn a_migration_takes_a_guest_along_that_rests() {
    require_kvm!();
    for engine in ["full", "delta"] {
        for (vcpus, proof) in [("1", &["--verify"][..]), ("2", &["--set", "proof=every"])] {
            let load = ["--set", "settings.load=operations(100)", "--set", "settings.reads=0"];
            let wait = ["--set", "wait=doorbell", "--vcpus", vcpus, "--engine", engine];
            let (outcome, record) = migrate(&[&load[..], &wait, proof].concat());
            assert_eq!((outcome.status, record.status), (0, Status::Ok), "{}", outcome.stderr);
            assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{engine} {vcpus}");
            assert_eq!(record.cell.wait, Wait::Doorbell);
            assert!(!record.flags.contains(&"clock_backwards".to_owned()), "{:?}", record.flags);
            // It did not only arrive, it goes on.
            assert!(metric(&record, "throughput_after") > 0.0);
        }
    }
}

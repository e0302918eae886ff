//! The state of a guest's vCPUs, in this process: read back after it was restored, refused where it is wrong, and
//! whole enough for the guest to go on in another VM. And guests of the smallest and of large sizes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{cell, require_kvm, telemetry_file};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_xsave};
use kvm_ioctls::{VcpuFd, VmFd};
use migbench::host::kvm::open_kvm;
use migbench::sys::memory::Telemetry;
use migbench::sys::ram::RamError;
use migbench::vm::state::{StateError, VcpuState, restorable_msrs};
use migbench::vm::{Vm, VmError, telemetry};
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::settings::Fill;
use migbench_workloads::units::Bytes;

const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_OSFXSR: u64 = 1 << 9;
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Telemetry of one memory, as often as wanted.
struct Shared(std::os::fd::OwnedFd);

impl Shared {
    fn map(&self, cell: &Cell) -> Arc<Telemetry> {
        let file = self.0.try_clone().unwrap();
        Arc::new(Telemetry::map(file, cell.vcpus as usize, cell.timing).unwrap())
    }
}

fn boot(cell: &Cell) -> (Vm, Shared) {
    let shared = Shared(telemetry_file());
    let telemetry = shared.map(cell);
    telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    (Vm::boot(cell, 1, 0, telemetry).unwrap(), shared)
}

fn states(vm: &Vm) -> Vec<Vec<u8>> {
    vm.vcpus().iter().map(|vcpu| vcpu.with_state(|state| state.as_bytes().concat())).collect()
}

/// A vCPU that has never run, of a machine without memory.
fn fresh() -> (VmFd, VcpuFd, Vec<u32>) {
    let kvm = open_kvm(Path::new("/dev/kvm")).unwrap();
    let vm = kvm.create_vm().unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap()).unwrap();
    let msrs = restorable_msrs(&kvm, &vcpu).unwrap();
    (vm, vcpu, msrs)
}

/// The state of a guest that was paused in the middle of its work.
fn state_of_a_running_guest() -> Vec<u8> {
    let (vm, _shared) = boot(&cell());
    std::thread::sleep(Duration::from_millis(20));
    vm.pause().unwrap();
    states(&vm).remove(0)
}

#[test]
fn every_register_reads_back_and_a_changed_one_is_named() {
    require_kvm!();
    let bytes = state_of_a_running_guest();
    let (_vm, vcpu, msrs) = fresh();
    assert!(msrs.contains(&KERNEL_GS_BASE) && msrs.len() > 10, "{msrs:x?}");
    let mut state = VcpuState::new(&msrs).unwrap();
    state.load(&bytes).unwrap();
    state.restore(&vcpu).unwrap();
    state.compare(&vcpu).unwrap();
    let cr4 = vcpu.get_sregs().unwrap().cr4;
    assert_eq!(cr4 & (CR4_OSXSAVE | CR4_OSFXSR), CR4_OSXSAVE | CR4_OSFXSR, "CR4 {cr4:#x}");
    let xcr0 = vcpu.get_xcrs().unwrap().xcrs[0];
    assert_eq!((xcr0.xcr, xcr0.value & 3), (0, 3), "XCR0 {:#x}", xcr0.value);

    let regs = vcpu.get_regs().unwrap();
    let sregs = vcpu.get_sregs().unwrap();
    let xcrs = vcpu.get_xcrs().unwrap();
    let xsave = vcpu.get_xsave().unwrap();
    let debug = vcpu.get_debug_regs().unwrap();
    type Change<'a> = &'a dyn Fn();
    let changes: [(&str, Change<'_>); 6] = [
        ("the general registers", &|| {
            let mut other = regs;
            other.rbx ^= 1;
            vcpu.set_regs(&other).unwrap();
        }),
        ("CR4", &|| {
            let mut other = sregs;
            other.cr4 ^= 1 << 2;
            vcpu.set_sregs(&other).unwrap();
        }),
        ("XCR0", &|| {
            let mut other = xcrs;
            other.xcrs[0].value = 1;
            vcpu.set_xcrs(&other).unwrap();
        }),
        ("the vector registers", &|| {
            // XMM15 of the legacy area, and its place in the header.
            let mut region = xsave.region;
            region[(160 + 15 * 16) / 4] ^= 1;
            region[512 / 4] |= 3;
            migbench::sys::kvm::set_xsave(&vcpu, &kvm_xsave { region, ..Default::default() }).unwrap();
        }),
        ("the debug registers", &|| {
            let mut other = debug;
            other.db[0] ^= 0x1000;
            vcpu.set_debug_regs(&other).unwrap();
        }),
        ("the MSRs", &|| {
            let entry = kvm_msr_entry { index: KERNEL_GS_BASE, data: 0x1234_5000, ..Default::default() };
            assert_eq!(vcpu.set_msrs(&Msrs::from_entries(&[entry]).unwrap()).unwrap(), 1);
        }),
    ];
    for (name, change) in changes {
        change();
        match state.compare(&vcpu) {
            Err(StateError::Differs(found)) => assert_eq!(found, name),
            other => panic!("{name} was changed, and comparing gave {other:?}"),
        }
        state.restore(&vcpu).unwrap();
        state.compare(&vcpu).unwrap();
    }
}

#[test]
fn a_state_of_another_shape_is_refused() {
    require_kvm!();
    let bytes = state_of_a_running_guest();
    let (_vm, _vcpu, msrs) = fresh();
    let mut state = VcpuState::new(&msrs).unwrap();
    let registers = state.as_bytes()[0].len();
    for length in [0, 1, registers, bytes.len() - 1] {
        let error = state.load(&bytes[..length]).unwrap_err();
        let shape = matches!(error, StateError::Shape { found, expected } if (found, expected) == (length, bytes.len()));
        assert!(shape, "{length} bytes: {error}");
    }
    assert!(state.load(&[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
    let mut other_msr = bytes.clone();
    other_msr[registers] ^= 1;
    assert!(state.load(&other_msr).is_err(), "another MSR than the list has");
    state.load(&bytes).unwrap();

    let destination = Vm::new(&cell(), Shared(telemetry_file()).map(&cell())).unwrap();
    let error = destination.vcpus()[0].restore(&bytes[..100], true, 0).unwrap_err().to_string();
    assert!(error.contains("vCPU 0") && error.contains("100 bytes"), "{error}");
    assert!(destination.vcpus()[0].restore(&other_msr, true, 0).is_err());
}

#[test]
fn a_guest_goes_on_in_another_vm() {
    require_kvm!();
    for vcpus in [1, 2] {
        let cell = Cell { vcpus, ..cell() };
        let (vm, shared) = boot(&cell);
        std::thread::sleep(Duration::from_millis(50));
        vm.pause().unwrap();
        let destination = Vm::new(&cell, shared.map(&cell)).unwrap();
        let mut memory = vec![0; 2 << 20];
        for first in (0..vm.ram().pages()).step_by(512) {
            vm.ram().read(first, &mut memory).unwrap();
            destination.ram().write(first, &memory).unwrap();
        }
        for (vcpu, state) in destination.vcpus().iter().zip(states(&vm)) {
            // Every part is read back and compared.
            vcpu.restore(&state, true, 0).unwrap();
        }
        drop(vm);
        let before = telemetry::operations(destination.telemetry());
        destination.resume();
        std::thread::sleep(Duration::from_millis(100));
        destination.check().unwrap();
        assert!(telemetry::operations(destination.telemetry()) > before, "it works on");
        migbench::guest::validate(&destination).unwrap();
        let n = (0..vcpus as usize)
            .filter(|&n| destination.telemetry().vcpu(n).backwards.load(Ordering::Relaxed) > 0);
        assert_eq!(n.count(), 0, "no clock went backwards");
    }
}

#[test]
fn the_smallest_guest_works_and_odd_sizes_are_refused() {
    require_kvm!();
    let (vm, _) = boot(&Cell { memory: Bytes(32 << 20), ..cell() });
    migbench::guest::validate(&vm).unwrap();
    for mebibytes in [30, 33] {
        let cell = Cell { memory: Bytes(mebibytes << 20), ..cell() };
        let refused = Vm::boot(&cell, 1, 0, Shared(telemetry_file()).map(&cell));
        assert!(matches!(refused, Err(VmError::Ram(RamError::Size(_)))), "{mebibytes} MiB");
    }
}

/// More memory than the host may have: only what the guest touches is there.
#[test]
fn a_guest_of_64_gib_works() {
    require_kvm!();
    let mut cell = Cell { memory: Bytes(64 << 30), prefault: false, ..cell() };
    cell.settings.fill = Fill { zero: 0.9999, random: 0.0001, text: 0.0, duplicate: 0.0 };
    let (vm, _shared) = boot(&cell);
    let before = telemetry::operations(vm.telemetry());
    std::thread::sleep(Duration::from_millis(200));
    vm.check().unwrap();
    assert!(telemetry::operations(vm.telemetry()) > before);
    // Filled pages are found above the hole of the first 4 GiB too: the guest has reached its end.
    vm.pause().unwrap();
    let mut filled = 0_usize;
    let pages = vm.ram().pages();
    assert_eq!(pages, (64 << 30) / 4096);
    let mut part = vec![0; 2 << 20];
    for first in (pages - (256 << 20) / 4096..pages).step_by(512) {
        vm.ram().read(first, &mut part).unwrap();
        filled += part.chunks_exact(4096).filter(|page| page.iter().any(|&byte| byte != 0)).count();
    }
    assert!(filled > 0, "none of the last 65536 pages is filled");
}

//! The state of a guest's vCPUs, in this process: read back after it was restored, refused where it is wrong, and
//! whole enough for the guest to go on in another VM. And guests of the smallest and of large sizes.

use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{cell, require_kvm, telemetry_file};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, KVM_VCPUEVENT_VALID_PAYLOAD, Msrs, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use migbench::guest::telemetry;
use migbench::host::kvm::open_kvm;
use migbench::node::destination;
use migbench::node::hello::{Greeting, Hello, Token};
use migbench::node::protocol::{ControlSocket, Message, Role};
use migbench::sys::kvm::Xsave;
use migbench::sys::memory::Telemetry;
use migbench::sys::ram::RamError;
use migbench::sys::thread;
use migbench::vm::model::{CpuModel, create_vcpu};
use migbench::vm::msr::StateMsrs;
use migbench::vm::state::{StateError, VcpuState};
use migbench::vm::{Vm, VmError};
use migbench::wire::frame::FrameKind;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::settings::Fill;
use migbench_workloads::units::Bytes;

const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_OSFXSR: u64 = 1 << 9;
const IA32_TSC: u32 = 0x10;
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Telemetry of one memory, as often as wanted.
struct SharedTelemetry(std::os::fd::OwnedFd);

impl SharedTelemetry {
    fn map(&self, cell: &Cell) -> Arc<Telemetry> {
        let file = self.0.try_clone().unwrap();
        Arc::new(Telemetry::map(file, cell.vcpus as usize, cell.timing).unwrap())
    }
}

fn boot(cell: &Cell) -> (Vm, SharedTelemetry) {
    let shared = SharedTelemetry(telemetry_file());
    let telemetry = shared.map(cell);
    telemetry.control().phase.store(abi::PHASE_STEADY, Ordering::Relaxed);
    (Vm::boot(cell, 1, 0, telemetry).unwrap(), shared)
}

fn states(vm: &Vm) -> Vec<Vec<u8>> {
    vm.vcpus().iter().map(|vcpu| vcpu.with_state(|state| state.as_bytes().concat())).collect()
}

/// A vCPU that has never run, of a machine without memory.
struct Fresh {
    kvm: Kvm,
    vm: VmFd,
    vcpu: VcpuFd,
    msrs: StateMsrs,
}

impl Fresh {
    fn new() -> Self {
        let kvm = open_kvm(Path::new("/dev/kvm")).unwrap();
        let vm = kvm.create_vm().unwrap();
        let vcpu = create_vcpu(&kvm, &vm, 0).unwrap();
        let msrs = StateMsrs::of(&kvm, &vcpu).unwrap();
        Self { kvm, vm, vcpu, msrs }
    }

    /// An empty state of its shape.
    fn state(&self) -> VcpuState {
        VcpuState::new(&self.vm, &self.msrs).unwrap()
    }

    fn model(&self) -> CpuModel {
        CpuModel::of(&self.kvm, &self.vcpu, &self.msrs, &self.state()).unwrap()
    }
}

/// The state of a guest that was paused in the middle of its work.
fn state_of_a_running_guest() -> Vec<u8> {
    let (vm, _shared) = boot(&cell());
    std::thread::sleep(Duration::from_millis(20));
    vm.pause().unwrap();
    states(&vm).remove(0)
}

#[test]
fn a_guest_has_turned_on_the_vector_registers_that_it_is_offered() {
    require_kvm!();
    let fresh = Fresh::new();
    let mut state = fresh.state();
    state.load(&state_of_a_running_guest()).unwrap();
    state.restore(&fresh.vcpu).unwrap();
    let cr4 = fresh.vcpu.get_sregs().unwrap().cr4;
    assert_eq!(cr4 & (CR4_OSXSAVE | CR4_OSFXSR), CR4_OSXSAVE | CR4_OSFXSR, "CR4 {cr4:#x}");
    let xcr0 = fresh.vcpu.get_xcrs().unwrap().xcrs[0];
    let cpuid = fresh.vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES).unwrap();
    let reported = cpuid.as_slice().iter().find(|e| (e.function, e.index) == (0xd, 0)).unwrap().eax;
    assert_eq!(
        (xcr0.xcr, xcr0.value, reported & 3),
        (0, u64::from(reported & 0xe7), 3),
        "XCR0 {:#x}",
        xcr0.value
    );
}

#[test]
fn every_register_reads_back_and_a_changed_one_is_named() {
    require_kvm!();
    let bytes = state_of_a_running_guest();
    let fresh = Fresh::new();
    let vcpu = &fresh.vcpu;
    assert!(fresh.msrs.restored.contains(&KERNEL_GS_BASE) && fresh.msrs.restored.len() > 10);
    let mut state = fresh.state();
    state.load(&bytes).unwrap();
    state.restore(vcpu).unwrap();
    state.compare(vcpu).unwrap();
    let regs = vcpu.get_regs().unwrap();
    let sregs = vcpu.get_sregs().unwrap();
    let xcrs = vcpu.get_xcrs().unwrap();
    let mut xsave = Xsave::new(&fresh.vm);
    xsave.read(vcpu).unwrap();
    let debug = vcpu.get_debug_regs().unwrap();
    type StateChange<'a> = &'a dyn Fn();
    let changes: [(&str, StateChange<'_>); 7] = [
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
            other.xcrs[0].value = if xcrs.xcrs[0].value == 1 { 3 } else { 1 };
            vcpu.set_xcrs(&other).unwrap();
        }),
        ("the vector registers", &|| {
            // XMM15 of the legacy area, and its place in the header.
            let mut other = xsave.clone();
            other.words_mut()[(160 + 15 * 16) / 4] ^= 1;
            other.words_mut()[512 / 4] |= 3;
            other.write(vcpu).unwrap();
        }),
        ("the debug registers", &|| {
            let mut other = debug;
            other.db[0] ^= 0x1000;
            vcpu.set_debug_regs(&other).unwrap();
        }),
        ("the pending events", &|| {
            let mut other = vcpu.get_vcpu_events().unwrap();
            other.nmi.pending = 1;
            vcpu.set_vcpu_events(&other).unwrap();
        }),
        ("MSR 0xc0000102", &|| {
            let entry = kvm_msr_entry { index: KERNEL_GS_BASE, data: 0x1234_5000, ..Default::default() };
            assert_eq!(vcpu.set_msrs(&Msrs::from_entries(&[entry]).unwrap()).unwrap(), 1);
        }),
    ];
    for (name, change) in changes {
        change();
        let error = state.compare(vcpu).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name} of the restored vCPU ")), "{name} was changed: {error}");
        state.restore(vcpu).unwrap();
        state.compare(vcpu).unwrap();
    }
}

#[test]
fn a_state_of_another_shape_is_refused() {
    require_kvm!();
    let bytes = state_of_a_running_guest();
    let fresh = Fresh::new();
    let mut state = fresh.state();
    let empty = state.as_bytes().concat();
    let msrs = bytes.len() - fresh.msrs.restored.len() * size_of::<kvm_msr_entry>();
    let mut refuse = |bytes: &[u8]| {
        let error = state.load(bytes).unwrap_err();
        assert_eq!(state.as_bytes().concat(), empty, "{error}: nothing is taken over");
        error
    };
    for length in [0, 1, msrs, bytes.len() - 1] {
        let error = refuse(&bytes[..length]);
        let expected = bytes.len();
        assert!(
            matches!(error, StateError::Size { found, expected: e } if (found, e) == (length, expected)),
            "{error}"
        );
    }
    assert!(matches!(refuse(&[&bytes[..], &[0]].concat()), StateError::Size { .. }), "a byte too many");
    // Version, bytes of vector registers and number of MSRs are its first words.
    let changed = |word: usize| {
        let mut other = bytes.clone();
        other[word * 4 + 3] = 0x7f;
        other
    };
    assert!(matches!(refuse(&changed(0)), StateError::Version { found: 0x7f00_0002 }));
    for (word, what) in [(1, "bytes of vector registers"), (2, "MSRs")] {
        let error = refuse(&changed(word)).to_string();
        assert!(error.contains(what) && error.contains("the hosts' KVM differs"), "{error}");
    }
    let other_msr = changed(msrs / 4);
    let StateError::Foreign { found, expected } = refuse(&other_msr) else {
        panic!("another MSR than is due")
    };
    assert_eq!((found, expected), (0x7f00_0000 | fresh.msrs.restored[0], fresh.msrs.restored[0]));
    state.load(&bytes).unwrap();

    let destination = Vm::new(&cell(), SharedTelemetry(telemetry_file()).map(&cell())).unwrap();
    let error = destination.vcpus()[0].restore(&bytes[..100], true, 0).unwrap_err().to_string();
    assert!(error.contains("vCPU 0") && error.contains("100 bytes"), "{error}");
    assert!(destination.vcpus()[0].restore(&other_msr, true, 0).is_err());
}

/// IA32_TSC is an MSR that moves by itself on every host: a stand-in for those that only others have.
#[test]
fn an_msr_that_moves_by_itself_is_found_and_not_compared() {
    require_kvm!();
    let fresh = Fresh::new();
    let (read, write) = (|index| migbench::vm::msr::read(&fresh.vcpu, index), |_, _| true);
    assert!(!fresh.msrs.restored.contains(&IA32_TSC), "known by name");
    // An index that no list has, read as the TSC.
    let unknown = 0x7777;
    let found = StateMsrs::choose(
        &[unknown, KERNEL_GS_BASE],
        &[],
        |i| read(if i == unknown { IA32_TSC } else { i }),
        write,
    );
    assert_eq!((found.restored, found.moving), (vec![unknown, KERNEL_GS_BASE], vec![unknown]));

    let mut chosen = StateMsrs { restored: vec![IA32_TSC, KERNEL_GS_BASE], moving: vec![] };
    for moving in [vec![], vec![IA32_TSC]] {
        chosen.moving = moving;
        let mut state = VcpuState::new(&fresh.vm, &chosen).unwrap();
        state.save(&fresh.vcpu).unwrap();
        let outcome = state.compare(&fresh.vcpu);
        if chosen.moving.is_empty() {
            assert!(matches!(outcome, Err(StateError::MsrDiffers { index: IA32_TSC, .. })), "{outcome:?}");
        } else {
            outcome.unwrap();
        }
    }
}

/// KVM answers with the CPUID of the CPU that asks, whose APIC id is one of its own.
#[test]
fn a_vcpu_is_the_same_on_whichever_cpu_it_was_made() {
    require_kvm!();
    let usable = nix::sched::sched_getaffinity(nix::unistd::Pid::this()).unwrap();
    let made_on = |cpu: usize| {
        let made = std::thread::spawn(move || {
            thread::pin(&[u32::try_from(cpu).unwrap()]).unwrap();
            Fresh::new().model()
        });
        made.join().unwrap()
    };
    let here = Fresh::new().model();
    for cpu in (0..nix::sched::CpuSet::count()).filter(|&cpu| usable.is_set(cpu).unwrap()) {
        here.check_source(&made_on(cpu).to_bytes()).unwrap_or_else(|error| panic!("CPU {cpu}: {error}"));
    }
}

/// A destination node, with a source on a host whose CPU has other leaves.
#[test]
fn a_guest_of_another_cpu_is_refused_before_a_page_has_moved() {
    require_kvm!();
    let cell = cell();
    let (runner, node) = UnixStream::pair().unwrap();
    let token = Token::random().unwrap();
    let assignment =
        crate::support::node_assignment(Role::Destination, &cell, telemetry_file().into_raw_fd(), &token);
    let serving = std::thread::spawn(move || {
        destination::serve(&mut ControlSocket::new(node).unwrap(), &assignment).unwrap()
    });
    let mut runner = ControlSocket::new(runner).unwrap();
    let Message::Listening { address } = runner.receive().unwrap() else { panic!("it listens first") };
    let hello = Hello::of(&cell, cell.memory.0 / 4096, false);
    let greeting = Greeting { token: &token, hello, timeout: Duration::from_secs(10) };
    let (mut link, _) = greeting.connect(&address, &mut |_| None).unwrap();

    let model = String::from_utf8(Fresh::new().model().to_bytes()).unwrap();
    // The first register of the first leaf: how many leaves there are.
    let other = model.replacen("\"registers\":[", "\"registers\":[1", 1);
    link.send(FrameKind::Model, &[other.as_bytes()]).unwrap();
    let frame = link.recv().unwrap();
    let said = String::from_utf8_lossy(frame.payload).into_owned();
    assert_eq!(frame.kind, FrameKind::Abort, "{said}");
    assert!(said.contains("EAX of CPUID leaf 0x0 is"), "{said}");
    let Message::Destination(report) = runner.receive().unwrap() else { panic!("it reports last") };
    let failure = report.failure.unwrap();
    assert_eq!((&*failure.phase, failure.message.contains("CPUID leaf 0x0")), ("connect", true));
    serving.join().unwrap();
}

#[test]
fn an_exception_is_still_pending_at_the_destination() {
    require_kvm!();
    let (source, destination) = (Fresh::new(), Fresh::new());
    let mut events = source.vcpu.get_vcpu_events().unwrap();
    assert_ne!(events.flags & KVM_VCPUEVENT_VALID_PAYLOAD, 0, "{events:?}");
    // A page fault whose address has not reached CR2.
    (events.exception.pending, events.exception.nr, events.exception.has_error_code) = (1, 14, 1);
    (events.exception_has_payload, events.exception_payload) = (1, 0x1234_5000);
    source.vcpu.set_vcpu_events(&events).unwrap();
    let (mut sent, mut found) = (source.state(), destination.state());
    sent.save(&source.vcpu).unwrap();
    found.load(&sent.as_bytes().concat()).unwrap();
    found.restore(&destination.vcpu).unwrap();
    found.compare(&destination.vcpu).unwrap();
    let there = destination.vcpu.get_vcpu_events().unwrap();
    let exception = (there.exception.pending, there.exception.nr, there.exception_payload);
    assert_eq!(exception, (1, 14, 0x1234_5000));
}

/// The host kernel notes things of its own in the middle of the vector registers, which are not the guest's.
#[test]
fn what_the_host_notes_beside_vector_registers_is_not_sent() {
    require_kvm!();
    let fresh = Fresh::new();
    let mut state = fresh.state();
    state.save(&fresh.vcpu).unwrap();
    assert_eq!(state.as_bytes()[1][464..512], [0; 48]);
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
        let refused = Vm::boot(&cell, 1, 0, SharedTelemetry(telemetry_file()).map(&cell));
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

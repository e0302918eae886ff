//! The guest: a program that runs on a bare vCPU in ring 3, without interrupts and devices.
//!
//! `boot.s` brings it here. It reads its parameters from the PVH module, maps its memory, fills its pages, then
//! runs operations until the control page says stop. All its state lies in guest memory, so that it survives a
//! migration as any program's does; all it reports goes to telemetry, and text (faults, self-tests) to the doorbell.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

#[path = "../src/abi.rs"]
#[allow(dead_code)]
mod abi;
#[path = "../src/content.rs"]
#[allow(dead_code)]
mod content;
mod machine;
mod memory;
mod operations;
#[path = "../src/pages.rs"]
#[allow(dead_code)]
mod pages;
mod parts;
mod passes;
#[path = "../src/programs/mod.rs"]
#[allow(dead_code)]
mod programs;
#[path = "../src/random.rs"]
#[allow(dead_code)]
mod random;
mod registers;
mod telemetry;

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Params;
use machine::{Doorbell, exit};
use memory::Memory;
use telemetry::Telemetry;

/// What the first vCPU sets up for all.
struct Setup {
    params: UnsafeCell<Params>,
    memory: UnsafeCell<Memory>,
    ready: AtomicBool,
}

// SAFETY: the first vCPU writes the cells before it sets `ready` (release); others read them after (acquire).
unsafe impl Sync for Setup {}

static SETUP: Setup = Setup {
    params: UnsafeCell::new(EMPTY),
    memory: UnsafeCell::new(Memory::empty()),
    ready: AtomicBool::new(false),
};

// SAFETY: all fields of `Params` are numbers.
const EMPTY: Params = unsafe { core::mem::zeroed() };

/// Ring 3 starts here on every vCPU, with the start info's address and the vCPU's number.
#[unsafe(no_mangle)]
extern "C" fn guest_main(start_info: u64, vcpu: u64) -> ! {
    let vcpu = vcpu as usize;
    if vcpu == 0 {
        machine::set_up_exceptions();
        // SAFETY: PVH gives the physical address of its start info, in the first GiB, which the stub has mapped.
        let info = unsafe { memory::StartInfo::read(start_info) };
        let params = info.params();
        if params.magic != abi::MAGIC || params.version != abi::VERSION {
            fatal("the parameter block is missing or of another version");
        }
        let memory = memory::set_up(&info, &params);
        // SAFETY: nobody reads the cells before `ready`.
        unsafe {
            *SETUP.params.get() = params;
            *SETUP.memory.get() = memory;
        }
        SETUP.ready.store(true, Ordering::Release);
        if params.flags & abi::FLAG_START_OTHERS != 0 && params.vcpus > 1 {
            memory::map(machine::APIC, 4096);
            // SAFETY: start info was read, nobody else runs yet, and the APIC was just mapped.
            unsafe { machine::start_others(|milliseconds| params.ticks(milliseconds * 1_000_000)) };
        }
    } else {
        while !SETUP.ready.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
    }
    // SAFETY: `ready` was seen, nobody writes the cells any more.
    let (params, memory) = unsafe { (&*SETUP.params.get(), &*SETUP.memory.get()) };
    // SAFETY: set_up mapped the region that the parameters name.
    let telemetry = unsafe { Telemetry::new(params, vcpu) };
    telemetry.set_state(abi::STATE_BOOTED);
    if params.flags & abi::FLAG_REGISTERS != 0 {
        registers::run(&telemetry);
    }
    if params.flags & abi::FLAG_PASSES != 0 {
        passes::run(params, memory, &telemetry, vcpu as u64);
    }
    operations::run(params, memory, &telemetry, vcpu)
}

/// Says `text` at the doorbell and stays.
fn fatal(text: &str) -> ! {
    let _ = writeln!(Doorbell, "fatal: {text}");
    exit(1)
}

/// A fault in ring 3 ends here, still in ring 3: reported at the doorbell.
#[unsafe(no_mangle)]
extern "C" fn fault_main(vector: u64, error: u64, rip: u64, cr2: u64) -> ! {
    let _ = writeln!(
        Doorbell,
        "fault: exception {vector} at instruction {rip:#x}, error code {error:#x}, address {cr2:#x}"
    );
    exit(1)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let _ = writeln!(Doorbell, "fault: {info}");
    exit(1)
}

//! The bare machine: ports, the time-stamp counter, exceptions, and the four functions that compilers expect.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::fmt;

use crate::abi;

global_asm!(include_str!("boot.s"));

unsafe extern "C" {
    static fault_entries: [u64; 32];
    static idt: PageTable;
    pub static pdpt: PageTable;
    static trampoline: u8;
    static trampoline_end: u8;
}

/// A page of 64-bit entries that the CPU reads.
#[repr(C, align(4096))]
pub struct PageTable(pub UnsafeCell<[u64; 512]>);

// SAFETY: only the first vCPU writes tables, before others start.
unsafe impl Sync for PageTable {}

/// Fills the interrupt descriptor table. Until then a fault resets the machine, which the host reports.
pub fn set_up_exceptions() {
    // SAFETY: boot.s defines both tables; only the first vCPU is running.
    unsafe {
        let table = &mut *idt.0.get();
        for (vector, &entry) in fault_entries.iter().enumerate() {
            // an interrupt gate to ring-0 code, callable by the CPU only
            table[vector * 2] =
                (entry & 0xffff) | 0x08 << 16 | 0x8e00 << 32 | ((entry >> 16) & 0xffff) << 48;
            table[vector * 2 + 1] = entry >> 32;
        }
    }
}

/// Where boot.s has the code copied to that a vCPU begins with in real mode.
const TRAMPOLINE: u64 = 0x8000;
/// The local APIC's registers (Intel SDM, volume 3, "Local APIC registers").
pub const APIC: u64 = 0xfee0_0000;

/// Starts all other vCPUs, by INIT and two SIPIs to all but this one (Intel SDM, volume 3, "MP initialization").
///
/// # Safety
/// The first vCPU runs alone, what the loader left below 1 MiB is not needed any more, and [`APIC`] is mapped.
pub unsafe fn start_others(milliseconds: impl Fn(u64) -> u64) {
    let wait = |time| {
        let begun = now();
        while now().wrapping_sub(begun) < milliseconds(time) {
            core::hint::spin_loop();
        }
    };
    let write = |register: u64, value: u32| {
        // SAFETY: the caller's: the APIC is mapped, and nobody else uses it.
        unsafe { ((APIC + register) as *mut u32).write_volatile(value) }
    };
    // SAFETY: boot.s defines both ends, and less than a page lies between; the caller's for what is overwritten.
    unsafe {
        let (begin, end) = (&raw const trampoline, &raw const trampoline_end);
        let length = end as usize - begin as usize;
        (TRAMPOLINE as *mut u8).copy_from_nonoverlapping(begin, length);
    }
    const SPURIOUS: u64 = 0xf0;
    const COMMAND: u64 = 0x300;
    const ALL_OTHERS: u32 = 0b11 << 18 | 1 << 14;
    write(SPURIOUS, 0x1ff);
    write(COMMAND, ALL_OTHERS | 0x500);
    wait(10);
    for _ in 0..2 {
        write(COMMAND, ALL_OTHERS | 0x600 | (TRAMPOLINE >> 12) as u32);
        wait(1);
    }
}

/// The time-stamp counter.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Text to the doorbell.
pub struct Doorbell;

impl fmt::Write for Doorbell {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            out(abi::DOORBELL_PORT, byte);
        }
        Ok(())
    }
}

fn out(port: u16, value: u8) {
    // SAFETY: IOPL is 3; the ports have no effect on memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

/// Reports to the host that this vCPU has nothing to do, for a time that was written to telemetry before.
pub fn rest() {
    // SAFETY: as in `out`; without `nomem`, so that what the host is to read is written before.
    unsafe { asm!("out dx, al", in("dx") abi::REST_PORT, in("al") 0_u8, options(nostack)) }
}

/// Leaves a QEMU that has `isa-debug-exit`; elsewhere stays here.
pub fn exit(code: u8) -> ! {
    out(abi::EXIT_PORT, code);
    loop {
        core::hint::spin_loop();
    }
}

// The compiler calls these four; `core` does not bring them for this target.

/// # Safety
/// As C's memcpy.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's ranges are valid; DF is clear.
    unsafe { asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack)) }
    to
}

/// # Safety
/// As C's memmove.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= length {
        // SAFETY: a forward copy never reads what it wrote.
        return unsafe { memcpy(to, from, length) };
    }
    // SAFETY: the caller's ranges are valid; a backward copy never reads what it wrote; DF is clear again after.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") length => _,
            inout("rdi") to.add(length).wrapping_sub(1) => _, inout("rsi") from.add(length).wrapping_sub(1) => _);
    }
    to
}

/// # Safety
/// As C's memset.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    // SAFETY: the caller's range is valid; DF is clear.
    unsafe { asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") value as u8, options(nostack)) }
    to
}

/// # Safety
/// As C's memcmp.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    for i in 0..length {
        // SAFETY: the caller's ranges are valid. Volatile, or the loop becomes a call of memcmp.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// # Safety
/// As BSD's bcmp.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, length) }
}

//! The test of register state: every vector register that the CPU has holds a known value while the vCPU counts,
//! across whatever the host does meanwhile; when told to stop the values are compared.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::Ordering::Relaxed;

use crate::abi;
use crate::telemetry::Telemetry;

#[repr(C, align(64))]
struct Block([u8; 32 * 64]);

const fn pattern() -> Block {
    let mut block = Block([0; 2048]);
    let mut n = 0;
    while n < 2048 {
        block.0[n] = (crate::random::mix(n as u64 + 1) & 0xff) as u8;
        n += 1;
    }
    block
}

static PATTERN: Block = pattern();

/// Loads registers `$n..` from `$load` at `rsi + n * $size`, counts in `[rdi]` until `[rdx] != 0`, stores them at `rcx`.
macro_rules! hold {
    ($telemetry:expr, $out:expr, $move:literal, $register:literal, $size:literal, $count:literal) => {{
        let counter = $telemetry.vcpu.operations.as_ptr();
        let command = $telemetry.control.command.as_ptr();
        // SAFETY: the caller checked that the CPU and XCR0 have these registers; `out` has room for all of them;
        // all vector registers are given up as clobbers by the call boundary (this function never returns to
        // code that expects them).
        unsafe {
            asm!(
                ".altmacro",
                ".macro load_one n",
                concat!($move, " ", $register, "\\n, [rsi + \\n * ", $size, "]"),
                ".endm",
                ".macro store_one n",
                concat!($move, " [rcx + \\n * ", $size, "], ", $register, "\\n"),
                ".endm",
                ".set n, 0",
                concat!(".rept ", $count),
                "load_one %n",
                ".set n, n + 1",
                ".endr",
                "2:",
                "inc qword ptr [rdi]",
                "pause",
                "cmp dword ptr [rdx], 0",
                "je 2b",
                ".set n, 0",
                concat!(".rept ", $count),
                "store_one %n",
                ".set n, n + 1",
                ".endr",
                ".purgem load_one",
                ".purgem store_one",
                in("rsi") PATTERN.0.as_ptr(),
                in("rdi") counter,
                in("rdx") command,
                in("rcx") $out.0.as_mut_ptr(),
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack),
            );
        }
        $size * $count
    }};
}

fn xcr0() -> u64 {
    // SAFETY: CPUID exists; XGETBV is used only where CPUID says that the system has enabled it.
    unsafe {
        if __cpuid_count(1, 0).ecx & (1 << 27) == 0 {
            return 0;
        }
        let (low, high): (u32, u32);
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
        u64::from(high) << 32 | u64::from(low)
    }
}

/// Holds, counts, compares.
pub fn run(telemetry: &Telemetry) -> ! {
    let mut out = Block([0; 2048]);
    telemetry.set_state(abi::STATE_RUNNING);
    let enabled = xcr0();
    let used: usize = if enabled & 0xe6 == 0xe6 {
        hold!(telemetry, out, "vmovdqu64", "zmm", 64, 32)
    } else if enabled & 6 == 6 {
        hold!(telemetry, out, "vmovdqu", "ymm", 32, 16)
    } else {
        hold!(telemetry, out, "movdqu", "xmm", 16, 16)
    };
    telemetry.set_state(abi::STATE_STOPPED);
    while telemetry.command() != abi::COMMAND_VALIDATE {
        core::hint::spin_loop();
    }
    let wrong = (0..used).find(|&n| out.0[n] != PATTERN.0[n]);
    if let Some(at) = wrong {
        telemetry.vcpu.bad_reason.store(abi::BAD_REGISTER, Relaxed);
        telemetry.vcpu.bad_offset.store(at as u64, Relaxed);
        telemetry.vcpu.bad_expected.store(used as u64, Relaxed);
    }
    telemetry.set_state(if wrong.is_some() { abi::STATE_INVALID } else { abi::STATE_VALID });
    loop {
        core::hint::spin_loop();
    }
}

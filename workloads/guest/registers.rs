//! The tests of register state. [`run`]: every vector register that the CPU has holds a known value while the vCPU counts,
//! across whatever the host does meanwhile; when asked to stop the values are compared. [`check`]: the boot stub has turned on
//! what CPUID offers, which a host that runs ring 3 natively does not show, since vector registers work there in any case.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::Ordering::Relaxed;

use crate::abi;
use crate::telemetry::Telemetry;

#[repr(C, align(64))]
struct RegisterBlock([u8; 32 * 64]);

const fn pattern() -> RegisterBlock {
    let mut block = RegisterBlock([0; 2048]);
    let mut n = 0;
    while n < 2048 {
        block.0[n] = (crate::random::mix(n as u64 + 1) & 0xff) as u8;
        n += 1;
    }
    block
}

static PATTERN: RegisterBlock = pattern();

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

/// The first byte of the vector registers that is wrong, and how many bytes of them were used.
fn hold(telemetry: &Telemetry) -> (Option<usize>, usize) {
    let mut out = RegisterBlock([0; 2048]);
    let enabled = xcr0();
    let used: usize = if enabled & 0xe6 == 0xe6 {
        hold!(telemetry, out, "vmovdqu64", "zmm", 64, 32)
    } else if enabled & 6 == 6 {
        hold!(telemetry, out, "vmovdqu", "ymm", 32, 16)
    } else {
        hold!(telemetry, out, "movdqu", "xmm", 16, 16)
    };
    ((0..used).find(|&n| out.0[n] != PATTERN.0[n]), used)
}

/// What the CPU was set up to: XCR0 and bytes of vector registers, all of which hold what they are given.
///
/// # Errors
/// What is not as the stub should have left it.
pub fn check(telemetry: &Telemetry) -> Result<(u64, usize), &'static str> {
    // SAFETY: CPUID exists; the x87 and SSE control words exist on every CPU with long mode.
    let (features, offered, mxcsr, x87) = unsafe {
        let (mut mxcsr, mut x87) = (0_u32, 0_u16);
        asm!("stmxcsr [{0}]", "fnstcw [{1}]", in(reg) &raw mut mxcsr, in(reg) &raw mut x87, options(nostack));
        (__cpuid_count(1, 0).ecx, __cpuid_count(0xd, 0).eax, mxcsr, x87)
    };
    let (xsave, osxsave) = (features & 1 << 26 != 0, features & 1 << 27 != 0);
    if xsave != osxsave {
        return Err("CPUID has XSAVE and CR4 has not, or the other way round");
    }
    let enabled = xcr0();
    if xsave && enabled != u64::from(offered & 0xe7) {
        return Err("XCR0 is not what CPUID offers of x87, SSE, AVX and AVX-512");
    }
    // The low bits of MXCSR say what has happened since.
    if (mxcsr & !0x3f, x87) != (0x1f80, 0x37f) {
        return Err("the control words of SSE or x87 are not those after a reset");
    }
    // One turn of the loop.
    telemetry.control.command.store(abi::COMMAND_STOP, Relaxed);
    let (wrong, used) = hold(telemetry);
    telemetry.control.command.store(0, Relaxed);
    if wrong.is_some() { Err("a vector register does not hold its value") } else { Ok((enabled, used)) }
}

/// Holds, counts, compares.
pub fn run(telemetry: &Telemetry) -> ! {
    telemetry.set_state(abi::STATE_RUNNING);
    let (wrong, used) = hold(telemetry);
    telemetry.set_state(abi::STATE_STOPPED);
    while telemetry.command() != abi::COMMAND_VALIDATE {
        core::hint::spin_loop();
    }
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

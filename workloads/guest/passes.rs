//! Passes over memory, as `memstress` of the kernel's selftests makes them (tools/testing/selftests/kvm/lib/memstress.c):
//! each pass takes as many steps as the vCPU has pages; a step goes to the next page, or to a random one, and writes a
//! constant to its first word, or reads it. A pass begins when the host allows it. With epochs the word written is the
//! number of the pass, as in the kernel's `dirty_log_test`, so that the host sees by a page's content when it was written.

use core::hint::black_box;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::abi::{self, Params};
use crate::random::Random;
use crate::memory::Memory;
use crate::telemetry::Telemetry;

/// What `memstress` writes.
const VALUE: u64 = 0x0123_4567_89ab_cdef;

/// Runs until the host ends the machine. Each vCPU has a contiguous part of the working set, or all of it.
pub fn run(params: &Params, memory: &Memory, telemetry: &Telemetry, vcpu: u64) -> ! {
    let share = params.working_set / u64::from(params.vcpus);
    let (first, pages) = if params.flags & abi::FLAG_OVERLAP != 0 {
        (0, params.working_set)
    } else {
        (share * vcpu, share)
    };
    if pages == 0 {
        crate::fatal("fewer pages in the working set than vCPUs");
    }
    let mut random = Random::new(params.seed.wrapping_add(vcpu));
    let (mut steps, mut writes, mut pass) = (0, 0, 0_u32);
    telemetry.set_state(abi::STATE_RUNNING);
    while telemetry.command() == abi::COMMAND_RUN {
        if telemetry.control.pass.load(Acquire) == pass {
            core::hint::spin_loop();
            continue;
        }
        let value = if params.flags & abi::FLAG_EPOCHS != 0 { u64::from(pass) + 1 } else { VALUE };
        for step in 0..pages {
            let page = if params.pattern == abi::PATTERN_SEQUENTIAL { step } else { random.below(pages) };
            // SAFETY: set_up mapped all owned pages at the window; vCPUs that overlap access the word atomically too.
            let word = unsafe { AtomicU64::from_ptr(memory.first_word(first + page)) };
            if random.next() >> 32 >= params.stages[0].reads_q32 {
                word.store(value, Relaxed);
                writes += 1;
            } else {
                black_box(word.load(Relaxed));
            }
        }
        steps += pages;
        pass += 1;
        telemetry.vcpu.operations.store(steps, Relaxed);
        telemetry.vcpu.page_writes.store(writes, Relaxed);
        telemetry.vcpu.pass.store(pass, Release);
    }
    telemetry.set_state(abi::STATE_STOPPED);
    // Pages hold one constant: there is no state to check beyond it, and the host asks for none.
    while telemetry.command() != abi::COMMAND_VALIDATE {
        core::hint::spin_loop();
    }
    telemetry.set_state(abi::STATE_VALID);
    loop {
        core::hint::spin_loop();
    }
}

//! One vCPU's view of telemetry. Only this vCPU writes its block and histograms, the host only reads them (and
//! resets `backlog_max`); relaxed loads and stores suffice, since every counter is an aligned word of its own.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Relaxed, Release};

use crate::abi::{self, Control, Params, VcpuTelemetry};

pub struct Telemetry {
    pub control: &'static Control,
    pub vcpu: &'static VcpuTelemetry,
    histograms: &'static [AtomicU32],
    nanoseconds_q32: u64,
    base: usize,
    vcpus: usize,
}

impl Telemetry {
    /// # Safety
    /// The region that `params` names is mapped and laid out as `abi` says.
    pub unsafe fn new(params: &Params, vcpu: usize) -> Self {
        let base = params.telemetry as usize;
        let timing = params.flags & abi::FLAG_TIMING != 0;
        if (params.telemetry_size as usize) < abi::telemetry_size(params.vcpus as usize, timing) {
            crate::fatal("telemetry is too small");
        }
        let histograms = base + abi::histogram_offset(params.vcpus as usize, vcpu, 0, 0, 0);
        let counts = if timing { abi::HISTOGRAMS_SIZE / 4 } else { 0 };
        // SAFETY: the caller's; the size was checked; all fields are atomics, which the host may change.
        unsafe {
            Self {
                control: &*(base as *const Control),
                vcpu: &*((base + abi::vcpu_offset(vcpu)) as *const VcpuTelemetry),
                histograms: core::slice::from_raw_parts(histograms as *const AtomicU32, counts),
                nanoseconds_q32: params.nanoseconds_q32,
                base,
                vcpus: params.vcpus as usize,
            }
        }
    }

    /// `COMMAND_*`.
    #[inline(always)]
    pub fn command(&self) -> u32 {
        self.control.command.load(Relaxed)
    }

    /// `STATE_*`; all written before is seen with it.
    pub fn set_state(&self, state: u32) {
        self.vcpu.state.store(state, Release);
    }

    /// Page writes that all vCPUs have counted.
    pub fn all_page_writes(&self) -> u64 {
        (0..self.vcpus)
            .map(|vcpu| {
                // SAFETY: `new` checked the size; all fields are atomics.
                let block = unsafe { &*((self.base + abi::vcpu_offset(vcpu)) as *const VcpuTelemetry) };
                block.page_writes.load(Relaxed)
            })
            .sum()
    }

    /// Files `ticks` in a histogram. `phase` is under [`abi::PHASES`].
    #[inline(always)]
    pub fn file(&self, phase: u32, operation: usize, clock: usize, ticks: u64) {
        let nanoseconds = ((u128::from(ticks) * u128::from(self.nanoseconds_q32)) >> 32) as u64;
        let histogram = (phase as usize * abi::OPERATIONS + operation) * abi::CLOCKS + clock;
        let count = &self.histograms[histogram * abi::HISTOGRAM_COUNTS + abi::histogram_index(nanoseconds)];
        count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Adds a stall to sum, count and ring. `phase` is under [`abi::PHASES`].
    #[cold]
    pub fn stall(&self, phase: u32, operation: usize, start: u64, ticks: u64, over: u64) {
        let slot = phase as usize;
        let sum = &self.vcpu.stall_ticks[slot];
        sum.store(sum.load(Relaxed) + over, Relaxed);
        let before: u64 = self.vcpu.stall_count.iter().map(|count| count.load(Relaxed)).sum();
        let count = &self.vcpu.stall_count[slot];
        count.store(count.load(Relaxed) + 1, Relaxed);
        let kept = &self.vcpu.stalls[before as usize % abi::STALL_RING];
        if ticks > kept.ticks.load(Relaxed) {
            kept.start.store(start, Relaxed);
            kept.ticks.store(ticks, Relaxed);
            kept.kind.store(u64::from(phase) << 8 | operation as u64, Relaxed);
        }
    }
}

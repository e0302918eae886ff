//! What guest and harness agree on: the parameter block, the telemetry memory, the histogram layout.
//!
//! The guest compiles this same file, so it uses `core` only. Everything is `#[repr(C)]`, little-endian and
//! read across address spaces; a change of any layout raises [`VERSION`]. Parameters travel from the harness to
//! the guest in a PVH module; telemetry is a memory region of its own that the guest writes and the host reads,
//! never migrated and never dirty-logged, except for [`Control`], which the host writes and the guest reads.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Version of every layout here.
pub const VERSION: u32 = 3;
/// First word of [`Params`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"migbench");
/// The port for text: one byte per `out`, lines end in `\n`.
pub const DOORBELL_PORT: u16 = 0xe9;
/// The port by which a vCPU says that it has nothing to do for [`VcpuTelemetry::rest`] ticks. A machine without it answers at once.
pub const REST_PORT: u16 = 0xe8;
/// The shortest wait, in ns, in which a vCPU rests: the exit, the sleep's own delay and the way back took 60 to 100 us
/// where exits are slow, and a shorter wait would end late.
pub const REST_LEAST: u64 = 150_000;
/// How much before the end of its wait it wants to be back, in ns; what is left it spins.
pub const REST_SPIN: u64 = 60_000;
/// The longest rest, in ns: the vCPU looks for commands between two.
pub const REST_MOST: u64 = 10_000_000;
/// The port by which a self-test ends a QEMU with `isa-debug-exit`.
pub const EXIT_PORT: u16 = 0xf4;
/// Guest-physical addresses under this belong to the guest's own program and tables.
pub const RESERVED: u64 = 8 << 20;
/// The most vCPUs that the image has stacks for.
pub const MAX_VCPUS: usize = 32;
/// The most parts of a working set, each with one program's state.
pub const MAX_PARTS: usize = 64;
/// The most stages of a workload.
pub const MAX_STAGES: usize = 8;
/// The note that names the entry point of further vCPUs.
pub const NOTE_NAME: &str = "migbench";
/// Type of that note; its descriptor is the 64-bit physical address.
pub const NOTE_AP_ENTRY: u32 = 1;

/// [`Params::flags`]: operations are timed.
pub const FLAG_TIMING: u32 = 1;
/// [`Params::flags`]: run `self_test_operations`, validate, say the outcome and leave by [`EXIT_PORT`].
pub const FLAG_SELF_TEST: u32 = 2;
/// [`Params::flags`]: instead of the kernel, hold known values in every vector register until asked to stop.
pub const FLAG_REGISTERS: u32 = 4;
/// [`Params::flags`]: execute an undefined instruction after the first operation, to test how faults are reported.
pub const FLAG_FAULT: u32 = 8;
/// [`Params::flags`]: instead of the kernel, go over memory in passes, as `memstress` of the kernel's selftests does.
pub const FLAG_PASSES: u32 = 16;
/// [`Params::flags`]: in passes, every vCPU goes over the whole working set instead of its own part.
pub const FLAG_OVERLAP: u32 = 32;
/// [`Params::flags`]: in passes, what is written is the number of the pass instead of a constant.
pub const FLAG_EPOCHS: u32 = 64;

/// [`Params::flags`]: an open loop that waits rests, by [`REST_PORT`], in place of spinning.
pub const FLAG_REST: u32 = 128;
/// [`Params::flags`]: the first vCPU starts the others, by INIT and SIPI through the local APIC. Without it whoever runs the guest
/// does, at [`NOTE_AP_ENTRY`].
pub const FLAG_START_OTHERS: u32 = 256;

/// [`Params::pattern`] values.
pub const PATTERN_SEQUENTIAL: u32 = 0;
/// Every page equally likely.
pub const PATTERN_UNIFORM: u32 = 1;
/// Zipf-distributed.
pub const PATTERN_ZIPF: u32 = 2;

/// [`Params::content`] values.
pub const CONTENT_COUNTER: u32 = 0;
/// Pseudo-random bytes.
pub const CONTENT_RANDOM: u32 = 1;
/// The same bytes each time.
pub const CONTENT_SAME: u32 = 2;
/// Words that follow each other with the chances of a Markov table.
pub const CONTENT_TEXT: u32 = 3;
/// Records of eight 8-byte fields, most of which seldom change.
pub const CONTENT_RECORDS: u32 = 4;
/// Zeros.
pub const CONTENT_ZERO: u32 = 5;
/// One of sixteen contents, so that many pages hold the same.
pub const CONTENT_DUPLICATE: u32 = 6;

/// [`Params::program`] values; each is a module under `programs`.
pub const PROGRAM_PARAMETRIC: u32 = 0;
/// Key-value store: reads and updates.
pub const PROGRAM_KV: u32 = 1;
/// Key-value store: reads, and updates that read first.
pub const PROGRAM_KV_MODIFY: u32 = 2;
/// Column store: scans and hash aggregation.
pub const PROGRAM_ANALYTICS: u32 = 3;
/// Quicksort, again and again.
pub const PROGRAM_SORT: u32 = 4;
/// Blocked matrix product.
pub const PROGRAM_MATMUL: u32 = 5;
/// STREAM's triad.
pub const PROGRAM_STREAM: u32 = 6;
/// Journal with checkpoints.
pub const PROGRAM_LOG: u32 = 7;
/// Copying collector.
pub const PROGRAM_GC: u32 = 8;
/// Cache of file blocks.
pub const PROGRAM_PAGE_CACHE: u32 = 9;
/// A constant at the start of each page.
pub const PROGRAM_MEMSTRESS: u32 = 10;
/// One byte in each KiB.
pub const PROGRAM_XBZRLE_DOC: u32 = 11;
/// Every word XORed with random data.
pub const PROGRAM_GUESTPERF: u32 = 12;

/// One stage of a workload: what changes when a guest goes from one to the next.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[cfg_attr(not(guest), derive(zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct WorkloadStage {
    /// TSC ticks that it lasts; 0 is for ever.
    pub ticks: u64,
    /// TSC ticks between the starts of two operations of one vCPU, or between two page writes, times 2^16; 0 is a
    /// closed loop.
    pub interval_q16: u64,
    /// Share of operations that only read, times 2^32.
    pub reads_q32: u64,
    /// Pages of each part that operations go to, from its start.
    pub pages: u64,
    /// Page writes in a writing operation.
    pub writes: u32,
    /// 1 where `interval_q16` is from page write to page write.
    pub by_writes: u32,
}

/// What the guest is to do.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[cfg_attr(not(guest), derive(zerocopy::IntoBytes, zerocopy::Immutable))]
pub struct Params {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// Where telemetry is.
    pub telemetry: u64,
    /// Its size in bytes.
    pub telemetry_size: u64,
    /// Nanoseconds per TSC tick, times 2^32.
    pub nanoseconds_q32: u64,
    /// Seed of every pseudo-random choice.
    pub seed: u64,
    /// Pages of the working set, all parts together.
    pub working_set: u64,
    /// Of pages outside of the working set: share that is not zero, times 2^32.
    pub fill_q32: u64,
    /// Of filled pages: share that is text-like, times 2^32.
    pub text_q32: u64,
    /// Of filled pages: share that is one of sixteen pages, times 2^32.
    pub duplicate_q32: u64,
    /// Operations per vCPU in a self-test.
    pub self_test_operations: u64,
    /// Zipf: the sum of 1 / k^theta over what one part chooses from.
    pub zipf_zeta: f64,
    /// Zipf: exponent.
    pub zipf_theta: f64,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Parts of the working set: one for each vCPU, or [`MAX_PARTS`] that all vCPUs share under locks.
    pub parts: u32,
    /// `PROGRAM_*`.
    pub program: u32,
    /// `PATTERN_*`.
    pub pattern: u32,
    /// `CONTENT_*`.
    pub content: u32,
    /// Accesses per operation.
    pub accesses: u32,
    /// Bytes that a page write changes, its counter not counted.
    pub change_bytes: u32,
    /// Runs in which they lie.
    pub change_pieces: u32,
    /// 1 where the runs move on with each write.
    pub change_moves: u32,
    /// Stages, at least one; after the last comes the first.
    pub stage_count: u32,
    /// The stages.
    pub stages: [WorkloadStage; MAX_STAGES],
}

impl Params {
    /// The first page of part `part` and how many it has: contiguous, and equal to within a page.
    #[must_use]
    pub const fn part(&self, part: u64) -> (u64, u64) {
        let parts = if self.parts == 0 { 1 } else { self.parts as u64 };
        let first = self.working_set * part / parts;
        (first, self.working_set * (part + 1) / parts - first)
    }

    /// That many nanoseconds in ticks of the TSC.
    #[must_use]
    pub const fn ticks(&self, nanoseconds: u64) -> u64 {
        let per_tick = if self.nanoseconds_q32 == 0 { 1 } else { self.nanoseconds_q32 };
        #[expect(clippy::cast_possible_truncation, reason = "ticks of at most years")]
        let ticks = (((nanoseconds as u128) << 32) / per_tick as u128) as u64;
        ticks
    }

    /// Whether vCPUs share the parts.
    #[must_use]
    pub const fn shared(&self) -> bool {
        self.parts != self.vcpus
    }
}

/// Phases, as the guest files its operations.
pub const PHASE_STEADY: u32 = 0;
/// From the start of the migration to the pause.
pub const PHASE_PRECOPY: u32 = 1;
/// The one operation of each vCPU that overlaps the pause.
pub const PHASE_SWITCHOVER: u32 = 2;
/// After it, until the vCPU has caught up with its schedule.
pub const PHASE_CATCHUP: u32 = 3;
/// After that.
pub const PHASE_AFTER: u32 = 4;
/// Phases that have histograms.
pub const PHASES: usize = 5;
/// Before the first steady window: counted, not filed.
pub const PHASE_WARMUP: u32 = 5;
/// For who measures what timing costs: operations are counted, and not timed even where they usually are. The first one that
/// is timed again seems to have begun when the last one ended that was.
pub const PHASE_UNTIMED: u32 = 6;

/// [`Control::command`]: work.
pub const COMMAND_RUN: u32 = 0;
/// Finish the operation and wait.
pub const COMMAND_STOP: u32 = 1;
/// Check every page, then wait.
pub const COMMAND_VALIDATE: u32 = 2;

/// The page that the host writes.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// `COMMAND_*`.
    pub command: AtomicU32,
    /// `PHASE_*`.
    pub phase: AtomicU32,
    /// Raised by the destination before its vCPUs run: the next operation to end overlapped the pause.
    pub epoch: AtomicU32,
    /// In passes: the last pass that may begin. Passes count from 1.
    pub pass: AtomicU32,
    /// An operation longer than that many ticks is a stall; 0 turns the count off.
    pub stall_threshold: AtomicU64,
    /// The stage to stay in, counted from 1; 0 lets stages follow each other, from that one on.
    pub hold: AtomicU32,
    /// Not used.
    pub reserved: AtomicU32,
}

// States of a vCPU's program. Telemetry starts as zeros, which is none of them.
/// The program runs in ring 3; further vCPUs may start.
pub const STATE_BOOTED: u32 = 1;
/// Memory is filled, operations run.
pub const STATE_RUNNING: u32 = 2;
/// Stopped between two operations.
pub const STATE_STOPPED: u32 = 3;
/// Every page is what it must be.
pub const STATE_VALID: u32 = 4;
/// A page is not; see the `bad_*` fields.
pub const STATE_INVALID: u32 = 5;

/// What [`VcpuTelemetry::bad_reason`] says.
pub const BAD_CONTENT: u32 = 1;
/// The pages' write counters do not add up to the writes made: a written page was lost.
pub const BAD_WRITES: u32 = 2;
/// A vector register changed.
pub const BAD_REGISTER: u32 = 3;
/// The program's own count of operations differs from telemetry's.
pub const BAD_OPERATIONS: u32 = 4;
/// What a program keeps in memory contradicts itself.
pub const BAD_STATE: u32 = 5;

/// Stalls kept per vCPU.
pub const STALL_RING: usize = 256;

/// One operation over the threshold.
#[repr(C)]
#[derive(Debug)]
pub struct StallSlot {
    /// Guest TSC at its start.
    pub start: AtomicU64,
    /// Ticks it took.
    pub ticks: AtomicU64,
    /// Phase and operation type: `phase << 8 | operation`.
    pub kind: AtomicU64,
}

/// What one vCPU's program writes. Counters only grow.
#[repr(C)]
#[derive(Debug)]
pub struct VcpuTelemetry {
    /// `STATE_*`.
    pub state: AtomicU32,
    /// Operations that ended before they began: the TSC went backwards.
    pub backwards: AtomicU32,
    /// Operations ended.
    pub operations: AtomicU64,
    /// Pages written.
    pub page_writes: AtomicU64,
    /// Guest TSC at the end of the last operation.
    pub last_end: AtomicU64,
    /// Ticks between the ends of the two operations around the last switchover.
    pub switchover_gap: AtomicU64,
    /// Epochs seen: switchovers gone through.
    pub epoch: AtomicU32,
    /// 1 while behind schedule after a switchover.
    pub catching_up: AtomicU32,
    /// In passes: the last pass that is over.
    pub pass: AtomicU32,
    /// The stage that it is in, counted from 0.
    pub stage: AtomicU32,
    /// The most operations overdue at once, since the host last wrote 0 here.
    pub backlog_max: AtomicU64,
    /// TSC ticks for which it has nothing to do, counted from its writing to [`REST_PORT`].
    pub rest: AtomicU64,
    /// Ticks over the threshold by phase.
    pub stall_ticks: [AtomicU64; PHASES],
    /// Operations over the threshold by phase.
    pub stall_count: [AtomicU64; PHASES],
    /// Why validation failed, `BAD_*`.
    pub bad_reason: AtomicU32,
    /// Exception vector.
    pub fault_vector: AtomicU32,
    /// Guest-physical address of the page that is wrong.
    pub bad_page: AtomicU64,
    /// Offset of its first wrong byte; for counters what was found.
    pub bad_offset: AtomicU64,
    /// For counters what was expected.
    pub bad_expected: AtomicU64,
    /// Error code, instruction pointer and CR2 of a fault.
    pub fault: [AtomicU64; 3],
    /// Stalls; a slot is overwritten only by a longer one.
    pub stalls: [StallSlot; STALL_RING],
}

/// Operation types with histograms of their own.
pub const OPERATIONS: usize = 4;

/// Names of a program's operation types, as in metric `latency_<op>`; what the guest files is the place in this list.
#[must_use]
pub const fn operation_names(program: u32) -> &'static [&'static str] {
    match program {
        PROGRAM_PARAMETRIC => &["read", "write"],
        PROGRAM_KV => &["read", "update"],
        PROGRAM_KV_MODIFY => &["read", "modify"],
        PROGRAM_ANALYTICS => &["scan", "aggregate"],
        PROGRAM_SORT => &["sort", "rekey"],
        PROGRAM_MATMUL => &["multiply"],
        PROGRAM_STREAM => &["triad", "initialise"],
        PROGRAM_LOG => &["append", "checkpoint"],
        PROGRAM_GC => &["allocate", "collect"],
        PROGRAM_PAGE_CACHE => &["lookup", "load"],
        _ => &["write"],
    }
}

/// Histograms per operation type and phase: service time, response time.
pub const CLOCKS: usize = 2;

/// Largest value that a histogram tells apart: 2^40 - 1 ns, 18 minutes.
pub const HISTOGRAM_MAX: u64 = (1 << 40) - 1;
/// Counters of a histogram with three significant digits up to [`HISTOGRAM_MAX`].
pub const HISTOGRAM_COUNTS: usize = 31 * 1024;

/// The bucket of `value` in hdrhistogram's layout (lowest value 1, three digits).
#[must_use]
pub const fn histogram_index(value: u64) -> usize {
    let value = if value > HISTOGRAM_MAX { HISTOGRAM_MAX } else { value };
    let bucket = 64 - 11 - (value | 2047).leading_zeros();
    (bucket as usize) * 1024 + ((value >> bucket) & 2047) as usize
}

/// The lowest value in the bucket `index`.
#[must_use]
pub const fn histogram_value(index: usize) -> u64 {
    if index < 2048 {
        return index as u64;
    }
    let bucket = index / 1024 - 1;
    ((index % 1024 + 1024) as u64) << bucket
}

/// Bytes of the control page.
pub const CONTROL_SIZE: usize = 4096;
/// Bytes of one vCPU's block.
pub const VCPU_SIZE: usize = 8192;
const _: () = assert!(core::mem::size_of::<VcpuTelemetry>() <= VCPU_SIZE);
/// Bytes of one vCPU's histograms.
pub const HISTOGRAMS_SIZE: usize = PHASES * OPERATIONS * CLOCKS * HISTOGRAM_COUNTS * 4;

/// Offset of a vCPU's block in telemetry.
#[must_use]
pub const fn vcpu_offset(vcpu: usize) -> usize {
    CONTROL_SIZE + vcpu * VCPU_SIZE
}

/// Offset of a histogram's counters (`u32`) in telemetry. `clock` 0 is service, 1 response time.
#[must_use]
pub const fn histogram_offset(
    vcpus: usize,
    vcpu: usize,
    phase: usize,
    operation: usize,
    clock: usize,
) -> usize {
    vcpu_offset(vcpus)
        + vcpu * HISTOGRAMS_SIZE
        + ((phase * OPERATIONS + operation) * CLOCKS + clock) * HISTOGRAM_COUNTS * 4
}

/// Size of telemetry: with histograms a multiple of 4 KiB.
#[must_use]
pub const fn telemetry_size(vcpus: usize, timing: bool) -> usize {
    let size = vcpu_offset(vcpus) + if timing { vcpus * HISTOGRAMS_SIZE } else { 0 };
    size.next_multiple_of(4096)
}

#[cfg(all(test, not(guest)))]
mod tests {
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn histogram_buckets_are_in_order(bits in 0..41_u32, value: u64, step in 0..5000_u64) {
            let value = value >> (63 - bits);
            let (index, next) = (histogram_index(value), histogram_index(value.saturating_add(step)));
            prop_assert!(index <= next && next < HISTOGRAM_COUNTS);
            prop_assert!(next - index <= usize::try_from(step).unwrap());
            let lowest = histogram_value(index);
            prop_assert_eq!(histogram_index(lowest), index);
            if value <= HISTOGRAM_MAX {
                prop_assert!(lowest <= value && value - lowest <= value / 1024, "{lowest} for {value}");
            }
        }

        #[test]
        fn histogram_buckets_are_those_of_hdrhistogram(bits in 0..40_u32, value: u64) {
            let value = (value >> (63 - bits)).clamp(1, HISTOGRAM_MAX);
            let histogram = Histogram::<u64>::new_with_bounds(1, HISTOGRAM_MAX, 3).unwrap();
            prop_assert_eq!(histogram.lowest_equivalent(value), histogram_value(histogram_index(value)));
        }
    }

    #[test]
    fn the_largest_value_has_the_last_bucket() {
        assert_eq!(histogram_index(HISTOGRAM_MAX), HISTOGRAM_COUNTS - 1);
        assert_eq!(histogram_index(u64::MAX), HISTOGRAM_COUNTS - 1);
    }
}

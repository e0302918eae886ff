//! The loop of operations: wait for the schedule, let the program do one, account for it; and the check of all that
//! the guest holds.

use core::fmt::Write;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::abi::{self, Params, WorkloadStage};
use crate::machine::{Doorbell, exit, now, rest};
use crate::memory::Memory;
use crate::pages::{Page, PageRules};
use crate::parts::Parts;
use crate::programs::{self, Program, Wrong};
use crate::random::Random;
use crate::registers;
use crate::telemetry::Telemetry;

/// Runs the program that the parameters name, until the host ends the machine.
pub fn run(params: &Params, memory: &Memory, telemetry: &Telemetry, vcpu: usize) -> ! {
    match params.program {
        abi::PROGRAM_PARAMETRIC => Worker::<programs::Parametric>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_ANALYTICS => Worker::<programs::Analytics>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_SORT => Worker::<programs::Sort>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_MATMUL => Worker::<programs::Matmul>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_STREAM => Worker::<programs::Stream>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_MEMSTRESS => Worker::<programs::Memstress>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_XBZRLE_DOC => Worker::<programs::XbzrleDoc>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_GUESTPERF => Worker::<programs::Guestperf>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_KV | abi::PROGRAM_KV_MODIFY => Worker::<programs::Kv>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_LOG => Worker::<programs::Log>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_GC => Worker::<programs::Gc>::run(params, memory, telemetry, vcpu),
        abi::PROGRAM_PAGE_CACHE => Worker::<programs::PageCache>::run(params, memory, telemetry, vcpu),
        _ => crate::fatal("no such program"),
    }
}

struct Worker<'a, P> {
    params: &'a Params,
    memory: &'a Memory,
    telemetry: &'a Telemetry,
    parts: Parts<'a, P>,
    vcpu: u64,
    vcpus: u64,
    random: Random,
    operations: u64,
    page_writes: u64,
}

impl<'a, P: Program> Worker<'a, P> {
    fn run(params: &'a Params, memory: &'a Memory, telemetry: &'a Telemetry, vcpu: usize) -> ! {
        let (vcpu, vcpus) = (vcpu as u64, u64::from(params.vcpus));
        if params.working_set < u64::from(params.parts) {
            crate::fatal("fewer pages in the working set than parts of it");
        }
        let mut worker = Self {
            params,
            memory,
            telemetry,
            parts: Parts::new(params, memory),
            vcpu,
            vcpus,
            random: Random::new(params.seed.rotate_left(32) ^ vcpu),
            operations: 0,
            page_writes: 0,
        };
        worker.fill();
        telemetry.set_state(abi::STATE_RUNNING);
        if params.flags & abi::FLAG_SELF_TEST != 0 {
            worker.self_test();
        }
        worker.work();
        while telemetry.command() != abi::COMMAND_VALIDATE {
            core::hint::spin_loop();
        }
        telemetry.set_state(if worker.validate() { abi::STATE_VALID } else { abi::STATE_INVALID });
        loop {
            core::hint::spin_loop();
        }
    }

    /// Every `vcpus`th of the numbers from 0 to `end`, from this vCPU's on.
    fn own(&self, end: u64) -> impl Iterator<Item = u64> + use<P> {
        (self.vcpu..end).step_by(self.vcpus as usize)
    }

    /// Pages outside of the working set that belong to this vCPU.
    fn idle(&self) -> impl Iterator<Item = u64> + use<P> {
        let first = self.params.working_set;
        self.own(self.memory.pages() - first).map(move |page| first + page)
    }

    fn fill(&self) {
        let rules = PageRules::new(self.params);
        for part in self.own(u64::from(self.params.parts)) {
            self.parts.start(part);
        }
        for index in self.idle() {
            // RAM starts as zeros: a zero page is left alone, as a fresh guest's free memory is.
            if !rules.starts_zero(index) {
                // SAFETY: the page is this vCPU's, and the reference ends here.
                rules.fill(index, &mut unsafe { self.memory.slice::<Page>(index, 1) }[0]);
            }
        }
    }

    /// One operation. Gives its type.
    #[inline(always)]
    fn operate(&mut self, stage: &WorkloadStage) -> usize {
        let part = if self.params.shared() { self.random.below(u64::from(self.params.parts)) } else { self.vcpu };
        let parts = &self.parts;
        let done = parts.with(part, |program, memory| {
            let done = program.operate(stage, memory);
            parts.wrote(part, done.page_writes);
            done
        });
        self.operations += 1;
        self.page_writes += done.page_writes;
        done.operation
    }

    fn count(&self) {
        self.telemetry.vcpu.operations.store(self.operations, Relaxed);
        self.telemetry.vcpu.page_writes.store(self.page_writes, Relaxed);
    }

    /// Operations until the host says stop.
    fn work(&mut self) {
        let timing = self.params.flags & abi::FLAG_TIMING != 0;
        let rests = self.params.flags & abi::FLAG_REST != 0;
        let least = if rests { self.params.ticks(abi::REST_LEAST) } else { u64::MAX };
        let [spin, most] = [abi::REST_SPIN, abi::REST_MOST].map(|time| self.params.ticks(time));
        let mut stages = StageSequence::new(self.params);
        let mut stage = stages.current();
        // vCPUs start evenly spread over one interval, so that they do not work in step.
        let begun = now();
        let (mut due, mut due_fraction) = (begun + ((stage.interval_q16 >> 16) * self.vcpu) / self.vcpus, 0_u64);
        let mut last_end = begun;
        let mut epoch = self.telemetry.control.epoch.load(Relaxed);
        let mut catching_up = false;
        loop {
            if stages.several && stages.next(self.telemetry) {
                // A stage begins on time, whatever the one before has left undone.
                (due, due_fraction) = (now(), 0);
                stage = stages.current();
            }
            let open = stage.interval_q16 != 0;
            let mut interval_q16 = stage.interval_q16;
            if stage.by_writes != 0 {
                // Pages written by an operation so far, on average: in the long run the page writes are on time.
                let mean_q16 = (self.page_writes << 16) / self.operations.max(1);
                interval_q16 = ((u128::from(interval_q16) * u128::from(mean_q16)) >> 16) as u64;
            }
            let mut start = last_end;
            if open {
                // The wait loop's last reading is the operation's start; behind schedule there is no wait, and
                // the end of the last operation is the start of this one.
                while start < due {
                    if self.telemetry.command() != abi::COMMAND_RUN {
                        return self.stopped();
                    }
                    if due - start > least {
                        self.telemetry.vcpu.rest.store((due - start - spin).min(most), Relaxed);
                        rest();
                    } else {
                        core::hint::spin_loop();
                    }
                    start = now();
                    if catching_up {
                        catching_up = false;
                        self.telemetry.vcpu.catching_up.store(0, Relaxed);
                    }
                }
                let overdue = start.wrapping_sub(due);
                if overdue << 16 > interval_q16 {
                    let backlog = (overdue << 16) / interval_q16.max(1);
                    let backlog_max = self.telemetry.vcpu.backlog_max.load(Relaxed);
                    if backlog > backlog_max {
                        self.telemetry.vcpu.backlog_max.store(backlog, Relaxed);
                    }
                }
            }
            if self.telemetry.command() != abi::COMMAND_RUN {
                return self.stopped();
            }
            let operation = self.operate(stage);
            let phase = self.telemetry.control.phase.load(Relaxed);
            if timing && phase != abi::PHASE_UNTIMED {
                let end = now();
                let mut file_as = phase;
                if self.telemetry.control.epoch.load(Relaxed) != epoch {
                    epoch = self.telemetry.control.epoch.load(Relaxed);
                    file_as = abi::PHASE_SWITCHOVER;
                    catching_up = open;
                    self.telemetry.vcpu.catching_up.store(u32::from(open), Relaxed);
                    self.telemetry.vcpu.switchover_gap.store(end.wrapping_sub(last_end), Relaxed);
                    self.telemetry.vcpu.epoch.store(epoch, Relaxed);
                } else if phase == abi::PHASE_CATCHUP && !catching_up {
                    file_as = abi::PHASE_AFTER;
                }
                if end < start {
                    let backwards = self.telemetry.vcpu.backwards.load(Relaxed);
                    self.telemetry.vcpu.backwards.store(backwards + 1, Relaxed);
                } else if (file_as as usize) < abi::PHASES {
                    let ticks = end - start;
                    self.telemetry.file(file_as, operation, 0, ticks);
                    if open {
                        self.telemetry.file(file_as, operation, 1, end.saturating_sub(due));
                    }
                    let threshold = self.telemetry.control.stall_threshold.load(Relaxed);
                    if threshold != 0 && ticks > threshold {
                        self.telemetry.stall(file_as, operation, start, ticks, ticks - threshold);
                    }
                }
                last_end = end;
                self.telemetry.vcpu.last_end.store(end, Relaxed);
            } else {
                last_end = start;
            }
            self.count();
            if open {
                due_fraction += interval_q16;
                due += due_fraction >> 16;
                due_fraction &= 0xffff;
            }
            if self.params.flags & abi::FLAG_FAULT != 0 {
                // SAFETY: meant to fault.
                unsafe { core::arch::asm!("ud2") };
            }
        }
    }

    fn stopped(&self) {
        self.count();
        self.telemetry.set_state(abi::STATE_STOPPED);
    }

    /// Checks the parts and pages that this vCPU answers for, and that telemetry agrees. No vCPU is working.
    fn validate(&self) -> bool {
        for part in self.own(u64::from(self.params.parts)) {
            let found = self.parts.with(part, |program, memory| program.check(memory));
            if let Err(wrong) = found {
                return self.bad(part, wrong);
            }
        }
        let rules = PageRules::new(self.params);
        let mut scratch: Page = [0; 4096];
        for index in self.idle() {
            // SAFETY: the page is this vCPU's, and the reference ends here.
            let page = &unsafe { self.memory.slice::<Page>(index, 1) }[0];
            if let Err(offset) = rules.validate(index, page, &mut scratch) {
                return self.said(abi::BAD_CONTENT, self.memory.address(index), offset as u64, 0);
            }
        }
        let counted = self.telemetry.vcpu.operations.load(Relaxed);
        if counted != self.operations {
            return self.said(abi::BAD_OPERATIONS, 0, self.operations, counted);
        }
        // Telemetry does not migrate, so what it counts is what really happened.
        let (counted, kept) = (self.telemetry.all_page_writes(), self.parts.page_writes());
        if counted != kept {
            return self.said(abi::BAD_WRITES, 0, kept, counted);
        }
        true
    }

    fn bad(&self, part: u64, wrong: Wrong) -> bool {
        let page = self.memory.address(self.params.part(part).0 + wrong.offset / 4096);
        match wrong.reason {
            abi::BAD_CONTENT => self.said(wrong.reason, page, wrong.offset % 4096, 0),
            _ => self.said(wrong.reason, page, wrong.found, wrong.expected),
        }
    }

    fn said(&self, reason: u32, page: u64, offset: u64, expected: u64) -> bool {
        self.telemetry.vcpu.bad_reason.store(reason, Relaxed);
        self.telemetry.vcpu.bad_page.store(page, Relaxed);
        self.telemetry.vcpu.bad_offset.store(offset, Relaxed);
        self.telemetry.vcpu.bad_expected.store(expected, Relaxed);
        false
    }

    fn self_test(&mut self) -> ! {
        match registers::check(self.telemetry) {
            Ok((xcr0, bytes)) => {
                let _ = writeln!(Doorbell, "self-test: XCR0 {xcr0:#x}, {bytes} bytes of vector registers hold");
            }
            Err(wrong) => crate::fatal(wrong),
        }
        let mut stages = StageSequence::new(self.params);
        for _ in 0..self.params.self_test_operations {
            self.operate(stages.current());
            if stages.several {
                stages.next(self.telemetry);
            }
        }
        self.count();
        let good = self.validate();
        // A flipped bit must be found, or the check is none.
        // SAFETY: no operation runs, and the reference ends here.
        unsafe { self.memory.slice::<Page>(self.params.part(self.vcpu).0, 1)[0][4000] ^= 1 };
        let found = !self.validate();
        let _ = writeln!(
            Doorbell,
            "self-test: {} operations, {} page writes, {} pages {}, a flipped bit {}",
            self.operations,
            self.page_writes,
            self.memory.pages(),
            if good { "valid" } else { "INVALID" },
            if found { "found" } else { "MISSED" },
        );
        exit(if good && found { 0 } else { 1 })
    }
}

/// Where a vCPU is in the sequence of stages.
struct StageSequence<'a> {
    stages: &'a [WorkloadStage],
    at: usize,
    begun: u64,
    /// Whether there is more than one.
    several: bool,
}

impl<'a> StageSequence<'a> {
    fn new(params: &'a Params) -> Self {
        let count = (params.stage_count as usize).clamp(1, abi::MAX_STAGES);
        Self { stages: &params.stages[..count], at: 0, begun: now(), several: count > 1 }
    }

    fn current(&self) -> &'a WorkloadStage {
        &self.stages[self.at]
    }

    /// Goes on to the next stage when its time has come, or to the one that the host holds. Says whether it did.
    fn next(&mut self, telemetry: &Telemetry) -> bool {
        let time = now();
        let held = telemetry.control.hold.load(Acquire) as usize;
        let to = if (1..=self.stages.len()).contains(&held) {
            // Its time begins when the host lets go.
            self.begun = time;
            held - 1
        } else if time.wrapping_sub(self.begun) >= self.current().ticks {
            // On time, so that vCPUs stay together; unless a pause was longer than the stage.
            self.begun += self.current().ticks;
            (self.at + 1) % self.stages.len()
        } else {
            return false;
        };
        if to == self.at {
            return false;
        }
        self.at = to;
        telemetry.vcpu.stage.store(to as u32, Relaxed);
        true
    }
}

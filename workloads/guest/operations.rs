//! The loop of operations: wait for the schedule, do a batch of accesses, account for it; and the check of all
//! pages that this vCPU owns (those whose number modulo the number of vCPUs is its own).

use core::fmt::Write;
use core::hint::black_box;
use core::sync::atomic::Ordering::Relaxed;

use crate::abi::{self, Params};
use crate::kernel::{Chooser, Page, Pages, Random};
use crate::machine::{Doorbell, exit, now};
use crate::memory::Memory;
use crate::telemetry::Telemetry;

struct Worker<'a> {
    params: &'a Params,
    memory: &'a Memory,
    telemetry: &'a Telemetry,
    rules: Pages,
    vcpu: u64,
    vcpus: u64,
    reads: Chooser,
    writes: Chooser,
    random: Random,
    operations: u64,
    page_writes: u64,
    sink: u64,
}

/// Runs until the host ends the machine.
pub fn run(params: &Params, memory: &Memory, telemetry: &Telemetry, vcpu: usize) -> ! {
    let (vcpu, vcpus) = (vcpu as u64, u64::from(params.vcpus));
    let own = (params.working_set + vcpus - 1 - vcpu) / vcpus;
    if own == 0 {
        crate::fatal("fewer pages in the working set than vCPUs");
    }
    let mut worker = Worker {
        params,
        memory,
        telemetry,
        rules: Pages::new(params),
        vcpu,
        vcpus,
        reads: Chooser::new(params, own),
        writes: Chooser::new(params, own),
        random: Random::new(params.seed ^ (vcpu + 1) << 56),
        operations: 0,
        page_writes: 0,
        sink: 0,
    };
    worker.fill();
    telemetry.set_state(abi::STATE_RUNNING);
    if params.flags & abi::FLAG_SELF_TEST != 0 {
        worker.self_test();
    }
    worker.work();
    loop {
        match telemetry.command() {
            abi::COMMAND_VALIDATE => {
                let state = if worker.validate() { abi::STATE_VALID } else { abi::STATE_INVALID };
                telemetry.set_state(state);
                loop {
                    core::hint::spin_loop();
                }
            }
            _ => core::hint::spin_loop(),
        }
    }
}

impl Worker<'_> {
    fn fill(&self) {
        let mut index = self.vcpu;
        while index < self.memory.pages() {
            // RAM starts as zeros: a zero page is left alone, as a fresh guest's free memory is.
            if !self.rules.starts_zero(index) {
                // SAFETY: this vCPU owns the page, and makes one reference at a time.
                self.rules.fill(index, unsafe { self.memory.page(index) });
            }
            index += self.vcpus;
        }
    }

    /// One batch of accesses. Gives its type.
    #[inline(always)]
    fn operate(&mut self) -> usize {
        let writes = (self.random.next() >> 32) >= self.params.reads_q32;
        let mut reads = self.params.accesses;
        if writes {
            reads = reads.saturating_sub(self.params.writes);
            for _ in 0..self.params.writes {
                let index = self.writes.next(&mut self.random) * self.vcpus + self.vcpu;
                // SAFETY: this vCPU owns the page, and makes one reference at a time.
                self.rules.write(index, unsafe { self.memory.page(index) });
            }
            self.page_writes += u64::from(self.params.writes);
        }
        for _ in 0..reads {
            let index = self.reads.next(&mut self.random) * self.vcpus + self.vcpu;
            let word = (self.random.next() % 512) as usize * 8;
            // SAFETY: this vCPU owns the page, and makes one reference at a time.
            let page = unsafe { self.memory.page(index) };
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&page[word..word + 8]);
            self.sink = self.sink.wrapping_add(u64::from_le_bytes(bytes));
        }
        black_box(self.sink);
        self.operations += 1;
        if writes { abi::OPERATION_WRITE } else { abi::OPERATION_READ }
    }

    fn count(&self) {
        self.telemetry.vcpu.operations.store(self.operations, Relaxed);
        self.telemetry.vcpu.page_writes.store(self.page_writes, Relaxed);
    }

    /// Operations until the host says stop.
    fn work(&mut self) {
        let timing = self.params.flags & abi::FLAG_TIMING != 0;
        let interval_q16 = self.params.interval_q16;
        let open = interval_q16 != 0;
        // vCPUs start evenly spread over one interval, so that they do not work in step.
        let begun = now();
        let (mut due, mut due_fraction) = (begun + ((interval_q16 >> 16) * self.vcpu) / self.vcpus, 0_u64);
        let mut last_end = begun;
        let mut epoch = self.telemetry.control.epoch.load(Relaxed);
        let mut catching_up = false;
        let reciprocal = if open { (1_u64 << 63) / interval_q16 } else { 0 };
        loop {
            let mut start = last_end;
            if open {
                // The wait loop's last reading is the operation's start; behind schedule there is no wait, and
                // the end of the last operation is the start of this one.
                while start < due {
                    if self.telemetry.command() != abi::COMMAND_RUN {
                        return self.stopped();
                    }
                    core::hint::spin_loop();
                    start = now();
                    if catching_up {
                        catching_up = false;
                        self.telemetry.vcpu.catching_up.store(0, Relaxed);
                    }
                }
                let overdue = start.wrapping_sub(due);
                if overdue << 16 > interval_q16 {
                    let backlog = ((u128::from(overdue << 16) * u128::from(reciprocal)) >> 63) as u64;
                    let backlog_max = self.telemetry.vcpu.backlog_max.load(Relaxed);
                    if backlog > backlog_max {
                        self.telemetry.vcpu.backlog_max.store(backlog, Relaxed);
                    }
                }
            }
            if self.telemetry.command() != abi::COMMAND_RUN {
                return self.stopped();
            }
            let operation = self.operate();
            if timing {
                let end = now();
                let phase = self.telemetry.control.phase.load(Relaxed);
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

    /// Checks every page that this vCPU owns, and that no write was lost.
    fn validate(&self) -> bool {
        let mut scratch: Page = [0; 4096];
        let mut writes = 0_u64;
        let mut index = self.vcpu;
        while index < self.memory.pages() {
            // SAFETY: this vCPU owns the page, and makes one reference at a time.
            let page = unsafe { self.memory.page(index) };
            if let Err(offset) = self.rules.validate(index, page, &mut scratch) {
                return self.bad(abi::BAD_CONTENT, self.memory.address(index), offset as u64, 0);
            }
            if index < self.params.working_set {
                writes = writes.wrapping_add(Pages::count(page));
            }
            index += self.vcpus;
        }
        let counted = self.telemetry.vcpu.operations.load(Relaxed);
        if counted != self.operations {
            return self.bad(abi::BAD_OPERATIONS, 0, self.operations, counted);
        }
        // With `same` content the counter does not count, and a lost write would have changed nothing.
        let expected = self.telemetry.vcpu.page_writes.load(Relaxed);
        if self.params.content != abi::CONTENT_SAME && writes != expected {
            return self.bad(abi::BAD_WRITES, 0, writes, expected);
        }
        true
    }

    fn bad(&self, reason: u32, page: u64, offset: u64, expected: u64) -> bool {
        self.telemetry.vcpu.bad_reason.store(reason, Relaxed);
        self.telemetry.vcpu.bad_page.store(page, Relaxed);
        self.telemetry.vcpu.bad_offset.store(offset, Relaxed);
        self.telemetry.vcpu.bad_expected.store(expected, Relaxed);
        false
    }

    fn self_test(&mut self) -> ! {
        for _ in 0..self.params.self_test_operations {
            self.operate();
        }
        self.count();
        let good = self.validate();
        let address = self.memory.address(self.vcpu);
        // A flipped bit must be found, or the check is none.
        // SAFETY: this vCPU owns its first page, and the reference ends here.
        unsafe { self.memory.page(self.vcpu)[4000] ^= 1 };
        let found = !self.validate() && self.telemetry.vcpu.bad_page.load(Relaxed) == address;
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

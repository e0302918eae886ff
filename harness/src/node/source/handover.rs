//! From the first byte on the link to the destination's word that the guest runs there.

use migbench_scenarios::cell::{Engine, Proof};
use migbench_workloads::abi;

use super::{Source, Teller, snapshot};
use crate::dirty::DirtyTracker;
use crate::engine::planted_cost::Planter;
use crate::engine::policy::{Delta, Full, PagePolicy};
use crate::engine::precopy::{Precopy, Sent};
use crate::engine::stop::Stop;
use crate::guest::telemetry;
use crate::guest::usage::Meter;
use crate::node::fault::{Fault, Point};
use crate::node::protocol::{Progress, Role, Sending};
use crate::node::{NodeError, expect, link_timeout, proof};
use crate::sys::clock;
use crate::vm::Vm;
use crate::wire::address::LinkAddress;
use crate::wire::frame::FrameKind;
use crate::wire::link::Link;

/// The end of the time in which the guest ran.
#[derive(Default)]
struct AtPause {
    /// [`clock::tsc`] when the pause was ordered; 0 where it was not.
    ordered: u64,
    /// What the guest had done by then.
    progress: Progress,
}

impl Source<'_> {
    pub(super) fn migrate_with(
        &mut self,
        vm: &Vm,
        tracker: &mut dyn DirtyTracker,
        meter: &Meter,
        address: &LinkAddress,
    ) -> Result<(), NodeError> {
        let cell = self.assignment.cell.clone();
        let fault = self.assignment.fault;
        let mut sending = Sending::default();
        telemetry::reset_backlog(vm.telemetry());
        self.begin_stalls(vm);
        let before = snapshot(vm);
        sending.start = clock::now();
        vm.telemetry().control().phase.store(abi::PHASE_PRECOPY, std::sync::atomic::Ordering::Release);
        let mut link = address.connect(link_timeout(&cell))?;
        link.set_rate(cell.link.rate);
        Fault::strike(fault, Role::Source, Point::Connect, &link.saboteur());
        link.send(FrameKind::Hello, &[&vm.ram().pages().to_le_bytes(), &cell.vcpus.to_le_bytes()])?;
        expect(&mut link, FrameKind::Hello, "Hello")?;
        if cell.engine != Engine::StopAndCopy {
            tracker.arm()?;
        }
        sending.set_up = clock::now();

        self.phase = "precopy";
        let mut at_pause = AtPause::default();
        let mut policy: Box<dyn PagePolicy> = match cell.engine {
            Engine::Delta => Box::new(Delta::new(vm.ram().pages(), cell.elide_zero)),
            _ => Box::new(Full::new(cell.elide_zero)),
        };
        let sent = self.send_all(vm, tracker, &mut link, policy.as_mut(), &sending, &mut at_pause);
        // The pre-copy phase ended with the pause, in whatever way the migration ended.
        self.paused_from = Some(at_pause.ordered).filter(|&ordered| ordered != 0);
        let at_pause = at_pause.progress;
        if at_pause.nanoseconds != 0 {
            self.phase = "switchover";
            // Where nothing is sent before the pause, figures of the time until it say how long connecting took.
            self.report.precopy = (cell.engine != Engine::StopAndCopy).then(|| Progress {
                operations: at_pause.operations - before.operations,
                page_writes: at_pause.page_writes - before.page_writes,
                stall_ticks: at_pause.stall_ticks - before.stall_ticks,
                nanoseconds: at_pause.nanoseconds - before.nanoseconds,
            });
        }
        let sent = sent?;
        sending.capped = sent.capped;
        sending.delta_bytes = sent.tally.delta_bytes;
        (sending.pause_ordered, sending.paused) = (sent.pause_ordered, sent.paused);
        (sending.harvested, sending.sent) = (sent.harvested, sent.sent);
        sending.rounds = sent.rounds;
        self.report.sending = Some(sending);
        Fault::strike(fault, Role::Source, Point::Switchover, &link.saboteur());
        let handed_over = self.hand_over(vm, &mut link);
        self.finish_accounts(&link);
        handed_over?;
        self.report.usage = meter.finish()?;
        // Only now: the shadow's memory counts, and letting go of it takes time.
        drop(policy);
        if cell.proof == Proof::Every && !self.assignment.verify {
            self.prove_pages(vm, &mut link)?;
        }
        Ok(())
    }

    fn send_all(
        &mut self,
        vm: &Vm,
        tracker: &mut dyn DirtyTracker,
        link: &mut Link,
        policy: &mut dyn PagePolicy,
        sending: &Sending,
        at_pause: &mut AtPause,
    ) -> Result<Sent, NodeError> {
        let cell = &self.assignment.cell;
        let mut teller =
            Teller { control: &mut *self.control, fault: self.assignment.fault, link: link.saboteur() };
        let mut pause = || {
            at_pause.ordered = clock::tsc();
            let paused = vm.pause();
            at_pause.progress = snapshot(vm);
            paused
        };
        let mut unlogged = NothingDirty;
        let whole = cell.engine == Engine::StopAndCopy;
        let precopy = Precopy {
            ram: vm.ram(),
            tracker: if whole { &mut unlogged } else { tracker },
            pause: &mut pause,
            link: link.sender_mut(),
            policy,
            stop: Stop::new(cell.stop),
            start: sending.start,
            observer: &mut teller,
            planter: Planter::new(self.assignment.planted_cost),
        };
        Ok(if whole { precopy.stop_and_copy() } else { precopy.run() }?)
    }

    /// State, proof, commit. Before commit any error leaves the guest to the caller, who resumes it.
    fn hand_over(&mut self, vm: &Vm, link: &mut Link) -> Result<(), NodeError> {
        let fault = self.assignment.fault;
        for (index, vcpu) in (0_u32..).zip(vm.vcpus()) {
            vcpu.with_state(|state| {
                let [registers, msrs] = state.as_bytes();
                link.send(FrameKind::State, &[&index.to_le_bytes(), registers, msrs])
            })?;
        }
        if self.assignment.verify {
            self.phase = "verification";
            link.send(FrameKind::HashRequest, &[])?;
            let here = proof::hash_blocks(vm.ram())?;
            let there = expect(link, FrameKind::Hashes, "Hashes")?;
            let equal = proof::compare_blocks(vm.ram(), &here, &there);
            self.report.verified = Some(equal.is_ok());
            if let Err(error) = equal {
                let _ = link.send(FrameKind::Abort, &[b"memory differs"]);
                return Err(error);
            }
            self.phase = "switchover";
        }
        expect(link, FrameKind::Ready, "Ready")?;
        let ready = clock::now();
        Fault::strike(fault, Role::Source, Point::BeforeCommit, &link.saboteur());
        self.phase = "handover";
        // One small frame enters the socket whole or not at all: an error means that nobody got it.
        let committed = clock::now();
        link.send(FrameKind::Commit, &[])?;
        self.report.handed_over = true;
        Fault::strike(fault, Role::Source, Point::AfterCommit, &link.saboteur());
        let running = expect(link, FrameKind::Running, "Running").map(|_| clock::now());
        self.end_switchover(vm);
        if let Some(sending) = &mut self.report.sending {
            (sending.ready, sending.committed) = (ready, committed);
            sending.running = running.as_ref().copied().unwrap_or(0);
        }
        running.map(|_| ())
    }

    fn finish_accounts(&mut self, link: &Link) {
        let traffic = link.traffic();
        if let Some(sending) = &mut self.report.sending {
            sending.traffic = [traffic.full, traffic.zero, traffic.delta, traffic.state, traffic.control];
            sending.rate_achieved = link.sender().pace().rate_achieved();
        }
    }
}

/// The tracker of a guest that is paused from the first page on.
struct NothingDirty;

impl DirtyTracker for NothingDirty {
    fn arm(&mut self) -> Result<(), crate::dirty::TrackerError> {
        Ok(())
    }

    fn harvest(&mut self, _: &mut crate::vm::page_set::PageSet) -> Result<(), crate::dirty::TrackerError> {
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), crate::dirty::TrackerError> {
        Ok(())
    }
}

//! From the first byte on the link to the destination's word that the guest runs there.

use std::sync::atomic::Ordering::Release;

use migbench_reports::record::MemoryProof;
use migbench_scenarios::cell::Engine;
use migbench_workloads::abi;

use super::rounds::{self, rate_achieved};
use super::{Reporter, SourceNode, snapshot};
use crate::dirty::{DirtyTracker, TrackerError};
use crate::engine::planted_cost::Planter;
use crate::engine::policy::PagePolicy;
use crate::engine::precopy::{Precopy, Sent};
use crate::engine::round::Rounds;
use crate::engine::stop::Stop;
use crate::engine::throttle::{Throttler, throttle};
use crate::guest::{Guest, telemetry};
use crate::node::fault::{FaultPoint, InjectedFault};
use crate::node::handover::Owner;
use crate::node::hello::{Greeting, Hello};
use crate::node::protocol::{PhaseWork, Role, Sending};
use crate::node::{NodeError, abort, expect, link_timeout, proof};
use crate::sys::clock;
use crate::vm::Vm;
use crate::vm::page_set::PageSet;
use crate::wire::address::LinkAddress;
use crate::wire::frame::FrameKind;
use crate::wire::link::Link;
use crate::wire::modelled::wire_time;

/// The end of the time in which the guest ran.
#[derive(Default)]
struct AtPause {
    /// [`clock::tsc`] when the pause was ordered; 0 where it was not.
    ordered: u64,
    /// What the guest had done by then.
    progress: PhaseWork,
}

/// What finds pages, decides about them, and slows the guest.
struct Work<'a> {
    tracker: &'a mut dyn DirtyTracker,
    policy: &'a mut dyn PagePolicy,
    throttler: Option<&'a Throttler>,
}

impl SourceNode<'_> {
    /// Migrates `owner`'s guest, over a link that is left in `connected`. Without an owner afterwards the guest is the
    /// destination's.
    pub(super) fn migrate_to(
        &mut self,
        address: &LinkAddress,
        owner: &mut Option<Owner<'_>>,
        vm: &Vm,
        tracker: &mut dyn DirtyTracker,
        policy: &mut dyn PagePolicy,
        connected: &mut Option<Link>,
    ) -> Result<(), NodeError> {
        let cell = self.assignment.cell.clone();
        let fault = self.assignment.fault;
        let mut sending = Sending::default();
        telemetry::reset_backlog(vm.telemetry());
        self.begin_stalls(vm);
        let before = snapshot(vm.telemetry());
        sending.start = clock::now();
        vm.telemetry().control().phase.store(abi::PHASE_PRECOPY, Release);
        let greeting = Greeting {
            token: &self.assignment.token,
            hello: Hello::of(&cell, vm.ram().pages(), self.assignment.verify),
            timeout: link_timeout(&cell),
        };
        let mut shaped = Ok(None);
        let (greeted, round_trip) = greeting.connect(address, &mut |link| {
            shaped = link.shape(&cell.link);
            InjectedFault::strike(fault, Role::Source, FaultPoint::Connect, &link.saboteur())
        })?;
        let link = connected.insert(greeted);
        self.overhead.round_trip = clock::seconds(0, round_trip);
        sending.queue = shaped?.map(|queue| queue.0);
        link.send(FrameKind::Model, &[&vm.model().to_bytes()])?;
        if cell.engine != Engine::StopAndCopy {
            tracker.arm()?;
        }
        sending.set_up = clock::now();

        self.phase = "precopy";
        let mut at_pause = AtPause::default();
        // Dropped on every way out of here, and every vCPU is awake then.
        let throttler = throttle(&cell, vm.vcpus().len()).map(|throttle| Throttler::start(throttle, vm));
        let throttler = throttler
            .transpose()
            .map_err(|source| NodeError::System { action: "start the throttle", source })?;
        let work = Work { tracker, policy, throttler: throttler.as_ref() };
        let sent = self.send_all(vm, work, link, sending.start, &mut at_pause);
        // The pre-copy phase ended with the pause, in whatever way the migration ended.
        self.paused_from = Some(at_pause.ordered).filter(|&ordered| ordered != 0);
        let at_pause = at_pause.progress;
        if at_pause.nanoseconds != 0 {
            self.phase = "switchover";
            // Where nothing is sent before the pause, figures of the time until it say how long connecting took.
            self.report.precopy = (cell.engine != Engine::StopAndCopy).then(|| PhaseWork {
                operations: at_pause.operations - before.operations,
                page_writes: at_pause.page_writes - before.page_writes,
                stall_ticks: at_pause.stall_ticks - before.stall_ticks,
                nanoseconds: at_pause.nanoseconds - before.nanoseconds,
            });
        }
        let sent = sent?;
        InjectedFault::strike(fault, Role::Source, FaultPoint::Switchover, &link.saboteur());
        let handed_over = self.hand_over(vm, owner, link, &mut sending);
        let Sent { rounds, capped, decided, pause_ordered, paused, harvested } = sent;
        (sending.pause_ordered, sending.paused, sending.harvested) = (pause_ordered, paused, harvested);
        sending.capped = capped;
        sending.throttled = throttler.as_ref().map(Throttler::slept).unwrap_or_default();
        sending.deciding_harvest = clock::seconds(0, decided.took);
        sending.delta_bytes = rounds.iter().map(|round| round.tally.delta_bytes).sum();
        (sending.choices, sending.cache) = (policy.choices(), policy.cache());
        sending.rounds = rounds.iter().map(|round| rounds::record(round, sending.start)).collect();
        let traffic = link.traffic();
        sending.traffic = [traffic.full, traffic.zero, traffic.delta, traffic.state, traffic.control];
        if let Some(rate) = link.sender().rate() {
            let kernel = link.sender().kernel_rate_achieved();
            sending.rate_achieved = kernel.or_else(|| rate_achieved(&rounds, |bytes| wire_time(bytes, rate)));
        }
        self.report.sending = Some(sending);
        handed_over
    }

    fn send_all(
        &mut self,
        vm: &Vm,
        work: Work<'_>,
        link: &mut Link,
        start: u64,
        at_pause: &mut AtPause,
    ) -> Result<Sent, NodeError> {
        let cell = &self.assignment.cell;
        let Work { tracker, policy, throttler } = work;
        let mut reporter = Reporter {
            control: &mut *self.control,
            fault: self.assignment.fault,
            link: link.saboteur(),
            start,
            reported: start,
        };
        let mut pause = || {
            at_pause.ordered = clock::tsc();
            let paused = Guest::pause(vm);
            at_pause.progress = snapshot(vm.telemetry());
            paused
        };
        let mut unlogged = NothingDirty;
        let whole = cell.engine == Engine::StopAndCopy;
        let tracker = if whole { &mut unlogged } else { tracker };
        let planter = Planter::new(self.assignment.planted_cost);
        #[expect(clippy::cast_precision_loss, reason = "a rate stays under 2^53")]
        let rate = cell.link.rate.map(|rate| rate.0 as f64);
        let precopy = Precopy {
            rounds: Rounds::new(vm.ram(), tracker, link.sender_mut(), policy, planter)?,
            stop: Stop::new(&cell.stop, rate, self.overhead),
            throttler,
            pause: &mut pause,
            start,
            observer: &mut reporter,
        };
        Ok(if whole { precopy.stop_and_copy() } else { precopy.run() }?)
    }

    /// State, proof, commit. Before commit any error leaves the guest to its owner, who resumes it.
    fn hand_over(
        &mut self,
        vm: &Vm,
        owner: &mut Option<Owner<'_>>,
        link: &mut Link,
        sending: &mut Sending,
    ) -> Result<(), NodeError> {
        let fault = self.assignment.fault;
        for (index, vcpu) in (0_u32..).zip(vm.vcpus()) {
            vcpu.with_state(|state| {
                let [registers, xsave, msrs] = state.as_bytes();
                link.send(FrameKind::State, &[&index.to_le_bytes(), registers, xsave, msrs])
            })?;
        }
        if self.assignment.verify {
            self.verify_memory(vm, link)?;
        }
        expect(link, FrameKind::Ready, "Ready")?;
        sending.ready = clock::now();
        InjectedFault::strike(fault, Role::Source, FaultPoint::BeforeCommit, &link.saboteur());
        self.phase = "handover";
        if let Some(guest) = owner.take() {
            match guest.commit(link) {
                Ok(committed) => sending.committed = committed,
                Err((guest, error)) => {
                    *owner = Some(guest);
                    return Err(error);
                }
            }
        }
        self.report.handed_over = true;
        InjectedFault::strike(fault, Role::Source, FaultPoint::AfterCommit, &link.saboteur());
        let running = expect(link, FrameKind::Running, "Running");
        sending.running = if running.is_ok() { clock::now() } else { 0 };
        self.end_switchover(vm);
        running.map(drop)
    }

    /// Compares all memory while the guest is paused.
    fn verify_memory(&mut self, vm: &Vm, link: &mut Link) -> Result<(), NodeError> {
        self.phase = "verification";
        let compared = (|| {
            link.send(FrameKind::HashRequest, &[])?;
            let here = proof::hash_blocks(vm.ram())?;
            let there = expect(link, FrameKind::Hashes, "Hashes")?;
            proof::compare_blocks(vm.ram(), &here, &there)
        })();
        self.report.proof = Some(match &compared {
            Ok(()) => MemoryProof::Equal,
            Err(NodeError::Differs(_)) => MemoryProof::Different,
            Err(error) => MemoryProof::NotMade(crate::node::with_causes(error)),
        });
        if let Err(NodeError::Differs(_)) = &compared {
            abort(link, "memory differs");
        }
        compared?;
        self.phase = "switchover";
        Ok(())
    }
}

/// The tracker of a guest that is paused from the first page on.
struct NothingDirty;

impl DirtyTracker for NothingDirty {
    fn arm(&mut self) -> Result<(), TrackerError> {
        Ok(())
    }

    fn harvest(&mut self, _: &mut PageSet) -> Result<(), TrackerError> {
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        Ok(())
    }
}

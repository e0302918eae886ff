//! The source: boots the guest, waits until it is steady, migrates it, and keeps it if that fails before commit.

mod migrate;
mod rehearsal;
mod rounds;

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use migbench_reports::record::{Cause, MemoryProof, Round};
use migbench_scenarios::cell::{Cell, Engine, Proof, Rule};
use migbench_workloads::abi;
use migbench_workloads::units::Seconds;

use super::fault::{FaultPoint, InjectedFault};
use super::handover::Owner;
use super::protocol::{
    ControlSocket, Failure, Message, NodeAssignment, Order, PhaseWork, ProtocolError, Role, SourceReport,
    Stalled,
};
use super::{NodeError, check_guest, expect, link_timeout, proof, with_causes};
use crate::dirty::{DirtyTracker, Logged, tracker};
use crate::engine::policy::policy;
use crate::engine::precopy::Observer;
use crate::engine::round::SentRound;
use crate::engine::stop::Overhead;
use crate::guest::sampler::Sampler;
use crate::guest::usage::{Meter, Usage};
use crate::guest::{Guest, stalls, steady, telemetry};
use crate::sys::clock;
use crate::sys::memory::Telemetry;
use crate::sys::thread;
use crate::vm::Vm;
use crate::vm::events;
use crate::vm::page_set::PageSet;
use crate::vm::vcpu::Vcpu;
use crate::wire::address::LinkAddress;
use crate::wire::frame::FrameKind;
use crate::wire::link::Link;
use crate::wire::sabotage::Saboteur;

/// Time for a guest that goes on to show it.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// Serves one run.
///
/// # Errors
/// When the runner is gone; everything else is reported to it.
pub fn serve(control: &mut ControlSocket, assignment: &NodeAssignment) -> Result<(), ProtocolError> {
    let mut source = SourceNode {
        control,
        assignment,
        phase: "boot",
        report: SourceReport::default(),
        paused_from: None,
        overhead: Overhead::default(),
    };
    if let Err(error) = source.run() {
        source.fail(&error);
    }
    let report = Box::new(std::mem::take(&mut source.report));
    control.send(&Message::Source(report))
}

struct SourceNode<'a> {
    control: &'a mut ControlSocket,
    assignment: &'a NodeAssignment,
    phase: &'static str,
    report: SourceReport,
    /// [`clock::tsc`] when the pause was ordered, until it is over.
    paused_from: Option<u64>,
    /// What a pause takes beside pages, for stop rules that count it.
    overhead: Overhead,
}

/// Reports rounds to the runner while there is time for that.
struct Reporter<'a> {
    control: &'a mut ControlSocket,
    fault: Option<InjectedFault>,
    link: Saboteur,
    /// [`clock::now`] when the migration started.
    start: u64,
    reported: u64,
}

/// Nanoseconds between reports of rounds. The first comes no earlier either: a short migration is not disturbed.
const REPORT_EVERY: u64 = 500_000_000;

impl Observer for Reporter<'_> {
    fn sent(&mut self, round: &SentRound) {
        if round.number == 0 {
            InjectedFault::strike(self.fault, Role::Source, FaultPoint::Precopy, &self.link);
        }
    }

    fn continues(&mut self, last: &SentRound) {
        if last.end.saturating_sub(self.reported) >= REPORT_EVERY {
            self.reported = last.end;
            // A runner that is gone is noticed at the end.
            let _ = self.control.send(&Message::Round(Box::new(rounds::record(last, self.start))));
        }
    }
}

impl SourceNode<'_> {
    fn cell(&self) -> &Cell {
        &self.assignment.cell
    }

    fn fail(&mut self, error: &NodeError) {
        self.report.failure = Some(Failure { phase: self.phase.into(), message: with_causes(error) });
    }

    fn run(&mut self) -> Result<(), NodeError> {
        let cell = self.assignment.cell.clone();
        if let Some(pinning) = &cell.pinning {
            thread::pin(&pinning.source)
                .map_err(|source| NodeError::System { action: "bind the source to its CPUs", source })?;
        }
        let (vm, sampler) = self.boot(&cell)?;
        self.phase = "warmup";
        sampler.begin();
        let outcome = self.with_guest(&vm, &sampler);
        self.report.samples = sampler.finish();
        if !self.report.handed_over {
            self.end_here(&vm, outcome.is_err());
        }
        if let Err(error) = &outcome {
            self.fail(error);
        }
        self.finish_stalls(&vm);
        Ok(())
    }

    /// From the warm-up to the end of the migration, or of what a control does instead.
    fn with_guest(&mut self, vm: &Vm, sampler: &Sampler) -> Result<(), NodeError> {
        let cell = self.assignment.cell.clone();
        let asked = !matches!(cell.stop.rule(), Rule::Pages | Rule::Raw | Rule::Encoded);
        if asked && matches!(cell.engine, Engine::Full | Engine::Delta) {
            self.overhead = rehearsal::rehearse(vm)?;
        }
        self.report.steady = Some(steady::reach(vm, &cell)?);
        self.report.huge_page_share = vm.huge_page_share().map_err(|source| NodeError::System {
            action: "see how much of guest memory is in huge pages",
            source,
        })?;
        let clocks = if cell.timing { stalls::clocks(vm) } else { Vec::new() };
        self.report.stalled = cell.timing.then(|| Stalled { clocks, ..Stalled::default() });
        self.control.send(&Message::Steady)?;
        let Order::Migrate { address } = self.control.receive()? else {
            return Err(ProtocolError::Unexpected("a second preparation".into()).into());
        };
        std::thread::sleep(Seconds(self.assignment.start_jitter).duration());
        // From now on phases follow each other.
        vm.telemetry().control().hold.store(0, Release);
        match cell.engine {
            Engine::None | Engine::TrackOnly => self.control_window(vm, sampler),
            _ => self.migrate(vm, sampler, address.as_ref()),
        }
    }

    /// The time whose stalls are reported begins.
    fn begin_stalls(&mut self, vm: &Vm) {
        if let Some(stalled) = &mut self.report.stalled {
            stalled.before = stalls::start(vm.telemetry());
            stalled.start = clock::tsc();
        }
    }

    /// The pause that began at `start`, by [`clock::tsc`], is over.
    fn end_switchover(&mut self, vm: &Vm) {
        if let Some(start) = self.paused_from.take() {
            vm.events().enter(Cause::Switchover, start, None);
        }
    }

    fn finish_stalls(&mut self, vm: &Vm) {
        let log = vm.events();
        if let Some(stalled) = &mut self.report.stalled {
            stalled.ring = stalls::ring(vm.telemetry());
            stalled.full_since = log.full_since();
            let threads: Vec<i32> = vm.vcpus().iter().map(Vcpu::thread).collect();
            stalled.events = stalls::of_interest(log.entries(&threads), &stalled.ring.kept, &stalled.clocks);
        }
    }

    /// The guest, booted, and who samples it. All that is large is there before the guest runs.
    fn boot(&mut self, cell: &Cell) -> Result<(Vm, Sampler), NodeError> {
        let memfd = crate::sys::memory::inherited(self.assignment.telemetry)
            .map_err(|source| NodeError::System { action: "open telemetry", source })?;
        let telemetry = Telemetry::map(memfd, cell.vcpus as usize, cell.timing)
            .map_err(|source| NodeError::System { action: "map telemetry", source })?;
        telemetry.control().phase.store(abi::PHASE_WARMUP, Release);
        let vm = Vm::load(cell, self.assignment.seed, self.assignment.guest_flags, Arc::new(telemetry))?;
        if cell.timing {
            vm.events().make_room(events::ROOM)?;
        }
        let sampler = Sampler::prepare(Arc::clone(vm.telemetry()), sampled_for(cell))
            .map_err(|source| NodeError::System { action: "start the sampler", source })?;
        self.report.tsc_khz = vm.tsc_khz();
        Guest::start(&vm)?;
        Ok((vm, sampler))
    }

    /// What the guest has done in pre-copy since `before`.
    fn progress_since(&self, vm: &Vm, before: &PhaseWork) -> PhaseWork {
        let now = snapshot(vm.telemetry());
        PhaseWork {
            operations: now.operations - before.operations,
            page_writes: now.page_writes - before.page_writes,
            stall_ticks: now.stall_ticks - before.stall_ticks,
            nanoseconds: now.nanoseconds - before.nanoseconds,
        }
    }

    /// The controls `none` and `track-only`: the timeline of a migration without one.
    fn control_window(&mut self, vm: &Vm, sampler: &Sampler) -> Result<(), NodeError> {
        self.phase = "precopy";
        let mut meter = Meter::start(vm, Some(sampler.thread()))?;
        let control = vm.telemetry().control();
        telemetry::reset_backlog(vm.telemetry());
        self.begin_stalls(vm);
        control.phase.store(abi::PHASE_PRECOPY, Release);
        let before = snapshot(vm.telemetry());
        let start = clock::now();
        let length = Seconds(self.cell().windows.control.0).duration();
        if self.cell().engine == Engine::TrackOnly {
            let mut tracker = tracker(self.cell(), vm)?;
            let mut tracker = Logged { tracker: tracker.as_mut(), log: vm.events() };
            let tracked = self.track(vm, &mut tracker, start, length);
            tracker.disarm()?;
            tracked?;
        } else {
            std::thread::sleep(length);
        }
        let end = clock::now();
        self.report.precopy = Some(self.progress_since(vm, &before));
        control.phase.store(abi::PHASE_AFTER, Release);
        self.report.control = Some((start, end));
        self.report.usage = Usage { memory: meter.memory()?, ..meter.usage()? };
        self.phase = "after";
        std::thread::sleep(self.cell().windows.after.duration());
        Ok(())
    }

    /// Arms and harvests at the pace of pre-copy rounds, sends nothing.
    fn track(
        &mut self,
        vm: &Vm,
        tracker: &mut dyn DirtyTracker,
        start: u64,
        length: Duration,
    ) -> Result<(), NodeError> {
        /// Seconds between harvests: about a round of the shipped suites.
        const PACE: f64 = 0.1;
        let mut dirty = PageSet::new(vm.ram().pages())?;
        tracker.arm()?;
        self.report.armed = Some(clock::now());
        // As round 0 of a migration does: a tracker that re-arms lazily is not armed in full before.
        dirty.fill();
        while let Some((first, count)) = dirty.take_run(64) {
            tracker.before_read(first, count)?;
        }
        let mut round = 0;
        let mut last = clock::now();
        while clock::seconds(start, clock::now()) < length.as_secs_f64() {
            std::thread::sleep(Seconds(PACE).duration());
            let before = clock::now();
            tracker.harvest(&mut dirty)?;
            let dirty_pages = dirty.len();
            // What a tracker re-arms lazily it must re-arm here too, or only its first round would count.
            while let Some((first, count)) = dirty.take_run(64) {
                tracker.before_read(first, count)?;
            }
            let after = clock::now();
            self.report.rounds.push(Round {
                round,
                dirty_pages,
                duration: clock::seconds(last, after),
                harvest_time: Some(clock::seconds(before, after)),
                ..Round::default()
            });
            round += 1;
            last = after;
        }
        Ok(())
    }

    fn migrate(
        &mut self,
        vm: &Vm,
        sampler: &Sampler,
        address: Option<&LinkAddress>,
    ) -> Result<(), NodeError> {
        self.phase = "connect";
        let Some(address) = address else {
            return Err(NodeError::Content("the destination ended before the migration began".into()));
        };
        let mut meter = Meter::start(vm, Some(sampler.thread()))?;
        let mut tracker = tracker(self.cell(), vm)?;
        let mut logged = Logged { tracker: tracker.as_mut(), log: vm.events() };
        let mut policy = policy(self.cell(), vm.ram().pages())?;
        let mut owner = Some(Owner::of(vm));
        let mut link = None;
        let outcome = self.migrate_to(address, &mut owner, vm, &mut logged, policy.as_mut(), &mut link);
        if let Some(owner) = owner {
            vm.telemetry().control().phase.store(abi::PHASE_AFTER, Release);
            // In this order: a guest that goes on unlogged is better than one that waits.
            owner.resume();
            self.end_switchover(vm);
            let disarmed = logged.disarm();
            outcome?;
            return Ok(disarmed?);
        }
        // The guest is at the destination, on the same cores: this side holds still until its window is over.
        sampler.stop();
        let window = outcome.is_ok().then(|| link.as_mut().map(|link| self.wait_for_window(link))).flatten();
        let memory = meter.memory()?;
        // Letting go is a cost of the engine as taking was.
        drop(policy);
        let disarmed = tracker.disarm();
        self.report.usage = Usage { memory, ..meter.usage()? };
        outcome?;
        if self.cell().proof == Proof::Every && !self.assignment.verify {
            let link = link.as_mut().filter(|_| window.as_ref().is_some_and(Result::is_ok));
            self.prove_pages(vm, link)?;
        }
        Ok(disarmed?)
    }

    /// Waits for the end of the window at the destination. A link that is gone changes nothing for the guest.
    fn wait_for_window(&self, link: &mut Link) -> Result<(), NodeError> {
        link.set_timeout(link_timeout(self.cell()).saturating_add(self.cell().windows.after.duration()))?;
        expect(link, FrameKind::WindowEnd, "WindowEnd").map(drop)
    }

    /// The guest ends here: after a control, or because a migration failed before commit.
    fn end_here(&mut self, vm: &Vm, failed: bool) {
        let before = telemetry::operations(vm.telemetry());
        let runs = clock::found_within(SIGN_OF_LIFE, Duration::from_millis(1), || {
            vm.check().map(|()| telemetry::operations(vm.telemetry()) > before)
        });
        self.report.guest_runs = runs.unwrap_or(false);
        if failed && !self.report.guest_runs {
            return;
        }
        self.report.backlog_max = Some(telemetry::backlog_max(vm.telemetry()));
        self.report.histograms =
            telemetry::histograms(vm.telemetry(), self.cell().settings.program.operations());
        self.report.backwards = telemetry::backwards(vm.telemetry());
        self.report.checked = Some(check_guest(vm));
    }

    /// Hashes of pages as the destination decoded them, against memory that has been frozen since the pause. Without a link
    /// there is no proof, which is something else than a difference.
    fn prove_pages(&mut self, vm: &Vm, link: Option<&mut Link>) -> Result<(), NodeError> {
        self.phase = "verification";
        let outcome = match link {
            Some(link) => compare_pages(vm, link),
            None => Err(NodeError::Content("the link was gone before the hashes came".into())),
        };
        self.report.proof = Some(match &outcome {
            Ok(()) => MemoryProof::Equal,
            Err(NodeError::Differs(_)) => MemoryProof::Different,
            Err(error) => MemoryProof::NotMade(with_causes(error)),
        });
        // The guest is well at the destination: a proof that could not be made is no failure of the migration.
        outcome.or_else(|error| if matches!(error, NodeError::Differs(_)) { Err(error) } else { Ok(()) })
    }
}

fn compare_pages(vm: &Vm, link: &mut Link) -> Result<(), NodeError> {
    let here = proof::hash_pages(vm.ram())?;
    let mut at = 0;
    loop {
        let frame = link.recv()?;
        match frame.kind {
            FrameKind::Hashes if !frame.payload.is_empty() => {
                at += proof::compare_pages(vm.ram(), &here, at, frame.payload)?;
            }
            FrameKind::Done if at == here.len() => return Ok(()),
            found => return Err(NodeError::OutOfOrder { found, expected: "Hashes of all pages" }),
        }
    }
}

/// Counters of now, and stalls of the pre-copy phase.
pub(crate) fn snapshot(telemetry: &Telemetry) -> PhaseWork {
    PhaseWork {
        operations: telemetry::operations(telemetry),
        page_writes: telemetry::page_writes(telemetry),
        stall_ticks: telemetry::stalls(telemetry, abi::PHASE_PRECOPY).0,
        nanoseconds: clock::now(),
    }
}

/// Seconds that samples may be needed for: the windows and the longest migration.
pub(crate) fn sampled_for(cell: &Cell) -> f64 {
    let windows = cell.windows;
    2.0 * windows.steady.0 + windows.after.0 + windows.control.0 + windows.warmup_max.0 + cell.stop.max_time.0
}

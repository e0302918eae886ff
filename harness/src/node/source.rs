//! The source: boots the guest, waits until it is steady, migrates it, and keeps it if that fails before commit.

mod handover;

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use migbench_reports::record::{Cause, Round};
use migbench_scenarios::cell::{Cell, Engine};
use migbench_workloads::abi;
use migbench_workloads::units::Seconds;

use super::fault::{Fault, Point};
use super::protocol::{
    Assignment, Control, Failure, Message, Order, Progress, ProtocolError, Role, SourceReport, Stalled,
};
use super::{NodeError, check_guest, proof, with_causes};
use crate::dirty::{DirtyTracker, Logged, tracker};
use crate::engine::precopy::Observer;
use crate::guest::sampler::Sampler;
use crate::guest::usage::Meter;
use crate::guest::{stalls, steady, telemetry};
use crate::sys::clock;
use crate::sys::memory::Telemetry;
use crate::sys::thread;
use crate::vm::Vm;
use crate::vm::events;
use crate::vm::page_set::PageSet;
use crate::vm::vcpu::Vcpu;
use crate::wire::address::LinkAddress;
use crate::wire::sabotage::Saboteur;

/// Time for a guest that goes on to show it.
const SIGN_OF_LIFE: u64 = 2_000_000_000;

/// Serves one run.
///
/// # Errors
/// When the runner is gone; everything else is reported to it.
pub fn serve(control: &mut Control, assignment: &Assignment) -> Result<(), ProtocolError> {
    let mut source =
        Source { control, assignment, phase: "boot", report: SourceReport::default(), paused_from: None };
    if let Err(error) = source.run() {
        source.fail(&error);
    }
    let report = Box::new(std::mem::take(&mut source.report));
    control.send(&Message::Source(report))
}

struct Source<'a> {
    control: &'a mut Control,
    assignment: &'a Assignment,
    phase: &'static str,
    report: SourceReport,
    /// [`clock::tsc`] when the pause was ordered, until it is over.
    paused_from: Option<u64>,
}

/// Tells the runner of rounds, between them.
struct Teller<'a> {
    control: &'a mut Control,
    fault: Option<Fault>,
    link: Saboteur,
}

impl Observer for Teller<'_> {
    fn round_ends(&mut self, round: &Round) {
        // A runner that is gone is noticed at the report.
        let _ = self.control.send(&Message::Round(round.clone()));
        if round.round == 0 {
            Fault::strike(self.fault, Role::Source, Point::Precopy, &self.link);
        }
    }
}

impl Source<'_> {
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
        let vm = self.boot(&cell)?;
        self.phase = "warmup";
        let sampler = Sampler::start(Arc::clone(vm.telemetry()), sampled_for(&cell))
            .map_err(|source| NodeError::System { action: "start the sampler", source })?;
        self.report.steady = Some(steady::reach(&vm, &cell)?);
        self.report.huge_page_share = vm.huge_page_share().map_err(|source| NodeError::System {
            action: "see how much of guest memory is in huge pages",
            source,
        })?;
        let clocks = if cell.timing { stalls::clocks(&vm) } else { Vec::new() };
        self.report.stalled = cell.timing.then(|| Stalled { clocks, ..Stalled::default() });
        self.control.send(&Message::Steady)?;
        let Order::Migrate { address } = self.control.receive()? else {
            return Err(ProtocolError::Unexpected("a second preparation".into()).into());
        };
        std::thread::sleep(Seconds(self.assignment.start_jitter).duration());
        // From now on phases follow each other.
        vm.telemetry().control().hold.store(0, Release);
        let outcome = match cell.engine {
            Engine::None | Engine::TrackOnly => self.control_window(&vm, &sampler),
            _ => self.migrate(&vm, &sampler, address.as_ref()),
        };
        self.report.samples = sampler.finish();
        if !self.report.handed_over {
            self.keep(&vm, outcome.is_err());
        }
        if let Err(error) = &outcome {
            self.fail(error);
        }
        self.finish_stalls(&vm);
        Ok(())
    }

    /// The time of which stalls are told begins.
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

    fn boot(&mut self, cell: &Cell) -> Result<Vm, NodeError> {
        let memfd = crate::sys::memory::inherited(self.assignment.telemetry)
            .map_err(|source| NodeError::System { action: "open telemetry", source })?;
        let telemetry = Telemetry::map(memfd, cell.vcpus as usize, cell.timing)
            .map_err(|source| NodeError::System { action: "map telemetry", source })?;
        telemetry.control().phase.store(abi::PHASE_WARMUP, Release);
        let vm = Vm::boot(cell, self.assignment.seed, self.assignment.guest_flags, Arc::new(telemetry))?;
        self.report.tsc_khz = vm.tsc_khz();
        if cell.timing {
            vm.events().make_room(events::ROOM);
        }
        Ok(vm)
    }

    /// What the guest has done in pre-copy since `before`.
    fn progress_since(&self, vm: &Vm, before: &Progress) -> Progress {
        let now = snapshot(vm);
        Progress {
            operations: now.operations - before.operations,
            page_writes: now.page_writes - before.page_writes,
            stall_ticks: now.stall_ticks - before.stall_ticks,
            nanoseconds: now.nanoseconds - before.nanoseconds,
        }
    }

    /// The controls `none` and `track-only`: the timeline of a migration without one.
    fn control_window(&mut self, vm: &Vm, sampler: &Sampler) -> Result<(), NodeError> {
        self.phase = "precopy";
        let meter = Meter::start(vm, Some(sampler.thread()))?;
        let control = vm.telemetry().control();
        telemetry::reset_backlog(vm.telemetry());
        self.begin_stalls(vm);
        control.phase.store(abi::PHASE_PRECOPY, Release);
        let before = snapshot(vm);
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
        self.report.usage = meter.finish()?;
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
        length: std::time::Duration,
    ) -> Result<(), NodeError> {
        /// Seconds between harvests: about a round of the shipped suites.
        const PACE: f64 = 0.1;
        let mut dirty = PageSet::new(vm.ram().pages());
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
                harvest_time: clock::seconds(before, after),
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
            return Err(NodeError::Content("the runner gave no address of the destination".into()));
        };
        let meter = Meter::start(vm, Some(sampler.thread()))?;
        let mut tracker = tracker(self.cell(), vm)?;
        let mut tracker = Logged { tracker: tracker.as_mut(), log: vm.events() };
        let outcome = self.migrate_with(vm, &mut tracker, &meter, address);
        if !self.report.handed_over {
            vm.telemetry().control().phase.store(abi::PHASE_AFTER, Release);
            // In this order: a guest that goes on unlogged is better than one that waits.
            vm.resume();
            self.end_switchover(vm);
        }
        // A guest that is elsewhere does not wait for this.
        let gone = self.report.handed_over;
        let disarmed = if gone { tracker.tracker.disarm() } else { tracker.disarm() };
        outcome?;
        Ok(disarmed?)
    }

    /// The guest ends here: after a control, or because a migration failed before commit.
    fn keep(&mut self, vm: &Vm, failed: bool) {
        let before = telemetry::operations(vm.telemetry());
        let start = clock::now();
        while clock::now() - start < SIGN_OF_LIFE && vm.check().is_ok() {
            if telemetry::operations(vm.telemetry()) > before {
                self.report.guest_runs = true;
                break;
            }
            std::thread::sleep(Seconds(0.001).duration());
        }
        if failed && !self.report.guest_runs {
            return;
        }
        self.report.backlog_max = Some(telemetry::backlog_max(vm.telemetry()));
        self.report.histograms =
            telemetry::histograms(vm.telemetry(), self.cell().settings.program.operations());
        self.report.backwards = telemetry::backwards(vm.telemetry());
        self.report.checked = Some(check_guest(vm));
    }

    /// Hashes of pages as the destination decoded them, against memory that has been frozen since the pause.
    fn prove_pages(&mut self, vm: &Vm, link: &mut crate::wire::link::Link) -> Result<(), NodeError> {
        use crate::wire::frame::FrameKind;
        self.phase = "verification";
        let here = proof::hash_pages(vm.ram())?;
        let mut at = 0;
        self.report.verified = Some(false);
        loop {
            let frame = link.recv()?;
            match frame.kind {
                FrameKind::Hashes => at += proof::compare_pages(vm.ram(), &here, at, frame.payload)?,
                FrameKind::Done if at == here.len() => break,
                found => return Err(NodeError::OutOfOrder { found, expected: "Hashes of all pages" }),
            }
        }
        self.report.verified = Some(true);
        Ok(())
    }
}

/// Counters of now, and stalls of the pre-copy phase.
fn snapshot(vm: &Vm) -> Progress {
    let telemetry = vm.telemetry();
    Progress {
        operations: telemetry::operations(telemetry),
        page_writes: telemetry::page_writes(telemetry),
        stall_ticks: telemetry::stalls(telemetry, abi::PHASE_PRECOPY).0,
        nanoseconds: clock::now(),
    }
}

/// Seconds that samples may be needed for: the windows and the longest migration.
pub(super) fn sampled_for(cell: &Cell) -> f64 {
    let windows = cell.windows;
    2.0 * windows.steady.0 + windows.after.0 + windows.control.0 + windows.warmup_max.0 + cell.stop.max_time.0
}

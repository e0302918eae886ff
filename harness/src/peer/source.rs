//! The source of a migration by another VMM: has it boot the guest, waits until it is steady, orders the migration, and keeps
//! the guest if that fails.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use migbench_reports::record::MemoryProof;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::units::Seconds;

use super::{Moment, Peer, PeerError, memory, most_memory, spawn, telemetry, transfer_patience};
use crate::guest::sampler::Sampler;
use crate::guest::usage::Meter;
use crate::guest::{stalls, steady, telemetry as counts};
use crate::node::destination::MARGIN;
use crate::node::protocol::{
    ControlSocket, Failure, Message, NodeAssignment, Order, PeerSending, PhaseWork, ProtocolError,
    SourceReport, Stalled,
};
use crate::node::source::{SIGN_OF_LIFE, sampled_for, snapshot};
use crate::node::{check_guest, link_timeout, with_causes};
use crate::sys::clock::Patience;
use crate::sys::{clock, thread};
use crate::wire::address::LinkAddress;

/// Between two looks at the VMM's counters: the limits of the stop rule are checked as often.
const LOOK: Duration = Duration::from_millis(100);

/// Serves one run.
///
/// # Errors
/// When the runner is gone; everything else is reported to it.
pub fn serve(control: &mut ControlSocket, assignment: &NodeAssignment) -> Result<(), ProtocolError> {
    let mut source =
        Source { control, assignment, phase: "boot", report: SourceReport::default(), stopped: Vec::new() };
    if let Err(error) = source.run() {
        source.fail(&error);
    }
    let report = Box::new(std::mem::take(&mut source.report));
    control.send(&Message::Source(report))
}

struct Source<'a> {
    control: &'a mut ControlSocket,
    assignment: &'a NodeAssignment,
    phase: &'static str,
    report: SourceReport,
    /// What each vCPU had done when it stopped here.
    stopped: Vec<u64>,
}

/// Operations of each vCPU.
pub(super) fn operations(guest: &dyn Peer) -> impl Iterator<Item = u64> {
    let telemetry = guest.telemetry();
    (0..telemetry.vcpus()).map(|n| telemetry.vcpu(n).operations.load(Acquire))
}

impl Source<'_> {
    fn fail(&mut self, error: &PeerError) {
        self.report.failure = Some(Failure { phase: self.phase.into(), message: with_causes(error) });
    }

    fn run(&mut self) -> Result<(), PeerError> {
        let cell = &self.assignment.cell;
        if let Some(pinning) = &cell.pinning {
            // The VMM's threads inherit it; those of vCPUs are bound anew.
            thread::pin(&pinning.source).map_err(PeerError::system("bind the source to its CPUs"))?;
        }
        let telemetry = telemetry(self.assignment)?;
        telemetry.0.control().phase.store(abi::PHASE_WARMUP, Release);
        let guest = spawn(self.assignment, telemetry)?;
        let guest = guest.as_ref();
        let sampler = Sampler::prepare(guest.telemetry().clone(), sampled_for(cell))
            .map_err(PeerError::system("start the sampler"))?;
        self.report.tsc_khz = guest.tsc_khz();
        self.report.peer = Some(Box::new(PeerSending { about: guest.about()?, ..PeerSending::default() }));
        guest.start()?;
        self.phase = "warmup";
        sampler.begin();
        let outcome = self.with_guest(guest, &sampler);
        self.report.samples = sampler.finish();
        if !self.report.handed_over {
            self.end_here(guest, outcome.is_err());
        }
        if let Err(error) = &outcome {
            self.fail(error);
        }
        if let Some(stalled) = &mut self.report.stalled {
            stalled.ring = stalls::ring(guest.telemetry());
            // What another VMM does when is not known, so that no stall has a cause.
            stalled.full_since = Some(0);
        }
        Ok(())
    }

    fn with_guest(&mut self, guest: &dyn Peer, sampler: &Sampler) -> Result<(), PeerError> {
        let cell = &self.assignment.cell;
        self.report.steady = Some(steady::reach(guest, cell)?);
        self.report.huge_page_share = guest.huge_page_share()?;
        let clocks = if cell.timing { stalls::clocks(guest) } else { Vec::new() };
        self.report.stalled = cell.timing.then(|| Stalled { clocks, ..Stalled::default() });
        self.control.send(&Message::Steady)?;
        let Order::Migrate { address } = self.control.receive()? else {
            return Err(ProtocolError::Unexpected("a second preparation".into()).into());
        };
        std::thread::sleep(Seconds(self.assignment.start_jitter).duration());
        // From now on phases follow each other.
        guest.telemetry().control().hold.store(0, Release);
        self.phase = "connect";
        let Some(address) = address else {
            return Err(PeerError::Vmm("the destination ended before the migration began".into()));
        };
        let mut meter = Meter::start(guest, None)?;
        self.migrate(guest, &address)?;
        self.phase = "handover";
        if self.assignment.verify {
            self.verify(guest)?;
        }
        let runs = self.destination_runs(guest)?;
        sampler.stop();
        // The guest is at the destination, on the same cores: this side holds still until its window is over.
        if runs {
            std::thread::sleep(cell.windows.after.duration() + 2 * Duration::from_nanos(MARGIN));
        }
        self.report.usage = meter.usage()?;
        self.report.usage.memory = most_memory(guest, &mut meter)?;
        if runs { Ok(()) } else { Err(PeerError::Vmm("the guest did nothing at the destination".into())) }
    }

    /// Orders the migration and follows it until the source has sent everything. What was seen of it is in the report however it ends.
    fn migrate(&mut self, guest: &dyn Peer, address: &LinkAddress) -> Result<(), PeerError> {
        let control = guest.telemetry().control();
        counts::reset_backlog(guest.telemetry());
        if let Some(stalled) = &mut self.report.stalled {
            stalled.before = stalls::start(guest.telemetry());
            stalled.start = clock::tsc();
        }
        let before = snapshot(guest.telemetry());
        let mut sending = PeerSending { start: clock::now(), ..PeerSending::default() };
        control.phase.store(abi::PHASE_PRECOPY, Release);
        self.phase = "precopy";
        let ended = guest.migrate(address).and_then(|()| self.follow(guest, &before, &mut sending));
        if ended.is_ok() {
            // From here on the guest is the destination's, whatever the source's VMM still has to say.
            self.report.handed_over = true;
            sending.counters = guest.counters().unwrap_or_default();
        } else {
            control.phase.store(abi::PHASE_AFTER, Release);
        }
        if let Some(peer) = &mut self.report.peer {
            sending.about = std::mem::take(&mut peer.about);
            **peer = sending;
        }
        ended
    }

    /// Until the source says that everything was sent.
    fn follow(
        &mut self,
        guest: &dyn Peer,
        before: &PhaseWork,
        sending: &mut PeerSending,
    ) -> Result<(), PeerError> {
        let cell = &self.assignment.cell;
        let control = guest.telemetry().control();
        // Counts from the pause on: until then it answers every time that it is asked.
        let mut patience = Patience::new(transfer_patience(cell));
        loop {
            match guest.wait(LOOK)? {
                Some(Moment::Stopped(at)) => {
                    // What the guest does next it does at the destination.
                    control.phase.store(abi::PHASE_CATCHUP, Release);
                    control.epoch.store(control.epoch.load(Acquire) + 1, Release);
                    (sending.stopped, sending.noticed) = (at, clock::now());
                    self.stopped = operations(guest).collect();
                    self.phase = "switchover";
                    let now = snapshot(guest.telemetry());
                    self.report.precopy = Some(PhaseWork {
                        operations: now.operations - before.operations,
                        page_writes: now.page_writes - before.page_writes,
                        stall_ticks: now.stall_ticks - before.stall_ticks,
                        nanoseconds: at.saturating_sub(before.nanoseconds),
                    });
                    patience = Patience::new(transfer_patience(cell));
                }
                Some(Moment::Completed(at)) => {
                    sending.completed = at;
                    return Ok(());
                }
                Some(Moment::Failed(why)) => {
                    return Err(PeerError::Vmm(format!("the migration failed: {why}")));
                }
                Some(Moment::Resumed(_)) => {}
                None if sending.stopped != 0 => {
                    guest.check()?;
                    if patience.is_over() {
                        return Err(PeerError::Vmm("the paused round did not end".to_owned()));
                    }
                }
                // Our own rules for a migration that does not converge. Asking is a sign of life, too.
                None => {
                    let rounds = guest.counters()?.rounds;
                    let over = rounds > u64::from(cell.stop.max_rounds)
                        || clock::seconds(sending.start, clock::now()) >= cell.stop.max_time.0;
                    if over && !sending.capped {
                        sending.capped = true;
                        guest.force()?;
                    }
                }
            }
        }
    }

    /// Compares all memory, both guests paused.
    fn verify(&mut self, guest: &dyn Peer) -> Result<(), PeerError> {
        self.phase = "verification";
        let Some(scratch) = &self.assignment.scratch else { return Ok(()) };
        let compared = memory::compare(guest, scratch, link_timeout(&self.assignment.cell));
        self.report.proof = Some(match &compared {
            Ok(()) => MemoryProof::Equal,
            Err(PeerError::Differs(_)) => MemoryProof::Different,
            Err(error) => MemoryProof::NotMade(with_causes(error)),
        });
        self.phase = "handover";
        // The guest is at the destination: a proof that could not be made is no failure of the migration.
        compared.or_else(|error| if matches!(error, PeerError::Differs(_)) { Err(error) } else { Ok(()) })
    }

    /// Whether every vCPU does something at the destination, as telemetry shows.
    fn destination_runs(&self, guest: &dyn Peer) -> Result<bool, PeerError> {
        let patience = link_timeout(&self.assignment.cell);
        clock::found_within(patience, Duration::from_millis(1), || {
            Ok(operations(guest).zip(&self.stopped).all(|(now, then)| now > *then))
        })
    }

    /// The guest ends here: the migration failed, or never began.
    fn end_here(&mut self, guest: &dyn Peer, failed: bool) {
        let before = counts::operations(guest.telemetry());
        let runs = clock::found_within(SIGN_OF_LIFE, Duration::from_millis(1), || {
            guest.check().map(|()| counts::operations(guest.telemetry()) > before)
        });
        self.report.guest_runs = runs.unwrap_or(false);
        if failed && !self.report.guest_runs {
            return;
        }
        let cell: &Cell = &self.assignment.cell;
        self.report.backlog_max = Some(counts::backlog_max(guest.telemetry()));
        self.report.histograms = counts::histograms(guest.telemetry(), cell.settings.program.operations());
        self.report.backwards = counts::backwards(guest.telemetry());
        self.report.checked = Some(check_guest(guest));
    }
}

//! The destination of a migration by another VMM: has its process listen, sees the guest resume, and watches it for the window
//! after the migration.

use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use migbench_scenarios::cell::Cell;

use super::source::operations;
use super::{Moment, Peer, PeerError, memory, most_memory, spawn, telemetry, transfer_patience};
use crate::guest::sampler::Sampler;
use crate::guest::usage::Meter;
use crate::guest::{stalls, telemetry as counts};
use crate::node::destination::{SIGN_OF_LIFE, Window, source_due};
use crate::node::protocol::{
    ControlSocket, DestinationReport, Failure, Message, NodeAssignment, ProtocolError,
};
use crate::node::{check_guest, with_causes};
use crate::sys::clock::Patience;
use crate::sys::{clock, thread};

/// Serves one run.
///
/// # Errors
/// When the runner is gone; everything else is reported to it.
pub fn serve(control: &mut ControlSocket, assignment: &NodeAssignment) -> Result<(), ProtocolError> {
    let mut destination =
        Destination { control, assignment, phase: "prepare", report: DestinationReport::default() };
    if let Err(error) = destination.run() {
        destination.report.failure =
            Some(Failure { phase: destination.phase.into(), message: with_causes(&error) });
    }
    let report = Box::new(std::mem::take(&mut destination.report));
    control.send(&Message::Destination(report))
}

struct Destination<'a> {
    control: &'a mut ControlSocket,
    assignment: &'a NodeAssignment,
    phase: &'static str,
    report: DestinationReport,
}

impl Destination<'_> {
    fn run(&mut self) -> Result<(), PeerError> {
        let cell = &self.assignment.cell;
        if let Some(pinning) = &cell.pinning {
            thread::pin(&pinning.destination)
                .map_err(PeerError::system("bind the destination to its CPUs"))?;
        }
        let start = clock::now();
        let guest = spawn(self.assignment, telemetry(self.assignment)?)?;
        let guest = guest.as_ref();
        let sampler = Sampler::prepare(guest.telemetry().clone(), cell.windows.after.0 + 1.0)
            .map_err(PeerError::system("start the sampler"))?;
        self.report.prepare = clock::seconds(start, clock::now());
        let address = guest.listen()?;
        self.report.arguments = guest.about()?.arguments;
        self.control.send(&Message::Listening { address })?;
        self.phase = "connect";
        let epoch = guest.telemetry().control().epoch.load(Acquire);
        let mut meter = Meter::start(guest, None)?;
        self.report.entered = self.arrival(guest)?;
        self.report.took_over = true;
        self.phase = "handover";
        self.sign_of_life(guest, epoch)?;
        self.report.guest_runs = true;
        let running = clock::now();
        self.report.running = running;
        sampler.begin();
        self.report.usage = meter.usage()?;
        self.phase = "after";
        let window = Window { guest, cell, epoch: epoch + 1, running };
        window.watch(sampler, &mut self.report)?;
        self.report.usage.memory = most_memory(guest, &mut meter)?;
        self.phase = "validate";
        self.report.histograms = counts::histograms(guest.telemetry(), cell.settings.program.operations());
        self.report.backlog_max = counts::backlog_max(guest.telemetry());
        self.report.checked = Some(check_guest(guest));
        if cell.timing {
            // The guest has stopped: nothing is half written.
            self.report.ring = stalls::ring(guest.telemetry());
        }
        Ok(())
    }

    /// Waits until the guest runs here; gives when its vCPUs were let go.
    fn arrival(&mut self, guest: &dyn Peer) -> Result<u64, PeerError> {
        let cell: &Cell = &self.assignment.cell;
        let due = source_due(cell).saturating_add(cell.stop.max_time.duration());
        let mut patience = Patience::new(due.saturating_add(transfer_patience(cell)));
        let mut called_off = false;
        loop {
            match guest.wait(Duration::from_millis(50))? {
                Some(Moment::Resumed(at)) => return Ok(at),
                Some(Moment::Completed(_)) if self.assignment.verify => {
                    self.phase = "verification";
                    if let Some(scratch) = &self.assignment.scratch {
                        memory::publish(guest, scratch)?;
                    }
                    self.phase = "handover";
                    guest.resume();
                }
                Some(Moment::Failed(why)) => {
                    return Err(PeerError::Vmm(format!("the migration failed: {why}")));
                }
                Some(Moment::Stopped(_) | Moment::Completed(_)) => {}
                // All that it has said by now was heard.
                None => {
                    guest.check()?;
                    if called_off {
                        return Err(PeerError::Vmm("the source ended before the guest was here".to_owned()));
                    }
                    if patience.is_over() {
                        return Err(PeerError::Vmm("the source did not come".to_owned()));
                    }
                    // The runner says nothing to a destination but that the source will not come; what that one had sent
                    // may be on its way.
                    called_off = self.control.is_readable()?;
                }
            }
        }
    }

    /// Waits until every vCPU has ended an operation here: by the epoch, which the source raised while the guest stood still, or by
    /// one more than were ended when this was asked.
    fn sign_of_life(&self, guest: &dyn Peer, epoch: u32) -> Result<(), PeerError> {
        let telemetry = guest.telemetry();
        let before: Vec<u64> = operations(guest).collect();
        let alive = clock::found_within(SIGN_OF_LIFE, Duration::from_micros(10), || {
            let switched = (0..telemetry.vcpus()).all(|n| telemetry.vcpu(n).epoch.load(Acquire) > epoch);
            Ok::<_, PeerError>(switched || operations(guest).zip(&before).all(|(now, then)| now > *then))
        })?;
        guest.check()?;
        if alive {
            Ok(())
        } else {
            Err(PeerError::Vmm("the guest did nothing for 10 s after it was resumed".into()))
        }
    }
}

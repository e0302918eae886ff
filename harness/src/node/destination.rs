//! The destination: prepares memory, takes in pages and state, and runs the guest once the source has committed.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use migbench_scenarios::cell::{Cell, Proof};
use migbench_workloads::abi;
use migbench_workloads::units::Seconds;

use super::fault::{Action, FaultPoint, InjectedFault};
use super::handover::{Committed, Received};
use super::hello::{Greeting, Hello};
use super::page_receiver::PageReceiver;
use super::protocol::{
    ControlSocket, DestinationReport, Failure, Message, NodeAssignment, ProtocolError, Role,
};
use super::{NodeError, abort, check_guest, expect, link_timeout, printable, proof, with_causes};
use crate::codec::Page;
use crate::engine::planted_cost::{CostStage, Planter};
use crate::guest::sampler::Sampler;
use crate::guest::usage::Meter;
use crate::guest::{Guest, GuestError, stalls, telemetry};
use crate::sys::memory::Telemetry;
use crate::sys::{clock, thread};
use crate::vm::Vm;
use crate::wire::address::LinkListener;
use crate::wire::frame::FrameKind;
use crate::wire::link::{Link, LinkError};

/// Longest wait for the guest's first operation here.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// The window after the migration starts when the source hears of it, a little after it is reported here.
pub(crate) const MARGIN: u64 = 20_000_000;

/// Serves one run.
///
/// # Errors
/// When the runner is gone; everything else is reported to it.
pub fn serve(control: &mut ControlSocket, assignment: &NodeAssignment) -> Result<(), ProtocolError> {
    let mut destination = Destination {
        control,
        assignment,
        phase: "prepare",
        report: DestinationReport::default(),
        planter: Planter::new(assignment.planted_cost),
    };
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
    planter: Planter,
}

impl Destination<'_> {
    fn run(&mut self) -> Result<(), NodeError> {
        let cell = self.assignment.cell.clone();
        if let Some(pinning) = &cell.pinning {
            thread::pin(&pinning.destination)
                .map_err(|source| NodeError::System { action: "bind the destination to its CPUs", source })?;
        }
        let (start, system) = (clock::now(), |action| move |source| NodeError::System { action, source });
        let memfd =
            crate::sys::memory::inherited(self.assignment.telemetry).map_err(system("open telemetry"))?;
        let telemetry =
            Telemetry::map(memfd, cell.vcpus as usize, cell.timing).map_err(system("map telemetry"))?;
        let vm = Vm::new(&cell, Arc::new(telemetry))?;
        // All that is large is there before the guest depends on it.
        let mut pages = PageReceiver::new(vm.ram(), cell.codec, cell.proof == Proof::Every)?;
        let sampler = Sampler::prepare(Arc::clone(vm.telemetry()), cell.windows.after.0 + 1.0)
            .map_err(system("start the sampler"))?;
        self.report.prepare = clock::seconds(start, clock::now());
        let listener = LinkListener::bind(&cell.link)?;
        self.control.send(&Message::Listening { address: listener.address().clone() })?;
        // The guest may take long to boot and to become steady; a runner that dies takes this process with it.
        self.phase = "connect";
        let greeting = Greeting {
            token: &self.assignment.token,
            hello: Hello::of(&cell, vm.ram().pages(), self.assignment.verify),
            timeout: link_timeout(&cell),
        };
        let mut shape = |link: &mut Link| link.shape(&cell.link).map(drop);
        let source = greeting.admit(listener, self.control, source_due(&cell), &mut shape)?;
        InjectedFault::strike(
            self.assignment.fault,
            Role::Destination,
            FaultPoint::Connect,
            &source.saboteur(),
        );
        let mut link = source.answer(&greeting)?;
        // The source takes the answer for a round trip of the link.
        let mut meter = Meter::start(&vm, None)?;
        let received = self.receive(&vm, &mut link, &mut pages);
        self.report.decode = clock::seconds(0, pages.decode_nanoseconds());
        let committed = match received {
            Ok(committed) => committed,
            Err(error) => {
                // The source hears the reason if it still listens; it resumes the guest in any case.
                abort(&mut link, &with_causes(&error));
                return Err(error);
            }
        };
        let mut said = self.run_guest(committed, &vm, &mut link, &meter, sampler)?;
        self.report.usage.memory = meter.memory()?;
        if said.is_ok() && cell.proof == Proof::Every && !self.assignment.verify {
            said = send_hashes(&mut link, pages.hashes());
        }
        self.phase = "validate";
        self.report.histograms = telemetry::histograms(vm.telemetry(), cell.settings.program.operations());
        self.report.backlog_max = telemetry::backlog_max(vm.telemetry());
        self.report.checked = Some(check_guest(&vm));
        if cell.timing {
            // The guest has stopped: nothing is half written.
            self.report.ring = stalls::ring(vm.telemetry());
        }
        self.phase = "handover";
        Ok(said?)
    }

    /// Everything up to commit.
    fn receive<'a>(
        &mut self,
        vm: &'a Vm,
        link: &mut Link,
        pages: &mut PageReceiver,
    ) -> Result<Committed<'a>, NodeError> {
        let fault = self.assignment.fault;
        let model = expect(link, FrameKind::Model, "Model")?;
        vm.model().check_source(&model)?;
        self.phase = "precopy";
        let mut states = 0;
        let mut rounds = 0;
        let mut page_of_round = false;
        let delay = u64::try_from(self.assignment.cell.link.delay.duration().as_nanos()).unwrap_or(0);
        while states < vm.vcpus().len() {
            let frame = link.recv_placing(|frame, places| pages.place(vm.ram(), frame, places))?;
            match frame.kind {
                FrameKind::Pages => {
                    pages.pages(vm.ram(), &frame)?;
                    page_of_round = true;
                    self.report.last_page = link.receiver().arrival().saturating_sub(delay);
                }
                FrameKind::RoundEnd => {
                    pages.round_ends(vm.ram());
                    rounds += 1;
                    if rounds > self.assignment.cell.stop.max_rounds.saturating_add(1) {
                        return Err(NodeError::Content(format!("{rounds} rounds came, which are too many")));
                    }
                    // A round without pages ends with its last byte too.
                    if !std::mem::take(&mut page_of_round) {
                        self.report.last_page = link.receiver().arrival().saturating_sub(delay);
                    }
                    if rounds == 1 {
                        let struck = InjectedFault::strike(
                            fault,
                            Role::Destination,
                            FaultPoint::Precopy,
                            &link.saboteur(),
                        );
                        if struck == Some(Action::Flip) {
                            let (page, content) = flip(vm)?;
                            pages.note(page, &content);
                        }
                    }
                }
                FrameKind::State => {
                    self.phase = "switchover";
                    let back = fault.is_some_and(|f| f.action == Action::Clock).then(|| vm.tsc_khz());
                    restore(vm, states, frame.payload, self.assignment.verify, back)?;
                    states += 1;
                }
                FrameKind::Abort => {
                    return Err(NodeError::Abort(printable(frame.payload)));
                }
                found => return Err(NodeError::OutOfOrder { found, expected: "Pages, RoundEnd or State" }),
            }
        }
        let struck =
            InjectedFault::strike(fault, Role::Destination, FaultPoint::Switchover, &link.saboteur());
        if struck == Some(Action::Flip) {
            flip(vm)?;
        }
        if self.assignment.verify {
            self.phase = "verification";
            expect(link, FrameKind::HashRequest, "HashRequest")?;
            let hashes = proof::hash_blocks(vm.ram())?;
            link.send(FrameKind::Hashes, &[&hashes])?;
            self.phase = "switchover";
        }
        let ready = Received::all_of(vm).ready(link)?;
        InjectedFault::strike(fault, Role::Destination, FaultPoint::BeforeCommit, &link.saboteur());
        self.phase = "handover";
        let committed = ready.committed(link)?;
        self.report.took_over = true;
        InjectedFault::strike(fault, Role::Destination, FaultPoint::AfterCommit, &link.saboteur());
        Ok(committed)
    }

    /// Runs the guest, says so once it works, and watches it for the window after the migration. Gives whether
    /// the source could hear of it.
    fn run_guest(
        &mut self,
        guest: Committed<'_>,
        vm: &Vm,
        link: &mut Link,
        meter: &Meter,
        sampler: Sampler,
    ) -> Result<Result<(), LinkError>, NodeError> {
        let (cell, memory) = (&self.assignment.cell, vm.telemetry());
        let before: Vec<u64> = (0..memory.vcpus()).map(|n| memory.vcpu(n).operations.load(Acquire)).collect();
        let control = memory.control();
        let epoch = control.epoch.load(Acquire) + 1;
        control.epoch.store(epoch, Release);
        control.phase.store(abi::PHASE_CATCHUP, Release);
        self.planter.spend(CostStage::Resume, guest.ready(), 1);
        guest.resume();
        let alive = clock::found_within(SIGN_OF_LIFE, Duration::from_micros(10), || {
            vm.check()?;
            Ok::<_, NodeError>(
                before.iter().enumerate().all(|(n, &done)| memory.vcpu(n).operations.load(Acquire) > done),
            )
        })?;
        if !alive {
            return Err(NodeError::Content("the guest did nothing for 10 s after it was resumed".into()));
        }
        self.report.guest_runs = true;
        // A link that is gone by now changes nothing for the guest: it is here.
        let mut said = link.send(FrameKind::Running, &[]);
        let running = clock::now();
        sampler.begin();
        self.report.entered = vm.vcpus().iter().filter_map(|v| v.entered()).max().unwrap_or(0);
        self.report.traffic = link.traffic().total();
        self.report.usage = meter.usage()?;
        self.phase = "after";
        Window { guest: vm, cell, epoch, running }.watch(sampler, &mut self.report)?;
        if said.is_ok() {
            said = link.send(FrameKind::WindowEnd, &[]);
        }
        Ok(said)
    }
}

/// The window after a migration.
pub(crate) struct Window<'a> {
    /// Who runs here now.
    pub guest: &'a dyn Guest,
    /// What is measured.
    pub cell: &'a Cell,
    /// The epoch that began with the pause.
    pub epoch: u32,
    /// [`clock::now`] when every vCPU had ended an operation here.
    pub running: u64,
}

impl Window<'_> {
    /// Watches the guest to the window's end.
    ///
    /// # Errors
    /// When the guest goes down.
    pub fn watch(&self, sampler: Sampler, report: &mut DestinationReport) -> Result<(), GuestError> {
        let memory = self.guest.telemetry();
        let end = self.running.saturating_add(nanoseconds(self.cell.windows.after)).saturating_add(MARGIN);
        while clock::now() < end {
            self.guest.check()?;
            let caught_up = (0..memory.vcpus()).all(|n| {
                let vcpu = memory.vcpu(n);
                vcpu.epoch.load(Acquire) == self.epoch && vcpu.catching_up.load(Acquire) == 0
            });
            if caught_up && report.caught_up.is_none() {
                report.caught_up = Some(clock::now());
            }
            std::thread::sleep(Seconds(0.001).duration());
        }
        report.end = clock::now();
        report.samples = sampler.finish();
        if self.cell.timing {
            let vcpus = (0..memory.vcpus()).map(|n| memory.vcpu(n));
            report.gap_ticks = vcpus.map(|v| v.switchover_gap.load(Acquire)).max();
            report.clocks = stalls::clocks(self.guest);
        }
        report.backwards = telemetry::backwards(memory);
        Ok(())
    }
}

/// Hashes of all pages as they were decoded.
fn send_hashes(link: &mut Link, hashes: &[u64]) -> Result<(), LinkError> {
    for part in hashes.chunks(8192) {
        let bytes: Vec<u8> = part.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        link.send(FrameKind::Hashes, &[&bytes])?;
    }
    link.send(FrameKind::Done, &[])
}

fn nanoseconds(time: Seconds) -> u64 {
    u64::try_from(time.duration().as_nanos()).unwrap_or(u64::MAX / 2)
}

/// How long the source may take before it connects.
pub(crate) fn source_due(cell: &Cell) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "seconds of filling memory")]
    let filling = (cell.memory.0 >> 27) as f64;
    let windows = cell.windows.warmup_max.0 + 2.0 * cell.windows.steady.0;
    link_timeout(cell).saturating_add(Seconds(60.0 + windows + filling).duration())
}

/// `back` plants a fault: a clock of so many kHz is set back by a second.
fn restore(vm: &Vm, due: usize, payload: &[u8], compare: bool, back: Option<u32>) -> Result<(), NodeError> {
    let Some((index, state)) = payload.split_first_chunk::<4>() else {
        return Err(NodeError::Content("a State frame of less than 4 bytes".into()));
    };
    let index = u32::from_le_bytes(*index) as usize;
    if index != due {
        return Err(NodeError::Content(format!("the state of vCPU {index} came, that of {due} was due")));
    }
    vm.vcpus()[due].restore(state, compare, u64::from(back.unwrap_or(0)) * 1000)?;
    Ok(())
}

/// A planted corruption: one bit of the first page that workloads own. Gives that page as it is now.
fn flip(vm: &Vm) -> Result<(u64, Page), NodeError> {
    let page = abi::RESERVED / 4096;
    let mut content = [0; 4096];
    vm.ram().read(page, &mut content)?;
    content[2000] ^= 1;
    vm.ram().write(page, &content)?;
    Ok((page, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_is_too_long_to_wait_for() {
        let mut cell = Cell::default_for(migbench_scenarios::cell::Engine::Full, "idle").unwrap();
        assert!(source_due(&cell) > Duration::from_secs(90));
        for time in [3.6e19, 1e308] {
            cell.windows = migbench_scenarios::cell::Windows {
                steady: Seconds(time),
                after: Seconds(time),
                control: Seconds(time),
                warmup_max: Seconds(time),
            };
            assert_eq!(source_due(&cell), Duration::MAX);
            assert!(nanoseconds(cell.windows.after) >= u64::MAX / 2);
        }
    }
}

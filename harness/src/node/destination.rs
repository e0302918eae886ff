//! The destination: prepares memory, takes in pages and state, and runs the guest once the source has committed.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use migbench_scenarios::cell::{Cell, Proof};
use migbench_workloads::abi;
use migbench_workloads::units::Seconds;

use super::fault::{Action, Fault, Point};
use super::intake::Intake;
use super::protocol::{Assignment, Control, DestinationReport, Failure, Message, ProtocolError, Role};
use super::{NodeError, check_guest, expect, link_timeout, proof, with_causes};
use crate::codec::Page;
use crate::engine::planted_cost::{CostStage, Planter};
use crate::guest::sampler::Sampler;
use crate::guest::usage::Meter;
use crate::guest::{stalls, telemetry};
use crate::sys::memory::Telemetry;
use crate::sys::{clock, thread};
use crate::vm::Vm;
use crate::wire::address::Listener;
use crate::wire::frame::FrameKind;
use crate::wire::link::{Link, LinkError};

/// Longest wait for the guest's first operation here, in ns.
const SIGN_OF_LIFE: u64 = 10_000_000_000;

/// The window after the migration starts when the source hears of it, a little after it is told here.
const MARGIN: u64 = 20_000_000;

/// Serves one run.
///
/// # Errors
/// When the runner is gone; everything else is reported to it.
pub fn serve(control: &mut Control, assignment: &Assignment) -> Result<(), ProtocolError> {
    let mut destination = Destination {
        control,
        assignment,
        phase: "prepare",
        report: DestinationReport::default(),
        ready: 0,
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
    control: &'a mut Control,
    assignment: &'a Assignment,
    phase: &'static str,
    report: DestinationReport,
    /// [`clock::now`] when everything was here.
    ready: u64,
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
        self.report.prepare = clock::seconds(start, clock::now());
        let listener = Listener::bind(cell.link.transport)?;
        self.control.send(&Message::Listening { address: listener.address().clone() })?;
        // The guest may take long to boot and to settle; a runner that dies takes this process with it.
        self.phase = "connect";
        let mut link = listener.accept(link_timeout(&cell) + Seconds(waiting(&cell)).duration())?;
        link.set_timeout(link_timeout(&cell))?;
        drop(listener);
        let meter = Meter::start(&vm, None)?;
        let mut intake = Intake::new(vm.ram(), cell.proof == Proof::Every);
        let taken = self.take_in(&vm, &mut link, &mut intake);
        self.report.decode = clock::seconds(0, intake.decode_nanoseconds());
        if let Err(error) = taken {
            // The source hears the reason if it still listens; it resumes the guest in any case.
            let _ = link.send(FrameKind::Abort, &[with_causes(&error).as_bytes()]);
            return Err(error);
        }
        let said = self.run_guest(&cell, &vm, &mut link, &meter)?;
        if said.is_ok() && cell.proof == Proof::Every && !self.assignment.verify {
            for part in intake.hashes().chunks(8192) {
                let bytes: Vec<u8> = part.iter().flat_map(|hash| hash.to_le_bytes()).collect();
                link.send(FrameKind::Hashes, &[&bytes])?;
            }
            link.send(FrameKind::Done, &[])?;
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
    fn take_in(&mut self, vm: &Vm, link: &mut Link, intake: &mut Intake) -> Result<(), NodeError> {
        let fault = self.assignment.fault;
        let hello = expect(link, FrameKind::Hello, "Hello")?;
        let due = [&vm.ram().pages().to_le_bytes()[..], &self.assignment.cell.vcpus.to_le_bytes()].concat();
        if hello != due {
            return Err(NodeError::Content("the source's guest has other memory or vCPUs than ours".into()));
        }
        Fault::strike(fault, Role::Destination, Point::Connect, &link.saboteur());
        link.send(FrameKind::Hello, &[])?;
        self.phase = "precopy";
        let mut states = 0;
        let mut rounds = 0;
        while states < vm.vcpus().len() {
            let frame = link.recv()?;
            match frame.kind {
                FrameKind::Pages => intake.pages(vm.ram(), &frame)?,
                FrameKind::RoundEnd => {
                    rounds += 1;
                    if rounds == 1 {
                        let struck =
                            Fault::strike(fault, Role::Destination, Point::Precopy, &link.saboteur());
                        if struck == Some(Action::Flip) {
                            let (page, content) = flip(vm)?;
                            intake.note(page, &content);
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
                    return Err(NodeError::Abort(String::from_utf8_lossy(frame.payload).into_owned()));
                }
                found => return Err(NodeError::OutOfOrder { found, expected: "Pages, RoundEnd or State" }),
            }
        }
        let struck = Fault::strike(fault, Role::Destination, Point::Switchover, &link.saboteur());
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
        link.send(FrameKind::Ready, &[])?;
        self.ready = clock::now();
        Fault::strike(fault, Role::Destination, Point::BeforeCommit, &link.saboteur());
        self.phase = "handover";
        expect(link, FrameKind::Commit, "Commit")?;
        self.report.took_over = true;
        Fault::strike(fault, Role::Destination, Point::AfterCommit, &link.saboteur());
        Ok(())
    }

    /// Runs the guest, says so once it works, and watches it for the window after the migration. Gives whether
    /// the source could be told.
    fn run_guest(
        &mut self,
        cell: &Cell,
        vm: &Vm,
        link: &mut Link,
        meter: &Meter,
    ) -> Result<Result<(), LinkError>, NodeError> {
        let memory = vm.telemetry();
        let before: Vec<u64> = (0..memory.vcpus()).map(|n| memory.vcpu(n).operations.load(Acquire)).collect();
        let control = memory.control();
        let epoch = control.epoch.load(Acquire) + 1;
        control.epoch.store(epoch, Release);
        control.phase.store(abi::PHASE_CATCHUP, Release);
        self.planter.spend(CostStage::Resume, self.ready, 1);
        vm.resume();
        let resumed = clock::now();
        while !before.iter().enumerate().all(|(n, &done)| memory.vcpu(n).operations.load(Acquire) > done) {
            vm.check()?;
            if clock::now() - resumed > SIGN_OF_LIFE {
                return Err(NodeError::Content("the guest did nothing for 10 s after it was resumed".into()));
            }
            std::thread::sleep(std::time::Duration::from_micros(10));
        }
        self.report.guest_runs = true;
        // A link that is gone by now changes nothing for the guest: it is here.
        let said = link.send(FrameKind::Running, &[]);
        let running = clock::now();
        let sampler = Sampler::start(Arc::clone(vm.telemetry()), cell.windows.after.0 + 1.0)
            .map_err(|source| NodeError::System { action: "start the sampler", source })?;
        self.report.entered = vm.vcpus().iter().filter_map(|v| v.entered()).max().unwrap_or(0);
        self.report.traffic = link.traffic().total();
        self.report.usage = meter.finish()?;
        self.phase = "after";
        let end = running + nanoseconds(cell.windows.after) + MARGIN;
        while clock::now() < end {
            vm.check()?;
            let caught_up = (0..memory.vcpus()).all(|n| {
                let vcpu = memory.vcpu(n);
                vcpu.epoch.load(Acquire) == epoch && vcpu.catching_up.load(Acquire) == 0
            });
            if caught_up && self.report.caught_up.is_none() {
                self.report.caught_up = Some(clock::now());
            }
            std::thread::sleep(Seconds(0.001).duration());
        }
        self.report.end = clock::now();
        self.report.samples = sampler.finish();
        if cell.timing {
            let vcpus = (0..memory.vcpus()).map(|n| memory.vcpu(n));
            self.report.gap_ticks = vcpus.map(|v| v.switchover_gap.load(Acquire)).max();
            self.report.clocks = stalls::clocks(vm);
        }
        self.report.backwards = telemetry::backwards(memory);
        Ok(said)
    }
}

fn nanoseconds(time: Seconds) -> u64 {
    u64::try_from(time.duration().as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Seconds that the source may take before it connects.
fn waiting(cell: &Cell) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds of filling memory")]
    let filling = (cell.memory.0 >> 27) as f64;
    60.0 + cell.windows.warmup_max.0 + 2.0 * cell.windows.steady.0 + filling
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

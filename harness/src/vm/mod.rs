//! One KVM guest: memory, boot, vCPU threads, pause, state, telemetry.

pub mod boot;
pub mod cpuid;
pub mod events;
pub mod huge;
pub mod memory;
pub mod model;
pub mod msr;
pub mod state;
pub mod telemetry;
pub mod vcpu;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuFd;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi::{self, Params};
use migbench_workloads::image::GUEST_IMAGE;
use migbench_workloads::params::Machine as MachineParams;

use crate::dirty::{self, Rings};
use crate::doctor::{KvmOpenError, open_kvm};
use crate::sys;
use crate::sys::kvm::Logging;
use crate::sys::machine::{Machine, TELEMETRY_ADDRESS};
use crate::sys::memory::Telemetry;
use crate::sys::thread;
use boot::BootError;
use memory::{Ram, RamError};
use model::CpuModel;
use msr::StateMsrs;
use state::{StateError, VcpuState};
use vcpu::{Vcpu, VcpuError};

/// Why a guest could not be made or went down.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// /dev/kvm.
    #[error(transparent)]
    Open(#[from] KvmOpenError),
    /// Memory.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The image.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A vCPU.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// A vCPU's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Anything else of KVM.
    #[error("cannot {action}: {source}")]
    Kvm {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The guest's program did not get to where it should.
    #[error("the guest was not {0} within {1} s")]
    Late(&'static str, u64),
    /// The guest checked itself and found this.
    #[error("{0}")]
    Invalid(String),
}

fn to(action: &'static str) -> impl Fn(io::Error) -> VmError {
    move |source| VmError::Kvm { action, source }
}

/// A guest on this host. Threads end and memory goes when it is dropped.
#[derive(Debug)]
pub struct Vm {
    vcpus: Vec<Vcpu>,
    machine: Arc<Machine>,
    rings: Option<Arc<Rings>>,
    model: CpuModel,
    tsc_offsets: Vec<Option<u64>>,
}

/// Longest wait for the guest's program, besides what filling its memory takes.
const PATIENCE: Duration = Duration::from_secs(20);

impl Vm {
    /// Memory, machine and paused vCPU threads, nothing loaded: what a destination is. It tracks nothing, whatever
    /// the cell's tracker is.
    ///
    /// # Errors
    /// See [`VmError`].
    pub fn new(cell: &Cell, telemetry: Arc<Telemetry>) -> Result<Self, VmError> {
        Self::assemble(cell, telemetry, Logging::Bitmap, |_, _, _| Ok(()))
    }

    /// Boots the guest image, ready for the cell's tracker, and waits until every vCPU runs operations.
    ///
    /// # Errors
    /// See [`VmError`]; a fault of the guest comes with its own words.
    pub fn boot(cell: &Cell, seed: u64, flags: u32, telemetry: Arc<Telemetry>) -> Result<Self, VmError> {
        let logging = dirty::logging(cell.tracker, &cell.tracker_settings);
        let vm = Self::assemble(cell, telemetry, logging, |ram, tsc_khz, vcpus| {
            let machine = MachineParams {
                vcpus: cell.vcpus,
                tsc_khz,
                seed,
                link: cell.link.rate,
                timing: cell.timing,
                telemetry: TELEMETRY_ADDRESS,
            };
            let mut params = Params::new(&cell.settings, &machine);
            params.flags |= flags;
            let entries = boot::load(ram, GUEST_IMAGE, &params)?;
            for (index, vcpu) in vcpus.iter().enumerate() {
                boot::set_entry_state(vcpu, index, entries)?;
            }
            Ok(())
        })?;
        vm.vcpus[0].resume();
        vm.wait_state("booted", PATIENCE, 1, |state| state >= abi::STATE_BOOTED)?;
        for vcpu in &vm.vcpus[1..] {
            vcpu.resume();
        }
        // Filling runs at hundreds of MB/s and more.
        let patience = PATIENCE + Duration::from_secs(cell.memory.0 >> 27);
        vm.wait_state("running", patience, vm.vcpus.len(), |state| state >= abi::STATE_RUNNING)?;
        Ok(vm)
    }

    /// Creates everything; `load` may write to memory and set registers before the vCPUs' threads take over.
    fn assemble(
        cell: &Cell,
        telemetry: Arc<Telemetry>,
        logging: Logging,
        load: impl FnOnce(&Ram, u32, &[VcpuFd]) -> Result<(), VmError>,
    ) -> Result<Self, VmError> {
        thread::install_kick_handler().map_err(to("install a signal handler"))?;
        let kvm = open_kvm(Path::new("/dev/kvm"))?;
        let ram = Ram::new(cell.memory, cell.backing)?;
        if cell.prefault {
            ram.populate()?;
        }
        let machine = Machine::new(kvm, ram, telemetry, logging).map_err(to("create a machine"))?;
        let machine = Arc::new(machine);
        let fds = model::create_vcpus(machine.kvm(), machine.vm(), cell.vcpus)?;
        let Some(first) = fds.first() else {
            return Err(to("create a guest without vCPUs")(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let rings = match logging {
            Logging::Ring { entries, .. } => {
                let rings = Rings::new(Arc::clone(&machine), &fds, entries);
                Some(Arc::new(rings.map_err(to("map the dirty rings"))?))
            }
            Logging::Bitmap | Logging::Manual { .. } => None,
        };
        let tsc_offsets = fds.iter().map(sys::kvm::tsc_offset).collect();
        let msrs = StateMsrs::of(machine.kvm(), first)?;
        let state = VcpuState::new(machine.vm(), &msrs)?;
        let model = CpuModel::of(machine.kvm(), first, &msrs, &state)?;
        load(machine.ram(), model.tsc_khz(), &fds)?;
        let pins = cell.pinning.as_ref().map_or(&[][..], |p| &p.vcpus);
        let mut vcpus = Vec::new();
        for (index, fd) in fds.into_iter().enumerate() {
            let pin = pins.get(index % pins.len().max(1)).copied();
            let vcpu = Vcpu::start(&machine, index, fd, state.clone(), pin, rings.clone());
            vcpus.push(vcpu.map_err(to("start a vCPU thread"))?);
        }
        Ok(Self { vcpus, machine, rings, model, tsc_offsets })
    }

    /// RAM.
    #[must_use]
    pub fn ram(&self) -> &Arc<Ram> {
        self.machine.ram()
    }

    /// The machine, for trackers.
    #[must_use]
    pub const fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// The dirty rings of its vCPUs, where it logs to rings.
    #[must_use]
    pub const fn rings(&self) -> Option<&Arc<Rings>> {
        self.rings.as_ref()
    }

    /// Telemetry.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        self.machine.telemetry()
    }

    /// What its vCPUs are.
    #[must_use]
    pub const fn model(&self) -> &CpuModel {
        &self.model
    }

    /// Frequency of the guest's TSC.
    #[must_use]
    pub const fn tsc_khz(&self) -> u32 {
        self.model.tsc_khz()
    }

    /// Each vCPU's TSC less the host's when it was made, as KVM tells.
    #[must_use]
    pub fn tsc_offsets(&self) -> &[Option<u64>] {
        &self.tsc_offsets
    }

    /// vCPUs.
    #[must_use]
    pub fn vcpus(&self) -> &[Vcpu] {
        &self.vcpus
    }

    /// Pauses every vCPU and saves its state. At its end no vCPU runs.
    ///
    /// # Errors
    /// See [`VcpuError`].
    pub fn pause(&self) -> Result<(), VcpuError> {
        for vcpu in &self.vcpus {
            vcpu.order_pause();
        }
        for vcpu in &self.vcpus {
            vcpu.wait_paused()?;
        }
        Ok(())
    }

    /// Lets every vCPU run.
    pub fn resume(&self) {
        for vcpu in &self.vcpus {
            vcpu.resume();
        }
    }

    /// The first error that ended a vCPU.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<(), VcpuError> {
        self.vcpus.iter().find_map(Vcpu::error).map_or(Ok(()), Err)
    }

    fn wait_state(
        &self,
        what: &'static str,
        patience: Duration,
        vcpus: usize,
        reached: impl Fn(u32) -> bool,
    ) -> Result<(), VmError> {
        let start = Instant::now();
        loop {
            self.check()?;
            if (0..vcpus).all(|n| reached(self.telemetry().vcpu(n).state.load(Ordering::Acquire))) {
                return Ok(());
            }
            if start.elapsed() > patience {
                return Err(VmError::Late(what, patience.as_secs()));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Stops the guest's program between two operations and has it check all its pages.
    ///
    /// # Errors
    /// [`VmError::Invalid`] names the first page that is wrong.
    pub fn validate(&self) -> Result<(), VmError> {
        let patience = PATIENCE + Duration::from_secs(self.ram().pages() >> 15);
        let command = &self.telemetry().control().command;
        command.store(abi::COMMAND_STOP, Ordering::Release);
        self.wait_state("stopped", patience, self.vcpus.len(), |s| s >= abi::STATE_STOPPED)?;
        command.store(abi::COMMAND_VALIDATE, Ordering::Release);
        self.wait_state("validated", patience, self.vcpus.len(), |s| s >= abi::STATE_VALID)?;
        for n in 0..self.vcpus.len() {
            let vcpu = self.telemetry().vcpu(n);
            if vcpu.state.load(Ordering::Acquire) != abi::STATE_VALID {
                return Err(VmError::Invalid(telemetry::describe_invalid(n, vcpu)));
            }
        }
        Ok(())
    }
}

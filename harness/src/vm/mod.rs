//! One KVM guest: memory, boot, vCPU threads, pause, state, telemetry.

pub mod boot;
pub mod cpuid;
pub mod events;
pub mod model;
pub mod msr;
pub mod page_set;
pub mod rings;
pub mod state;
pub mod vcpu;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kvm_ioctls::VcpuFd;
use migbench_scenarios::cell::{Cell, Tracker, TrackerSettings, Wait};
use migbench_workloads::abi::{self, Params};
use migbench_workloads::image::GUEST_IMAGE;
use migbench_workloads::params::MachineParams;
use migbench_workloads::units::PAGE_SIZE;

use crate::host::huge;
use crate::host::kvm::{KvmOpenError, open_kvm};
use crate::sys;
use crate::sys::clock;
use crate::sys::kvm::Logging;
use crate::sys::machine::{Machine, TELEMETRY_ADDRESS};
use crate::sys::memory::Telemetry;
use crate::sys::ram::{Ram, RamError};
use crate::sys::thread;
use boot::BootError;
use events::EventLog;
use model::CpuModel;
use msr::StateMsrs;
use rings::Rings;
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
}

fn to(action: &'static str) -> impl Fn(io::Error) -> VmError {
    move |source| VmError::Kvm { action, source }
}

/// A guest on this host. Threads end and memory goes when it is dropped.
#[derive(Debug)]
pub struct Vm {
    vcpus: Vec<Vcpu>,
    machine: Arc<Machine>,
    events: Arc<EventLog>,
    rings: Option<Arc<Rings>>,
    model: CpuModel,
    tsc_offsets: Vec<Option<u64>>,
}

/// Longest wait for the guest's program, besides what filling its memory takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl Vm {
    /// Memory, machine and paused vCPU threads, nothing loaded: what a destination is. It tracks nothing, whatever
    /// the cell's tracker is.
    ///
    /// # Errors
    /// See [`VmError`].
    pub fn new(cell: &Cell, telemetry: Arc<Telemetry>) -> Result<Self, VmError> {
        Self::assemble(cell, telemetry, Logging::Bitmap, |_, _, _| Ok(()))
    }

    /// [`Self::load`], then [`Self::start`].
    ///
    /// # Errors
    /// See [`VmError`]; a fault of the guest comes with its own words.
    pub fn boot(cell: &Cell, seed: u64, flags: u32, telemetry: Arc<Telemetry>) -> Result<Self, VmError> {
        let vm = Self::load(cell, seed, flags, telemetry)?;
        vm.start()?;
        Ok(vm)
    }

    /// The guest image in memory, ready for the cell's tracker; no vCPU runs yet.
    ///
    /// # Errors
    /// See [`VmError`].
    pub fn load(cell: &Cell, seed: u64, flags: u32, telemetry: Arc<Telemetry>) -> Result<Self, VmError> {
        let logging = logging(cell.tracker, &cell.tracker_settings);
        Self::assemble(cell, telemetry, logging, |ram, tsc_khz, vcpus| {
            let machine = MachineParams {
                vcpus: cell.vcpus,
                tsc_khz,
                seed,
                link: cell.link.rate,
                timing: cell.timing,
                telemetry: TELEMETRY_ADDRESS,
            };
            let mut params = Params::new(&cell.settings, &machine);
            params.flags |= flags | if cell.wait == Wait::Doorbell { abi::FLAG_REST } else { 0 };
            let entries = boot::load(ram, GUEST_IMAGE, &params)?;
            for (index, vcpu) in vcpus.iter().enumerate() {
                boot::set_entry_state(vcpu, index, entries)?;
            }
            Ok(())
        })
    }

    /// Runs a guest that was loaded, until every vCPU does operations.
    ///
    /// # Errors
    /// See [`VmError`].
    pub fn start(&self) -> Result<(), VmError> {
        self.vcpus[0].resume();
        self.wait_state("booted", PATIENCE, 1, |state| state >= abi::STATE_BOOTED)?;
        for vcpu in &self.vcpus[1..] {
            vcpu.resume();
        }
        // Filling runs at hundreds of MB/s and more.
        let patience = PATIENCE + Duration::from_secs((self.ram().pages() * PAGE_SIZE) >> 27);
        self.wait_state("running", patience, self.vcpus.len(), |state| state >= abi::STATE_RUNNING)
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
        let create = |index| model::create_vcpu(machine.kvm(), machine.vm(), index);
        let fds = (0..cell.vcpus).map(create).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = fds.first() else {
            return Err(to("create a guest without vCPUs")(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let events = Arc::<EventLog>::default();
        let rings = match logging {
            Logging::Ring { entries, .. } => {
                let rings = Rings::new(Arc::clone(&machine), Arc::clone(&events), &fds, entries);
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
            let vcpu = Vcpu::start(&machine, index, fd, state.clone(), pin, &events, rings.clone());
            vcpus.push(vcpu.map_err(to("start a vCPU thread"))?);
        }
        Ok(Self { vcpus, machine, events, rings, model, tsc_offsets })
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

    /// What the host did to it; off at first.
    #[must_use]
    pub const fn events(&self) -> &Arc<EventLog> {
        &self.events
    }

    /// The share of what is resident of its memory that is in 2 MiB pages now; `None` for backings that are not meant to
    /// be. Walks the page tables of this process: nothing for the paused window.
    ///
    /// # Errors
    /// When the kernel does not report it.
    pub fn huge_page_share(&self) -> io::Result<Option<f64>> {
        let ram = self.ram();
        let ranges: Vec<_> = ram.host_ranges().into_iter().map(|(start, end)| start..end).collect();
        if ram.backing().is_huge() { huge::share(nix::unistd::Pid::this(), &ranges) } else { Ok(None) }
    }

    /// The dirty rings of its vCPUs, where it logs to rings.
    #[must_use]
    pub const fn rings(&self) -> Option<&Arc<Rings>> {
        self.rings.as_ref()
    }

    /// Telemetry.
    #[must_use]
    pub fn telemetry(&self) -> &Arc<Telemetry> {
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

    /// Each vCPU's TSC less the host's when it was made, as KVM reports it.
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
        let telemetry = self.telemetry();
        if wait_state(telemetry, vcpus, patience, || self.check(), reached)? {
            Ok(())
        } else {
            Err(VmError::Late(what, patience.as_secs()))
        }
    }
}

/// Waits until the state of each of the first `vcpus` vCPUs is `reached`, as telemetry shows it. `false` when that took
/// longer than `patience`.
///
/// # Errors
/// What `check` finds meanwhile.
pub(crate) fn wait_state<E>(
    telemetry: &Telemetry,
    vcpus: usize,
    patience: Duration,
    check: impl Fn() -> Result<(), E>,
    reached: impl Fn(u32) -> bool,
) -> Result<bool, E> {
    clock::found_within(patience, Duration::from_micros(500), || {
        check()?;
        Ok((0..vcpus).all(|n| reached(telemetry.vcpu(n).state.load(Ordering::Acquire))))
    })
}

/// Frequency in kHz of the TSC of a guest on this host, whoever runs it.
///
/// # Errors
/// As the KVM calls.
pub fn host_tsc_khz() -> Result<u32, VmError> {
    let kvm = open_kvm(Path::new("/dev/kvm"))?;
    let read = || kvm.create_vm()?.create_vcpu(0)?.get_tsc_khz();
    read().map_err(|error| to("read the TSC frequency")(error.into()))
}

/// How KVM must log for a tracker; a machine is made with it.
#[must_use]
pub const fn logging(tracker: Tracker, settings: &TrackerSettings) -> Logging {
    match tracker {
        Tracker::KvmManual => Logging::Manual { initially_set: settings.initially_set },
        Tracker::KvmRing => Logging::Ring { entries: settings.ring_entries, acquire: settings.ring_acquire },
        Tracker::KvmBitmap | Tracker::UffdWp | Tracker::UffdAsync => Logging::Bitmap,
    }
}

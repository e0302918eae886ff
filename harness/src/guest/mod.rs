//! A guest as the rest of the harness sees it, whoever runs its vCPUs: its start, pause and resume, telemetry, steady state,
//! counters, what it costs the process that runs it, and the check of its own pages. Telemetry is the same memory for every
//! guest, so all that is computed from it is computed by the same code.

pub mod sampler;
pub mod stalls;
pub mod steady;
pub mod telemetry;
pub mod usage;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use migbench_workloads::abi;
use nix::unistd::Pid;

use crate::sys::memory::Telemetry;
use crate::vm::vcpu::Vcpu;
use crate::vm::{PATIENCE, Vm, VmError, wait_state};

/// Why a guest is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Ours has ended, or would not start or pause.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// Its program did not get to where it should.
    #[error("the guest was not {0} within {1} s")]
    Late(&'static str, u64),
    /// Another VMM's is gone, or would not do what it was told, in its words.
    #[error("{0}")]
    Peer(String),
    /// It checked itself and found this.
    #[error("{0}")]
    Invalid(String),
}

/// A guest that runs our image.
pub trait Guest {
    /// The memory that it shares with the host, and that does not migrate.
    fn telemetry(&self) -> &Arc<Telemetry>;

    /// Frequency of its TSC in kHz.
    fn tsc_khz(&self) -> u32;

    /// Each vCPU's TSC less the host's, as the hypervisor reports it; none where it doesn't.
    fn tsc_offset(&self, vcpu: usize) -> Option<u64>;

    /// Bytes of its RAM.
    fn memory(&self) -> u64;

    /// Runs it for the first time, until every vCPU does operations.
    ///
    /// # Errors
    /// What kept it from that.
    fn start(&self) -> Result<(), GuestError>;

    /// Stops every vCPU and saves its state. At its end none runs.
    ///
    /// # Errors
    /// When one does not stop. Others may have: the caller resumes the guest.
    fn pause(&self) -> Result<(), GuestError>;

    /// Lets every vCPU go on after [`Self::pause`] or where it was restored.
    fn resume(&self);

    /// Whether it still runs, or would if it were not paused.
    ///
    /// # Errors
    /// What ended it.
    fn check(&self) -> Result<(), GuestError>;

    /// The process that runs it, whose CPU time and memory it costs.
    fn process(&self) -> Pid;

    /// The threads of its vCPUs, in their order.
    fn vcpu_threads(&self) -> Vec<Pid>;

    /// Addresses in that process which are no cost of migrating it: its RAM, telemetry, and what only measures.
    fn own_memory(&self) -> Vec<Range<u64>>;

    /// Bytes of what only measures and is in no range of its own.
    fn instruments(&self) -> u64 {
        0
    }
}

impl Guest for Vm {
    fn telemetry(&self) -> &Arc<Telemetry> {
        Vm::telemetry(self)
    }

    fn tsc_khz(&self) -> u32 {
        Vm::tsc_khz(self)
    }

    fn tsc_offset(&self, vcpu: usize) -> Option<u64> {
        self.tsc_offsets().get(vcpu).copied().flatten()
    }

    fn memory(&self) -> u64 {
        self.ram().pages() * migbench_workloads::units::PAGE_SIZE
    }

    fn start(&self) -> Result<(), GuestError> {
        Ok(Vm::start(self)?)
    }

    fn pause(&self) -> Result<(), GuestError> {
        Ok(Vm::pause(self).map_err(VmError::from)?)
    }

    fn resume(&self) {
        Vm::resume(self);
    }

    fn check(&self) -> Result<(), GuestError> {
        Ok(Vm::check(self).map_err(VmError::from)?)
    }

    fn process(&self) -> Pid {
        Pid::this()
    }

    fn vcpu_threads(&self) -> Vec<Pid> {
        self.vcpus().iter().map(Vcpu::thread).map(Pid::from_raw).collect()
    }

    fn own_memory(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<_> =
            self.ram().host_ranges().into_iter().map(|(start, end)| start..end).collect();
        let base = Vm::telemetry(self).host_address();
        ranges.push(base..base + Vm::telemetry(self).size() as u64);
        ranges
    }

    fn instruments(&self) -> u64 {
        self.events().size()
    }
}

/// Stops the guest's program between two operations and has it check all its pages.
///
/// # Errors
/// [`GuestError::Invalid`] names the first page that is wrong.
pub fn validate(guest: &dyn Guest) -> Result<(), GuestError> {
    let telemetry = guest.telemetry();
    let vcpus = telemetry.vcpus();
    // Checking runs at hundreds of MB/s and more.
    let patience = PATIENCE + Duration::from_secs(guest.memory() >> 27);
    let command = |command: u32, what: &'static str, state: u32| {
        telemetry.control().command.store(command, Ordering::Release);
        match wait_state(telemetry, vcpus, patience, || guest.check(), |s| s >= state)? {
            true => Ok(()),
            false => Err(GuestError::Late(what, patience.as_secs())),
        }
    };
    command(abi::COMMAND_STOP, "stopped", abi::STATE_STOPPED)?;
    command(abi::COMMAND_VALIDATE, "validated", abi::STATE_VALID)?;
    for n in 0..vcpus {
        let vcpu = telemetry.vcpu(n);
        if vcpu.state.load(Ordering::Acquire) != abi::STATE_VALID {
            return Err(GuestError::Invalid(telemetry::describe_invalid(n, vcpu)));
        }
    }
    Ok(())
}

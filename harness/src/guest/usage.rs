//! What a node costs: CPU time by kind of thread, waiting for a CPU, memory of its own. Nothing is read while the
//! guest is paused.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Guest;
use crate::host::noise::{self, NoiseError, ThreadTimes};

/// CPU, memory and waiting of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds of CPU of all threads but vCPUs' and the sampler's, during the migration.
    pub cpu: f64,
    /// Seconds of CPU of the vCPU threads, during the migration.
    pub cpu_vcpu: f64,
    /// Seconds that the vCPU threads waited for a CPU.
    pub vcpu_run_delay: f64,
    /// Seconds that the other threads waited for a CPU.
    pub engine_run_delay: f64,
    /// Resident bytes without guest memory and telemetry.
    pub memory: u64,
    /// Seconds of CPU that the hypervisor under this host took away.
    pub steal: Option<f64>,
}

/// A meter that was started.
#[derive(Debug)]
pub struct Meter {
    process: Pid,
    vcpus: Vec<Pid>,
    sampler: Option<Pid>,
    threads: BTreeMap<Pid, ThreadTimes>,
    cpu: Duration,
    steal: Option<Duration>,
    own_memory: Vec<Range<u64>>,
    instruments: u64,
    /// CPU time of looking at memory.
    measuring: Duration,
}

impl Meter {
    /// Starts to count.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn start(guest: &dyn Guest, sampler: Option<Pid>) -> Result<Self, NoiseError> {
        let process = guest.process();
        Ok(Self {
            process,
            vcpus: guest.vcpu_threads(),
            sampler,
            threads: noise::all_thread_times(Path::new("/"), process)?,
            cpu: noise::process_cpu_of(process)?,
            steal: noise::steal_time(Path::new("/"))?,
            own_memory: guest.own_memory(),
            instruments: guest.instruments(),
            measuring: Duration::ZERO,
        })
    }

    /// What was used since the start, memory left out.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn usage(&self) -> Result<Usage, NoiseError> {
        let now = noise::all_thread_times(Path::new("/"), self.process)?;
        let cpu =
            noise::process_cpu_of(self.process)?.saturating_sub(self.cpu).saturating_sub(self.measuring);
        let steal = noise::steal_time(Path::new("/"))?;
        let (mut vcpu, mut sampler, mut others) =
            (ThreadTimes::default(), ThreadTimes::default(), ThreadTimes::default());
        for (thread, times) in &now {
            let used = times.since(self.threads.get(thread).copied().unwrap_or_default());
            if self.vcpus.contains(thread) {
                vcpu = vcpu + used;
            } else if self.sampler == Some(*thread) {
                sampler = sampler + used;
            } else {
                others = others + used;
            }
        }
        Ok(Usage {
            cpu: cpu.saturating_sub(vcpu.cpu).saturating_sub(sampler.cpu).as_secs_f64(),
            cpu_vcpu: vcpu.cpu.as_secs_f64(),
            vcpu_run_delay: vcpu.run_delay.as_secs_f64(),
            engine_run_delay: others.run_delay.as_secs_f64(),
            memory: 0,
            steal: steal.zip(self.steal).map(|(a, b)| a.saturating_sub(b).as_secs_f64()),
        })
    }

    /// Resident bytes that are neither the guest's nor only measure. It walks the page tables of the whole process, so it is
    /// asked for when no guest feels that; its CPU time counts as nobody's.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn memory(&mut self) -> Result<u64, NoiseError> {
        let before = noise::process_cpu_of(self.process)?;
        let memory = noise::resident_memory(Path::new("/"), self.process, &self.own_memory)?;
        self.measuring += noise::process_cpu_of(self.process)?.saturating_sub(before);
        Ok(memory.0.saturating_sub(self.instruments))
    }
}

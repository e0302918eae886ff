//! What a node costs: CPU time by kind of thread, waiting for a CPU, memory of its own. Nothing is read while the
//! guest is paused.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;

use super::NodeError;
use super::protocol::Usage;
use crate::runner::noise::{self, ThreadTimes};
use crate::vm::Vm;

/// A meter that was started.
#[derive(Debug)]
pub struct Meter {
    vcpus: Vec<Pid>,
    sampler: Option<Pid>,
    threads: BTreeMap<Pid, ThreadTimes>,
    cpu: Duration,
    steal: Option<Duration>,
    guest_memory: Vec<Range<u64>>,
    /// Bytes of the log of events, which measures and does not migrate.
    log: u64,
}

impl Meter {
    /// Starts to count.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn start(vm: &Vm, sampler: Option<i32>) -> Result<Self, NodeError> {
        let telemetry = vm.telemetry();
        let mut guest_memory: Vec<_> = vm.ram().host_ranges().into_iter().map(|(a, b)| a..b).collect();
        let base = telemetry.host_address();
        guest_memory.push(base..base + telemetry.size() as u64);
        Ok(Self {
            vcpus: vm.vcpus().iter().map(|vcpu| Pid::from_raw(vcpu.thread())).collect(),
            sampler: sampler.map(Pid::from_raw),
            threads: noise::all_thread_times(Path::new("/"), Pid::this())?,
            cpu: noise::process_cpu()?,
            steal: noise::steal_time(Path::new("/"))?,
            guest_memory,
            log: vm.machine().events().size(),
        })
    }

    /// What was used since the start.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn finish(&self) -> Result<Usage, NodeError> {
        let now = noise::all_thread_times(Path::new("/"), Pid::this())?;
        let cpu = noise::process_cpu()?.saturating_sub(self.cpu);
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
        let memory = noise::resident_memory(Path::new("/"), Pid::this(), &self.guest_memory)?;
        Ok(Usage {
            cpu: cpu.saturating_sub(vcpu.cpu).saturating_sub(sampler.cpu).as_secs_f64(),
            cpu_vcpu: vcpu.cpu.as_secs_f64(),
            vcpu_run_delay: vcpu.run_delay.as_secs_f64(),
            engine_run_delay: others.run_delay.as_secs_f64(),
            memory: memory.0.saturating_sub(self.log),
            steal: steal.zip(self.steal).map(|(a, b)| a.saturating_sub(b).as_secs_f64()),
        })
    }
}

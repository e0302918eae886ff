//! Dirty logging alone, without a migration: what arming, the first write to each page, a harvest, re-arming and
//! disarming cost, pass by pass, as the kernel's own `dirty_log_perf_test` measures it
//! (tools/testing/selftests/kvm/dirty_log_perf_test.c).

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use migbench_reports::metric::{MetricError, MetricKey, Metrics};
use migbench_reports::record::Round;
use migbench_reports::stats::median;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;

use crate::dirty::{TrackerError, tracker};
use crate::guest::telemetry;
use crate::sys::clock;
use crate::sys::memory::{NoMemory, Telemetry, reserve};
use crate::vm::page_set::PageSet;
use crate::vm::{Vm, VmError};

/// How passes are made.
#[derive(Debug, Clone, Copy)]
pub struct TrackOptions {
    /// Logged passes.
    pub passes: u32,
    /// Whether the guest waits between passes while the host harvests. Else it goes on, and harvests find whatever
    /// was written meanwhile.
    pub lock_step: bool,
    /// Whether every vCPU goes over the whole working set instead of its own part.
    pub overlap: bool,
}

/// One logged pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Seconds that the guest took for it, the slowest vCPU's.
    pub guest: f64,
    /// Page writes that the guest made in it.
    pub writes: u64,
    /// Seconds of the harvest.
    pub harvest: f64,
    /// Seconds of re-arming what the harvest left armed.
    pub rearm: f64,
    /// Pages that the harvest found.
    pub dirty: u64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Passes {
    /// Seconds of the first pass, which brings memory in.
    pub populate: f64,
    /// Seconds of a pass without logging.
    pub unlogged: f64,
    /// Seconds to arm, until every page is armed.
    pub arm: f64,
    /// Logged passes, in order.
    pub passes: Vec<Pass>,
    /// Seconds to disarm.
    pub disarm: f64,
}

impl Passes {
    /// How long all of it took.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        let passes = self.passes.iter().map(|pass| pass.guest + pass.harvest + pass.rearm);
        let all = self.populate + self.unlogged + self.arm + passes.sum::<f64>() + self.disarm;
        Duration::try_from_secs_f64(all).unwrap_or_default()
    }

    /// As metrics and rounds of a record.
    ///
    /// # Errors
    /// When a figure is no number.
    #[expect(clippy::cast_precision_loss, reason = "counts of one run stay under 2^53")]
    pub fn figures(&self, lock_step: bool) -> Result<(Metrics, Vec<Round>), MetricError> {
        let mut metrics = Metrics::new();
        let of = |f: fn(&Pass) -> f64| median(&self.passes.iter().map(f).collect::<Vec<_>>());
        let mut set = |key, value: Option<f64>| value.map_or(Ok(()), |value| metrics.set(key, value));
        set(MetricKey::PopulateTime, Some(self.populate))?;
        set(MetricKey::PassTimeUnlogged, Some(self.unlogged))?;
        set(MetricKey::ArmTime, Some(self.arm))?;
        set(MetricKey::PassTime, of(|pass| pass.guest))?;
        if lock_step {
            // Per page found dirty: only the first write of a page since it was armed costs.
            let added: Vec<f64> = self
                .passes
                .iter()
                .filter(|pass| pass.dirty > 0)
                .map(|pass| (pass.guest - self.unlogged) / pass.dirty as f64)
                .collect();
            set(MetricKey::FirstWriteTime, median(&added))?;
        }
        set(MetricKey::HarvestTime, Some(self.passes.iter().map(|pass| pass.harvest).sum()))?;
        set(MetricKey::RearmTime, of(|pass| pass.rearm))?;
        set(MetricKey::DisarmTime, Some(self.disarm))?;
        let rounds = (0..).zip(&self.passes).map(|(round, pass)| Round {
            round,
            dirty_pages: pass.dirty,
            duration: pass.guest,
            harvest_time: Some(pass.harvest),
            ..Round::default()
        });
        Ok((metrics, rounds.collect()))
    }
}

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// The guest.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The tracker.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// No memory for the set of dirty pages.
    #[error(transparent)]
    Memory(#[from] NoMemory),
    /// Telemetry memory.
    #[error("cannot map telemetry: {0}")]
    Telemetry(#[from] std::io::Error),
    /// The guest stopped making passes.
    #[error("the guest did not finish pass {0} within {1} s")]
    Late(u32, u64),
}

/// Longest wait for one pass.
const PATIENCE: u64 = 120;

/// Boots a guest and measures. Of the cell count tracker, memory, backing and vCPUs; of its settings working set, share of
/// reads, and order (`sequential` or random). The seed is that of order and writes.
///
/// # Errors
/// See [`TrackError`].
pub fn measure(cell: &Cell, seed: u64, options: TrackOptions) -> Result<Passes, TrackError> {
    let cell = Cell { timing: false, ..cell.clone() };
    let memfd = nix::sys::memfd::memfd_create(c"migbench-telemetry", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map_err(std::io::Error::from)?;
    let shared = Arc::new(Telemetry::map(memfd, cell.vcpus as usize, false)?);
    let flags = abi::FLAG_PASSES | if options.overlap { abi::FLAG_OVERLAP } else { 0 };
    let vm = Vm::boot(&cell, seed, flags, Arc::clone(&shared))?;
    let mut tracker = tracker(&cell, &vm)?;
    let mut dirty = PageSet::new(vm.ram().pages())?;

    let populate = pass(&vm, 1)?;
    let unlogged = pass(&vm, 2)?;
    let start = clock::now();
    tracker.arm()?;
    if tracker.re_arms_lazily() {
        // Else the first harvest could report every page, and its pass would have had no fault.
        dirty.fill();
        while let Some((first, count)) = dirty.take_run(64) {
            tracker.before_read(first, count)?;
        }
    }
    let arm = clock::seconds(start, clock::now());
    let mut passes = Vec::new();
    if !options.lock_step {
        shared.control().pass.store(u32::MAX, Release);
    }
    for number in 3..options.passes.saturating_add(3) {
        reserve(&mut passes, 1, "the figures of passes")?;
        let before = telemetry::page_writes(&shared);
        let guest = if options.lock_step {
            pass(&vm, number)?
        } else {
            // A guest that runs freely is ahead of the count: one whole pass more than it has made by now.
            let made = (0..shared.vcpus()).map(|n| shared.vcpu(n).pass.load(Acquire)).max().unwrap_or(0);
            wait_for(&vm, made + 2, clock::now())?
        };
        let writes = telemetry::page_writes(&shared) - before;
        dirty.clear();
        let start = clock::now();
        tracker.harvest(&mut dirty)?;
        let harvested = clock::now();
        let found = dirty.len();
        let counted = clock::now();
        while let Some((first, count)) = dirty.take_run(64) {
            tracker.before_read(first, count)?;
        }
        passes.push(Pass {
            guest,
            writes,
            harvest: clock::seconds(start, harvested),
            rearm: clock::seconds(counted, clock::now()),
            dirty: found,
        });
    }
    let start = clock::now();
    tracker.disarm()?;
    let disarm = clock::seconds(start, clock::now());
    Ok(Passes { populate, unlogged, arm, passes, disarm })
}

/// Lets the guest make pass `number` and waits for it.
fn pass(vm: &Vm, number: u32) -> Result<f64, TrackError> {
    let start = clock::now();
    vm.telemetry().control().pass.store(number, Release);
    wait_for(vm, number, start)
}

fn wait_for(vm: &Vm, number: u32, start: u64) -> Result<f64, TrackError> {
    let telemetry = vm.telemetry();
    // The guest's vCPUs may need this CPU.
    let made = clock::found_within(Duration::from_secs(PATIENCE), Duration::from_micros(20), || {
        vm.check().map_err(VmError::from)?;
        Ok::<_, TrackError>((0..telemetry.vcpus()).all(|n| telemetry.vcpu(n).pass.load(Acquire) >= number))
    })?;
    if made { Ok(clock::seconds(start, clock::now())) } else { Err(TrackError::Late(number, PATIENCE)) }
}

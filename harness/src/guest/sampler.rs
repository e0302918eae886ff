//! Reads the guest's counters every millisecond, from telemetry, into memory that was set aside before. Thread and memory are
//! there before the guest depends on this process: where they cannot be had, no migration begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::JoinHandle;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::telemetry;
use crate::sys::memory::{Telemetry, reserve};
use crate::sys::{clock, thread};

/// Nanoseconds between samples.
pub const INTERVAL: u64 = 1_000_000;

/// Samples of the guest's progress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgressSamples {
    /// Time, and operations ended until then.
    pub operations: Vec<(u64, u64)>,
}

/// A running sampler.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicBool>,
    thread: JoinHandle<ProgressSamples>,
    id: Arc<AtomicI32>,
}

impl Sampler {
    /// Starts to sample, with room for `seconds`.
    ///
    /// # Errors
    /// When no thread or no memory can be had.
    pub fn start(source: Arc<Telemetry>, seconds: f64) -> std::io::Result<Self> {
        let sampler = Self::prepare(source, seconds)?;
        sampler.begin();
        Ok(sampler)
    }

    /// As [`Self::start`], but takes no sample before [`Self::begin`].
    ///
    /// # Errors
    /// As there.
    pub fn prepare(source: Arc<Telemetry>, seconds: f64) -> std::io::Result<Self> {
        let (stop, id) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(0)));
        let begun = Arc::new(AtomicBool::new(false));
        let (stopped, own_id, may_begin) = (Arc::clone(&stop), Arc::clone(&id), Arc::clone(&begun));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let room = (seconds * 1000.0).clamp(1000.0, 600_000.0) as usize;
        let mut samples = Vec::new();
        reserve(&mut samples, room, "samples of the guest's progress")?;
        let thread = std::thread::Builder::new().name("sampler".into()).spawn(move || {
            thread::sharp_timers();
            own_id.store(thread::id(), Ordering::Release);
            while !may_begin.load(Ordering::Acquire) && !stopped.load(Ordering::Acquire) {
                std::thread::park();
            }
            sample(&source, &stopped, samples)
        })?;
        Ok(Self { stop, begun, thread, id })
    }

    /// Takes samples from now on.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }

    /// Kernel id of its thread, so that its CPU time can be left out.
    #[must_use]
    pub fn thread(&self) -> Pid {
        Pid::from_raw(self.id.load(Ordering::Acquire))
    }

    /// Has it take no more samples; it ends by itself within an interval.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }

    /// Ends it.
    #[must_use]
    pub fn finish(self) -> ProgressSamples {
        self.stop();
        self.thread.join().unwrap_or_default()
    }
}

fn sample(source: &Telemetry, stop: &AtomicBool, mut operations: Vec<(u64, u64)>) -> ProgressSamples {
    let mut next = clock::now();
    // Where more is sampled than there is room for, and no more can be had, samples end; the guest goes on.
    while !stop.load(Ordering::Acquire) && operations.try_reserve(2).is_ok() {
        operations.push((clock::now(), telemetry::operations(source)));
        next += INTERVAL;
        // After a long wait for a CPU the missed samples are left out, not made up.
        next = next.max(clock::now());
        clock::sleep_until(next);
    }
    if operations.len() < operations.capacity() {
        operations.push((clock::now(), telemetry::operations(source)));
    }
    ProgressSamples { operations }
}

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
    /// Its thread may end. Until then it is among the threads of this process, so that its CPU time can be left out.
    end: Arc<AtomicBool>,
    begun: Arc<AtomicBool>,
    thread: Option<JoinHandle<ProgressSamples>>,
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
        let [begun, end] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let may_end = Arc::clone(&end);
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
            let samples = sample(&source, &stopped, samples);
            while !may_end.load(Ordering::Acquire) {
                std::thread::park();
            }
            samples
        })?;
        Ok(Self { stop, end, begun, thread: Some(thread), id })
    }

    /// Takes samples from now on.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.unpark();
    }

    /// Kernel id of its thread, so that its CPU time can be left out.
    #[must_use]
    pub fn thread(&self) -> Pid {
        Pid::from_raw(self.id.load(Ordering::Acquire))
    }

    /// Has it take no more samples.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.unpark();
    }

    /// Ends it.
    #[must_use]
    pub fn finish(mut self) -> ProgressSamples {
        self.let_go();
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }

    fn let_go(&self) {
        self.end.store(true, Ordering::Release);
        self.stop();
    }

    fn unpark(&self) {
        self.thread.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.let_go();
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;
    use crate::host::noise::{all_thread_times, thread_times};

    /// Its CPU time is left out of the node's, which is read after it has stopped: were it gone by then, its time would stay
    /// in that of the process, the more of it the longer a migration took.
    #[test]
    fn what_it_took_can_be_left_out_until_it_ends() {
        let memory = memfd_create(c"telemetry", MFdFlags::MFD_CLOEXEC).unwrap();
        let sampler = Sampler::start(Arc::new(Telemetry::map(memory, 1, false).unwrap()), 1.0).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let (root, process, thread) = (Path::new("/"), Pid::this(), sampler.thread());
        sampler.stop();
        std::thread::sleep(Duration::from_millis(50));
        let before = thread_times(root, process, thread).unwrap().unwrap();
        assert!(all_thread_times(root, process).unwrap().contains_key(&thread), "it has gone");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(thread_times(root, process, thread).unwrap().unwrap().cpu, before.cpu, "it goes on");
        assert!(!sampler.finish().operations.is_empty());
        assert!(!all_thread_times(root, process).unwrap().contains_key(&thread));
    }
}

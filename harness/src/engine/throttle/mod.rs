//! Throttles: what keeps a guest from writing faster than its link takes, by having its vCPUs sleep outside of the guest. A sleeping vCPU
//! saves no state and pauses at once. Every throttle is one file that implements [`Throttle`], which knows nothing of threads, and
//! one line in [`throttle`].

mod auto_converge;
mod dirty_limit;
mod quota;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use migbench_scenarios::cell::{Cell, Engine, Throttle as Word};

use crate::sys::clock;
use crate::vm::Vm;
use crate::vm::rings::Rings;
use crate::vm::vcpu::{Napper, Vcpu};

/// What a vCPU is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slice {
    /// Pages that it has entered into its dirty ring so far, modulo 2^32; always 0 where there is none.
    pub written: u32,
    /// Until when it is to stay out of the guest, by [`clock::now`]; what has passed is no nap.
    pub nap_until: u64,
}

/// A throttle.
pub trait Throttle: fmt::Debug + Send {
    /// Looks at every vCPU and says until when each is to sleep. Gives when it wants to look again.
    fn look(&mut self, now: u64, vcpus: &mut [Slice]) -> u64;

    /// A round sent so many bytes, and so many bytes of memory were found written after it.
    fn round(&mut self, _sent: u64, _written: u64) {}
}

/// The throttle of a cell, for so many vCPUs; none where it has none.
#[must_use]
pub fn throttle(cell: &Cell, vcpus: usize) -> Option<Box<dyn Throttle>> {
    let settings = &cell.throttle_settings.unwrap_or_default();
    Some(match cell.throttle {
        Word::None => return None,
        // There is no time in which the guest runs and is migrated.
        _ if cell.engine == Engine::StopAndCopy => return None,
        Word::AutoConverge => Box::new(auto_converge::AutoConverge::new(settings)),
        Word::DirtyLimit => Box::new(dirty_limit::DirtyLimit::new(settings, vcpus)),
        Word::Quota => Box::new(quota::Quota::new(settings, vcpus)),
    })
}

#[derive(Debug)]
struct Work {
    throttle: Box<dyn Throttle>,
    vcpus: Vec<Slice>,
    /// Nobody is put to sleep any more.
    over: bool,
}

#[derive(Debug)]
struct Shared {
    work: Mutex<Work>,
    nappers: Vec<Napper>,
    rings: Option<Arc<Rings>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One look; gives when the next is due, or none when it is all over.
    fn look(&self, written: &mut [u32]) -> Option<u64> {
        if let Some(rings) = &self.rings {
            rings.written(written);
        }
        let work = &mut *self.lock();
        if work.over {
            return None;
        }
        let now = clock::now();
        for (vcpu, written) in work.vcpus.iter_mut().zip(written) {
            *vcpu = Slice { written: *written, nap_until: 0 };
        }
        let next = work.throttle.look(now, &mut work.vcpus);
        for (napper, vcpu) in self.nappers.iter().zip(&work.vcpus) {
            if vcpu.nap_until > now {
                napper.nap(vcpu.nap_until);
            }
        }
        Some(next)
    }
}

/// A thread that has vCPUs sleep as a throttle says, until it is over or dropped. Then all are awake.
#[derive(Debug)]
pub struct Throttler {
    shared: Arc<Shared>,
    before: Vec<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Throttler {
    /// Of the vCPUs of a guest.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(throttle: Box<dyn Throttle>, vm: &Vm) -> std::io::Result<Self> {
        let nappers: Vec<Napper> = vm.vcpus().iter().map(Vcpu::napper).collect();
        let vcpus = vec![Slice::default(); nappers.len()];
        let before = nappers.iter().map(Napper::slept).collect();
        let work = Mutex::new(Work { throttle, vcpus, over: false });
        let shared = Arc::new(Shared { work, nappers, rings: vm.rings().cloned() });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("throttle".to_owned()).spawn(move || {
            let mut written = vec![0; of_thread.nappers.len()];
            while let Some(next) = of_thread.look(&mut written) {
                let left = next.saturating_sub(clock::now());
                std::thread::park_timeout(Duration::from_nanos(left));
            }
        })?;
        Ok(Self { shared, before, thread: Some(thread) })
    }

    /// See [`Throttle::round`].
    pub fn round(&self, sent: u64, written: u64) {
        self.shared.lock().throttle.round(sent, written);
    }

    /// None is put to sleep from here on. Who sleeps is woken by a pause, or when this is dropped.
    pub fn end(&self) {
        self.shared.lock().over = true;
    }

    /// Nanoseconds that each vCPU has slept.
    #[must_use]
    pub fn slept(&self) -> Vec<u64> {
        let slept = self.shared.nappers.iter().zip(&self.before);
        slept.map(|(napper, before)| napper.slept().saturating_sub(*before)).collect()
    }
}

impl Drop for Throttler {
    fn drop(&mut self) {
        self.end();
        self.shared.nappers.iter().for_each(Napper::wake);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

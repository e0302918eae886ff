//! userfaultfd write-protection with a thread of ours: the first write of a page waits until the thread has lifted
//! the protection of its block and recorded it.
//!
//! The thread lifts first and records afterwards. The other way round a harvest in between would take the record and
//! protect the page before the lift, and what is written after the lift would never be found. This way a page may be
//! written and not yet recorded when a harvest passes; the next one has it, and to be the last word, each harvest first
//! waits until the thread is done with all that it had taken up. Most often that is nothing: the thread says so before
//! it sleeps, and then nobody needs to wake it.
//!
//! A vCPU that waits for a thread that is gone would wait for ever. However the thread ends, it lifts all protection.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use migbench_reports::record::Cause;
use migbench_scenarios::cell::{Tracker, TrackerSettings};
use migbench_workloads::units::PAGE_SIZE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use userfaultfd::EventBuffer;

use super::{DirtyTracker, TrackerError};
use crate::sys::memory::zeroed;
use crate::sys::ram::{Ram, Region};
use crate::sys::uffd::{Faults, WriteFault, WriteProtection};
use crate::vm::events::EventLog;
use crate::vm::page_set::PageSet;

/// Called between lift and record, for tests.
type Between = Arc<dyn Fn() + Send + Sync>;

/// Faults taken up at once. There is never more than one of each vCPU.
const FAULTS: usize = 256;

/// The tracker `uffd-wp`.
pub struct UffdWp {
    ram: Arc<Ram>,
    /// Pages of a block.
    block: u64,
    between: Option<Between>,
    log: Arc<EventLog>,
    armed: Option<(Arc<UffdShared>, JoinHandle<()>)>,
}

impl std::fmt::Debug for UffdWp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UffdWp").field("block", &self.block).finish_non_exhaustive()
    }
}

struct UffdShared {
    ram: Arc<Ram>,
    block: u64,
    protection: WriteProtection,
    /// Pages written since the last harvest.
    written: Vec<AtomicU64>,
    between: Option<Between>,
    log: Arc<EventLog>,
    /// Wakes the thread.
    bell: UnixStream,
    stop: AtomicBool,
    /// Raised before faults are taken up, lowered when all of them are recorded, and never lowered if that fails.
    busy: AtomicBool,
    /// Harvests that asked whether the thread is done.
    asked: AtomicU64,
    answer: Mutex<HandlerAnswer>,
    answered: Condvar,
}

#[derive(Default)]
struct HandlerAnswer {
    /// All that was taken up before this many questions is recorded.
    done: u64,
    /// The thread has ended, with this error if that was the reason.
    gone: bool,
    error: Option<io::Error>,
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> TrackerError {
    move |source| TrackerError { tracker: Tracker::UffdWp, action, source }
}

impl UffdWp {
    /// A tracker of all RAM, not armed.
    #[must_use]
    pub fn new(ram: Arc<Ram>, settings: &TrackerSettings) -> Self {
        let block = (settings.fault_block.0 / PAGE_SIZE).max(1);
        Self { ram, block, between: None, log: Arc::default(), armed: None }
    }

    /// Enters each fault in `log`.
    #[must_use]
    pub fn with_log(mut self, log: Arc<EventLog>) -> Self {
        self.log = log;
        self
    }

    /// Has `between` called after each lift and before its record, to force interleavings.
    #[doc(hidden)]
    #[must_use]
    pub fn with_delay(mut self, between: impl Fn() + Send + Sync + 'static) -> Self {
        self.between = Some(Arc::new(between));
        self
    }

    /// Takes out the runs of host addresses that a harvest would protect again, for benches. They stay unprotected.
    ///
    /// # Errors
    /// When it is not armed, or its thread is gone.
    #[doc(hidden)]
    pub fn take_runs(&self) -> io::Result<Vec<(u64, u64)>> {
        let Some((shared, _)) = &self.armed else { return Err(io::Error::other("it is not armed")) };
        shared.drain()?;
        let mut taken = Vec::new();
        for region in self.ram.regions() {
            shared.take(
                region,
                |_, _| {},
                |start, end| {
                    taken.push((start, end));
                    Ok(())
                },
            )?;
        }
        Ok(taken)
    }

    /// Protects them again, and does nothing else.
    ///
    /// # Errors
    /// As `UFFDIO_WRITEPROTECT`.
    #[doc(hidden)]
    pub fn protect_runs(&self, runs: &[(u64, u64)]) -> io::Result<()> {
        let Some((shared, _)) = &self.armed else { return Err(io::Error::other("it is not armed")) };
        runs.iter().try_for_each(|&(start, end)| shared.protection.protect(start, end))
    }

    /// Stops the thread. It lifts all protection as it ends.
    fn stop(&mut self) -> io::Result<()> {
        let Some((shared, thread)) = self.armed.take() else { return Ok(()) };
        shared.stop.store(true, Ordering::Release);
        shared.ring();
        // A panic of the thread has lifted all protection too.
        let _ = thread.join();
        shared.answer().error.take().map_or(Ok(()), Err)
    }
}

impl Drop for UffdWp {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl UffdShared {
    fn answer(&self) -> MutexGuard<'_, HandlerAnswer> {
        // A panic elsewhere leaves plain data behind.
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // A full socket rings as well.
        let _ = (&self.bell).write(&[1]);
    }

    /// Waits until every fault that the thread took up before now is lifted and recorded.
    fn drain(&self) -> io::Result<()> {
        // A write that is done was lifted before it, and that raised the flag: lowered again, it is recorded.
        if !self.busy.load(Ordering::Acquire) {
            return Ok(());
        }
        let question = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.ring();
        let mut answer = self.answer();
        while answer.done < question {
            if answer.gone {
                let error = answer.error.take();
                return Err(
                    error.unwrap_or_else(|| io::Error::other("the thread that handles faults is gone"))
                );
            }
            answer = self.answered.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Lifts the block around the fault, then records it.
    fn handle(&self, fault: &WriteFault) -> io::Result<()> {
        let address = fault.address;
        let within = |r: &&Region| (r.host_address..r.host_address + r.pages * PAGE_SIZE).contains(&address);
        let Some(region) = self.ram.regions().iter().find(within) else {
            return Err(io::Error::other(format!("a fault at {address:#x}, outside of guest memory")));
        };
        let page = (address - region.host_address) / PAGE_SIZE;
        let first = page - page % self.block;
        let end = (first + self.block).min(region.pages);
        self.protection
            .lift(region.host_address + first * PAGE_SIZE, region.host_address + end * PAGE_SIZE)?;
        self.log.enter(Cause::Fault, fault.taken, Some(fault.thread));
        if let Some(between) = &self.between {
            between();
        }
        let (mut page, end) = (region.first_page + first, region.first_page + end);
        while page < end {
            let (bit, ones) = (page % 64, (64 - page % 64).min(end - page));
            let mask = (u64::MAX >> (64 - ones)) << bit;
            self.written[word(page)].fetch_or(mask, Ordering::AcqRel);
            page += ones;
        }
        Ok(())
    }

    /// The thread.
    fn serve(&self, bell: &mut UnixStream) -> io::Result<()> {
        let mut events = EventBuffer::new(FAULTS);
        let mut rings = [0; 64];
        loop {
            self.busy.store(true, Ordering::SeqCst);
            let asked = self.asked.load(Ordering::Acquire);
            self.protection.take_faults(&mut events, |fault| self.handle(fault))?;
            let mut answer = self.answer();
            if answer.done < asked {
                answer.done = asked;
                self.answered.notify_all();
            }
            drop(answer);
            self.busy.store(false, Ordering::Release);
            if self.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            let mut ready = [
                PollFd::new(self.protection.descriptor(), PollFlags::POLLIN),
                PollFd::new(bell.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if ready[1].any() == Some(true) {
                let _ = bell.read(&mut rings);
            }
        }
    }

    /// Takes out what was recorded of a region: gives each word of it to `words`, with its first page, and each run of
    /// host addresses to `runs`.
    fn take(
        &self,
        region: &Region,
        mut words: impl FnMut(u64, u64),
        mut runs: impl FnMut(u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let address = |page: u64| region.host_address + (page - region.first_page) * PAGE_SIZE;
        // A run that goes on over words, `[start, end)`.
        let mut run = (0, 0);
        for first in (region.first_page..region.first_page + region.pages).step_by(64) {
            let written = &self.written[word(first)];
            if written.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = written.swap(0, Ordering::AcqRel);
            words(first, bits);
            while bits != 0 {
                let skip = u64::from(bits.trailing_zeros());
                let ones = u64::from((bits >> skip).trailing_ones());
                bits &= !((u64::MAX >> (64 - ones)) << skip);
                let start = first + skip;
                if run.1 != start {
                    if run.0 != run.1 {
                        runs(address(run.0), address(run.1))?;
                    }
                    run.0 = start;
                }
                run.1 = start + ones;
            }
        }
        if run.0 == run.1 { Ok(()) } else { runs(address(run.0), address(run.1)) }
    }
}

/// The word of a page.
fn word(page: u64) -> usize {
    // The bitmap that it points into was made for all pages.
    usize::try_from(page / 64).unwrap_or(usize::MAX)
}

/// Lifts all protection when the thread ends, in whatever way, so that no vCPU waits for it.
struct Leave(Arc<UffdShared>);

impl Drop for Leave {
    fn drop(&mut self) {
        let released = self.0.protection.release();
        let mut answer = self.0.answer();
        answer.gone = true;
        if let (Err(error), None) = (released, &answer.error) {
            answer.error = Some(error);
        }
        drop(answer);
        self.0.answered.notify_all();
    }
}

impl DirtyTracker for UffdWp {
    fn arm(&mut self) -> Result<(), TrackerError> {
        let protect = failed("write-protect guest memory");
        self.stop().map_err(&protect)?;
        let start = failed("start the thread that handles faults");
        let (bell, mut hears) = UnixStream::pair().map_err(&start)?;
        bell.set_nonblocking(true).and_then(|()| hears.set_nonblocking(true)).map_err(&start)?;
        let words = self.ram.pages().div_ceil(64);
        let written: Vec<AtomicU64> =
            zeroed(words, "a dirty bitmap").map_err(TrackerError::no_memory(Tracker::UffdWp))?;
        // The first touch of each page is a fault, and would be on the way of the guest's first writes.
        written.iter().step_by(512).for_each(|word| word.store(0, Ordering::Relaxed));
        let shared = Arc::new(UffdShared {
            ram: Arc::clone(&self.ram),
            block: self.block,
            written,
            between: self.between.clone(),
            log: Arc::clone(&self.log),
            bell,
            stop: AtomicBool::new(false),
            busy: AtomicBool::new(true),
            asked: AtomicU64::new(0),
            answer: Mutex::default(),
            answered: Condvar::new(),
            // A vCPU may fault from here on; the thread follows, and if it cannot, this is dropped.
            protection: WriteProtection::new(Faults::Wait, self.ram.host_ranges()).map_err(protect)?,
        });
        let leave = Leave(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("faults".into())
            .spawn(move || {
                let served = leave.0.serve(&mut hears);
                leave.0.answer().error = served.err();
            })
            .map_err(start)?;
        self.armed = Some((shared, thread));
        Ok(())
    }

    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(), TrackerError> {
        let Some((shared, _)) = &self.armed else {
            return Err(failed("harvest")(io::Error::other("it is not armed")));
        };
        shared.drain().map_err(failed("wait for faults to be handled"))?;
        for region in self.ram.regions() {
            let protect = |start, end| shared.protection.protect(start, end);
            shared
                .take(region, |first, bits| dirty.insert_words(first, &[bits]), protect)
                .map_err(failed("write-protect pages again"))?;
        }
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        self.stop().map_err(failed("lift the write-protection"))
    }
}

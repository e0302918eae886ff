//! Which pages the guest wrote: the trait of all trackers, and the set that they fill.
//!
//! A tracker is armed before the first page is read. Each harvest adds the pages written since the one before to a
//! [`PageSet`] and re-arms them; the engine then reads the pages. The order matters: a page is re-armed before it
//! is read, so that a write during the read is found by the next harvest.
//!
//! A reader's duties, which some trackers rely on: it counts every page as dirty when it arms, announces each read with
//! [`DirtyTracker::before_read`], and reads what was reported in some round, if not in the next. A tracker may report a
//! page that was not written, or twice; it may not leave out one that was.

mod available;
mod kvm_bitmap;
mod kvm_manual;
mod kvm_ring;
mod logged;
mod uffd_async;
mod uffd_wp;

use std::io;
use std::sync::Arc;

use migbench_scenarios::cell::{Cell, Tracker};

use crate::sys::memory::NoMemory;
use crate::vm::page_set::PageSet;
use crate::vm::{Vm, logging};
pub use available::{Unavailable, available};
pub use kvm_bitmap::KvmBitmap;
pub use kvm_manual::KvmManual;
pub use kvm_ring::KvmRing;
pub use logged::Logged;
pub use uffd_async::UffdAsync;
pub use uffd_wp::UffdWp;

/// Why a tracker failed.
#[derive(Debug, thiserror::Error)]
#[error("the tracker {tracker} could not {action}: {source}")]
pub struct TrackerError {
    /// Which.
    pub tracker: Tracker,
    /// What it was doing.
    pub action: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl TrackerError {
    /// There is no memory for the tracker.
    fn no_memory(tracker: Tracker) -> impl Fn(NoMemory) -> Self {
        move |error| Self { tracker, action: "be set up", source: error.into() }
    }
}

/// Finds written pages.
pub trait DirtyTracker: Send {
    /// Starts to track. Writes from its return on are found.
    ///
    /// # Errors
    /// See [`TrackerError`].
    fn arm(&mut self) -> Result<(), TrackerError>;

    /// Adds to `dirty` all pages written since the last harvest (or since arming), without taking any out.
    /// Allocates nothing. With the guest paused it is the last word: no write is left unreported.
    ///
    /// # Errors
    /// See [`TrackerError`].
    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(), TrackerError>;

    /// Whether [`Self::before_read`] does anything, so that nobody times what is nothing.
    fn re_arms_lazily(&self) -> bool {
        false
    }

    /// Called right before `count` pages from `first` are read. A tracker that harvests without re-arming re-arms
    /// these pages here; others do nothing.
    ///
    /// # Errors
    /// See [`TrackerError`].
    fn before_read(&mut self, first: u64, count: u64) -> Result<(), TrackerError> {
        let _ = (first, count);
        Ok(())
    }

    /// Stops tracking; the guest runs at full speed again.
    ///
    /// # Errors
    /// See [`TrackerError`].
    fn disarm(&mut self) -> Result<(), TrackerError>;
}

/// The tracker of a cell for its guest, which was booted for that cell.
///
/// # Errors
/// When the guest was made for another tracker, or there is no memory for this one.
pub fn tracker(cell: &Cell, vm: &Vm) -> Result<Box<dyn DirtyTracker>, TrackerError> {
    let (machine, settings) = (vm.machine(), &cell.tracker_settings);
    let source = || io::Error::other("the guest was made for another tracker");
    let other = || TrackerError { tracker: cell.tracker, action: "be set up", source: source() };
    if machine.logging() != logging(cell.tracker, settings) {
        return Err(other());
    }
    Ok(match cell.tracker {
        Tracker::KvmBitmap => Box::new(KvmBitmap::new(Arc::clone(machine))?),
        Tracker::KvmManual => Box::new(KvmManual::new(Arc::clone(machine), settings)?),
        Tracker::KvmRing => Box::new(KvmRing::new(vm.rings().map(Arc::clone).ok_or_else(other)?)),
        Tracker::UffdWp => {
            let tracker = UffdWp::new(Arc::clone(vm.ram()), settings);
            Box::new(tracker.with_log(Arc::clone(vm.events())))
        }
        Tracker::UffdAsync => Box::new(UffdAsync::new(Arc::clone(vm.ram()), settings)?),
    })
}

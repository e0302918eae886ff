//! Which pages the guest wrote: the trait of all trackers, and the set that they fill.
//!
//! A tracker is armed before the first page is read. Each harvest adds the pages written since the one before to a
//! [`DirtySet`] and re-arms them; the engine then reads the pages. The order matters: a page is re-armed before it
//! is read, so that a write during the read is found by the next harvest.

mod kvm_bitmap;
mod set;

use std::io;
use std::sync::Arc;

use migbench_scenarios::cell::Tracker;

use crate::sys::machine::Machine;
pub use kvm_bitmap::KvmBitmap;
pub use set::DirtySet;

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
    fn harvest(&mut self, dirty: &mut DirtySet) -> Result<(), TrackerError>;

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

/// The tracker of that name for a guest.
#[must_use]
pub fn tracker(which: Tracker, machine: &Arc<Machine>) -> Box<dyn DirtyTracker> {
    match which {
        Tracker::KvmBitmap => Box::new(KvmBitmap::new(Arc::clone(machine))),
    }
}

//! Engines: the pre-copy loop, one round of it, what is sent of a page, when it stops, what slows a guest that writes too fast.

pub mod planted_cost;
pub mod policy;
pub mod precopy;
pub mod round;
pub mod staging;
pub mod stop;
pub mod throttle;

use std::ops::AddAssign;

use self::staging::Send;
use crate::dirty::TrackerError;
use crate::guest::GuestError;
use crate::sys::memory::NoMemory;
use crate::sys::ram::RamError;
use crate::wire::link::LinkError;

/// Why a migration stopped on the source's side.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The tracker.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// Guest memory.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// No memory to work in.
    #[error(transparent)]
    Memory(#[from] NoMemory),
    /// The guest, which would not pause.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// Page sends by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// Whole pages.
    pub full: u64,
    /// Zero pages sent as marks.
    pub zero: u64,
    /// Deltas.
    pub delta: u64,
    /// Identical to what the destination holds: not sent.
    pub unchanged: u64,
    /// Delta tried, no smaller than the page; counted in `full` too.
    pub overflow: u64,
    /// Encoded bytes of the deltas.
    pub delta_bytes: u64,
}

impl PageCounts {
    /// Counts a page of which that was sent.
    pub const fn add(&mut self, send: Send) {
        match send {
            Send::Nothing => self.unchanged += 1,
            Send::Zero => self.zero += 1,
            Send::Whole(_) => self.full += 1,
            Send::Encoded(bytes) => {
                self.delta += 1;
                self.delta_bytes += bytes as u64;
            }
            Send::Overflow => {
                self.overflow += 1;
                self.full += 1;
            }
        }
    }

    /// Pages looked at.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.full + self.zero + self.delta + self.unchanged
    }
}

impl AddAssign for PageCounts {
    fn add_assign(&mut self, other: Self) {
        self.full += other.full;
        self.zero += other.zero;
        self.delta += other.delta;
        self.unchanged += other.unchanged;
        self.overflow += other.overflow;
        self.delta_bytes += other.delta_bytes;
    }
}

//! Bytes by what they were for. A sender adds to it for every frame that it has written; the two nodes' sums
//! together are the `traffic` of a record.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// Bytes written to a socket, our headers included. What belongs to no page in particular (the header of a
/// frame of pages and the head of its payload, 44 bytes for each batch) counts as control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Whole pages and their entries.
    pub full: u64,
    /// Entries of zero pages.
    pub zero: u64,
    /// Encoded pages and their entries.
    pub delta: u64,
    /// Frames of CPU state.
    pub state: u64,
    /// Everything else.
    pub control: u64,
}

impl Traffic {
    /// All bytes.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.full + self.zero + self.delta + self.state + self.control
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.full += other.full;
        self.zero += other.zero;
        self.delta += other.delta;
        self.state += other.state;
        self.control += other.control;
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

//! The programs that guests run, as state machines over a part of guest memory: they own what they keep there, and check
//! all of it. The guest compiles these same files, so they use `core` only, and the host tests them over a plain buffer.
//!
//! A working set has one part for each vCPU, or, shared, [`crate::abi::MAX_PARTS`] of them that vCPUs take turns on, under
//! locks; a program does not see the difference. Each part has a state of the program beside its memory, in memory of the
//! guest as well: what the two say of each other is how a page that arrives stale after a migration is found.

pub mod analytics;
pub mod gc;
pub mod kv;
mod ledger;
pub mod log;
pub mod matmul;
pub mod page_cache;
pub mod parametric;
#[cfg(all(test, not(guest)))]
mod settings_tests;
pub mod sort;
#[cfg(all(test, not(guest)))]
mod store_trials;
pub mod stream;
pub mod sweep;
#[cfg(all(test, not(guest)))]
mod trials;

use crate::abi::{Params, WorkloadStage};

pub use analytics::Analytics;
pub use gc::Gc;
pub use kv::Kv;
pub use log::Log;
pub use matmul::Matmul;
pub use page_cache::PageCache;
pub use parametric::Parametric;
pub use sort::Sort;
pub use stream::Stream;
pub use sweep::{Guestperf, Memstress, XbzrleDoc};

/// Where a program runs.
#[derive(Debug, Clone, Copy)]
pub struct PartContext<'a> {
    /// The guest's parameters.
    pub params: &'a Params,
    /// Which part.
    pub part: u64,
    /// Number of its first page in the whole working set.
    pub first_page: u64,
}

/// What one operation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Its type: the place of its name in [`crate::abi::operation_names`].
    pub operation: usize,
    /// Pages written, one that was written twice in a row counted once.
    pub page_writes: u64,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// `abi::BAD_*`.
    pub reason: u32,
    /// Offset in the part's memory of the first wrong byte, or 0 where no single place is wrong.
    pub offset: u64,
    /// For [`crate::abi::BAD_WRITES`] and [`crate::abi::BAD_STATE`]: what was found.
    pub found: u64,
    /// And what was expected.
    pub expected: u64,
}

impl Wrong {
    /// The byte at `offset` is not what it must be.
    #[must_use]
    pub const fn content(offset: u64) -> Self {
        Self { reason: crate::abi::BAD_CONTENT, offset, found: 0, expected: 0 }
    }

    /// Word `at` of memory is `found` and must be `expected`.
    #[must_use]
    pub const fn word(at: usize, found: u64, expected: u64) -> Self {
        let byte = (found ^ expected).trailing_zeros() / 8;
        Self { reason: crate::abi::BAD_CONTENT, offset: at as u64 * 8 + byte as u64, found, expected }
    }

    /// Near `offset`, memory says `found` where the program's state says `expected`.
    #[must_use]
    pub const fn state(offset: u64, found: u64, expected: u64) -> Self {
        Self { reason: crate::abi::BAD_STATE, offset, found, expected }
    }
}

impl WorkloadStage {
    /// Of `things` in a part of `words` words, spread over all of it: how many the operations of this stage go to.
    const fn share(&self, things: u64, words: usize) -> u64 {
        let pages = words as u64 / 512;
        if self.pages >= pages {
            return things;
        }
        let share = things * self.pages / pages;
        if share == 0 { 1 } else { share }
    }
}

/// A program.
///
/// Its memory is all its own: no word of it changes but by the program, and [`Self::check`] covers every bit.
pub trait Program: Sized {
    /// What its memory is made of: whole pages, or 8-byte words of them.
    type MemoryUnit: 'static;

    /// Fills `memory`, which may hold anything, and makes the state for it.
    fn start(place: &PartContext<'_>, memory: &mut [Self::MemoryUnit]) -> Self;

    /// One operation: about 2 to 20 us of work, so that timing it costs little and blackout is seen sharply. Longer
    /// work is cut into many.
    fn operate(&mut self, stage: &WorkloadStage, memory: &mut [Self::MemoryUnit]) -> Done;

    /// Compares state and memory, between two operations.
    ///
    /// # Errors
    /// The first thing that is wrong.
    fn check(&self, memory: &[Self::MemoryUnit]) -> Result<(), Wrong>;
}

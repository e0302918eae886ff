//! What the source remembers of the pages that the destination holds: copies, to encode changes against, or digests, to leave out what
//! did not change. A page enters when it is sent, from the bytes that are sent.

mod bounded;
mod digest;
mod shadow;

use std::fmt;

use crate::codec::Page;

pub use bounded::Bounded;
pub use digest::Digests;
pub use shadow::Shadow;

/// What a cache did, and what it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CacheCounts {
    /// Dirty pages that were sent before and were remembered.
    pub hits: u64,
    /// Those that were not any more.
    pub misses: u64,
    /// Pages that were forgotten for others.
    pub evictions: u64,
    /// Bytes of memory that it asked for.
    pub bytes: u64,
}

/// Room for a copy.
pub struct Room<'a> {
    /// The copy.
    pub page: &'a mut Page,
    /// Whether it holds zeros; else what is left of another page.
    pub zeros: bool,
}

/// Copies of pages, as the destination holds them.
pub trait PageCache: fmt::Debug {
    /// The copy of a page, if there is one.
    fn get(&mut self, page: u64) -> Option<&mut Page>;

    /// The same, of a page that is not about to be sent.
    fn peek(&self, page: u64) -> Option<&Page>;

    /// Room for the copy of a page that has none and is about to be sent, for the `first` time or again; none where it is not worth
    /// the copy of another.
    fn admit(&mut self, page: u64, first: bool) -> Option<Room<'_>>;

    /// A page without a copy was sent as a mark for zeros.
    fn was_zero(&mut self, _page: u64) {}

    /// The copy of a page that was just got spared no byte: it had to be sent whole.
    fn was_of_no_use(&mut self, _page: u64) {}

    /// Another round starts.
    fn round_starts(&mut self) {}

    /// Copies that were given up.
    fn evictions(&self) -> u64 {
        0
    }

    /// Bytes of memory that it asked for.
    fn bytes(&self) -> u64;
}

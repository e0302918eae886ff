//! The payload of a frame of pages. At the source pages are collected in a [`PageBatch`]; at the destination
//! [`PageRecords`] verifies a payload as a whole and then hands out its records in order.
//!
//! ```text
//! 0..4   number of entries
//! 4..8   bytes of data behind the entries
//! 8..    entries, eight bytes each
//! ...    encoded pages, in the order of their entries, without padding
//! ...    whole pages, in the order of their entries; these may come behind the payload instead
//! ```
//!
//! An entry is one little-endian word: page number in bits 0..44, a count in bits 44..60, the kind in bits
//! 60..64. A run of zero pages (kind 1, the count is pages) has no data, a run of whole pages (kind 2) has
//! 4,096 bytes for each, an encoded page (kind 3, the count is bytes) has its encoding. Runs keep the
//! entries few: memory that was never touched costs eight bytes for each 65,535 pages. Page numbers ascend within a batch, so
//! that no batch names more pages than the guest has.

mod batch;
mod records;

pub use batch::PageBatch;
pub use records::{PageRecord, PageRecords};

/// Bytes of one guest page.
pub(super) const PAGE: usize = 4096;

/// The most entries of a batch: it goes out before long, and a receiver does no more work for one frame.
const MAX_ENTRIES: usize = 1024;

/// Bytes of the largest frame of pages that a [`PageBatch`] makes, header included.
pub const LARGEST_FRAME: u64 =
    (super::frame::HEADER + HEAD + MAX_ENTRIES * ENTRY + PageBatch::PAGES * PAGE) as u64;

/// Bytes in front of the entries.
const HEAD: usize = 8;
/// Bytes of an entry.
const ENTRY: usize = 8;

const PFN_BITS: u32 = 44;
const COUNT_BITS: u32 = 16;

/// The largest count of an entry.
const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;
/// One more than the largest page number: guests of up to 64 PiB.
const PFN_END: u64 = 1 << PFN_BITS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum EntryKind {
    Zero = 1,
    Full = 2,
    Delta = 3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PagesEntry {
    kind: EntryKind,
    first: u64,
    count: u64,
}

impl PagesEntry {
    /// One more than the last page that it names.
    const fn end(self) -> u64 {
        match self.kind {
            EntryKind::Zero | EntryKind::Full => self.first + self.count,
            EntryKind::Delta => self.first + 1,
        }
    }

    fn to_bytes(self) -> [u8; ENTRY] {
        debug_assert!(self.first < PFN_END && self.count <= MAX_COUNT);
        let word =
            self.first | self.count << PFN_BITS | u64::from(self.kind as u8) << (PFN_BITS + COUNT_BITS);
        word.to_le_bytes()
    }

    /// The entry, or the kind that is not known.
    fn from_bytes(bytes: [u8; ENTRY]) -> Result<Self, u8> {
        let word = u64::from_le_bytes(bytes);
        let kind = match bytes[7] >> 4 {
            1 => EntryKind::Zero,
            2 => EntryKind::Full,
            3 => EntryKind::Delta,
            unknown => return Err(unknown),
        };
        Ok(Self { kind, first: word & (PFN_END - 1), count: word >> PFN_BITS & MAX_COUNT })
    }
}

#[cfg(test)]
mod tests;

//! Describes pages at the source: a list of entries, and where the bytes of each lie in the sender's own memory. The bytes stay
//! there until the socket takes them, so a page is copied once; what a batch sends is the list of its extents, not one stretch
//! of memory.

use std::ops::Range;

use super::{ENTRY, EntryKind, HEAD, MAX_COUNT, MAX_ENTRIES, PAGE, PFN_END, PagesEntry};
use crate::wire::Traffic;
use crate::wire::frame::HEADER;

/// Bytes that go out as they lie.
#[derive(Debug)]
struct Extent {
    /// Which of the slices that are given when the batch is sent.
    place: usize,
    bytes: Range<usize>,
}

/// A reusable batch of pages: what will be the payload of one frame.
#[derive(Debug)]
pub struct PageBatch {
    /// Head and entries, as they go out.
    meta: Vec<u8>,
    /// The last entry, which may still grow.
    last: Option<PagesEntry>,
    extents: Vec<Extent>,
    pages: u64,
    traffic: Traffic,
}

impl PageBatch {
    /// Whole pages of a batch at most: 256 KiB stay in a core's second-level cache between the copy out of the guest,
    /// the checksum and the copy into the socket, and cost four system calls a mebibyte.
    pub const PAGES: usize = 64;

    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        let mut batch = Self {
            meta: Vec::with_capacity(HEAD + MAX_ENTRIES * ENTRY),
            last: None,
            extents: Vec::with_capacity(Self::PAGES),
            pages: 0,
            traffic: Traffic::default(),
        };
        batch.clear();
        batch
    }

    /// Entries that it still has room for. A page needs one at most.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_ENTRIES - (self.meta.len() - HEAD) / ENTRY
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Whether it has pages that are not zero.
    #[must_use]
    pub fn has_data(&self) -> bool {
        !self.extents.is_empty()
    }

    /// Pages that the batch will send, of any kind.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// What the frame of this batch will put on the wire.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Forgets all pages. Memory is kept.
    pub fn clear(&mut self) {
        self.meta.clear();
        self.meta.resize(HEAD, 0);
        self.last = None;
        self.extents.clear();
        self.pages = 0;
        self.traffic = Traffic { control: (HEADER + HEAD) as u64, ..Traffic::default() };
    }

    /// Adds a zero page. Its number must be larger than that of every page before, as for all that is added.
    ///
    /// # Panics
    /// If there is no [room](Self::room), or the number has more than 44 bits, as for all that is added.
    pub fn push_zero(&mut self, pfn: u64) {
        self.add_run(EntryKind::Zero, pfn);
        self.set_head();
    }

    /// Adds a whole page, which lies in slice `place` from byte `start` on.
    ///
    /// # Panics
    /// As [`Self::push_zero`].
    pub fn push_whole(&mut self, pfn: u64, place: usize, start: usize) {
        self.add_run(EntryKind::Full, pfn);
        self.traffic.full += PAGE as u64;
        self.add_extent(place, start..start + PAGE);
    }

    /// Adds an encoded page, which lies in slice `place`.
    ///
    /// # Panics
    /// As [`Self::push_zero`]; also if the encoding is empty or no shorter than a page.
    pub fn push_encoded(&mut self, pfn: u64, place: usize, bytes: Range<usize>) {
        let length = bytes.len();
        assert!((1..PAGE).contains(&length), "an encoded page of {length} bytes");
        self.add_entry(PagesEntry { kind: EntryKind::Delta, first: pfn, count: length as u64 });
        self.pages += 1;
        self.traffic.delta += length as u64;
        self.add_extent(place, bytes);
    }

    /// The payload, part by part, whose extents lie in `data`. `buffer` is only where the list is kept.
    ///
    /// # Panics
    /// If an extent lies in none of `data`.
    pub(in crate::wire) fn parts<'a>(&'a self, data: &[&'a [u8]], buffer: &mut Vec<&'a [u8]>) {
        buffer.clear();
        buffer.push(&self.meta);
        buffer.extend(self.extents.iter().map(|extent| &data[extent.place][extent.bytes.clone()]));
    }

    fn add_extent(&mut self, place: usize, bytes: Range<usize>) {
        match self.extents.last_mut() {
            Some(last) if last.place == place && last.bytes.end == bytes.start => last.bytes.end = bytes.end,
            _ => self.extents.push(Extent { place, bytes }),
        }
        self.set_head();
    }

    /// Adds a page to the run that it continues, or starts one.
    fn add_run(&mut self, kind: EntryKind, pfn: u64) {
        self.pages += 1;
        match &mut self.last {
            Some(last) if last.kind == kind && last.first + last.count == pfn && last.count < MAX_COUNT => {
                last.count += 1;
                let (bytes, at) = (last.to_bytes(), self.meta.len() - ENTRY);
                self.meta[at..].copy_from_slice(&bytes);
            }
            _ => self.add_entry(PagesEntry { kind, first: pfn, count: 1 }),
        }
    }

    fn add_entry(&mut self, entry: PagesEntry) {
        assert!(entry.first < PFN_END, "page number {} has more than 44 bits", entry.first);
        assert!(self.room() > 0, "a batch has at most {MAX_ENTRIES} entries");
        debug_assert!(self.last.is_none_or(|last| last.end() <= entry.first), "page numbers must ascend");
        self.meta.extend_from_slice(&entry.to_bytes());
        self.last = Some(entry);
        let bytes = match entry.kind {
            EntryKind::Zero => &mut self.traffic.zero,
            EntryKind::Full => &mut self.traffic.full,
            EntryKind::Delta => &mut self.traffic.delta,
        };
        *bytes += ENTRY as u64;
    }

    /// Brings the head of the payload up to date, after entry and data of a page were added.
    fn set_head(&mut self) {
        let entries = (self.meta.len() - HEAD) / ENTRY;
        let data = self.traffic.total() - self.traffic.control - (entries * ENTRY) as u64;
        // Both are bounded by entries and their counts, far below 4 GiB.
        let word = entries as u64 | data << 32;
        self.meta[..HEAD].copy_from_slice(&word.to_le_bytes());
    }
}

impl Default for PageBatch {
    fn default() -> Self {
        Self::new()
    }
}

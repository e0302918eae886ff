//! Describes pages at the source: a list of entries. The bytes of the pages lie in the sender's own memory or the guest's, and
//! stay there until the socket takes them, so a page is copied once or not at all.

use super::{ENTRY, EntryKind, HEAD, MAX_COUNT, MAX_ENTRIES, PAGE, PFN_END, PagesEntry};
use crate::wire::Traffic;
use crate::wire::frame::HEADER;

/// A reusable batch of pages: what will be the payload of one frame.
#[derive(Debug)]
pub struct PageBatch {
    /// Head and entries, as they go out.
    meta: Vec<u8>,
    /// The last entry, which may still grow.
    last: Option<PagesEntry>,
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
            pages: 0,
            traffic: Traffic::default(),
        };
        batch.clear();
        batch
    }

    /// Entries that it still has room for. A page needs one at most.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_ENTRIES - self.entries()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Whether it has pages that are not zero.
    #[must_use]
    pub const fn has_data(&self) -> bool {
        self.traffic.full + self.traffic.delta > 0
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
        self.pages = 0;
        self.traffic = Traffic { control: (HEADER + HEAD) as u64, ..Traffic::default() };
    }

    /// Adds a zero page. Its number must be larger than that of every page before, as for all that is added.
    ///
    /// # Panics
    /// If there is no [room](Self::room), or the number has more than 44 bits, as for all that is added.
    pub fn push_zero(&mut self, pfn: u64) {
        self.add_run(EntryKind::Zero, pfn);
    }

    /// Adds a whole page.
    ///
    /// # Panics
    /// As [`Self::push_zero`].
    pub fn push_whole(&mut self, pfn: u64) {
        self.add_run(EntryKind::Full, pfn);
        self.traffic.full += PAGE as u64;
    }

    /// Adds an encoded page of `length` bytes.
    ///
    /// # Panics
    /// As [`Self::push_zero`]; also if the encoding is empty or no shorter than a page.
    pub fn push_encoded(&mut self, pfn: u64, length: usize) {
        assert!((1..PAGE).contains(&length), "an encoded page of {length} bytes");
        self.add_entry(PagesEntry { kind: EntryKind::Delta, first: pfn, count: length as u64 });
        self.pages += 1;
        self.traffic.delta += length as u64;
    }

    /// Head and entries, for a payload in which so many bytes of data follow: all encoded pages, and all whole ones unless they
    /// come behind the payload.
    pub(in crate::wire) fn meta(&mut self, data: usize) -> &[u8] {
        // Both are bounded by entries and their counts, far below 4 GiB.
        let word = self.entries() as u64 | (data as u64) << 32;
        self.meta[..HEAD].copy_from_slice(&word.to_le_bytes());
        &self.meta
    }

    /// Bytes of encoded and of whole pages.
    pub(in crate::wire) const fn data(&self) -> u64 {
        self.traffic.total() - self.traffic.control - (self.entries() * ENTRY) as u64
    }

    const fn entries(&self) -> usize {
        (self.meta.len() - HEAD) / ENTRY
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
}

impl Default for PageBatch {
    fn default() -> Self {
        Self::new()
    }
}

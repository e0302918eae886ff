//! Collects pages at the source. The engine copies a run of guest pages straight into the batch's slots
//! ([`PageBatch::stage`]), looks at these private copies, and settles each one: sent whole, as zero, as an
//! encoding, or not at all. A page that is sent whole stays in its slot until the socket takes it from there,
//! so it is copied once; what a batch sends is the list of its extents, not one stretch of memory.

use std::ops::Range;

use super::{ENTRY, Entry, EntryKind, HEAD, MAX_COUNT, PFN_END};
use crate::codec::{Outcome, PAGE, Page, xbzrle};
use crate::wire::Traffic;
use crate::wire::frame::HEADER;

/// Entries of a batch at most, so that a batch of small encodings still goes out before long.
const MAX_ENTRIES: usize = 1024;

/// Room behind the largest encoding that keeps the encoder on its fast path.
const SLACK: usize = 64;

/// The batch has no room: send it, clear it, and push again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the batch of pages is full")]
pub struct BatchFull;

/// A stretch of data that goes out as it lies.
enum Extent {
    Slots(Range<usize>),
    Deltas(Range<usize>),
}

/// A reusable batch of pages, and afterwards the payload of one frame.
pub struct PageBatch {
    slots: Box<[Page]>,
    /// Slots before this hold pages to be sent.
    kept: usize,
    /// Slots in this range are staged and not settled.
    staged: Range<usize>,
    deltas: Box<[u8]>,
    deltas_used: usize,
    /// Head and entries, as they go out.
    meta: Vec<u8>,
    /// The last entry, which may still grow.
    last: Option<Entry>,
    extents: Vec<Extent>,
    pages: u64,
    traffic: Traffic,
}

impl PageBatch {
    /// Pages that suit a batch: 256 KiB stay in a core's second-level cache between the copy into the batch,
    /// the checksum and the copy into the socket, and cost four system calls a mebibyte.
    pub const PAGES: usize = 64;

    /// A batch with room for `pages` whole pages (at least one).
    #[must_use]
    pub fn new(pages: usize) -> Self {
        let pages = pages.max(1);
        Self {
            slots: vec![[0; PAGE]; pages].into_boxed_slice(),
            kept: 0,
            staged: 0..0,
            deltas: vec![0; pages * PAGE + SLACK].into_boxed_slice(),
            deltas_used: 0,
            meta: vec![0; HEAD],
            last: None,
            extents: Vec::with_capacity(pages),
            pages: 0,
            traffic: Traffic { control: (HEADER + HEAD) as u64, ..Traffic::default() },
        }
    }

    /// Pages that can be staged now. Send and clear the batch when it is zero.
    #[must_use]
    pub fn room(&self) -> usize {
        let start = if self.staged.is_empty() { self.kept } else { self.staged.end };
        let slots = self.slots.len() - start;
        let entries = MAX_ENTRIES - (self.meta.len() - HEAD) / ENTRY;
        let deltas = (self.deltas.len() - SLACK - self.deltas_used) / PAGE;
        // Each staged page may still need an entry and the room of an encoding.
        slots.min(entries.min(deltas).saturating_sub(self.staged.len()))
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last.is_none()
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

    /// Forgets all pages, settled or not. Memory is kept.
    pub fn clear(&mut self) {
        self.kept = 0;
        self.staged = 0..0;
        self.deltas_used = 0;
        self.meta.clear();
        self.meta.resize(HEAD, 0);
        self.last = None;
        self.extents.clear();
        self.pages = 0;
        self.traffic = Traffic { control: (HEADER + HEAD) as u64, ..Traffic::default() };
    }

    /// Slots for the next `count` pages, or for as many as there is [room](Self::room) for: copy guest memory
    /// into them, then settle each one in order. Their contents before that are unspecified.
    ///
    /// # Panics
    /// If pages staged before are not settled.
    pub fn stage(&mut self, count: usize) -> &mut [Page] {
        assert!(self.staged.is_empty(), "staged pages must be settled before more are staged");
        let count = count.min(self.room());
        self.staged = self.kept..self.kept + count;
        &mut self.slots[self.staged.clone()]
    }

    /// Pages that are staged and not settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.staged.len()
    }

    /// The staged page that is to be settled next.
    ///
    /// # Panics
    /// If no page is staged; the same holds for everything that settles one.
    #[must_use]
    pub fn staged(&self) -> &Page {
        assert!(!self.staged.is_empty(), "no page is staged");
        &self.slots[self.staged.start]
    }

    /// Settles the next staged page: nothing is sent of it.
    pub fn settle_skip(&mut self) {
        self.settle();
    }

    /// Settles the next staged page: it is zero, and is page `pfn` of the guest.
    pub fn settle_zero(&mut self, pfn: u64) {
        self.settle();
        self.add_zero(pfn);
    }

    /// Settles the next staged page: it is sent as it is.
    pub fn settle_full(&mut self, pfn: u64) {
        let slot = self.settle();
        self.kept = slot + 1;
        self.add_run(EntryKind::Full, pfn);
        self.traffic.full += PAGE as u64;
        match self.extents.last_mut() {
            Some(Extent::Slots(range)) if range.end == slot => range.end += 1,
            _ => self.extents.push(Extent::Slots(slot..slot + 1)),
        }
        self.set_head();
    }

    /// Settles the next staged page by what `encode` makes of it. `encode` gets the page and room for its
    /// encoding; [`Outcome::Overflow`] sends the page whole, [`Outcome::Unchanged`] sends nothing.
    pub fn settle_delta(&mut self, pfn: u64, encode: impl FnOnce(&Page, &mut [u8]) -> Outcome) -> Outcome {
        assert!(!self.staged.is_empty(), "no page is staged");
        let outcome = encode(&self.slots[self.staged.start], &mut self.deltas[self.deltas_used..]);
        match outcome {
            Outcome::Unchanged => self.settle_skip(),
            Outcome::Overflow => self.settle_full(pfn),
            Outcome::Delta(length) => {
                self.settle();
                self.add_delta(pfn, length);
            }
        }
        outcome
    }

    /// Adds a zero page.
    ///
    /// # Errors
    /// If the batch is full.
    pub fn push_zero(&mut self, pfn: u64) -> Result<(), BatchFull> {
        if self.room() == 0 {
            return Err(BatchFull);
        }
        self.add_zero(pfn);
        Ok(())
    }

    /// Adds a copy of a page.
    ///
    /// # Errors
    /// If the batch is full.
    pub fn push_full(&mut self, pfn: u64, page: &Page) -> Result<(), BatchFull> {
        self.stage(1).first_mut().ok_or(BatchFull)?.copy_from_slice(page);
        self.settle_full(pfn);
        Ok(())
    }

    /// Adds a copy of an encoded page.
    ///
    /// # Errors
    /// If the batch is full.
    ///
    /// # Panics
    /// If the encoding is empty or longer than [`xbzrle::MAX_ENCODED`].
    pub fn push_delta(&mut self, pfn: u64, delta: &[u8]) -> Result<(), BatchFull> {
        if self.room() == 0 {
            return Err(BatchFull);
        }
        self.deltas[self.deltas_used..][..delta.len()].copy_from_slice(delta);
        self.add_delta(pfn, delta.len());
        Ok(())
    }

    /// The payload, part by part. `buffer` is only where the list is kept.
    pub(in crate::wire) fn parts<'a>(&'a self, buffer: &mut Vec<&'a [u8]>) {
        debug_assert!(self.staged.is_empty(), "a batch is sent with pages that are not settled");
        buffer.clear();
        buffer.push(&self.meta);
        buffer.extend(self.extents.iter().map(|extent| match extent {
            Extent::Slots(range) => self.slots[range.clone()].as_flattened(),
            Extent::Deltas(range) => &self.deltas[range.clone()],
        }));
    }

    /// The payload in one piece, for tests and benches of the decoder.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        let mut parts = Vec::new();
        self.parts(&mut parts);
        parts.concat()
    }

    fn settle(&mut self) -> usize {
        assert!(!self.staged.is_empty(), "no page is staged");
        self.staged.start += 1;
        self.staged.start - 1
    }

    fn add_zero(&mut self, pfn: u64) {
        self.add_run(EntryKind::Zero, pfn);
        self.set_head();
    }

    fn add_delta(&mut self, pfn: u64, length: usize) {
        assert!((1..=xbzrle::MAX_ENCODED).contains(&length), "an encoded page of {length} bytes");
        self.add_entry(Entry { kind: EntryKind::Delta, first: pfn, count: length as u64 });
        self.pages += 1;
        self.traffic.delta += length as u64;
        let start = self.deltas_used;
        self.deltas_used += length;
        match self.extents.last_mut() {
            Some(Extent::Deltas(range)) => range.end += length,
            _ => self.extents.push(Extent::Deltas(start..start + length)),
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
            _ => self.add_entry(Entry { kind, first: pfn, count: 1 }),
        }
    }

    fn add_entry(&mut self, entry: Entry) {
        assert!(entry.first < PFN_END, "page number {} has more than 44 bits", entry.first);
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
        // Both are bounded by the batch's own memory, which is far below 4 GiB.
        let word = entries as u64 | data << 32;
        self.meta[..HEAD].copy_from_slice(&word.to_le_bytes());
    }
}

impl Default for PageBatch {
    fn default() -> Self {
        Self::new(Self::PAGES)
    }
}

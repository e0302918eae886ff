//! Where pages wait for the link: private copies of guest pages, and what was made of them. The engine copies a batch of pages
//! here, looks at these copies alone, and a page that is sent whole stays where it lies until the socket takes it.

use std::hint::black_box;

use crate::codec::{PAGE, Page};
use crate::sys::memory::{NoMemory, zeroed};
use crate::sys::ram::{Ram, RamError};
use crate::wire::link::{LinkError, Sender};
use crate::wire::pages::PageBatch;

/// Room behind the largest encoding that keeps encoders on their fast path.
const SLACK: usize = 64;
/// The slices that a batch's extents lie in.
const PAGES: usize = 0;
const ENCODED: usize = 1;

/// What is sent of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// Nothing: the destination has it.
    Nothing,
    /// A mark that it is zero.
    Zero,
    /// All of it.
    Whole,
    /// So many bytes of encoding.
    Encoded(usize),
}

/// Memory for the pages of one batch.
pub struct Staging {
    pages: Box<[Page]>,
    encoded: Box<[u8]>,
    encoded_used: usize,
    /// Runs of guest pages whose copies lie in `pages`, one after the other.
    runs: Vec<(u64, u64)>,
    batch: PageBatch,
}

impl Staging {
    /// Room for [`PageBatch::PAGES`] pages.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new() -> Result<Self, NoMemory> {
        const WHAT: &str = "a batch of pages";
        let mut pages: Vec<Page> = zeroed(PageBatch::PAGES as u64, WHAT)?;
        let mut encoded: Vec<u8> = zeroed((PageBatch::PAGES * PAGE + SLACK) as u64, WHAT)?;
        // Their first touch is a fault each, and would be in the pause where nothing is sent before it.
        pages.iter_mut().for_each(|page| page[0] = black_box(0));
        encoded.iter_mut().step_by(PAGE).for_each(|byte| *byte = black_box(0));
        Ok(Self {
            pages: pages.into_boxed_slice(),
            encoded: encoded.into_boxed_slice(),
            encoded_used: 0,
            runs: Vec::with_capacity(PageBatch::PAGES),
            batch: PageBatch::new(),
        })
    }

    /// Pages that can be added to the batch.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.batch.room().min(self.pages.len()) as u64
    }

    /// Takes runs of guest pages, of no more pages than there is [room](Self::room) for, in place of those before. They must
    /// lie behind all that were added to the batch.
    pub fn take_runs(&mut self, mut next: impl FnMut(u64) -> Option<(u64, u64)>) {
        let mut room = self.room();
        self.runs.clear();
        while let Some((first, count)) = (room > 0).then(|| next(room)).flatten() {
            self.runs.push((first, count));
            room -= count;
        }
    }

    /// The runs that were taken.
    #[must_use]
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }

    /// Makes a private copy of every page that was taken.
    ///
    /// # Errors
    /// [`RamError::Range`].
    pub fn copy(&mut self, ram: &Ram) -> Result<(), RamError> {
        let mut slots = &mut self.pages[..];
        for &(first, count) in &self.runs {
            let (run, rest) =
                slots.split_at_mut(usize::try_from(count).unwrap_or(usize::MAX).min(slots.len()));
            ram.read(first, run.as_flattened_mut())?;
            slots = rest;
        }
        Ok(())
    }

    /// Adds to the batch what `decide` says of each page that was copied, in order. It gets the page's number, the copy, and
    /// room for its encoding.
    pub fn add(&mut self, mut decide: impl FnMut(u64, &Page, &mut [u8]) -> Send) {
        let pages = self.runs.iter().flat_map(|&(first, count)| first..first + count);
        for ((slot, content), page) in self.pages.iter().enumerate().zip(pages) {
            let start = self.encoded_used;
            match decide(page, content, &mut self.encoded[start..]) {
                Send::Nothing => {}
                Send::Zero => self.batch.push_zero(page),
                Send::Whole => self.batch.push_whole(page, PAGES, slot * PAGE),
                Send::Encoded(length) => {
                    self.encoded_used += length;
                    self.batch.push_encoded(page, ENCODED, start..self.encoded_used);
                }
            }
        }
    }

    /// Whether the batch must leave before more pages are copied: some of it lies here, or it has no room for as many again.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        self.batch.has_data() || self.batch.room() < self.pages.len()
    }

    /// Sends the batch and starts another.
    ///
    /// # Errors
    /// See [`Sender::send_pages`].
    pub fn send(&mut self, link: &mut Sender) -> Result<(), LinkError> {
        let sent = link.send_pages(&self.batch, &[self.pages.as_flattened(), &self.encoded]);
        self.batch.clear();
        self.encoded_used = 0;
        sent
    }
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging").field("batch", &self.batch).finish_non_exhaustive()
    }
}

//! Where pages wait for the link. Of pages that a policy remembers the engine makes private copies here and looks at these alone; a
//! page that is sent whole stays where it lies until the socket takes it. Pages of which nothing is remembered are not even copied:
//! they leave from guest memory. They were armed again before, so that one that is torn on its way is dirty, and is sent again.

use std::hint::black_box;

use migbench_scenarios::cell::Checksum;

use super::EngineError;
use crate::codec::{PAGE, Page, SLACK};
use crate::sys::memory::{NoMemory, zeroed};
use crate::sys::ram::{Ram, RamError};
use crate::sys::socket::Part;
use crate::wire::link::Sender;
use crate::wire::pages::PageBatch;

/// Stretches of memory that the whole pages of a batch lie in, at most: one for each, and one more over the hole in RAM.
const STRETCHES: usize = PageBatch::PAGES + 1;

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
    /// Runs of the batch's whole pages: places in `pages`, or pages of the guest where these leave from there.
    whole: Vec<(u64, u64)>,
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
            whole: Vec::with_capacity(PageBatch::PAGES),
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
        for ((slot, content), page) in (0..).zip(&self.pages).zip(pages) {
            let send = decide(page, content, &mut self.encoded[self.encoded_used..]);
            push(&mut self.batch, &mut self.whole, page, send, slot);
            self.encoded_used += if let Send::Encoded(length) = send { length } else { 0 };
        }
    }

    /// Adds to the batch what `decide` says of each page that was taken, in order. They leave from guest memory.
    ///
    /// # Errors
    /// As `decide`.
    pub fn add_in_place(
        &mut self,
        mut decide: impl FnMut(u64) -> Result<Send, RamError>,
    ) -> Result<(), RamError> {
        for page in self.runs.iter().flat_map(|&(first, count)| first..first + count) {
            push(&mut self.batch, &mut self.whole, page, decide(page)?, page);
        }
        Ok(())
    }

    /// Whether the batch must leave before more pages are copied: some of it lies here, or it has no room for as many again.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        self.batch.has_data() || self.batch.room() < self.pages.len()
    }

    /// Sends the batch and starts another. Its whole pages lie in `ram`, or here.
    ///
    /// # Errors
    /// Those of the link, and [`RamError::Range`].
    pub fn send(&mut self, link: &mut Sender, ram: Option<&Ram>) -> Result<(), EngineError> {
        let encoded = &self.encoded[..self.encoded_used];
        let bytes = |page: u64| usize::try_from(page).unwrap_or(usize::MAX).saturating_mul(PAGE);
        let staged =
            |&(first, count): &(u64, u64)| &self.pages.as_flattened()[bytes(first)..bytes(first + count)];
        let sent = if link.checksum() == Checksum::Pages {
            let mut whole = [&[][..]; STRETCHES];
            self.whole.iter().zip(&mut whole).for_each(|(run, part)| *part = staged(run));
            link.send_pages(&mut self.batch, encoded, &whole[..self.whole.len()], &[])
        } else {
            let mut behind = [Part::Private(&[]); STRETCHES];
            let mut used = 0;
            for run in &self.whole {
                match ram {
                    None => {
                        behind[used] = Part::Private(staged(run));
                        used += 1;
                    }
                    Some(ram) => {
                        for slice in ram.slices(run.0, run.1) {
                            behind[used] = Part::Guest(slice?);
                            used += 1;
                        }
                    }
                }
            }
            link.send_pages(&mut self.batch, encoded, &[], &behind[..used])
        };
        self.batch.clear();
        self.whole.clear();
        self.encoded_used = 0;
        Ok(sent?)
    }
}

/// Adds a page, which lies in place `place` if it is sent whole.
fn push(batch: &mut PageBatch, whole: &mut Vec<(u64, u64)>, page: u64, send: Send, place: u64) {
    match send {
        Send::Nothing => {}
        Send::Zero => batch.push_zero(page),
        Send::Encoded(length) => batch.push_encoded(page, length),
        Send::Whole => {
            batch.push_whole(page);
            match whole.last_mut() {
                Some((first, count)) if *first + *count == place => *count += 1,
                _ => whole.push((place, 1)),
            }
        }
    }
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging").field("batch", &self.batch).finish_non_exhaustive()
    }
}

//! A batch of pages on its way to the link: what was decided of each, encodings, copies, and where whole pages lie until the socket
//! takes them.

use std::hint::black_box;

use migbench_scenarios::cell::Checksum;

use super::policy::PagePolicy;
use super::{EngineError, PageCounts};
use crate::codec::{PAGE, Page, SLACK};
use crate::sys::memory::{NoMemory, PageMemory, zeroed};
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
    /// All of it, from where it lies.
    Whole(Place),
    /// So many bytes of encoding.
    Encoded(usize),
    /// The copy that was made of it, since its encoding would be no smaller.
    Overflow,
}

/// Where a page waits for the link.
#[derive(Debug)]
pub struct Slot<'a> {
    /// For a copy of it.
    pub copy: &'a mut Page,
    /// For its encoding.
    pub encoding: &'a mut [u8],
}

/// Where a page lies that is sent whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In guest memory.
    Live,
    /// In the copy that was made of it.
    Copied,
}

/// Whole pages that follow each other: in guest memory by their numbers, of copies by that of the first page in the batch.
#[derive(Debug, Clone, Copy)]
struct Run {
    place: Place,
    first: u64,
    count: u64,
}

/// Memory for the pages of one batch.
pub struct Staging {
    copies: PageMemory,
    encoded: Box<[u8]>,
    encoded_used: usize,
    /// Runs of guest pages that were taken.
    runs: Vec<(u64, u64)>,
    /// Of whole pages of the batch.
    whole: Vec<Run>,
    batch: PageBatch,
}

impl Staging {
    /// Room for [`PageBatch::PAGES`] pages.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new() -> Result<Self, NoMemory> {
        const WHAT: &str = "a batch of pages";
        let mut copies = PageMemory::map(PageBatch::PAGES as u64, WHAT)?;
        let mut encoded: Vec<u8> = zeroed((PageBatch::PAGES * PAGE + SLACK) as u64, WHAT)?;
        // Their first touch is a fault each, and would be in the pause where nothing is sent before it.
        copies.iter_mut().for_each(|page| page[0] = black_box(0));
        encoded.iter_mut().step_by(PAGE).for_each(|byte| *byte = black_box(0));
        Ok(Self {
            copies,
            encoded: encoded.into_boxed_slice(),
            encoded_used: 0,
            runs: Vec::with_capacity(PageBatch::PAGES),
            whole: Vec::with_capacity(PageBatch::PAGES),
            batch: PageBatch::new(),
        })
    }

    /// Where a page may lie for a moment while no batch is in the making.
    pub fn slot(&mut self) -> Slot<'_> {
        debug_assert_eq!(self.encoded_used, 0);
        Slot { copy: &mut self.copies[0], encoding: &mut self.encoded }
    }

    /// Pages that can be added to the batch.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.batch.room().min(self.copies.len()) as u64
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

    /// Adds to the batch what `policy` says of each page of `ram` that was taken, in order.
    ///
    /// # Errors
    /// [`RamError::Range`].
    pub fn add(
        &mut self,
        ram: &Ram,
        policy: &mut dyn PagePolicy,
        tally: &mut PageCounts,
    ) -> Result<(), RamError> {
        let pages = self.runs.iter().flat_map(|&(first, count)| first..first + count);
        for ((slot, copy), page) in (0..).zip(&mut self.copies[..]).zip(pages) {
            let encoding = &mut self.encoded[self.encoded_used..];
            let send = policy.decide(page, ram.live(page)?, Slot { copy, encoding });
            tally.add(send);
            let (place, first) = match send {
                Send::Nothing => continue,
                Send::Zero => {
                    self.batch.push_zero(page);
                    continue;
                }
                Send::Encoded(length) => {
                    self.batch.push_encoded(page, length);
                    self.encoded_used += length;
                    continue;
                }
                Send::Whole(Place::Live) => (Place::Live, page),
                Send::Whole(Place::Copied) | Send::Overflow => (Place::Copied, slot),
            };
            self.batch.push_whole(page);
            match self.whole.last_mut() {
                Some(run) if run.place == place && run.first + run.count == first => run.count += 1,
                _ => self.whole.push(Run { place, first, count: 1 }),
            }
        }
        Ok(())
    }

    /// Whether the batch must leave before more pages are taken: some of it lies here, or it has no room for as many again.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        self.batch.has_data() || self.batch.room() < self.copies.len()
    }

    /// Sends the batch and starts another. Its whole pages lie in `ram`, or here.
    ///
    /// # Errors
    /// Those of the link, and [`RamError::Range`].
    pub fn send(&mut self, link: &mut Sender, ram: &Ram) -> Result<(), EngineError> {
        let encoded = &self.encoded[..self.encoded_used];
        let copies = &self.copies;
        let private = |run: &Run| -> &[u8] {
            let at = |page: u64| usize::try_from(page).unwrap_or(usize::MAX);
            copies[at(run.first)..at(run.first + run.count)].as_flattened()
        };
        let sent = if link.checksum() == Checksum::Pages {
            let mut whole = [&[][..]; STRETCHES];
            self.whole.iter().zip(&mut whole).for_each(|(run, part)| *part = private(run));
            link.send_pages(&mut self.batch, encoded, &whole[..self.whole.len()], &[])
        } else {
            let mut behind = [Part::Private(&[]); STRETCHES];
            let mut used = 0;
            for run in &self.whole {
                if run.place != Place::Live {
                    behind[used] = Part::Private(private(run));
                    used += 1;
                    continue;
                }
                for slice in ram.slices(run.first, run.count) {
                    behind[used] = Part::Guest(slice?);
                    used += 1;
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

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging").field("batch", &self.batch).finish_non_exhaustive()
    }
}

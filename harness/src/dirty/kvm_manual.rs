//! KVM's dirty bitmap with clearing by hand: `KVM_GET_DIRTY_LOG` only copies, and `KVM_CLEAR_DIRTY_LOG` clears and
//! write-protects the pages of a chunk right before the first of them is read (api.rst, 4.117).
//!
//! The later a page is protected, the fewer of its writes are faults and the fewer reports come for pages that are
//! about to be sent anyway. What is cleared is what was reported and not read yet, so that no report is lost.

use std::io;
use std::sync::Arc;

use migbench_scenarios::cell::{Tracker, TrackerSettings};
use migbench_workloads::units::PAGE_SIZE;

use super::{DirtyTracker, TrackerError};
use crate::sys::kvm::{clear_dirty_log, get_dirty_log};
use crate::sys::machine::Machine;
use crate::sys::memory::zeroed;
use crate::sys::ram::Region;
use crate::vm::page_set::PageSet;

/// The tracker `kvm-manual`.
#[derive(Debug)]
pub struct KvmManual {
    machine: Arc<Machine>,
    initially_set: bool,
    /// Pages that are cleared in one call.
    chunk: u64,
    /// Where the kernel puts a slot's bitmap; as long as the largest slot needs.
    words: Vec<u64>,
    /// Pages that were reported, or count as dirty from the start, and are not cleared yet.
    reported: Vec<u64>,
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> TrackerError {
    move |source| TrackerError { tracker: Tracker::KvmManual, action, source }
}

/// The word of a page.
fn word(page: u64) -> usize {
    // The bitmap that it points into was made for all pages.
    usize::try_from(page / 64).unwrap_or(usize::MAX)
}

impl KvmManual {
    /// A tracker of all RAM, not armed. The machine must log with clearing by hand.
    ///
    /// # Errors
    /// When there is no memory for the bitmaps.
    pub fn new(machine: Arc<Machine>, settings: &TrackerSettings) -> Result<Self, TrackerError> {
        let largest = machine.ram().regions().iter().map(|r| r.pages).max().unwrap_or(0);
        let bitmap = |pages: u64| {
            zeroed(pages.div_ceil(64), "a dirty bitmap").map_err(TrackerError::no_memory(Tracker::KvmManual))
        };
        let (words, reported) = (bitmap(largest)?, bitmap(machine.ram().pages())?);
        let chunk = (settings.clear_chunk.0 / PAGE_SIZE).next_multiple_of(64).max(64);
        Ok(Self { machine, initially_set: settings.initially_set, chunk, words, reported })
    }

    /// Clears what was reported of pages `[start, end)` of a region, which are on bounds of 64 pages.
    fn clear(&mut self, region: &Region, start: u64, end: u64) -> io::Result<()> {
        let base = word(region.first_page);
        let words = &mut self.reported[base + word(start)..base + word(end + 63)];
        let Some(first) = words.iter().position(|&w| w != 0) else { return Ok(()) };
        let last = words.iter().rposition(|&w| w != 0).unwrap_or(first);
        let words = &mut words[first..=last];
        clear_dirty_log(self.machine.vm(), region.slot, region.pages, start + 64 * first as u64, words)?;
        words.fill(0);
        Ok(())
    }
}

impl DirtyTracker for KvmManual {
    fn arm(&mut self) -> Result<(), TrackerError> {
        // A slot that starts to be logged has a bitmap of zeros and is protected, or one of ones and is not.
        self.reported.fill(if self.initially_set { u64::MAX } else { 0 });
        self.machine.set_logging(true).map_err(failed("turn dirty logging on"))
    }

    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(), TrackerError> {
        for region in self.machine.ram().regions() {
            get_dirty_log(self.machine.vm(), region.slot, region.pages, &mut self.words)
                .map_err(failed("read the dirty log"))?;
            let found = &self.words[..word(region.pages + 63)];
            dirty.insert_words(region.first_page, found);
            for (reported, found) in self.reported[word(region.first_page)..].iter_mut().zip(found) {
                *reported |= found;
            }
        }
        Ok(())
    }

    fn re_arms_lazily(&self) -> bool {
        true
    }

    fn before_read(&mut self, first: u64, count: u64) -> Result<(), TrackerError> {
        // Indexed, since clearing borrows all of the tracker; and this is called for each run of pages.
        for index in 0..self.machine.ram().regions().len() {
            let region = self.machine.ram().regions()[index];
            let end = (first + count).min(region.first_page + region.pages);
            let mut page = first.max(region.first_page);
            while page < end {
                let start = (page - region.first_page) / self.chunk * self.chunk;
                let next = (start + self.chunk).min(region.pages);
                let asked = word(page)..=word((region.first_page + next).min(end) - 1);
                if self.reported[asked].iter().any(|&w| w != 0) {
                    self.clear(&region, start, next).map_err(failed("clear the dirty log"))?;
                }
                page = region.first_page + next;
            }
        }
        Ok(())
    }

    fn disarm(&mut self) -> Result<(), TrackerError> {
        self.machine.set_logging(false).map_err(failed("turn dirty logging off"))
    }
}

//! A copy of every page.

use super::{PageCache, Room};
use crate::codec::{PAGE, Page};
use crate::sys::memory::{NoMemory, PageMemory};
use crate::vm::page_set::PageSet;

/// What memory is wanted for.
const WHAT: &str = "a copy of what the destination holds";

/// As much memory as the guest has, taken from the kernel as pages are first sent, unless all of it was asked for.
#[derive(Debug)]
pub struct Shadow {
    /// Every page as the destination holds it. Both start as zeros.
    pages: PageMemory,
    /// Those that were sent.
    held: PageSet,
}

impl Shadow {
    /// For a guest of `pages` pages; `prefault` takes its memory now, as huge pages where the host has some.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(pages: u64, prefault: bool) -> Result<Self, NoMemory> {
        let mut memory = PageMemory::map(pages, WHAT)?;
        if prefault {
            memory.prefault(WHAT)?;
        }
        Ok(Self { pages: memory, held: PageSet::new(pages)? })
    }

    // Page numbers come from the guest's own bitmap, of the same length.
    fn at(&mut self, page: u64) -> &mut Page {
        &mut self.pages[usize::try_from(page).unwrap_or(usize::MAX)]
    }
}

impl PageCache for Shadow {
    fn get(&mut self, page: u64) -> Option<&mut Page> {
        self.held.contains(page).then(|| self.at(page))
    }

    fn peek(&self, page: u64) -> Option<&Page> {
        self.held.contains(page).then(|| &self.pages[usize::try_from(page).unwrap_or(usize::MAX)])
    }

    fn admit(&mut self, page: u64, _first: bool) -> Option<Room<'_>> {
        self.held.insert(page);
        Some(Room { page: self.at(page), zeros: true })
    }

    fn was_zero(&mut self, page: u64) {
        self.held.insert(page);
    }

    fn bytes(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }
}

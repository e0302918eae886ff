//! What a program writes, kept account of word by word: a sum over all of its memory, by which the check finds any word
//! that changed otherwise, and the pages that operations wrote.
//!
//! The sum is an incremental hash (AdHash: Bellare and Micciancio, EUROCRYPT 1997): each word goes in as a mix of its
//! place and its value, and a store takes the old term out. It lies in the program's state, so that a page of memory which
//! arrives stale, though sound in itself, disagrees with it; so does a stale state.

use super::Wrong;
use crate::random::{GOLDEN, mix};

/// Words of a page.
pub const PAGE: usize = 512;

/// Pages that one operation may write without one being counted twice.
pub const KEPT: usize = 128;

const NONE: u32 = u32::MAX;

/// The account of one part's memory.
#[derive(Debug, Clone)]
pub struct Ledger {
    sum: u64,
    pages: u64,
    /// The page of the last store.
    last: u32,
    now: Set,
    before: Set,
}

/// A few page numbers.
#[derive(Debug, Clone, Copy)]
struct Set {
    count: usize,
    pages: [u32; KEPT],
}

impl Set {
    const EMPTY: Self = Self { count: 0, pages: [NONE; KEPT] };

    fn holds(&self, page: u32) -> bool {
        self.pages[..self.count].contains(&page)
    }

    fn push(&mut self, page: u32) {
        if let Some(place) = self.pages.get_mut(self.count) {
            *place = page;
            self.count += 1;
        }
    }
}

impl Ledger {
    /// The account of `memory` as it is.
    #[must_use]
    pub fn new(memory: &[u64]) -> Self {
        Self { sum: sum(memory), pages: 0, last: NONE, now: Set::EMPTY, before: Set::EMPTY }
    }

    /// Begins an operation that counts each page it writes once.
    pub fn begin(&mut self) {
        (self.pages, self.last) = (0, NONE);
        self.now.count = 0;
        self.before.count = 0;
    }

    /// Begins an operation that goes on where the one before stopped: a page that both write is counted with the first.
    pub fn follow(&mut self) {
        (self.pages, self.last) = (0, NONE);
        core::mem::swap(&mut self.now, &mut self.before);
        self.now.count = 0;
    }

    /// Stores `value` in word `at`.
    #[inline(always)]
    pub fn set(&mut self, memory: &mut [u64], at: usize, value: u64) {
        let page = (at / PAGE) as u32;
        if page != self.last {
            self.turn(page);
        }
        let place = &mut memory[at];
        self.sum = self.sum.wrapping_sub(term(at, *place)).wrapping_add(term(at, value));
        *place = value;
    }

    #[inline(never)]
    fn turn(&mut self, page: u32) {
        self.last = page;
        if self.now.holds(page) {
            return;
        }
        self.now.push(page);
        if !self.before.holds(page) {
            self.pages += 1;
        }
    }

    /// Pages that the operation has written.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Compares memory with the account.
    ///
    /// # Errors
    /// Some word is not what was stored in it last; the account cannot say which.
    pub fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        let found = sum(memory);
        if found == self.sum { Ok(()) } else { Err(Wrong::state(0, found, self.sum)) }
    }
}

fn sum(memory: &[u64]) -> u64 {
    memory.iter().enumerate().fold(0, |sum, (at, &value)| sum.wrapping_add(term(at, value)))
}

/// A bijection of the value for each place, so that no change of one word goes unseen.
#[inline(always)]
const fn term(at: usize, value: u64) -> u64 {
    mix(value ^ (at as u64 + 1).wrapping_mul(GOLDEN))
}

#[cfg(all(test, not(guest)))]
mod tests {
    use super::*;

    #[test]
    fn pages_count_once_in_an_operation_and_once_in_a_run() {
        let mut memory = vec![7; 8 * PAGE];
        let mut ledger = Ledger::new(&memory);
        ledger.begin();
        for at in [0, PAGE, 1, 2 * PAGE, PAGE + 5] {
            ledger.set(&mut memory, at, 9);
        }
        assert_eq!(ledger.pages(), 3);
        ledger.follow();
        for at in [2 * PAGE + 1, 3 * PAGE, 2 * PAGE + 2] {
            ledger.set(&mut memory, at, 9);
        }
        assert_eq!(ledger.pages(), 1, "page 2 was counted before");
        ledger.follow();
        ledger.set(&mut memory, 0, 9);
        assert_eq!(ledger.pages(), 1, "page 0 was written too long ago to be of one run");
        ledger.begin();
        ledger.set(&mut memory, 1, 9);
        assert_eq!(ledger.pages(), 1);
        ledger.check(&memory).unwrap();
        memory.swap(0, PAGE * 2 + 3);
        ledger.check(&memory).unwrap_err();
    }
}

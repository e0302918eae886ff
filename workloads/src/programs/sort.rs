//! Quicksort (Hoare 1962) of all of memory as one array of 8-byte keys, again and again: when the array is in order, every
//! key is replaced by a new one, and the order of those that go is verified.
//!
//! An operation compares about a thousand keys; a partition under a page is sorted in one. The keys that must be there are
//! known by the sum of their hashes, and what is finished must be in order: a key that is lost, and a page that is stale,
//! break one or the other.

use super::{Done, PartContext, Program, Wrong};
use crate::abi::WorkloadStage;
use crate::random::{GOLDEN, mix};

/// Comparisons and swaps.
pub const SORT: usize = 0;
/// New keys.
pub const REKEY: usize = 1;

/// Words of a page.
const PAGE: usize = 512;
/// Keys that an operation compares.
const KEYS: usize = 1024;
/// A range of that many keys is sorted at once.
const LEAF: usize = 512;
/// Ranges that wait. The smaller half always goes first, so that each is at most half of the one below it.
const DEPTH: usize = 48;

/// Keys `low..high`, that are to be sorted.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: usize,
    high: usize,
}

/// A range being cut in two: keys from `low` to `left` are at most the pivot, those from `right` to `high` at least.
#[derive(Debug, Clone, Copy)]
struct Cut {
    range: Range,
    left: usize,
    right: usize,
    pivot: u64,
}

/// State over one part.
#[derive(Debug, Clone)]
pub struct Sort {
    seed: u64,
    /// Which sort, from 0.
    round: u64,
    /// Sum of the hashes of this round's keys in memory.
    hash: u64,
    /// While keys are replaced: the same of the last round's.
    old: u64,
    /// While keys are replaced: the key that comes next; else all of them.
    keyed: usize,
    /// The last old key, in whose order the next must be.
    last: u64,
    /// Where the sort was found wrong, plus 1.
    wrong: u64,
    /// Ranges that wait.
    waiting: [Range; DEPTH],
    depth: usize,
    cut: Option<Cut>,
    /// The pages last written from below and from above.
    pages: [usize; 2],
}

impl Sort {
    /// Key `at` of a round.
    fn key(&self, round: u64, at: usize) -> u64 {
        mix(mix(self.seed ^ round.wrapping_mul(GOLDEN)) ^ (at as u64).wrapping_mul(GOLDEN))
    }

    fn push(&mut self, range: Range) {
        if range.high - range.low > 1 {
            self.waiting[self.depth] = range;
            self.depth += 1;
        }
    }

    /// Notes a write to key `at`, and says how many pages that makes: none where one is written on.
    fn writes(&mut self, side: usize, at: usize) -> u64 {
        let page = at / PAGE;
        if self.pages.contains(&page) {
            return 0;
        }
        self.pages[side] = page;
        1
    }

    /// Sorts for about [`KEYS`] comparisons. Gives the pages written.
    fn sort(&mut self, memory: &mut [u64]) -> u64 {
        let mut page_writes = 0;
        let mut left = KEYS;
        while left > 0 {
            if let Some(cut) = self.cut {
                page_writes += self.partition(cut, &mut left, memory);
            } else if self.depth > 0 {
                self.depth -= 1;
                let range = self.waiting[self.depth];
                let keys = &mut memory[range.low..range.high];
                if keys.len() <= LEAF {
                    keys.sort_unstable();
                    page_writes += self.writes(0, range.low) + self.writes(1, range.high - 1);
                    // Comparisons of n keys, roughly: n log n.
                    left = left.saturating_sub(keys.len() * 8);
                } else {
                    let middle = [keys[0], keys[keys.len() / 2], keys[keys.len() - 1]];
                    let pivot = median(middle);
                    self.cut = Some(Cut { range, left: range.low, right: range.high, pivot });
                }
            } else {
                break;
            }
        }
        page_writes
    }

    /// Goes on with a cut, for at most `left` comparisons.
    fn partition(&mut self, mut cut: Cut, left: &mut usize, memory: &mut [u64]) -> u64 {
        let mut page_writes = 0;
        let before = cut.right - cut.left;
        let enough = before.saturating_sub(*left);
        while cut.right - cut.left > enough {
            if memory[cut.left] < cut.pivot {
                cut.left += 1;
            } else if memory[cut.right - 1] > cut.pivot {
                cut.right -= 1;
            } else if cut.right - cut.left > 1 {
                cut.right -= 1;
                page_writes += self.writes(0, cut.left) + self.writes(1, cut.right);
                memory.swap(cut.left, cut.right);
                cut.left += 1;
            } else {
                // The pivot itself is left: it goes to whichever side is empty.
                if cut.left == cut.range.low {
                    cut.left += 1;
                } else {
                    cut.right -= 1;
                }
            }
        }
        *left = left.saturating_sub((before - (cut.right - cut.left)).max(1));
        self.cut = Some(cut);
        if cut.left == cut.right {
            self.cut = None;
            let (low, high) = (Range { high: cut.left, ..cut.range }, Range { low: cut.left, ..cut.range });
            let low_is_smaller = cut.left - cut.range.low < cut.range.high - cut.left;
            let (smaller, larger) = if low_is_smaller { (low, high) } else { (high, low) };
            self.push(larger);
            self.push(smaller);
        }
        page_writes
    }

    /// Replaces [`KEYS`] keys, and verifies that the sort was one.
    fn rekey(&mut self, memory: &mut [u64]) -> u64 {
        let end = (self.keyed + KEYS).min(memory.len());
        for (at, word) in (self.keyed..).zip(&mut memory[self.keyed..end]) {
            let key = *word;
            if key < self.last && self.wrong == 0 {
                self.wrong = at as u64 + 1;
            }
            self.last = key;
            self.old = self.old.wrapping_sub(mix(key));
            *word = self.key(self.round, at);
            self.hash = self.hash.wrapping_add(mix(*word));
        }
        let page_writes = end.div_ceil(PAGE) - self.keyed / PAGE;
        self.keyed = end;
        if end == memory.len() {
            if self.old != 0 && self.wrong == 0 {
                self.wrong = 1;
            }
            self.push(Range { low: 0, high: end });
        }
        page_writes as u64
    }
}

const fn median([a, b, c]: [u64; 3]) -> u64 {
    if (a <= b) == (b <= c) {
        b
    } else if (b <= a) == (a <= c) {
        a
    } else {
        c
    }
}

impl Program for Sort {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        let mut new = Self {
            seed: mix(place.params.seed ^ (place.part + 1).wrapping_mul(GOLDEN)),
            round: 0,
            hash: 0,
            old: 0,
            keyed: memory.len(),
            last: 0,
            wrong: 0,
            waiting: [Range { low: 0, high: 0 }; DEPTH],
            depth: 0,
            cut: None,
            pages: [usize::MAX; 2],
        };
        for (at, word) in memory.iter_mut().enumerate() {
            *word = new.key(0, at);
            new.hash = new.hash.wrapping_add(mix(*word));
        }
        new.push(Range { low: 0, high: memory.len() });
        new
    }

    #[inline(always)]
    fn operate(&mut self, _: &WorkloadStage, memory: &mut [u64]) -> Done {
        if self.keyed == memory.len() && self.cut.is_none() && self.depth == 0 {
            self.round += 1;
            (self.old, self.hash, self.keyed, self.last) = (self.hash, 0, 0, 0);
            self.pages = [usize::MAX; 2];
        }
        if self.keyed < memory.len() {
            Done { operation: REKEY, page_writes: self.rekey(memory) }
        } else {
            Done { operation: SORT, page_writes: self.sort(memory) }
        }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        if self.wrong != 0 {
            return Err(Wrong::state((self.wrong - 1) * 8, 0, 0));
        }
        let mut hash = 0_u64;
        for &key in memory {
            hash = hash.wrapping_add(mix(key));
        }
        let expected = self.hash.wrapping_add(self.old);
        if hash != expected {
            return Err(Wrong::state(0, hash, expected));
        }
        if self.keyed < memory.len() {
            for (at, &key) in memory[..self.keyed].iter().enumerate() {
                let expected = self.key(self.round, at);
                if key != expected {
                    return Err(Wrong::word(at, key, expected));
                }
            }
            return in_order(memory, self.keyed, memory.len(), self.last).map(|_| ());
        }
        // What waits is in no order, but all of it is between what is below and what is above.
        let (mut at, mut most) = (0, 0);
        while at < memory.len() {
            let Range { low, high } =
                self.unfinished(at).unwrap_or(Range { low: memory.len(), high: memory.len() });
            most = in_order(memory, at, low, most)?;
            let least = most;
            for (at, &key) in memory.iter().enumerate().take(high).skip(low) {
                if key < least {
                    return Err(Wrong::state(at as u64 * 8, key, least));
                }
                most = most.max(key);
            }
            at = high;
        }
        let Some(cut) = self.cut else { return Ok(()) };
        for (at, &key) in memory.iter().enumerate().take(cut.range.high).skip(cut.range.low) {
            if at < cut.left && key > cut.pivot || at >= cut.right && key < cut.pivot {
                return Err(Wrong::state(at as u64 * 8, key, cut.pivot));
            }
        }
        Ok(())
    }
}

impl Sort {
    /// The first unfinished range from `at` on.
    fn unfinished(&self, at: usize) -> Option<Range> {
        let waiting = self.waiting[..self.depth].iter().copied();
        let all = waiting.chain(self.cut.map(|cut| cut.range));
        all.filter(|range| range.low >= at).min_by_key(|range| range.low)
    }
}

/// Whether keys `low..high` ascend, from `most` on. Gives the last of them.
fn in_order(memory: &[u64], low: usize, high: usize, mut most: u64) -> Result<u64, Wrong> {
    for (at, &key) in memory.iter().enumerate().take(high).skip(low) {
        if key < most {
            return Err(Wrong::state(at as u64 * 8, key, most));
        }
        most = key;
    }
    Ok(most)
}

#[cfg(all(test, not(guest)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::programs::trials::{self, Trial, differing};

    proptest! {
        #![proptest_config(trials::few())]

        #[test]
        fn stands_its_trials(trial in trials::trials(1..50, 0..800)) {
            trial.stands::<Sort>()?;
        }
    }

    #[test]
    fn it_sorts_again_and_again() {
        for pages in [1, 2, 33, 130] {
            let mut guest = Trial { pages, ..Trial::small() }.guest::<Sort>();
            for round in 0..3 {
                let mut expected: Vec<u64> =
                    (0..pages * PAGE).map(|at| guest.program.key(round, at)).collect();
                expected.sort_unstable();
                guest.operate_while(|program: &Sort| {
                    program.round < round
                        || program.depth > 0
                        || program.cut.is_some()
                        || program.keyed < pages * PAGE
                });
                assert_eq!((guest.program.round, guest.program.depth), (round, 0));
                assert!(guest.memory == expected, "round {round} of {pages} pages");
                guest.check().unwrap();
            }
            assert!(guest.done.iter().any(|done| done.operation == REKEY));
        }
    }

    #[test]
    fn equal_keys_and_sorted_ones_come_to_an_end() {
        for keys in
            [[7_u64; 5000].to_vec(), (0..5000).collect(), (0..5000).rev().collect(), [1, 2].repeat(2500)]
        {
            let mut guest = Trial { pages: 10, ..Trial::small() }.guest::<Sort>();
            let mut memory = keys.clone();
            guest.program.keyed = memory.len();
            guest.program.waiting[0] = Range { low: 0, high: memory.len() };
            let mut operations = 0;
            while guest.program.depth > 0 || guest.program.cut.is_some() {
                guest.program.sort(&mut memory);
                operations += 1;
                assert!(operations < 500);
            }
            let mut expected = keys;
            expected.sort_unstable();
            assert_eq!(memory, expected);
        }
    }

    /// A page counts once while it is written on, and each page that changes counts.
    #[test]
    fn pages_that_change_are_counted() {
        let mut guest = Trial { pages: 200, ..Trial::small() }.guest::<Sort>();
        let (mut counted, mut changed, mut fresh) = (0, 0, 0);
        let mut last = Vec::new();
        for _ in 0..2000 {
            let before = guest.memory.clone();
            counted += guest.operate().page_writes;
            let now = differing(&before, &guest.memory);
            changed += now.len() as u64;
            fresh += now.iter().filter(|page| !last.contains(*page)).count() as u64;
            last = now;
        }
        assert!(fresh <= counted && counted <= changed, "{fresh} {counted} {changed}");
    }
}

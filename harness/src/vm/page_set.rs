//! A set of pages as a bitmap, filled word by word by trackers and taken out run by run by the engine.

use crate::sys::memory::{NoMemory, zeroed};

/// Pages by dense number. Its memory is fixed from the start.
#[derive(Debug, Clone)]
pub struct PageSet {
    words: Vec<u64>,
    pages: u64,
    /// No bit is set in words before this one.
    first: usize,
}

impl PageSet {
    /// An empty set for a guest of `pages` pages.
    ///
    /// # Errors
    /// When there is no memory for the bitmap.
    pub fn new(pages: u64) -> Result<Self, NoMemory> {
        let words = zeroed(pages.div_ceil(64), "a set of pages")?;
        Ok(Self { first: words.len(), words, pages })
    }

    /// Puts every page in.
    pub fn fill(&mut self) {
        self.words.fill(u64::MAX);
        let rest = self.pages % 64;
        if let Some(last) = self.words.last_mut()
            && rest != 0
        {
            *last = (1 << rest) - 1;
        }
        self.first = 0;
    }

    /// Takes every page out.
    pub fn clear(&mut self) {
        self.words.fill(0);
        self.first = self.words.len();
    }

    /// How many pages are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether no page is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Whether `page` is in it.
    #[must_use]
    pub fn contains(&self, page: u64) -> bool {
        page < self.pages && self.words[Self::place(page)] >> (page % 64) & 1 != 0
    }

    /// Puts one page in.
    ///
    /// # Panics
    /// When the guest has no such page.
    pub fn insert(&mut self, page: u64) {
        assert!(page < self.pages, "page {page} of {}", self.pages);
        let word = Self::place(page);
        self.words[word] |= 1 << (page % 64);
        self.first = self.first.min(word);
    }

    /// Puts `count` pages from `first` in.
    ///
    /// # Panics
    /// When the guest has fewer pages.
    pub fn insert_run(&mut self, first: u64, count: u64) {
        let end = first + count;
        assert!(end <= self.pages, "pages up to {end} of {}", self.pages);
        let mut page = first;
        while page < end {
            let (word, bit) = (Self::place(page), page % 64);
            let ones = (64 - bit).min(end - page);
            self.words[word] |= (u64::MAX >> (64 - ones)) << bit;
            page += ones;
        }
        if count > 0 {
            self.first = self.first.min(Self::place(first));
        }
    }

    /// Moves all pages of `other`, a set of the same guest, into this one.
    ///
    /// # Panics
    /// When `other` is of another size.
    pub fn absorb(&mut self, other: &mut Self) {
        assert_eq!(self.pages, other.pages, "sets of two guests");
        for (ours, theirs) in self.words[other.first..].iter_mut().zip(&mut other.words[other.first..]) {
            *ours |= std::mem::take(theirs);
        }
        self.first = self.first.min(other.first);
        other.first = other.words.len();
    }

    /// Adds the pages of a bitmap whose first bit is page `first`, a multiple of 64.
    ///
    /// # Panics
    /// When the bitmap starts within a word or reaches past the end.
    pub fn insert_words(&mut self, first: u64, bitmap: &[u64]) {
        assert!(first.is_multiple_of(64), "a bitmap that starts at page {first}");
        let start = Self::place(first);
        for (target, word) in self.words[start..start + bitmap.len()].iter_mut().zip(bitmap) {
            *target |= word;
        }
        self.first = self.first.min(start);
    }

    /// Writes pages that are in it into `pages`, in groups of so many that follow each other, evenly spread over it; and gives how many: all
    /// where there is room for them.
    pub fn spread(&self, pages: &mut [u64], group: u64) -> usize {
        let groups = (pages.len() as u64 / group.max(1)).max(1);
        let every = self.len().div_ceil(groups).max(1);
        let (mut seen, mut written) = (0, 0);
        for (first, word) in (0..).step_by(64).zip(&self.words) {
            let mut left = *word;
            while left != 0 {
                if seen % every < group && written < pages.len() {
                    pages[written] = first + u64::from(left.trailing_zeros());
                    written += 1;
                }
                seen += 1;
                left &= left - 1;
            }
        }
        written
    }

    /// Takes out the first run of pages, of at most `most`: its first page and its length.
    pub fn take_run(&mut self, most: u64) -> Option<(u64, u64)> {
        while self.first < self.words.len() && self.words[self.first] == 0 {
            self.first += 1;
        }
        let word = self.words.get(self.first)?;
        let start = self.first as u64 * 64 + u64::from(word.trailing_zeros());
        let mut length = 0;
        while length < most {
            let page = start + length;
            let at = Self::place(page);
            let Some(word) = self.words.get_mut(at) else { break };
            let bit = page % 64;
            let ones = u64::from((*word >> bit).trailing_ones()).min(most - length);
            if ones == 0 {
                break;
            }
            let mask = if ones == 64 { u64::MAX } else { ((1 << ones) - 1) << bit };
            *word &= !mask;
            length += ones;
            if bit + ones < 64 {
                break;
            }
        }
        Some((start, length))
    }

    fn place(page: u64) -> usize {
        // `new` made sure that every page's word has an index.
        usize::try_from(page / 64).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_sample_is_spread_over_all_of_it() {
        let mut set = PageSet::new(1000).unwrap();
        let mut room = [0; 4];
        assert_eq!(set.spread(&mut room, 1), 0);
        set.insert_run(100, 3);
        assert_eq!((set.spread(&mut room, 1), &room[..3]), (3, &[100, 101, 102][..]));
        set.insert_run(500, 5);
        assert_eq!((set.spread(&mut room, 1), room), (4, [100, 102, 501, 503]));
        set.fill();
        assert_eq!((set.spread(&mut room, 1), room), (4, [0, 250, 500, 750]));
        assert_eq!((set.spread(&mut room, 2), room), (4, [0, 1, 500, 501]));
        assert_eq!((set.len(), set.spread(&mut [], 1)), (1000, 0));
    }

    proptest! {
        /// Runs are disjoint, maximal up to the limit, in order, and cover exactly what was put in.
        #[test]
        fn runs_are_what_was_put_in(
            pages in 1_u64..700,
            seeds in prop::collection::vec((any::<u64>(), 1_u64..80), 0..20),
            most in 1_u64..130,
        ) {
            let mut set = PageSet::new(pages).unwrap();
            let mut model = BTreeSet::new();
            for (seed, length) in seeds {
                let run = (seed % pages)..(seed % pages + length).min(pages);
                if seed & 1 << 32 == 0 {
                    run.clone().for_each(|page| set.insert(page));
                } else {
                    let mut other = PageSet::new(pages).unwrap();
                    other.insert_run(run.start, run.end - run.start);
                    set.absorb(&mut other);
                    prop_assert!(other.is_empty() && other.take_run(1).is_none());
                }
                model.extend(run);
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            let mut taken = Vec::new();
            while let Some((first, count)) = set.take_run(most) {
                prop_assert!(count >= 1 && count <= most);
                if count < most {
                    prop_assert!(!model.contains(&(first + count)));
                }
                taken.extend(first..first + count);
            }
            prop_assert_eq!(taken, model.into_iter().collect::<Vec<_>>());
            prop_assert!(set.is_empty());
        }
    }

    #[test]
    fn full_means_each_page_once() {
        for pages in [1, 63, 64, 65, 8192] {
            let mut set = PageSet::new(pages).unwrap();
            set.fill();
            assert_eq!(set.len(), pages);
            assert_eq!(set.take_run(u64::MAX), Some((0, pages)));
            assert_eq!(set.take_run(1), None);
        }
    }

    #[test]
    fn words_go_where_their_region_starts() {
        let mut set = PageSet::new(256).unwrap();
        set.insert_words(128, &[0b101, 1 << 63]);
        assert!(set.contains(128) && set.contains(130) && set.contains(255));
        assert_eq!(set.len(), 3);
    }
}

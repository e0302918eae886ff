//! Copies of some pages. A page has eight places that it may lie in, by its number. Sent for the first time it takes an empty one;
//! sent again, which shows that it is written over and over, also that of the page whose last use is longest ago, if that was
//! before the whole round before this one (a second chance: one round without use is forgiven). Where all eight were of use since, it
//! is not admitted: a working set of four times the cache would otherwise drive out every page right before its turn, and the cache would
//! never hit.

use super::{PageCache, Room};
use crate::codec::{PAGE, Page};
use crate::sys::memory::{NoMemory, PageMemory, zeroed};

/// Places that a page may lie in.
const WAYS: usize = 8;

/// What memory is wanted for.
const WHAT: &str = "a cache of pages";

/// Of a place, what lies there and what it was good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, zerocopy::FromBytes)]
#[repr(C)]
struct Tag {
    /// The number of the page plus one; zero for none.
    page: u64,
    /// The last round in which it was of use, or was admitted because it was sent again; zero for none.
    useful: u32,
    /// The same before the last change of it.
    before: u32,
}

/// A set-associative cache.
#[derive(Debug)]
pub struct Bounded {
    pages: PageMemory,
    tags: Vec<Tag>,
    /// Counted from 1.
    round: u32,
    evictions: u64,
}

impl Bounded {
    /// Of `bytes`, as many whole sets of eight pages as that holds, at least one, for a guest of `pages` pages.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(bytes: u64, pages: u64) -> Result<Self, NoMemory> {
        let ways = WAYS as u64;
        let sets = (bytes / PAGE as u64 / ways).clamp(1, pages.div_ceil(ways).max(1));
        let places = sets * ways;
        Ok(Self {
            pages: PageMemory::map(places, WHAT)?,
            tags: zeroed(places, WHAT)?,
            round: 0,
            evictions: 0,
        })
    }

    /// The first place of the set of a page.
    fn set(&self, page: u64) -> usize {
        let sets = (self.tags.len() / WAYS) as u64;
        usize::try_from(page % sets).unwrap_or(0) * WAYS
    }

    /// The place of a page.
    fn find(&self, page: u64) -> Option<usize> {
        let set = self.set(page);
        let way = self.tags[set..set + WAYS].iter().position(|tag| tag.page == page + 1)?;
        Some(set + way)
    }
}

impl PageCache for Bounded {
    fn get(&mut self, page: u64) -> Option<&mut Page> {
        let place = self.find(page)?;
        let tag = &mut self.tags[place];
        (tag.before, tag.useful) = (tag.useful, self.round);
        Some(&mut self.pages[place])
    }

    fn peek(&self, page: u64) -> Option<&Page> {
        Some(&self.pages[self.find(page)?])
    }

    fn admit(&mut self, page: u64, first: bool) -> Option<Room<'_>> {
        let (set, round) = (self.set(page), self.round);
        let tags = (set..).zip(&self.tags[set..set + WAYS]);
        let given_up = |tag: &Tag| tag.page == 0 || (!first && tag.useful + 1 < round);
        let free = tags.filter(|(_, tag)| given_up(tag)).min_by_key(|(_, tag)| (tag.page != 0, tag.useful));
        let (place, old) = free?;
        let zeros = old.page == 0;
        self.evictions += u64::from(!zeros);
        self.tags[place] = Tag { page: page + 1, useful: if first { 0 } else { round }, before: 0 };
        Some(Room { page: &mut self.pages[place], zeros })
    }

    fn was_of_no_use(&mut self, page: u64) {
        if let Some(place) = self.find(page) {
            self.tags[place].useful = self.tags[place].before;
        }
    }

    fn round_starts(&mut self) {
        self.round += 1;
    }

    fn evictions(&self) -> u64 {
        self.evictions
    }

    fn bytes(&self) -> u64 {
        (self.tags.len() * (PAGE + size_of::<Tag>())) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds in each of which these pages are dirty, in this order: the share of hits in the last. `useless` are sent whole.
    fn rounds(
        cache: &mut Bounded,
        rounds: usize,
        pages: impl Iterator<Item = u64> + Clone,
        useless: impl Fn(u64) -> bool,
    ) -> f64 {
        let mut last = 0.0;
        for _ in 0..rounds {
            cache.round_starts();
            let (mut hits, mut all) = (0_u32, 0_u32);
            for page in pages.clone() {
                all += 1;
                let first = cache.round == 1;
                match cache.get(page) {
                    Some(held) => {
                        assert_eq!(held[..8], page.to_le_bytes(), "the copy of another page");
                        hits += 1;
                        if useless(page) {
                            cache.was_of_no_use(page);
                        }
                    }
                    None => {
                        if let Some(room) = cache.admit(page, first) {
                            assert!(!room.zeros || *room.page == [0; PAGE]);
                            room.page[..8].copy_from_slice(&page.to_le_bytes());
                        }
                    }
                }
            }
            last = f64::from(hits) / f64::from(all);
        }
        last
    }

    fn hits(cache: &mut Bounded, times: usize, pages: impl Iterator<Item = u64> + Clone) -> f64 {
        rounds(cache, times, pages, |_| false)
    }

    const CACHE: u64 = 64;

    fn cache() -> Bounded {
        Bounded::new(CACHE * PAGE as u64, 1 << 20).unwrap()
    }

    #[test]
    fn what_fits_hits_from_the_second_send_on() {
        assert!((hits(&mut cache(), 2, 0..CACHE) - 1.0).abs() < 1e-9);
        assert!((hits(&mut cache(), 2, 1000..1000 + CACHE) - 1.0).abs() < 1e-9);
    }

    /// QEMU's direct-mapped cache, which admits everything, misses nearly all of that.
    #[test]
    fn a_working_set_of_four_times_the_cache_hits_as_often_as_it_can() {
        let mut cache = cache();
        let share = hits(&mut cache, 8, 0..4 * CACHE);
        assert!((share - 0.25).abs() < 1e-9, "{share}");
        let before = cache.evictions();
        hits(&mut cache, 8, 0..4 * CACHE);
        assert_eq!(cache.evictions(), before, "what is of use stays");
    }

    #[test]
    fn pages_that_are_written_again_take_the_room_of_those_that_were_sent_once() {
        let mut cache = cache();
        hits(&mut cache, 1, 0..16 * CACHE);
        assert!(
            hits(&mut cache, 1, 8 * CACHE..9 * CACHE) < 1e-9,
            "round 0 has filled it with the first pages"
        );
        assert!((hits(&mut cache, 1, 8 * CACHE..9 * CACHE) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_round_without_use_is_forgiven_and_more_is_not() {
        let mut cache = cache();
        hits(&mut cache, 3, 0..CACHE);
        // Others for one round: not admitted.
        assert!(hits(&mut cache, 1, CACHE..2 * CACHE) < 1e-9);
        assert!((hits(&mut cache, 1, 0..CACHE) - 1.0).abs() < 1e-9);
        // For longer: theirs.
        assert!((hits(&mut cache, 3, CACHE..2 * CACHE) - 1.0).abs() < 1e-9);
        assert_eq!(cache.evictions(), CACHE);
    }

    #[test]
    fn a_copy_that_spares_nothing_protects_nobody() {
        for (useless, held) in [(false, 0.0), (true, 1.0)] {
            let mut cache = cache();
            hits(&mut cache, 3, 0..CACHE);
            rounds(&mut cache, 2, 0..CACHE, |_| useless);
            // In the very next round: what was of use is protected, what had to go whole twice is not.
            hits(&mut cache, 1, CACHE..2 * CACHE);
            assert!((hits(&mut cache, 1, CACHE..2 * CACHE) - held).abs() < 1e-9, "{useless}");
        }
    }

    #[test]
    fn it_takes_no_more_than_it_was_given_but_one_set_nor_more_than_the_guest_has() {
        for (bytes, places) in
            [(0, 8), (32 << 10, 8), (63 << 10, 8), (64 << 10, 16), (1 << 20, 256), (u64::MAX, 8192)]
        {
            assert_eq!(Bounded::new(bytes, 8190).unwrap().tags.len(), places);
        }
    }
}

//! What is sent of a page: the one difference between the engines.
//!
//! Guest memory changes while it is read. Pages of which nothing is remembered may leave from there as they are: they were armed again
//! before, so that one that is torn on its way is dirty, and is sent again. What is sent of a page that a policy remembers and what it
//! remembers come from one read.

use migbench_scenarios::cell::{Cache, Cell, Checksum, Codec};

use super::staging::{Place, Send, Slot};
use crate::cache::{Bounded, CacheCounts, Digests, PageCache, Shadow};
use crate::codec::{self, Change, CodecBackend, PAGE, Page, PageCodec};
use crate::sys::live::LivePage;
use crate::sys::memory::NoMemory;
use crate::vm::page_set::PageSet;

/// Bytes on the wire of what says which page an encoding is of.
const ENTRY: usize = 8;

/// Decides about one page after another.
pub trait PagePolicy {
    /// Says what is sent of guest page `page`, which is `live`. What must lie somewhere until it leaves goes into `slot`.
    fn decide(&mut self, page: u64, live: LivePage<'_>, slot: Slot<'_>) -> Send;

    /// Bytes that would be sent of that page now, of which nothing is remembered for it; none where that changes what is sent later.
    fn probe(&mut self, _page: u64, _live: LivePage<'_>, _slot: Slot<'_>) -> Option<usize> {
        None
    }

    /// Another round starts; none follows the one in which the guest is `paused`.
    fn round_starts(&mut self, _paused: bool) {}

    /// See [`PageCodec::link_speed`].
    fn link_speed(&mut self, _bytes_per_second: f64) {}

    /// See [`PageCodec::choices`].
    fn choices(&self) -> Vec<(Codec, u64)> {
        Vec::new()
    }

    /// What it remembered; none of a policy that remembers nothing.
    fn cache(&self) -> Option<CacheCounts> {
        None
    }
}

/// The policy of a cell, for a guest of `pages` pages.
///
/// # Errors
/// When there is no memory for what it remembers.
pub fn policy(cell: &Cell, pages: u64) -> Result<Box<dyn PagePolicy>, NoMemory> {
    let full = Full::new(cell.elide_zero, cell.link.checksum);
    let codec = codec::new(cell.codec);
    Ok(match (cell.cache, codec) {
        (Cache::Shadow, Some(codec)) => {
            let shadow = Shadow::new(pages, cell.shadow.prefault)?;
            Box::new(Delta::new(pages, codec, Box::new(shadow), full)?)
        }
        (Cache::Bounded(bytes), Some(codec)) => {
            Box::new(Delta::new(pages, codec, Box::new(Bounded::new(bytes.0, pages)?), full)?)
        }
        (Cache::Digest(block), codec @ Some(_)) => {
            let digests = Digests::new(pages, usize::try_from(block).unwrap_or(PAGE))?;
            Box::new(Digested::new(digests, codec, cell.elide_zero))
        }
        (Cache::Unchanged, _) => Box::new(Digested::new(Digests::new(pages, PAGE)?, None, cell.elide_zero)),
        (_, None) | (Cache::None, _) => Box::new(full),
    })
}

/// Whether the policy of a cell answers [`PagePolicy::probe`].
#[must_use]
pub fn can_be_probed(cell: &Cell) -> bool {
    matches!(cell.cache, Cache::Shadow | Cache::Bounded(_))
        && codec::new(cell.codec).is_some_and(|codec| !codec.learns())
}

/// The baseline: whole pages, zero pages as marks.
#[derive(Debug)]
pub struct Full {
    backend: CodecBackend,
    elide_zero: bool,
    /// Whether pages are copied before they are sent: a checksum of live memory would be one of other bytes than those that leave.
    copies: bool,
}

impl Full {
    /// `elide_zero` sends zero pages as marks.
    #[must_use]
    pub fn new(elide_zero: bool, checksum: Checksum) -> Self {
        Self { backend: CodecBackend::best(), elide_zero, copies: checksum == Checksum::Pages }
    }

    /// Sends a page that is not zero, or is not to be a mark.
    fn whole(&self, live: LivePage<'_>, slot: Slot<'_>) -> Send {
        if !self.copies {
            return Send::Whole(Place::Live);
        }
        self.backend.copy(live, slot.copy);
        Send::Whole(Place::Copied)
    }
}

impl PagePolicy for Full {
    fn decide(&mut self, _: u64, live: LivePage<'_>, slot: Slot<'_>) -> Send {
        // The test may be of another moment than what is sent: the page is dirty then, and comes again.
        if self.elide_zero && live.is_zero() { Send::Zero } else { self.whole(live, slot) }
    }
}

/// What changed since the page was last sent, as its codec writes it down; whole pages where that is no smaller, where there is no
/// copy, and the first time unless the codec takes those too: the first round costs every engine the same, but a codec that
/// compresses is measured with what it makes of first sends.
#[derive(Debug)]
pub struct Delta {
    codec: Box<dyn PageCodec>,
    cache: Box<dyn PageCache>,
    /// What is done with pages that there is no room to remember.
    full: Full,
    /// Pages that were sent at least once. Of others the destination holds zeros.
    sent: PageSet,
    hits: u64,
    misses: u64,
    /// Whether the guest is paused: nothing that is sent now is sent again, and nothing is worth a copy.
    paused: bool,
    /// Of the page that is being encoded.
    change: Box<Change>,
    /// The page that is being encoded, where it is not remembered.
    scratch: Box<Page>,
}

impl Delta {
    /// A policy for a guest of `pages` pages.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(
        pages: u64,
        codec: Box<dyn PageCodec>,
        cache: Box<dyn PageCache>,
        full: Full,
    ) -> Result<Self, NoMemory> {
        let (sent, change) = (PageSet::new(pages)?, Box::new(Change::new(full.backend)));
        Ok(Self {
            codec,
            cache,
            full,
            sent,
            hits: 0,
            misses: 0,
            paused: false,
            change,
            scratch: Box::new([0; PAGE]),
        })
    }
}

impl PagePolicy for Delta {
    fn decide(&mut self, page: u64, live: LivePage<'_>, slot: Slot<'_>) -> Send {
        let (first, takes_old) = (!self.sent.contains(page), self.codec.takes_old());
        let Full { backend, elide_zero, .. } = self.full;
        if first {
            self.sent.insert(page);
        }
        let cached = self.cache.get(page);
        let hit = cached.is_some();
        let held = match cached {
            Some(held) => {
                self.hits += 1;
                held
            }
            None => {
                self.misses += u64::from(!first);
                if elide_zero && live.is_zero() {
                    self.cache.was_zero(page);
                    return Send::Zero;
                }
                let room = if self.paused { None } else { self.cache.admit(page, first) };
                match room {
                    // The destination holds zeros, and so does the copy.
                    Some(room) if first && takes_old => {
                        if !room.zeros {
                            room.page.fill(0);
                        }
                        room.page
                    }
                    Some(room) => {
                        backend.copy_twice(live, slot.copy, room.page);
                        return Send::Whole(Place::Copied);
                    }
                    None if first && takes_old => {
                        self.scratch.fill(0);
                        &mut self.scratch
                    }
                    None => return self.full.whole(live, slot),
                }
            }
        };
        self.change.merge(live, held, takes_old);
        if hit && self.change.is_none() {
            return Send::Nothing;
        }
        if elide_zero && backend.is_zero(held) {
            return Send::Zero;
        }
        if self.change.is_none() {
            // A page of zeros where zeros are is sent all the same, as it was asked for.
            *slot.copy = *held;
            return Send::Whole(Place::Copied);
        }
        match self.codec.encode(page, &self.change, held, slot.encoding) {
            Some(bytes) => Send::Encoded(bytes),
            None => {
                *slot.copy = *held;
                self.cache.was_of_no_use(page);
                Send::Overflow
            }
        }
    }

    fn probe(&mut self, page: u64, live: LivePage<'_>, slot: Slot<'_>) -> Option<usize> {
        if self.codec.learns() {
            return None;
        }
        let Some(held) = self.cache.peek(page) else { return Some(ENTRY + PAGE) };
        *slot.copy = *held;
        self.change.merge(live, slot.copy, self.codec.takes_old());
        Some(if self.change.is_none() {
            0
        } else if self.full.elide_zero && self.full.backend.is_zero(slot.copy) {
            ENTRY
        } else {
            ENTRY + self.codec.encode(page, &self.change, slot.copy, slot.encoding).unwrap_or(PAGE)
        })
    }

    fn round_starts(&mut self, paused: bool) {
        self.paused = paused;
        self.cache.round_starts();
    }

    fn link_speed(&mut self, bytes_per_second: f64) {
        self.codec.link_speed(bytes_per_second);
    }

    fn choices(&self) -> Vec<(Codec, u64)> {
        self.codec.choices()
    }

    fn cache(&self) -> Option<CacheCounts> {
        let (evictions, bytes) = (self.cache.evictions(), self.cache.bytes());
        Some(CacheCounts { hits: self.hits, misses: self.misses, evictions, bytes })
    }
}

/// Pages of which only digests are remembered: what did not change is left out, and the rest is sent whole or, with a codec, as the
/// blocks that changed.
#[derive(Debug)]
pub struct Digested {
    backend: CodecBackend,
    digests: Digests,
    codec: Option<Box<dyn PageCodec>>,
    elide_zero: bool,
    hits: u64,
    change: Box<Change>,
}

impl Digested {
    /// A codec must not [need old pages](PageCodec::takes_old). `elide_zero` sends zero pages as marks.
    #[must_use]
    pub fn new(digests: Digests, codec: Option<Box<dyn PageCodec>>, elide_zero: bool) -> Self {
        let backend = CodecBackend::best();
        Self { backend, digests, codec, elide_zero, hits: 0, change: Box::new(Change::new(backend)) }
    }
}

impl PagePolicy for Digested {
    fn decide(&mut self, page: u64, live: LivePage<'_>, slot: Slot<'_>) -> Send {
        // What is sent must be what the digests are of.
        self.backend.copy(live, slot.copy);
        let (lines, known) = self.digests.note(page, slot.copy);
        self.hits += u64::from(known);
        if lines == 0 {
            return Send::Nothing;
        }
        if self.elide_zero && self.backend.is_zero(slot.copy) {
            return Send::Zero;
        }
        let Some(codec) = self.codec.as_mut().filter(|_| known) else { return Send::Whole(Place::Copied) };
        self.change.of_lines(lines);
        let encoded = codec.encode(page, &self.change, slot.copy, slot.encoding);
        encoded.map_or(Send::Overflow, Send::Encoded)
    }

    fn cache(&self) -> Option<CacheCounts> {
        Some(CacheCounts { hits: self.hits, misses: 0, evictions: 0, bytes: self.digests.bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PageCounts;
    use migbench_scenarios::cell::Engine;
    use migbench_workloads::units::Bytes;

    use crate::codec::{MAX_ENCODED, SLACK};
    use crate::sys::memory::PageMemory;

    fn with(pages: u64, change: impl FnOnce(&mut Cell)) -> Box<dyn PagePolicy> {
        let mut cell = Cell::default_for(Engine::Delta, "idle").unwrap();
        change(&mut cell);
        policy(&cell, pages).unwrap()
    }

    fn delta(pages: u64, codec: Codec, elide_zero: bool) -> Box<dyn PagePolicy> {
        with(pages, |cell| (cell.codec, cell.elide_zero) = (codec, elide_zero))
    }

    fn full(elide_zero: bool, checksum: Checksum) -> Box<dyn PagePolicy> {
        Box::new(Full::new(elide_zero, checksum))
    }

    fn decide(policy: &mut Box<dyn PagePolicy>, page: u64, content: &Page) -> (PageCounts, Send) {
        let (mut tally, mut copy, mut out) = (PageCounts::default(), [0; PAGE], [0; MAX_ENCODED + SLACK]);
        let mut memory = PageMemory::map(1, "a test").unwrap();
        memory[0] = *content;
        let live = LivePage::of(&memory[0]);
        let send = policy.decide(page, live, Slot { copy: &mut copy, encoding: &mut out });
        tally.add(send);
        if send == Send::Whole(Place::Copied) {
            assert!(copy == *content);
        }
        (tally, send)
    }

    fn probe(policy: &mut Box<dyn PagePolicy>, page: u64, content: &Page) -> Option<usize> {
        let (mut copy, mut out) = ([0; PAGE], [0; MAX_ENCODED + SLACK]);
        let mut memory = PageMemory::map(1, "a test").unwrap();
        memory[0] = *content;
        policy.probe(page, LivePage::of(&memory[0]), Slot { copy: &mut copy, encoding: &mut out })
    }

    #[test]
    fn delta_sends_whole_pages_first_then_changes_then_nothing() {
        let mut policy = delta(8, Codec::Xbzrle, true);
        let mut page = [0; PAGE];
        page[5] = 7;
        // A nearly empty page against a zero shadow would make a tiny delta; the first send is whole all the same.
        let first = PageCounts { full: 1, ..PageCounts::default() };
        assert_eq!(decide(&mut policy, 3, &page), (first, Send::Whole(Place::Copied)));
        let same = PageCounts { unchanged: 1, ..PageCounts::default() };
        assert_eq!(decide(&mut policy, 3, &page), (same, Send::Nothing));
        page[9] = 1;
        let (tally, send) = decide(&mut policy, 3, &page);
        assert_eq!((tally.delta, send), (1, Send::Encoded(usize::try_from(tally.delta_bytes).unwrap())));
        assert!(tally.delta_bytes < 16);
    }

    #[test]
    fn a_page_that_becomes_zero_is_sent_and_remembered_as_zero() {
        let mut policy = delta(8, Codec::Xbzrle, true);
        let mut page = [1; PAGE];
        decide(&mut policy, 0, &page);
        page.fill(0);
        assert_eq!(decide(&mut policy, 0, &page).1, Send::Zero);
        assert_eq!(decide(&mut policy, 0, &page).0.unchanged, 1);
        page[0] = 1;
        assert_eq!(decide(&mut policy, 0, &page).0.delta, 1);
    }

    #[test]
    fn first_sends_are_encoded_by_codecs_that_take_them_and_never_left_out() {
        // `auto` tries `mask` first, which compresses nothing.
        for codec in [Codec::Lz4, Codec::Zstd, Codec::ZstdDictionary] {
            let mut policy = delta(8, codec, false);
            let (tally, send) = decide(&mut policy, 0, &[7; PAGE]);
            assert_eq!((tally.delta, tally.full), (1, 0), "{codec}");
            assert!(matches!(send, Send::Encoded(1..200)), "{codec}: {send:?}");
            // Zeros where zeros are were asked for all the same.
            assert_eq!(decide(&mut policy, 1, &[0; PAGE]).1, Send::Whole(Place::Copied), "{codec}");
            assert_eq!(decide(&mut policy, 1, &[0; PAGE]).1, Send::Nothing, "{codec}");
        }
    }

    #[test]
    fn zero_pages_are_marks_only_when_asked() {
        let zero = [0; PAGE];
        assert_eq!(decide(&mut full(true, Checksum::Header), 0, &zero).1, Send::Zero);
        assert_eq!(decide(&mut full(false, Checksum::Header), 0, &zero).1, Send::Whole(Place::Live));
        let copied = Send::Whole(Place::Copied);
        assert_eq!(decide(&mut full(true, Checksum::Pages), 0, &zero).1, Send::Zero);
        assert_eq!(decide(&mut full(false, Checksum::Pages), 0, &zero).1, copied);
        assert_eq!(decide(&mut delta(1, Codec::Xbzrle, false), 0, &zero).1, copied);
    }

    #[test]
    fn a_probe_sees_what_would_be_sent_and_changes_nothing() {
        for codec in [Codec::Xbzrle, Codec::Mask, Codec::Lz4, Codec::Zstd] {
            let mut policy = delta(8, codec, true);
            let mut page = [3; PAGE];
            decide(&mut policy, 1, &page);
            assert_eq!(probe(&mut policy, 1, &page), Some(0), "{codec}: it is there");
            assert_eq!(probe(&mut policy, 2, &page), Some(ENTRY + PAGE), "{codec}: it was never sent");
            assert_eq!(probe(&mut policy, 1, &[0; PAGE]), Some(ENTRY), "{codec}: a mark");
            page[100..108].fill(9);
            let (seen, again) = (probe(&mut policy, 1, &page), probe(&mut policy, 1, &page));
            assert_eq!(seen, again, "{codec}");
            let (tally, send) = decide(&mut policy, 1, &page);
            let Send::Encoded(bytes) = send else { panic!("{codec}: {send:?}, {tally:?}") };
            assert_eq!(seen, Some(ENTRY + bytes), "{codec}");
        }
        // What these encode depends on what they encoded, on both sides.
        for codec in [Codec::Auto, Codec::ZstdDictionary] {
            assert_eq!(probe(&mut delta(8, codec, true), 1, &[1; PAGE]), None, "{codec}");
        }
    }

    /// A destination: what it makes of all that is sent, whatever is remembered, is the guest.
    #[test]
    fn every_codec_and_cache_keeps_the_destination_as_the_guest_is() {
        const PAGES: usize = 96;
        const ROUNDS: u8 = 12;
        let caches = [
            Cache::Shadow,
            Cache::Bounded(Bytes(32 << 12)),
            Cache::Digest(64),
            Cache::Digest(1024),
            Cache::Unchanged,
            Cache::None,
        ];
        let mut turn = 0;
        for cache in caches {
            for &(_, codec) in Codec::ALL {
                let mut policy = with(PAGES as u64, |cell| {
                    (cell.cache, cell.codec) = (cache, codec);
                    // All four pairs come up, with some codec and cache each.
                    (cell.elide_zero, cell.link.checksum) = if turn % 2 == 0 {
                        (true, if turn % 4 == 0 { Checksum::Header } else { Checksum::Pages })
                    } else {
                        (false, if turn % 4 == 1 { Checksum::Header } else { Checksum::Pages })
                    };
                });
                turn += 1;
                if codec::new(codec).is_some_and(|codec| codec.takes_old())
                    && matches!(cache, Cache::Digest(_))
                {
                    continue;
                }
                let mut decoder = codec::new(codec);
                let mut guest = PageMemory::map(PAGES as u64, "a test").unwrap();
                let mut destination = vec![[0; PAGE]; PAGES];
                let (mut random, mut tally) = (1_u64, PageCounts::default());
                let mut next = |below: usize| {
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    usize::try_from(random >> 33).unwrap() % below
                };
                for round in 0..ROUNDS {
                    policy.round_starts(round + 1 == ROUNDS);
                    // The first round ends early, as one does at a limit: first sends come late too, into a cache that is full.
                    let until = if round == 0 { PAGES / 2 } else { PAGES };
                    for (page, content) in guest.iter_mut().enumerate().take(until) {
                        // Nothing, a word, many bytes, all, zeros, or what was there long before.
                        match next(8) {
                            0 => {}
                            1 | 2 => content[8 * next(500)..][..8].fill(round),
                            3 | 4 => (0..600).for_each(|_| content[next(PAGE)] = round),
                            5 => content.fill_with(|| next(256).to_le_bytes()[0]),
                            6 => content.fill(0),
                            _ => content.fill(7),
                        }
                        let (mut copy, mut out) = ([0; PAGE], [0; MAX_ENCODED + SLACK]);
                        let live = LivePage::of(content);
                        let send =
                            policy.decide(page as u64, live, Slot { copy: &mut copy, encoding: &mut out });
                        tally.add(send);
                        match send {
                            Send::Nothing => {}
                            Send::Zero => destination[page].fill(0),
                            Send::Whole(Place::Live) => destination[page] = *content,
                            Send::Whole(Place::Copied) | Send::Overflow => destination[page] = copy,
                            Send::Encoded(length) => {
                                let decoder = decoder.as_mut().unwrap();
                                decoder.decode(&out[..length], &mut destination[page]).unwrap();
                            }
                        }
                        assert!(destination[page] == *content, "{codec} {cache}, round {round}, page {page}");
                    }
                }
                let looked = u64::from(ROUNDS) * PAGES as u64 - PAGES as u64 / 2;
                assert_eq!(tally.pages(), looked);
                match (cache, policy.cache()) {
                    (Cache::None, counts) => assert_eq!(counts, None),
                    (Cache::Bounded(_), Some(counts)) => {
                        assert!(counts.hits > 0 && counts.misses > 0 && counts.evictions > 0, "{counts:?}");
                        assert!(counts.bytes < 33 << 12);
                    }
                    (_, Some(counts)) => assert_eq!((counts.hits, counts.misses), (looked - PAGES as u64, 0)),
                    (cache, None) => assert_eq!(codec, Codec::None, "{cache} counts nothing"),
                }
            }
        }
    }
}

//! What is sent of a page: the one difference between the engines.
//!
//! Guest memory changes while it is read. Pages of which nothing is remembered may leave from there as they are: they were armed again
//! before, so that one that is torn on its way is dirty, and is sent again. A page that a policy remembers is read once, and what
//! is sent of it is what is remembered.

use migbench_scenarios::cell::{Cache, Cell, Checksum, Codec};

use super::PageCounts;
use super::staging::{Place, Send};
use crate::codec::{self, Change, CodecBackend, Page, PageCodec};
use crate::sys::live::LivePage;
use crate::sys::memory::{NoMemory, PageMemory};
use crate::vm::page_set::PageSet;

/// Decides about one page after another.
pub trait PagePolicy {
    /// Says what is sent of guest page `page`, which is `live`. A copy that is sent goes into `copy`, an encoding into `out`.
    fn decide(
        &mut self,
        page: u64,
        live: LivePage<'_>,
        copy: &mut Page,
        out: &mut [u8],
        tally: &mut PageCounts,
    ) -> Send;

    /// Every page as the destination will hold it when all that was decided has arrived; none of a policy that remembers no pages.
    fn held(&mut self) -> &[Page] {
        &[]
    }

    /// See [`PageCodec::link_speed`].
    fn link_speed(&mut self, _bytes_per_second: f64) {}

    /// See [`PageCodec::choices`].
    fn choices(&self) -> Vec<(Codec, u64)> {
        Vec::new()
    }
}

/// The policy of a cell, for a guest of `pages` pages.
///
/// # Errors
/// When there is no memory for what it remembers.
pub fn policy(cell: &Cell, pages: u64) -> Result<Box<dyn PagePolicy>, NoMemory> {
    Ok(match (codec::new(cell.codec), cell.cache) {
        (Some(codec), Cache::Shadow) => Box::new(Delta::new(pages, codec, cell.elide_zero)?),
        (None, _) | (_, Cache::None) => Box::new(Full::new(cell.elide_zero, cell.link.checksum)),
    })
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
}

impl PagePolicy for Full {
    fn decide(
        &mut self,
        _: u64,
        live: LivePage<'_>,
        copy: &mut Page,
        _: &mut [u8],
        tally: &mut PageCounts,
    ) -> Send {
        if self.copies {
            self.backend.copy(live, copy);
        }
        let zero = self.elide_zero && if self.copies { self.backend.is_zero(copy) } else { live.is_zero() };
        if zero {
            tally.zero += 1;
            return Send::Zero;
        }
        tally.full += 1;
        Send::Whole(if self.copies { Place::Copied } else { Place::Live })
    }
}

/// What changed since the page was last sent, as its codec writes it down; whole pages where that is no smaller, and the first
/// time unless the codec takes those too.
pub struct Delta {
    backend: CodecBackend,
    codec: Box<dyn PageCodec>,
    elide_zero: bool,
    /// Every page as the destination holds it. Both start as zeros; a page enters when it is sent.
    shadow: PageMemory,
    /// Pages that were sent at least once. Before that the whole page goes out, whatever it holds, so that the
    /// first round costs every engine the same; but a codec that compresses is measured with what it makes of first sends.
    sent: PageSet,
    /// Of the page that is being encoded.
    change: Box<Change>,
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delta").field("pages", &self.shadow.len()).finish_non_exhaustive()
    }
}

impl Delta {
    /// A policy with a shadow of `pages` pages. Its memory is taken from the kernel as pages are first sent.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(pages: u64, codec: Box<dyn PageCodec>, elide_zero: bool) -> Result<Self, NoMemory> {
        let backend = CodecBackend::best();
        let shadow = PageMemory::map(pages, SHADOW)?;
        let (sent, change) = (PageSet::new(pages)?, Box::new(Change::new(backend)));
        Ok(Self { backend, codec, elide_zero, shadow, sent, change })
    }
}

/// What memory is wanted for.
const SHADOW: &str = "a copy of what the destination holds";

impl PagePolicy for Delta {
    fn decide(
        &mut self,
        page: u64,
        live: LivePage<'_>,
        copy: &mut Page,
        out: &mut [u8],
        tally: &mut PageCounts,
    ) -> Send {
        // Page numbers come from the guest's own bitmap, of the same length.
        let held = &mut self.shadow[usize::try_from(page).unwrap_or(usize::MAX)];
        let (known, takes_old) = (self.sent.contains(page), self.codec.takes_old());
        if !known {
            self.sent.insert(page);
            if self.elide_zero && live.is_zero() {
                tally.zero += 1;
                return Send::Zero;
            }
            if !takes_old {
                self.backend.copy_twice(live, copy, held);
                tally.full += 1;
                return Send::Whole(Place::Copied);
            }
        }
        self.change.merge(live, held, takes_old);
        if self.change.is_none() {
            if known {
                tally.unchanged += 1;
                return Send::Nothing;
            }
            // A page of zeros where zeros are: it is sent all the same, as it was asked for.
            tally.full += 1;
            return Send::Whole(Place::Held);
        }
        if self.elide_zero && self.backend.is_zero(held) {
            tally.zero += 1;
            return Send::Zero;
        }
        match self.codec.encode(page, &self.change, held, out) {
            Some(bytes) => {
                tally.delta += 1;
                tally.delta_bytes += bytes as u64;
                Send::Encoded(bytes)
            }
            None => {
                tally.overflow += 1;
                tally.full += 1;
                Send::Whole(Place::Held)
            }
        }
    }

    fn held(&mut self) -> &[Page] {
        self.backend.settle();
        &self.shadow
    }

    fn link_speed(&mut self, bytes_per_second: f64) {
        self.codec.link_speed(bytes_per_second);
    }

    fn choices(&self) -> Vec<(Codec, u64)> {
        self.codec.choices()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{MAX_ENCODED, PAGE, SLACK};

    fn delta(pages: u64, codec: Codec, elide_zero: bool) -> Delta {
        Delta::new(pages, codec::new(codec).unwrap(), elide_zero).unwrap()
    }

    fn decide(policy: &mut impl PagePolicy, page: u64, content: &Page) -> (PageCounts, Send) {
        let (mut tally, mut copy) = (PageCounts::default(), [0; PAGE]);
        let mut memory = PageMemory::map(1, "a test").unwrap();
        memory[0] = *content;
        let live = LivePage::of(&memory[0]);
        let send = policy.decide(page, live, &mut copy, &mut [0; MAX_ENCODED + SLACK], &mut tally);
        if send == Send::Whole(Place::Copied) {
            assert!(copy == *content);
        }
        if let Some(held) = policy.held().get(usize::try_from(page).unwrap()) {
            assert!(held == content, "what is remembered is what is sent");
        }
        (tally, send)
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
            assert_eq!(decide(&mut policy, 1, &[0; PAGE]).1, Send::Whole(Place::Held), "{codec}");
            assert_eq!(decide(&mut policy, 1, &[0; PAGE]).1, Send::Nothing, "{codec}");
        }
    }

    #[test]
    fn zero_pages_are_marks_only_when_asked() {
        let zero = [0; PAGE];
        assert_eq!(decide(&mut Full::new(true, Checksum::Header), 0, &zero).1, Send::Zero);
        assert_eq!(decide(&mut Full::new(false, Checksum::Header), 0, &zero).1, Send::Whole(Place::Live));
        let copied = Send::Whole(Place::Copied);
        assert_eq!(decide(&mut Full::new(true, Checksum::Pages), 0, &zero).1, Send::Zero);
        assert_eq!(decide(&mut Full::new(false, Checksum::Pages), 0, &zero).1, copied);
        assert_eq!(decide(&mut delta(1, Codec::Xbzrle, false), 0, &zero).1, copied);
    }
}

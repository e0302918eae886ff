//! What is sent of a page: the one difference between the engines.
//!
//! A policy works on a private copy of the page, staged in the batch that goes out. What it sends, caches and
//! compares is that same copy, never the guest's memory, which changes meanwhile.

use super::Tally;
use crate::codec::{Backend, Outcome};
use crate::vm::page_set::PageSet;
use crate::wire::pages::PageBatch;

/// Decides about one page after another.
pub trait PagePolicy {
    /// Settles the next staged page of `batch`, a copy of guest page `page`.
    fn settle(&mut self, page: u64, batch: &mut PageBatch, tally: &mut Tally);
}

/// The baseline: whole pages, zero pages as marks.
#[derive(Debug)]
pub struct Full {
    codec: Backend,
    elide_zero: bool,
}

impl Full {
    /// `elide_zero` sends zero pages as marks.
    #[must_use]
    pub fn new(elide_zero: bool) -> Self {
        Self { codec: Backend::best(), elide_zero }
    }
}

impl PagePolicy for Full {
    fn settle(&mut self, page: u64, batch: &mut PageBatch, tally: &mut Tally) {
        if self.elide_zero && self.codec.is_zero(batch.staged()) {
            batch.settle_zero(page);
            tally.zero += 1;
        } else {
            batch.settle_full(page);
            tally.full += 1;
        }
    }
}

/// What changed since the page was last sent, as XBZRLE; whole pages the first time and where that is no smaller.
pub struct Delta {
    codec: Backend,
    elide_zero: bool,
    /// Every page as the destination holds it. Both start as zeros; a page enters when it is sent.
    shadow: Vec<u8>,
    /// Where its first page starts: at a page of the host, so that no access crosses a cache line.
    start: usize,
    /// Pages that were sent at least once. Before that the whole page goes out, whatever it holds, so that the
    /// first round costs every engine the same.
    sent: PageSet,
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delta").field("bytes", &self.shadow.len()).finish_non_exhaustive()
    }
}

impl Delta {
    /// A policy with a shadow of `pages` pages. Its memory is taken from the kernel as pages are first sent: the bytes
    /// come zeroed and untouched, which a vector of whole pages would not.
    ///
    /// # Panics
    /// When that many pages do not fit into the address space.
    #[must_use]
    pub fn new(pages: u64, elide_zero: bool) -> Self {
        let bytes = usize::try_from(pages * 4096).expect("a shadow that fits into the address space");
        let shadow = vec![0_u8; bytes + 4095];
        let start = shadow.as_ptr().align_offset(4096);
        Self { codec: Backend::best(), elide_zero, shadow, start, sent: PageSet::new(pages) }
    }
}

impl PagePolicy for Delta {
    fn settle(&mut self, page: u64, batch: &mut PageBatch, tally: &mut Tally) {
        let codec = self.codec;
        // Page numbers come from the guest's own bitmap, of the same length.
        let old =
            &mut self.shadow[self.start..].as_chunks_mut().0[usize::try_from(page).unwrap_or(usize::MAX)];
        let known = self.sent.contains(page);
        if self.elide_zero && codec.is_zero(batch.staged()) {
            if known {
                if codec.is_zero(old) {
                    tally.unchanged += 1;
                    batch.settle_skip();
                    return;
                }
                old.fill(0);
            }
            self.sent.insert(page);
            tally.zero += 1;
            batch.settle_zero(page);
            return;
        }
        if !known {
            old.copy_from_slice(batch.staged());
            self.sent.insert(page);
            tally.full += 1;
            batch.settle_full(page);
            return;
        }
        let outcome = batch.settle_delta(page, |new, out| {
            let outcome = codec.encode_xbzrle(old, new, out);
            if outcome != Outcome::Unchanged {
                old.copy_from_slice(new);
            }
            outcome
        });
        match outcome {
            Outcome::Unchanged => tally.unchanged += 1,
            Outcome::Delta(bytes) => {
                tally.delta += 1;
                tally.delta_bytes += bytes as u64;
            }
            Outcome::Overflow => {
                tally.overflow += 1;
                tally.full += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Page;

    fn settle(policy: &mut impl PagePolicy, page: u64, content: &Page) -> (Tally, u64) {
        let mut batch = PageBatch::new(4);
        let mut tally = Tally::default();
        batch.stage(1)[0] = *content;
        policy.settle(page, &mut batch, &mut tally);
        (tally, batch.pages())
    }

    #[test]
    fn delta_sends_whole_pages_first_then_changes_then_nothing() {
        let mut policy = Delta::new(8, true);
        let mut page = [0; 4096];
        page[5] = 7;
        // A nearly empty page against a zero shadow would make a tiny delta; the first send is whole all the same.
        assert_eq!(settle(&mut policy, 3, &page), (Tally { full: 1, ..Tally::default() }, 1));
        assert_eq!(settle(&mut policy, 3, &page), (Tally { unchanged: 1, ..Tally::default() }, 0));
        page[9] = 1;
        let (tally, sent) = settle(&mut policy, 3, &page);
        assert_eq!((tally.delta, sent), (1, 1));
        assert!(tally.delta_bytes < 16);
    }

    #[test]
    fn a_page_that_becomes_zero_is_sent_and_remembered_as_zero() {
        let mut policy = Delta::new(8, true);
        let mut page = [1; 4096];
        settle(&mut policy, 0, &page);
        page.fill(0);
        assert_eq!(settle(&mut policy, 0, &page).0.zero, 1);
        assert_eq!(settle(&mut policy, 0, &page).0.unchanged, 1);
        page[0] = 1;
        assert_eq!(settle(&mut policy, 0, &page).0.delta, 1);
    }

    #[test]
    fn zero_pages_are_marks_only_when_asked() {
        let zero = [0; 4096];
        assert_eq!(settle(&mut Full::new(true), 0, &zero).0.zero, 1);
        assert_eq!(settle(&mut Full::new(false), 0, &zero).0.full, 1);
        assert_eq!(settle(&mut Delta::new(1, false), 0, &zero).0.full, 1);
    }
}

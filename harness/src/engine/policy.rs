//! What is sent of a page: the one difference between the engines.
//!
//! A policy that remembers something of a page works on a private copy of it. What it sends, caches and compares is that same copy,
//! never the guest's memory, which changes meanwhile.

use std::convert::Infallible;

use migbench_scenarios::cell::{Cache, Cell, Codec};

use super::PageCounts;
use super::staging::Send;
use crate::codec::{CodecBackend, PAGE, Page, XbzrleOutcome};
use crate::sys::memory::{NoMemory, zeroed};
use crate::vm::page_set::PageSet;

/// Decides about one page after another.
pub trait PagePolicy {
    /// Says what is sent of guest page `page`, of which `content` is a private copy. An encoding goes into `out`.
    fn decide(&mut self, page: u64, content: &Page, out: &mut [u8], tally: &mut PageCounts) -> Send;

    /// The policy itself where it remembers nothing of a page: only then may pages leave from guest memory, where they change
    /// meanwhile.
    fn in_place(&mut self) -> Option<&mut Full> {
        None
    }
}

/// The policy of a cell, for a guest of `pages` pages.
///
/// # Errors
/// When there is no memory for what it remembers.
pub fn policy(cell: &Cell, pages: u64) -> Result<Box<dyn PagePolicy>, NoMemory> {
    Ok(match (cell.codec, cell.cache) {
        (Codec::Xbzrle, Cache::Shadow) => Box::new(Delta::new(pages, cell.elide_zero)?),
        (Codec::None, _) | (_, Cache::None) => Box::new(Full::new(cell.elide_zero)),
    })
}

/// The baseline: whole pages, zero pages as marks.
#[derive(Debug)]
pub struct Full {
    codec: CodecBackend,
    elide_zero: bool,
}

impl Full {
    /// `elide_zero` sends zero pages as marks.
    #[must_use]
    pub fn new(elide_zero: bool) -> Self {
        Self { codec: CodecBackend::best(), elide_zero }
    }

    /// Says what is sent of a page, which knows whether it `is_zero`.
    ///
    /// # Errors
    /// As `is_zero`.
    pub fn decide_by<E>(
        &self,
        is_zero: impl FnOnce() -> Result<bool, E>,
        tally: &mut PageCounts,
    ) -> Result<Send, E> {
        Ok(if self.elide_zero && is_zero()? {
            tally.zero += 1;
            Send::Zero
        } else {
            tally.full += 1;
            Send::Whole
        })
    }
}

impl PagePolicy for Full {
    fn decide(&mut self, _: u64, content: &Page, _: &mut [u8], tally: &mut PageCounts) -> Send {
        let Ok(send) = self.decide_by(|| Ok::<_, Infallible>(self.codec.is_zero(content)), tally);
        send
    }

    fn in_place(&mut self) -> Option<&mut Full> {
        Some(self)
    }
}

/// What changed since the page was last sent, as XBZRLE; whole pages the first time and where that is no smaller.
pub struct Delta {
    codec: CodecBackend,
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
    /// # Errors
    /// When there is no memory for it.
    pub fn new(pages: u64, elide_zero: bool) -> Result<Self, NoMemory> {
        let bytes = pages.saturating_mul(PAGE as u64).saturating_add(PAGE as u64 - 1);
        let shadow = zeroed::<u8>(bytes, "a copy of what the destination holds")?;
        let start = shadow.as_ptr().align_offset(PAGE);
        Ok(Self { codec: CodecBackend::best(), elide_zero, shadow, start, sent: PageSet::new(pages)? })
    }
}

impl PagePolicy for Delta {
    fn decide(&mut self, page: u64, content: &Page, out: &mut [u8], tally: &mut PageCounts) -> Send {
        let codec = self.codec;
        // Page numbers come from the guest's own bitmap, of the same length.
        let old =
            &mut self.shadow[self.start..].as_chunks_mut().0[usize::try_from(page).unwrap_or(usize::MAX)];
        let known = self.sent.contains(page);
        if self.elide_zero && codec.is_zero(content) {
            if known {
                if codec.is_zero(old) {
                    tally.unchanged += 1;
                    return Send::Nothing;
                }
                old.fill(0);
            }
            self.sent.insert(page);
            tally.zero += 1;
            return Send::Zero;
        }
        if !known {
            old.copy_from_slice(content);
            self.sent.insert(page);
            tally.full += 1;
            return Send::Whole;
        }
        let outcome = codec.encode_xbzrle(old, content, out);
        if outcome != XbzrleOutcome::Unchanged {
            old.copy_from_slice(content);
        }
        match outcome {
            XbzrleOutcome::Unchanged => {
                tally.unchanged += 1;
                Send::Nothing
            }
            XbzrleOutcome::Delta(bytes) => {
                tally.delta += 1;
                tally.delta_bytes += bytes as u64;
                Send::Encoded(bytes)
            }
            XbzrleOutcome::Overflow => {
                tally.overflow += 1;
                tally.full += 1;
                Send::Whole
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(policy: &mut impl PagePolicy, page: u64, content: &Page) -> (PageCounts, Send) {
        let mut tally = PageCounts::default();
        let send = policy.decide(page, content, &mut [0; PAGE + 64], &mut tally);
        (tally, send)
    }

    #[test]
    fn delta_sends_whole_pages_first_then_changes_then_nothing() {
        let mut policy = Delta::new(8, true).unwrap();
        let mut page = [0; PAGE];
        page[5] = 7;
        // A nearly empty page against a zero shadow would make a tiny delta; the first send is whole all the same.
        let first = PageCounts { full: 1, ..PageCounts::default() };
        assert_eq!(decide(&mut policy, 3, &page), (first, Send::Whole));
        let same = PageCounts { unchanged: 1, ..PageCounts::default() };
        assert_eq!(decide(&mut policy, 3, &page), (same, Send::Nothing));
        page[9] = 1;
        let (tally, send) = decide(&mut policy, 3, &page);
        assert_eq!((tally.delta, send), (1, Send::Encoded(usize::try_from(tally.delta_bytes).unwrap())));
        assert!(tally.delta_bytes < 16);
    }

    #[test]
    fn a_page_that_becomes_zero_is_sent_and_remembered_as_zero() {
        let mut policy = Delta::new(8, true).unwrap();
        let mut page = [1; PAGE];
        decide(&mut policy, 0, &page);
        page.fill(0);
        assert_eq!(decide(&mut policy, 0, &page).1, Send::Zero);
        assert_eq!(decide(&mut policy, 0, &page).0.unchanged, 1);
        page[0] = 1;
        assert_eq!(decide(&mut policy, 0, &page).0.delta, 1);
    }

    #[test]
    fn zero_pages_are_marks_only_when_asked() {
        let zero = [0; PAGE];
        assert_eq!(decide(&mut Full::new(true), 0, &zero).1, Send::Zero);
        assert_eq!(decide(&mut Full::new(false), 0, &zero).1, Send::Whole);
        assert_eq!(decide(&mut Delta::new(1, false).unwrap(), 0, &zero).1, Send::Whole);
    }
}

//! What is sent of a page: the one difference between the engines.
//!
//! A policy that remembers something of a page works on a private copy of it. What it sends, caches and compares is that same copy,
//! never the guest's memory, which changes meanwhile.

use std::convert::Infallible;

use migbench_scenarios::cell::{Cache, Cell, Codec};

use super::PageCounts;
use super::staging::Send;
use crate::codec::{self, CodecBackend, Encoded, PAGE, Page, PageCodec};
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
        (Some(codec), Cache::Shadow) => {
            Box::new(Delta::new(pages, codec, cell.codec.compresses(), cell.elide_zero)?)
        }
        (None, _) | (_, Cache::None) => Box::new(Full::new(cell.elide_zero)),
    })
}

/// The baseline: whole pages, zero pages as marks.
#[derive(Debug)]
pub struct Full {
    backend: CodecBackend,
    elide_zero: bool,
}

impl Full {
    /// `elide_zero` sends zero pages as marks.
    #[must_use]
    pub fn new(elide_zero: bool) -> Self {
        Self { backend: CodecBackend::best(), elide_zero }
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
        let Ok(send) = self.decide_by(|| Ok::<_, Infallible>(self.backend.is_zero(content)), tally);
        send
    }

    fn in_place(&mut self) -> Option<&mut Full> {
        Some(self)
    }
}

/// What changed since the page was last sent, as its codec writes it down; whole pages where that is no smaller, and the first
/// time unless the codec compresses.
pub struct Delta {
    backend: CodecBackend,
    codec: Box<dyn PageCodec>,
    /// Whether it encodes pages that were never sent.
    encodes_first: bool,
    elide_zero: bool,
    /// Every page as the destination holds it. Both start as zeros; a page enters when it is sent.
    shadow: Vec<u8>,
    /// Where its first page starts: at a page of the host, so that no access crosses a cache line.
    start: usize,
    /// Pages that were sent at least once. Before that the whole page goes out, whatever it holds, so that the
    /// first round costs every engine the same; but a codec that compresses is measured with what it makes of first sends.
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
    pub fn new(
        pages: u64,
        codec: Box<dyn PageCodec>,
        encodes_first: bool,
        elide_zero: bool,
    ) -> Result<Self, NoMemory> {
        let bytes = pages.saturating_mul(PAGE as u64).saturating_add(PAGE as u64 - 1);
        let shadow = zeroed::<u8>(bytes, "a copy of what the destination holds")?;
        let start = shadow.as_ptr().align_offset(PAGE);
        let (backend, sent) = (CodecBackend::best(), PageSet::new(pages)?);
        Ok(Self { backend, codec, encodes_first, elide_zero, shadow, start, sent })
    }
}

impl PagePolicy for Delta {
    fn decide(&mut self, page: u64, content: &Page, out: &mut [u8], tally: &mut PageCounts) -> Send {
        let backend = self.backend;
        // Page numbers come from the guest's own bitmap, of the same length.
        let old =
            &mut self.shadow[self.start..].as_chunks_mut().0[usize::try_from(page).unwrap_or(usize::MAX)];
        let known = self.sent.contains(page);
        if self.elide_zero && backend.is_zero(content) {
            if known {
                if backend.is_zero(old) {
                    tally.unchanged += 1;
                    return Send::Nothing;
                }
                old.fill(0);
            }
            self.sent.insert(page);
            tally.zero += 1;
            return Send::Zero;
        }
        if !known && !self.encodes_first {
            old.copy_from_slice(content);
            self.sent.insert(page);
            tally.full += 1;
            return Send::Whole;
        }
        let encoded = self.codec.encode(page, old, content, out);
        if encoded != Encoded::Unchanged {
            old.copy_from_slice(content);
        }
        if !known {
            self.sent.insert(page);
        }
        match encoded {
            Encoded::Unchanged if known => {
                tally.unchanged += 1;
                Send::Nothing
            }
            // A page of zeros where zeros are: it is sent all the same, as it was asked for.
            Encoded::Unchanged => {
                tally.full += 1;
                Send::Whole
            }
            Encoded::Delta(bytes) => {
                tally.delta += 1;
                tally.delta_bytes += bytes as u64;
                Send::Encoded(bytes)
            }
            Encoded::Overflow => {
                tally.overflow += 1;
                tally.full += 1;
                Send::Whole
            }
        }
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
    use crate::codec::{MAX_ENCODED, SLACK};

    fn delta(pages: u64, codec: Codec, elide_zero: bool) -> Delta {
        Delta::new(pages, codec::new(codec).unwrap(), codec.compresses(), elide_zero).unwrap()
    }

    fn decide(policy: &mut impl PagePolicy, page: u64, content: &Page) -> (PageCounts, Send) {
        let mut tally = PageCounts::default();
        let send = policy.decide(page, content, &mut [0; MAX_ENCODED + SLACK], &mut tally);
        (tally, send)
    }

    #[test]
    fn delta_sends_whole_pages_first_then_changes_then_nothing() {
        let mut policy = delta(8, Codec::Xbzrle, true);
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
            assert_eq!(decide(&mut policy, 1, &[0; PAGE]).1, Send::Whole, "{codec}");
            assert_eq!(decide(&mut policy, 1, &[0; PAGE]).1, Send::Nothing, "{codec}");
        }
    }

    #[test]
    fn zero_pages_are_marks_only_when_asked() {
        let zero = [0; PAGE];
        assert_eq!(decide(&mut Full::new(true), 0, &zero).1, Send::Zero);
        assert_eq!(decide(&mut Full::new(false), 0, &zero).1, Send::Whole);
        assert_eq!(decide(&mut delta(1, Codec::Xbzrle, false), 0, &zero).1, Send::Whole);
    }
}

//! What changed of a page since the destination got it, found while the page is read: each line is loaded into registers,
//! compared with the copy of what the destination holds, and stored there if it differs. So the copy is what the encoders go on
//! with, and what is sent of the page and what is remembered of it are one, however the guest writes meanwhile.

use super::lanes::{LINE, Lanes, Line, words_of};
use super::{CodecBackend, PAGE, Page};
use crate::sys::live::{LivePage, TargetPage};

/// Lines of a page.
pub(super) const LINES: usize = PAGE / LINE;

/// Where two states of a page differ.
pub struct Change {
    backend: CodecBackend,
    /// A bit per byte of each line.
    pub(super) masks: [u64; LINES],
    /// A bit per word of each line.
    pub(super) words: [u8; LINES],
    /// A bit per line.
    pub(super) lines: u64,
    /// The lines in which runs start or end.
    pub(super) edged: u64,
    /// Bytes, words, and ends of runs (the end of the page is none).
    pub(super) changed_bytes: u32,
    pub(super) changed_words: u32,
    pub(super) edges: u32,
    /// Every line as it was, where that was to be kept.
    before: [Line; LINES],
}

impl Change {
    /// No change yet, to be found with the instructions of `backend`.
    #[must_use]
    pub const fn new(backend: CodecBackend) -> Self {
        Self {
            backend,
            masks: [0; LINES],
            words: [0; LINES],
            lines: 0,
            edged: 0,
            changed_bytes: 0,
            changed_words: 0,
            edges: 0,
            before: [[0; LINE]; LINES],
        }
    }

    /// Makes `held`, a copy of the page, what `live` is now, and of this what that changed. What was there before is kept for
    /// [codecs that need it](super::PageCodec::takes_old) if `keep_old`.
    #[inline]
    pub fn merge(&mut self, live: LivePage<'_>, held: &mut Page, keep_old: bool) {
        self.backend.merge(live, held, self, keep_old);
    }

    /// As [`Self::merge`], of two pages that nobody writes, which stay as they are.
    pub fn between(&mut self, old: &Page, new: &Page) {
        #[repr(C, align(64))]
        struct Aligned(Page);
        let (mut held, new) = (*old, Aligned(*new));
        self.merge(LivePage::of(&new.0), &mut held, true);
    }

    /// Takes all bytes of these lines for changed: a bit for each line.
    pub fn of_lines(&mut self, lines: u64) {
        (self.lines, self.edged) = (lines, 0);
        (self.changed_bytes, self.changed_words, self.edges) = (0, 0, 0);
        let mut before = 0;
        for (i, (mask, words)) in self.masks.iter_mut().zip(&mut self.words).enumerate() {
            let changed = lines >> i & 1 != 0;
            (*mask, *words) = if changed { (u64::MAX, u8::MAX) } else { (0, 0) };
            let edges = edges(before, *mask);
            before = *mask;
            self.edged |= u64::from(edges != 0) << i;
            self.changed_bytes += mask.count_ones();
            self.changed_words += words.count_ones();
            self.edges += edges.count_ones();
        }
    }

    /// Whether nothing changed.
    #[must_use]
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.lines == 0
    }

    /// Writes the XOR of the page as it was, if that was kept, and as it is, `new`.
    pub(super) fn xor(&self, new: &Page, xor: &mut Page) {
        let pairs = self.before.as_flattened().iter().zip(new);
        pairs.zip(xor).for_each(|((old, new), xor)| *xor = old ^ new);
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change").field("bytes", &self.changed_bytes).finish_non_exhaustive()
    }
}

/// Inlined so that it is compiled with the instructions of the backend that calls it. Counts beside the comparison rather than after
/// it, so that the work hides in the time that memory takes.
#[inline(always)]
pub(super) fn merge<L: Lanes>(
    lanes: L,
    live: LivePage<'_>,
    held: &mut Page,
    change: &mut Change,
    keep_old: bool,
) {
    let (mut lines, mut edged, mut before) = (0, 0, 0);
    let (mut bytes, mut words_changed, mut ends) = (0, 0, 0);
    for (i, held) in held.as_chunks_mut::<LINE>().0.iter_mut().enumerate() {
        let line = lanes.load(live.line(i));
        let mask = lanes.differ(held, &line);
        if keep_old {
            change.before[i] = *held;
        }
        if mask != 0 {
            *held = line;
        }
        let edges = edges(before, mask);
        before = mask;
        let words = words_of(mask);
        change.masks[i] = mask;
        change.words[i] = words;
        lines |= u64::from(mask != 0) << i;
        edged |= u64::from(edges != 0) << i;
        bytes += mask.count_ones();
        words_changed += words.count_ones();
        ends += edges.count_ones();
    }
    (change.lines, change.edged) = (lines, edged);
    (change.changed_bytes, change.changed_words, change.edges) = (bytes, words_changed, ends);
}

/// Copies a page. Inlined as above.
#[inline(always)]
pub(super) fn copy<L: Lanes>(lanes: L, live: LivePage<'_>, copy: &mut Page) {
    let lines = copy.as_chunks_mut::<LINE>().0.iter_mut();
    lines.enumerate().for_each(|(i, copy)| *copy = lanes.load(live.line(i)));
}

/// Copies a page of which nothing is remembered yet, twice: into `copy`, which is sent and stays in the caches, and past them
/// into `held`, where it is needed only when the page has changed. Inlined as above.
#[inline(always)]
pub(super) fn copy_twice<L: Lanes>(lanes: L, live: LivePage<'_>, copy: &mut Page, held: &mut Page) {
    let lines = copy.as_chunks_mut::<LINE>().0.iter_mut().zip(held.as_chunks_mut::<LINE>().0);
    for (i, (copy, held)) in lines.enumerate() {
        let line = lanes.load(live.line(i));
        *copy = line;
        lanes.stream(&line, held);
    }
    lanes.fence();
}

/// Turns the old page into the new one by their XOR. Lines that stay are not touched.
pub(super) fn apply(xor: &Page, mut page: TargetPage<'_>) {
    for (i, xor) in xor.as_chunks::<LINE>().0.iter().enumerate() {
        if *xor != [0; LINE] {
            let mut line = page.line(i);
            line.iter_mut().zip(xor).for_each(|(byte, xor)| *byte ^= xor);
            page.set_line(i, &line);
        }
    }
}

/// A bit for each byte of a line that differs from the byte before it in being changed: starts and ends of runs in turn.
#[inline(always)]
pub(super) const fn edges(before: u64, mask: u64) -> u64 {
    mask ^ (mask << 1 | before >> 63)
}

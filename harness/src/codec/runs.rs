//! Where two pages differ, and from there to XBZRLE. Pages are compared a line at a time, which makes a mask of the bytes that
//! differ; here the masks are gathered, and the runs that they describe leave as an encoding. Which instructions made the masks
//! makes no difference to a single byte of it.

use super::lanes::{LINE, Lanes, words_of};
use super::xbzrle::Encoding;
use super::{Encoded, PAGE, Page};

/// Lines of a page.
pub(super) const LINES: usize = PAGE / LINE;

/// Positions that are written at once at most, whether there are so many or not.
const AT_ONCE: usize = 8;

/// Where runs start and end, in turn: at most every byte of a page, and what is written at once behind the last.
pub(super) type Positions = [u16; PAGE + AT_ONCE];

/// Memory for [`Positions`], which is filled anew for each page.
pub(super) fn positions() -> Box<Positions> {
    Box::new([0; PAGE + AT_ONCE])
}

/// Where two pages differ.
pub(super) struct Differences {
    /// A bit per byte of each line.
    pub(super) masks: [u64; LINES],
    /// A bit per word of each line.
    pub(super) words: [u8; LINES],
    /// A bit per line.
    pub(super) lines: u64,
    /// The lines in which runs start or end.
    edged: u64,
    /// Bytes, words, and ends of runs (the end of the page is none).
    pub(super) changed_bytes: u32,
    pub(super) changed_words: u32,
    edges: u32,
}

impl Differences {
    /// Compares two pages; words and lines are left out without `MAPS`. Counts beside the comparison rather than after it, so that the work hides in the time that
    /// memory takes.
    #[inline(always)]
    pub(super) fn between<const MAPS: bool, L: Lanes>(lanes: L, old: &Page, new: &Page) -> Self {
        let mut found = Self {
            masks: [0; LINES],
            words: [0; LINES],
            lines: 0,
            edged: 0,
            changed_bytes: 0,
            changed_words: 0,
            edges: 0,
        };
        let mut before = 0;
        let lines = old.as_chunks::<LINE>().0.iter().zip(new.as_chunks::<LINE>().0);
        for (i, (old, new)) in lines.enumerate() {
            let mask = lanes.differ(old, new);
            let edges = edges(before, mask);
            before = mask;
            found.masks[i] = mask;
            if MAPS {
                found.words[i] = words_of(mask);
                found.lines |= u64::from(mask != 0) << i;
                found.changed_words += found.words[i].count_ones();
            }
            found.edged |= u64::from(edges != 0) << i;
            found.changed_bytes += mask.count_ones();
            found.edges += edges.count_ones();
        }
        found
    }

    /// The fewest bytes that the runs can have: each costs its bytes and two lengths of a byte at least.
    #[inline(always)]
    pub(super) const fn least_size(&self) -> usize {
        (self.changed_bytes + 2 * self.edges.div_ceil(2)) as usize
    }

    /// Writes down where runs start and end, and how many positions that are. `N` at once and without a question for each: what
    /// a line has of them is not to be foreseen.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "positions in a page have 13 bits")]
    fn positions<const N: usize>(&self, positions: &mut Positions) -> usize {
        let (mut lines, mut count) = (self.edged, 0);
        while lines != 0 {
            let line = lines.trailing_zeros() as usize % LINES;
            lines &= lines - 1;
            let before = line.checked_sub(1).map_or(0, |before| self.masks[before]);
            let mut left = edges(before, self.masks[line]);
            let (start, next) = ((line * LINE) as u16, count + left.count_ones() as usize);
            while let Some(to) = positions.get_mut(count..).and_then(|rest| rest.first_chunk_mut::<N>()) {
                for to in to {
                    *to = start + left.trailing_zeros() as u16;
                    left &= left.wrapping_sub(1);
                }
                count += N;
                if left == 0 {
                    break;
                }
            }
            count = next;
        }
        // The end of the page is the end of its last run.
        if count % 2 == 1 {
            positions[count] = PAGE as u16;
            count += 1;
        }
        count
    }

    /// Encodes the runs.
    #[inline(always)]
    pub(super) fn encode_runs(
        &self,
        new: &Page,
        mut encoding: Encoding<'_>,
        positions: &mut Positions,
    ) -> Encoded {
        // This decides most pages that overflow, at the price of an unchanged page instead of that of the most expensive one.
        if self.least_size() > encoding.limit() {
            return Encoded::Overflow;
        }
        // What is worth a question depends on how much there is: with many edges in a line runs are short and lengths too.
        if self.edges <= 3 * self.edged.count_ones() {
            let count = self.positions::<4>(positions);
            push_all::<false>(&mut encoding, new, &positions[..count])
        } else {
            let count = self.positions::<AT_ONCE>(positions);
            push_all::<true>(&mut encoding, new, &positions[..count])
        }
    }
}

/// Encodes the runs between starts and ends; `SHORT` says that most have lengths of one byte.
#[inline(always)]
fn push_all<const SHORT: bool>(encoding: &mut Encoding<'_>, new: &Page, positions: &[u16]) -> Encoded {
    let mut end = 0;
    for &[start, stop] in positions.as_chunks::<2>().0 {
        let (start, stop) = (usize::from(start), usize::from(stop));
        let zrun = start - end;
        let pushed =
            (SHORT && encoding.push_short(zrun, new, start, stop)) || encoding.push(zrun, new, start, stop);
        if !pushed {
            return Encoded::Overflow;
        }
        end = stop;
    }
    encoding.finish()
}

/// A bit for each byte of a line that differs from the byte before it in being changed: starts and ends of runs in turn.
#[inline(always)]
const fn edges(before: u64, mask: u64) -> u64 {
    mask ^ (mask << 1 | before >> 63)
}

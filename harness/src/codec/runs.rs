//! From the masks of what changed to the runs that they describe, and to XBZRLE. Which instructions made the masks makes no
//! difference to a single byte of it.

use super::change::{Change, LINES, edges};
use super::lanes::LINE;
use super::xbzrle::Encoding;
use super::{PAGE, Page};

/// Positions that are written at once at most, whether there are so many or not.
const AT_ONCE: usize = 8;

/// Where runs start and end, in turn: at most every byte of a page, and what is written at once behind the last.
pub(super) type Positions = [u16; PAGE + AT_ONCE];

/// Memory for [`Positions`], which is filled anew for each page.
pub(super) fn positions() -> Box<Positions> {
    Box::new([0; PAGE + AT_ONCE])
}

impl Change {
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
    ) -> Option<usize> {
        // This decides most pages that overflow, at the price of an unchanged page instead of that of the most expensive one.
        if self.least_size() > encoding.limit() {
            return None;
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
fn push_all<const SHORT: bool>(encoding: &mut Encoding<'_>, new: &Page, positions: &[u16]) -> Option<usize> {
    let mut end = 0;
    for &[start, stop] in positions.as_chunks::<2>().0 {
        let (start, stop) = (usize::from(start), usize::from(stop));
        let zrun = start - end;
        let pushed =
            (SHORT && encoding.push_short(zrun, new, start, stop)) || encoding.push(zrun, new, start, stop);
        if !pushed {
            return None;
        }
        end = stop;
    }
    Some(encoding.used())
}

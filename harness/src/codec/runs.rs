//! From a bit per byte to XBZRLE. The vector encoders compare pages 64 bytes at a time and leave a mask of
//! the bytes that differ; here the masks enter, and the runs that they describe leave as an encoding. Which
//! instructions made the masks makes no difference to a single byte of it.

use super::xbzrle::{Encoding, Outcome};
use super::{PAGE, Page};

/// Bytes that one mask describes.
pub(super) const BLOCK: usize = 64;

/// For each block of a page a bit per byte, set where the pages differ; the first byte has the lowest bit.
pub(super) type Masks = [u64; PAGE / BLOCK];

/// Encodes the runs that `masks` describe. Inlined so that it is compiled with the bit instructions of the
/// encoder that calls it.
#[inline(always)]
pub(super) fn encode(masks: &Masks, new: &Page, out: &mut [u8]) -> Outcome {
    // An edge is a byte that differs from its predecessor in being changed: runs start and end at edges.
    let mut edges = [0; PAGE / BLOCK];
    let (mut before, mut blocks, mut changed, mut edge_count) = (0, 0, 0, 0);
    for (i, (&mask, edge)) in masks.iter().zip(&mut edges).enumerate() {
        *edge = mask ^ (mask << 1 | before);
        before = mask >> 63;
        blocks |= u64::from(*edge != 0) << i;
        changed += mask.count_ones();
        edge_count += edge.count_ones();
    }
    let mut encoding = Encoding::new(out);
    // Each run costs its bytes and two lengths of a byte at least. This settles most pages that overflow,
    // at the price of an unchanged page instead of that of the most expensive one.
    let runs = edge_count.div_ceil(2);
    if (changed + 2 * runs) as usize > encoding.limit() {
        return Outcome::Overflow;
    }

    let (mut end, mut start, mut open) = (0, 0, false);
    while blocks != 0 {
        let block = blocks.trailing_zeros() as usize;
        blocks &= blocks - 1;
        let mut edge = edges[block & (PAGE / BLOCK - 1)];
        let mut next = || {
            let at = block * BLOCK + edge.trailing_zeros() as usize;
            edge &= edge.wrapping_sub(1);
            (at, edge == 0)
        };
        // Edges alternate between starts and ends; a run that an earlier block left open ends first.
        let mut last = false;
        if !open {
            (start, last) = next();
        }
        open = last;
        while !last {
            let (stop, none_left) = next();
            if !encoding.push(start - end, new, start, stop) {
                return Outcome::Overflow;
            }
            end = stop;
            last = none_left;
            if !last {
                (start, last) = next();
                open = last;
            }
        }
    }
    if open && !encoding.push(start - end, new, start, PAGE) {
        return Outcome::Overflow;
    }
    encoding.finish()
}

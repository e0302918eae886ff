//! From a bit per byte to XBZRLE. The vector encoders compare pages 64 bytes at a time and make a mask of
//! the bytes that differ; here the masks enter, and the runs that they describe leave as an encoding. Which
//! instructions made the masks makes no difference to a single byte of it.

use super::xbzrle::{Encoding, XbzrleOutcome};
use super::{PAGE, Page};

/// Bytes that one mask describes.
pub(super) const BLOCK: usize = 64;

/// Blocks of a page.
pub(super) const BLOCKS: usize = PAGE / BLOCK;

/// Where the runs of a page start and end, gathered block by block from the first to the last.
pub(super) struct Edges {
    /// For each block a bit per byte that differs from its predecessor in being changed: starts and ends of
    /// runs in turn. The first byte has the lowest bit.
    words: [u64; BLOCKS],
    /// The blocks that have edges.
    blocks: u64,
    /// Whether the last byte so far was changed.
    open: u64,
    changed: u32,
    count: u32,
}

impl Edges {
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self { words: [0; BLOCKS], blocks: 0, open: 0, changed: 0, count: 0 }
    }

    /// Adds block number `i`, of whose bytes those in `mask` have changed. Done beside the comparison rather
    /// than after it, so that the work hides in the time that memory takes.
    #[inline(always)]
    pub(super) fn add(&mut self, i: usize, mask: u64) {
        let edges = mask ^ (mask << 1 | self.open);
        self.open = mask >> 63;
        self.words[i] = edges;
        self.blocks |= u64::from(edges != 0) << i;
        self.changed += mask.count_ones();
        self.count += edges.count_ones();
    }

    /// Encodes the runs. Inlined so that it is compiled with the bit instructions of the encoder that
    /// calls it.
    #[inline(always)]
    pub(super) fn encode(&self, new: &Page, out: &mut [u8]) -> XbzrleOutcome {
        let mut encoding = Encoding::new(out);
        // Each run costs its bytes and two lengths of a byte at least. This decides most pages that overflow,
        // at the price of an unchanged page instead of that of the most expensive one.
        let runs = self.count.div_ceil(2);
        if (self.changed + 2 * runs) as usize > encoding.limit() {
            return XbzrleOutcome::Overflow;
        }
        let (mut blocks, mut end, mut start, mut open) = (self.blocks, 0, 0, false);
        while blocks != 0 {
            let block = blocks.trailing_zeros() as usize % BLOCKS;
            blocks &= blocks - 1;
            let mut edges = self.words[block];
            let mut next = || {
                let at = block * BLOCK + edges.trailing_zeros() as usize;
                edges &= edges.wrapping_sub(1);
                (at, edges == 0)
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
                    return XbzrleOutcome::Overflow;
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
            return XbzrleOutcome::Overflow;
        }
        encoding.finish()
    }
}

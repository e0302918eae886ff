//! What every page of the guest must hold, as pure functions of seed, page number and write count.
//!
//! The guest compiles this same file: it fills, writes and validates its pages with it, so that a page's whole
//! content can be checked at any time. A page of the working set starts with an 8-byte count of its writes and an
//! 8-byte tag; the rest, the body, holds the fill and over it the bytes of the last writes. A page that arrives
//! stale after a migration is a perfectly good page of an earlier time: it is found because the counts of all pages must
//! add up to the writes made.

use crate::abi::{CONTENT_SAME, Params};
use crate::content::{ContentStream, DUPLICATES, Text};
use crate::random::{GOLDEN, Random, mix};

/// A page's bytes.
pub type Page = [u8; 4096];

const HEADER: usize = 16;
const BODY: usize = 4096 - HEADER;

/// The rules of one guest's pages.
#[derive(Debug, Clone, Copy)]
pub struct PageRules {
    seed: u64,
    working_set: u64,
    fill_q32: u64,
    text_q32: u64,
    duplicate_q32: u64,
    content: u32,
    moves: bool,
    pieces: usize,
    /// Bytes of a piece; the first `longer` pieces have one more.
    short: usize,
    longer: usize,
    /// Distance between two pieces.
    segment: usize,
    /// Places that a moving piece goes through.
    slots: u64,
}

impl PageRules {
    /// The rules that `params` sets. Values that the harness would refuse are brought into range.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        let bytes = (params.change_bytes as usize).clamp(1, BODY);
        let pieces = (params.change_pieces as usize).clamp(1, bytes);
        let short = bytes / pieces;
        let longer = bytes % pieces;
        let segment = BODY / pieces;
        let longest = short + usize::from(longer > 0);
        let slots = (segment / longest).max(1) as u64;
        Self {
            seed: params.seed,
            working_set: params.working_set,
            fill_q32: params.fill_q32,
            text_q32: params.text_q32,
            duplicate_q32: params.duplicate_q32,
            content: params.content,
            moves: params.change_moves != 0 && params.content != CONTENT_SAME,
            pieces,
            short,
            longer,
            segment,
            slots,
        }
    }

    /// Whether page `index` starts as zeros.
    #[must_use]
    pub fn starts_zero(&self, index: u64) -> bool {
        index >= self.working_set && mix(self.seed ^ index.wrapping_mul(GOLDEN)) >> 32 >= self.fill_q32
    }

    /// Writes what page `index` holds at first.
    pub fn fill(&self, index: u64, page: &mut Page) {
        if self.starts_zero(index) {
            page.fill(0);
            return;
        }
        let tag = mix(self.seed.wrapping_add(GOLDEN) ^ index.wrapping_mul(GOLDEN));
        let kind = tag >> 32;
        if kind < self.text_q32 {
            let mut text = Text::new(tag);
            for word in page.chunks_exact_mut(8) {
                word.copy_from_slice(&text.word().to_le_bytes());
            }
        } else {
            let duplicate = kind < self.text_q32 + self.duplicate_q32;
            let mut random = Random::new(if duplicate { self.seed ^ (tag % DUPLICATES) } else { tag });
            for word in page.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes());
            }
        }
        if index < self.working_set {
            page[..8].copy_from_slice(&0_u64.to_le_bytes());
            page[8..16].copy_from_slice(&tag.to_le_bytes());
        }
    }

    /// How often the page was written.
    #[must_use]
    pub fn count(page: &Page) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&page[..8]);
        u64::from_le_bytes(word)
    }

    /// One page write.
    pub fn write(&self, index: u64, page: &mut Page) {
        let count = if self.content == CONTENT_SAME { 1 } else { Self::count(page).wrapping_add(1) };
        self.apply(index, count, page);
        page[..8].copy_from_slice(&count.to_le_bytes());
    }

    /// The body after write number `count`, given the body before it.
    fn apply(&self, index: u64, count: u64, page: &mut Page) {
        let slot = if self.moves { ((count - 1) % self.slots) as usize } else { 0 };
        let longest = self.short + usize::from(self.longer > 0);
        let mut stream = ContentStream::new(self.content, self.seed, index, count);
        for piece in 0..self.pieces {
            let length = self.short + usize::from(piece < self.longer);
            let start = HEADER + piece * self.segment + slot * longest;
            stream.fill(&mut page[start..start + length]);
        }
    }

    /// Compares a page with what it must hold after the writes that it counts; `scratch` is overwritten.
    ///
    /// # Errors
    /// The offset of the first byte that differs.
    pub fn validate(&self, index: u64, page: &Page, scratch: &mut Page) -> Result<(), usize> {
        self.fill(index, scratch);
        if index < self.working_set {
            let count = Self::count(page);
            if count > 0 {
                let first = if self.moves { count.saturating_sub(self.slots).wrapping_add(1) } else { count };
                for n in first..=count {
                    self.apply(index, n, scratch);
                }
            }
            scratch[..8].copy_from_slice(&count.to_le_bytes());
        }
        let differs = page.chunks_exact(8).zip(scratch.chunks_exact(8)).position(|(a, b)| a != b);
        match differs {
            None => Ok(()),
            Some(word) => {
                let start = word * 8;
                let byte = (start..start + 8).find(|&at| page[at] != scratch[at]);
                Err(byte.unwrap_or(start))
            }
        }
    }
}

#[cfg(all(test, not(guest)))]
#[path = "pages_tests.rs"]
mod tests;

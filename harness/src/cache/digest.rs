//! No copy of pages, but a digest of each of their blocks: 64 bits of HighwayHash with a key of 256 bits that is drawn for each
//! migration. Blocks whose digest is the one of before are not sent. As far as HighwayHash is what it is meant to be, a keyed function
//! that nobody without the key can tell from a random one, two contents of a block have one digest once in 2^64 times, whatever a
//! guest writes; what that loses only a proof finds. Of XXH3 that is not so: a guest could make
//! it collide.
//!
//! Source: J. Alakuijala, B. Cox, J. Wassenberg, "Fast keyed hash/pseudo-random function using SIMD multiply and permute", 2016,
//! arXiv:1612.06257.

use highway::{HighwayHash, HighwayHasher, Key};

use crate::codec::{PAGE, Page};
use crate::sys::live::LINE;
use crate::sys::memory::{NoMemory, zeroed};
use crate::vm::page_set::PageSet;

/// Digests of the pages of a guest.
#[derive(Debug)]
pub struct Digests {
    /// Of each block of each page.
    digests: Vec<u64>,
    /// Bytes of a block.
    block: usize,
    key: Key,
    /// Pages that were sent.
    held: PageSet,
}

impl Digests {
    /// For a guest of `pages` pages, with a digest for every `block` bytes: whole lines, that a page has a whole number of.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(pages: u64, block: usize) -> Result<Self, NoMemory> {
        let block = block.clamp(LINE, PAGE);
        let blocks = (PAGE / block) as u64;
        let digests = zeroed(pages.saturating_mul(blocks), "digests of pages")?;
        Ok(Self { digests, block, key: Key(rand::random()), held: PageSet::new(pages)? })
    }

    /// Takes note of what page `page` holds: a bit for each of its lines that lies in a block that may have changed since the last
    /// time, and whether there was a last time.
    pub fn note(&mut self, page: u64, content: &Page) -> (u64, bool) {
        let known = self.held.contains(page);
        if !known {
            self.held.insert(page);
        }
        let blocks = content.chunks_exact(self.block);
        let first = usize::try_from(page).unwrap_or(usize::MAX) * blocks.len();
        let lines = self.block / LINE;
        let of_one = u64::MAX >> (u64::BITS as usize - lines);
        let mut changed = 0;
        for (at, (digest, block)) in self.digests[first..].iter_mut().zip(blocks).enumerate() {
            let now = HighwayHasher::new(self.key).hash64(block);
            if now != *digest || !known {
                *digest = now;
                changed |= of_one << (at * lines);
            }
        }
        (changed, known)
    }

    /// Bytes of memory that they take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        size_of_val(&self.digests[..]) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_changed_blocks_are_named() {
        for block in [64, 128, 256, 512, 1024, 4096] {
            let mut digests = Digests::new(3, block).unwrap();
            let mut page = [7; PAGE];
            assert_eq!(digests.note(2, &page), (u64::MAX, false), "{block}");
            assert_eq!(digests.note(2, &page), (0, true), "{block}");
            assert_eq!(digests.note(1, &page), (u64::MAX, false), "of another page nothing is known");
            for at in (0..PAGE).step_by(61) {
                page[at] ^= 1;
                let (changed, _) = digests.note(2, &page);
                let lines = block / LINE;
                let first = at / block * lines;
                assert_eq!(changed.count_ones() as usize, lines, "{block} {at}");
                assert_eq!(changed.trailing_zeros() as usize, first, "{block} {at}");
            }
            assert_eq!(digests.bytes(), (3 * PAGE / block * 8) as u64);
        }
    }

    #[test]
    fn keys_are_drawn() {
        let [one, other] = [(); 2].map(|()| Digests::new(1, 64).unwrap().key.0);
        assert!(one.iter().zip(other).all(|(one, other)| *one != other));
    }
}

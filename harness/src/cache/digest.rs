//! No copy of pages, but a digest of each of their blocks: 64 bits of XXH3 with a key that is drawn for each migration. Blocks whose
//! digest is the one of before are not sent. Two contents of a block have one digest once in 2^64 times, whatever the guest does that
//! does not know the key; what that loses only a proof finds.
//!
//! Source: <https://github.com/Cyan4973/xxHash>.

use xxhash_rust::xxh3::xxh3_64_with_seed;

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
    key: u64,
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
        Ok(Self { digests, block, key: rand::random(), held: PageSet::new(pages)? })
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
            let now = xxh3_64_with_seed(block, self.key);
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
        let keys = [(), (), ()].map(|()| Digests::new(1, 64).unwrap().key);
        assert!(keys[0] != keys[1] || keys[1] != keys[2]);
    }
}

//! A cache of file blocks, as a kernel keeps one: frames of 4 KiB, an index from the file's blocks to frames, and a table of
//! what each frame holds. Requests read runs of blocks; a block that is not there is loaded into the frame that the CLOCK
//! algorithm gives up (Corbato, 1968: a hand goes around and takes the first frame not used since it last came by).
//!
//! Its user only reads. The hypervisor sees whole pages get dirty wherever a block is loaded, and words of the table
//! wherever a frame is used again.

use core::hint::black_box;

use super::ledger::Ledger;
use super::{Done, PartContext, Program, Wrong};
use crate::abi::WorkloadStage;
use crate::content::ContentStream;
use crate::random::{Chooser, GOLDEN, Random, mix};

/// A request whose blocks were all there.
pub const LOOKUP: usize = 0;
/// A request of which some block was loaded.
pub const LOAD: usize = 1;

/// Words of a block and of a frame.
const BLOCK: usize = 512;
/// The file's blocks for each frame.
const FILE: u64 = 4;
/// The most blocks of a request: it writes their frames, and at most two words of the index and one of the table for each.
const BATCH: u32 = 32;

/// Frames of a part of `pages` pages: what the index (a word for each block of the file) and the table (two words for
/// each frame) leave.
const fn frames(pages: u64) -> u64 {
    pages * 512 / (BLOCK as u64 + FILE + 2)
}

/// How many runs of `blocks` blocks the file over a part of `pages` pages has.
#[must_use]
pub const fn requests(pages: u64, blocks: u32) -> u64 {
    let blocks = if blocks == 0 {
        1
    } else if blocks > BATCH {
        BATCH
    } else {
        blocks
    };
    frames(pages) * FILE / blocks as u64
}

/// The state of a cache.
#[derive(Debug, Clone)]
pub struct PageCache {
    seed: u64,
    content: u32,
    batch: u64,
    frames: u64,
    hand: u64,
    chooser: Chooser,
    random: Random,
    ledger: Ledger,
    /// Blocks that were looked up, and those of them that were there.
    looked_up: u64,
    hits: u64,
    /// Blocks that were not what they must be.
    unsound: u64,
}

impl Program for PageCache {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        let params = place.params;
        let pages = memory.len() as u64 / 512;
        let mut cache = Self {
            seed: mix(params.seed ^ (place.part + 1).wrapping_mul(GOLDEN)),
            content: params.content,
            batch: u64::from(params.accesses.clamp(1, BATCH)),
            frames: frames(pages),
            hand: 0,
            chooser: Chooser::new(params, requests(pages, params.accesses)),
            random: Random::new(params.seed ^ ((place.part + 1) << 56)),
            ledger: Ledger::new(&[]),
            looked_up: 0,
            hits: 0,
            unsound: 0,
        };
        memory.fill(0);
        // As after a first read of the file's beginning.
        for frame in 0..cache.frames {
            let at = frame as usize * BLOCK;
            cache.stream(frame).fill_words(&mut memory[at..at + BLOCK]);
            memory[cache.index(frame)] = frame + 1;
            let entry = cache.entry(frame);
            memory[entry] = frame << 1;
            memory[entry + 1] = checksum(&memory[at..at + BLOCK]);
        }
        cache.ledger = Ledger::new(memory);
        cache
    }

    fn operate(&mut self, stage: &WorkloadStage, memory: &mut [u64]) -> Done {
        // The hand goes on where it was: a page of the table is one write for as long as it stays there.
        self.ledger.follow();
        let requests = stage.share(self.frames * FILE / self.batch, memory.len());
        let first = self.chooser.next(&mut self.random) % requests * self.batch;
        let mut operation = LOOKUP;
        for block in first..first + self.batch {
            self.looked_up += 1;
            let mut frame = memory[self.index(block)];
            if frame == 0 {
                operation = LOAD;
                frame = self.load(memory, block) + 1;
            } else {
                self.hits += 1;
            }
            self.read(memory, frame - 1, block);
        }
        Done { operation, page_writes: self.ledger.pages() }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        if self.unsound != 0 {
            return Err(Wrong::state(0, self.unsound, 0));
        }
        for frame in 0..self.frames {
            let entry = self.entry(frame);
            let block = memory[entry] >> 1;
            if block >= self.frames * FILE {
                return Err(Wrong::state(entry as u64 * 8, block, self.frames * FILE));
            }
            let index = self.index(block);
            if memory[index] != frame + 1 {
                return Err(Wrong::state(index as u64 * 8, memory[index], frame + 1));
            }
            let at = frame as usize * BLOCK;
            let mut stream = self.stream(block);
            if let Some(word) = (at..at + BLOCK).find(|&word| memory[word] != stream.word()) {
                return Err(Wrong::content(word as u64 * 8));
            }
            if memory[entry + 1] != checksum(&memory[at..at + BLOCK]) {
                return Err(Wrong::content(entry as u64 * 8 + 8));
            }
        }
        let cached = (0..self.frames * FILE).filter(|&block| memory[self.index(block)] != 0).count() as u64;
        if cached != self.frames {
            return Err(Wrong::state(self.index(0) as u64 * 8, cached, self.frames));
        }
        self.ledger.check(memory)
    }
}

impl PageCache {
    /// The share of blocks that were there when they were looked up.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub const fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.looked_up as f64
    }

    /// What a block of the file holds.
    const fn stream(&self, block: u64) -> ContentStream {
        ContentStream::new(self.content, self.seed, block, 0)
    }

    /// Where the index has the frame of a block, counted from 1.
    const fn index(&self, block: u64) -> usize {
        self.frames as usize * BLOCK + block as usize
    }

    /// Where the table has a frame: twice its block, plus one where it was used; then the checksum of the block.
    const fn entry(&self, frame: u64) -> usize {
        (self.frames * (BLOCK as u64 + FILE)) as usize + frame as usize * 2
    }

    /// Reads a whole block, and marks its frame as used.
    fn read(&mut self, memory: &mut [u64], frame: u64, block: u64) {
        let entry = self.entry(frame);
        if entry >= memory.len() {
            self.unsound += 1;
            return;
        }
        let at = frame as usize * BLOCK;
        let sound = black_box(checksum(&memory[at..at + BLOCK])) == memory[entry + 1];
        if !sound || memory[entry] >> 1 != block {
            self.unsound += 1;
        }
        // As a kernel does it: a mark that stands is not written again.
        if memory[entry] & 1 == 0 {
            let used = memory[entry] | 1;
            self.ledger.set(memory, entry, used);
        }
    }

    /// Loads a block and gives the frame that it is in now.
    fn load(&mut self, memory: &mut [u64], block: u64) -> u64 {
        let frame = self.evict(memory);
        let at = frame as usize * BLOCK;
        let mut stream = self.stream(block);
        for word in at..at + BLOCK {
            self.ledger.set(memory, word, stream.word());
        }
        self.ledger.set(memory, self.index(block), frame + 1);
        let entry = self.entry(frame);
        self.ledger.set(memory, entry, block << 1);
        let sum = checksum(&memory[at..at + BLOCK]);
        self.ledger.set(memory, entry + 1, sum);
        frame
    }

    /// Takes a frame from its block.
    fn evict(&mut self, memory: &mut [u64]) -> u64 {
        loop {
            let frame = self.hand;
            self.hand = if frame + 1 == self.frames { 0 } else { frame + 1 };
            let entry = self.entry(frame);
            let held = memory[entry];
            if held & 1 != 0 {
                self.ledger.set(memory, entry, held & !1);
                continue;
            }
            let index = self.index(held >> 1);
            if index < self.entry(0) {
                self.ledger.set(memory, index, 0);
            } else {
                self.unsound += 1;
            }
            return frame;
        }
    }
}

/// Four sums side by side, since reading a block should cost what reading memory costs.
fn checksum(block: &[u64]) -> u64 {
    let mut sums = [GOLDEN; 4];
    for words in block.chunks_exact(4) {
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = (*sum ^ word).wrapping_mul(GOLDEN).rotate_left(29);
        }
    }
    mix(sums.iter().fold(0, |all, sum| mix(all ^ sum)))
}

#[cfg(all(test, not(guest)))]
#[path = "page_cache_tests.rs"]
mod tests;

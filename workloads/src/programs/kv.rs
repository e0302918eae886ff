//! A key-value store: a hash index with open addressing, and a heap of records with values of 64 bytes to 2 KiB in six
//! classes of blocks, each with a free list. An update that stays in its class is written in place; one that does not
//! takes a block of the other class and frees its own. A record has its key, version, length and checksum before its value.
//!
//! Requests come as YCSB's: keys by a scrambled Zipf distribution, and no inserts or deletions. An operation is a batch of
//! requests of one kind, as a client's pipeline is, because a single one takes less time than can be measured well.

use core::hint::black_box;

use super::ledger::{KEPT, Ledger};
use super::{Done, PartContext, Program, Wrong};
use crate::abi::{PROGRAM_KV_MODIFY, WorkloadStage};
use crate::content::ContentStream;
use crate::random::{Chooser, GOLDEN, Random, mix};

/// An operation that only reads.
pub const READ: usize = 0;
/// An operation that updates records, or reads and modifies them.
pub const UPDATE: usize = 1;

/// Words of a record before its value: key, version and length, checksum.
const HEADER: usize = 3;
/// Words of a value in the smallest class; each next class has twice as many.
const SMALLEST: usize = 8;
const CLASSES: usize = 6;
/// Instead of a key: a free block, whose next word is the place of the next one.
const FREE: u64 = u64::MAX;
/// The end of a free list.
const END: u64 = 0;
/// Words that a request modifies: a field of 64 bytes.
const FIELD: usize = 8;
/// Blocks of a class beyond its share, over an eighth more.
const SPARE: u64 = 4;
/// The most requests in an operation: four pages each, index, freed block and two of the record, must be remembered.
const BATCH: u32 = (KEPT / 4) as u32;

/// Words of the largest value of a class.
const fn room(class: usize) -> usize {
    SMALLEST << class
}

/// The class that a value of `words` belongs to.
const fn class_of(words: usize) -> usize {
    let mut class = 0;
    while room(class) < words {
        class += 1;
    }
    class
}

/// Words of all blocks, one of each class.
const WORDS_OF_ALL: u64 = (CLASSES * HEADER + SMALLEST * ((1 << CLASSES) - 1)) as u64;

/// How many blocks a class has in a store of `records`.
const fn blocks(records: u64) -> u64 {
    let share = records / CLASSES as u64;
    share + share / 8 + SPARE
}

/// Slots of the index: two thirds of them in use.
const fn slots(records: u64) -> u64 {
    records + records / 2 + 2
}

/// How many records a part of `pages` pages has.
#[must_use]
pub const fn records(pages: u64) -> u64 {
    let words = pages * 512;
    // Six records, one of each class, with their slots and an eighth of spare blocks; a class more for rounding.
    let whole = (words.saturating_sub((SPARE + 1) * WORDS_OF_ALL + 64)) * 8 / (9 * WORDS_OF_ALL + 8 * 9);
    whole * CLASSES as u64
}

/// What a store answers for.
#[derive(Debug, Clone)]
pub struct Kv {
    seed: u64,
    content: u32,
    modifies: bool,
    batch: u32,
    records: u64,
    /// Where each class's blocks begin, and after the last class where they end.
    heap: [usize; CLASSES + 1],
    /// The first free block of each class.
    free: [u64; CLASSES],
    chooser: Chooser,
    random: Random,
    ledger: Ledger,
    /// The sum of the versions of all records.
    versions: u64,
    /// Records that reads found unsound.
    unsound: u64,
    /// Updates that left the place they were in.
    moved: u64,
}

impl Program for Kv {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        let params = place.params;
        let records = records(memory.len() as u64 / 512);
        let mut heap = [slots(records) as usize; CLASSES + 1];
        for class in 0..CLASSES {
            heap[class + 1] = heap[class] + blocks(records) as usize * (HEADER + room(class));
        }
        let mut store = Self {
            seed: mix(params.seed ^ (place.part + 1).wrapping_mul(GOLDEN)),
            content: params.content,
            modifies: params.program == PROGRAM_KV_MODIFY,
            batch: params.accesses.clamp(1, BATCH),
            records,
            heap,
            free: [END; CLASSES],
            chooser: Chooser::new(params, records),
            random: Random::new(params.seed ^ ((place.part + 1) << 56)),
            ledger: Ledger::new(&[]),
            versions: 0,
            unsound: 0,
            moved: 0,
        };
        memory.fill(0);
        for (class, &first) in heap[..CLASSES].iter().enumerate() {
            let step = HEADER + room(class);
            for nth in 0..blocks(records) as usize {
                let at = first + nth * step;
                if nth as u64 * (CLASSES as u64) < records {
                    store.insert(memory, nth as u64 * CLASSES as u64 + class as u64, at);
                } else {
                    // As it was left by a record that moved.
                    ContentStream::new(store.content, store.seed, at as u64, 0)
                        .fill_words(&mut memory[at + 2..at + step]);
                    memory[at] = FREE;
                    memory[at + 1] = core::mem::replace(&mut store.free[class], at as u64);
                }
            }
        }
        store.ledger = Ledger::new(memory);
        store
    }

    fn operate(&mut self, stage: &WorkloadStage, memory: &mut [u64]) -> Done {
        self.ledger.begin();
        let popular = stage.share(self.records, memory.len());
        let reading = (self.random.next() >> 32) < stage.reads_q32;
        for _ in 0..self.batch {
            let number = self.chooser.next(&mut self.random) % popular;
            let Some((slot, at)) = self.find(memory, self.key(number)) else {
                self.unsound += 1;
                continue;
            };
            if (reading || self.modifies) && self.read(memory, at).is_none() {
                self.unsound += 1;
            }
            if !reading {
                self.update(memory, slot, at);
            }
        }
        Done { operation: if reading { READ } else { UPDATE }, page_writes: self.ledger.pages() }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        if self.unsound != 0 {
            return Err(Wrong::state(0, self.unsound, 0));
        }
        let mut live = [0_u64; CLASSES];
        let mut versions = 0_u64;
        for number in 0..self.records {
            let key = self.key(number);
            let Some((slot, at)) = self.find(memory, key) else {
                return Err(Wrong::state(0, number, self.records));
            };
            let Some(version) = self.read(memory, at) else { return Err(Wrong::content(at as u64 * 8)) };
            let class = self.class_at(at).ok_or(Wrong::content(slot as u64 * 8))?;
            versions = versions.wrapping_add(version);
            live[class] += 1;
        }
        if versions != self.versions {
            return Err(Wrong::state(0, versions, self.versions));
        }
        for (class, live) in live.into_iter().enumerate() {
            let (mut at, mut free) = (self.free[class], 0);
            while at != END {
                let sound = self.class_at(at as usize) == Some(class) && memory[at as usize] == FREE;
                if !sound || free > blocks(self.records) {
                    return Err(Wrong::state(
                        at.min(memory.len() as u64 - 1) * 8,
                        free,
                        blocks(self.records) - live,
                    ));
                }
                free += 1;
                at = memory[at as usize + 1];
            }
            if free + live != blocks(self.records) {
                return Err(Wrong::state(0, free + live, blocks(self.records)));
            }
        }
        self.ledger.check(memory)
    }
}

impl Kv {
    /// Updates that took another block.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// The key of record `number`: a bijection, as YCSB hashes its keys.
    const fn key(&self, number: u64) -> u64 {
        let key = mix(number ^ self.seed);
        // No key is the mark of a free block.
        if key == FREE { mix(key) } else { key }
    }

    /// The first slot to look at for a key.
    const fn home(&self, key: u64) -> usize {
        ((key as u128 * slots(self.records) as u128) >> 64) as usize
    }

    /// The slot and the record of `key`. A slot holds the place of a record in its lower half and half of the key in its
    /// upper half, so that other records need not be looked at.
    fn find(&self, memory: &[u64], key: u64) -> Option<(usize, usize)> {
        let slots = slots(self.records) as usize;
        let mut slot = self.home(key);
        for _ in 0..slots {
            let entry = memory[slot];
            if entry == 0 {
                return None;
            }
            let at = (entry & 0xffff_ffff) as usize;
            if entry >> 32 == key & 0xffff_ffff && at < memory.len() && memory[at] == key {
                return Some((slot, at));
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        None
    }

    /// The class of the block that begins at `at`, if one does.
    fn class_at(&self, at: usize) -> Option<usize> {
        let class = (0..CLASSES).find(|&class| (self.heap[class]..self.heap[class + 1]).contains(&at))?;
        (at - self.heap[class]).is_multiple_of(HEADER + room(class)).then_some(class)
    }

    /// Puts record `number` into the block at `at`; only while the store is being made.
    fn insert(&self, memory: &mut [u64], number: u64, at: usize) {
        let key = self.key(number);
        let words = self.length((number % CLASSES as u64) as usize, mix(key));
        ContentStream::new(self.content, self.seed, key, 0)
            .fill_words(&mut memory[at + HEADER..at + HEADER + words]);
        memory[at] = key;
        memory[at + 1] = words as u64;
        memory[at + 2] = checksum(&memory[at..at + 2], &memory[at + HEADER..at + HEADER + words]);
        let slots = slots(self.records) as usize;
        let mut slot = self.home(key);
        while memory[slot] != 0 {
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        memory[slot] = key << 32 | at as u64;
    }

    /// Words of a value of `class`, more than the class before has room for.
    const fn length(&self, class: usize, draw: u64) -> usize {
        let most = room(class);
        if class == 0 { most } else { most - (draw % (most as u64 / 2)) as usize }
    }

    /// Reads a record whole; gives its version, or nothing where its checksum does not fit.
    fn read(&self, memory: &[u64], at: usize) -> Option<u64> {
        let header = memory.get(at..at + HEADER)?;
        let words = (header[1] & 0xffff) as usize;
        let value = memory.get(at + HEADER..at + HEADER + words)?;
        (black_box(checksum(&header[..2], value)) == header[2]).then_some(header[1] >> 16)
    }

    /// A new value for the record at `at`, or a changed field of it. One in eight draws a length of its own.
    fn update(&mut self, memory: &mut [u64], slot: usize, mut at: usize) {
        let (key, old) = (memory[at], (memory[at + 1] & 0xffff) as usize);
        let version = (memory[at + 1] >> 16) + 1;
        let draw = self.random.next();
        let mut words = old;
        if draw & 7 == 0 {
            words = self.length((draw >> 8) as usize % CLASSES, draw >> 16);
        }
        // Nothing of the old value stays where a whole new one comes.
        let mut kept = if self.modifies { old.min(words) } else { 0 };
        let class = class_of(words);
        if class != class_of(old) {
            if self.free[class] == END {
                // No block of that class is left: the record stays as long as it is.
                words = old;
                kept = if self.modifies { old } else { 0 };
            } else {
                let to = self.free[class] as usize;
                self.free[class] = memory[to + 1];
                self.ledger.set(memory, to, key);
                for word in HEADER..HEADER + kept {
                    let value = memory[at + word];
                    self.ledger.set(memory, to + word, value);
                }
                self.ledger.set(memory, at, FREE);
                self.ledger.set(memory, at + 1, self.free[class_of(old)]);
                self.free[class_of(old)] = at as u64;
                self.ledger.set(memory, slot, key << 32 | to as u64);
                at = to;
                self.moved += 1;
            }
        }
        let mut stream = ContentStream::new(self.content, self.seed, key, version);
        if self.modifies {
            let field = (draw >> 32) as usize % (words / FIELD) * FIELD;
            for word in field..field + FIELD {
                self.ledger.set(memory, at + HEADER + word, stream.word());
            }
        }
        for word in kept..words {
            self.ledger.set(memory, at + HEADER + word, stream.word());
        }
        self.ledger.set(memory, at + 1, version << 16 | words as u64);
        let sum = checksum(&memory[at..at + 2], &memory[at + HEADER..at + HEADER + words]);
        self.ledger.set(memory, at + 2, sum);
        self.versions = self.versions.wrapping_add(1);
    }
}

/// Of key, version, length and value.
fn checksum(header: &[u64], value: &[u64]) -> u64 {
    mix(header
        .iter()
        .chain(value)
        .fold(GOLDEN, |sum, word| (sum ^ word).wrapping_mul(GOLDEN).rotate_left(29)))
}

#[cfg(all(test, not(guest)))]
#[path = "kv_tests.rs"]
mod tests;

//! A journal: records of 64 bytes to 1 KiB are appended to a ring in memory, each with its sequence number, length and
//! checksum; whenever enough of them have come, a checkpoint rewrites a table at a fixed place, in steps. What two
//! checkpoints need is kept, older records are overwritten as the window moves round.
//!
//! Appends write pages that nobody will write again for a long time; checkpoints write the same pages again and again.

use super::ledger::{Ledger, PAGE};
use super::{Done, PartContext, Program, Wrong};
use crate::abi::WorkloadStage;
use crate::content::ContentStream;
use crate::random::{GOLDEN, mix};

/// Records are appended.
pub const APPEND: usize = 0;
/// A step of a checkpoint.
pub const CHECKPOINT: usize = 1;

/// Words of a record before its content: sequence number, words of content, checksum.
const HEADER: usize = 3;
/// The most words of a record.
const RECORD: usize = HEADER + 127;
/// Instead of a sequence number: the window goes on at the ring's beginning.
const AROUND: u64 = u64::MAX;
/// The most records of an operation.
const BATCH: u32 = 32;
/// Pages of the table that an operation rewrites.
const STEP: u64 = 2;

/// A place in the journal, between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    at: usize,
    sequence: u64,
}

/// The state of a journal. The table comes first in memory, then the ring.
#[derive(Debug, Clone)]
pub struct Log {
    seed: u64,
    content: u32,
    batch: u32,
    /// Pages of the table.
    table: u64,
    end: usize,
    /// Where the next record goes.
    head: Position,
    /// Words appended since the last checkpoint.
    since: usize,
    /// Where the last checkpoint found the head, and the one before it: the window begins there.
    last: Position,
    tail: Position,
    /// Checkpoints begun, and the next page of the table that the current one rewrites.
    checkpoints: u64,
    cursor: u64,
    ledger: Ledger,
}

impl Program for Log {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        let params = place.params;
        let table = (memory.len() / PAGE / 8).max(1) as u64;
        let origin = Position { at: table as usize * PAGE, sequence: 0 };
        let mut log = Self {
            seed: mix(params.seed ^ (place.part + 1).wrapping_mul(GOLDEN)),
            content: params.content,
            batch: params.accesses.clamp(1, BATCH),
            table,
            end: memory.len(),
            head: origin,
            since: 0,
            last: origin,
            tail: origin,
            checkpoints: 0,
            cursor: table,
            ledger: Ledger::new(&[]),
        };
        // As earlier records left it.
        ContentStream::new(log.content, log.seed, u64::MAX, 0).fill_words(memory);
        for page in 0..table {
            log.rewrite(memory, page);
        }
        log.ledger = Ledger::new(memory);
        log
    }

    fn operate(&mut self, _stage: &WorkloadStage, memory: &mut [u64]) -> Done {
        // The page at the head is one write for as long as it is written.
        self.ledger.follow();
        if self.cursor < self.table {
            for _ in 0..STEP.min(self.table - self.cursor) {
                self.rewrite(memory, self.cursor);
                self.cursor += 1;
            }
            if self.cursor == self.table {
                (self.tail, self.last, self.since) = (self.last, self.head, 0);
            }
            return Done { operation: CHECKPOINT, page_writes: self.ledger.pages() };
        }
        for _ in 0..self.batch {
            self.append(memory);
            if self.since >= (self.end - self.begin()) / 8 * 3 {
                self.checkpoints += 1;
                self.cursor = 0;
                break;
            }
        }
        Done { operation: APPEND, page_writes: self.ledger.pages() }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        for page in 0..self.table {
            let first = page as usize * PAGE;
            let mut entries = self.entries(page, self.checkpoints - u64::from(page >= self.cursor));
            let wrong = memory[first..first + PAGE].iter().position(|&word| word != entries.next());
            if let Some(word) = wrong {
                return Err(Wrong::content((first + word) as u64 * 8));
            }
        }
        let mut position = self.tail;
        while position.sequence < self.head.sequence {
            position = self.check_record(memory, position)?;
        }
        if position != self.head {
            return Err(Wrong::state(self.head.at as u64 * 8, position.at as u64, self.head.at as u64));
        }
        self.ledger.check(memory)
    }
}

/// What a page of the table holds: the number of the checkpoint, then content of its own.
struct Entries {
    number: Option<u64>,
    stream: ContentStream,
}

impl Entries {
    fn next(&mut self) -> u64 {
        self.number.take().unwrap_or_else(|| self.stream.word())
    }
}

impl Log {
    /// Checkpoints begun.
    #[must_use]
    pub const fn checkpoints(&self) -> u64 {
        self.checkpoints
    }

    /// Where the ring begins.
    const fn begin(&self) -> usize {
        self.table as usize * PAGE
    }

    const fn entries(&self, page: u64, checkpoint: u64) -> Entries {
        Entries {
            number: Some(checkpoint),
            stream: ContentStream::new(self.content, self.seed, !page, checkpoint),
        }
    }

    /// One page of the table, for the current checkpoint.
    fn rewrite(&mut self, memory: &mut [u64], page: u64) {
        let first = page as usize * PAGE;
        let mut entries = self.entries(page, self.checkpoints);
        for at in first..first + PAGE {
            self.ledger.set(memory, at, entries.next());
        }
    }

    /// Words of content of a record: as many records in each doubling from 8 words on.
    const fn words(&self, sequence: u64) -> usize {
        let draw = mix(self.seed ^ sequence.wrapping_mul(GOLDEN));
        let least = 8 << (draw & 3);
        least + (draw >> 8) as usize % least
    }

    fn append(&mut self, memory: &mut [u64]) {
        let sequence = self.head.sequence;
        let words = self.words(sequence);
        let mut at = self.head.at;
        if at + HEADER + words > self.end {
            if at < self.end {
                self.ledger.set(memory, at, AROUND);
            }
            self.since += self.end - at;
            at = self.begin();
        }
        let mut stream = ContentStream::new(self.content, self.seed, sequence, 0);
        let mut sum = checksum(GOLDEN, sequence);
        for word in at + HEADER..at + HEADER + words {
            let value = stream.word();
            sum = checksum(sum, value);
            self.ledger.set(memory, word, value);
        }
        self.ledger.set(memory, at, sequence);
        self.ledger.set(memory, at + 1, words as u64);
        self.ledger.set(memory, at + 2, sum);
        self.head = Position { at: at + HEADER + words, sequence: sequence + 1 };
        self.since += HEADER + words;
    }

    /// Reads the record at `position` as recovery would, and gives the position after it.
    fn check_record(&self, memory: &[u64], position: Position) -> Result<Position, Wrong> {
        let Position { mut at, sequence } = position;
        if at == self.end || memory[at] == AROUND {
            at = self.begin();
        }
        if memory[at] != sequence {
            return Err(Wrong::state(at as u64 * 8, memory[at], sequence));
        }
        let words = self.words(sequence);
        if at + HEADER + words > self.end || memory[at + 1] != words as u64 {
            return Err(Wrong::content(at as u64 * 8 + 8));
        }
        let mut stream = ContentStream::new(self.content, self.seed, sequence, 0);
        let mut sum = checksum(GOLDEN, sequence);
        let first = at + HEADER;
        for (word, &value) in (first..).zip(&memory[first..first + words]) {
            if value != stream.word() {
                return Err(Wrong::content(word as u64 * 8));
            }
            sum = checksum(sum, value);
        }
        if memory[at + 2] != sum {
            return Err(Wrong::content(at as u64 * 8 + 16));
        }
        Ok(Position { at: at + HEADER + words, sequence: sequence + 1 })
    }
}

const fn checksum(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(GOLDEN).rotate_left(29)
}

const _: () = assert!(RECORD < PAGE);

#[cfg(all(test, not(guest)))]
#[path = "log_tests.rs"]
mod tests;

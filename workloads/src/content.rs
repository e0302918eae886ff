//! What is written: endless streams of 8-byte words, a kind each. The guest compiles this same file, so it uses `core` only.

use crate::abi::{
    CONTENT_COUNTER, CONTENT_DUPLICATE, CONTENT_RANDOM, CONTENT_RECORDS, CONTENT_SAME, CONTENT_TEXT,
};
use crate::random::{GOLDEN, Random, mix};

const WORDS: [&[u8]; 32] = [
    b"the ",
    b"guest ",
    b"memory ",
    b"of ",
    b"a ",
    b"page ",
    b"is ",
    b"and ",
    b"to ",
    b"in ",
    b"machine ",
    b"that ",
    b"was ",
    b"migration ",
    b"with ",
    b"for ",
    b"it ",
    b"kernel ",
    b"on ",
    b"by ",
    b"not ",
    b"from ",
    b"round ",
    b"which ",
    b"dirty ",
    b"copy ",
    b"are ",
    b"at ",
    b"before ",
    b"write ",
    b"host ",
    b"state\n",
];

/// How many contents `duplicate` has.
pub const DUPLICATES: u64 = 16;

/// Text in which each word is followed by one of four, with chances of 1/2, 1/4, 1/8 and 1/8.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    random: Random,
    bits: u64,
    left: u32,
    word: usize,
    at: usize,
}

impl Text {
    /// The text of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), bits: 0, left: 0, word: (seed & 31) as usize, at: 0 }
    }

    /// The next eight bytes.
    pub fn word(&mut self) -> u64 {
        let mut bytes = [0; 8];
        for byte in &mut bytes {
            if self.at == WORDS[self.word].len() {
                self.word = self.follower();
                self.at = 0;
            }
            *byte = WORDS[self.word][self.at];
            self.at += 1;
        }
        u64::from_le_bytes(bytes)
    }

    fn follower(&mut self) -> usize {
        if self.left == 0 {
            (self.bits, self.left) = (self.random.next(), 21);
        }
        let nth = [0, 0, 0, 0, 1, 1, 2, 3][(self.bits & 7) as usize];
        self.bits >>= 3;
        self.left -= 1;
        // The four followers of a word lie 7 apart: the table needs no memory.
        (self.word * 5 + nth * 7 + 3) % WORDS.len()
    }
}

/// A stream of one kind.
#[derive(Debug, Clone, Copy)]
pub struct ContentStream {
    content: u32,
    count: u64,
    id: u64,
    field: u64,
    random: Random,
    text: Text,
}

impl ContentStream {
    /// The words of write number `count` to the thing that `id` names (a page, a record), under a guest's `seed`.
    #[must_use]
    pub const fn new(content: u32, seed: u64, id: u64, count: u64) -> Self {
        let state = mix(seed ^ id.wrapping_mul(GOLDEN)) ^ mix(count);
        let random = if content == CONTENT_DUPLICATE {
            Random::new(seed ^ (state % DUPLICATES))
        } else {
            Random::resume(state)
        };
        Self { content, count, id, field: 0, random, text: Text::new(state) }
    }

    /// The next eight bytes.
    #[inline]
    pub fn word(&mut self) -> u64 {
        match self.content {
            CONTENT_COUNTER => self.count,
            CONTENT_RANDOM | CONTENT_DUPLICATE => self.random.next(),
            CONTENT_SAME => 0xa5a5_a5a5_a5a5_a5a5,
            CONTENT_TEXT => self.text.word(),
            CONTENT_RECORDS => self.record(),
            _ => 0,
        }
    }

    /// Fields of a record: what it is, how often it was written, a kind, a small number, and four empty ones.
    fn record(&mut self) -> u64 {
        let field = self.field;
        self.field += 1;
        match field % 8 {
            0 => self.id.wrapping_mul(64).wrapping_add(field / 8),
            1 => self.count,
            2 => 0x0001_0000_0000_0007,
            3 => self.random.next() & 0xffff,
            _ => 0,
        }
    }

    /// Fills `words` with those that follow.
    pub fn fill_words(&mut self, words: &mut [u64]) {
        for word in words {
            *word = self.word();
        }
    }

    /// Fills `bytes` with the words that follow; of the last one as many bytes as there is room for.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let mut words = bytes.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.word().to_le_bytes());
        }
        let rest = words.into_remainder();
        if !rest.is_empty() {
            let length = rest.len();
            rest.copy_from_slice(&self.word().to_le_bytes()[..length]);
        }
    }
}

#[cfg(all(test, not(guest)))]
mod tests {
    use super::*;
    use crate::abi::CONTENT_ZERO;

    fn bytes(content: u32, id: u64, count: u64) -> [u8; 4096] {
        let mut bytes = [0; 4096];
        ContentStream::new(content, 1, id, count).fill(&mut bytes);
        bytes
    }

    #[test]
    fn each_kind_is_what_it_says() {
        for count in 1..40 {
            assert!(bytes(CONTENT_COUNTER, 3, count).chunks(8).all(|word| word == count.to_le_bytes()));
            assert_eq!(bytes(CONTENT_SAME, 3, count), bytes(CONTENT_SAME, 4, count + 1));
            assert_eq!(bytes(CONTENT_ZERO, 3, count), [0; 4096]);
            assert_ne!(bytes(CONTENT_RANDOM, 3, count), bytes(CONTENT_RANDOM, 3, count + 1));
            assert_ne!(bytes(CONTENT_TEXT, 3, count), bytes(CONTENT_TEXT, 4, count));
        }
    }

    #[test]
    fn text_is_words() {
        let bytes = bytes(CONTENT_TEXT, 9, 2);
        let text = std::str::from_utf8(&bytes).unwrap();
        let known: Vec<&str> = WORDS.iter().map(|word| std::str::from_utf8(word).unwrap().trim()).collect();
        let words: Vec<&str> = text.split_whitespace().collect();
        // The last word may be cut.
        assert!(words[..words.len() - 1].iter().all(|word| known.contains(word)), "{text}");
        let distinct: std::collections::BTreeSet<_> = words.iter().collect();
        assert!(distinct.len() > 20, "{distinct:?}");
    }

    #[test]
    fn duplicates_are_sixteen() {
        let all: std::collections::BTreeSet<_> =
            (0..2000).map(|id| bytes(CONTENT_DUPLICATE, id, id % 7).to_vec()).collect();
        assert_eq!(all.len() as u64, DUPLICATES);
    }

    #[test]
    fn a_second_write_of_a_record_changes_few_bytes() {
        let (first, second) = (bytes(CONTENT_RECORDS, 5, 1), bytes(CONTENT_RECORDS, 5, 2));
        let changed = first.iter().zip(second).filter(|(a, b)| **a != *b).count();
        assert!((64..=64 * 3).contains(&changed), "{changed}");
    }
}

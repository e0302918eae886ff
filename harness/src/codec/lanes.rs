//! What differs between backends: a few operations on one line of 64 bytes. Encoders and decoders are written once over
//! [`Lanes`], and inlined into functions that are compiled with the instructions of each backend.

use crate::sys::live::LiveLine;
pub(super) use crate::sys::live::{LINE, Line};

/// Operations on one line. A word has eight bytes. Masks have the first byte or word lowest. What is written behind the last
/// byte that an operation is about is unspecified.
pub(super) trait Lanes: Copy {
    /// A line of a page that may be written meanwhile, in as few loads as there are, each made once.
    fn load(self, line: LiveLine<'_>) -> Line;

    /// Stores a line past the caches, where the CPU can and `to` is aligned for that.
    fn stream(self, line: &Line, to: &mut Line);

    /// Orders what was streamed before everything that comes next.
    fn fence(self);

    /// A bit for each byte in which the lines differ.
    fn differ(self, old: &Line, new: &Line) -> u64;

    /// Moves the words of `line` that are in `words` together, at the start of `out`.
    fn compress_words(self, line: &Line, words: u8, out: &mut Line);

    /// Moves the bytes of `line` that are in `bytes` together, at the start of `out`.
    fn compress_bytes(self, line: &Line, bytes: u64, out: &mut Line);

    /// The reverse of [`Self::compress_words`]: takes words from the start of `from`. Other words of `line` stay.
    fn expand_words(self, from: &Line, words: u8, line: &mut Line);

    /// The reverse of [`Self::compress_bytes`]: takes bytes from the start of `from`. Other bytes of `line` stay.
    fn expand_bytes(self, from: &Line, bytes: u64, line: &mut Line);

    /// Moves the bytes of `value` that are in `bytes` together, at its lower end.
    fn compress_eight(self, value: u64, bytes: u8) -> u64;

    /// The reverse of [`Self::compress_eight`]; other bytes are zero.
    fn expand_eight(self, value: u64, bytes: u8) -> u64;
}

/// A bit for each word in which a byte of `mask` is set.
#[inline(always)]
pub(super) const fn words_of(mask: u64) -> u8 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // The highest bit of each byte that is not zero, moved to the lowest.
    let some = ((((mask & LOW) + LOW) | mask) & !LOW) >> 7;
    // Each of these bits arrives in the highest byte once, at the place of its own number.
    (some.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// Plain Rust, for every CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portable;

impl Lanes for Portable {
    #[inline(always)]
    fn load(self, line: LiveLine<'_>) -> Line {
        line.load()
    }

    #[inline(always)]
    fn stream(self, line: &Line, to: &mut Line) {
        *to = *line;
    }

    #[inline(always)]
    fn fence(self) {}

    #[inline(always)]
    fn differ(self, old: &Line, new: &Line) -> u64 {
        if old == new {
            return 0;
        }
        let pairs = old.as_chunks::<8>().0.iter().zip(new.as_chunks::<8>().0);
        pairs.enumerate().fold(0, |mask, (i, (old, new))| {
            let words = words_of(u64::from_le_bytes(*old) ^ u64::from_le_bytes(*new));
            mask | u64::from(words) << (8 * i)
        })
    }

    #[inline(always)]
    fn compress_words(self, line: &Line, words: u8, out: &mut Line) {
        let (line, mut left) = (line.as_chunks::<8>().0, words);
        for to in out.as_chunks_mut::<8>().0.iter_mut().take(words.count_ones() as usize) {
            *to = line[left.trailing_zeros() as usize % 8];
            left &= left.wrapping_sub(1);
        }
    }

    #[inline(always)]
    fn compress_bytes(self, line: &Line, bytes: u64, out: &mut Line) {
        let mut left = bytes;
        for to in out {
            if left == 0 {
                return;
            }
            *to = line[left.trailing_zeros() as usize % LINE];
            left &= left - 1;
        }
    }

    #[inline(always)]
    fn expand_words(self, from: &Line, words: u8, line: &mut Line) {
        let (line, mut left) = (line.as_chunks_mut::<8>().0, words);
        for word in from.as_chunks::<8>().0.iter().take(words.count_ones() as usize) {
            line[left.trailing_zeros() as usize % 8] = *word;
            left &= left.wrapping_sub(1);
        }
    }

    #[inline(always)]
    fn expand_bytes(self, from: &Line, bytes: u64, line: &mut Line) {
        let mut left = bytes;
        for byte in from {
            if left == 0 {
                return;
            }
            line[left.trailing_zeros() as usize % LINE] = *byte;
            left &= left - 1;
        }
    }

    #[inline(always)]
    fn compress_eight(self, value: u64, bytes: u8) -> u64 {
        let (mut out, mut at) = (0, 0);
        for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
            if bytes >> i & 1 != 0 {
                out |= u64::from(byte) << at;
                at += 8;
            }
        }
        out
    }

    #[inline(always)]
    fn expand_eight(self, mut value: u64, bytes: u8) -> u64 {
        let mut out = 0;
        for i in (0..8).filter(|i| bytes >> i & 1 != 0) {
            out |= (value & 0xff) << (8 * i);
            value >>= 8;
        }
        out
    }
}

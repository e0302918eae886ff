//! Zstandard frames of the XOR with the old page, and of whole pages where there is no old one: level 1, and as little around
//! each page as the format allows (no magic number, size, checksum or name of a dictionary).
//!
//! With a dictionary both sides train one on the first pages that are encoded, each from what it encoded or decoded: the same
//! pages in the same order, so that nothing of it is sent. Training is done once, on each side.

use std::fmt;

use migbench_scenarios::cell::Codec;
use zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, ErrorCode, FrameFormat, get_error_name, train_from_buffer,
};

use super::{Change, DecodeError, MAX_ENCODED, PAGE, Page, PageCodec, change};
use crate::sys::live::TargetPage;

/// Pages that a dictionary is trained on.
pub const SAMPLES: usize = 256;
/// Bytes of a dictionary at most: a page's own size finds few matches, and much more costs time for each page.
const DICTIONARY: usize = 16 << 10;

/// The codec.
pub struct Zstd {
    compressor: CCtx<'static>,
    decompressor: DCtx<'static>,
    difference: Box<Page>,
    with_dictionary: bool,
    /// What a dictionary will be trained on; empty where none is to be.
    samples: Vec<u8>,
    /// A configuration that the library refused: every page goes whole then.
    broken: bool,
}

impl Zstd {
    /// With memory to work in, and with a dictionary if so asked.
    #[must_use]
    pub fn new(with_dictionary: bool) -> Self {
        let (mut compressor, mut decompressor) = (CCtx::create(), DCtx::create());
        let settings = [
            CParameter::CompressionLevel(1),
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        let mut broken = false;
        for setting in settings {
            broken |= compressor.set_parameter(setting).is_err();
        }
        broken |= decompressor.set_parameter(DParameter::Format(FrameFormat::Magicless)).is_err();
        let samples = Vec::with_capacity(if with_dictionary { SAMPLES * PAGE } else { 0 });
        Self { compressor, decompressor, difference: Box::new([0; PAGE]), with_dictionary, samples, broken }
    }

    /// Takes note of a page that both sides have seen; with the last one a dictionary is trained. Where there is too little in
    /// the pages to train on, both sides find that out alike and go on without.
    fn learn(&mut self) {
        if self.samples.capacity() == 0 {
            return;
        }
        self.samples.extend_from_slice(&self.difference[..]);
        if self.samples.len() < SAMPLES * PAGE {
            return;
        }
        let samples = std::mem::take(&mut self.samples);
        let mut dictionary = Vec::with_capacity(DICTIONARY);
        if train_from_buffer(&mut dictionary, &samples, &[PAGE; SAMPLES]).is_ok() {
            self.broken |= self.compressor.load_dictionary(&dictionary).is_err()
                || self.decompressor.load_dictionary(&dictionary).is_err();
        }
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").field("with_dictionary", &self.with_dictionary).finish_non_exhaustive()
    }
}

impl PageCodec for Zstd {
    fn name(&self) -> &'static str {
        let codec = if self.with_dictionary { Codec::ZstdDictionary } else { Codec::Zstd };
        codec.word()
    }

    fn learns(&self) -> bool {
        self.with_dictionary
    }

    fn worst_size(&self) -> usize {
        MAX_ENCODED
    }

    fn takes_old(&self) -> bool {
        true
    }

    fn encode(&mut self, _: u64, change: &Change, new: &Page, out: &mut [u8]) -> Option<usize> {
        change.xor(new, &mut self.difference);
        let limit = out.len().min(MAX_ENCODED);
        match self.compressor.compress2(&mut out[..limit], &self.difference[..]) {
            Ok(length) if !self.broken => {
                self.learn();
                Some(length)
            }
            // No room: the frame would not be smaller than the page.
            _ => None,
        }
    }

    fn decode_in_place(&mut self, encoded: &[u8], page: TargetPage<'_>) -> Result<(), DecodeError> {
        let damaged = |what| DecodeError::Damaged { codec: "Zstandard", what };
        let length = self
            .decompressor
            .decompress(&mut self.difference[..], encoded)
            .map_err(|code: ErrorCode| damaged(get_error_name(code)))?;
        if length != PAGE {
            return Err(damaged("it holds less than a page"));
        }
        self.learn();
        change::apply(&self.difference, page);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{CodecBackend, encode_pair};

    fn encode(codec: &mut Zstd, page: u64, old: &Page, new: &Page, out: &mut [u8]) -> Option<usize> {
        encode_pair(codec, CodecBackend::best(), page, [old, new], out)
    }

    /// A page of words that repeat from page to page but hardly within one.
    fn page_of_words(number: u64) -> Page {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut page = [0; PAGE];
        for chunk in page.as_chunks_mut::<32>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut word = (state % 300 + 1).wrapping_mul(0xd134_2543_de82_ef95);
            for byte in chunk {
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                *byte = word.to_le_bytes()[3];
            }
        }
        page
    }

    #[test]
    fn a_dictionary_is_learned_on_both_sides_and_makes_pages_smaller() {
        let (old, mut out) = ([0; PAGE], [0; MAX_ENCODED]);
        let mut sizes = [Vec::new(), Vec::new()];
        for (with_dictionary, sizes) in [false, true].into_iter().zip(&mut sizes) {
            let (mut source, mut destination) = (Zstd::new(with_dictionary), Zstd::new(with_dictionary));
            for number in 0..2 * SAMPLES as u64 {
                let page = page_of_words(number);
                let Some(length) = encode(&mut source, number, &old, &page, &mut out) else {
                    panic!("page {number} overflowed")
                };
                let mut decoded = old;
                destination.decode(&out[..length], &mut decoded).unwrap();
                assert!(decoded == page, "page {number}");
                sizes.push(length);
            }
        }
        assert_eq!(sizes[0][..SAMPLES], sizes[1][..SAMPLES], "the same until it is trained");
        let late = sizes.map(|sizes| sizes[SAMPLES..].iter().sum::<usize>());
        assert!(late[1] < late[0], "{late:?}");
    }

    #[test]
    fn frames_of_less_or_more_than_a_page_are_refused() {
        for (length, fits) in [(PAGE - 1, false), (PAGE, true), (PAGE + 1, false)] {
            let (mut zstd, mut frame) = (Zstd::new(false), [0; MAX_ENCODED]);
            let used = zstd.compressor.compress2(&mut frame[..], &vec![1; length]).unwrap();
            assert_eq!(zstd.decode(&frame[..used], &mut [0; PAGE]).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn pages_without_anything_to_learn_leave_both_sides_without_a_dictionary() {
        let (mut source, mut destination) = (Zstd::new(true), Zstd::new(true));
        let mut out = [0; MAX_ENCODED];
        for number in 0..2 * SAMPLES {
            let (old, mut new) = ([0; PAGE], [0; PAGE]);
            new[number % PAGE] = 1;
            let length = encode(&mut source, 0, &old, &new, &mut out).unwrap();
            let mut decoded = old;
            destination.decode(&out[..length], &mut decoded).unwrap();
            assert!(decoded == new);
        }
    }
}

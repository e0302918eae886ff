//! The format `mask`: what changed of a page as maps of lines, words and bytes and the changed words or bytes, or as runs,
//! whichever is smallest. Maps cost the same wherever the changes lie, and are made and read with few branches. `mask.md`
//! beside this file describes every byte.

use migbench_scenarios::cell::Codec;

use super::change::LINES;
use super::lanes::{LINE, Lanes, Line};
use super::runs::{Positions, positions};
use super::xbzrle::{self, Encoding};
use super::{Change, CodecBackend, DecodeError, MAX_ENCODED, Page, PageCodec};
use crate::sys::live::TargetPage;

/// The first byte of an encoding: the version of the format in the upper half, the form in the lower.
const RUNS: u8 = 0x10;
const WORDS: u8 = 0x11;
const BYTES: u8 = 0x12;

/// The tag and the map of lines.
const HEAD: usize = 1 + 8;

/// Bytes of a buffer that is encoded into: the last line is written whole, however much of it counts.
const BUFFER: usize = MAX_ENCODED + LINE;

/// The codec.
#[derive(Debug)]
pub struct Mask {
    backend: CodecBackend,
    positions: Box<Positions>,
}

impl Mask {
    /// With the instructions of `backend`.
    #[must_use]
    pub fn new(backend: CodecBackend) -> Self {
        Self { backend, positions: positions() }
    }
}

impl PageCodec for Mask {
    fn name(&self) -> &'static str {
        Codec::Mask.word()
    }

    fn worst_size(&self) -> usize {
        BUFFER
    }

    fn encode(&mut self, _: u64, change: &Change, new: &Page, out: &mut [u8]) -> Option<usize> {
        self.backend.encode_mask(change, new, out, &mut self.positions)
    }

    fn decode_in_place(&mut self, encoded: &[u8], page: TargetPage<'_>) -> Result<(), DecodeError> {
        self.backend.decode_mask(encoded, page)
    }
}

/// Inlined so that it is compiled with the instructions of the backend that calls it.
#[inline(always)]
pub(super) fn encode<L: Lanes>(
    lanes: L,
    change: &Change,
    new: &Page,
    out: &mut [u8],
    positions: &mut Positions,
) -> Option<usize> {
    let out = out.first_chunk_mut::<BUFFER>()?;
    let (bytes, words) = (change.changed_bytes as usize, change.changed_words as usize);
    let maps = HEAD + change.lines.count_ones() as usize;
    let (by_words, by_bytes) = (maps + 8 * words, maps + words + bytes);
    let size = by_words.min(by_bytes);
    // Runs are taken only where they are smaller, which is certain only when they are written down.
    let limit = MAX_ENCODED.min(size - 1) - 1;
    if change.least_size() <= limit
        && let Some(runs) = change.encode_runs(new, Encoding::new(&mut out[1..], limit), positions)
    {
        out[0] = RUNS;
        return Some(1 + runs);
    }
    if size > MAX_ENCODED {
        return None;
    }
    out[1..HEAD].copy_from_slice(&change.lines.to_le_bytes());
    let new = new.as_chunks::<LINE>().0;
    let mut at = maps;
    if by_words <= by_bytes {
        out[0] = WORDS;
        for (map, line) in (HEAD..).zip(members(change.lines)) {
            let words = change.words[line];
            out[map] = words;
            lanes.compress_words(&new[line], words, line_at(out, at)?);
            at += 8 * words.count_ones() as usize;
        }
    } else {
        out[0] = BYTES;
        for (map, line) in (HEAD..).zip(members(change.lines)) {
            let words = change.words[line];
            out[map] = words;
            let to = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<8>())?;
            *to = lanes.compress_eight(change.masks[line], words).to_le_bytes();
            at += words.count_ones() as usize;
        }
        for line in members(change.lines) {
            let bytes = change.masks[line];
            lanes.compress_bytes(&new[line], bytes, line_at(out, at)?);
            at += bytes.count_ones() as usize;
        }
    }
    Some(size)
}

/// Inlined so that it is compiled with the instructions of the backend that calls it.
#[inline(always)]
pub(super) fn decode<L: Lanes>(
    lanes: L,
    encoded: &[u8],
    mut page: TargetPage<'_>,
) -> Result<(), DecodeError> {
    let truncated = DecodeError::Truncated { offset: encoded.len() };
    let (&tag, runs) = encoded.split_first().ok_or(truncated)?;
    if tag == RUNS {
        return xbzrle::decode(runs, page).map_err(|error| error.moved(1));
    }
    if tag != WORDS && tag != BYTES {
        return Err(DecodeError::Tag { offset: 0, found: tag });
    }
    let lines = u64::from_le_bytes(*runs.first_chunk().ok_or(truncated)?);
    let mut at = HEAD + lines.count_ones() as usize;
    let maps = encoded.get(HEAD..at).ok_or(truncated)?;
    let words = ones(maps);
    let ends = |end: usize| match encoded.len() {
        length if length < end => Err(truncated),
        length if length > end => Err(DecodeError::Trailing { offset: end }),
        _ => Ok(()),
    };
    // Where the last line is read: what is behind it counts for nothing.
    let mut padded = [0; LINE];
    if tag == WORDS {
        ends(at + 8 * words)?;
        for (&words, number) in maps.iter().zip(members(lines)) {
            let mut line = page.line(number);
            lanes.expand_words(from(encoded, at, &mut padded), words, &mut line);
            page.set_line(number, &line);
            at += 8 * words.count_ones() as usize;
        }
        return Ok(());
    }
    let mut map_at = at;
    at += words;
    let byte_maps = encoded.get(map_at..at).ok_or(truncated)?;
    ends(at + ones(byte_maps))?;
    let mut padded_map = [0; 8];
    for (&words, number) in maps.iter().zip(members(lines)) {
        let together = u64::from_le_bytes(*from(encoded, map_at, &mut padded_map));
        let bytes = lanes.expand_eight(together, words);
        map_at += words.count_ones() as usize;
        let mut line = page.line(number);
        lanes.expand_bytes(from(encoded, at, &mut padded), bytes, &mut line);
        page.set_line(number, &line);
        at += bytes.count_ones() as usize;
    }
    Ok(())
}

/// The lines of a map, in order.
#[inline(always)]
fn members(mut lines: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let line = (lines != 0).then(|| lines.trailing_zeros() as usize % LINES);
        lines &= lines.wrapping_sub(1);
        line
    })
}

#[inline(always)]
fn line_at(out: &mut [u8; BUFFER], at: usize) -> Option<&mut Line> {
    out.get_mut(at..).and_then(|rest| rest.first_chunk_mut())
}

/// `N` bytes of an encoding from `at` on, or as many as it has, in `padded`.
#[inline(always)]
fn from<'a, const N: usize>(encoded: &'a [u8], at: usize, padded: &'a mut [u8; N]) -> &'a [u8; N] {
    let rest = encoded.get(at..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk() {
        return whole;
    }
    padded.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
    padded
}

/// Bits that are set in maps.
#[inline(always)]
fn ones(maps: &[u8]) -> usize {
    let (words, rest) = maps.as_chunks::<8>();
    let words: u32 = words.iter().map(|word| u64::from_le_bytes(*word).count_ones()).sum();
    (words + rest.iter().map(|byte| byte.count_ones()).sum::<u32>()) as usize
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;

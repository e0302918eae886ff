//! QEMU's XBZRLE format ("XOR based zero run length encoding"): the difference between the page that the
//! destination holds and the page that it should hold. An encoding is a sequence of
//! `zrun nzrun bytes`, where `zrun` counts equal bytes, `nzrun` counts bytes that differ, and `bytes` are the
//! `nzrun` **new** bytes. Lengths are ULEB128; the last run of equal bytes is left out.
//!
//! The encoder writes into the caller's buffer and says how much of it counts. The decoder trusts nothing:
//! whatever the bytes, it writes only inside the page, and an error names the offset of what it refused.
//!
//! Source: `migration/xbzrle.c` and `docs/xbzrle.txt` of QEMU.

use migbench_scenarios::cell::Codec;

use super::runs::{Positions, positions};
use super::{Change, CodecBackend, DecodeError, MAX_ENCODED, PAGE, Page, PageCodec};
use crate::sys::live::TargetPage;

/// The codec. Its decoder accepts and refuses exactly what QEMU's does.
#[derive(Debug)]
pub struct Xbzrle {
    backend: CodecBackend,
    positions: Box<Positions>,
}

impl Xbzrle {
    /// With the instructions of `backend`.
    #[must_use]
    pub fn new(backend: CodecBackend) -> Self {
        Self { backend, positions: positions() }
    }
}

impl PageCodec for Xbzrle {
    fn name(&self) -> &'static str {
        Codec::Xbzrle.word()
    }

    /// A smaller buffer does, as long as it holds the encoding; these bytes keep the encoder on its fast path.
    fn worst_size(&self) -> usize {
        MAX_ENCODED + SHORT_RUN + LENGTHS
    }

    fn encode(&mut self, _: u64, change: &Change, new: &Page, out: &mut [u8]) -> Option<usize> {
        self.backend.encode_xbzrle(change, new, out, &mut self.positions)
    }

    fn decode_in_place(&mut self, encoded: &[u8], page: TargetPage<'_>) -> Result<(), DecodeError> {
        decode(encoded, page)
    }
}

/// Applies an encoding to `page`, which holds the old contents. After an error the page may hold part of the
/// new contents and must not be used.
///
/// # Errors
/// If the encoding is cut short, reaches beyond the page, or holds lengths that no encoder writes.
#[inline]
pub(super) fn decode(delta: &[u8], mut page: TargetPage<'_>) -> Result<(), DecodeError> {
    let (mut from, mut to) = (0, 0);
    while from < delta.len() {
        if let Some((read, written)) = decode_short(&delta[from..], &mut page, to, from == 0) {
            from += read;
            to += written;
            continue;
        }
        let offset = from;
        let zrun = read_length(delta, &mut from)?;
        if zrun == 0 && offset != 0 {
            return Err(DecodeError::EmptyRun { offset });
        }
        to += zrun;
        if to > PAGE {
            return Err(DecodeError::BeyondPage { offset, end: to });
        }
        let offset = from;
        let nzrun = read_length(delta, &mut from)?;
        if nzrun == 0 {
            return Err(DecodeError::EmptyRun { offset });
        }
        let beyond = DecodeError::BeyondPage { offset, end: to + nzrun };
        if to + nzrun > PAGE {
            return Err(beyond);
        }
        let bytes = delta.get(from..from + nzrun).ok_or(DecodeError::Truncated { offset: delta.len() })?;
        copy_run(&mut page, to, bytes).ok_or(beyond)?;
        from += nzrun;
        to += nzrun;
    }
    Ok(())
}

/// Applies a run of up to two words with lengths of one byte each, as most are, and says how far that went in the encoding and
/// in the page. None if the run is another, or anything about it is not certain.
#[inline(always)]
fn decode_short(delta: &[u8], page: &mut TargetPage<'_>, to: usize, first: bool) -> Option<(usize, usize)> {
    const WORD: usize = 8;
    let &[zrun, nzrun, ref bytes @ ..] = delta.first_chunk::<{ 2 + 2 * WORD }>()?;
    let (zrun, nzrun) = (usize::from(zrun), usize::from(nzrun));
    if zrun >= 0x80 || !(1..=2 * WORD).contains(&nzrun) || (zrun == 0 && !first) {
        return None;
    }
    let at = to + zrun;
    // As if both words were written, so that nothing is done by halves.
    (at <= PAGE - 2 * WORD).then_some(())?;
    if let Some(last) = nzrun.checked_sub(WORD) {
        // Two words that overlap where the run is shorter.
        page.write::<WORD>(at, bytes.first_chunk()?)?;
        page.write::<WORD>(at + last, bytes.get(last..)?.first_chunk()?)?;
    } else {
        copy_run(page, at, bytes.get(..nzrun)?)?;
    }
    Some((2 + nzrun, zrun + nzrun))
}

/// Reads a ULEB128 length of one or two bytes.
#[inline]
fn read_length(delta: &[u8], at: &mut usize) -> Result<usize, DecodeError> {
    let offset = *at;
    // Truncation is named after the end of the encoding, where bytes are missing.
    let truncated = DecodeError::Truncated { offset: delta.len() };
    let low = usize::from(*delta.get(offset).ok_or(truncated)?);
    if low < 0x80 {
        *at = offset + 1;
        return Ok(low);
    }
    let high = usize::from(*delta.get(offset + 1).ok_or(truncated)?);
    if high >= 0x80 {
        return Err(DecodeError::LengthTooLong { offset });
    }
    *at = offset + 2;
    Ok((low & 0x7f) | (high << 7))
}

/// Writes a run from `at` on. Most runs are a few words, for which a call to `memcpy` costs more than the
/// copy; two overlapping fixed-size copies cover every length between one and two of their size. None, where it reaches beyond the
/// page.
#[inline]
fn copy_run(page: &mut TargetPage<'_>, at: usize, run: &[u8]) -> Option<()> {
    #[inline(always)]
    fn ends<const N: usize>(page: &mut TargetPage<'_>, at: usize, run: &[u8]) -> Option<()> {
        page.write::<N>(at + run.len() - N, run.last_chunk()?)?;
        page.write::<N>(at, run.first_chunk()?)
    }
    match run.len() {
        1 => ends::<1>(page, at, run),
        2..=3 => ends::<2>(page, at, run),
        4..=7 => ends::<4>(page, at, run),
        8..=15 => ends::<8>(page, at, run),
        16..=32 => ends::<16>(page, at, run),
        _ => page.write_all(at, run),
    }
}

/// An encoding under construction: a cursor in the caller's buffer, and the end that it must not pass.
pub(super) struct Encoding<'a> {
    out: &'a mut [u8],
    used: usize,
    limit: usize,
}

/// Runs of up to this many bytes are copied with one copy of fixed size.
const SHORT_RUN: usize = 32;
/// Bytes of two lengths.
const LENGTHS: usize = 4;

impl<'a> Encoding<'a> {
    /// Of `limit` bytes at most, and no more than `out` has.
    #[inline(always)]
    pub(super) fn new(out: &'a mut [u8], limit: usize) -> Self {
        let limit = limit.min(out.len());
        Self { out, used: 0, limit }
    }

    /// The most bytes that the encoding may have.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Adds `zrun` equal bytes followed by `new[start..end]`. False if that passes the end.
    #[inline(always)]
    pub(super) fn push(&mut self, zrun: usize, new: &Page, start: usize, end: usize) -> bool {
        let nzrun = end - start;
        let short = new.get(start..).and_then(|rest| rest.first_chunk::<SHORT_RUN>());
        let room =
            self.out.get_mut(self.used..).and_then(|rest| rest.first_chunk_mut::<{ SHORT_RUN + LENGTHS }>());
        if let (Some(bytes), Some(room), true) = (short, room, nzrun <= SHORT_RUN) {
            // Bytes behind the run are copied along; what comes next overwrites them.
            let head = put_length(room, 0, zrun);
            let head = put_length(room, head, nzrun);
            room[head..head + SHORT_RUN].copy_from_slice(bytes);
            self.used += head + nzrun;
            return self.used <= self.limit;
        }
        self.push_exactly(zrun, &new[start..end])
    }

    /// As [`Self::push`], for a short run behind few equal bytes; false if it is another, or there is not room for any.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "lengths under 128")]
    pub(super) fn push_short(&mut self, zrun: usize, new: &Page, start: usize, end: usize) -> bool {
        let nzrun = end - start;
        let short = new.get(start..).and_then(|rest| rest.first_chunk::<SHORT_RUN>());
        let room = self.out.get_mut(self.used..).and_then(|rest| rest.first_chunk_mut::<{ SHORT_RUN + 2 }>());
        let used = self.used + 2 + nzrun;
        let (Some(bytes), Some(room), true) =
            (short, room, zrun < 0x80 && nzrun <= SHORT_RUN && used <= self.limit)
        else {
            return false;
        };
        room[0] = zrun as u8;
        room[1] = nzrun as u8;
        room[2..].copy_from_slice(bytes);
        self.used = used;
        true
    }

    /// As [`Self::push`], without writing a byte more than the encoding has.
    fn push_exactly(&mut self, zrun: usize, run: &[u8]) -> bool {
        let mut lengths = [0; 4];
        let head = put_length(&mut lengths, 0, zrun);
        let head = put_length(&mut lengths, head, run.len());
        let end = self.used + head + run.len();
        if end > self.limit {
            return false;
        }
        self.out[self.used..self.used + head].copy_from_slice(&lengths[..head]);
        self.out[self.used + head..end].copy_from_slice(run);
        self.used = end;
        true
    }

    /// Bytes of the encoding.
    pub(super) const fn used(&self) -> usize {
        self.used
    }
}

/// Writes a ULEB128 length at `at`, without a branch; the second byte is written even if it does not count.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a length in a page has 13 bits, which two bytes hold")]
fn put_length<const N: usize>(out: &mut [u8; N], at: usize, length: usize) -> usize {
    let long = length >= 0x80;
    out[at] = (length & 0x7f) as u8 | (u8::from(long) << 7);
    out[at + 1] = (length >> 7) as u8;
    at + 1 + usize::from(long)
}

/// The encoder, compiled with the instructions of the backend that calls it.
#[inline(always)]
pub(super) fn encode<L>(
    _: L,
    change: &Change,
    new: &Page,
    out: &mut [u8],
    positions: &mut Positions,
) -> Option<usize> {
    change.encode_runs(new, Encoding::new(out, MAX_ENCODED), positions)
}

/// The encoder without masks, eight bytes at a time, as QEMU's own portable one does it: what others are compared with. `None` where
/// the encoding would be no smaller than the page; of no bytes if the pages are equal.
#[must_use]
pub fn encode_scalar(old: &Page, new: &Page, out: &mut [u8]) -> Option<usize> {
    let mut encoding = Encoding::new(out, MAX_ENCODED);
    let mut end = 0;
    loop {
        let start = next_difference(old, new, end);
        if start == PAGE {
            return Some(encoding.used());
        }
        let stop = next_equal(old, new, start);
        if !encoding.push(start - end, new, start, stop) {
            return None;
        }
        end = stop;
    }
}

/// The XOR of the eight bytes at `at`, the first byte lowest; none if the page ends before.
#[inline(always)]
fn difference(old: &Page, new: &Page, at: usize) -> Option<u64> {
    let old = old.get(at..)?.first_chunk::<8>()?;
    let new = new.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*old) ^ u64::from_le_bytes(*new))
}

#[inline]
fn next_difference(old: &Page, new: &Page, mut at: usize) -> usize {
    while let Some(xor) = difference(old, new, at) {
        if xor != 0 {
            return at + (xor.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < PAGE && old[at] == new[at] {
        at += 1;
    }
    at
}

#[inline]
fn next_equal(old: &Page, new: &Page, mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    while let Some(xor) = difference(old, new, at) {
        // The lowest bit that this leaves marks the first zero byte; only higher ones can be false.
        let zeros = xor.wrapping_sub(ONES) & !xor & (ONES << 7);
        if zeros != 0 {
            return at + (zeros.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < PAGE && old[at] != new[at] {
        at += 1;
    }
    at
}

#[cfg(test)]
#[path = "xbzrle_tests.rs"]
pub(in crate::codec) mod tests;

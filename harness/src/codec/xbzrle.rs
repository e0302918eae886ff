//! QEMU's XBZRLE format ("XOR based zero run length encoding"): the difference between the page that the
//! destination holds and the page that it should hold. An encoding is a sequence of
//! `zrun nzrun bytes`, where `zrun` counts equal bytes, `nzrun` counts bytes that differ, and `bytes` are the
//! `nzrun` **new** bytes. Lengths are ULEB128; the last run of equal bytes is left out.
//!
//! The encoder writes into the caller's buffer and says how much of it counts. The decoder trusts nothing:
//! whatever the bytes, it writes only inside the page, and an error names the offset of what it refused.
//!
//! Source: `migration/xbzrle.c` and `docs/xbzrle.txt` of QEMU.

use super::{CodecBackend, PAGE, Page};

/// An encoding is useful only while it is smaller than the page itself.
pub const MAX_ENCODED: usize = PAGE - 1;

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XbzrleOutcome {
    /// The pages are equal: there is nothing to send.
    Unchanged,
    /// The first so many bytes of the buffer are the encoding. Bytes after them are unspecified.
    Delta(usize),
    /// The encoding would not be smaller than the page (or does not fit the buffer): send the page.
    Overflow,
}

/// Why an encoding was refused. Offsets count bytes from the start of the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XbzrleError {
    /// The encoding ends where a length or the bytes of a run should be.
    #[error("the encoding ends at offset {offset} inside a run")]
    Truncated {
        /// Where the missing part starts.
        offset: usize,
    },
    /// A length of more than two ULEB128 bytes, which no page needs.
    #[error("the run length at offset {offset} is longer than two bytes")]
    LengthTooLong {
        /// Where the length starts.
        offset: usize,
    },
    /// A run of no bytes anywhere but at the start, which an encoder would have merged.
    #[error("the run at offset {offset} is empty")]
    EmptyRun {
        /// Where the length starts.
        offset: usize,
    },
    /// A run that reaches beyond the page.
    #[error("the run at offset {offset} reaches byte {end} of a page of {PAGE}")]
    BeyondPage {
        /// Where the length of the run starts.
        offset: usize,
        /// The byte of the page that the run would end before.
        end: usize,
    },
}

/// Encodes the difference from `old` to `new` into `out`, with the fastest code this CPU has. At most
/// [`MAX_ENCODED`] bytes of `out` are used for the encoding; a larger buffer (64 bytes more are plenty) keeps
/// the encoder on its fast path up to the end.
pub fn encode(old: &Page, new: &Page, out: &mut [u8]) -> XbzrleOutcome {
    CodecBackend::best().encode_xbzrle(old, new, out)
}

/// Applies an encoding to `page`, which holds the old contents. After an error the page may hold part of the
/// new contents and must not be used. Accepts and refuses exactly what QEMU's decoder does.
///
/// # Errors
/// If the encoding is cut short, reaches beyond the page, or holds lengths that no encoder writes.
pub fn decode(delta: &[u8], page: &mut Page) -> Result<(), XbzrleError> {
    let (mut from, mut to) = (0, 0);
    while from < delta.len() {
        let offset = from;
        let zrun = read_length(delta, &mut from)?;
        if zrun == 0 && offset != 0 {
            return Err(XbzrleError::EmptyRun { offset });
        }
        to += zrun;
        if to > PAGE {
            return Err(XbzrleError::BeyondPage { offset, end: to });
        }
        let offset = from;
        let nzrun = read_length(delta, &mut from)?;
        if nzrun == 0 {
            return Err(XbzrleError::EmptyRun { offset });
        }
        let target =
            page.get_mut(to..to + nzrun).ok_or(XbzrleError::BeyondPage { offset, end: to + nzrun })?;
        let bytes = delta.get(from..from + nzrun).ok_or(XbzrleError::Truncated { offset: delta.len() })?;
        copy_run(target, bytes);
        from += nzrun;
        to += nzrun;
    }
    Ok(())
}

/// Reads a ULEB128 length of one or two bytes.
#[inline]
fn read_length(delta: &[u8], at: &mut usize) -> Result<usize, XbzrleError> {
    let offset = *at;
    // Truncation is named after the end of the encoding, where bytes are missing.
    let truncated = XbzrleError::Truncated { offset: delta.len() };
    let low = usize::from(*delta.get(offset).ok_or(truncated)?);
    if low < 0x80 {
        *at = offset + 1;
        return Ok(low);
    }
    let high = usize::from(*delta.get(offset + 1).ok_or(truncated)?);
    if high >= 0x80 {
        return Err(XbzrleError::LengthTooLong { offset });
    }
    *at = offset + 2;
    Ok((low & 0x7f) | (high << 7))
}

/// Copies a run of equal length. Most runs are a few words, for which a call to `memcpy` costs more than the
/// copy; two overlapping fixed-size copies cover every length between one and two of their size.
#[inline]
fn copy_run(to: &mut [u8], from: &[u8]) {
    #[inline(always)]
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) {
        if let (Some(head), Some(tail)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
            if let Some(target) = to.first_chunk_mut::<N>() {
                *target = *head;
            }
            if let Some(target) = to.last_chunk_mut::<N>() {
                *target = *tail;
            }
        }
    }
    match from.len() {
        1 => ends::<1>(to, from),
        2..=3 => ends::<2>(to, from),
        4..=7 => ends::<4>(to, from),
        8..=15 => ends::<8>(to, from),
        16..=32 => ends::<16>(to, from),
        _ => to.copy_from_slice(from),
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

impl<'a> Encoding<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        let limit = out.len().min(MAX_ENCODED);
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
        let room = self.out.get_mut(self.used..).and_then(|rest| rest.first_chunk_mut::<{ SHORT_RUN + 4 }>());
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

    pub(super) const fn finish(self) -> XbzrleOutcome {
        if self.used == 0 { XbzrleOutcome::Unchanged } else { XbzrleOutcome::Delta(self.used) }
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

/// The portable twin: eight bytes at a time, as QEMU's own scalar encoder does it.
pub(super) fn encode_portable(old: &Page, new: &Page, out: &mut [u8]) -> XbzrleOutcome {
    let mut encoding = Encoding::new(out);
    let mut end = 0;
    loop {
        let start = next_difference(old, new, end);
        if start == PAGE {
            return encoding.finish();
        }
        let stop = next_equal(old, new, start);
        if !encoding.push(start - end, new, start, stop) {
            return XbzrleOutcome::Overflow;
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
mod tests;

//! From pages to bytes and back. A page is read once, from guest memory, into the copy of what the destination holds; what that
//! changed enters a codec together with the copy, and leaves as an encoding in the caller's buffer. The decoder goes the other way.
//! Nothing here does I/O.
//!
//! A codec is one file that implements [`PageCodec`], and one line in [`new`]. On the wire all encodings are of one kind: what
//! the bytes mean is said by the codec of the cell, which both sides agree on when they greet.

pub mod auto;
mod backend;
mod change;
mod lanes;
pub mod lz4;
pub mod mask;
mod runs;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;
pub mod xbzrle;
pub mod zero;
pub mod zstd;

use std::fmt;

use migbench_scenarios::cell::Codec;
pub use migbench_workloads::pages::Page;

use crate::sys::live::TargetPage;

pub use auto::Auto;
pub use backend::CodecBackend;
pub use change::Change;
pub use lz4::Lz4;
pub use mask::Mask;
pub use xbzrle::Xbzrle;
pub use zero::is_zero;
pub use zstd::Zstd;

/// Bytes of one guest page.
pub const PAGE: usize = 4096;

/// An encoding is useful only while it is smaller than the page itself.
pub const MAX_ENCODED: usize = PAGE - 1;

/// Bytes behind [`MAX_ENCODED`] that a buffer must have for every codec: room to write without asking at each step.
pub const SLACK: usize = 1024;

/// How the difference between two pages is written down. The source has one value for all of a migration and the
/// destination another, which sees the same encodings in the same order: a codec may learn from them.
pub trait PageCodec: fmt::Debug {
    /// The word of the codec in suites and records.
    fn name(&self) -> &'static str;

    /// Bytes of buffer that [`Self::encode`] may write, of which [`MAX_ENCODED`] at most are the encoding; no more than
    /// [`MAX_ENCODED`] + [`SLACK`].
    fn worst_size(&self) -> usize;

    /// Whether it encodes the XOR with the old page: such a codec needs that page, and encodes pages that were never sent too, for
    /// which the destination holds zeros.
    fn takes_old(&self) -> bool {
        false
    }

    /// Whether what it encodes depends on what it encoded before, on both sides: then nothing may be encoded that is not sent.
    fn learns(&self) -> bool {
        false
    }

    /// Encodes what turns page number `page` as the destination holds it into `new`, of which `change` says where it differs:
    /// somewhere. The first so many bytes of `out`, of [`Self::worst_size`] bytes or more, are the encoding, at most [`MAX_ENCODED`];
    /// bytes after them are unspecified. None where it would be no smaller than the page, or does not fit.
    fn encode(&mut self, page: u64, change: &Change, new: &Page, out: &mut [u8]) -> Option<usize>;

    /// Applies an encoding to `page`, which holds the old contents. Whatever the bytes are, nothing outside of `page` is
    /// written and nothing outside of `encoded` read. After an error the page may hold part of the new contents and must not
    /// be used.
    ///
    /// # Errors
    /// If no encoder writes such bytes.
    fn decode_in_place(&mut self, encoded: &[u8], page: TargetPage<'_>) -> Result<(), DecodeError>;

    /// As [`Self::decode_in_place`], to a page of our own.
    ///
    /// # Errors
    /// As there.
    fn decode(&mut self, encoded: &[u8], page: &mut Page) -> Result<(), DecodeError> {
        self.decode_in_place(encoded, TargetPage::of(page))
    }

    /// Bytes per second that the link takes, each time that it was measured: for a codec that weighs them.
    fn link_speed(&mut self, _bytes_per_second: f64) {}

    /// How many pages each codec encoded, of one that chooses; empty of any other.
    fn choices(&self) -> Vec<(Codec, u64)> {
        Vec::new()
    }
}

/// The codec of a cell; none where pages are sent whole.
#[must_use]
pub fn new(codec: Codec) -> Option<Box<dyn PageCodec>> {
    Some(match codec {
        Codec::None => return None,
        Codec::Xbzrle => Box::new(Xbzrle::new(CodecBackend::best())),
        Codec::Mask => Box::new(Mask::new(CodecBackend::best())),
        Codec::Lz4 => Box::new(Lz4::new()),
        Codec::Zstd => Box::new(Zstd::new(false)),
        Codec::ZstdDictionary => Box::new(Zstd::new(true)),
        Codec::Auto => Box::new(Auto::new()),
    })
}

/// Encodes what turns one page into another, neither of which anybody writes: no bytes if they are equal, and none where the page is
/// to be sent whole. For tests and benches; an engine reads a page once.
pub fn encode_pair(
    codec: &mut dyn PageCodec,
    backend: CodecBackend,
    page: u64,
    [old, new]: [&Page; 2],
    out: &mut [u8],
) -> Option<usize> {
    let mut change = Change::new(backend);
    change.between(old, new);
    if change.is_none() { Some(0) } else { codec.encode(page, &change, new, out) }
}

/// Why an encoding was refused. Offsets count bytes from the start of the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The encoding ends where more is due.
    #[error("the encoding ends at offset {offset}, where more is due")]
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
    /// Bytes behind the end of what the encoding says it holds.
    #[error("the encoding ends at offset {offset}, and more bytes follow")]
    Trailing {
        /// Where the first of them is.
        offset: usize,
    },
    /// A first byte that stands for no form of the codec, or of another version of it.
    #[error("the tag {found:#04x} at offset {offset} is none of this codec's")]
    Tag {
        /// Where it is.
        offset: usize,
        /// The tag.
        found: u8,
    },
    /// What a compressor of others refuses.
    #[error("the {codec} encoding is damaged: {what}")]
    Damaged {
        /// The format.
        codec: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

impl DecodeError {
    /// The same error of an encoding that starts `by` bytes later.
    #[must_use]
    const fn moved(mut self, by: usize) -> Self {
        match &mut self {
            Self::Truncated { offset }
            | Self::LengthTooLong { offset }
            | Self::EmptyRun { offset }
            | Self::BeyondPage { offset, .. }
            | Self::Trailing { offset }
            | Self::Tag { offset, .. } => *offset += by,
            Self::Damaged { .. } => {}
        }
        self
    }
}

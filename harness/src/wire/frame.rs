//! Frames: a header of fixed size, a payload, and whole guest pages behind it where these go from memory to memory. The header
//! carries two checksums, one of the payload and one of the header itself (that of the payload included), so a damaged length is refused before a byte is
//! allocated or waited for because of it. Frames of one direction are numbered from zero, so a lost or
//! repeated frame is refused too.
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | magic `MIGB` |
//! | 4 | version |
//! | 5 | kind |
//! | 6..8 | whole pages of 4,096 bytes behind the payload, of which no checksum is made |
//! | 8..12 | bytes of payload |
//! | 12..20 | sequence number |
//! | 20..28 | when the last byte leaves the modelled wire, in ns of the host's monotonic clock; 0 without one |
//! | 28..32 | CRC-32C of the payload |
//! | 32..36 | CRC-32C of bytes 0..32 |

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};

/// Bytes of a frame's header.
pub const HEADER: usize = 36;

/// Version of the format. Peers of different versions refuse each other at the first frame.
pub const VERSION: u8 = 3;

/// A batch of 64 whole pages with as many entries as a batch may have takes 264 KiB.
const MAX_PAGES_PAYLOAD: usize = 512 << 10;

/// Four times what our batches have.
const MAX_TRAILING: u16 = 256;

/// Hashes of 2 MiB blocks come in one frame: this is enough for a guest of 1 TiB.
const MAX_HASHES: usize = 16 << 20;

const MAGIC: [u8; 4] = *b"MIGB";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal, at most $most:expr;)+) => {
        /// What a frame is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FrameKind { $($(#[$doc])* $name = $value),+ }

        impl FrameKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($value => Some(Self::$name),)+ _ => None }
            }

            /// The most bytes that a payload of this kind has: nothing is allocated for a peer that claims more.
            #[must_use]
            pub const fn max_payload(self) -> usize {
                match self { $(Self::$name => $most),+ }
            }

            /// The most whole pages that come behind a payload of this kind.
            #[must_use]
            pub const fn max_trailing(self) -> u16 {
                match self { Self::Pages => MAX_TRAILING, _ => 0 }
            }
        }
    };
}

kinds! {
    /// Both sides' greeting: what is about to be migrated.
    Hello = 1, at most 4 << 10;
    /// Pages, see [`super::pages`].
    Pages = 2, at most MAX_PAGES_PAYLOAD;
    /// The source has sent all of a round.
    RoundEnd = 3, at most 4;
    /// State of the virtual CPUs.
    State = 4, at most 1 << 20;
    /// The destination has everything that it needs to run.
    Ready = 5, at most 0;
    /// The source asks for hashes of the destination's memory.
    HashRequest = 6, at most 0;
    /// Hashes of memory.
    Hashes = 7, at most MAX_HASHES;
    /// The source hands the guest over.
    Commit = 8, at most 0;
    /// The guest runs at the destination.
    Running = 9, at most 0;
    /// The migration is off; the payload says why.
    Abort = 10, at most 4 << 10;
    /// Nothing more will be sent.
    Done = 11, at most 0;
    /// The window after the migration is over at the destination.
    WindowEnd = 12, at most 0;
    /// The CPU that the guest was given.
    Model = 13, at most 64 << 10;
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A frame that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad {} at byte {offset} of the stream: {fault}", FrameName(.kind))]
pub struct FrameError {
    /// The byte of the stream (from its start) at which the fault lies.
    pub offset: u64,
    /// The kind of the frame, where the header could be trusted to name one.
    pub kind: Option<FrameKind>,
    /// What is wrong.
    pub fault: FrameFault,
}

struct FrameName<'a>(&'a Option<FrameKind>);

impl fmt::Display for FrameName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(kind) => write!(f, "{kind} frame"),
            None => f.write_str("frame"),
        }
    }
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The first bytes are not ours: the peer is something else, or the stream is out of step.
    #[error("it starts with {0:02x?} instead of the magic number")]
    Magic([u8; 4]),
    /// The peer speaks another version of the format.
    #[error("it has version {0}, this program speaks version {VERSION}")]
    Version(u8),
    /// The header was damaged.
    #[error("the header's checksum is {found:08x}, its bytes have {expected:08x}")]
    HeaderChecksum {
        /// What the bytes give.
        expected: u32,
        /// What the header says.
        found: u32,
    },
    /// A kind that this version does not have.
    #[error("kind {0} is not known")]
    Kind(u8),
    /// Pages behind a payload that has none.
    #[error("{0} whole pages behind a payload of this kind are more than it has")]
    Trailing(u16),
    /// A payload that no sender makes.
    #[error("a payload of {length} bytes is over its kind's limit of {limit}")]
    Length {
        /// Bytes that it has or claims.
        length: u64,
        /// The most that its kind has.
        limit: usize,
    },
    /// It would be held for longer than any wait may last.
    #[error("it leaves the wire only in {seconds} s")]
    Release {
        /// From now.
        seconds: u64,
    },
    /// A frame was lost or repeated.
    #[error("it has number {found}, the next one is {expected}")]
    Sequence {
        /// The number that is due.
        expected: u64,
        /// The number in the header.
        found: u64,
    },
    /// The payload was damaged.
    #[error("the payload's checksum is {found:08x}, its bytes have {expected:08x}")]
    PayloadChecksum {
        /// What the bytes give.
        expected: u32,
        /// What the header says.
        found: u32,
    },
    /// The bytes end before the frame does.
    #[error("it ends after {have} of {needed} bytes")]
    Truncated {
        /// Bytes that there should be.
        needed: usize,
        /// Bytes that there are.
        have: usize,
    },
    /// An entry of a batch of pages of no known kind.
    #[error("entry {entry} has the unknown kind {found}")]
    EntryKind {
        /// Index of the entry.
        entry: usize,
        /// The kind it gives.
        found: u8,
    },
    /// A run of no pages, or an encoded page of no bytes.
    #[error("entry {entry} is empty")]
    EmptyEntry {
        /// Index of the entry.
        entry: usize,
    },
    /// An encoded page that is no smaller than a page.
    #[error("entry {entry} has an encoded page of {length} bytes")]
    DeltaLength {
        /// Index of the entry.
        entry: usize,
        /// Bytes of the encoding.
        length: usize,
    },
    /// Pages that the guest does not have.
    #[error("entry {entry} names {count} pages from page {first} of a guest of {guest_pages} pages")]
    OutsideGuest {
        /// Index of the entry.
        entry: usize,
        /// First page of the run.
        first: u64,
        /// Pages of the run.
        count: u64,
        /// Pages of the guest.
        guest_pages: u64,
    },
    /// More entries than a batch has.
    #[error("it has {count} entries, more than a batch may have")]
    Entries {
        /// How many it claims.
        count: usize,
    },
    /// Pages named twice, or not in order.
    #[error("entry {entry} names page {first}, where page {due} or a later one was due")]
    Order {
        /// Index of the entry.
        entry: usize,
        /// Its first page.
        first: u64,
        /// The least number that it may name.
        due: u64,
    },
    /// The entries ask for more or fewer bytes than there are.
    #[error("the entries describe {expected} bytes of data, the payload has {found}")]
    DataLength {
        /// Bytes that the entries describe.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
}

/// A frame as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is for.
    pub kind: FrameKind,
    /// Its number in its direction, from zero.
    pub sequence: u64,
    /// Where its payload starts in the stream.
    pub offset: u64,
    /// The payload, its checksum verified.
    pub payload: &'a [u8],
    /// Whole pages that lie behind it in the stream.
    pub trailing: u16,
}

/// A verified header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub kind: FrameKind,
    /// Its number in its direction.
    pub sequence: u64,
    /// Bytes of payload, at most [`FrameKind::max_payload`].
    pub length: usize,
    /// Whole pages behind the payload.
    pub trailing: u16,
    /// When its last byte has left the modelled wire; 0 without one.
    pub release: u64,
    checksum: u32,
    /// Where the frame starts in the stream.
    offset: u64,
}

/// The header of a frame whose payload is `parts`, one after the other. What else it says it gets by [`seal`].
///
/// # Errors
/// [`FrameFault::Length`] if the payload is too long. `offset` is where the frame would start in the stream.
pub fn encode_header<'a>(
    kind: FrameKind,
    sequence: u64,
    parts: impl IntoIterator<Item = &'a [u8]> + Clone,
    offset: u64,
) -> Result<[u8; HEADER], FrameError> {
    let length: u64 = parts.clone().into_iter().map(|part| part.len() as u64).sum();
    let limit = kind.max_payload();
    let Some(short) = u32::try_from(length).ok().filter(|_| length <= limit as u64) else {
        return Err(FrameError { offset, kind: Some(kind), fault: FrameFault::Length { length, limit } });
    };
    let checksum = crc32c(parts);
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = VERSION;
    header[5] = kind as u8;
    header[8..12].copy_from_slice(&short.to_le_bytes());
    header[12..20].copy_from_slice(&sequence.to_le_bytes());
    header[28..32].copy_from_slice(&checksum.to_le_bytes());
    seal(&mut header, 0, 0);
    Ok(header)
}

/// Writes into a header how many whole pages come behind the payload, and when the frame's last byte leaves the modelled wire.
pub fn seal(header: &mut [u8; HEADER], trailing: u16, release: u64) {
    header[6..8].copy_from_slice(&trailing.to_le_bytes());
    header[20..28].copy_from_slice(&release.to_le_bytes());
    let own = crc32c([&header[..32]]);
    header[32..].copy_from_slice(&own.to_le_bytes());
}

/// Verifies a header that was read at `offset` of the stream, when frame number `sequence` is due.
///
/// # Errors
/// If anything in it is not as [`encode_header`] writes it.
pub fn decode_header(bytes: &[u8; HEADER], offset: u64, sequence: u64) -> Result<Header, FrameError> {
    let refuse = |at: u64, kind, fault| Err(FrameError { offset: offset + at, kind, fault });
    let magic = field::<4>(bytes, 0);
    if magic != MAGIC {
        return refuse(0, None, FrameFault::Magic(magic));
    }
    if bytes[4] != VERSION {
        return refuse(4, None, FrameFault::Version(bytes[4]));
    }
    let (expected, found) = (crc32c([&bytes[..32]]), u32::from_le_bytes(field(bytes, 32)));
    if expected != found {
        return refuse(32, None, FrameFault::HeaderChecksum { expected, found });
    }
    let Some(kind) = FrameKind::from_byte(bytes[5]) else {
        return refuse(5, None, FrameFault::Kind(bytes[5]));
    };
    let trailing = u16::from_le_bytes(field(bytes, 6));
    if trailing > kind.max_trailing() {
        return refuse(6, Some(kind), FrameFault::Trailing(trailing));
    }
    let (length, limit) = (u32::from_le_bytes(field(bytes, 8)), kind.max_payload());
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= limit) else {
        return refuse(8, Some(kind), FrameFault::Length { length: u64::from(length), limit });
    };
    let found = u64::from_le_bytes(field(bytes, 12));
    if found != sequence {
        return refuse(12, Some(kind), FrameFault::Sequence { expected: sequence, found });
    }
    let release = u64::from_le_bytes(field(bytes, 20));
    Ok(Header {
        kind,
        sequence,
        length,
        trailing,
        release,
        checksum: u32::from_le_bytes(field(bytes, 28)),
        offset,
    })
}

impl Header {
    /// Joins the header with its payload.
    ///
    /// # Errors
    /// If the payload is not the one that the header was made for.
    pub fn with_payload(self, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
        let mut checksum = Checksum::default();
        checksum.update(payload);
        self.with_checked_payload(payload, checksum)
    }

    /// As [`Self::with_payload`], where the payload's checksum was computed while it came.
    ///
    /// # Errors
    /// As there.
    pub fn with_checked_payload(self, payload: &[u8], checksum: Checksum) -> Result<Frame<'_>, FrameError> {
        let offset = self.offset + HEADER as u64;
        let refuse = |offset, fault| Err(FrameError { offset, kind: Some(self.kind), fault });
        if payload.len() != self.length {
            let end = offset + payload.len().min(self.length) as u64;
            return refuse(end, FrameFault::Truncated { needed: self.length, have: payload.len() });
        }
        let expected = checksum.finish();
        if expected != self.checksum {
            return refuse(offset, FrameFault::PayloadChecksum { expected, found: self.checksum });
        }
        Ok(Frame { kind: self.kind, sequence: self.sequence, offset, payload, trailing: self.trailing })
    }
}

/// Decodes the frame at the start of `bytes`, which were read at `offset` of the stream. The frame occupies
/// [`HEADER`] bytes and its payload.
///
/// # Errors
/// If it is not a whole, undamaged frame with the number `sequence`.
pub fn decode(bytes: &[u8], offset: u64, sequence: u64) -> Result<Frame<'_>, FrameError> {
    let truncated = |kind, needed| {
        let have = bytes.len();
        FrameError { offset: offset + have as u64, kind, fault: FrameFault::Truncated { needed, have } }
    };
    let (head, rest) = bytes.split_first_chunk::<HEADER>().ok_or_else(|| truncated(None, HEADER))?;
    let header = decode_header(head, offset, sequence)?;
    let payload =
        rest.get(..header.length).ok_or_else(|| truncated(Some(header.kind), HEADER + header.length))?;
    header.with_payload(payload)
}

/// CRC-32C of a payload, part by part. This implementation folds with carry-less multiplication where the CPU has it, at
/// twice the speed of the CRC instruction.
#[derive(Debug)]
pub struct Checksum(Digest);

impl Default for Checksum {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Checksum {
    /// Adds the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    fn finish(self) -> u32 {
        // A CRC of 32 bits comes in the low half.
        #[expect(clippy::cast_possible_truncation, reason = "the high half is zero")]
        let checksum = self.0.finalize() as u32;
        checksum
    }
}

fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut checksum = Checksum::default();
    parts.into_iter().for_each(|part| checksum.update(part));
    checksum.finish()
}

fn field<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;

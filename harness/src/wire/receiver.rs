//! The incoming direction of a link: frames are verified, and lie in its own buffer until the next one is received.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use migbench_workloads::units::Rate;
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use vm_memory::VolatileSlice;

use super::address::wait_readable;
use super::frame::{self, Checksum, Frame, FrameError, FrameFault, HEADER, Header};
use super::link::{LinkError, SocketStream, moved_within};
use super::modelled::wire_time;
use super::pages::PAGE;
use crate::sys::clock;
use crate::sys::memory::reserve;
use crate::sys::socket;

/// A receiver holds what comes over a modelled wire in pieces of this many bytes.
const PIECE: usize = 64 << 10;
/// The last piece of a frame: reading and verifying it comes after the frame's end, and counts as lateness.
const LAST_PIECE: usize = 4 << 10;

pub(super) const AT_A_HEADER: &str = "waiting for a frame";
pub(super) const IN_A_FRAME: &str = "receiving a frame";

/// The incoming direction of a link.
#[derive(Debug)]
pub struct Receiver {
    pub(super) stream: Arc<SocketStream>,
    pub(super) timeout: Duration,
    /// Rate and one-way delay in nanoseconds of a modelled wire.
    pub(super) wire: Option<(Rate, u64)>,
    sequence: u64,
    offset: u64,
    buffer: Vec<u8>,
    /// When the last byte of the frame received last was here, and when it should have been.
    arrived: u64,
    due: u64,
    /// Whether data came quickly of late.
    brisk: bool,
}

impl Receiver {
    pub(super) const fn new(stream: Arc<SocketStream>, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            wire: None,
            sequence: 0,
            offset: 0,
            buffer: Vec::new(),
            arrived: 0,
            due: 0,
            brisk: false,
        }
    }

    /// Receives the next frame, one without pages behind it. It lies in this receiver's buffer, which grows to the largest frame
    /// seen.
    ///
    /// # Errors
    /// If the peer is gone, sends nothing for too long, or sends what is not a sound frame.
    pub fn recv(&mut self) -> Result<Frame<'_>, LinkError> {
        let start = self.offset;
        self.recv_placing(|frame, _| {
            let fault = FrameFault::Trailing(frame.trailing);
            Err(FrameError { offset: start + 6, kind: Some(frame.kind), fault }.into())
        })
    }

    /// As [`Self::recv`]. Of a frame with pages behind it `place` says, from a payload that is verified, where these go.
    ///
    /// # Errors
    /// As there, and what `place` says. What has come behind the payload by then is where it goes.
    pub fn recv_placing<'g, E: From<LinkError>>(
        &mut self,
        place: impl FnOnce(&Frame<'_>, &mut Vec<VolatileSlice<'g>>) -> Result<(), E>,
    ) -> Result<Frame<'_>, E> {
        let start = self.offset;
        let mut bytes = [0; HEADER];
        self.read(&[VolatileSlice::from(&mut bytes[..])], 0, HEADER, true)?;
        let header = frame::decode_header(&bytes, start, self.sequence).map_err(LinkError::from)?;
        let held = self.hold(&header, start)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(more) = header.length.checked_sub(buffer.len()) {
            reserve(&mut buffer, more, "a frame").map_err(LinkError::from)?;
            buffer.resize(header.length, 0);
        }
        let behind = usize::from(header.trailing) * PAGE;
        let checksum = self.read_payload(&mut buffer[..header.length], behind, held)?;
        let frame =
            header.with_checked_payload(&buffer[..header.length], checksum).map_err(LinkError::from)?;
        if header.trailing > 0 {
            let mut pages = Vec::with_capacity(usize::from(header.trailing) + 1);
            place(&frame, &mut pages)?;
            self.read_pages(&pages, behind, held)?;
        }
        let (kind, sequence, offset, trailing) = (frame.kind, frame.sequence, frame.offset, frame.trailing);
        if let Some((due, _)) = held {
            clock::wait_until(due);
        }
        self.arrived = clock::now();
        self.buffer = buffer;
        self.sequence += 1;
        Ok(Frame { kind, sequence, offset, payload: &self.buffer[..header.length], trailing })
    }

    /// When the frame's last byte comes over the modelled wire, and its rate.
    fn hold(&mut self, header: &Header, start: u64) -> Result<Option<(u64, Rate)>, LinkError> {
        let Some((rate, delay)) = self.wire.filter(|_| header.release != 0) else { return Ok(None) };
        self.due = header.release.saturating_add(delay);
        let away = Duration::from_nanos(self.due.saturating_sub(clock::now()));
        if away > self.timeout {
            let fault = FrameFault::Release { seconds: away.as_secs() };
            return Err(FrameError { offset: start + 20, kind: Some(header.kind), fault }.into());
        }
        Ok(Some((self.due, rate)))
    }

    /// Reads a payload behind which come so many bytes of pages.
    fn read_payload(
        &mut self,
        payload: &mut [u8],
        behind: usize,
        held: Option<(u64, Rate)>,
    ) -> Result<Checksum, LinkError> {
        let mut checksum = Checksum::default();
        for piece in pieces(payload.len(), behind, held) {
            let (into, length) = (&mut payload[piece.bytes.clone()], piece.bytes.len());
            wait_for(piece.due);
            self.read(&[VolatileSlice::from(&mut *into)], 0, length, false)?;
            checksum.update(into);
        }
        Ok(checksum)
    }

    /// Reads what is behind a payload into `pages`, which have room for just these bytes.
    fn read_pages(
        &mut self,
        pages: &[VolatileSlice<'_>],
        behind: usize,
        held: Option<(u64, Rate)>,
    ) -> Result<(), LinkError> {
        debug_assert_eq!(pages.iter().map(VolatileSlice::len).sum::<usize>(), behind);
        for piece in pieces(behind, 0, held) {
            wait_for(piece.due);
            self.read(pages, piece.bytes.start, piece.bytes.len(), false)?;
        }
        Ok(())
    }

    /// Reads into the `length` bytes that follow byte `from` of `into`.
    fn read(
        &mut self,
        into: &[VolatileSlice<'_>],
        from: usize,
        length: usize,
        at_start: bool,
    ) -> Result<(), LinkError> {
        // Over a wire that is slower than memory nothing is gained by looking.
        self.brisk &= self.wire.is_none();
        let mut doing = if at_start { AT_A_HEADER } else { IN_A_FRAME };
        let mut moved = Instant::now();
        let mut done = 0;
        while done < length {
            let look = self.brisk && moved.elapsed() < LOOK;
            let fd = self.stream.as_fd();
            let call = |flags| socket::receive(&fd, into, from + done, length - done, flags);
            let read = if look {
                call(MsgFlags::MSG_DONTWAIT)
            } else {
                moved_within(self.timeout, || call(MsgFlags::MSG_WAITALL))
            };
            match read {
                Ok(0) => return Err(LinkError::Closed { doing, offset: self.offset }),
                Ok(read) => {
                    self.brisk = moved.elapsed() < LOOK;
                    self.offset += read as u64;
                    done += read;
                    moved = Instant::now();
                    doing = IN_A_FRAME;
                }
                Err(Errno::EAGAIN | Errno::EINTR) if look => std::hint::spin_loop(),
                Err(errno) => return Err(LinkError::from_errno(errno, doing, self.offset, self.timeout)),
            }
        }
        Ok(())
    }

    /// When the last byte of the frame received last was here, by [`clock::now`].
    #[must_use]
    pub const fn arrival(&self) -> u64 {
        self.arrived
    }

    /// When a modelled wire delivered that byte; 0 without one.
    #[must_use]
    pub const fn due(&self) -> u64 {
        self.due
    }

    /// Waits until a frame (or the end of the stream) can be received, for at most `timeout`; a signal may end
    /// the wait early. Says whether there is something.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn wait(&self, timeout: Duration) -> Result<bool, LinkError> {
        wait_readable(self.stream.as_fd(), timeout)
            .map_err(|source| LinkError::Io { doing: AT_A_HEADER, source })
    }

    /// All bytes received.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }
}

/// A receiver that found data after less than this looks for more that long before it sleeps. Were it to sleep at
/// once, a fast sender would have to wake it for every few pages, which costs the sender more than copying them; over
/// a link that is slower than this the receiver sleeps as ever.
const LOOK: Duration = Duration::from_micros(50);

/// A piece of a frame, and when it has come over a modelled wire.
struct Piece {
    bytes: Range<usize>,
    due: Option<u64>,
}

/// The pieces in which `length` bytes are read, behind which so many more of their frame come: all at once, or as the wire brings
/// them.
fn pieces(length: usize, behind: usize, held: Option<(u64, Rate)>) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = length - done;
        let last = left.min(LAST_PIECE.saturating_sub(behind));
        let taken = match held {
            Some(_) if left > last => PIECE.min(left - last),
            _ => left,
        };
        let bytes = done..done + taken;
        done = bytes.end;
        let due =
            |(due, rate): (u64, Rate)| due.saturating_sub(wire_time((length - done + behind) as u64, rate));
        (taken > 0).then(|| Piece { due: held.map(due), bytes })
    })
}

fn wait_for(due: Option<u64>) {
    if let Some(due) = due {
        clock::wait_until(due);
    }
}

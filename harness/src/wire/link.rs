//! A connection between the two nodes, over a Unix or a TCP socket. Frames enter as lists of slices and are
//! written with one vectored system call where the socket allows it; received frames are verified and lie
//! in the receiver's own buffer until the next one is received. Every wait has a time limit, and a peer that
//! is gone is an error, never a signal.
//!
//! Where the link has a rate, both ends play a wire between them ([`ModelledWire`]): the sender stamps each frame with the
//! time at which its last byte leaves, writes it at once, and goes on while no more than the queue is ahead; the receiver
//! reads no byte before it would have come. So what is ahead must fit into the socket.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use migbench_scenarios::cell;
use migbench_workloads::units::{Bytes, Rate};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, setsockopt, sockopt};
use vm_memory::VolatileSlice;

use super::frame::{self, Frame, FrameError, FrameFault, FrameKind, HEADER};
use super::modelled::{ModelledWire, wire_time};
use super::netns::Delivered;
use super::pages::{LARGEST_FRAME, PAGE};
use super::receiver::Receiver;
use super::sabotage::Saboteur;
use super::{PageBatch, Traffic};
use crate::sys::clock::{self, Patience};
use crate::sys::memory::NoMemory;
use crate::sys::socket::{self, Part, queued};

/// What a socket may hold in each direction.
const SOCKET_BUFFER: usize = 1 << 20;

/// One batch can be encoded while another leaves.
const _: () = assert!(cell::LinkSettings::QUEUE.0 >= 2 * LARGEST_FRAME);
/// Under this a queue does not cover a wake-up at 10 Gbit/s.
const LEAST_QUEUE: u64 = 64 << 10;

/// What went wrong on a link. Offsets count bytes of that direction of the stream from its start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection could be made.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// No listener could be made, or it failed.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The peer closed the connection or died.
    #[error("the peer closed the link at byte {offset}, while {doing}")]
    Closed {
        /// What this side was doing.
        doing: &'static str,
        /// Bytes that had been sent or received.
        offset: u64,
    },
    /// Nothing moved for too long.
    #[error("nothing moved for {after:?} at byte {offset}, while {doing}")]
    Timeout {
        /// What this side was doing.
        doing: &'static str,
        /// The time limit.
        after: Duration,
        /// Bytes that had been sent or received.
        offset: u64,
    },
    /// The peer sent something that is not a sound frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame was left unfinished by an earlier error, so nothing more can be sent.
    #[error("the link broke at byte {offset}, in the middle of a frame")]
    Broken {
        /// Bytes that had been sent.
        offset: u64,
    },
    /// What is ahead of a modelled wire does not fit into the socket.
    #[error(
        "link.queue of {queue} and what link.delay keeps on its way need a socket that holds {needed}, and this one holds {room}: \
         run as root with CAP_NET_ADMIN, or as root `sysctl net.core.wmem_max={}`, or lower {}", .needed.0,
        if .needed.0 - .queue.0 > .room.0 { "link.delay or link.rate" } else { "link.queue" }
    )]
    Queue {
        /// The queue that was asked for.
        queue: Bytes,
        /// Bytes of the queue, of one frame more, and of what is on its way.
        needed: Bytes,
        /// Bytes that the socket takes.
        room: Bytes,
    },
    /// No memory for a frame.
    #[error(transparent)]
    Memory(#[from] NoMemory),
    /// A link that can't be modelled.
    #[error("link.delay needs a link.rate: without one there is no end to what is on its way")]
    DelayWithoutRate,
    /// Anything else that the system says.
    #[error("the link failed while {doing}")]
    Io {
        /// What this side was doing.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

const SENDING: &str = "sending";
const SETTING_UP: &str = "setting up the socket";

impl LinkError {
    pub(super) fn from_errno(errno: Errno, doing: &'static str, offset: u64, after: Duration) -> Self {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET => Self::Closed { doing, offset },
            Errno::EAGAIN | Errno::ETIMEDOUT => Self::Timeout { doing, after, offset },
            other => Self::Io { doing, source: other.into() },
        }
    }
}

/// A connected socket of either kind.
#[derive(Debug)]
pub(super) enum SocketStream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl From<UnixStream> for SocketStream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<TcpStream> for SocketStream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl AsFd for SocketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl SocketStream {
    /// Has every call end after a look at most. Whoever calls counts the looks in which nothing moved: a call that waited for
    /// all of the limit would give what had come at its start, and the limit would start again.
    fn set_timeouts(&self, limit: Duration) -> io::Result<()> {
        let timeout = Some(Patience::look_of(limit));
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout))
            }
            Self::Tcp(stream) => {
                stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout))
            }
        }
    }

    fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_nonblocking(false)?;
                // The kernel clips this to net.core.wmem_max. A Unix socket has no receive buffer of its own.
                setsockopt(stream, sockopt::SndBuf, &SOCKET_BUFFER)?;
            }
            Self::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                // Buffers are left to the kernel: setting them turns off its own tuning.
                stream.set_nodelay(true)?;
            }
        }
        Ok(())
    }

    /// Makes room for `bytes` that were written and not read, as far as this user may, and gives what room there is.
    fn make_room(&self, bytes: u64) -> nix::Result<u64> {
        // What the kernel keeps beside the bytes counts too; it doubles what is asked for, and gives that in return.
        let asked = usize::try_from(bytes + bytes / 16).unwrap_or(usize::MAX).min(i32::MAX as usize / 2);
        let doubled = match self {
            Self::Unix(stream) => {
                setsockopt(stream, sockopt::SndBufForce, &asked)
                    .or_else(|_| setsockopt(stream, sockopt::SndBuf, &asked))?;
                getsockopt(stream, sockopt::SndBuf)?
            }
            Self::Tcp(stream) => {
                setsockopt(stream, sockopt::SndBufForce, &asked)
                    .or_else(|_| setsockopt(stream, sockopt::SndBuf, &asked))?;
                getsockopt(stream, sockopt::SndBuf)?
            }
        };
        Ok(doubled as u64 / 17 * 16)
    }
}

/// Both directions of a connection.
#[derive(Debug)]
pub struct Link {
    sender: Sender,
    receiver: Receiver,
}

impl Link {
    pub(super) fn new(stream: SocketStream, timeout: Duration) -> Result<Self, LinkError> {
        let failed = |source| LinkError::Io { doing: SETTING_UP, source };
        stream.prepare().and_then(|()| stream.set_timeouts(timeout)).map_err(failed)?;
        let stream = Arc::new(stream);
        Ok(Self {
            sender: Sender::new(Arc::clone(&stream), timeout),
            receiver: Receiver::new(stream, timeout),
        })
    }

    /// Two ends of a Unix socket in one process, for tests and benches.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn pair(timeout: Duration) -> Result<(Self, Self), LinkError> {
        let (one, other) =
            UnixStream::pair().map_err(|source| LinkError::Io { doing: SETTING_UP, source })?;
        Ok((Self::new(one.into(), timeout)?, Self::new(other.into(), timeout)?))
    }

    /// The two directions, to be used from two threads.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The outgoing direction.
    #[must_use]
    pub const fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The outgoing direction, to send on.
    pub const fn sender_mut(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// A way to break this link, for tests.
    #[must_use]
    pub fn saboteur(&self) -> Saboteur {
        Saboteur(Arc::clone(&self.sender.stream))
    }

    /// The incoming direction.
    #[must_use]
    pub const fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Makes this end one of a link as `link` describes it; the other end must be given the same. Gives the room of the
    /// queue, where the wire is modelled.
    ///
    /// # Errors
    /// [`LinkError::Queue`] where what is ahead does not fit into the socket, [`LinkError::DelayWithoutRate`].
    pub fn shape(&mut self, link: &cell::LinkSettings) -> Result<Option<Bytes>, LinkError> {
        self.sender.checksum = link.checksum;
        let delay = u64::try_from(link.delay.duration().as_nanos()).unwrap_or(u64::MAX);
        let Some(rate) = link.modelled_rate() else {
            self.sender.delivered = link.kernel_rate().map(Delivered::new);
            return if delay == 0 { Ok(None) } else { Err(LinkError::DelayWithoutRate) };
        };
        let on_its_way = u128::from(rate.0) * u128::from(delay) / 1_000_000_000;
        let besides = u64::try_from(on_its_way).unwrap_or(u64::MAX).saturating_add(LARGEST_FRAME);
        let queue = link.queue();
        let needed = Bytes(besides.saturating_add(queue.0));
        let room = self.sender.stream.make_room(needed.0);
        let room = room.map_err(|errno| LinkError::Io { doing: SETTING_UP, source: errno.into() })?;
        let fits = room.saturating_sub(besides);
        let queue = if queue.0 <= fits {
            queue
        } else if link.queue.is_none() && fits >= LEAST_QUEUE {
            Bytes(fits)
        } else {
            return Err(LinkError::Queue { queue, needed, room: Bytes(room) });
        };
        self.sender.wire = Some(ModelledWire::new(rate, queue));
        self.receiver.wire = Some((rate, delay));
        Ok(Some(queue))
    }

    /// How long a wait may last, in both directions.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), LinkError> {
        let failed = |source| LinkError::Io { doing: SETTING_UP, source };
        self.sender.stream.set_timeouts(timeout).map_err(failed)?;
        self.sender.timeout = timeout;
        self.receiver.timeout = timeout;
        Ok(())
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&mut self, kind: FrameKind, parts: &[&[u8]]) -> Result<(), LinkError> {
        self.sender.send(kind, parts)
    }

    /// See [`Receiver::recv`].
    ///
    /// # Errors
    /// As there.
    pub fn recv(&mut self) -> Result<Frame<'_>, LinkError> {
        self.receiver.recv()
    }

    /// See [`Receiver::recv_placing`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_placing<'g, E: From<LinkError>>(
        &mut self,
        place: impl FnOnce(&Frame<'_>, &mut Vec<VolatileSlice<'g>>) -> Result<(), E>,
    ) -> Result<Frame<'_>, E> {
        self.receiver.recv_placing(place)
    }

    /// See [`Receiver::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self, timeout: Duration) -> Result<bool, LinkError> {
        self.receiver.wait(timeout)
    }

    /// What this side has sent.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.sender.traffic
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.stream.as_fd()
    }
}

/// The outgoing direction of a link.
#[derive(Debug)]
pub struct Sender {
    stream: Arc<SocketStream>,
    timeout: Duration,
    wire: Option<ModelledWire>,
    /// What the kernel delivered, where it keeps the link to a rate.
    delivered: Option<Delivered>,
    checksum: cell::Checksum,
    sequence: u64,
    offset: u64,
    broken: bool,
    traffic: Traffic,
    /// Nanoseconds that it waited for room in the queue of the wire.
    waited: u64,
}

impl Sender {
    fn new(stream: Arc<SocketStream>, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            wire: None,
            delivered: None,
            checksum: cell::Checksum::Header,
            sequence: 0,
            offset: 0,
            broken: false,
            traffic: Traffic::default(),
            waited: 0,
        }
    }

    /// Sends a frame whose payload is `parts`, one after the other. Returns when all of it is in the socket and the queue of a
    /// modelled wire has room again.
    ///
    /// # Errors
    /// If the peer is gone or does not read, or the payload is over [`FrameKind::max_payload`]. After an error in
    /// the middle of a frame nothing more can be sent.
    pub fn send(&mut self, kind: FrameKind, parts: &[&[u8]]) -> Result<(), LinkError> {
        let before = self.offset;
        self.write_frame(kind, parts.iter().copied(), &[])?;
        let bytes = self.offset - before;
        match kind {
            FrameKind::State => self.traffic.state += bytes,
            _ => self.traffic.control += bytes,
        }
        Ok(())
    }

    /// Sends a batch of pages; an empty one is not sent. Its encoded pages lie in `encoded`, one after the other. Its whole pages lie
    /// in `whole`, under the checksum, or else in `behind`.
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Panics
    /// If these are not as long as the batch says.
    pub fn send_pages(
        &mut self,
        batch: &mut PageBatch,
        encoded: &[u8],
        whole: &[&[u8]],
        behind: &[Part<'_>],
    ) -> Result<(), LinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let data = encoded.len() + whole.iter().map(|part| part.len()).sum::<usize>();
        let trailing = behind.iter().map(Part::len).sum::<usize>();
        assert_eq!((data + trailing) as u64, batch.data(), "the data of a batch");
        let traffic = batch.traffic();
        let parts = [batch.meta(data), encoded].into_iter().chain(whole.iter().copied());
        self.write_frame(FrameKind::Pages, parts, behind)?;
        self.traffic += traffic;
        Ok(())
    }

    /// Writes a frame whose payload is `parts`, and `behind` it whole pages.
    fn write_frame<'a>(
        &mut self,
        kind: FrameKind,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
        behind: &[Part<'a>],
    ) -> Result<(), LinkError> {
        if self.broken {
            return Err(LinkError::Broken { offset: self.offset });
        }
        let mut header = frame::encode_header(kind, self.sequence, parts.clone(), self.offset)?;
        let trailing = behind.iter().map(Part::len).sum::<usize>();
        let length = HEADER + parts.clone().map(<[u8]>::len).sum::<usize>() + trailing;
        let pages = u16::try_from(trailing / PAGE).unwrap_or(u16::MAX);
        if pages > kind.max_trailing() {
            let fault = FrameFault::Trailing(pages);
            return Err(FrameError { offset: self.offset, kind: Some(kind), fault }.into());
        }
        let release = self.wire.as_mut().map_or(0, |wire| wire.enter(clock::now(), length as u64));
        frame::seal(&mut header, pages, release);
        #[expect(
            clippy::redundant_closure,
            reason = "it shortens the life of the slices to that of the header"
        )]
        let parts = parts.map(|part| Part::Private(part)).chain(behind.iter().copied());
        let all = std::iter::once(Part::Private(&header)).chain(parts);
        self.broken = true;
        let mut done = 0;
        while done < length {
            done += self.write(all.clone(), done)?;
        }
        self.broken = false;
        self.sequence += 1;
        self.wait_for_room();
        Ok(())
    }

    /// Waits until no more than the queue is ahead of the wire.
    fn wait_for_room(&mut self) {
        if let Some(wire) = &self.wire {
            self.waited += clock::wait_until(wire.room_at());
        }
    }

    /// Writes what goes in one call of all that follows byte `done` of `parts`.
    fn write<'a>(
        &mut self,
        parts: impl Iterator<Item = Part<'a>> + Clone,
        done: usize,
    ) -> Result<usize, LinkError> {
        let looked = clock::now();
        let before = self.delivered.is_some().then(|| self.queued()).transpose()?;
        let stream = &self.stream;
        let sent = moved_within(self.timeout, || {
            socket::send(&stream.as_fd(), parts.clone(), done, MsgFlags::MSG_NOSIGNAL)
        });
        let written =
            sent.map_err(|errno| LinkError::from_errno(errno, SENDING, self.offset, self.timeout))?;
        self.offset += written as u64;
        if let Some(before) = before {
            let after = self.queued()?;
            // Of a time that holds both looks at the socket: whoever is held up between them must not seem fast.
            let (from, to) = (looked, clock::now());
            self.delivered.iter_mut().for_each(|it| it.note(written as u64, before, after, from, to));
        }
        Ok(written)
    }

    /// Bytes that are in the socket and not yet at the peer's.
    fn queued(&self) -> Result<u64, LinkError> {
        queued(&self.stream.as_fd()).map_err(|source| LinkError::Io { doing: SENDING, source })
    }

    /// Bytes sent, by kind: whole frames only.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What the checksums of its frames are to cover.
    #[must_use]
    pub const fn checksum(&self) -> cell::Checksum {
        self.checksum
    }

    /// All bytes sent, those of an unfinished frame included.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Nanoseconds spent waiting for room in the queue of a modelled wire.
    #[must_use]
    pub const fn waited(&self) -> u64 {
        self.waited
    }

    /// When all that was sent has left the link, by [`clock::now`]: now, where nobody limits it.
    #[must_use]
    pub fn empty_at(&self) -> u64 {
        let now = clock::now();
        match (&self.wire, self.rate()) {
            (Some(wire), _) => wire.empty_at(now),
            // A socket that can't say is as good as empty: the next write finds out what it lacks.
            (None, Some(rate)) => now + wire_time(self.queued().unwrap_or(0), rate),
            (None, None) => now,
        }
    }

    /// Waits until no more than `left` nanoseconds of bytes have not left the link, for as long as any wait may last.
    pub fn drain(&self, left: u64) {
        let deadline =
            clock::now().saturating_add(u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX));
        // Over a wire of the kernel's the time is a guess, and looked at again.
        while clock::wait_until(self.empty_at().saturating_sub(left).min(deadline)) != 0 {}
    }

    /// What the kernel delivered of the rate to which it keeps the link; none where it doesn't, or was not held up by that.
    #[must_use]
    pub fn kernel_rate_achieved(&self) -> Option<f64> {
        self.delivered.as_ref().and_then(Delivered::rate_achieved)
    }

    /// The rate to which something keeps the link.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.wire.as_ref().map(ModelledWire::rate).or(self.delivered.as_ref().map(Delivered::rate))
    }

    /// The modelled wire, where the link has one.
    pub const fn wire(&mut self) -> Option<&mut ModelledWire> {
        self.wire.as_mut()
    }
}

/// Repeats a call that ends after a look until something has moved; `EAGAIN` when nothing did within `limit`. The socket is
/// looked at before the clock: what came while this process was stopped or waited for a CPU has come.
pub(super) fn moved_within(
    limit: Duration,
    mut call: impl FnMut() -> nix::Result<usize>,
) -> nix::Result<usize> {
    let mut patience = Patience::new(limit);
    loop {
        match call() {
            Err(Errno::EINTR | Errno::EAGAIN) if !patience.is_over() => {}
            Err(Errno::EINTR) => return Err(Errno::EAGAIN),
            other => return other,
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;

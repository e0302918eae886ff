//! A connection between the two nodes, over a Unix or a TCP socket. Frames enter as lists of slices and are
//! written with one vectored system call where socket and rate allow it; received frames are verified and lie
//! in the receiver's own buffer until the next one is received. Every wait has a time limit, and a peer that
//! is gone is an error, never a signal.

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use migbench_workloads::units::Rate;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, sendmsg, setsockopt, sockopt};

use super::address::wait_readable;
use super::frame::{self, Frame, FrameError, FrameKind, HEADER};
use super::netns::Delivered;
use super::sabotage::Saboteur;
use super::{Pace, PageBatch, Traffic};

/// What a socket may hold in each direction.
const SOCKET_BUFFER: usize = 1 << 20;

/// The kernel's `IOV_MAX`: more slices in one call are refused.
const MAX_SLICES: usize = 1024;

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
const AT_A_HEADER: &str = "waiting for a frame";
const IN_A_FRAME: &str = "receiving a frame";
const SETTING_UP: &str = "setting up the socket";

impl LinkError {
    fn from_errno(errno: Errno, doing: &'static str, offset: u64, after: Duration) -> Self {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET => Self::Closed { doing, offset },
            Errno::EAGAIN | Errno::ETIMEDOUT => Self::Timeout { doing, after, offset },
            other => Self::Io { doing, source: other.into() },
        }
    }
}

/// A connected socket of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    fn set_timeouts(&self, timeout: Option<Duration>) -> io::Result<()> {
        // A time limit of zero would mean none.
        let timeout = timeout.map(|time| time.max(Duration::from_millis(1)));
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
}

/// Both directions of a connection.
#[derive(Debug)]
pub struct Link {
    sender: Sender,
    receiver: Receiver,
}

impl Link {
    pub(super) fn new(stream: Stream, timeout: Duration) -> Result<Self, LinkError> {
        let failed = |source| LinkError::Io { doing: SETTING_UP, source };
        stream.prepare().and_then(|()| stream.set_timeouts(Some(timeout))).map_err(failed)?;
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

    /// Limits what is sent from now on to `rate`.
    pub fn set_rate(&mut self, rate: Option<Rate>) {
        self.sender.set_rate(rate);
    }

    /// Holds what is sent from now on against the rate to which the kernel limits it.
    pub fn watch_kernel(&mut self, rate: Option<Rate>) {
        self.sender.delivered = rate.map(Delivered::new);
    }

    /// How long a wait may last, in both directions.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), LinkError> {
        let failed = |source| LinkError::Io { doing: SETTING_UP, source };
        self.sender.stream.set_timeouts(Some(timeout)).map_err(failed)?;
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

    /// See [`Sender::send_pages`].
    ///
    /// # Errors
    /// As there.
    pub fn send_pages(&mut self, batch: &PageBatch) -> Result<(), LinkError> {
        self.sender.send_pages(batch)
    }

    /// See [`Receiver::recv`].
    ///
    /// # Errors
    /// As there.
    pub fn recv(&mut self) -> Result<Frame<'_>, LinkError> {
        self.receiver.recv()
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

/// The outgoing direction of a link.
#[derive(Debug)]
pub struct Sender {
    stream: Arc<Stream>,
    timeout: Duration,
    pace: Pace,
    /// Where the kernel limits the rate.
    delivered: Option<Delivered>,
    sequence: u64,
    offset: u64,
    broken: bool,
    traffic: Traffic,
    in_socket: Duration,
    /// Memory for lists of slices, empty between two frames: frames are sent while the guest is paused.
    parts: Vec<&'static [u8]>,
    piece: Vec<IoSlice<'static>>,
}

/// Slices of a list that will hardly grow.
const USUAL_SLICES: usize = 128;

/// The memory of a list for slices of another lifetime: an empty list collects in place.
fn recycled_parts<'b>(mut list: Vec<&[u8]>) -> Vec<&'b [u8]> {
    list.clear();
    list.into_iter().map(|_| &[][..]).collect()
}

/// As [`recycled_parts`].
fn recycled_piece<'b>(mut list: Vec<IoSlice<'_>>) -> Vec<IoSlice<'b>> {
    list.clear();
    list.into_iter().map(|_| IoSlice::new(&[])).collect()
}

impl Sender {
    fn new(stream: Arc<Stream>, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            pace: Pace::new(None),
            delivered: None,
            sequence: 0,
            offset: 0,
            broken: false,
            traffic: Traffic::default(),
            in_socket: Duration::ZERO,
            parts: Vec::with_capacity(USUAL_SLICES),
            piece: Vec::with_capacity(USUAL_SLICES),
        }
    }

    /// Limits what is sent from now on to `rate`, and starts the account of it anew.
    pub fn set_rate(&mut self, rate: Option<Rate>) {
        self.pace = Pace::new(rate);
    }

    /// Sends a frame whose payload is `parts`, one after the other. Returns when all of it is in the socket.
    ///
    /// # Errors
    /// If the peer is gone or does not read, or the payload is over [`frame::MAX_PAYLOAD`]. After an error in
    /// the middle of a frame nothing more can be sent.
    pub fn send(&mut self, kind: FrameKind, parts: &[&[u8]]) -> Result<(), LinkError> {
        let before = self.offset;
        self.write_frame(kind, parts)?;
        let bytes = self.offset - before;
        match kind {
            FrameKind::State => self.traffic.state += bytes,
            _ => self.traffic.control += bytes,
        }
        Ok(())
    }

    /// Sends a batch of pages; an empty one is not sent.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_pages(&mut self, batch: &PageBatch) -> Result<(), LinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut parts: Vec<&[u8]> = std::mem::take(&mut self.parts);
        batch.parts(&mut parts);
        let written = self.write_frame(FrameKind::Pages, &parts);
        self.parts = recycled_parts(parts);
        written?;
        self.traffic += batch.traffic();
        Ok(())
    }

    fn write_frame(&mut self, kind: FrameKind, parts: &[&[u8]]) -> Result<(), LinkError> {
        if self.broken {
            return Err(LinkError::Broken { offset: self.offset });
        }
        let header = frame::encode_header(kind, self.sequence, parts, self.offset)?;
        let mut piece: Vec<IoSlice<'_>> = std::mem::take(&mut self.piece);
        self.broken = true;
        let written = self.write_all(&header, parts, &mut piece);
        self.piece = recycled_piece(piece);
        written?;
        self.broken = false;
        self.sequence += 1;
        Ok(())
    }

    /// Writes `header` and all of `parts`, in pieces that the rate and the kernel allow.
    fn write_all<'a>(
        &mut self,
        header: &'a [u8],
        parts: &[&'a [u8]],
        piece: &mut Vec<IoSlice<'a>>,
    ) -> Result<(), LinkError> {
        let all = || std::iter::once(header).chain(parts.iter().copied());
        let mut left: usize = all().map(<[u8]>::len).sum();
        let (mut done, mut granted) = (0, 0);
        self.pace.start_frame();
        while left > 0 {
            if granted == 0 {
                granted = self.pace.wait(left);
            }
            let (mut skip, mut room) = (done, granted);
            piece.clear();
            for part in all() {
                let start = skip.min(part.len());
                skip -= start;
                let length = (part.len() - start).min(room);
                if length > 0 {
                    piece.push(IoSlice::new(&part[start..start + length]));
                    room -= length;
                }
                if room == 0 || piece.len() == MAX_SLICES {
                    break;
                }
            }
            let written = self.write(piece)?;
            granted -= written;
            left -= written;
            done += written;
        }
        Ok(())
    }

    fn write(&mut self, piece: &[IoSlice<'_>]) -> Result<usize, LinkError> {
        let start = Instant::now();
        let before = self.delivered.is_some().then(|| self.queued()).transpose()?;
        let result = loop {
            let fd = self.stream.as_fd().as_raw_fd();
            match sendmsg::<()>(fd, piece, &[], MsgFlags::MSG_NOSIGNAL, None) {
                // A signal must not stretch the time limit for ever.
                Err(Errno::EINTR) if start.elapsed() < self.timeout => {}
                Err(Errno::EINTR) => break Err(Errno::EAGAIN),
                other => break other,
            }
        };
        let time = start.elapsed();
        self.in_socket += time;
        let written =
            result.map_err(|errno| LinkError::from_errno(errno, SENDING, self.offset, self.timeout))?;
        self.offset += written as u64;
        if let Some(before) = before {
            let after = self.queued()?;
            // Of a time that holds both looks at the socket: whoever is held up between them must not seem fast.
            let time = start.elapsed();
            self.delivered.iter_mut().for_each(|it| it.note(written as u64, before, after, time));
        }
        Ok(written)
    }

    /// Bytes sent, by kind: whole frames only.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// All bytes sent, those of an unfinished frame included.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Time spent in the socket: copying, and waiting for the peer to make room.
    #[must_use]
    pub const fn in_socket(&self) -> Duration {
        self.in_socket
    }

    /// Bytes that are in the socket and not yet at the peer's, see [`crate::sys::socket::queued`].
    ///
    /// # Errors
    /// If the system refuses.
    pub fn queued(&self) -> Result<u64, LinkError> {
        crate::sys::socket::queued(&self.stream.as_fd())
            .map_err(|source| LinkError::Io { doing: SENDING, source })
    }

    /// See the metric `link_rate_achieved`; none without a limit.
    #[must_use]
    pub fn rate_achieved(&self) -> Option<f64> {
        self.delivered.as_ref().map_or_else(|| self.pace.rate_achieved(), Delivered::rate_achieved)
    }

    /// The pace kept so far: time waited for tokens, and the share of the rate that was achieved.
    #[must_use]
    pub const fn pace(&self) -> &Pace {
        &self.pace
    }
}

/// The incoming direction of a link.
#[derive(Debug)]
pub struct Receiver {
    stream: Arc<Stream>,
    timeout: Duration,
    sequence: u64,
    offset: u64,
    buffer: Vec<u8>,
    /// Whether data came quickly of late.
    brisk: bool,
}

impl Receiver {
    fn new(stream: Arc<Stream>, timeout: Duration) -> Self {
        Self { stream, timeout, sequence: 0, offset: 0, buffer: Vec::new(), brisk: false }
    }

    /// Receives the next frame. It lies in this receiver's buffer, which grows to the largest frame seen.
    ///
    /// # Errors
    /// If the peer is gone, sends nothing for too long, or sends what is not a sound frame.
    pub fn recv(&mut self) -> Result<Frame<'_>, LinkError> {
        let start = self.offset;
        let mut header = [0; HEADER];
        read_exactly(&self.stream, &mut header, &mut self.offset, self.timeout, true, &mut self.brisk)?;
        let header = frame::decode_header(&header, start, self.sequence)?;
        if self.buffer.len() < header.length {
            self.buffer.resize(header.length, 0);
        }
        let payload = &mut self.buffer[..header.length];
        read_exactly(&self.stream, payload, &mut self.offset, self.timeout, false, &mut self.brisk)?;
        let frame = header.with_payload(payload)?;
        self.sequence += 1;
        Ok(frame)
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

fn read_exactly(
    stream: &Stream,
    mut buffer: &mut [u8],
    offset: &mut u64,
    timeout: Duration,
    at_start: bool,
    brisk: &mut bool,
) -> Result<(), LinkError> {
    let mut doing = if at_start { AT_A_HEADER } else { IN_A_FRAME };
    let mut moved = Instant::now();
    while !buffer.is_empty() {
        let look = *brisk && moved.elapsed() < LOOK;
        let flags = if look { MsgFlags::MSG_DONTWAIT } else { MsgFlags::MSG_WAITALL };
        match recv(stream.as_fd().as_raw_fd(), buffer, flags) {
            Ok(0) => return Err(LinkError::Closed { doing, offset: *offset }),
            Ok(read) => {
                *brisk = moved.elapsed() < LOOK;
                *offset += read as u64;
                buffer = &mut buffer[read..];
                moved = Instant::now();
                doing = IN_A_FRAME;
            }
            Err(Errno::EAGAIN) if look => std::hint::spin_loop(),
            Err(Errno::EINTR) if moved.elapsed() < timeout => {}
            Err(Errno::EINTR) => return Err(LinkError::Timeout { doing, after: timeout, offset: *offset }),
            Err(errno) => return Err(LinkError::from_errno(errno, doing, *offset, timeout)),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;

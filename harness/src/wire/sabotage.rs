//! Ways to break a link on purpose, so that tests can show what a broken link does to a migration.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, getsockopt, send, setsockopt, shutdown, sockopt};
use serde::{Deserialize, Serialize};

use super::frame;
use super::link::SocketStream;
use crate::sys::socket;

/// What a frame meets on its way. TCP and Unix sockets keep bytes from it; a fault of memory, of a program or of a person does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tampering {
    /// One of its bits is flipped, of those that a checksum covers.
    Flip,
    /// It comes after the next one, or late where none follows.
    Swap,
    /// It comes twice.
    Repeat,
    /// It never comes.
    Lose,
}

/// How long a frame waits for the next one to overtake it.
const SWAPPED_WITHIN: Duration = Duration::from_millis(200);

/// A second hold on a link's socket.
#[derive(Debug, Clone)]
pub struct Saboteur(pub(super) Arc<SocketStream>);

impl Saboteur {
    /// Closes both directions at once, as a network does that goes away.
    pub fn close(&self) {
        let _ = shutdown(self.0.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }

    /// Writes a header that is none between two frames.
    pub fn corrupt(&self) {
        let _ = send(self.0.as_fd().as_raw_fd(), &[0x55; frame::HEADER], MsgFlags::MSG_NOSIGNAL);
    }

    /// From here on the link passes through threads of this process, where `tampering` meets one of the frames that this side
    /// sends: `draw` chooses which of the next four, and which of its bits.
    ///
    /// # Errors
    /// When the system refuses what that takes.
    pub fn tamper(&self, tampering: Tampering, draw: u32) -> io::Result<()> {
        let fd = self.0.as_fd();
        // A Unix socket reads and writes as a TCP one does.
        let far = UnixStream::from(fd.try_clone_to_owned()?);
        let (here, near) = UnixStream::pair()?;
        setsockopt(&here, sockopt::ReceiveTimeout, &getsockopt(&fd, sockopt::ReceiveTimeout)?)?;
        setsockopt(&here, sockopt::SendTimeout, &getsockopt(&fd, sockopt::SendTimeout)?)?;
        let (answers, back) = (far.try_clone()?, near.try_clone()?);
        socket::replace(fd, here.as_fd())?;
        thread::spawn(move || {
            pass(&answers, &back);
            let _ = back.shutdown(Shutdown::Write);
        });
        thread::spawn(move || {
            Tamperer { tampering, draw, seen: 0, held: Vec::new() }.pass(&near, &far);
            let _ = far.shutdown(Shutdown::Write);
        });
        Ok(())
    }
}

/// Whether a call that gave this is to be made again: the far socket has its owner's time limits.
fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Writes all of `bytes`, however long that takes; `false` where nobody takes them any more.
fn written(mut to: &UnixStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(count @ 1..) => bytes = &bytes[count..],
            Err(error) if again(&error) => {}
            _ => return false,
        }
    }
    true
}

/// Passes bytes on as they come, until one side has ended.
fn pass(mut from: &UnixStream, to: &UnixStream) {
    let mut room = vec![0; 1 << 16];
    loop {
        match from.read(&mut room) {
            Ok(count @ 1..) if written(to, &room[..count]) => {}
            Err(error) if again(&error) => {}
            _ => return,
        }
    }
}

/// Passes frames on, but for the one that is drawn.
struct Tamperer {
    tampering: Tampering,
    draw: u32,
    seen: u32,
    /// A frame that waits for the next one.
    held: Vec<u8>,
}

impl Tamperer {
    fn pass(&mut self, mut from: &UnixStream, to: &UnixStream) {
        let _ = from.set_read_timeout(Some(SWAPPED_WITHIN));
        let (mut unread, mut room) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            let read = from.read(&mut room);
            let late = read.as_ref().is_err_and(again);
            if late && !written(to, &std::mem::take(&mut self.held)) {
                return;
            }
            match read {
                Ok(count @ 1..) => unread.extend_from_slice(&room[..count]),
                Err(_) if late => {}
                _ => return,
            }
            while let Some(length) = whole(&unread) {
                let rest = unread.split_off(length);
                if !self.frame(std::mem::replace(&mut unread, rest), to) {
                    return;
                }
            }
        }
    }

    fn frame(&mut self, mut frame: Vec<u8>, to: &UnixStream) -> bool {
        let drawn = self.seen == self.draw % 4;
        self.seen += 1;
        if !drawn {
            return written(to, &frame) && written(to, &std::mem::take(&mut self.held));
        }
        match self.tampering {
            Tampering::Flip => {
                let bits = covered(&frame).unwrap_or(frame.len()) * 8;
                // Any odd number far from the draws spreads them over the frame.
                let bit = (self.draw as usize / 4).wrapping_mul(0x9e37_79b9) % bits;
                frame[bit / 8] ^= 1 << (bit % 8);
            }
            Tampering::Swap => {
                self.held = frame;
                return true;
            }
            Tampering::Repeat => frame.extend_from_within(..),
            Tampering::Lose => return true,
        }
        written(to, &frame)
    }
}

/// Bytes of the frame at the start of these that its checksums cover, once its header is there.
fn covered(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.get(8..12)?.first_chunk()?);
    Some(frame::HEADER + usize::try_from(length).ok()?)
}

/// Bytes of the frame at the start of these, with the pages behind it, once all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let trailing = u16::from_le_bytes(*bytes.get(6..8)?.first_chunk()?);
    let length = covered(bytes)? + usize::from(trailing) * 4096;
    (bytes.len() >= length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FrameKind, Link, LinkError};

    const LONG: Duration = Duration::from_secs(60);

    /// Kinds of the frames that arrive of `Ready`, `Commit`, `Running`, and what ends them.
    fn arrived(tampering: Tampering, draw: u32) -> (Vec<FrameKind>, LinkError) {
        let (mut one, mut other) = Link::pair(LONG).unwrap();
        one.saboteur().tamper(tampering, draw).unwrap();
        for kind in [FrameKind::Ready, FrameKind::Commit, FrameKind::Running] {
            one.send(kind, &[]).unwrap();
        }
        other.send(FrameKind::Done, &[]).unwrap();
        assert_eq!(one.recv().unwrap().kind, FrameKind::Done, "the other direction is left alone");
        drop(one);
        let mut kinds = Vec::new();
        loop {
            match other.recv() {
                Ok(frame) => kinds.push(frame.kind),
                Err(error) => return (kinds, error),
            }
        }
    }

    #[test]
    fn one_frame_meets_a_mishap_and_the_receiver_refuses_it() {
        use FrameKind::{Commit, Ready, Running};
        let cases: [(_, _, &[FrameKind], _); 6] = [
            (Tampering::Flip, 4, &[], "bad frame at byte 32"),
            (Tampering::Flip, 5, &[Ready], "bad frame at byte 68"),
            (Tampering::Repeat, 0, &[Ready], "it has number 0, the next one is 1"),
            (Tampering::Swap, 1, &[Ready], "it has number 2, the next one is 1"),
            (Tampering::Lose, 1, &[Ready], "it has number 2, the next one is 1"),
            // None of the three.
            (Tampering::Lose, 3, &[Ready, Commit, Running], "the peer closed the link at byte 108"),
        ];
        for (tampering, draw, expected, end) in cases {
            let (kinds, error) = arrived(tampering, draw);
            assert_eq!(kinds, expected, "{tampering:?} {draw}: {error}");
            assert!(error.to_string().contains(end), "{tampering:?} {draw}: {error}");
        }
    }

    #[test]
    fn a_frame_that_nothing_overtakes_comes_late() {
        let (mut one, mut other) = Link::pair(LONG).unwrap();
        one.saboteur().tamper(Tampering::Swap, 0).unwrap();
        one.send(FrameKind::Commit, &[]).unwrap();
        assert_eq!(other.recv().unwrap().kind, FrameKind::Commit);
    }
}

//! Ways to break a link on purpose, so that tests can show what a broken link does to a migration.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};

use super::frame;
use super::link::SocketStream;

/// A second hold on a link's socket.
#[derive(Debug, Clone)]
pub struct Saboteur(pub(super) Arc<SocketStream>);

impl Saboteur {
    /// Closes both directions at once, as a network does that goes away.
    pub fn close(&self) {
        let _ = shutdown(self.0.as_fd().as_raw_fd(), Shutdown::Both);
    }

    /// Writes a header that is none between two frames.
    pub fn corrupt(&self) {
        let _ = send(self.0.as_fd().as_raw_fd(), &[0x55; frame::HEADER], MsgFlags::MSG_NOSIGNAL);
    }
}

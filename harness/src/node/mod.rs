//! The two processes of one migration. Each is this same binary under a hidden sub-command: it takes orders over an
//! inherited control socket, does its half, reports, and ends with the socket.

pub mod about;
pub mod destination;
pub mod fault;
pub mod handover;
pub mod hello;
pub mod page_receiver;
pub mod proof;
pub mod protocol;
pub mod source;

use std::os::fd::RawFd;
use std::time::Duration;

use migbench_scenarios::cell::Cell;

use crate::guest::{self, Guest};
use crate::sys::memory::inherited;
use crate::sys::thread;
use crate::vm::VmError;
use crate::wire::frame::FrameKind;
use crate::wire::link::{Link, LinkError};
use crate::wire::netns;
use protocol::{Checked, ControlSocket, NodeAssignment, Order, ProtocolError, Role};

/// Takes the runner's first order, on the control socket that it left open as `descriptor`.
///
/// # Errors
/// When the runner cannot be understood or is gone.
pub fn accept(descriptor: RawFd) -> Result<(ControlSocket, NodeAssignment), ProtocolError> {
    thread::die_with_parent();
    thread::sharp_timers();
    let mut control = ControlSocket::inherited(descriptor)?;
    // A runner that died before that was asked for left its orders behind, and nobody to end this process.
    if control.is_closed()? {
        return Err(ProtocolError::Closed);
    }
    let assignment = match control.receive::<Order>()? {
        Order::Prepare(assignment) => *assignment,
        other => return Err(ProtocolError::Unexpected(format!("{other:?}"))),
    };
    // Threads inherit the namespace of the one that starts them, and there is only this one yet.
    if let Some(network) = assignment.network {
        netns::enter(inherited(network)?).map_err(std::io::Error::from)?;
    }
    Ok((control, assignment))
}

/// Serves one migration by our own engines.
///
/// # Errors
/// When the runner is gone; failures of the migration itself are reported to it.
pub fn serve(control: &mut ControlSocket, assignment: &NodeAssignment) -> Result<(), ProtocolError> {
    match assignment.role {
        Role::Source => source::serve(control, assignment),
        Role::Destination => destination::serve(control, assignment),
    }
}

/// Longest wait on the link: a peer that hashes its memory says nothing meanwhile.
pub(crate) fn link_timeout(cell: &Cell) -> Duration {
    Duration::from_secs(30 + (cell.memory.0 >> 27))
}

/// Why a node could not do its half.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The guest.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The guest, by its telemetry.
    #[error(transparent)]
    Guest(#[from] crate::guest::GuestError),
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The greeting.
    #[error(transparent)]
    Hello(#[from] hello::HelloError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// The tracker.
    #[error(transparent)]
    Tracker(#[from] crate::dirty::TrackerError),
    /// No memory to work in.
    #[error(transparent)]
    Memory(#[from] crate::sys::memory::NoMemory),
    /// A page frame.
    #[error(transparent)]
    Frame(#[from] crate::wire::frame::FrameError),
    /// A delta that does not fit its page.
    #[error("the delta of the page at {page}: {source}")]
    Delta {
        /// Guest-physical address.
        page: migbench_workloads::units::Gpa,
        /// What is wrong with it.
        source: crate::codec::DecodeError,
    },
    /// The other side gave up.
    #[error("the other side gave up: {0}")]
    Abort(String),
    /// A frame out of order.
    #[error("a {found} frame came where {expected} was due")]
    OutOfOrder {
        /// What came.
        found: crate::wire::frame::FrameKind,
        /// What was due.
        expected: &'static str,
    },
    /// A greeting, a state or a list of hashes that cannot be right.
    #[error("{0}")]
    Content(String),
    /// Memory that arrived differs from what was sent.
    #[error("{0}")]
    Differs(String),
    /// A guest of another CPU.
    #[error(transparent)]
    Model(#[from] crate::vm::model::ModelError),
    /// Host figures.
    #[error(transparent)]
    Noise(#[from] crate::host::noise::NoiseError),
    /// Anything of the system.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The runner is gone or out of step.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The next frame, which must be of `kind`.
fn expect(link: &mut Link, kind: FrameKind, expected: &'static str) -> Result<Vec<u8>, NodeError> {
    let frame = link.recv()?;
    match frame.kind {
        found if found == kind => Ok(frame.payload.to_vec()),
        FrameKind::Abort => Err(NodeError::Abort(printable(frame.payload))),
        found => Err(NodeError::OutOfOrder { found, expected }),
    }
}

/// The most bytes of a peer's words that are sent or shown.
const WORDS: usize = 4096;

/// What a peer says, to be shown: cut short, and with everything escaped that would move a terminal's cursor or make text
/// look like something else.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(WORDS)]);
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

/// Tells the other side why it is off, if it still listens.
fn abort(link: &mut Link, why: &str) {
    let _ = link.send(FrameKind::Abort, &[&why.as_bytes()[..why.floor_char_boundary(WORDS)]]);
}

/// Lets the guest check itself.
pub(crate) fn check_guest(guest: &dyn Guest) -> Checked {
    match guest::validate(guest) {
        Ok(()) => Checked { passed: true, message: None },
        Err(error) => Checked { passed: false, message: Some(error.to_string()) },
    }
}

impl From<crate::sys::ram::RamError> for NodeError {
    fn from(error: crate::sys::ram::RamError) -> Self {
        Self::Vm(error.into())
    }
}

impl From<crate::vm::vcpu::VcpuError> for NodeError {
    fn from(error: crate::vm::vcpu::VcpuError) -> Self {
        Self::Vm(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_peer_cannot_do_more_than_be_read() {
        assert_eq!(printable("no \"memory\", it's \\ über".as_bytes()), "no \"memory\", it's \\ über");
        let shown = printable(b"\x1b[2J\r\n\x9b0m\0 \xe2\x80\xae");
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(shown.starts_with("\\u{1b}[2J\\r\\n") && shown.ends_with("\\u{202e}"), "{shown}");
        assert_eq!(printable(&[b'a'; 2 * WORDS]).len(), WORDS);
    }

    #[test]
    fn a_reason_that_is_too_long_is_cut_between_characters() {
        let (mut here, mut there) = Link::pair(Duration::from_secs(20)).unwrap();
        abort(&mut here, &"ä".repeat(WORDS));
        let error = expect(&mut there, FrameKind::Ready, "Ready").unwrap_err();
        assert_eq!(error.to_string(), format!("the other side gave up: {}", "ä".repeat(WORDS / 2)));
    }
}

//! What runner and nodes say to each other: one JSON object a line over a Unix socket. Times are nanoseconds of the
//! host's monotonic clock, which all processes of a host share.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use migbench_reports::record::{MemoryProof, Round};
use migbench_scenarios::cell::{Cell, Codec};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fault::InjectedFault;
use super::hello::Token;
use crate::cache::CacheCounts;
use crate::engine::planted_cost::PlantedCost;
use crate::guest::sampler::ProgressSamples;
use crate::guest::stalls::{GuestClock, StallRing};
use crate::guest::steady::Steady;
use crate::guest::usage::Usage;
use crate::vm::events::Event;
use crate::wire::address::LinkAddress;

/// Which half a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Boots the guest and sends it.
    Source,
    /// Receives it.
    Destination,
}

impl Role {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// The first message to a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeAssignment {
    /// Its half.
    pub role: Role,
    /// Every parameter.
    pub cell: Cell,
    /// Seed of the guest.
    pub seed: u64,
    /// `abi::FLAG_*` for the guest, for tests.
    pub guest_flags: u32,
    /// Whether memory is hashed before the guest resumes.
    pub verify: bool,
    /// How long the source waits before it starts, in seconds.
    pub start_jitter: f64,
    /// What is to go wrong, for tests.
    pub fault: Option<InjectedFault>,
    /// What a stage is to cost beside its work, for tests.
    pub planted_cost: Option<PlantedCost>,
    /// Descriptor of the telemetry memory.
    pub telemetry: RawFd,
    /// Descriptor of the network namespace that the node enters, where the link is one between namespaces.
    pub network: Option<RawFd>,
    /// The run's secret, by which its nodes know each other.
    pub token: Token,
    /// A directory of the run's own, for files and sockets of other VMMs.
    pub scratch: Option<PathBuf>,
}

/// From the runner to a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Get ready.
    Prepare(Box<NodeAssignment>),
    /// The destination is ready there; controls have none.
    Migrate {
        /// Where to connect to.
        address: Option<LinkAddress>,
    },
    /// To a destination that may wait for the source: it will not come.
    SourceEnded,
}

/// From a node to the runner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Message {
    /// The destination waits for a connection.
    Listening {
        /// Where.
        address: LinkAddress,
    },
    /// The source's guest is in steady state.
    Steady,
    /// A round with the guest running is over.
    Round(Box<Round>),
    /// The source is done with its half.
    Source(Box<SourceReport>),
    /// The destination is done with its half.
    Destination(Box<DestinationReport>),
}

/// What went wrong in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `boot`, `warmup`, `connect`, `precopy`, `switchover`, `verification`, `handover`, `after`, `validate`.
    pub phase: String,
    /// In a sentence.
    pub message: String,
}

/// The guest's own check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Whether it passed.
    pub passed: bool,
    /// What it found otherwise.
    pub message: Option<String>,
}

/// What the source knows of stalls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// Host TSC when the migration started.
    pub start: u64,
    /// Stalls counted before.
    pub before: u64,
    /// The clock of each vCPU.
    pub clocks: Vec<Option<GuestClock>>,
    /// What the host did at the time of any stall.
    pub events: Vec<Event>,
    /// Host TSC from which on the log was full.
    pub full_since: Option<u64>,
    /// The rings when the source was done.
    pub ring: StallRing,
}

/// Times and counts of the source's half.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sending {
    /// When the migration started.
    pub start: u64,
    /// Tracker armed and link connected.
    pub set_up: u64,
    /// Pause ordered.
    pub pause_ordered: u64,
    /// All vCPUs paused.
    pub paused: u64,
    /// Last harvest done.
    pub harvested: u64,
    /// Room of the queue before the modelled wire, in bytes.
    pub queue: Option<u64>,
    /// The harvest that led to the pause, which is no round's, in seconds.
    pub deciding_harvest: f64,
    /// The destination said that it has everything.
    pub ready: u64,
    /// Commit sent.
    pub committed: u64,
    /// The destination said that the guest runs.
    pub running: u64,
    /// Whether a limit forced the switchover.
    pub capped: bool,
    /// Rounds, the paused one last.
    pub rounds: Vec<Round>,
    /// Bytes of encoded deltas.
    pub delta_bytes: u64,
    /// Pages that each codec encoded, where the cell's codec chooses.
    pub choices: Vec<(Codec, u64)>,
    /// What was remembered of pages, where anything was.
    pub cache: Option<CacheCounts>,
    /// Bytes sent, by kind: full, zero, delta, state, control.
    pub traffic: [u64; 5],
    /// See `link_rate_achieved`.
    pub rate_achieved: Option<f64>,
    /// Nanoseconds that each vCPU slept, where a throttle had it do so.
    pub throttled: Vec<u64>,
}

/// What another VMM is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAbout {
    /// Its name.
    pub name: String,
    /// Its version, as it says.
    pub version: String,
    /// Where the program lies.
    pub binary: String,
    /// BLAKE3 of the program, in hexadecimal.
    pub hash: String,
    /// What it was started with.
    pub arguments: Vec<String>,
}

/// What another VMM counted of a migration. What it does not count is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerCounters {
    /// Bytes sent, by its own account.
    pub traffic: Option<u64>,
    /// Rounds begun, that of all memory included.
    pub rounds: u64,
    /// Pages sent whole.
    pub pages_full: Option<u64>,
    /// Zero pages sent as marks.
    pub pages_zero: Option<u64>,
    /// Pages sent as deltas, bytes of these, pages whose delta was no smaller, and pages that its cache did not have.
    pub deltas: Option<[u64; 4]>,
    /// Its own downtime, in seconds.
    pub downtime: Option<f64>,
    /// Its own total time, in seconds.
    pub total_time: Option<f64>,
    /// All that it said in the end.
    pub said: serde_json::Value,
}

/// A migration by another VMM, as its source node saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerSending {
    /// What it is.
    pub about: PeerAbout,
    /// When the migration was ordered.
    pub start: u64,
    /// When it says that the vCPUs had stopped; 0 where they never did.
    pub stopped: u64,
    /// When that was noticed, and the epoch raised.
    pub noticed: u64,
    /// When it says that everything was sent.
    pub completed: u64,
    /// Whether a limit of the stop rule forced the switchover.
    pub capped: bool,
    /// Its counters in the end.
    pub counters: PeerCounters,
}

/// The source's half.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Why it did not end as planned.
    pub failure: Option<Failure>,
    /// Whether commit was sent, and the guest with it.
    pub handed_over: bool,
    /// After a failure: whether the guest's counters advanced again at the source.
    pub guest_runs: bool,
    /// Before the migration.
    pub steady: Option<Steady>,
    /// See `huge_page_share`, where guest memory is meant to be in huge pages.
    pub huge_page_share: Option<f64>,
    /// The migration.
    pub sending: Option<Sending>,
    /// The migration, where another VMM does it.
    pub peer: Option<Box<PeerSending>>,
    /// Start and end of what a control did instead.
    pub control: Option<(u64, u64)>,
    /// When `track-only` had armed its tracker.
    pub armed: Option<u64>,
    /// Harvests of `track-only`.
    pub rounds: Vec<Round>,
    /// Operations, page writes and stalled ticks between the start and the pause.
    pub precopy: Option<PhaseWork>,
    /// What came of comparing memory, where that was to be done.
    pub proof: Option<MemoryProof>,
    /// The guest's check, where it ended here.
    pub checked: Option<Checked>,
    /// The guest's histograms by name, where it ended here.
    pub histograms: BTreeMap<String, String>,
    /// CPU and memory.
    pub usage: Usage,
    /// Progress samples.
    pub samples: ProgressSamples,
    /// The most operations overdue at once, where the guest ended here.
    pub backlog_max: Option<u64>,
    /// TSC frequency.
    pub tsc_khz: u32,
    /// Stalls, where operations are timed.
    pub stalled: Option<Stalled>,
    /// Times that a vCPU's clock went backwards, where the guest ended here.
    pub backwards: u32,
}

/// What the guest did in a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseWork {
    /// Operations.
    pub operations: u64,
    /// Page writes.
    pub page_writes: u64,
    /// Ticks of stall.
    pub stall_ticks: u64,
    /// Nanoseconds it lasted.
    pub nanoseconds: u64,
}

/// The destination's half.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DestinationReport {
    /// Why it did not end as planned.
    pub failure: Option<Failure>,
    /// Whether commit was received.
    pub took_over: bool,
    /// Whether the guest's counters advanced here.
    pub guest_runs: bool,
    /// Seconds to make and pre-fault memory.
    pub prepare: f64,
    /// What another VMM was started with here.
    pub arguments: Vec<String>,
    /// Where another VMM migrates: when every vCPU had ended an operation here. Our own nodes say that to the source.
    pub running: u64,
    /// The last vCPU's first entry into `KVM_RUN`.
    pub entered: u64,
    /// All vCPUs had caught up with their schedules.
    pub caught_up: Option<u64>,
    /// End of the window after the migration.
    pub end: u64,
    /// Seconds in decoding.
    pub decode: f64,
    /// When the last page of the last round was here.
    pub last_page: u64,
    /// Ticks of the gap between the two operations around the switchover, the largest of all vCPUs.
    pub gap_ticks: Option<u64>,
    /// The clock of each vCPU, here.
    pub clocks: Vec<Option<GuestClock>>,
    /// Times that a vCPU's clock went backwards.
    pub backwards: u32,
    /// Stalls in the end.
    pub ring: StallRing,
    /// The most operations overdue at once since the start of the migration.
    pub backlog_max: u64,
    /// Bytes sent to the source.
    pub traffic: u64,
    /// The guest's check.
    pub checked: Option<Checked>,
    /// The guest's histograms by name.
    pub histograms: BTreeMap<String, String>,
    /// CPU and memory.
    pub usage: Usage,
    /// Progress samples.
    pub samples: ProgressSamples,
}

/// Why runner and node lost each other.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The socket.
    #[error("the control socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The peer closed it.
    #[error("the control socket was closed")]
    Closed,
    /// Not JSON of ours.
    #[error("the control socket carried what is no message: {0}")]
    Json(#[from] serde_json::Error),
    /// A line that no message is as long as.
    #[error("the control socket carried a line of more than {0} bytes")]
    Long(usize),
    /// A message at the wrong time.
    #[error("message out of order: {0}")]
    Unexpected(String),
}

/// One end of a control socket.
#[derive(Debug)]
pub struct ControlSocket {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl ControlSocket {
    /// Over a connected socket.
    ///
    /// # Errors
    /// When it cannot be duplicated.
    pub fn new(socket: UnixStream) -> Result<Self, ProtocolError> {
        Ok(Self { writer: socket.try_clone()?, reader: BufReader::new(socket) })
    }

    /// Over an inherited descriptor.
    ///
    /// # Errors
    /// When there is none of that number.
    pub fn inherited(descriptor: RawFd) -> Result<Self, ProtocolError> {
        Self::new(UnixStream::from(crate::sys::memory::inherited(descriptor)?))
    }

    /// Sends a line.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn send(&mut self, message: &impl Serialize) -> Result<(), ProtocolError> {
        // In pieces: a report has megabytes, and a node that is short of memory has them only once.
        let mut writer = BufWriter::new(&self.writer);
        // A peer that is gone is an error of the socket, and no message that can't be written.
        serde_json::to_writer(&mut writer, message).map_err(io::Error::from)?;
        writer.write_all(b"\n")?;
        Ok(writer.flush()?)
    }

    /// Receives an order.
    ///
    /// # Errors
    /// When the peer is gone or sends something else.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, ProtocolError> {
        read_line(&mut self.reader, LONGEST_ORDER)
    }

    /// Whether the peer has closed it, whatever it said before.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_closed(&self) -> Result<bool, ProtocolError> {
        Ok(self.polled(PollFlags::empty())?.contains(PollFlags::POLLHUP))
    }

    /// Whether the peer has said something that was not received yet, or has closed it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_readable(&self) -> Result<bool, ProtocolError> {
        Ok(self.has_buffered() || !self.polled(PollFlags::POLLIN)?.is_empty())
    }

    fn polled(&self, flags: PollFlags) -> Result<PollFlags, ProtocolError> {
        let mut socket = [PollFd::new(self.as_fd(), flags)];
        while let Err(error) = poll(&mut socket, PollTimeout::ZERO) {
            if error != Errno::EINTR {
                return Err(io::Error::from(error).into());
            }
        }
        Ok(socket[0].revents().unwrap_or(PollFlags::empty()))
    }

    /// Whether bytes were read already that were not received yet, which no wait for the socket sees.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// What comes, for a thread of its own.
    #[must_use]
    pub fn into_reader(self) -> BufReader<UnixStream> {
        self.reader
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }
}

/// The most bytes that a line to a node may have. An order holds one cell, which is some KiB.
const LONGEST_ORDER: usize = 1 << 20;

/// Receives one message in a line of at most `longest` bytes.
///
/// # Errors
/// [`ProtocolError::Closed`] at the end, also in the middle of a line: a node may be killed while it speaks. Else when the
/// line is none.
pub fn read_line<T: DeserializeOwned>(reader: &mut impl BufRead, longest: usize) -> Result<T, ProtocolError> {
    let mut line = Vec::new();
    reader.take((longest as u64).saturating_add(1)).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(serde_json::from_slice(&line)?),
        Some(_) if line.len() >= longest => Err(ProtocolError::Long(longest)),
        _ => Err(ProtocolError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_to_its_end_and_no_further_than_it_may_be_long() {
        let mut lines: &[u8] = b"[1]\n[2,3]\n[4";
        let mut next = |longest| read_line::<Vec<u8>>(&mut lines, longest);
        assert_eq!(next(3).unwrap(), [1]);
        assert_eq!(next(5).unwrap(), [2, 3]);
        assert!(matches!(next(5), Err(ProtocolError::Closed)), "killed in the middle");
        assert!(matches!(next(5), Err(ProtocolError::Closed)));
        let mut endless = BufReader::new(io::repeat(b'['));
        let error = read_line::<Vec<u8>>(&mut endless, 1000).unwrap_err();
        assert_eq!(error.to_string(), "the control socket carried a line of more than 1000 bytes");
        let mut long: &[u8] = b"[2,3]\n";
        assert!(matches!(read_line::<Vec<u8>>(&mut long, 4), Err(ProtocolError::Long(4))));
    }
}

//! One run: starts the nodes, passes their messages on, waits for both reports, and leaves no process behind.

use std::io::{BufRead, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use migbench_reports::record::Round;
use migbench_scenarios::cell::Cell;

use super::interrupt;
use crate::node::fault::Fault;
use crate::node::protocol::{
    Assignment, Control, DestinationReport, Message, Order, ProtocolError, Role, SourceReport,
};
use crate::sys::memory::leave_open;
use crate::wire::address::LinkAddress;

/// What is to run.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// Every parameter.
    pub cell: Cell,
    /// Seed of the guest.
    pub seed: u64,
    /// Seconds to wait before the migration starts.
    pub start_jitter: f64,
    /// Whether memory is hashed before the guest resumes.
    pub verify: bool,
    /// A planted fault, for tests.
    pub fault: Option<Fault>,
    /// `abi::FLAG_*` for the guest, for tests.
    pub guest_flags: u32,
    /// The binary that serves as node.
    pub binary: PathBuf,
}

/// What came of it: the report of each node, or how its process ended without one.
#[derive(Debug)]
pub struct RunOutcome {
    /// The source's half.
    pub source: NodeOutcome<SourceReport>,
    /// The destination's half; none where the engine does not migrate.
    pub destination: Option<NodeOutcome<DestinationReport>>,
    /// Set when the run was given up after that many seconds.
    pub timed_out: Option<u64>,
}

/// One node's half.
#[derive(Debug)]
pub enum NodeOutcome<T> {
    /// It reported.
    Reported(Box<T>),
    /// It died first.
    Died(String),
}

impl<T> NodeOutcome<T> {
    /// The report, if there is one.
    #[must_use]
    pub fn report(&self) -> Option<&T> {
        match self {
            Self::Reported(report) => Some(report),
            Self::Died(_) => None,
        }
    }
}

/// Why there is no outcome at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No process, no memory.
    #[error("cannot start a node: {0}")]
    Start(#[source] std::io::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl From<ProtocolError> for RunError {
    fn from(error: ProtocolError) -> Self {
        Self::Start(std::io::Error::other(error))
    }
}

enum Event {
    Said(Box<Message>),
    Closed(Role),
}

/// A child process. It is killed and reaped when this is dropped.
struct Node {
    child: Child,
    writer: UnixStream,
}

impl Node {
    fn start(
        spec: &RunSpec,
        role: Role,
        telemetry: std::os::fd::RawFd,
        events: &Sender<Event>,
    ) -> Result<Self, RunError> {
        let (ours, theirs) = UnixStream::pair().map_err(RunError::Start)?;
        let number = leave_open(&theirs).map_err(RunError::Start)?;
        let child = Command::new(&spec.binary)
            .args(["node", "--control", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C reaches the runner, which decides.
            .process_group(0)
            .spawn()
            .map_err(RunError::Start)?;
        drop(theirs);
        let mut control = Control::new(ours)?;
        control.send(&Order::Prepare(Box::new(Assignment {
            role,
            cell: spec.cell.clone(),
            seed: spec.seed,
            guest_flags: spec.guest_flags,
            verify: spec.verify,
            start_jitter: spec.start_jitter,
            fault: spec.fault,
            telemetry,
        })))?;
        let (reader, writer) = control.split();
        let events = events.clone();
        std::thread::spawn(move || listen(role, reader, &events));
        Ok(Self { child, writer })
    }

    fn order(&mut self, order: &Order) {
        // A node that is gone is noticed by its closed socket.
        if let Ok(mut line) = serde_json::to_vec(order) {
            line.push(b'\n');
            let _ = self.writer.write_all(&line);
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits a little for it to end by itself, so that its status tells what happened.
    fn reap(&mut self) -> String {
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return describe(status),
                Ok(None) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(2)),
                _ => break,
            }
        }
        self.kill();
        self.child.wait().map_or_else(|e| e.to_string(), describe)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (_, Some(code)) => format!("ended with status {code}"),
        _ => "ended".into(),
    }
}

fn listen(role: Role, reader: impl BufRead, events: &Sender<Event>) {
    for line in reader.lines() {
        let Ok(message) = line.map_err(|_| ()).and_then(|l| serde_json::from_str(&l).map_err(|_| ())) else {
            break;
        };
        if events.send(Event::Said(Box::new(message))).is_err() {
            return;
        }
    }
    let _ = events.send(Event::Closed(role));
}

/// What the wait for both nodes knows.
#[derive(Default)]
struct Progress {
    address: Option<LinkAddress>,
    steady: bool,
    ordered: bool,
    source: Option<Box<SourceReport>>,
    destination: Option<Box<DestinationReport>>,
    source_closed: bool,
    destination_closed: bool,
}

/// Does one run, at most `limit` long; `on_round` hears of each round as it ends.
///
/// # Errors
/// See [`RunError`]; a migration that fails is an outcome.
pub fn run(
    spec: &RunSpec,
    limit: Duration,
    on_round: &mut dyn FnMut(&Round),
) -> Result<RunOutcome, RunError> {
    let memfd = nix::sys::memfd::memfd_create(c"migbench-telemetry", nix::sys::memfd::MFdFlags::empty())
        .map_err(|e| RunError::Start(e.into()))?;
    let telemetry = leave_open(&memfd).map_err(RunError::Start)?;
    let (sender, events) = channel();
    let migrates = spec.cell.engine.migrates();
    let mut destination =
        if migrates { Some(Node::start(spec, Role::Destination, telemetry, &sender)?) } else { None };
    let mut source = Node::start(spec, Role::Source, telemetry, &sender)?;
    drop((memfd, sender));

    let mut progress = Progress { destination_closed: !migrates, ..Progress::default() };
    let timed_out = wait(&events, &mut source, destination.as_mut(), &mut progress, limit, on_round)?;
    let source = outcome(progress.source, &mut source);
    let destination = destination.as_mut().map(|node| outcome(progress.destination, node));
    Ok(RunOutcome { source, destination, timed_out })
}

fn outcome<T>(report: Option<Box<T>>, node: &mut Node) -> NodeOutcome<T> {
    let end = node.reap();
    report.map_or(NodeOutcome::Died(end), NodeOutcome::Reported)
}

/// Until both nodes have closed their sockets. Gives the limit in seconds if it was reached.
fn wait(
    events: &Receiver<Event>,
    source: &mut Node,
    mut destination: Option<&mut Node>,
    progress: &mut Progress,
    limit: Duration,
    on_round: &mut dyn FnMut(&Round),
) -> Result<Option<u64>, RunError> {
    let start = Instant::now();
    while !(progress.source_closed && progress.destination_closed) {
        if interrupt::requested() {
            return Err(RunError::Interrupted);
        }
        if start.elapsed() > limit {
            source.kill();
            if let Some(node) = destination {
                node.kill();
            }
            return Ok(Some(limit.as_secs()));
        }
        match events.recv_timeout(Duration::from_millis(50)) {
            Ok(Event::Said(message)) => match *message {
                Message::Listening { address } => progress.address = Some(address),
                Message::Steady => progress.steady = true,
                Message::Round(round) => on_round(&round),
                Message::Source(report) => progress.source = Some(report),
                Message::Destination(report) => progress.destination = Some(report),
            },
            Ok(Event::Closed(Role::Source)) => progress.source_closed = true,
            Ok(Event::Closed(Role::Destination)) => progress.destination_closed = true,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // Without a destination (it failed, or the engine has none) the source goes on without an address.
        if progress.steady && !progress.ordered && (progress.address.is_some() || progress.destination_closed)
        {
            let address = progress.address.clone().filter(|_| !progress.destination_closed);
            source.order(&Order::Migrate { address });
            progress.ordered = true;
        }
        // A destination that waits for a source that will never connect.
        if progress.source_closed
            && !progress.ordered
            && let Some(node) = destination.as_mut()
        {
            node.kill();
        }
    }
    Ok(None)
}

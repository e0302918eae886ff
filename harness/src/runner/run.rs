//! One run: starts the nodes, passes their messages on, waits for both reports, and leaves no process behind.

use std::fmt;
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
use crate::engine::planted_cost::PlantedCost;
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
    /// A planted cost, for tests.
    pub planted_cost: Option<PlantedCost>,
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

/// What the runner hears of nodes.
#[derive(Debug)]
pub enum Event {
    /// A message.
    Said(Box<Message>),
    /// The node of that role has closed its socket.
    Closed(Role),
}

/// One of the two nodes of a run, as the runner handles it.
pub trait Node {
    /// Passes an order on. A node that is gone is noticed by its closed socket.
    fn order(&mut self, order: &Order);
    /// Ends it.
    fn kill(&mut self);
    /// Waits a little for it to end by itself, so that its status tells what happened.
    fn reap(&mut self) -> String;
}

/// What happens in a run, step by step.
#[derive(Debug, Clone, Copy)]
pub enum Moment<'a> {
    /// A node was started.
    Started(Role),
    /// The destination is ready.
    Listening,
    /// The guest is in steady state.
    Steady,
    /// The source was told to migrate, or to do what a control does instead.
    Ordered,
    /// A round has ended.
    Round(&'a Round),
    /// A node has given its report.
    Reported(Role),
    /// A node has ended.
    Closed(Role),
    /// The run is given up.
    TimedOut,
}

impl fmt::Display for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(role) => write!(f, "start {}", role.word()),
            Self::Listening => f.write_str("listening"),
            Self::Steady => f.write_str("steady"),
            Self::Ordered => f.write_str("migrate"),
            Self::Round(round) => write!(f, "round {}", round.round),
            Self::Reported(role) => write!(f, "report {}", role.word()),
            Self::Closed(role) => write!(f, "closed {}", role.word()),
            Self::TimedOut => f.write_str("timeout"),
        }
    }
}

/// A child process. It is killed and reaped when this is dropped.
struct Process {
    child: Child,
    writer: UnixStream,
}

impl Process {
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
            planted_cost: spec.planted_cost,
            telemetry,
        })))?;
        let (reader, writer) = control.split();
        let events = events.clone();
        std::thread::spawn(move || listen(role, reader, &events));
        Ok(Self { child, writer })
    }
}

impl Node for Process {
    fn order(&mut self, order: &Order) {
        if let Ok(mut line) = serde_json::to_vec(order) {
            line.push(b'\n');
            let _ = self.writer.write_all(&line);
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
    }

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

impl Drop for Process {
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

/// Does one run in child processes, at most `limit` long; `on_round` hears of each round as it ends.
///
/// # Errors
/// See [`RunError`]; a migration that fails is an outcome.
pub fn run(
    spec: &RunSpec,
    limit: Duration,
    on_round: &mut dyn FnMut(&Round),
) -> Result<RunOutcome, RunError> {
    in_processes(spec, limit, &mut |moment| {
        if let Moment::Round(round) = moment {
            on_round(round);
        }
    })
}

/// The same; `hear` is told of every step.
///
/// # Errors
/// See [`RunError`].
pub fn in_processes(
    spec: &RunSpec,
    limit: Duration,
    hear: &mut dyn FnMut(Moment<'_>),
) -> Result<RunOutcome, RunError> {
    let memfd = nix::sys::memfd::memfd_create(c"migbench-telemetry", nix::sys::memfd::MFdFlags::empty())
        .map_err(|e| RunError::Start(e.into()))?;
    let telemetry = leave_open(&memfd).map_err(RunError::Start)?;
    let (sender, events) = channel();
    let mut start = |role| {
        let node = Process::start(spec, role, telemetry, &sender)?;
        hear(Moment::Started(role));
        Ok::<_, RunError>(node)
    };
    let mut destination = if spec.cell.engine.migrates() { Some(start(Role::Destination)?) } else { None };
    let mut source = start(Role::Source)?;
    drop((memfd, sender));
    let destination = destination.as_mut().map(|node| node as &mut dyn Node);
    conduct(&mut source, destination, &events, limit, &interrupt::requested, hear)
}

/// Passes messages on between nodes that were started, until both have ended, and gives what came of it.
///
/// # Errors
/// [`RunError::Interrupted`].
pub fn conduct(
    source: &mut dyn Node,
    mut destination: Option<&mut (dyn Node + '_)>,
    events: &Receiver<Event>,
    limit: Duration,
    interrupted: &dyn Fn() -> bool,
    hear: &mut dyn FnMut(Moment<'_>),
) -> Result<RunOutcome, RunError> {
    let mut progress = Progress { destination_closed: destination.is_none(), ..Progress::default() };
    let start = Instant::now();
    let mut timed_out = None;
    while !(progress.source_closed && progress.destination_closed) {
        if interrupted() {
            return Err(RunError::Interrupted);
        }
        if start.elapsed() > limit {
            source.kill();
            if let Some(node) = &mut destination {
                node.kill();
            }
            hear(Moment::TimedOut);
            timed_out = Some(limit.as_secs());
            break;
        }
        match events.recv_timeout(Duration::from_millis(50)) {
            Ok(event) => progress.note(event, hear),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // Without a destination (it failed, or the engine has none) the source goes on without an address.
        if progress.steady && !progress.ordered && (progress.address.is_some() || progress.destination_closed)
        {
            let address = progress.address.clone().filter(|_| !progress.destination_closed);
            source.order(&Order::Migrate { address });
            progress.ordered = true;
            hear(Moment::Ordered);
        }
        // A destination that waits for a source that will never connect.
        if progress.source_closed
            && !progress.ordered
            && let Some(node) = &mut destination
        {
            node.kill();
        }
    }
    Ok(RunOutcome {
        source: outcome(progress.source, source),
        destination: destination.map(|node| outcome(progress.destination, node)),
        timed_out,
    })
}

impl Progress {
    fn note(&mut self, event: Event, hear: &mut dyn FnMut(Moment<'_>)) {
        match event {
            Event::Said(message) => match *message {
                Message::Listening { address } => {
                    self.address = Some(address);
                    hear(Moment::Listening);
                }
                Message::Steady => {
                    self.steady = true;
                    hear(Moment::Steady);
                }
                Message::Round(round) => hear(Moment::Round(&round)),
                Message::Source(report) => {
                    self.source = Some(report);
                    hear(Moment::Reported(Role::Source));
                }
                Message::Destination(report) => {
                    self.destination = Some(report);
                    hear(Moment::Reported(Role::Destination));
                }
            },
            Event::Closed(role) => {
                match role {
                    Role::Source => self.source_closed = true,
                    Role::Destination => self.destination_closed = true,
                }
                hear(Moment::Closed(role));
            }
        }
    }
}

fn outcome<T>(report: Option<Box<T>>, node: &mut dyn Node) -> NodeOutcome<T> {
    let end = node.reap();
    report.map_or(NodeOutcome::Died(end), NodeOutcome::Reported)
}

//! One run: starts the nodes, passes their messages on, waits for both reports, and leaves no process behind.

use std::fmt;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering::Acquire;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use migbench_reports::record::Round;
use migbench_scenarios::cell::{Cell, Transport};
use migbench_workloads::abi;

use super::interrupt;
use super::scratch::Scratch;
use crate::engine::planted_cost::PlantedCost;
use crate::guest::sampler;
use crate::node::fault::InjectedFault;
use crate::node::hello::Token;
use crate::node::printable;
use crate::node::protocol::{
    ControlSocket, DestinationReport, Message, NodeAssignment, Order, ProtocolError, Role, SourceReport,
    read_line,
};
use crate::sys::clock::{self, Patience};
use crate::sys::memory::{Telemetry, leave_open};
use crate::track::TrackOptions;
use crate::vm::events;
use crate::wire::address::LinkAddress;
use crate::wire::netns::{Namespaces, NetnsError};

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
    pub fault: Option<InjectedFault>,
    /// A planted cost, for tests.
    pub planted_cost: Option<PlantedCost>,
    /// `abi::FLAG_*` for the guest, for tests.
    pub guest_flags: u32,
    /// Passes to make instead of a migration, in this process.
    pub passes: Option<TrackOptions>,
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
    /// How far it had come, for a run of which no node can say so: as [`Failure::phase`](crate::node::protocol::Failure::phase).
    /// In `boot` the guest never ran.
    pub reached: &'static str,
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
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum RunnerError {
    #[error("cannot start a node: {0}")]
    Start(#[source] std::io::Error),
    #[error("cannot make the network namespaces of the link: {0}")]
    Network(#[from] NetnsError),
    #[error("interrupted")]
    Interrupted,
}

impl From<ProtocolError> for RunnerError {
    fn from(error: ProtocolError) -> Self {
        Self::Start(std::io::Error::other(error))
    }
}

/// What the runner hears of nodes.
#[derive(Debug)]
pub enum NodeEvent {
    /// A message.
    Said(Box<Message>),
    /// The node of that role has closed its socket.
    Closed(Role),
    /// The node of that role has sent what is no message, for that reason. Nothing more is read from it.
    Garbled(Role, String),
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
    /// The source was ordered to migrate, or to do what a control does instead.
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
        binary: &Path,
        assignment: NodeAssignment,
        longest: usize,
        events: &SyncSender<NodeEvent>,
    ) -> Result<Self, RunnerError> {
        let role = assignment.role;
        let (ours, theirs) = UnixStream::pair().map_err(RunnerError::Start)?;
        let number = leave_open(&theirs).map_err(RunnerError::Start)?;
        let writer = ours.try_clone().map_err(RunnerError::Start)?;
        let child = Command::new(binary)
            .args(["node", "--control", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C reaches the runner, which decides.
            .process_group(0)
            .spawn()
            .map_err(RunnerError::Start)?;
        // From here on an error ends the child too.
        let process = Self { child, writer };
        drop(theirs);
        let mut control = ControlSocket::new(ours)?;
        control.send(&Order::Prepare(Box::new(assignment)))?;
        let reader = control.into_reader();
        let events = events.clone();
        let listener = std::thread::Builder::new().name(role.word().to_owned());
        listener.spawn(move || listen(role, reader, longest, &events)).map_err(RunnerError::Start)?;
        Ok(process)
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
        let _ = clock::found_within(Duration::from_secs(5), Duration::from_millis(2), || {
            self.child.try_wait().map(|status| status.is_some())
        });
        // One that has ended is reaped already, and keeps its status.
        match self.child.try_wait() {
            Ok(Some(status)) => describe(status),
            _ => {
                self.kill();
                let _ = self.child.wait();
                "did not end by itself".to_owned()
            }
        }
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

/// Passes on what a node says, in lines of at most `longest` bytes.
fn listen(role: Role, mut reader: impl BufRead, longest: usize, events: &SyncSender<NodeEvent>) {
    loop {
        let event = match read_line(&mut reader, longest) {
            Ok(message) => NodeEvent::Said(Box::new(message)),
            Err(ProtocolError::Closed | ProtocolError::Socket(_)) => NodeEvent::Closed(role),
            Err(error) => NodeEvent::Garbled(role, printable(error.to_string().as_bytes())),
        };
        let last = !matches!(event, NodeEvent::Said(_));
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// The most bytes that a message of a node may have in a run of `cell` that is given up after `limit`. The source's report
/// is the longest: what it holds by number, each with the most bytes that it has in JSON.
fn longest_message(cell: &Cell, limit: Duration) -> usize {
    /// `[time,operations],` of two numbers of at most 20 digits.
    const SAMPLE: u64 = 44;
    /// Some numbers with their names.
    const STALL: u64 = 160;
    /// Some twenty numbers with their names.
    const ROUND: u64 = 2048;
    /// A count takes at most 9 bytes before it is compressed, and base64 makes 4 characters of 3 bytes.
    const HISTOGRAM: u64 = abi::HISTOGRAM_COUNTS as u64 * 9 * 4 / 3;
    /// Everything else, of which the words of errors are the most.
    const REST: u64 = 1 << 20;
    let times = |each: Duration| u64::try_from(limit.as_nanos() / each.as_nanos()).unwrap_or(u64::MAX);
    let samples = times(Duration::from_nanos(sampler::INTERVAL));
    // Whatever the cap, a round takes a harvest.
    let rounds = u64::from(cell.stop.max_rounds).saturating_add(2).min(times(Duration::from_micros(10)));
    let harvests = times(Duration::from_millis(100));
    let stalls = u64::from(cell.vcpus) * abi::STALL_RING as u64;
    let histograms = (abi::PHASES * abi::OPERATIONS * abi::CLOCKS) as u64;
    let parts = [
        (samples, SAMPLE),
        (stalls.saturating_add(events::ROOM as u64), STALL),
        (rounds.saturating_add(harvests), ROUND),
        (histograms, HISTOGRAM),
        (1, REST),
    ];
    let bytes =
        parts.iter().fold(0_u64, |sum, (count, each)| sum.saturating_add(count.saturating_mul(*each)));
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What the wait for both nodes knows.
#[derive(Default)]
struct NodesProgress {
    address: Option<LinkAddress>,
    steady: bool,
    ordered: bool,
    rounds: bool,
    source: Option<Box<SourceReport>>,
    destination: Option<Box<DestinationReport>>,
    source_closed: bool,
    destination_closed: bool,
    /// Why nothing more is read from a node that has not closed its socket.
    source_garbled: Option<String>,
    destination_garbled: Option<String>,
    /// Whether the destination knows that the source will not come.
    called_off: bool,
}

/// Does one run in child processes, at most `limit` long; `on_round` hears of each round as it ends.
///
/// # Errors
/// See [`RunnerError`]; a migration that fails is an outcome.
pub fn run(
    spec: &RunSpec,
    limit: Duration,
    on_round: &mut dyn FnMut(&Round),
) -> Result<RunOutcome, RunnerError> {
    in_processes(spec, limit, &mut |moment| {
        if let Moment::Round(round) = moment {
            on_round(round);
        }
    })
}

/// The same; `hear` is called with every step.
///
/// # Errors
/// See [`RunnerError`].
pub fn in_processes(
    spec: &RunSpec,
    limit: Duration,
    hear: &mut dyn FnMut(Moment<'_>),
) -> Result<RunOutcome, RunnerError> {
    let memfd = nix::sys::memfd::memfd_create(c"migbench-telemetry", nix::sys::memfd::MFdFlags::empty())
        .map_err(|e| RunnerError::Start(e.into()))?;
    let telemetry = leave_open(&memfd).map_err(RunnerError::Start)?;
    let namespaces = match spec.cell.link.transport {
        Transport::Netns if spec.cell.engine.migrates() => Some(Namespaces::new(&spec.cell.link)?),
        Transport::Netns | Transport::Unix | Transport::Tcp => None,
    };
    let token = Token::random().map_err(RunnerError::Start)?;
    // Whatever becomes of the nodes, nothing of it is left behind.
    let scratch = spec.cell.engine.is_peer().then(Scratch::new).transpose().map_err(RunnerError::Start)?;
    let longest = longest_message(&spec.cell, limit);
    // A node that says more than is listened to waits.
    let (sender, said) = sync_channel(1024);
    let mut start = |role| {
        let network = namespaces.as_ref().map(|namespaces| match role {
            Role::Source => leave_open(&namespaces.source),
            Role::Destination => leave_open(&namespaces.destination),
        });
        let assignment = NodeAssignment {
            role,
            cell: spec.cell.clone(),
            seed: spec.seed,
            guest_flags: spec.guest_flags,
            verify: spec.verify,
            start_jitter: spec.start_jitter,
            fault: spec.fault,
            planted_cost: spec.planted_cost,
            telemetry,
            network: network.transpose().map_err(RunnerError::Start)?,
            token: token.clone(),
            scratch: scratch.as_ref().map(|directory| directory.path().to_owned()),
        };
        let node = Process::start(&spec.binary, assignment, longest, &sender)?;
        hear(Moment::Started(role));
        Ok::<_, RunnerError>(node)
    };
    let mut destination = if spec.cell.engine.migrates() { Some(start(Role::Destination)?) } else { None };
    let mut source = start(Role::Source)?;
    // From here on the nodes alone keep the namespaces.
    drop((namespaces, sender));
    let nodes = destination.as_mut().map(|node| node as &mut dyn Node);
    let mut outcome = conduct(&mut source, nodes, &said, limit, &interrupt::requested, hear)?;
    if outcome.source.report().is_none() || matches!(outcome.destination, Some(NodeOutcome::Died(_))) {
        outcome.reached = reached(&memfd, &spec.cell).unwrap_or(outcome.reached);
    }
    Ok(outcome)
}

/// How far a run of `cell` had come, by what is left of the guest's telemetry; none where that does not say more than the nodes'
/// messages.
fn reached(telemetry: &impl AsFd, cell: &Cell) -> Option<&'static str> {
    let telemetry = Telemetry::map(telemetry, cell.vcpus as usize, cell.timing).ok()?;
    let states = (0..telemetry.vcpus()).map(|n| telemetry.vcpu(n).state.load(Acquire));
    let (first, last) = (states.clone().min()?, states.max()?);
    match telemetry.control().phase.load(Acquire) {
        _ if first < abi::STATE_RUNNING => Some("boot"),
        _ if last > abi::STATE_RUNNING => Some("validate"),
        abi::PHASE_WARMUP | abi::PHASE_STEADY => Some("warmup"),
        abi::PHASE_CATCHUP | abi::PHASE_AFTER => Some("after"),
        _ => None,
    }
}

/// Passes messages on between nodes that were started, until both have ended, and gives what came of it.
///
/// # Errors
/// [`RunnerError::Interrupted`].
pub fn conduct(
    source: &mut dyn Node,
    mut destination: Option<&mut (dyn Node + '_)>,
    events: &Receiver<NodeEvent>,
    limit: Duration,
    interrupted: &dyn Fn() -> bool,
    hear: &mut dyn FnMut(Moment<'_>),
) -> Result<RunOutcome, RunnerError> {
    let mut progress =
        NodesProgress { destination_closed: destination.is_none(), ..NodesProgress::default() };
    let mut patience = Patience::new(limit);
    let mut timed_out = None;
    while !(progress.source_closed && progress.destination_closed) {
        if interrupted() {
            return Err(RunnerError::Interrupted);
        }
        match events.recv_timeout(Duration::from_millis(50)) {
            Ok(event) => {
                match (&event, &mut destination) {
                    (NodeEvent::Garbled(Role::Source, _), _) => source.kill(),
                    (NodeEvent::Garbled(Role::Destination, _), Some(node)) => node.kill(),
                    _ => {}
                }
                progress.note(event, hear);
            }
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
        // A destination may wait for a source that will never connect. One that does not listens no more.
        if progress.source_closed
            && !progress.handed_over()
            && !progress.called_off
            && let Some(node) = &mut destination
        {
            node.order(&Order::SourceEnded);
            progress.called_off = true;
        }
        // What nodes have said by now was heard before the clock is looked at; a node that never stops talking ends too.
        if patience.is_over() && !(progress.source_closed && progress.destination_closed) {
            source.kill();
            if let Some(node) = &mut destination {
                node.kill();
            }
            hear(Moment::TimedOut);
            timed_out = Some(limit.as_secs());
            break;
        }
    }
    let reached = progress.reached();
    // A signal of the runner's own is nobody else's doing.
    let ended = timed_out.filter(|_| !progress.source_closed).map(|_| ENDED);
    let source = outcome(progress.source, progress.source_garbled, ended, source);
    let ended = timed_out.filter(|_| !progress.destination_closed).map(|_| ENDED);
    let destination =
        destination.map(|node| outcome(progress.destination, progress.destination_garbled, ended, node));
    Ok(RunOutcome { source, destination, timed_out, reached })
}

impl NodesProgress {
    /// The last phase that has begun for certain.
    const fn reached(&self) -> &'static str {
        match self {
            Self { rounds: true, .. } => "precopy",
            // A control does not connect.
            Self { ordered: true, address: None, .. } => "precopy",
            Self { ordered: true, .. } => "connect",
            _ => "warmup",
        }
    }

    fn handed_over(&self) -> bool {
        self.source.as_ref().is_some_and(|report| report.handed_over)
    }

    fn note(&mut self, event: NodeEvent, hear: &mut dyn FnMut(Moment<'_>)) {
        match event {
            NodeEvent::Said(message) => match *message {
                Message::Listening { address } => {
                    self.address = Some(address);
                    hear(Moment::Listening);
                }
                Message::Steady => {
                    self.steady = true;
                    hear(Moment::Steady);
                }
                Message::Round(round) => {
                    self.rounds = true;
                    hear(Moment::Round(&round));
                }
                Message::Source(report) => {
                    self.source = Some(report);
                    hear(Moment::Reported(Role::Source));
                }
                Message::Destination(report) => {
                    self.destination = Some(report);
                    hear(Moment::Reported(Role::Destination));
                }
            },
            NodeEvent::Closed(role) => self.close(role, hear),
            NodeEvent::Garbled(role, why) => {
                match role {
                    Role::Source => self.source_garbled = Some(why),
                    Role::Destination => self.destination_garbled = Some(why),
                }
                self.close(role, hear);
            }
        }
    }

    fn close(&mut self, role: Role, hear: &mut dyn FnMut(Moment<'_>)) {
        match role {
            Role::Source => self.source_closed = true,
            Role::Destination => self.destination_closed = true,
        }
        hear(Moment::Closed(role));
    }
}

/// What became of a node that the runner ended.
const ENDED: &str = "was ended by the runner";

fn outcome<T>(
    report: Option<Box<T>>,
    garbled: Option<String>,
    ended: Option<&str>,
    node: &mut dyn Node,
) -> NodeOutcome<T> {
    let end = node.reap();
    let end = ended.map_or(end, str::to_owned);
    let died = || NodeOutcome::Died(garbled.map_or(end, |why| format!("sent what is no message: {why}")));
    report.map_or_else(died, NodeOutcome::Reported)
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;

//! A testbed without a host and without guests: the runner works on figures that a small model makes up.
//!
//! Nodes are actors in this process that say what real ones say, so that everything around them is the code of real runs:
//! order, resume, failures, records, files, exit status. Figures follow from the plan's seed, the cell and the seed of the
//! simulation alone: whoever makes a run, and after which other ones, it is the same. They are plausible and consistent, and
//! say nothing about migration: every record names this backend, and reports refuse it unless they are asked for it.

mod course;
mod draw;
mod guest;
mod halves;
pub mod replay;
pub mod spec;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime};

use migbench_reports::manifest::Host;
use migbench_reports::record::{Backend, CanarySamples, Record};
use migbench_scenarios::cell::Cell;

use self::draw::Draws;
use self::halves::Halves;
use self::replay::Replay;
use self::spec::Mishap;
pub use self::spec::Simulation;
use super::admission::Refusal;
use super::interrupt;
use super::record::{self, RunIdentity};
use super::run::{Moment, Node, NodeEvent, RunSpec, RunnerError, conduct};
use super::suite;
use super::testbed::Testbed;
use crate::dirty::Unavailable;
use crate::host::disturbance::{self, Activity, Throttling};
use crate::host::lock::{HostLock, LockError};
use crate::node::protocol::{Message, Order, Role};
use crate::track::TrackError;
use crate::wire::address::LinkAddress;

/// 2026-01-01T00:00:00Z: dates of simulated runs are made up too, a minute for each run.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// What the runner waits for a simulated node that hangs.
const PATIENCE: Duration = Duration::from_secs(1);
/// A root directory that holds no files: what is asked of the host below it, nobody can tell.
const NO_HOST: &str = "/dev/null";

/// The testbed.
#[derive(Debug)]
pub struct SimulatedTestbed {
    simulation: Simulation,
    replay: Option<Replay>,
    uptime: Duration,
    block: u32,
    made: usize,
    throttling: Throttling,
    patience: Duration,
}

impl SimulatedTestbed {
    /// One that is like that.
    #[must_use]
    pub fn new(simulation: Simulation) -> Self {
        Self {
            simulation,
            replay: None,
            uptime: Duration::ZERO,
            block: 0,
            made: 0,
            throttling: Throttling::default(),
            patience: Duration::ZERO,
        }
    }

    /// The same, which plays recorded migrations where it has some of a cell.
    #[must_use]
    pub fn playing(self, replay: Option<Replay>) -> Self {
        Self { replay, ..self }
    }

    /// The same, waiting for so long for a lock that is named.
    #[must_use]
    pub fn waiting(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How much slower the host is in this block than in the first one.
    fn slower(&self) -> f64 {
        let drifted = 1.0 + self.simulation.drift * f64::from(self.block);
        if self.simulation.slow_block == Some(self.block) { 2.0 * drifted } else { drifted }
    }
}

impl Testbed for SimulatedTestbed {
    fn backend(&self) -> Backend {
        Backend::Simulated
    }

    /// A simulation disturbs nobody and is disturbed by nobody, so that it leaves the host's own lock alone. Where tests
    /// name another file, it takes that one.
    fn lock(&self) -> Result<Option<HostLock>, LockError> {
        HostLock::wait(self.patience, interrupt::requested, || HostLock::named().transpose())
    }

    fn admit(&self, cell: &Cell) -> Result<(), Refusal> {
        if cell.engine.migrates() && self.replay.as_ref().is_some_and(|replay| replay.find(cell, 0).is_none())
        {
            return Err(Refusal::Link(
                "no recorded migration differs from this cell in its stop rule alone: record one, or leave the cell out with --filter"
                    .to_owned(),
            ));
        }
        if self.simulation.without.contains(&cell.tracker) {
            return Err(Unavailable {
                tracker: cell.tracker,
                missing: "this simulation is without it".into(),
                remedy: "simulate another host",
            }
            .into());
        }
        Ok(())
    }

    fn host(&self) -> Host {
        let simulation = &self.simulation;
        Host {
            hostname: Some(simulation.host.clone()),
            cpu_model: Some(simulation.cpu.clone()),
            physical_cores: Some(simulation.cores),
            logical_cores: Some(simulation.cores),
            memory: Some(64 << 30),
            memory_free: Some(60 << 30),
            kernel: Some("simulated".to_owned()),
            load_average: Some([simulation.load; 3]),
            ..Host::default()
        }
    }

    fn disturbances(&self, host: &Host) -> Vec<String> {
        let Simulation { steal, load, cores, .. } = self.simulation;
        let busiest = Some("another program (1)".to_owned());
        let activity = Activity { stolen: Some(steal), others: Some(load / f64::from(cores)), busiest };
        disturbance::disturbances(Path::new(NO_HOST), host, &activity)
    }

    fn canary(&mut self, block: u32) -> Option<CanarySamples> {
        self.block = block;
        let mut draws = Draws::of_block(&self.simulation, block);
        // A canary is steadier than a migration.
        let mut factor = || draws.factor(self.simulation.noise / 4.0);
        let mut passes = |usual: f64| {
            let usual = usual * factor() / self.slower();
            (0..9).map(|_| usual * factor()).collect()
        };
        Some(CanarySamples { copy: passes(8e9), socket: passes(3e9) })
    }

    fn throttling(&self) -> Throttling {
        self.throttling
    }

    fn uptime(&self) -> Duration {
        self.uptime
    }

    fn date(&self, number: usize) -> SystemTime {
        let minutes = u64::try_from(number).unwrap_or_default();
        SystemTime::UNIX_EPOCH + EPOCH + Duration::from_secs(60 * minutes)
    }

    fn run(
        &mut self,
        number: usize,
        place: RunIdentity,
        spec: &RunSpec,
        hear: &mut dyn FnMut(Moment<'_>),
    ) -> Result<Record, RunnerError> {
        let interrupted = self.simulation.interrupt.is_some_and(|after| self.made >= after);
        self.made += 1;
        if let Some(options) = spec.passes {
            if interrupted {
                return Err(RunnerError::Interrupted);
            }
            let made = course::passes(&self.simulation, spec, self.slower(), options);
            self.uptime += made.lasted();
            let fails = self.simulation.meets(number, Mishap::Fail);
            let made = if fails { Err(TrackError::Late(3, 120)) } else { Ok(made) };
            return Ok(record::of_passes(place, spec, made, options.lock_step));
        }
        let halves = Halves::of(&self.simulation, self.replay.as_ref(), number, spec, self.slower());
        self.uptime += halves.lasted;
        if self.simulation.meets(number, Mishap::Throttle) {
            self.throttling.heat += 1;
        }
        let hangs = self.simulation.meets(number, Mishap::Hang);
        let limit = if hangs { PATIENCE } else { suite::limit(&spec.cell) };
        let (sender, events) = channel();
        let mut destination = spec.cell.engine.migrates().then(|| {
            hear(Moment::Started(Role::Destination));
            let address = LinkAddress::Unix { name: "simulated".to_owned() };
            Actor::start(&sender, Message::Listening { address }, VecDeque::new(), None)
        });
        hear(Moment::Started(Role::Source));
        let script = if hangs { VecDeque::new() } else { halves.script };
        let mut source = Actor::start(&sender, Message::Steady, script, halves.died);
        let destination = destination.as_mut().map(|actor| actor as &mut dyn Node);
        let outcome = conduct(&mut source, destination, &events, limit, &|| interrupted, hear)?;
        Ok(record::of(place, spec, &outcome))
    }
}

/// Plays a node. The source's script holds what both say after the order to migrate.
struct Actor {
    events: Sender<NodeEvent>,
    script: VecDeque<NodeEvent>,
    died: Option<String>,
}

impl Actor {
    fn start(
        events: &Sender<NodeEvent>,
        first: Message,
        script: VecDeque<NodeEvent>,
        died: Option<String>,
    ) -> Self {
        // The runner holds the other end until it lets go of the actors.
        let _ = events.send(NodeEvent::Said(Box::new(first)));
        Self { events: events.clone(), script, died }
    }
}

impl Node for Actor {
    fn order(&mut self, order: &Order) {
        if matches!(order, Order::Migrate { .. }) {
            for event in self.script.drain(..) {
                let _ = self.events.send(event);
            }
        }
    }

    fn kill(&mut self) {
        self.died.get_or_insert_with(|| "was killed by signal 9".to_owned());
    }

    fn reap(&mut self) -> String {
        self.died.clone().unwrap_or_else(|| "ended with status 0".to_owned())
    }
}

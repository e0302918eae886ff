//! What a simulation is to be like, as a text: `noise=0.03,new.encode=1.1,fail=4+9`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use migbench_scenarios::cell::{Cell, Engine, Side, Tracker};

/// All that can be set, for `--help` of nobody and for errors.
const GRAMMAR: &str = "noise=CV, block-noise=CV, seed=N, [SIDE.][ENGINE.]STAGE=FACTOR, fail=RUNS, die=RUNS, hang=RUNS, \
                       differ=RUNS, cap=RUNS, throttle=RUNS, fail-rate=P, cap-rate=P, drift=SHARE, slow-block=N, steal=SHARE, \
                       load=N, interrupt=N, replay=DIR, host=NAME, cpu-name=NAME, cores=N, without=TRACKER; RUNS are numbers joined by +, SIDE is base \
                       or new";

/// What of a run a factor applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorTarget {
    /// Turning the tracker on.
    Arm,
    /// Reading the tracker.
    Harvest,
    /// Policy and codec at the source. Where the link's rate is the limit it is hidden, as in a real run.
    Encode,
    /// Codec at the destination.
    Decode,
    /// The link: how long a byte takes.
    Send,
    /// Stopping the vCPUs.
    Pause,
    /// Carrying the CPU state.
    State,
    /// Starting the guest at the destination.
    Resume,
    /// Pages that the guest dirties.
    Dirty,
    /// All times from the start to the end of the migration, after everything else: these and nothing more.
    TotalTime,
    /// All parts of the downtime, after everything else.
    Downtime,
    /// Bytes of each page, after everything else.
    Traffic,
    /// CPU time of both processes.
    Cpu,
    /// Memory of both processes.
    Memory,
    /// Service times of the guest.
    Latency,
    /// Operations of the guest during pre-copy.
    Throughput,
}

impl FactorTarget {
    const ALL: &'static [(&'static str, Self)] = &[
        ("arm", Self::Arm),
        ("harvest", Self::Harvest),
        ("encode", Self::Encode),
        ("decode", Self::Decode),
        ("send", Self::Send),
        ("pause", Self::Pause),
        ("state", Self::State),
        ("resume", Self::Resume),
        ("dirty", Self::Dirty),
        ("total_time", Self::TotalTime),
        ("downtime", Self::Downtime),
        ("traffic", Self::Traffic),
        ("cpu", Self::Cpu),
        ("memory", Self::Memory),
        ("latency", Self::Latency),
        ("throughput", Self::Throughput),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Factor {
    side: Option<Side>,
    engine: Option<Engine>,
    stage: FactorTarget,
    by: f64,
}

/// What is to go wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The migration fails in pre-copy; the guest goes on at the source.
    Fail,
    /// The source process dies.
    Die,
    /// Nobody says anything until the runner gives up.
    Hang,
    /// A verification finds other memory; in a timed run nobody looks.
    Differ,
    /// It does not converge.
    Cap,
    /// The host slows down for its temperature.
    Throttle,
}

impl Mishap {
    const ALL: &'static [(&'static str, Self)] = &[
        ("fail", Self::Fail),
        ("die", Self::Die),
        ("hang", Self::Hang),
        ("differ", Self::Differ),
        ("cap", Self::Cap),
        ("throttle", Self::Throttle),
    ];
}

/// A simulation. Its default is a quiet host on which all goes well.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Coefficient of variation of every time, and of the pages of the rounds after the first, from run to run.
    pub noise: f64,
    /// The same of what all runs of a comparison share in one block.
    pub block_noise: f64,
    /// Other seeds give other noise for the same plan.
    pub seed: u64,
    /// Probability that a run fails in pre-copy.
    pub fail_rate: f64,
    /// Probability that a run does not converge.
    pub cap_rate: f64,
    /// Share by which the host gets slower from block to block.
    pub drift: f64,
    /// The block in which the host has half of its speed.
    pub slow_block: Option<u32>,
    /// Share of CPU time that is stolen.
    pub steal: f64,
    /// CPUs that other processes keep busy.
    pub load: f64,
    /// Runs after which the runner is interrupted.
    pub interrupt: Option<usize>,
    /// A run directory whose migrations are played again.
    pub replay: Option<PathBuf>,
    /// Name of the host.
    pub host: String,
    /// Its CPU.
    pub cpu: String,
    /// How many of them.
    pub cores: u32,
    /// Trackers that it has not.
    pub without: Vec<Tracker>,
    factors: Vec<Factor>,
    mishaps: Vec<(Mishap, BTreeSet<usize>)>,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            noise: 0.02,
            block_noise: 0.0,
            seed: 0,
            fail_rate: 0.0,
            cap_rate: 0.0,
            drift: 0.0,
            slow_block: None,
            steal: 0.0,
            load: 0.0,
            interrupt: None,
            replay: None,
            host: "simulated".to_owned(),
            cpu: "simulated CPU".to_owned(),
            cores: 4,
            without: Vec::new(),
            factors: Vec::new(),
            mishaps: Vec::new(),
        }
    }
}

impl Simulation {
    /// The product of all factors on a stage of `cell`.
    #[must_use]
    pub fn factor(&self, cell: &Cell, stage: FactorTarget) -> f64 {
        let applies = |factor: &&Factor| {
            factor.stage == stage
                && factor.side.is_none_or(|side| cell.side == Some(side))
                && factor.engine.is_none_or(|engine| cell.engine == engine)
        };
        self.factors.iter().filter(applies).map(|factor| factor.by).product()
    }

    /// Whether run `number` is to meet that mishap.
    #[must_use]
    pub fn meets(&self, number: usize, mishap: Mishap) -> bool {
        self.mishaps.iter().any(|(what, runs)| *what == mishap && runs.contains(&number))
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "noise" => self.noise = within(value, 0.0, 1.0)?,
            "block-noise" => self.block_noise = within(value, 0.0, 1.0)?,
            "seed" => self.seed = value.parse().ok()?,
            "fail-rate" => self.fail_rate = within(value, 0.0, 1.0)?,
            "cap-rate" => self.cap_rate = within(value, 0.0, 1.0)?,
            "drift" => self.drift = within(value, -0.5, 10.0)?,
            "slow-block" => self.slow_block = Some(value.parse().ok()?),
            "steal" => self.steal = within(value, 0.0, 1.0)?,
            "load" => self.load = within(value, 0.0, 1e6)?,
            "interrupt" => self.interrupt = Some(value.parse().ok()?),
            "replay" => self.replay = Some(value.into()),
            "host" => self.host = value.to_owned(),
            "cpu-name" => self.cpu = value.to_owned(),
            "cores" => self.cores = value.parse().ok()?,
            "without" => self.without.push(word(Tracker::ALL, value)?),
            _ => match word(Mishap::ALL, key) {
                Some(mishap) => self.mishaps.push((mishap, runs(value)?)),
                None => self.factors.push(factor(key, value)?),
            },
        }
        Some(())
    }
}

fn word<T: Copy>(all: &[(&str, T)], wanted: &str) -> Option<T> {
    all.iter().find(|(word, _)| *word == wanted).map(|(_, value)| *value)
}

fn within(text: &str, least: f64, most: f64) -> Option<f64> {
    text.parse().ok().filter(|value| (least..=most).contains(value))
}

fn runs(text: &str) -> Option<BTreeSet<usize>> {
    text.split('+').map(|number| number.parse().ok()).collect()
}

fn factor(key: &str, value: &str) -> Option<Factor> {
    let mut words: Vec<&str> = key.split('.').collect();
    let stage = word(FactorTarget::ALL, words.pop()?)?;
    let mut factor = Factor { side: None, engine: None, stage, by: within(value, 1e-3, 1e3)? };
    for selector in words {
        match (word(Side::ALL, selector), word(Engine::ALL, selector)) {
            (Some(side), _) => factor.side = Some(side),
            (None, Some(engine)) => factor.engine = Some(engine),
            (None, None) => return None,
        }
    }
    Some(factor)
}

/// A text that describes no simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSimulation {
    part: String,
}

impl fmt::Display for NoSimulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` sets nothing of a simulation; there are {GRAMMAR}", self.part)
    }
}

impl std::error::Error for NoSimulation {}

impl FromStr for Simulation {
    type Err = NoSimulation;

    fn from_str(text: &str) -> Result<Self, NoSimulation> {
        let mut simulation = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let set = part.split_once('=').and_then(|(key, value)| simulation.set(key, value));
            set.ok_or_else(|| NoSimulation { part: part.to_owned() })?;
        }
        Ok(simulation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(engine: Engine, side: Option<Side>) -> Cell {
        let plan = migbench_scenarios::Suite::find("quick").unwrap().expand().unwrap();
        Cell { engine, side, ..plan.comparisons[0].cells[0].cell.clone() }
    }

    #[test]
    fn factors_are_of_a_side_an_engine_or_all() {
        let simulation: Simulation = "encode=2, new.encode=1.5,new.delta.encode=1.1,send=3".parse().unwrap();
        let of = |engine, side| simulation.factor(&cell(engine, side), FactorTarget::Encode);
        assert_eq!(of(Engine::Delta, None), 2.0);
        assert_eq!(of(Engine::Full, Some(Side::Base)), 2.0);
        assert_eq!(of(Engine::Full, Some(Side::New)), 3.0);
        assert!((of(Engine::Delta, Some(Side::New)) - 3.3).abs() < 1e-12);
        assert_eq!(simulation.factor(&cell(Engine::Full, None), FactorTarget::Decode), 1.0);
    }

    #[test]
    fn mishaps_are_of_runs() {
        let simulation: Simulation = "fail=3+7,cap=4".parse().unwrap();
        let of = |mishap| (0..9).filter(|&number| simulation.meets(number, mishap)).collect::<Vec<_>>();
        assert_eq!((of(Mishap::Fail), of(Mishap::Cap), of(Mishap::Die)), (vec![3, 7], vec![4], vec![]));
    }

    #[test]
    fn what_means_nothing_is_named() {
        for part in ["speed=2", "noise", "noise=-1", "fail=x", "old.encode=2", "encode=0", "without=nothing"]
        {
            let error = format!("seed=1,{part}").parse::<Simulation>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{part}` sets nothing")), "{error}");
        }
        assert_eq!("".parse(), Ok(Simulation::default()));
    }
}

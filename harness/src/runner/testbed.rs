//! Where runs happen: everything of a run that is not the runner's own doing. [`KvmTestbed`] is this host with its guests; the
//! simulated one has neither, so that order, failure, resume and output can be tested in no time.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use migbench_reports::manifest::Host;
use migbench_reports::record::{Backend, CanarySamples, Record};
use migbench_scenarios::cell::Cell;

use super::admission::{Refusal, admit};
use super::interrupt;
use super::record::{self, RunIdentity};
use super::run::{Moment, RunSpec, RunnerError, in_processes};
use super::suite;
use crate::host::canary::Canary;
use crate::host::disturbance::{self, Activity, Throttling};
use crate::host::lock::{HostLock, LockError};
use crate::host::provenance::this_host;
use crate::track::measure;

/// What the runner asks of the place where runs happen, in the order in which it asks.
pub trait Testbed {
    /// What it is, for the records.
    fn backend(&self) -> Backend;

    /// Keeps all others from measuring here until what is given is dropped; `None` where nobody could disturb.
    ///
    /// # Errors
    /// See [`LockError`].
    fn lock(&self) -> Result<Option<HostLock>, LockError>;

    /// Whether a cell can run here.
    ///
    /// # Errors
    /// See [`Refusal`].
    fn admit(&self, cell: &Cell) -> Result<(), Refusal>;

    /// What machine it is.
    fn host(&self) -> Host;

    /// What disturbs a measurement on it now, a sentence each.
    fn disturbances(&self, host: &Host) -> Vec<String>;

    /// What the host can do before the block of that number; `None` where nobody can tell.
    fn canary(&mut self, block: u32) -> Option<CanarySamples>;

    /// Running totals of what has slowed it down.
    fn throttling(&self) -> Throttling;

    /// Time since some moment before the first run.
    fn uptime(&self) -> Duration;

    /// When run `number` starts, as a date.
    fn date(&self, number: usize) -> SystemTime;

    /// Does run `number`, whose record belongs at `place`; `hear` is called with every step.
    ///
    /// # Errors
    /// See [`RunnerError`]; of a migration that fails there is a record.
    fn run(
        &mut self,
        number: usize,
        place: RunIdentity,
        spec: &RunSpec,
        hear: &mut dyn FnMut(Moment<'_>),
    ) -> Result<Record, RunnerError>;
}

/// This host, with guests in processes of their own.
#[derive(Debug)]
pub struct KvmTestbed {
    canary: Option<Canary>,
    since: Instant,
    patience: Duration,
}

impl KvmTestbed {
    /// One that waits for so long until nobody else measures.
    #[must_use]
    pub fn waiting(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }
}

impl Default for KvmTestbed {
    fn default() -> Self {
        // A host without a socket to spare will not migrate either, and that has its own error.
        Self { canary: Canary::new().ok(), since: Instant::now(), patience: Duration::ZERO }
    }
}

impl Testbed for KvmTestbed {
    fn backend(&self) -> Backend {
        Backend::Kvm
    }

    fn lock(&self) -> Result<Option<HostLock>, LockError> {
        HostLock::wait(self.patience, interrupt::requested, HostLock::take).map(Some)
    }

    fn admit(&self, cell: &Cell) -> Result<(), Refusal> {
        admit(cell)
    }

    fn host(&self) -> Host {
        this_host()
    }

    fn disturbances(&self, host: &Host) -> Vec<String> {
        disturbance::disturbances(Path::new("/"), host, &Activity::watch(Path::new("/")))
    }

    fn canary(&mut self, _block: u32) -> Option<CanarySamples> {
        self.canary.as_mut().and_then(|canary| canary.measure().ok())
    }

    fn throttling(&self) -> Throttling {
        Throttling::read(Path::new("/"))
    }

    fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    fn date(&self, _number: usize) -> SystemTime {
        SystemTime::now()
    }

    fn run(
        &mut self,
        _number: usize,
        place: RunIdentity,
        spec: &RunSpec,
        hear: &mut dyn FnMut(Moment<'_>),
    ) -> Result<Record, RunnerError> {
        match spec.passes {
            Some(_) if interrupt::requested() => Err(RunnerError::Interrupted),
            Some(options) => {
                let made = measure(&spec.cell, spec.seed, options);
                Ok(record::of_passes(place, spec, made, options.lock_step))
            }
            None => {
                let outcome = in_processes(spec, suite::limit(&spec.cell), hear)?;
                Ok(record::of(place, spec, &outcome))
            }
        }
    }
}

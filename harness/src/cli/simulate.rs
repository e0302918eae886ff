//! Which testbed a suite runs on: this host, or for tests a simulated one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use migbench_reports::metric::MetricKey;
use migbench_reports::record::{Record, Round};
use migbench_reports::store::Accept;
use migbench_scenarios::Plan;
use migbench_workloads::units::Seconds;

use super::reading::Reading;
use crate::runner::simulated::replay::{Agreement, Replay};
use crate::runner::simulated::{SimulatedTestbed, Simulation};
use crate::runner::suite::{Listener, Step};
use crate::runner::testbed::{KvmTestbed, Testbed};

/// Shared by every command that runs a suite.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Simulate {
    /// Make the figures up instead of migrating guests, for tests: `noise=0.03,new.encode=1.1,fail=4`.
    #[arg(long, hide = true, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    simulate: Option<Simulation>,
    /// Write every step of the runner to this file, a line each, for tests.
    #[arg(long, hide = true, value_name = "FILE")]
    steps: Option<PathBuf>,
    /// Wait so long, such as 1h, for another measurement on this host to end.
    #[arg(long, value_name = "TIME")]
    pub(super) wait: Option<Seconds>,
}

/// As long as a lock is waited for; more than can be counted is for ever.
pub(super) fn patience(wait: Option<Seconds>) -> Duration {
    wait.map_or(Duration::ZERO, |time| Duration::try_from_secs_f64(time.0).unwrap_or(Duration::MAX))
}

impl Simulate {
    /// The testbed that was asked for.
    ///
    /// # Errors
    /// When it is this host and KVM cannot be used.
    pub fn testbed(&self) -> anyhow::Result<Box<dyn Testbed>> {
        if let Some(simulation) = &self.simulate {
            let simulated = SimulatedTestbed::new(simulation.clone()).playing(self.replay()?);
            return Ok(Box::new(simulated.waiting(patience(self.wait))));
        }
        drop(crate::host::kvm::open_kvm(Path::new("/dev/kvm"))?);
        Ok(Box::new(KvmTestbed::waiting(patience(self.wait))))
    }

    /// What is to be played again.
    ///
    /// # Errors
    /// As the run directory that was named.
    fn replay(&self) -> anyhow::Result<Option<Replay>> {
        let directory = self.simulate.as_ref().and_then(|simulation| simulation.replay.as_ref());
        Ok(directory.map(|directory| Replay::load(directory)).transpose()?)
    }

    /// How well migrations that were played again under their own rule came out; none where nothing was played.
    ///
    /// # Errors
    /// As both run directories.
    pub fn errors(&self, directory: &Path) -> anyhow::Result<Option<String>> {
        let Some(recorded) = self.replay()? else { return Ok(None) };
        let played = self.reading().data(directory)?.records;
        let found = Agreement::of(&played, &recorded);
        let show = |(key, median, largest): &(MetricKey, f64, f64)| {
            let label = key.definition().label;
            format!("{label} within {:.1} % (median; largest error {:.1} %)", median * 100.0, largest * 100.0)
        };
        Ok(Some(if found.migrations == 0 {
            "replay: none of these migrations was recorded under its own rule, so that nothing says how well they were foreseen".to_owned()
        } else {
            let all: Vec<_> = found.errors.iter().map(show).collect();
            format!(
                "replay, against what was recorded under the same rule: {} of {} migrations stopped after the same round; of these {}",
                found.alike,
                found.migrations,
                all.join(", ")
            )
        }))
    }

    /// How what it left is read.
    #[must_use]
    pub const fn reading(&self) -> Reading {
        Reading::of(if self.simulate.is_some() { Accept::Simulated } else { Accept::Guests })
    }

    /// `listener`, with the steps written down where that was asked for.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn listener<'a>(&self, listener: &'a mut dyn Listener) -> anyhow::Result<Box<dyn Listener + 'a>> {
        let file = self.steps.as_ref().map(|path| {
            File::create(path).with_context(|| format!("cannot write the steps to {}", path.display()))
        });
        Ok(Box::new(Steps { file: file.transpose()?, listener }))
    }
}

struct Steps<'a> {
    file: Option<File>,
    listener: &'a mut dyn Listener,
}

impl Listener for Steps<'_> {
    fn step(&mut self, step: Step<'_>) {
        if let Some(file) = &mut self.file {
            // Each at once: what counts is what was done until the process ended.
            let _ = writeln!(file, "{step}");
        }
        self.listener.step(step);
    }

    fn warn(&mut self, text: &str) {
        self.listener.warn(text);
    }

    fn run_starts(&mut self, number: usize, id: &str, plan: &Plan) {
        self.listener.run_starts(number, id, plan);
    }

    fn round(&mut self, round: &Round) {
        self.listener.round(round);
    }

    fn run_ends(&mut self, record: &Record) {
        self.listener.run_ends(record);
    }
}

//! `migbench history`: what a nightly job has kept.

use std::path::PathBuf;

use migbench_reports::history::{self, Night};
use migbench_scenarios::Suite;

use super::reading::Reading;
use super::{Exit, print};
use crate::runner::builds::{self, BuildError};
use crate::runner::now_utc;

/// Shows the nights that scripts/nightly has kept, and what drifts.
///
/// From ten good nights on a figure stands out when it changed by more than Q3 + 3 x IQR of what it changed by before, from one
/// good night to the next. Nights with an alarm are shown and are no baseline. No gate hangs on it: it says where to look.
#[derive(Debug, clap::Args)]
pub struct History {
    /// The directory that scripts/nightly keeps.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Add a night: the run directory of `migbench ab`.
    #[arg(long, hide = true, value_name = "RUN", requires = "status")]
    add: Option<PathBuf>,
    /// The exit status of `migbench ab`.
    #[arg(long, hide = true)]
    status: Option<u8>,
    /// What the new build was compared with.
    #[arg(long, hide = true, default_value = "last good")]
    against: String,
    /// Begin anew: this program is the new base, since the build BASE can't run beside it.
    #[arg(long, hide = true, value_name = "BASE", requires = "suite", conflicts_with = "add")]
    anew: Option<PathBuf>,
    /// The suite of the night that begins anew.
    #[arg(long, hide = true)]
    suite: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

impl History {
    pub fn execute(self) -> anyhow::Result<Exit> {
        if let (Some(run), Some(status)) = (&self.add, self.status) {
            let manifest = self.reading.data(run)?.manifest;
            Night::of(&manifest, run, status, &self.against).append(&self.directory)?;
            return Ok(Exit::Success);
        }
        if let (Some(base), Some(suite)) = (&self.anew, &self.suite) {
            let own = std::env::current_exe()?;
            let builds = match builds::unlike(base, &own) {
                Ok(builds) => builds.to_vec(),
                Err(BuildError::Unknown { .. }) => vec![builds::own(&own)?],
                Err(error) => return Err(error.into()),
            };
            let suite = Suite::find(suite)?.name;
            Night::anew(&suite, now_utc(), builds).append(&self.directory)?;
            return Ok(Exit::Success);
        }
        print(&history::drift(&self.directory)?.text())?;
        Ok(Exit::Success)
    }
}

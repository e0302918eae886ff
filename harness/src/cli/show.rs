//! `migbench show`: the runs of a run directory, or one of them in full.

use std::path::PathBuf;

use migbench_reports::show;

use super::reading::Reading;
use super::{Exit, print};

/// Shows the runs of a run directory, or rounds, metrics, latencies and errors of one.
///
/// Without RUN it lists all runs with their ids, one per line; with RUN it shows everything that is known of that run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  migbench show results/fast\n  migbench show results/fast 0003")]
pub struct Show {
    /// The run directory.
    directory: PathBuf,
    /// A run's id from the list, or the start of one that fits only that run, such as 0007.
    run: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

impl Show {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let data = self.reading.data(&self.directory)?;
        let text = match &self.run {
            None => show::list(&data),
            Some(run) => show::run(&data, run)?,
        };
        print(&text)?;
        Ok(Exit::Success)
    }
}

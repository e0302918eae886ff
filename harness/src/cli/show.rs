//! `migbench show`: the runs of a run directory, or one of them in full.

use std::path::PathBuf;

use migbench_reports::show;
use migbench_reports::store::RunData;

use super::{Exit, print};

/// Shows the runs of a run directory, or rounds, metrics and errors of one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  migbench show results/fast\n  migbench show results/fast 0003")]
pub struct Show {
    /// The run directory.
    directory: PathBuf,
    /// A run's id, or the start of one.
    run: Option<String>,
}

impl Show {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let data = RunData::load(&self.directory)?;
        let text = match &self.run {
            None => show::list(&data),
            Some(run) => show::run(&data, run)?,
        };
        print(&text)?;
        Ok(Exit::Success)
    }
}

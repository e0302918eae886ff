//! `migbench show`: the runs of a run directory, or one of them in full.

use std::path::PathBuf;

use migbench_reports::show;

use super::reading::Reading;
use super::{Exit, last_run, print};

/// Shows the runs of a run directory, or rounds, metrics, latencies and errors of one.
///
/// Without RUN it lists all runs with their ids, one per line; with RUN it shows everything that is known of that run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  migbench show                      the last run
  migbench show 0003                 one of its migrations
  migbench show results/fast
  migbench show results/fast 0003")]
pub struct Show {
    /// The run directory; without it the last run. A word alone that is no path here is a RUN of the last run.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// A run's id from the list, or the start of one that fits only that run, such as 0007.
    run: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

impl Show {
    pub fn execute(mut self) -> anyhow::Result<Exit> {
        let alone = self.directory.take_if(|word| {
            self.run.is_none() && word.components().count() == 1 && !word.is_absolute() && !word.exists()
        });
        if let Some(word) = alone {
            self.run = Some(word.to_string_lossy().into_owned());
        }
        let data = self.reading.data(&last_run::or_last(self.directory)?)?;
        let text = match &self.run {
            None => show::list(&data),
            Some(run) => show::run(&data, run)?,
        };
        print(&text)?;
        Ok(Exit::Success)
    }
}

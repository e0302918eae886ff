//! `migbench history`: what a nightly job has kept.

use std::path::PathBuf;

use migbench_reports::history;

use super::gate::history_by_default;
use super::{Exit, print};

/// Shows the nights that `migbench nightly` has kept, and what drifts.
///
/// From the second measured night on it shows what has moved most since the first. From ten good nights on a figure stands out when
/// it changed by more than Q3 + 3 x IQR of what it changed by before, from one good night to the next. Nights with an alarm are shown
/// and are no baseline. No gate hangs on it: it says where to look.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  migbench history")]
pub struct History {
    /// The directory that `migbench nightly` keeps; without it the one that it keeps without --history.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl History {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let directory = self.directory.unwrap_or_else(history_by_default);
        print(&history::drift(&directory)?.text())?;
        Ok(Exit::Success)
    }
}

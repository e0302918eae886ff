//! `migbench report`: the table of a run directory, from its records alone.

use std::path::PathBuf;

use super::{Exit, print, width};

/// Prints the comparison table of a run directory.
///
/// Needs the records only, so it works on any machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  migbench report results/fast\n  migbench report results/fast --markdown > table.md"
)]
pub struct Report {
    /// The run directory.
    directory: PathBuf,
    /// Print Markdown, with host and settings.
    #[arg(long)]
    markdown: bool,
}

impl Report {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let report = migbench_reports::report::Report::load(&self.directory)?;
        print(&if self.markdown { report.markdown() } else { report.terminal(width()) })?;
        Ok(if report.sound() { Exit::Success } else { Exit::Failure })
    }
}

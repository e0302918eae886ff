//! `migbench report`: the table of a run directory, from its records alone.

use std::path::PathBuf;

use super::{Exit, print, width};

/// Prints the comparison table of a run directory.
///
/// Works from the records alone, also after an interruption, and on a machine without KVM. The exit status is 1 when a run
/// failed or something that was to be proven was not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  migbench report results/fast\n  migbench report results/fast --markdown > table.md"
)]
pub struct Report {
    /// The run directory: what `migbench run -o` was given, or its last line names.
    directory: PathBuf,
    /// Print Markdown, with the suite's analysis, all settings, the host and the command: what report.md holds.
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

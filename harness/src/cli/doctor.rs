//! `migbench doctor`: is this host fit to measure?

use std::path::Path;

use super::{Exit, print};
use crate::doctor::{Level, check, render_json, render_text, worst};

/// Says whether this host can measure, and what would make it better.
///
/// Checks KVM, userfaultfd, memory and the settings that make timings noisy. Changes nothing. The exit status is 1 when
/// something that migbench needs is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  migbench doctor\n  migbench doctor --json")]
pub struct Doctor {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let checks = check(Path::new("/"));
        print(&if self.json { render_json(&checks) } else { render_text(&checks) })?;
        Ok(if worst(&checks) == Level::Fail { Exit::Failure } else { Exit::Success })
    }
}

//! The run directories behind a page.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::report::Report;
use crate::store::{Accept, RunData, StoreError};

/// A run directory, as far as a reader of figures must know it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordSource {
    /// Where it is.
    pub directory: String,
    /// The suite that ran.
    pub suite: String,
    /// What ran, in a line.
    pub subject: String,
    /// On what.
    pub machine: String,
    /// When, UTC.
    pub started: String,
    /// The program: version and commit.
    pub tool: String,
    /// The command that made it.
    pub command: String,
    /// What was proven.
    pub proven: String,
    /// What was disproven or left unproven.
    pub alarms: Vec<String>,
    /// Runs that failed.
    pub failed_runs: usize,
    /// What weakens the figures.
    pub warnings: Vec<String>,
}

impl RecordSource {
    pub(super) fn of(data: &RunData) -> Self {
        let report = Report::of(data);
        Self {
            directory: data.path.display().to_string(),
            suite: data.manifest.suite.clone(),
            command: data.manifest.command_line(),
            started: data.manifest.started.clone(),
            tool: data.manifest.tool.named(),
            failed_runs: report.failed_runs,
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
            proven: report.verification.proven,
            alarms: report.verification.alarms,
            subject: report.subject,
            machine: report.machine,
        }
    }
}

/// The run directories at each of `paths`: the directory itself, or those right in it, in the order of their names.
///
/// # Errors
/// [`StoreError`], also where a path holds no run directory.
pub fn gather(paths: &[PathBuf], accept: Accept) -> Result<Vec<RunData>, StoreError> {
    let mut all = Vec::new();
    for path in paths {
        let inner = if is_run(path) { Vec::new() } else { children(path) };
        if inner.is_empty() {
            // Says what is missing where there is nothing.
            all.push(RunData::load_as(path, accept)?);
        }
        for path in inner {
            all.push(RunData::load_as(path, accept)?);
        }
    }
    Ok(all)
}

fn is_run(path: &Path) -> bool {
    path.join(crate::store::MANIFEST).is_file()
}

fn children(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_run(path)).collect();
    found.sort();
    found
}

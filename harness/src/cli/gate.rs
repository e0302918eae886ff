//! Whether a gated metric became worse: what `migbench compare --gate`, `ab`, `report` and `nightly` share.

use std::path::{Path, PathBuf};

use migbench_reports::judge::accepted::AcceptError;
use migbench_reports::judge::{Acceptance, Accepted, JudgeError, Judgement, Measurement, Size, fresh, judge};
use migbench_reports::store::{MANIFEST, RunData, StoreError};

use super::reading::Reading;
use super::{Exit, UsageError, advice, last_run, print};
use crate::runner::now_utc;

/// Where scripts/nightly keeps its history, and accepted changes with it, so that they are read where they are written.
pub(super) fn history_by_default() -> PathBuf {
    let history = last_run::set("MIGBENCH_HISTORY").or_else(last_run::state);
    history.unwrap_or_else(|| PathBuf::from("results/history"))
}

fn accepted_by_default() -> PathBuf {
    history_by_default().join("accepted.toml")
}

/// Shared by every command that judges.
#[derive(Debug, clap::Args)]
pub(super) struct Accepting {
    /// The file of accepted changes, see `migbench compare accept`.
    #[arg(long, value_name = "FILE", default_value_os_t = accepted_by_default())]
    accepted: PathBuf,
}

impl Accepting {
    /// What is accepted today.
    pub(super) fn load(&self) -> Result<Accepted, AcceptError> {
        Accepted::load(&self.accepted, &today())
    }

    /// The file, where it is not the one that every command reads.
    pub(super) fn named(&self) -> Option<&Path> {
        Some(self.accepted.as_path()).filter(|path| *path != accepted_by_default())
    }
}

/// Accepts a known change up to a size, until a day. What is beyond it is judged, and each judgement prints it meanwhile.
#[derive(Debug, clap::Args)]
pub(super) struct Accept {
    /// The metric, one of those that a suite can gate.
    #[arg(long)]
    metric: String,
    /// The id of one cell; without it the whole metric.
    #[arg(long, value_name = "ID")]
    cell: Option<String>,
    /// By how much it may be worse, in percent of the base.
    #[arg(long, value_name = "PERCENT")]
    size: String,
    /// Why: whoever reads it each night must know.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The last day on which it holds, as 2031-02-28.
    #[arg(long, value_name = "DATE")]
    until: String,
    #[command(flatten)]
    accepting: Accepting,
}

/// Judges what was measured in one directory or two by the gates of its suite, and says what to do next.
pub(super) fn decide(
    data: &[RunData],
    measured: &Measurement,
    confirm: Option<&Path>,
    accepted: &Accepted,
    accepting: &Accepting,
    reading: Reading,
) -> anyhow::Result<Exit> {
    let fresh = match (data, confirm) {
        ([one], Some(path)) => {
            let fresh = load(reading, path)?;
            if !fresh.manifest.sided() {
                return Err(JudgeError::NoSides { path: path.to_owned() }.into());
            }
            fresh::require(one, &fresh)?;
            Some(fresh)
        }
        ([one], None) => fresh_beside(one, reading)?,
        _ => None,
    };
    let confirming = fresh.as_ref().map(Measurement::of_one).transpose()?;
    let judgement = judge(measured, confirming.as_ref(), accepted)?;
    let next = advice::next(&judgement, data, fresh.as_ref(), accepting.named());
    print(&judgement.text(measured, confirming.as_ref(), accepted, &next))?;
    Ok(judgement.verdict.into())
}

/// A run directory; says what was cut off of it.
pub(super) fn load(reading: Reading, path: &Path) -> Result<RunData, StoreError> {
    let data = reading.data(path)?;
    if let Some(line) = data.truncated {
        note!("warning: line {line} of {}/runs.jsonl was cut off and is left out", path.display());
    }
    Ok(data)
}

/// Where `migbench ab` measures an alarm of `directory` again.
pub(super) fn again_of(directory: &Path) -> PathBuf {
    // However it was written: not into `results/`, and not beside `.`.
    let mut path: PathBuf = directory.components().collect();
    if path.file_name().is_none() {
        path = path.canonicalize().unwrap_or(path);
    }
    let mut name = path.into_os_string();
    name.push("-again");
    name.into()
}

/// The fresh samples that `migbench ab` has made of `first`, if it has made any.
pub(super) fn fresh_beside(first: &RunData, reading: Reading) -> Result<Option<RunData>, StoreError> {
    let path = again_of(&first.path);
    if !first.manifest.sided() || !path.join(MANIFEST).exists() {
        return Ok(None);
    }
    let fresh = load(reading, &path)?;
    let fit = if fresh.manifest.sided() {
        fresh::require(first, &fresh)
    } else {
        Err(JudgeError::NoSides { path: path.clone() })
    };
    Ok(match fit {
        Ok(()) => Some(fresh),
        Err(error) => {
            note!("warning: {} is left out: {error}", path.display());
            None
        }
    })
}

/// What is said of a directory that `migbench ab` made, as its exit status has it; `None` of others, and where no gate decides.
pub(super) fn judgement_of(
    data: &RunData,
    accepting: &Accepting,
    reading: Reading,
) -> anyhow::Result<Option<Judgement>> {
    if !data.manifest.sided() {
        return Ok(None);
    }
    let fresh = fresh_beside(data, reading)?;
    let confirming = fresh.as_ref().map(Measurement::of_one).transpose()?;
    match judge(&Measurement::of_one(data)?, confirming.as_ref(), &accepting.load()?) {
        Err(JudgeError::NoGates { .. }) => Ok(None),
        other => Ok(Some(other?)),
    }
}

impl Accept {
    pub(super) fn execute(self) -> anyhow::Result<Exit> {
        let Self { metric, cell, size, reason, until, accepting: Accepting { accepted } } = self;
        let size: Size = size.parse().map_err(|error: AcceptError| UsageError(error.to_string()))?;
        let acceptance = Acceptance { metric, cell, size, reason, until };
        let accepted_text = acceptance.to_string();
        Accepted::add(&accepted, acceptance, &today()).map_err(|error| UsageError(error.to_string()))?;
        print(&format!("accepted in {}: {accepted_text}", accepted.display()))?;
        Ok(Exit::Success)
    }
}

/// The date in UTC.
pub(super) fn today() -> String {
    now_utc().chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_measured_again_beside_its_directory_and_never_in_it() {
        for written in ["results/ab", "results/ab/", "results/ab/.", "results//ab"] {
            assert_eq!(again_of(Path::new(written)), Path::new("results/ab-again"), "{written}");
        }
        let here = std::env::current_dir().unwrap();
        let name = format!("{}-again", here.file_name().unwrap().to_str().unwrap());
        assert_eq!(again_of(Path::new(".")), here.with_file_name(name));
    }
}

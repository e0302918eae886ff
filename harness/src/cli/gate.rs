//! `migbench gate`: did a gated metric become worse?

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use migbench_reports::judge::accepted::AcceptError;
use migbench_reports::judge::{
    Acceptance, Accepted, Allowed, JudgeError, Judgement, Measurement, Size, fresh, judge,
};
use migbench_reports::store::{MANIFEST, RunData, StoreError};

use super::reading::Reading;
use super::{Exit, UsageError, advice, print};
use crate::runner::now_utc;

/// Where accepted changes are kept, unless something else is said: where scripts/nightly keeps its history, so that they are
/// read where they are written.
pub(super) fn accepted_by_default() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let history = set("MIGBENCH_HISTORY")
        .or_else(|| Some(set("XDG_STATE_HOME")?.join("migbench")))
        .or_else(|| Some(set("HOME")?.join(".local/state/migbench")));
    history.unwrap_or_else(|| PathBuf::from("results/history")).join("accepted.toml")
}

/// Shared by every command that judges.
#[derive(Debug, clap::Args)]
pub(super) struct Accepting {
    /// The file of accepted changes, see `migbench gate accept`.
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

/// Decides whether a gated metric became worse: exit status 0 no, 4 yes, 3 not enough evidence.
///
/// Names one run directory that `migbench ab` made, or two, BASE and NEW. The suite declares what is judged in [[gate]]
/// tables. One joint test has the mean over cells of each metric and each cell, adjusted for each other. A change under 2.5 %
/// or under the gate's floor is no regression, and 0 is said only where 5 % in the mean and 10 % in every cell can be
/// excluded.
///
/// An alarm stands only if fresh samples alone confirm it: without any it ends with status 3 and the command that makes
/// them. Two directories were measured at two times, and the host in between may have changed too: of them no regression is
/// said (0 or 3, never 4), and the command that measures side by side is. Status 3 is also given where the host changed or was
/// disturbed, where all that could be judged is accepted, and for too few or too noisy runs, with how many would do; 1 where
/// runs or proofs failed or are missing; 5 for different plans, hosts, schemas of records, and samples that are not fresh ones
/// of the same plan and builds.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  migbench gate results/ab                             both sides of one directory; reads results/ab-again too
  migbench gate results/ab --confirm results/later     an alarm, and whether these fresh samples confirm it
  migbench gate results/base results/new               advisory: measured at two times
  migbench gate accept --metric encode_time --size 10% --reason 'checksums' --until 2031-02-28"
)]
pub struct Gate {
    /// One directory with both sides, or BASE and NEW.
    #[arg(value_name = "DIR", num_args = 1..=2, required = true)]
    directories: Vec<PathBuf>,
    /// Fresh samples that alone decide on an alarm of one directory: of the same plan and the same builds, with another seed.
    /// Without it DIR-again, where `migbench ab` has measured an alarm again.
    #[arg(long, value_name = "DIR")]
    confirm: Option<PathBuf>,
    #[command(flatten)]
    accepting: Accepting,
    #[command(flatten)]
    reading: Reading,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Accept(Accept),
}

/// Accepts a known change up to a size, until a day. What is beyond it is judged, and each run of the gate prints it meanwhile.
#[derive(Debug, clap::Args)]
struct Accept {
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

impl Gate {
    pub fn execute(self) -> anyhow::Result<Exit> {
        match self.command {
            Some(Command::Accept(accept)) => accept.execute(),
            None => self.judge(),
        }
    }

    fn judge(&self) -> anyhow::Result<Exit> {
        if self.confirm.is_some() && self.directories.len() > 1 {
            let what = "--confirm is for one directory: two that were measured at two times raise no alarm that could be \
                        confirmed; `migbench ab` measures side by side, and confirms by itself";
            return Err(UsageError(what.to_owned()).into());
        }
        let accepted = self.accepting.load()?;
        let first = self.directories.iter().map(|path| load(self.reading, path));
        let first = first.collect::<Result<Vec<_>, _>>()?;
        let measured = match &first[..] {
            [base, new] => Measurement::of_two(base, new, Allowed::default())?,
            _ => Measurement::of_one(first.first().context("no directory was named")?)?,
        };
        let fresh = match (&first[..], &self.confirm) {
            ([one], Some(path)) => {
                let fresh = load(self.reading, path)?;
                if !fresh.manifest.sided() {
                    return Err(JudgeError::NoSides { path: path.clone() }.into());
                }
                fresh::require(one, &fresh)?;
                Some(fresh)
            }
            ([one], None) => fresh_beside(one, self.reading)?,
            _ => None,
        };
        let confirming = fresh.as_ref().map(Measurement::of_one).transpose()?;
        let judgement = judge(&measured, confirming.as_ref(), &accepted)?;
        let next = advice::next(&judgement, &first, fresh.as_ref(), self.accepting.named());
        print(&judgement.text(&measured, confirming.as_ref(), &accepted, &next))?;
        Ok(judgement.verdict.into())
    }
}

fn load(reading: Reading, path: &Path) -> Result<RunData, StoreError> {
    let data = reading.data(path)?;
    if let Some(line) = data.truncated {
        eprintln!("warning: line {line} of {}/runs.jsonl was cut off and is left out", path.display());
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
            eprintln!("warning: {} is left out: {error}", path.display());
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
    fn execute(self) -> anyhow::Result<Exit> {
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
        let here = env::current_dir().unwrap();
        let name = format!("{}-again", here.file_name().unwrap().to_str().unwrap());
        assert_eq!(again_of(Path::new(".")), here.with_file_name(name));
    }
}

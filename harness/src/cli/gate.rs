//! `migbench gate`: did a gated metric become worse?

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use migbench_reports::judge::accepted::AcceptError;
use migbench_reports::judge::{Acceptance, Accepted, Allowed, Measurement, Size, Verdict, judge};
use migbench_reports::store::RunData;

use super::reading::Reading;
use super::{Exit, UsageError, print};
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

/// Decides whether a gated metric became worse: exit status 0 no, 4 yes, 3 not enough evidence.
///
/// Names two run directories, BASE and NEW, or one that `migbench ab` made. The suite declares what is judged in [[gate]]
/// tables. One joint test has the mean over cells of each metric and each cell, adjusted for each other. A change under 2.5 %
/// or under the gate's floor is no regression, and 0 is said only where 5 % in the mean and 10 % in every cell can be
/// excluded.
///
/// An alarm stands only if fresh samples alone confirm it: without --confirm it ends with status 3 and the command to
/// measure again. Status 3 is also given where the host changed between the two, or was disturbed, and for too few or too
/// noisy runs, with how many would do; 1 where runs or proofs failed or are missing; 5 for different plans, hosts
/// or schemas of records.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  migbench gate results/ab                             both sides of one directory
  migbench gate results/ab --confirm results/ab-again  an alarm, and whether fresh samples confirm it
  migbench gate results/base results/new
  migbench gate results/base results/new --confirm results/base2,results/new2
  migbench gate accept --metric encode_time --size 10% --reason 'checksums' --until 2031-02-28"
)]
pub struct Gate {
    /// BASE and NEW, or one directory with both sides.
    #[arg(value_name = "DIR", num_args = 1..=2, required = true)]
    directories: Vec<PathBuf>,
    /// Fresh samples that alone decide on an alarm: one directory, or BASE and NEW separated by a comma.
    #[arg(long, value_name = "DIR[,DIR]", value_delimiter = ',', num_args = 1)]
    confirm: Vec<PathBuf>,
    /// The file of accepted changes.
    #[arg(long, value_name = "FILE", default_value_os_t = accepted_by_default())]
    accepted: PathBuf,
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
    /// The file of accepted changes.
    #[arg(long, value_name = "FILE", default_value_os_t = accepted_by_default())]
    accepted: PathBuf,
}

impl Gate {
    pub fn execute(self) -> anyhow::Result<Exit> {
        match self.command {
            Some(Command::Accept(accept)) => accept.execute(),
            None => self.judge(),
        }
    }

    fn judge(&self) -> anyhow::Result<Exit> {
        if !self.confirm.is_empty() && self.confirm.len() != self.directories.len() {
            let wanted = if self.directories.len() == 1 {
                "one directory"
            } else {
                "BASE and NEW, separated by a comma"
            };
            return Err(UsageError(format!("--confirm takes {wanted}, as what it confirms")).into());
        }
        let today = today();
        let accepted = Accepted::load(&self.accepted, &today)?;
        let first = self.load(&self.directories)?;
        let fresh = self.load(&self.confirm)?;
        // Times of RFC 3339 in UTC sort as text.
        let last = first.iter().map(|data| &data.manifest.started).max();
        if let Some(old) = fresh.iter().find(|data| Some(&data.manifest.started) <= last) {
            let what = format!(
                "--confirm {} was not begun after what it is to confirm; samples of another measurement, made afterwards, can",
                old.path.display()
            );
            return Err(UsageError(what).into());
        }
        let measured = measurement(&first)?.context("no directory was named")?;
        let confirming = measurement(&fresh)?;
        let judgement = judge(&measured, confirming.as_ref(), &accepted)?;
        print(&judgement.text(&measured, confirming.as_ref(), &accepted, &self.again(&measured)))?;
        Ok(match judgement.verdict {
            Verdict::Fine => Exit::Success,
            Verdict::Unsound => Exit::Failure,
            Verdict::Regression => Exit::Regression,
            Verdict::Unconfirmed | Verdict::NotEnough | Verdict::HostChanged => Exit::TooLittle,
        })
    }

    fn load(&self, directories: &[PathBuf]) -> anyhow::Result<Vec<RunData>> {
        let data = directories.iter().map(|path| self.reading.data(path)).collect::<Result<Vec<_>, _>>()?;
        for run in &data {
            if let Some(line) = run.truncated {
                eprintln!(
                    "warning: line {line} of {}/runs.jsonl was cut off and is left out",
                    run.path.display()
                );
            }
        }
        Ok(data)
    }

    /// What to type to have an alarm confirmed.
    fn again(&self, measured: &Measurement<'_>) -> String {
        let fresh = |path: &Path| format!("{}-again", path.display());
        let runs = match &self.directories[..] {
            [_] => format!("{} -o {}", without_output(&measured.base.command), fresh(&measured.base.path)),
            _ => [&measured.base, &measured.new]
                .map(|origin| format!("{} -o {}", without_output(&origin.command), fresh(&origin.path)))
                .join("\n  "),
        };
        let named =
            self.directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        let confirm = self.directories.iter().map(|path| fresh(path)).collect::<Vec<_>>().join(",");
        format!("{runs}\n  migbench gate {named} --confirm {confirm}")
    }
}

/// The command without its own `-o DIR`, which holds the records that are to be confirmed.
fn without_output(command: &str) -> String {
    let mut words = command.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "-o" || word == "--output" {
            words.next();
        } else if !word.starts_with("--output=") {
            kept.push(word);
        }
    }
    kept.join(" ")
}

impl Accept {
    fn execute(self) -> anyhow::Result<Exit> {
        let Self { metric, cell, size, reason, until, accepted } = self;
        let size: Size = size.parse().map_err(|error: AcceptError| UsageError(error.to_string()))?;
        let acceptance = Acceptance { metric, cell, size, reason, until };
        let told = acceptance.to_string();
        Accepted::add(&accepted, acceptance, &today()).map_err(|error| UsageError(error.to_string()))?;
        print(&format!("accepted in {}: {told}", accepted.display()))?;
        Ok(Exit::Success)
    }
}

pub(super) fn today() -> String {
    now_utc().chars().take(10).collect()
}

fn measurement(data: &[RunData]) -> anyhow::Result<Option<Measurement<'_>>> {
    Ok(match data {
        [] => None,
        [one] => Some(Measurement::of_one(one)?),
        [base, new, ..] => Some(Measurement::of_two(base, new, Allowed::default())?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_repeated_into_another_directory() {
        assert_eq!(
            without_output("migbench ab quick -o results/a --repeat 9"),
            "migbench ab quick --repeat 9"
        );
        assert_eq!(without_output("migbench run quick --output=x"), "migbench run quick");
    }
}

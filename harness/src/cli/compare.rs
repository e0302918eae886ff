//! `migbench compare`: two run directories, or the two sides of one, cell by cell; with `--gate` whether a gated metric
//! became worse.

use std::path::PathBuf;

use migbench_reports::judge::compare::Changes;
use migbench_reports::judge::{Allowed, Measurement};
use migbench_reports::metric::MetricKey;
use migbench_reports::store::RunData;

use super::gate::{self, Accept, Accepting, load};
use super::reading::Reading;
use super::{Exit, UsageError, last_run, print};

/// Compares two run directories, or both sides of one of `migbench ab`: ratio, interval and change of every metric in each cell.
///
/// Each ratio has an interval of its own, which is not adjusted for the others. Whether it changed is said by one permutation
/// test of all ratios together, adjusted for each other: of those that did not change, one is called changed in 5 % of
/// comparisons at most. That informs and does not decide; --gate does. Directories of different plans or classes
/// of hosts are refused (exit status 5), unless you allow it; of different schemas of records, always.
///
/// --gate decides whether a gated metric became worse: exit status 0 no, 4 yes, 3 not enough evidence. The suite declares what is
/// judged in [[gate]] tables. One joint test has the mean over cells of each metric and each cell, adjusted for each other. A change
/// under 2.5 % or under the gate's floor is no regression, and 0 is said only where 5 % in the mean and 10 % in every cell can be
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
  migbench compare results/monday results/tuesday
  migbench compare results/monday results/tuesday --metric total_time,encode_time
  migbench compare results/here results/there --different-hosts
  migbench compare results/ab                                    both sides of one directory
  migbench compare --gate                                        the last run, if by `migbench ab`
  migbench compare --gate results/ab                             reads results/ab-again too
  migbench compare --gate results/ab --confirm results/later     and whether these samples confirm it
  migbench compare --gate results/base results/new               advisory: measured at two times
  migbench compare accept --metric encode_time --size 10% --reason 'checksums' --until 2031-02-28"
)]
pub struct Compare {
    /// BASE and NEW, or one directory with both sides; without any the last run.
    #[arg(value_name = "DIR", num_args = 0..=2)]
    directories: Vec<PathBuf>,
    /// Decides by the gates of the suite.
    #[arg(long)]
    gate: bool,
    /// Fresh samples that alone decide on an alarm of one directory: of the same plan and the same builds, with another seed.
    /// Without it DIR-again, where `migbench ab` has measured an alarm again.
    #[arg(long, value_name = "DIR", requires = "gate")]
    confirm: Option<PathBuf>,
    /// Metrics in place of those of the report's tables, separated by commas; names as in reports/METRICS.md.
    #[arg(long, value_name = "METRIC", value_delimiter = ',', conflicts_with = "gate")]
    metric: Vec<String>,
    /// Compare the cells that both plans have, though the plans differ.
    #[arg(long, conflicts_with = "gate")]
    different_plans: bool,
    /// Compare though CPU, kernel, memory or KVM differ.
    #[arg(long, conflicts_with = "gate")]
    different_hosts: bool,
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

impl Compare {
    pub fn execute(self) -> anyhow::Result<Exit> {
        if let Some(Command::Accept(accept)) = self.command {
            return accept.execute();
        }
        let metrics = self.metric.iter().map(|name| metric(name)).collect::<anyhow::Result<Vec<_>>>()?;
        if self.confirm.is_some() && self.directories.len() > 1 {
            let what = "--confirm is for one directory: two that were measured at two times raise no alarm that could be \
                        confirmed; `migbench ab` measures side by side, and confirms by itself";
            return Err(UsageError(what.to_owned()).into());
        }
        if !self.gate && self.accepting.named().is_some() {
            return Err(UsageError("--accepted is for --gate: nothing else judges".to_owned()).into());
        }
        // Before any record is read: a mistake in the file concerns all.
        let accepted = self.gate.then(|| self.accepting.load()).transpose()?;
        let directories = match self.directories.is_empty() {
            true => vec![last_run::or_last(None)?],
            false => self.directories,
        };
        let data = directories.iter().map(|path| load(self.reading, path));
        let data = data.collect::<Result<Vec<RunData>, _>>()?;
        let allowed =
            Allowed { different_plans: self.different_plans, different_hosts: self.different_hosts };
        let measurement = match &data[..] {
            [base, new] => Measurement::of_two(base, new, allowed)?,
            [one] => Measurement::of_one(one)?,
            _ => anyhow::bail!("clap let more than two directories through"),
        };
        if let Some(accepted) = accepted {
            let confirm = self.confirm.as_deref();
            return gate::decide(&data, &measurement, confirm, &accepted, &self.accepting, self.reading);
        }
        print(&Changes::of(&measurement, &metrics).text(&measurement))?;
        Ok(Exit::Success)
    }
}

fn metric(name: &str) -> anyhow::Result<MetricKey> {
    let known = || MetricKey::ALL.iter().map(|key| key.name());
    MetricKey::find(name).ok_or_else(|| {
        let near = known()
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness >= 0.8)
            .map_or_else(String::new, |(_, near)| format!(" (did you mean `{near}`?)"));
        UsageError(format!("no metric `{name}`{near}; reports/METRICS.md has all")).into()
    })
}

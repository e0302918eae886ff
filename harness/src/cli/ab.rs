//! `migbench ab`: two settings, or two builds, side by side on one host.

use std::path::{Path, PathBuf};

use migbench_reports::judge::compare::Changes;
use migbench_reports::judge::{Accepted, JudgeError, Measurement, Verdict, judge};
use migbench_scenarios::{Assignment, SuiteError};

use super::gate::{accepted_by_default, today};
use super::run::{Planting, Task, default_directory, run_task};
use super::selection::Selection;
use super::{Exit, UsageError, keep, print};

const EXAMPLES: &str = "\
Examples:
  migbench ab nightly --base binary=old/migbench --new binary=target/release/migbench
                                                   is the new build slower?
  migbench ab quick --base tracker=kvm-bitmap --new tracker=kvm-ring
  migbench ab quick --base engine=full --new engine=delta stop.downtime_limit=50ms
  migbench ab mine.toml --new backing=memfd --time-budget 20m -o results/memfd
  migbench ab quick                                a suite against itself: what does this host call a difference?
  migbench ab --resume results/memfd               the rest of an interrupted one

`migbench list keys` names the keys. A build is `binary=PATH`; without one the nodes of this program run.";

/// Runs a suite with two settings, interleaved on one host.
///
/// Each cell runs on both sides: with the settings of --base and with those of --new. In every repetition both sides of a cell
/// follow each other, in an order that is drawn anew, with the same seed of the guest: what happens to the host
/// meanwhile happens to both. Then both sides are compared, and judged by the gates of the suite as `migbench gate` does.
///
/// An alarm is measured again by itself, with other guests in another order, into a second directory (DIR-again), and stands only
/// if these fresh samples alone confirm it. Exit status: 0 no gated metric became worse, or the suite has no gates; 3 not
/// enough evidence, or the host was disturbed; 4 a confirmed regression; 1 a run or a proof failed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Ab {
    /// A suite's name, or a path that ends in .toml.
    #[arg(required_unless_present = "resume")]
    suite: Option<String>,
    /// What the base has, in place of the suite's values; binary=PATH runs the nodes of another build.
    #[arg(long, value_name = "KEY=VALUE", num_args = 1..)]
    base: Vec<String>,
    /// What the new side has.
    #[arg(long, value_name = "KEY=VALUE", num_args = 1..)]
    new: Vec<String>,
    /// The run directory itself, which must not hold records yet; without it results/<UTC time>-<suite>-ab/.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Finish an interrupted run directory: only what is missing runs. Refused where plan, program, builds or host differ.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "time_budget"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// Do not measure an alarm again; it then ends with status 3.
    #[arg(long)]
    no_confirm: bool,
    /// The file of accepted changes, see `migbench gate accept`.
    #[arg(long, value_name = "FILE", default_value_os_t = accepted_by_default())]
    accepted: PathBuf,
    /// Seed of the order and of the guests, in place of the suite's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the plan and about how long it takes, run nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    planting: Planting,
}

impl Ab {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let asked = self.suite.as_deref().map(|name| self.planned(name)).transpose()?;
        let (task, resume) = Task::resumed(asked, self.resume.as_deref())?;
        if task.preview(self.dry_run)? {
            return Ok(Exit::Success);
        }
        // Before any guest: a mistake in the file would spoil the night.
        let accepted = Accepted::load(&self.accepted, &today())?;
        let named = || default_directory(&format!("{}-ab", task.plan.suite));
        let directory = self.resume.clone().or(self.output.clone()).unwrap_or_else(named);
        // Only where the first samples raise an alarm.
        let again = Task::whole(task.plan.reseeded(task.plan.seed.wrapping_add(1)), task.suite_text.clone());
        let failed = self.measure(task, &directory, resume)?;

        let reading = self.planting.simulate.reading();
        let first = reading.data(&directory)?;
        if let Some(planted) = &first.manifest.planted {
            print(&format!("a cost was planted ({planted}): these are not the builds' own figures"))?;
        }
        let first = Measurement::of_one(&first)?;
        print(&Changes::of(&first, &[]).text(&first))?;
        let mut judgement = match judge(&first, None, &accepted) {
            Err(JudgeError::NoGates { suite }) => {
                print(&format!("\nsuite {suite} declares no [[gate]]: nothing is decided"))?;
                return Ok(if failed == 0 { Exit::Success } else { Exit::Failure });
            }
            other => other?,
        };
        let (fresh, mut failed_again) = (directory_again(&directory), 0);
        let repeat = format!("migbench ab --resume {}", directory.display());
        if judgement.verdict != Verdict::Unconfirmed || self.no_confirm {
            print(&format!("\n{}", judgement.text(&first, None, &accepted, &repeat)))?;
        } else {
            eprintln!(
                "an alarm: measuring again with fresh samples, which alone decide, into {}",
                fresh.display()
            );
            let begun = fresh.join(migbench_reports::store::MANIFEST).exists();
            failed_again = self.measure(again, &fresh, begun)?;
            let fresh = reading.data(&fresh)?;
            let fresh = Measurement::of_one(&fresh)?;
            judgement = judge(&first, Some(&fresh), &accepted)?;
            print(&format!("\n{}", judgement.text(&first, Some(&fresh), &accepted, &repeat)))?;
        }
        Ok(match judgement.verdict {
            Verdict::Fine if failed + failed_again == 0 => Exit::Success,
            Verdict::Fine | Verdict::Unsound => Exit::Failure,
            Verdict::Regression => Exit::Regression,
            Verdict::Unconfirmed | Verdict::NotEnough | Verdict::HostChanged => Exit::TooLittle,
        })
    }

    /// Gives how many runs failed, or 1 where a proof did.
    fn measure(&self, task: Task, directory: &Path, resume: bool) -> anyhow::Result<usize> {
        let (failed, report) = run_task(task, directory, resume, &self.planting)?;
        keep(&report, directory)?;
        Ok(failed.max(usize::from(!report.sound())))
    }

    /// `migbench ab ...` as it would be typed.
    pub(super) fn parsed(words: &[String]) -> Result<Self, UsageError> {
        #[derive(clap::Parser)]
        struct Words {
            #[command(flatten)]
            ab: Ab,
        }
        let words = <Words as clap::Parser>::try_parse_from(words);
        words.map(|words| words.ab).map_err(|error| UsageError(error.to_string()))
    }

    /// What runs, both sides.
    pub(super) fn plan(&self) -> anyhow::Result<migbench_scenarios::Plan> {
        let suite = self.suite.as_deref().unwrap_or_default();
        Ok(self.planned(suite)?.plan)
    }

    /// The id of the first cell of a suite that migrates.
    pub(super) fn first_cell(&self, suite: &str) -> anyhow::Result<String> {
        let plan = self.selection.plan(suite)?.0;
        let mut cells = plan.comparisons.iter().flat_map(|comparison| &comparison.cells);
        let first = cells.find(|planned| planned.cell.engine.migrates());
        Ok(first.map(|planned| planned.id.clone()).unwrap_or_default())
    }

    /// How what it leaves is read.
    pub(super) const fn reading(&self) -> super::reading::Reading {
        self.planting.simulate.reading()
    }

    /// Both sides of the suite called `name`.
    fn planned(&self, name: &str) -> anyhow::Result<Task> {
        let all = |flag: &str, texts: &[String]| -> Result<Vec<_>, SuiteError> {
            texts.iter().map(|text| Assignment::after(flag, text)).collect()
        };
        let (base, new) = (all("--base", &self.base)?, all("--new", &self.new)?);
        let (plan, suite_text) = self.selection.plan_by(name, |mut suite| {
            suite.seed = self.seed.unwrap_or(suite.seed);
            suite.sides(&base, &new)
        })?;
        Ok(Task::whole(plan, suite_text))
    }
}

/// Where an alarm of `directory` is measured again.
fn directory_again(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push("-again");
    name.into()
}

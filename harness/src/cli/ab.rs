//! `migbench ab`: two settings, or two builds, side by side on one host.

use std::path::{Path, PathBuf};

use migbench_reports::judge::compare::Changes;
use migbench_reports::judge::{JudgeError, Measurement, Verdict, fresh, judge};
use migbench_reports::shell;
use migbench_reports::store::MANIFEST;
use migbench_scenarios::{Assignment, SuiteError};

use super::advice;
use super::gate::{Accepting, again_of};
use super::run::{Planting, Task, default_directory, run_task};
use super::selection::{Selection, SuiteText};
use super::{Exit, UsageError, keep, last_run, print};

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
/// meanwhile happens to both. Then both sides are compared, and judged by the gates of the suite as `migbench compare --gate` does.
///
/// An alarm is measured again by itself, with other guests in another order, into a second directory (DIR-again), and stands only
/// if these fresh samples alone confirm it; both verdicts are printed. The exit status is that of `migbench compare --gate`, and 0 where the
/// suite has no gates.
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
    #[command(flatten)]
    accepting: Accepting,
    /// Seed of the order and of the guests, in place of the suite's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print what is compared and about how long it takes, run nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    planting: Planting,
}

impl Ab {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let (task, resume) = Task::resumed(self.resume.as_deref(), |begun| self.asked(begun))?;
        if let (true, Some(directory)) = (!task.sided(), &self.resume) {
            let path = shell::path(directory);
            let what = format!("{path} has no two sides: finish it with `migbench run --resume {path}`");
            return Err(UsageError(what).into());
        }
        if task.preview(self.dry_run)? {
            return Ok(Exit::Success);
        }
        // Before any guest: a mistake in the file would spoil the night.
        let accepted = self.accepting.load()?;
        let named = || default_directory(&format!("{}-ab", task.plan.suite));
        let directory = self.resume.clone().or(self.output.clone()).unwrap_or_else(named);
        let again = again_of(&directory);
        if !resume && !self.no_confirm && again.join(MANIFEST).exists() {
            let what = format!(
                "{} already holds records, and an alarm would be measured again into it; name another directory with -o",
                again.display()
            );
            return Err(UsageError(what).into());
        }
        // Only where the first samples raise an alarm.
        let other_guests = task.plan.reseeded(task.plan.seed.wrapping_add(1));
        let second = Task::whole(other_guests, task.suite_text.clone());
        let rest = advice::finishing("ab", &directory);
        let failed = self.measure(task, &directory, resume, &rest)?;

        let reading = self.planting.simulate.reading();
        let first = reading.data(&directory)?;
        if let Some(planted) = &first.manifest.planted {
            print(&format!("a cost was planted ({planted}): these are not the builds' own figures"))?;
        }
        let measured = Measurement::of_one(&first)?;
        print(&Changes::of(&measured, &[]).text(&measured))?;
        let judgement = match judge(&measured, None, &accepted) {
            Err(JudgeError::NoGates { suite, .. }) => {
                print(&format!("\nsuite {suite} declares no [[gate]]: nothing is decided"))?;
                return Ok(if failed == 0 { Exit::Success } else { Exit::Failure });
            }
            other => other?,
        };
        if judgement.verdict != Verdict::Unconfirmed || self.no_confirm {
            let next = advice::next(&judgement, std::slice::from_ref(&first), None, self.accepting.named());
            print(&format!("\n{}", judgement.text(&measured, None, &accepted, &next)))?;
            return Ok(exit(judgement.verdict, failed));
        }
        let next = format!("Measuring again, by fresh samples, into {}", shell::path(&again));
        print(&format!("\n{}", judgement.text(&measured, None, &accepted, &next)))?;
        note!("an alarm: measuring again with fresh samples, which alone decide, into {}", again.display());
        let begun = again.join(MANIFEST).exists();
        let failed_again = self.measure(second, &again, begun, &rest);
        // Both are read by way of the first.
        last_run::note(&directory);
        let failed_again = failed_again?;
        let second = reading.data(&again)?;
        fresh::require(&first, &second)?;
        let confirming = Measurement::of_one(&second)?;
        let judgement = judge(&measured, Some(&confirming), &accepted)?;
        let next =
            advice::next(&judgement, std::slice::from_ref(&first), Some(&second), self.accepting.named());
        print(&format!("\n{}", judgement.text(&measured, Some(&confirming), &accepted, &next)))?;
        Ok(exit(judgement.verdict, failed + failed_again))
    }

    /// What is asked for; none where a directory alone says it. Of flags alone, what they make of the suite that was begun.
    pub(super) fn asked(&self, begun: Option<&Task>) -> anyhow::Result<Option<Task>> {
        let sides = !self.base.is_empty() || !self.new.is_empty() || self.seed.is_some();
        let found = self.suite.as_deref().map(SuiteText::find).transpose()?;
        let again = begun.filter(|_| sides || self.selection.is_given()).map(Task::suite);
        found.or(again).map(|suite| self.planned(suite)).transpose()
    }

    /// Gives how many runs failed, or 1 where a proof did. `rest` is the command that makes what an interruption leaves.
    fn measure(&self, task: Task, directory: &Path, resume: bool, rest: &str) -> anyhow::Result<usize> {
        let (failed, report) = run_task(task, directory, resume, &self.planting, rest.to_owned())?;
        let kept = keep(&report, directory)?;
        print(&kept)?;
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
        let suite = SuiteText::find(self.suite.as_deref().unwrap_or_default())?;
        Ok(self.planned(suite)?.plan)
    }

    /// The id of the first cell of a suite that migrates.
    pub(super) fn first_cell(&self, suite: &str) -> anyhow::Result<String> {
        let plan = self.selection.plan(&SuiteText::find(suite)?)?;
        let mut cells = plan.comparisons.iter().flat_map(|comparison| &comparison.cells);
        let first = cells.find(|planned| planned.cell.engine.migrates());
        Ok(first.map(|planned| planned.id.clone()).unwrap_or_default())
    }

    /// How what it leaves is read.
    pub(super) const fn reading(&self) -> super::reading::Reading {
        self.planting.simulate.reading()
    }

    /// Both sides of a suite.
    fn planned(&self, suite: SuiteText) -> anyhow::Result<Task> {
        let all = |flag: &str, texts: &[String]| -> Result<Vec<_>, SuiteError> {
            texts.iter().map(|text| Assignment::after(flag, text)).collect()
        };
        let (base, new) = (all("--base", &self.base)?, all("--new", &self.new)?);
        let plan = self.selection.plan_by(&suite, |mut suite| {
            suite.seed = self.seed.unwrap_or(suite.seed);
            suite.sides(&base, &new)
        })?;
        Ok(Task::whole(plan, suite.text))
    }
}

/// A verdict that is no more than fine where a run failed.
fn exit(verdict: Verdict, failed: usize) -> Exit {
    match verdict {
        Verdict::Fine if failed > 0 => Exit::Failure,
        verdict => verdict.into(),
    }
}

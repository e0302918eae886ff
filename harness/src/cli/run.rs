//! `migbench run`: a suite, from plan to report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use migbench_reports::manifest::{Manifest, PlanSlice};
use migbench_reports::record::Backend;
use migbench_reports::report::Report;
use migbench_reports::settings;
use migbench_reports::shell;
use migbench_reports::store::{Accept, RunData};
use migbench_scenarios::frozen::{FrozenPlan, short};
use migbench_scenarios::{Plan, PlannedCell, Slice, estimate};

use super::advice;
use super::progress::ProgressPrinter;
use super::selection::{Selection, SuiteText};
use super::simulate::Simulate;
use super::{CliCommand, Exit, UsageError, keep, print, width};
use crate::engine::planted_cost::Planted;
use crate::host::provenance::this_tool;
use crate::node::fault::InjectedFault;
use crate::peer;
use crate::runner::admission::admit;
use crate::runner::array::{self, Chosen};
use crate::runner::suite::{Job, run_plan};
use crate::runner::{interrupt, now_utc};
use crate::track::TrackOptions;

const EXAMPLES: &str = "\
Examples:
  migbench run quick --dry-run                     what would run, and about how long
  migbench run quick --repeat 1 -o results/first   each cell once, besides its verification run
  migbench run quick --filter write-heavy --set link.rate=500Mbit/s
  migbench run quick --set memory=128MiB,256MiB    both sizes, as comparisons of their own
  migbench run mine.toml
  migbench run quick --time-budget 10m             as many repetitions as fit
  migbench run --resume results/first              the rest of an interrupted suite
  migbench run --plan plan.json --partition slice:2/8 -o slices/2
                                                   one machine's part of a plan (migbench plan, migbench merge)

Sizes are written like 256MiB, rates like 1Gbit/s, times like 100ms; a bare 1G is refused.";

/// Runs a suite and prints its comparison table.
///
/// SUITE is the name of a suite that comes with migbench (`migbench list suites`) or the path of a TOML file; the format
/// stands in scenarios/FORMAT.md. A record is kept after every run, so an interrupted suite can still be reported.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// A suite's name, or a path that ends in .toml.
    #[arg(required_unless_present_any = ["resume", "plan"])]
    suite: Option<String>,
    /// Run a plan that `migbench plan` has frozen, or a slice of it. In an array of Slurm jobs and in an Indexed Job of Kubernetes
    /// each task takes its slice by itself.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["suite", "set", "filter", "repeat", "time_budget"])]
    plan: Option<PathBuf>,
    /// The slice of the plan that runs here: number N, from 1, of M. Comparisons stay whole.
    // A required argument that conflicts with one that is there is not asked for: hence both rules.
    #[arg(long, value_name = "slice:N/M", requires = "plan", conflicts_with = "suite")]
    partition: Option<Slice>,
    /// The run directory itself, which must not hold records yet; without it results/<UTC time>-<suite>/.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Finish an interrupted run directory: only what is missing runs. Refused where plan, program or host differ. SUITE
    /// and its flags may be left out; if they are there, they must give the plan that was begun.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "time_budget"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// Print what is compared and about how long it takes, run nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    planting: Planting,
}

/// What tests plant.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Planting {
    /// A planted fault, for tests.
    #[arg(long, hide = true)]
    fault: Option<InjectedFault>,
    /// A planted cost, for tests.
    #[arg(long, hide = true, value_name = "[SIDE:]STAGE+COST")]
    plant: Option<Planted>,
    /// Seconds within which to end, with as many repetitions as fit; for `migbench nightly`.
    #[arg(long, hide = true, value_name = "SECONDS")]
    stop_after: Option<u64>,
    #[command(flatten)]
    pub(super) simulate: Simulate,
}

impl Planting {
    /// Nothing but where it runs.
    pub(super) fn only(simulate: &Simulate) -> Self {
        Self { simulate: simulate.clone(), ..Self::default() }
    }
}

/// What is to run.
pub(super) struct Task {
    pub(super) plan: Plan,
    pub(super) suite_text: String,
    pub(super) slice: Option<PlanSlice>,
    /// Passes to make instead of migrations.
    pub(super) passes: Option<TrackOptions>,
}

impl RunArgs {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let (task, resume) = Task::resumed(self.resume.as_deref(), |begun| self.asked(begun))?;
        if task.preview(self.dry_run)? {
            return Ok(Exit::Success);
        }
        if task.slice.is_some() {
            note!("{}", task.extent());
        }
        let directory = self.resume.or(self.output).unwrap_or_else(|| default_directory(&task.plan.suite));
        let rest = advice::finishing("run", &directory);
        finish(task, &directory, resume, &self.planting, rest)
    }

    /// What is asked for; none where a directory alone says it. Of flags alone, what they make of the suite that was begun.
    pub(super) fn asked(&self, begun: Option<&Task>) -> anyhow::Result<Option<Task>> {
        if let Some(path) = &self.plan {
            return Ok(Some(self.frozen(path)?));
        }
        let found = self.suite.as_deref().map(SuiteText::find).transpose()?;
        let again = begun.filter(|_| self.selection.is_given()).map(Task::suite);
        let slice = begun.filter(|_| found.is_none()).and_then(|begun| begun.slice.clone());
        let Some(suite) = found.or(again) else { return Ok(None) };
        Ok(Some(Task { slice, ..Task::whole(self.selection.plan(&suite)?, suite.text) }))
    }

    /// The slice of a frozen plan that is to run here.
    fn frozen(&self, path: &Path) -> anyhow::Result<Task> {
        let frozen = FrozenPlan::read(path, &this_tool())?;
        let chosen = match self.partition {
            Some(slice) => Chosen { slice, by: "--partition".to_owned() },
            None => array::slice(|name| std::env::var(name).ok())?.unwrap_or_else(|| Chosen {
                slice: Slice::WHOLE,
                by: "default: no array of jobs".to_owned(),
            }),
        };
        let slice = PlanSlice { slice: chosen.slice, plan_hash: frozen.hash, chosen_by: chosen.by };
        Ok(Task { slice: Some(slice), ..Task::whole(frozen.plan, frozen.suite_text) })
    }
}

/// What is asked of a directory is not what was begun in it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot be resumed so: its {what} was {was}, and {is} is asked for; leave suite and settings out to finish what was begun, \
     or start anew with another -o", .directory.display()
)]
pub(super) struct OtherPlan {
    directory: PathBuf,
    what: String,
    was: String,
    is: String,
}

impl OtherPlan {
    fn refuse(directory: &Path, begun: &Plan, asked: &Plan) -> Result<(), Self> {
        if begun == asked {
            return Ok(());
        }
        let refused = |what: &str, [was, is]: [String; 2]| {
            Err(Self { directory: directory.to_owned(), what: what.to_owned(), was, is })
        };
        let both = [begun, asked];
        let cells = both.map(|plan| plan.comparisons.iter().flat_map(|c| &c.cells).collect::<Vec<_>>());
        let ids = cells.each_ref().map(|cells| cells.iter().map(|cell| &*cell.id).collect::<Vec<_>>());
        if begun.suite != asked.suite {
            return refused("suite", both.map(|plan| plan.suite.clone()));
        }
        for (was, is) in cells[0].iter().zip(&cells[1]).filter(|(was, is)| was.id == is.id) {
            let (was, is) = (settings::flat(&was.cell), settings::flat(&is.cell));
            if let Some((key, value)) = is.iter().find(|(key, value)| was.get(*key) != Some(value)) {
                let before = was.get(key).cloned().unwrap_or_default();
                return refused(key, [before, value.clone()]);
            }
        }
        if ids[0] != ids[1] {
            return refused("selection of cells", ids.map(|ids| ids.join(", ")));
        }
        if begun.repetitions != asked.repetitions {
            return refused("number of repetitions", both.map(|plan| plan.repetitions.to_string()));
        }
        if begun.seed != asked.seed {
            return refused("seed", both.map(|plan| plan.seed.to_string()));
        }
        refused("plan", both.map(|plan| format!("{} of {} runs", short(&plan.hash), plan.order.len())))
    }
}

/// What a run directory was begun with.
fn begun(directory: &Path) -> anyhow::Result<Task> {
    let manifest = RunData::load_as(directory, Accept::Simulated)?.manifest;
    if let Some(CliCommand::Track(_)) = super::read(manifest.command) {
        let directory = shell::path(directory);
        return Err(UsageError(format!(
            "{directory} is of `migbench track`: migbench track --resume {directory}"
        ))
        .into());
    }
    let plan = serde_json::from_value(manifest.plan).with_context(|| {
        format!("the plan in {}/manifest.json is not one of this version", directory.display())
    })?;
    Ok(Task { slice: manifest.slice, ..Task::whole(plan, manifest.suite_text) })
}

impl Task {
    /// A whole plan.
    pub(super) fn whole(plan: Plan, suite_text: String) -> Self {
        Self { plan, suite_text, slice: None, passes: None }
    }

    /// The suite of what was begun.
    pub(super) fn suite(&self) -> SuiteText {
        SuiteText {
            origin: format!("the suite {} that was begun", self.plan.suite),
            text: self.suite_text.clone(),
        }
    }

    /// What is asked for, or what was begun in the directory to be resumed, and whether it is resumed.
    ///
    /// # Errors
    /// [`OtherPlan`] where both are there and are not the same.
    pub(super) fn resumed(
        directory: Option<&Path>,
        asked: impl Fn(Option<&Self>) -> anyhow::Result<Option<Self>>,
    ) -> anyhow::Result<(Self, bool)> {
        let begun = directory.map(begun).transpose()?;
        match (asked(begun.as_ref())?, begun, directory) {
            (Some(asked), Some(begun), Some(directory)) => {
                OtherPlan::refuse(directory, &begun.plan, &asked.plan)?;
                // That nothing else differs is checked against the directory.
                Ok((Self { suite_text: begun.suite_text, ..asked }, true))
            }
            (None, Some(begun), _) => Ok((begun, true)),
            (Some(asked), _, _) => Ok((asked, false)),
            (None, None, _) => {
                anyhow::bail!("name a suite, a plan with --plan, or a directory with --resume")
            }
        }
    }

    /// Warns of what cannot end well; says whether that is all, since only the plan was wanted, which is then printed.
    pub(super) fn preview(&self, dry_run: bool) -> anyhow::Result<bool> {
        for warning in self.outlasted() {
            note!("warning: {warning}");
        }
        if dry_run {
            print(&format!("{}{}", self.describe(), self.refusals()))?;
        }
        Ok(dry_run)
    }

    /// Whether its cells are on two sides.
    pub(super) fn sided(&self) -> bool {
        self.cells().any(|planned| planned.cell.side.is_some())
    }

    /// The part of the plan that runs here.
    fn part(&self) -> Slice {
        self.slice.as_ref().map_or(Slice::WHOLE, |here| here.slice)
    }

    /// The cells that run here.
    fn cells(&self) -> impl Iterator<Item = &PlannedCell> {
        self.plan.comparisons_of(self.part()).into_iter().flat_map(|comparison| &comparison.cells)
    }

    /// Cells that cannot but be capped, a sentence each.
    fn outlasted(&self) -> Vec<String> {
        let sentence = |cell: &PlannedCell| {
            let first = estimate::outlasted(&cell.cell)?;
            Some(format!(
                "{}: its first round alone takes about {:.0} s, longer than stop.max_time {}: every run will be capped; \
                 raise stop.max_time or link.rate, or lower memory",
                cell.id, first.0, cell.cell.stop.max_time
            ))
        };
        self.cells().filter_map(sentence).collect()
    }

    /// How much of what runs here, a line.
    fn extent(&self) -> String {
        let plan = &self.plan;
        let runs = plan.runs_of(self.part());
        // An empty sum of floats is -0.
        let seconds = runs.iter().fold(0.0, |seconds, (_, run)| seconds + plan.time(run).0);
        let (minutes, all) = (seconds / 60.0, plan.estimate().0 / 60.0);
        match &self.slice {
            Some(here) => format!(
                "slice {} of plan {} ({}), chosen by {}: {} of {} comparisons, {} of {} runs, about {minutes:.1} of \
                 {all:.1} minutes",
                here.slice,
                short(&here.plan_hash),
                plan.suite,
                here.chosen_by,
                plan.comparisons_of(here.slice).len(),
                plan.comparisons.len(),
                runs.len(),
                plan.order.len()
            ),
            None => format!(
                "{}: {} runs of {} cells, {} timed repetitions, about {minutes:.1} minutes, plan {}",
                plan.suite,
                runs.len(),
                self.cells().count(),
                plan.repetitions,
                short(&plan.hash)
            ),
        }
    }

    /// Its comparisons, each with what is compared and its rows.
    fn describe(&self) -> String {
        use std::fmt::Write;
        let mut text = self.extent() + "\n";
        for comparison in self.plan.comparisons_of(self.part()) {
            let row = |(index, planned): (usize, &PlannedCell)| {
                let baseline = if comparison.baseline == Some(index) { " (baseline)" } else { "" };
                format!("{}{baseline}", planned.label)
            };
            let rows: Vec<_> = comparison.cells.iter().enumerate().map(row).collect();
            let _ = writeln!(text, "  {}: {} {}", comparison.name, comparison.compare, rows.join(", "));
        }
        text
    }

    /// The cells that this host, as it is now, would refuse or skip, by reason.
    fn refusals(&self) -> String {
        use std::fmt::Write;
        let mut by_reason: BTreeMap<(bool, String), Vec<&str>> = BTreeMap::new();
        for cell in self.cells() {
            if let Err(refusal) = admit(&cell.cell) {
                by_reason.entry((cell.optional, refusal.reason())).or_default().push(&cell.id);
            }
        }
        let mut text = String::new();
        for ((optional, reason), cells) in by_reason {
            let what = if optional { "would be left out" } else { "would refuse the suite" };
            let _ = writeln!(text, "not available here: {reason}\n      {what}: {}", cells.join(", "));
        }
        text
    }
}

/// `results/<UTC time>-<suite>`.
pub fn default_directory(suite: &str) -> PathBuf {
    let time: String = now_utc().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    Path::new("results").join(format!("{time}-{suite}"))
}

/// Runs the plan and prints the report. `rest` is the command that makes what an interruption leaves.
pub(super) fn finish(
    task: Task,
    directory: &Path,
    resume: bool,
    planting: &Planting,
    rest: String,
) -> anyhow::Result<Exit> {
    let (failed, report) = run_task(task, directory, resume, planting, rest)?;
    let kept = keep(&report, directory);
    print(&report.brief(width()))?;
    for text in leads_on(&report.manifest).into_iter().chain(planting.simulate.errors(directory)?) {
        print(&text)?;
    }
    print(&kept?)?;
    Ok(if failed == 0 && report.sound() { Exit::Success } else { Exit::Failure })
}

/// Where a first look at our engines leads on to: those of other VMMs that are here, and other limits.
fn leads_on(manifest: &Manifest) -> Vec<String> {
    if manifest.suite != "quick" || manifest.backend != Backend::Kvm {
        return Vec::new();
    }
    let found = peer::found().into_iter().filter(|(_, found)| found.is_ok());
    let here: Vec<_> = found.map(|(name, _)| name).collect();
    let beside =
        format!("`migbench run peers-quick` puts {} beside these engines, in five minutes.", here.join(", "));
    let limits =
        "`migbench run frontier` draws what a shorter pause costs each, in twenty-five minutes.".to_owned();
    (!here.is_empty()).then_some(beside).into_iter().chain([limits]).collect()
}

/// Runs the plan and reads the report. Gives how many runs failed. `rest` is the command that makes what an interruption leaves.
pub(super) fn run_task(
    task: Task,
    directory: &Path,
    resume: bool,
    planting: &Planting,
    rest: String,
) -> anyhow::Result<(usize, Report)> {
    interrupt::catch()?;
    let mut testbed = planting.simulate.testbed()?;
    let job = Job {
        plan: task.plan,
        slice: task.slice,
        suite_text: task.suite_text,
        directory: directory.to_owned(),
        resume,
        command: super::words(),
        rest,
        fault: planting.fault,
        planted: planting.plant,
        passes: task.passes,
        time_limit: planting.stop_after.map(Duration::from_secs),
        binary: std::env::current_exe().context("cannot find this program's own file")?,
    };
    let mut progress = ProgressPrinter::new(&job);
    let outcome = run_plan(&job, testbed.as_mut(), planting.simulate.listener(&mut progress)?.as_mut());
    progress.finish();
    let failed = outcome?;
    let report = planting.simulate.reading().report(directory)?;
    Ok((failed, report))
}

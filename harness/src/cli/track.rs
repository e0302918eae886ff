//! `migbench track`: dirty logging alone, tracker beside tracker.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use migbench_reports::store::{Accept, RunData};
use migbench_scenarios::cell::Tracker;
use migbench_scenarios::{Assignment, Overrides, Place, RunKind, Suite, SuiteError};

use super::run::{self, Planting, Task, default_directory};
use super::simulate::Simulate;
use super::{CliCommand, Exit, UsageError, advice};
use crate::track::TrackOptions;

const EXAMPLES: &str = "\
Examples:
  migbench track --memory 1GiB --working-set 256MiB
  migbench track --tracker kvm-bitmap,kvm-ring --vcpus 2 --overlap --random
  migbench track --scaling --repeat 3
  migbench track --resume results/mine            the rest of an interrupted one

Sizes are written like 256MiB; a bare 1G is refused.";

/// Guest memory and working sets of `--scaling`. In each row one of them is fixed; 504 MiB is what 512 MiB leave.
const SCALING: [(&str, &str); 2] =
    [("256MiB,1GiB,4GiB,8GiB", "64MiB"), ("512MiB", "5MiB,50MiB,250MiB,504MiB")];

/// Measures dirty logging alone, without a migration, and compares trackers.
///
/// The guest goes over its memory in passes as memstress of the kernel's selftests does, and the host harvests after
/// each, as dirty_log_perf_test does: so the figures can be laid beside its own. Lists of sizes make a table for each,
/// and with several of them the report fits what a tracker costs per GiB tracked and per dirty page.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Track {
    /// Trackers to compare, with commas; the first one is the baseline. All that this host has when left out.
    #[arg(long, value_name = "NAMES")]
    tracker: Option<String>,
    /// Guest memory, such as 1GiB; several with commas.
    #[arg(long, default_value = "1GiB", value_name = "SIZES")]
    memory: String,
    /// Memory that a pass goes over; several with commas.
    #[arg(long, default_value = "256MiB", value_name = "SIZES")]
    working_set: String,
    /// Instead of one size, those that tell what a tracker costs per GiB and per dirty page: guests of 256 MiB to 8 GiB
    /// that write 64 MiB, and a guest of 512 MiB that writes 1 % to 98 % of it (all that its program leaves).
    #[arg(long, conflicts_with_all = ["memory", "working_set"])]
    scaling: bool,
    /// Virtual CPUs.
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// Logged passes of one run.
    #[arg(long, default_value_t = 5)]
    passes: u32,
    /// Share of accesses that write, in percent.
    #[arg(long, default_value_t = 100.0, value_name = "PERCENT")]
    writes: f64,
    /// Choose pages at random instead of in order.
    #[arg(long)]
    random: bool,
    /// Every vCPU goes over the whole working set instead of its own part.
    #[arg(long)]
    overlap: bool,
    /// Let the guest run on while the host harvests, instead of in lock-step.
    #[arg(long)]
    free: bool,
    /// Seed of order and writes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs of each tracker.
    #[arg(long, default_value_t = 5)]
    repeat: u32,
    /// Any other parameter; `migbench list keys`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run directory; without it results/<UTC time>-track/.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Finish an interrupted run directory: only what is missing runs, with the flags that it was begun with.
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "tracker", "memory", "working_set", "scaling", "vcpus", "passes", "writes", "random", "overlap", "free", "seed",
        "repeat", "set", "output",
    ])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    simulate: Simulate,
}

impl Track {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let begun = self.resume.as_deref().map(Self::begun).transpose()?;
        let task = begun.as_ref().unwrap_or(&self).task()?;
        let resume = self.resume.is_some();
        let directory = self.resume.or(self.output).unwrap_or_else(|| default_directory("track"));
        let rest = advice::finishing("track", &directory);
        run::finish(task, &directory, resume, &Planting::only(&self.simulate), rest)
    }

    /// What an interrupted directory was begun with: passes are no part of a plan.
    fn begun(directory: &Path) -> anyhow::Result<Self> {
        let command = RunData::load_as(directory, Accept::Simulated)?.manifest.command;
        match super::read(command) {
            Some(CliCommand::Track(begun)) => Ok(begun),
            _ => Err(UsageError(format!(
                "{} was not begun by `migbench track`; of a suite, `migbench run --resume` makes the rest",
                directory.display()
            ))
            .into()),
        }
    }

    fn task(&self) -> anyhow::Result<Task> {
        let text = self.suite_text();
        let mut suite = Suite::parse(&text, "migbench track")?;
        let set = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<_, _>>()?;
        suite.apply(&Overrides { set, ..Overrides::default() })?;
        let mut plan = suite.expand()?;
        let mut cells = plan.comparisons.iter().flat_map(|comparison| &comparison.cells);
        if cells.any(|planned| planned.cell.binary.is_some()) {
            let what =
                "track works in its own process and starts no nodes: run the other build's own `track`";
            return Err(SuiteError::empty(&Place::argument("--set binary"), what.to_owned()).into());
        }
        plan.order.retain(|run| run.kind == RunKind::Timed);
        let passes = TrackOptions { passes: self.passes, lock_step: !self.free, overlap: self.overlap };
        Ok(Task { passes: Some(passes), ..Task::whole(plan, text) })
    }

    /// The suite that these flags stand for.
    fn suite_text(&self) -> String {
        let all = || Tracker::ALL.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(",");
        let list = |text: &str| {
            text.split(',').map(|item| format!("\"{}\"", item.trim())).collect::<Vec<_>>().join(", ")
        };
        let trackers = self.tracker.clone().unwrap_or_else(all);
        let baseline = trackers.split(',').next().unwrap_or("").trim().to_owned();
        let mut text = String::new();
        let _ = write!(
            text,
            "name = \"track\"\ndescription = \"dirty logging alone\"\nrepetitions = {}\nseed = {}\n\
             [defaults]\nworkload = \"passes\"\nengine = \"track-only\"\nvcpus = {}\n\
             [workload.passes]\nbase = \"write-heavy\"\nreads = {}\npattern = \"{}\"\nload = \"flat-out\"\n\
             content = \"same\"\nfill = {{ zero = 1.0, random = 0.0, text = 0.0 }}\n",
            self.repeat,
            self.seed,
            self.vcpus,
            1.0 - self.writes / 100.0,
            if self.random { "uniform" } else { "sequential" },
        );
        let one = [(self.memory.as_str(), self.working_set.as_str())];
        for (memory, working_set) in if self.scaling { &SCALING[..] } else { &one } {
            let _ = write!(
                text,
                "[[comparison]]\naxes = {{ tracker = [{}], memory = [{}], settings.working_set = [{}] }}\n\
                 compare = \"tracker\"\nbaseline = \"{baseline}\"\noptional = true\n",
                list(&trackers),
                list(memory),
                list(working_set),
            );
        }
        text
    }
}

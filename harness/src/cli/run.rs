//! `migbench run`: a suite, from plan to report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use migbench_reports::report::Report;
use migbench_scenarios::{Assignment, Overrides, Plan, Suite, shipped};

use super::progress::Progress;
use super::{Exit, print, width};
use crate::node::fault::Fault;
use crate::runner::admission::admit;
use crate::runner::suite::{Job, work};
use crate::runner::{interrupt, now_utc};

const EXAMPLES: &str = "\
Examples:
  migbench run quick --dry-run                     what would run, and about how long
  migbench run quick --repeat 1 -o results/first   each cell once, besides its verification run
  migbench run quick --filter write-heavy --set link.rate=500Mbit/s
  migbench run quick --set memory=128MiB,256MiB    both sizes, as comparisons of their own
  migbench run mine.toml

Sizes are written like 256MiB, rates like 1Gbit/s, times like 100ms; a bare 1G is refused.";

/// Runs a suite and prints its comparison table.
///
/// SUITE is the name of a suite that comes with migbench (`migbench list suites`) or the path of a TOML file; the format
/// stands in scenarios/FORMAT.md. A record is kept after every run, so an interrupted suite can still be reported.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// A suite's name, or a path that ends in .toml.
    suite: String,
    /// The run directory itself, which must not hold records yet; without it results/<UTC time>-<suite>/.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Timed repetitions of each cell, in place of the suite's; the verification run of each cell comes on top.
    #[arg(long, value_name = "N")]
    repeat: Option<u32>,
    /// Only cells whose id matches, such as write-heavy/delta; --dry-run shows all ids.
    #[arg(long, value_name = "REGEX")]
    filter: Option<String>,
    /// Sets a parameter of all cells, with its unit; may be repeated. Several values separated by commas make an axis.
    /// `migbench list keys` names the keys.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the plan and about how long it takes, run nothing.
    #[arg(long)]
    dry_run: bool,
    /// A planted fault, for tests.
    #[arg(long, hide = true)]
    fault: Option<Fault>,
}

impl Run {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let mut suite = Suite::find(&self.suite)?;
        let set = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<_, _>>()?;
        suite.apply(&Overrides { set, repeat: self.repeat, seed: None, filter: self.filter.clone() })?;
        let plan = suite.expand()?;
        if self.dry_run {
            print(&format!("{}{}", describe(&plan), refusals(&plan)))?;
            return Ok(Exit::Success);
        }
        let suite_text = text_of(&self.suite)?;
        let directory = self.output.unwrap_or_else(|| default_directory(&plan.suite));
        finish(plan, suite_text, directory, self.fault)
    }
}

/// `results/<UTC time>-<suite>`.
pub fn default_directory(suite: &str) -> PathBuf {
    let time: String = now_utc().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    Path::new("results").join(format!("{time}-{suite}"))
}

fn text_of(suite: &str) -> anyhow::Result<String> {
    match shipped::SHIPPED.iter().find(|(name, _)| *name == suite) {
        Some((_, text)) => Ok((*text).to_owned()),
        None => std::fs::read_to_string(suite).with_context(|| format!("cannot read {suite}")),
    }
}

/// Works the plan off and prints the report.
fn finish(plan: Plan, suite_text: String, directory: PathBuf, fault: Option<Fault>) -> anyhow::Result<Exit> {
    interrupt::catch()?;
    let kvm = crate::doctor::open_kvm(Path::new("/dev/kvm"))?;
    drop(kvm);
    let mut progress = Progress::new(&plan);
    let job = Job {
        plan,
        suite_text,
        directory: directory.clone(),
        command: std::env::args().collect(),
        fault,
        binary: std::env::current_exe().context("cannot find this program's own file")?,
    };
    let outcome = work(&job, &mut progress);
    progress.finish();
    let failed = outcome?;
    let report = Report::load(&directory)?;
    std::fs::write(directory.join("report.md"), report.markdown())
        .with_context(|| format!("cannot write {}/report.md", directory.display()))?;
    print(&report.terminal(width()))?;
    print(&format!("report: {}/report.md", directory.display()))?;
    Ok(if failed == 0 && report.sound() { Exit::Success } else { Exit::Failure })
}

fn describe(plan: &Plan) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let cells: usize = plan.comparisons.iter().map(|c| c.cells.len()).sum();
    let minutes = plan.estimate().0 / 60.0;
    let _ = writeln!(
        text,
        "{}: {} runs of {cells} cells, {} timed repetitions, about {minutes:.1} minutes, plan {}",
        plan.suite,
        plan.order.len(),
        plan.repetitions,
        &plan.hash[..12.min(plan.hash.len())]
    );
    for (number, run) in plan.order.iter().enumerate() {
        let id = plan.cell(run).map_or("?", |cell| &cell.id);
        let _ = writeln!(text, "{number:>5} repetition {} {:<12} {id}", run.repetition, word(run.kind));
    }
    text
}

/// The cells that this host, as it is now, would refuse or skip, by reason.
fn refusals(plan: &Plan) -> String {
    use std::fmt::Write;
    let mut by_reason: BTreeMap<(bool, String), Vec<&str>> = BTreeMap::new();
    for cell in plan.comparisons.iter().flat_map(|comparison| &comparison.cells) {
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

fn word(kind: migbench_scenarios::plan::Kind) -> &'static str {
    match kind {
        migbench_scenarios::plan::Kind::Timed => "timed",
        migbench_scenarios::plan::Kind::Verification => "verification",
    }
}

//! `migbench run`: a suite, from plan to report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use migbench_reports::report::Report;
use migbench_reports::store::RunData;
use migbench_scenarios::{Assignment, Overrides, Place, Plan, Suite, SuiteError, estimate, shipped};

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
  migbench run quick --time-budget 10m             as many repetitions as fit
  migbench run --resume results/first              the rest of an interrupted suite

Sizes are written like 256MiB, rates like 1Gbit/s, times like 100ms; a bare 1G is refused.";

/// Runs a suite and prints its comparison table.
///
/// SUITE is the name of a suite that comes with migbench (`migbench list suites`) or the path of a TOML file; the format
/// stands in scenarios/FORMAT.md. A record is kept after every run, so an interrupted suite can still be reported.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// A suite's name, or a path that ends in .toml.
    #[arg(required_unless_present = "resume")]
    suite: Option<String>,
    /// The run directory itself, which must not hold records yet; without it results/<UTC time>-<suite>/.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Finish an interrupted run directory: only what is missing runs. Refused where plan, program or host differ. SUITE
    /// and its flags may be left out; if they are there, they must give the plan that was begun.
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    resume: Option<PathBuf>,
    /// Choose as many timed repetitions of each cell as fit into this time, such as 10m or 1h30m.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["repeat", "resume"])]
    time_budget: Option<humantime::Duration>,
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
        let asked = self.suite.as_deref().map(|name| self.planned(name)).transpose()?;
        let begun = self.resume.as_deref().map(begun).transpose()?;
        let resume = begun.is_some();
        let (plan, suite_text) = match (asked, begun) {
            // What was begun counts; that it is what is asked for is checked against its directory.
            (Some((plan, _)), Some((_, text))) => (plan, text),
            (Some(planned), None) | (None, Some(planned)) => planned,
            (None, None) => anyhow::bail!("name a suite, or a directory with --resume"),
        };
        for warning in outlasted(&plan) {
            eprintln!("warning: {warning}");
        }
        if self.dry_run {
            print(&format!("{}{}", describe(&plan), refusals(&plan)))?;
            return Ok(Exit::Success);
        }
        let directory = self.resume.or(self.output).unwrap_or_else(|| default_directory(&plan.suite));
        finish(plan, suite_text, directory, resume, self.fault)
    }

    /// The plan of the suite called `name`, with these flags, and its text.
    fn planned(&self, name: &str) -> anyhow::Result<(Plan, String)> {
        let of = |repeat| -> anyhow::Result<Plan> {
            let mut suite = Suite::find(name)?;
            let set = self.set.iter().map(|text| Assignment::parse(text)).collect::<Result<_, _>>()?;
            suite.apply(&Overrides { set, repeat, seed: None, filter: self.filter.clone() })?;
            Ok(suite.expand()?)
        };
        let Some(budget) = self.time_budget else { return Ok((of(self.repeat)?, text_of(name)?)) };
        let repeat = fitting(budget, of(Some(1))?.estimate().0, of(Some(2))?.estimate().0)?;
        let plan = of(Some(repeat))?;
        eprintln!(
            "time budget {budget}: {repeat} timed repetitions of each cell, about {:.1} minutes",
            plan.estimate().0 / 60.0
        );
        Ok((plan, text_of(name)?))
    }
}

/// How many repetitions fit into `budget`, when one takes `one` seconds and two take `two`.
fn fitting(budget: humantime::Duration, one: f64, two: f64) -> Result<u32, SuiteError> {
    let each = (two - one).max(f64::MIN_POSITIVE);
    let seconds = budget.as_secs_f64();
    if one > seconds {
        let place = Place::argument(&format!("--time-budget {budget}"));
        let what = format!(
            "one repetition takes about {:.1} minutes; allow that much, or leave cells out with --filter",
            one / 60.0
        );
        return Err(SuiteError::empty(&place, what));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "brought into range")]
    Ok((1.0 + (seconds - one) / each).clamp(1.0, 10_000.0) as u32)
}

/// Plan and suite text of a run directory.
fn begun(directory: &Path) -> anyhow::Result<(Plan, String)> {
    let manifest = RunData::load(directory)?.manifest;
    let plan = serde_json::from_value(manifest.plan).with_context(|| {
        format!("the plan in {}/manifest.json is not one of this version", directory.display())
    })?;
    Ok((plan, manifest.suite_text))
}

/// Cells that cannot but be capped, a sentence each.
fn outlasted(plan: &Plan) -> Vec<String> {
    let cells = plan.comparisons.iter().flat_map(|comparison| &comparison.cells);
    cells
        .filter_map(|cell| {
            let first = estimate::outlasted(&cell.cell)?;
            Some(format!(
                "{}: its first round alone takes about {:.0} s, longer than stop.max_time {}: every run will be capped; \
                 raise stop.max_time or link.rate, or lower memory",
                cell.id, first.0, cell.cell.stop.max_time
            ))
        })
        .collect()
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
fn finish(
    plan: Plan,
    suite_text: String,
    directory: PathBuf,
    resume: bool,
    fault: Option<Fault>,
) -> anyhow::Result<Exit> {
    interrupt::catch()?;
    let kvm = crate::doctor::open_kvm(Path::new("/dev/kvm"))?;
    drop(kvm);
    let mut progress = Progress::new(&plan);
    let job = Job {
        plan,
        suite_text,
        directory: directory.clone(),
        resume,
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
    print(&report.brief(width()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_repetitions_as_fit() {
        let of = |text: &str, one, two| fitting(text.parse().unwrap(), one, two).map_err(|e| e.to_string());
        assert_eq!(of("1m", 20.0, 30.0), Ok(5));
        assert_eq!(of("20s", 20.0, 30.0), Ok(1));
        let refused = of("19s", 20.0, 30.0).unwrap_err();
        assert!(
            refused.starts_with("--time-budget 19s: ") && refused.contains("one repetition"),
            "{refused}"
        );
    }
}

//! `migbench reproduce`: a publication's figures laid beside ours.

use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use migbench_reports::replace::replace;
use migbench_reports::reproduce::{self, Reproduction, ReproductionPage};
use migbench_reports::store::MANIFEST;
use migbench_scenarios::claims::ClaimedSuite;
use migbench_scenarios::{Claims, Overrides, Plan, Suite};

use super::advice::Typed;
use super::reading::Reading;
use super::simulate::Simulate;
use super::{Exit, print, run, width};

const EXAMPLES: &str = "\
Examples:
  migbench reproduce bhardwaj2019                  what it leaves open, then four minutes of runs, then the table
  migbench reproduce bhardwaj2019 --dry-run        what it leaves open, and what would run
  migbench reproduce bhardwaj2019 --from results/paper
                                                   the table from records, also without KVM
  migbench reproduce bhardwaj2019 --sensitivity -o results/bhardwaj
                                                   also vary what it does not state, one factor at a time
  migbench reproduce mine/claims.toml              claims of your own; the format stands in scenarios/papers/FORMAT.md

`migbench list papers` names those that come with migbench.";

/// Lays a publication's figures beside ours, and beside what could be reached at most.
///
/// Says first what the publication does not state, what was chosen instead and why. Then it runs the suites that its claims
/// name, each into a directory of its own under the output directory, and prints for each claim the published figure, ours
/// with its spread, what could be reached, and a verdict. An unknown set-up cannot be reproduced, and no verdict says so.
///
/// The output directory holds reproduce.md, reproduce.json and claims.toml. Called again with the same -o it finishes what was
/// interrupted. The exit status is 1 when a run failed or a proof did, 3 when a claim has no run that could decide it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Reproduce {
    /// A paper's name, or the path of a claims.toml.
    paper: String,
    /// The output directory; without it results/<UTC time>-reproduce-<name>/, and with --from none.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Run nothing, and take records from this run directory, or from the run directories in it; may be repeated.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["repeat", "dry_run"])]
    from: Vec<PathBuf>,
    /// Also run the suite that varies what the publication does not state; with --from, require its records.
    #[arg(long)]
    sensitivity: bool,
    /// Timed repetitions of each cell, in place of the suites'.
    #[arg(long, value_name = "N")]
    repeat: Option<u32>,
    /// Print what is not stated and what would run, run nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    simulate: Simulate,
    #[command(flatten)]
    reading: Reading,
}

impl Reproduce {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let claims = Claims::find(&self.paper, &reproduce::metrics())?;
        if self.sensitivity && claims.sensitivity.is_none() {
            let place = migbench_scenarios::Place::argument("--sensitivity");
            let what = format!("{} has no [sensitivity], so there is nothing to vary", claims.name);
            return Err(migbench_scenarios::SuiteError::empty(&place, what).into());
        }
        // Before any result, and before the time that a result takes.
        print(&reproduce::terminal(&ReproductionPage::before(&claims), width()))?;
        let suites = self.suites(&claims);
        if self.dry_run {
            print(&format!("\n{}", self.describe(&suites)?))?;
            return Ok(Exit::Success);
        }
        let (data, output) = if self.from.is_empty() {
            let default = || run::default_directory(&format!("reproduce-{}", claims.name));
            let output = self.output.clone().unwrap_or_else(default);
            for suite in suites {
                self.run(suite, &output)?;
            }
            (
                reproduce::gather(std::slice::from_ref(&output), self.simulate.reading().accept())?,
                Some(output),
            )
        } else {
            (reproduce::gather(&self.from, self.reading.accept())?, self.output.clone())
        };
        let found = Reproduction::of(&claims, &data);
        print(&format!("\n{}", reproduce::terminal(&ReproductionPage::results(&claims, &found), width())))?;
        if let Some(output) = &output {
            write(output, &claims, &found)?;
        }
        let sensitivity_missing = self.sensitivity && found.sensitivity.is_none();
        if sensitivity_missing {
            note!("error: no record of the suite that varies what is not stated in what --from names");
        }
        Ok(match found.sound() {
            false => Exit::Failure,
            true if found.lacks_evidence() || sensitivity_missing => Exit::TooLittle,
            true => Exit::Success,
        })
    }

    /// What is to run: the suites of the claims, and the one that varies where it is asked for.
    fn suites<'c>(&self, claims: &'c Claims) -> Vec<&'c ClaimedSuite> {
        let mut suites: Vec<_> = claims.claimed().collect();
        let varies = claims.sensitivity.as_ref().filter(|_| self.sensitivity);
        let varies = varies.and_then(|sensitivity| claims.suite(&sensitivity.command));
        suites.extend(varies.filter(|suite| !suites.iter().any(|other| other.reference == suite.reference)));
        suites
    }

    fn plan(&self, suite: &ClaimedSuite) -> anyhow::Result<Plan> {
        let mut read = Suite::find(&suite.reference)?;
        read.apply(&Overrides { repeat: self.repeat, ..Overrides::default() })?;
        Ok(read.expand()?)
    }

    fn describe(&self, suites: &[&ClaimedSuite]) -> anyhow::Result<String> {
        let lines = suites.iter().map(|suite| {
            let plan = self.plan(suite)?;
            let minutes = plan.estimate().0 / 60.0;
            Ok(format!("{}: {} runs, about {minutes:.1} minutes\n", plan.suite, plan.order.len()))
        });
        Ok(format!("What would run:\n{}", lines.collect::<anyhow::Result<String>>()?))
    }

    /// Runs a suite into its directory under `output`, or what is left of it.
    fn run(&self, suite: &ClaimedSuite, output: &Path) -> anyhow::Result<()> {
        let plan = self.plan(suite)?;
        let directory = output.join(&plan.suite);
        let begun = directory.join(MANIFEST).is_file();
        if begun {
            let data = self.simulate.reading().data(&directory)?;
            if data.records.len() >= usize::try_from(data.manifest.planned_runs)? {
                return Ok(());
            }
        }
        // Failed runs are records, and the page lists them.
        let task = run::Task::whole(plan, suite.text.clone());
        let again = || Some(Typed::now()?.set("output", output.display().to_string()).text());
        let rest = again().unwrap_or_else(|| "migbench reproduce".to_owned());
        run::finish(task, &directory, begun, &run::Planting::only(&self.simulate), rest).map(drop)
    }
}

fn write(output: &Path, claims: &Claims, found: &Reproduction) -> anyhow::Result<()> {
    std::fs::create_dir_all(output)
        .with_context(|| format!("can't make {}; name another directory with -o", output.display()))?;
    let page = reproduce::markdown(&ReproductionPage::whole(claims, found));
    let json = serde_json::to_string_pretty(found)? + "\n";
    for (name, text) in [("reproduce.md", &page), ("reproduce.json", &json), ("claims.toml", &claims.text)] {
        let path = output.join(name);
        replace(&path, text.as_bytes())
            .with_context(|| format!("can't write {}; name another directory with -o", path.display()))?;
    }
    for suite in &claims.suites {
        copy(output, suite)?;
    }
    print(&format!("page: {}/reproduce.md", output.display()))
}

/// Keeps a suite that lies beside the claims, so that the copy of the claims finds it too.
fn copy(output: &Path, suite: &ClaimedSuite) -> anyhow::Result<()> {
    if suite.reference == suite.named && !suite.named.ends_with(".toml") {
        return Ok(());
    }
    let named = Path::new(&suite.named);
    if !named.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        note!("warning: {} is not beside the claims: the copy of the claims will not find it", suite.named);
        return Ok(());
    }
    let path = output.join(named);
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    written
        .and_then(|()| replace(&path, suite.text.as_bytes()))
        .with_context(|| format!("can't write {}; name another directory with -o", path.display()))
}

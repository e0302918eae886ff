//! `migbench plan`: a suite, frozen for many machines.

use std::path::PathBuf;

use migbench_scenarios::frozen::{FrozenPlan, short};
use migbench_scenarios::{Plan, Slice};

use super::selection::{Selection, SuiteText};
use super::{Exit, print};
use crate::host::provenance::this_tool;

const EXAMPLES: &str = "\
Examples:
  migbench plan nightly -o plan.json                                   on one machine
  migbench run --plan plan.json --partition slice:1/2 -o slices/1      on the first
  migbench run --plan plan.json --partition slice:2/2 -o slices/2      on the second
  migbench merge slices/1 slices/2 -o results/nightly                  on any

In an array of Slurm jobs and in an Indexed Job of Kubernetes each task takes its slice by itself: scripts/slurm and
scripts/kubernetes have both ready.";

/// Freezes a suite into a plan that many machines share.
///
/// The file holds cells, order, seeds, the build of migbench, and a hash of it all. `run --plan FILE --partition slice:N/M` runs
/// a part, `merge` puts the parts together. Reads no host and needs no KVM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Freeze {
    /// A suite's name, or a path that ends in .toml.
    suite: String,
    /// The file to make; an existing one is never overwritten.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    selection: Selection,
}

impl Freeze {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let suite = SuiteText::find(&self.suite)?;
        let frozen = FrozenPlan::new(self.selection.plan(&suite)?, suite.text, this_tool());
        frozen.write(&self.output)?;
        let plan = &frozen.plan;
        print(&format!(
            "{}: {} runs of {} comparisons, about {:.1} minutes, plan {}\n{}\nplan: {}",
            plan.suite,
            plan.order.len(),
            plan.comparisons.len(),
            plan.estimate().0 / 60.0,
            short(&frozen.hash),
            worth(plan),
            self.output.display()
        ))?;
        Ok(Exit::Success)
    }
}

/// Up to how many slices there is something to gain.
fn worth(plan: &Plan) -> String {
    let most = u32::try_from(plan.comparisons.len()).unwrap_or(u32::MAX);
    let minutes = |of| {
        let time = |slice| plan.runs_of(slice).iter().map(|(_, run)| plan.time(run).0).sum::<f64>();
        Slice::all(of).map(time).fold(0.0, f64::max) / 60.0
    };
    let least = minutes(most);
    // The first number of slices of which the longest is no longer than the longest comparison.
    let enough = (1..=most).find(|&of| minutes(of) <= least * (1.0 + 1e-9)).unwrap_or(most);
    format!("more than {enough} slices gain nothing: the longest comparison takes about {least:.1} minutes")
}

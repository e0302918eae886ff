//! `migbench compare`: two run directories, cell by cell.

use std::path::PathBuf;

use migbench_reports::judge::compare::Changes;
use migbench_reports::judge::{Allowed, Measurement};
use migbench_reports::metric::MetricKey;

use super::reading::Reading;
use super::{Exit, UsageError, print};

/// Compares two run directories cell by cell: ratio, interval and change of every metric.
///
/// Each ratio has an interval of its own, which is not adjusted for the others. Whether it changed is said by one permutation
/// test of all ratios together, adjusted for each other: of those that did not change, one is called changed in 5 % of
/// comparisons at most. That informs and does not decide; `migbench gate` does. Directories of different plans or classes
/// of hosts are refused (exit status 5), unless you allow it; of different schemas of records, always.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  migbench compare results/monday results/tuesday
  migbench compare results/monday results/tuesday --metric total_time,encode_time
  migbench compare results/here results/there --different-hosts")]
pub struct Compare {
    /// The run directory that is the base.
    base: PathBuf,
    /// The run directory that is laid beside it.
    new: PathBuf,
    /// Metrics in place of those of the report's tables, separated by commas; names as in reports/METRICS.md.
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metric: Vec<String>,
    /// Compare the cells that both plans have, though the plans differ.
    #[arg(long)]
    different_plans: bool,
    /// Compare though CPU, kernel, memory or KVM differ.
    #[arg(long)]
    different_hosts: bool,
    #[command(flatten)]
    reading: Reading,
}

impl Compare {
    pub fn execute(self) -> anyhow::Result<Exit> {
        let metrics = self.metric.iter().map(|name| metric(name)).collect::<anyhow::Result<Vec<_>>>()?;
        let (base, new) = (self.reading.data(&self.base)?, self.reading.data(&self.new)?);
        let allowed =
            Allowed { different_plans: self.different_plans, different_hosts: self.different_hosts };
        let measurement = Measurement::of_two(&base, &new, allowed)?;
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

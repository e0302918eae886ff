//! The runs behind a claim: a comparison of a suite, found among run directories, and what is taken from its runs.

use std::path::Path;

use migbench_scenarios::cell::Engine;
use migbench_scenarios::plan::Plan;

use super::Estimate;
use crate::cells::{self, CellRuns, ComparisonRuns};
use crate::measure::{Difference, Measure};
use crate::metric::{self, MetricKey};
use crate::record::Record;
use crate::settings;
use crate::stats::Spread;
use crate::store::RunData;

/// A comparison and its runs.
pub(super) struct ComparisonEvidence<'a> {
    pub data: &'a RunData,
    pub runs: ComparisonRuns<'a>,
    /// Directories that hold runs of it too and were not used.
    pub unused: Vec<&'a Path>,
}

impl<'a> ComparisonEvidence<'a> {
    /// Of the comparison called `name` of a suite. Runs of two directories were not made in the same blocks and are not
    /// mixed: the directory with most of them counts, of equals the later one.
    pub fn find(plan: &Plan, name: &str, data: &'a [RunData]) -> Option<Self> {
        let of_suite = data.iter().filter(|data| data.manifest.suite == plan.suite);
        let mut found: Vec<_> = of_suite
            .filter_map(|data| {
                let (sorted, _) = cells::sort(&data.manifest, &data.records);
                let runs = sorted.into_iter().find(|comparison| comparison.plan.name == name)?;
                let timed: usize =
                    runs.cells.iter().map(|cell| cell.ok.len() + cell.capped.len() + cell.failed.len()).sum();
                Some((timed, data, runs))
            })
            .collect();
        found.sort_by(|a, b| (a.0, &a.1.manifest.started).cmp(&(b.0, &b.1.manifest.started)));
        let (_, data, runs) = found.pop()?;
        let unused = found.iter().filter(|one| one.0 > 0).map(|one| one.1.path.as_path()).collect();
        Some(Self { data, runs, unused })
    }

    /// The cell of a row.
    pub fn row(&self, row: &str) -> Option<&CellRuns<'a>> {
        let id = format!("{}/{row}", self.runs.plan.name);
        let planned = self.runs.plan.cells.iter().find(|planned| planned.id == id)?;
        self.runs.cells.iter().find(|cell| *cell.cell == planned.cell)
    }

    /// How the cells that ran differ from those of the suite as it is now, a phrase each.
    pub fn differences(&self, plan: &Plan) -> Vec<String> {
        let suite = plan.comparisons.iter().find(|comparison| comparison.name == self.runs.plan.name);
        let mut found = Vec::new();
        for ran in &self.runs.plan.cells {
            let planned = suite.and_then(|suite| suite.cells.iter().find(|cell| cell.id == ran.id));
            let Some(planned) = planned else {
                found.push(format!("{} is not in the suite", ran.id));
                continue;
            };
            let (ran_flat, planned) = (settings::flat(&ran.cell), settings::flat(&planned.cell));
            for (path, value) in &ran_flat {
                let there = planned.get(path).map_or("nothing", String::as_str);
                let phrase = format!("{path} {value} (in the suite {there})");
                if there != value && !found.contains(&phrase) {
                    found.push(phrase);
                }
            }
        }
        found
    }
}

/// How much less of a metric a cell takes than the baseline: 1 less the ratio that tables show as a difference, with its interval.
pub(super) fn reduction(baseline: &CellRuns<'_>, cell: &CellRuns<'_>, key: MetricKey) -> Option<Estimate> {
    let measure = Measure::Metric(key);
    let Difference { ratio, spread, .. } = measure.difference(baseline, cell)?;
    let (low, high) = spread.map_or((ratio, ratio), Spread::ends);
    let interval = matches!(spread, Some(Spread::Interval { .. }));
    let samples = measure.pairs(baseline, cell).len();
    Some(Estimate { value: ratio, low, high, samples, interval }.map(|ratio| 1.0 - ratio))
}

/// The most that can be saved of a metric, where something limits it. The first round is sent whole by full-page and
/// delta pre-copy alike: of traffic all but its bytes can be saved, of the total time all but its duration. Downtime
/// has no such limit.
pub(super) fn ceiling(baseline: &CellRuns<'_>, cell: &CellRuns<'_>, key: MetricKey) -> Option<Estimate> {
    if (baseline.cell.engine, cell.cell.engine) != (Engine::Full, Engine::Delta) {
        return None;
    }
    let of_run = |run: &Record| match key {
        MetricKey::Traffic => Some(1.0 - 1.0 / metric::value(&run.metrics, MetricKey::Amplification)?),
        MetricKey::TotalTime => {
            let first = run.rounds.first()?.duration;
            Some(1.0 - first / metric::value(&run.metrics, MetricKey::TotalTime)?)
        }
        _ => None,
    };
    let samples: Option<Vec<f64>> = baseline.ok.iter().map(|run| of_run(run)).collect();
    // Framing alone can make the first round look a little larger than all.
    Some(Estimate::of(&samples?)?.map(|share| share.max(0.0)))
}

/// Ids of runs.
pub(super) fn ids<'r>(runs: impl IntoIterator<Item = &'r &'r Record>) -> Vec<String> {
    runs.into_iter().map(|run| run.run_id.clone()).collect()
}

//! One factor at a time: where published reductions lie to what can be saved, at each point of a suite that varies what a
//! publication does not state.

use std::collections::BTreeSet;

use migbench_scenarios::Claims;
use migbench_scenarios::claims::{self, ClaimTest, Published};
use migbench_scenarios::plan::{Comparison, Plan};
use serde::Serialize;

use super::evidence::{ComparisonEvidence, ceiling, ids, reduction};
use super::{Estimate, Reach};
use crate::metric::MetricKey;
use crate::quantity::count;
use crate::settings;
use crate::store::RunData;

/// A table per metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The suite that varies.
    pub suite: String,
    /// The command that makes its records.
    pub command: String,
    /// The point from which the others differ.
    pub base: String,
    /// One for each metric of a published reduction.
    pub metrics: Vec<Varied>,
}

/// All points, for one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Varied {
    /// Name of the metric.
    pub metric: String,
    /// What tables call it.
    pub label: String,
    /// The published reductions: the id of a claim and its figure.
    pub published: Vec<(String, String)>,
    /// In the order of the suite.
    pub points: Vec<SensitivityPoint>,
    /// For each published reduction a sentence that counts its verdicts.
    pub summary: Vec<String>,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SensitivityPoint {
    /// Name of the comparison.
    pub name: String,
    /// What differs from the base point, from the cells themselves: a key, its value, and the base's.
    pub differs: Vec<(String, String, String)>,
    /// What could be saved at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<Estimate>,
    /// What was saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<Estimate>,
    /// Of each published reduction.
    pub verdicts: Vec<Reach>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Ids of the runs behind it.
    pub runs: Vec<String>,
}

/// `None` where there is no record of the suite.
pub(super) fn vary(
    claims: &Claims,
    wanted: &claims::SensitivitySuite,
    data: &[RunData],
) -> Option<Sensitivity> {
    let plan = &claims.suite(&wanted.command)?.plan;
    data.iter().find(|data| data.manifest.suite == plan.suite)?;
    let reductions = || {
        claims.claims.iter().filter_map(|claim| match &claim.test {
            ClaimTest::Reduction { metric, published } => Some((claim, metric.as_str(), published)),
            _ => None,
        })
    };
    let mut names = Vec::new();
    for (_, name, _) in reductions() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let metrics = names.into_iter().map(|name| {
        let published: Vec<_> = reductions().filter(|(_, of, _)| *of == name).collect();
        let figures: Vec<&Published> = published.iter().map(|(.., figure)| *figure).collect();
        let points: Vec<_> =
            plan.comparisons.iter().map(|one| point(plan, one, wanted, data, name, &figures)).collect();
        let published: Vec<_> =
            published.iter().map(|(claim, _, figure)| (claim.id.clone(), figure.text.clone())).collect();
        Varied {
            metric: name.to_owned(),
            label: MetricKey::find(name).map_or(name, |key| key.definition().label).to_owned(),
            summary: summary(&published, &points),
            published,
            points,
        }
    });
    Some(Sensitivity {
        suite: plan.suite.clone(),
        command: wanted.command.line.clone(),
        base: wanted.base.clone(),
        metrics: metrics.collect(),
    })
}

fn point(
    plan: &Plan,
    comparison: &Comparison,
    wanted: &claims::SensitivitySuite,
    data: &[RunData],
    name: &str,
    published: &[&Published],
) -> SensitivityPoint {
    let mut point = SensitivityPoint {
        name: comparison.name.clone(),
        differs: differs(plan, comparison, wanted),
        most: None,
        ours: None,
        verdicts: vec![Reach::NoEvidence; published.len()],
        missing: None,
        runs: Vec::new(),
    };
    let Some(evidence) = ComparisonEvidence::find(plan, &comparison.name, data) else {
        point.missing = Some("not run".to_owned());
        return point;
    };
    let (Some(baseline), Some(cell), Some(key)) =
        (evidence.runs.baseline(), evidence.row(&wanted.row), MetricKey::find(name))
    else {
        point.missing = Some("baseline or row not run".to_owned());
        return point;
    };
    point.runs = ids(baseline.ok.iter().chain(&baseline.capped).chain(&cell.ok).chain(&cell.capped));
    let (converged, ended) = baseline.converged();
    let skipped = baseline.skipped.or(cell.skipped);
    point.missing = match skipped {
        Some(reason) => Some(format!("not available there: {reason}")),
        None if !evidence.differences(plan).is_empty() => Some("run with other settings".to_owned()),
        None if ended == 0 => Some("no timed run of the baseline ended".to_owned()),
        None if converged < ended => Some(format!("baseline converged {converged}/{ended}")),
        None => None,
    };
    if point.missing.is_none() {
        point.ours = reduction(baseline, cell, key);
        point.most = ceiling(baseline, cell, key);
        let judged = published.iter().map(|figure| Reach::of_reduction(figure, point.most.as_ref()));
        point.verdicts = judged.collect();
        if !cell.capped.is_empty() {
            let (converged, ended) = cell.converged();
            point.missing = Some(format!("{} converged {converged}/{ended}", cell.label));
        }
    }
    point
}

/// Key, value, and value at the base point, of every setting in which a comparison differs from the base point.
fn differs(
    plan: &Plan,
    comparison: &Comparison,
    wanted: &claims::SensitivitySuite,
) -> Vec<(String, String, String)> {
    let base = plan.comparisons.iter().find(|other| other.name == wanted.base);
    let mut found = Vec::new();
    for cell in &comparison.cells {
        let partner = base.and_then(|base| base.cells.iter().find(|other| other.label == cell.label));
        let Some(partner) = partner else { continue };
        let (here, there) = (settings::flat(&cell.cell), settings::flat(&partner.cell));
        for path in here.keys().chain(there.keys()).collect::<BTreeSet<_>>() {
            let of = |flat: &settings::Flat| flat.get(path).cloned().unwrap_or_else(|| "-".to_owned());
            let entry = (path.clone(), of(&here), of(&there));
            if entry.1 != entry.2 && !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    found
}

fn summary(published: &[(String, String)], points: &[SensitivityPoint]) -> Vec<String> {
    let sentence = |(index, (claim, figure)): (usize, &(String, String))| {
        let at = |verdict: Reach| -> Vec<&str> {
            let here = points.iter().filter(|point| point.verdicts.get(index) == Some(&verdict));
            here.map(|point| point.name.as_str()).collect()
        };
        let counted =
            [Reach::Reachable, Reach::Unreachable, Reach::Undecided, Reach::NoBound, Reach::NoEvidence]
                .into_iter()
                .filter_map(|verdict| match (verdict, at(verdict)) {
                    (_, names) if names.is_empty() => None,
                    (Reach::NoBound, names) => Some(format!("no bound at {}", count(names.len(), "point"))),
                    (verdict, names) => {
                        Some(format!("{} at {} ({})", verdict.word(), names.len(), names.join(", ")))
                    }
                });
        format!("{claim}, {figure}: {}", counted.collect::<Vec<_>>().join("; "))
    };
    published.iter().enumerate().map(sentence).collect()
}

//! One claim, tested.

use migbench_scenarios::cell::Cell;
use migbench_scenarios::claims::{Claim, ClaimTest, Published};
use migbench_scenarios::{Claims, Plan};
use migbench_workloads::catalogue;
use serde::Serialize;

use super::evidence::{ComparisonEvidence, ceiling, ids, reduction};
use super::{Estimate, Reach};
use crate::cells::CellRuns;
use crate::metric::{MetricKey, Unit, value};
use crate::quantity::{self, Scale, percent};
use crate::record::Record;
use crate::settings;
use crate::store::RunData;

/// A claim with what our runs say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The claim's id.
    pub claim: String,
    /// The comparison that tests it.
    pub comparison: String,
    /// What the figure is of, in the words of tables.
    pub subject: String,
    /// As published.
    pub published: String,
    /// Ours: a share for a reduction, else in the metric's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<Estimate>,
    /// The most that can be saved; of a value the range of our runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable: Option<Estimate>,
    /// Runs that ended by themselves, and all that reached the destination.
    pub converged: (usize, usize),
    /// How the published figure lies to what can be reached.
    pub verdict: Reach,
    /// What must be known to read it, a sentence each.
    pub remarks: Vec<String>,
    /// The run directory of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Ids of the runs behind it.
    pub runs: Vec<String>,
    /// The command that makes such runs.
    pub command: String,
    /// What the figures are, for their texts.
    #[serde(skip)]
    unit: FigureKind,
}

/// What kind of figure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum FigureKind {
    Share,
    Metric(Unit),
    Convergence,
}

impl Finding {
    fn new(claim: &Claim) -> Self {
        let label = |name: &str| {
            MetricKey::find(name).map_or_else(|| name.to_owned(), |key| key.definition().label.to_owned())
        };
        let unit = |name: &str| MetricKey::find(name).map_or(Unit::Ratio, |key| key.definition().unit);
        let (subject, published, unit) = match &claim.test {
            ClaimTest::Reduction { metric, published } => {
                (format!("{}, reduction", label(metric)), published.text.clone(), FigureKind::Share)
            }
            ClaimTest::Value { metric, published, .. } => {
                (label(metric), published.text.clone(), FigureKind::Metric(unit(metric)))
            }
            ClaimTest::Convergence { published } => {
                let row = claim.row.as_deref().unwrap_or_default();
                let yes = if *published { "yes" } else { "no" };
                (format!("ends by itself, {row}"), yes.to_owned(), FigureKind::Convergence)
            }
        };
        Self {
            claim: claim.id.clone(),
            comparison: claim.comparison.clone(),
            subject,
            published,
            ours: None,
            reachable: None,
            converged: (0, 0),
            verdict: Reach::NoEvidence,
            remarks: Vec::new(),
            directory: None,
            runs: Vec::new(),
            command: claim.command.line.clone(),
            unit,
        }
    }

    /// Ours as printed.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        match (self.unit, &self.ours) {
            (FigureKind::Convergence, _) if self.converged.1 > 0 => {
                Some(format!("{} of {} runs", self.converged.0, self.converged.1))
            }
            (FigureKind::Share, Some(ours)) => Some(percent(ours.value)),
            (FigureKind::Metric(unit), Some(ours)) => Some(quantity::show(unit, ours.value)),
            _ => None,
        }
    }

    /// The spread of ours, as printed.
    #[must_use]
    pub fn spread(&self) -> Option<String> {
        let ours = self.ours.filter(|ours| ours.samples > 1)?;
        Some(match self.unit {
            FigureKind::Share => ends(&percent(ours.low), &percent(ours.high), " %"),
            FigureKind::Metric(unit) => {
                let scale = Scale::suiting(unit, ours.value);
                ends(&scale.number(ours.low), &scale.number(ours.high), "")
            }
            FigureKind::Convergence => return None,
        })
    }

    /// What can be reached, as printed.
    #[must_use]
    pub fn reachable(&self) -> Option<String> {
        match (self.unit, &self.reachable) {
            (FigureKind::Share, Some(most)) => Some(format!("up to {}", percent(most.value))),
            (FigureKind::Metric(unit), Some(range)) => {
                let scale = Scale::suiting(unit, range.high);
                let (low, high) = (scale.number(range.low), scale.show(range.high));
                Some(if scale.show(range.low) == high { high } else { format!("{low} to {high}") })
            }
            (FigureKind::Share, None) if self.verdict == Reach::NoBound => Some("no bound".to_owned()),
            _ => None,
        }
    }

    /// How much of what could be saved ours is, as printed.
    #[must_use]
    pub fn share_reached(&self) -> Option<String> {
        /// Under this a share is one of noise, as in tables.
        const NOTHING_TO_SAVE: f64 = 0.01;
        match (self.unit, self.ours, self.reachable) {
            (FigureKind::Share, Some(ours), Some(most)) if most.value >= NOTHING_TO_SAVE => {
                Some(percent((ours.value / most.value).max(0.0)))
            }
            _ => None,
        }
    }
}

fn ends(low: &str, high: &str, unit: &str) -> String {
    if low == high { low.to_owned() } else { format!("{}..{high}", low.strip_suffix(unit).unwrap_or(low)) }
}

pub(super) fn test(claims: &Claims, claim: &Claim, data: &[RunData]) -> Finding {
    let mut finding = Finding::new(claim);
    if !claim.note.is_empty() {
        finding.remarks.push(claim.note.clone());
    }
    let Some(suite) = claims.suite(&claim.command) else { return finding };
    let Some(evidence) = ComparisonEvidence::find(&suite.plan, &claim.comparison, data) else {
        finding.remarks.push(format!("there is no run of it; `{}` makes some", claim.command.line));
        return finding;
    };
    finding.directory = Some(evidence.data.path.display().to_string());
    let differences = evidence.differences(&suite.plan);
    if !differences.is_empty() {
        finding.remarks.push(format!("ITS CELLS ARE NOT THOSE OF THE SUITE: {}", differences.join(", ")));
    }
    if !evidence.unused.is_empty() {
        let paths: Vec<_> = evidence.unused.iter().map(|path| path.display().to_string()).collect();
        finding
            .remarks
            .push(format!("runs of several directories are not mixed: {} not used", paths.join(", ")));
    }
    match &claim.test {
        ClaimTest::Reduction { metric, published } => {
            test_reduction(&mut finding, &evidence, claim.row.as_deref(), metric, published);
        }
        ClaimTest::Value { metric, published, capped } => {
            let rows = rows(&evidence, claim.row.as_deref());
            test_value(&mut finding, &rows, metric, published, *capped);
        }
        ClaimTest::Convergence { published } => {
            let rows = rows(&evidence, claim.row.as_deref());
            test_convergence(&mut finding, &rows, *published);
        }
    }
    finding
}

/// The row, or all of them.
fn rows<'e>(evidence: &'e ComparisonEvidence<'_>, row: Option<&str>) -> Vec<&'e CellRuns<'e>> {
    match row {
        Some(row) => evidence.row(row).into_iter().collect(),
        None => evidence.runs.cells.iter().collect(),
    }
}

fn test_reduction(
    finding: &mut Finding,
    evidence: &ComparisonEvidence<'_>,
    row: Option<&str>,
    name: &str,
    published: &Published,
) {
    let cell = row.and_then(|row| evidence.row(row));
    let (Some(baseline), Some(cell), Some(key)) = (evidence.runs.baseline(), cell, MetricKey::find(name))
    else {
        finding.remarks.push("the baseline or the row was not run".to_owned());
        return;
    };
    finding.runs = ids(baseline.ok.iter().chain(&baseline.capped).chain(&cell.ok).chain(&cell.capped));
    finding.converged = cell.converged();
    if let Some(reason) = baseline.skipped.or(cell.skipped) {
        finding.remarks.push(format!("not available there: {reason}"));
        return;
    }
    if !baseline.capped.is_empty() {
        let (converged, ended) = baseline.converged();
        finding.remarks.push(format!(
            "the baseline did not converge ({converged} of {ended} runs did): there is neither a reduction nor a ceiling"
        ));
        return;
    }
    if baseline.ok.is_empty() {
        finding.remarks.push("the baseline has no timed run that ended well".to_owned());
        return;
    }
    if !cell.capped.is_empty() {
        let (converged, ended) = cell.converged();
        finding.remarks.push(format!(
            "{} did not always converge ({converged} of {ended} runs did), and those that did are no fair sample: there is no \
             reduction",
            cell.label
        ));
    }
    finding.ours = reduction(baseline, cell, key);
    finding.reachable = ceiling(baseline, cell, key);
    finding.verdict = Reach::of_reduction(published, finding.reachable.as_ref());
}

fn test_value(
    finding: &mut Finding,
    rows: &[&CellRuns<'_>],
    name: &str,
    published: &Published,
    capped: bool,
) {
    let Some(key) = MetricKey::find(name) else { return };
    let counted = |row: &&CellRuns<'_>| -> Vec<Record> {
        let cut_off = if capped { row.capped.as_slice() } else { &[] };
        row.ok.iter().chain(cut_off).map(|run| (*run).clone()).collect()
    };
    let runs: Vec<Record> = rows.iter().flat_map(counted).collect();
    finding.runs = runs.iter().map(|run| run.run_id.clone()).collect();
    let sum = |(a, b): (usize, usize), (c, d): (usize, usize)| (a + c, b + d);
    finding.converged = rows.iter().map(|row| row.converged()).fold((0, 0), sum);
    let (converged, ended) = finding.converged;
    if converged < ended {
        let treated = if capped { "and count, as the claim says" } else { "and do not count" };
        finding
            .remarks
            .push(format!("{} of {ended} runs were cut off by a limit {treated}", ended - converged));
    }
    let samples: Vec<f64> = runs.iter().filter_map(|run| value(&run.metrics, key)).collect();
    let Some(ours) = Estimate::of(&samples) else {
        finding.remarks.push(format!("no run that counts has `{name}`"));
        return;
    };
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if rows.len() == 1 {
        finding.ours = Some(ours);
    } else {
        let medians = rows.iter().filter_map(|row| {
            let samples: Vec<f64> = counted(row).iter().filter_map(|run| value(&run.metrics, key)).collect();
            Some(format!("{} {}", row.label, show(key, Estimate::of(&samples)?.value)))
        });
        finding.remarks.push(format!(
            "{}, medians: {}",
            finding.subject,
            medians.collect::<Vec<_>>().join(", ")
        ));
    }
    finding.reachable = Some(Estimate { low: least, high: greatest, interval: false, ..ours });
    finding.verdict = Reach::of_value(published, least, greatest);
}

fn show(key: MetricKey, value: f64) -> String {
    quantity::show(key.definition().unit, value)
}

fn test_convergence(finding: &mut Finding, rows: &[&CellRuns<'_>], published: bool) {
    let [row] = rows else { return };
    finding.runs = ids(row.ok.iter().chain(&row.capped));
    finding.converged = row.converged();
    let (converged, ended) = finding.converged;
    if ended == 0 {
        finding.remarks.push("no timed run of it ended".to_owned());
        return;
    }
    let all = if published { converged == ended } else { converged == 0 };
    finding.verdict = if all { Reach::Same } else { Reach::Different };
}

/// What the cells of the claims change of the workloads that they name, a sentence per comparison: the catalogue's
/// numbers are the same for all suites.
pub(super) fn workloads(claims: &Claims, data: &[RunData]) -> Vec<String> {
    let mut sentences = Vec::new();
    for claim in &claims.claims {
        let Some(suite) = claims.suite(&claim.command) else { continue };
        let evidence = ComparisonEvidence::find(&suite.plan, &claim.comparison, data);
        let ran = evidence.as_ref().map(|evidence| evidence.runs.plan.cells.iter().map(|cell| &cell.cell));
        let sentence = match ran {
            Some(cells) => changes(&claim.comparison, cells),
            None => changes(&claim.comparison, planned(&suite.plan, &claim.comparison)),
        };
        sentences.extend(sentence.filter(|sentence| !sentences.contains(sentence)));
    }
    sentences
}

fn planned<'p>(plan: &'p Plan, name: &str) -> impl Iterator<Item = &'p Cell> {
    let found = plan.comparisons.iter().find(|comparison| comparison.name == name);
    found.into_iter().flat_map(|comparison| comparison.cells.iter().map(|planned| &planned.cell))
}

fn changes<'c>(comparison: &str, cells: impl Iterator<Item = &'c Cell>) -> Option<String> {
    let mut workload = None;
    let mut changed: Vec<String> = Vec::new();
    for cell in cells {
        workload = Some(cell.workload.as_str());
        let Some(named) = catalogue::lookup(&cell.workload) else { continue };
        let original = settings::flat(&Cell { settings: named.settings.clone(), ..cell.clone() });
        for (path, value) in settings::flat(cell) {
            let before = original.get(&path).map_or("nothing", String::as_str);
            let phrase = format!("{path} {value} (there {before})");
            if before != value && !changed.contains(&phrase) {
                changed.push(phrase);
            }
        }
    }
    let workload = workload?;
    let what = if catalogue::lookup(workload).is_none() {
        format!("`{workload}`, a workload of the suite's own")
    } else if changed.is_empty() {
        format!("`{workload}` of the catalogue as it is")
    } else {
        format!("`{workload}` of the catalogue, but for {}", changed.join(", "))
    };
    Some(format!("{comparison}: {what}"))
}

//! The one model of a comparison table. Every format prints the texts of this model and computes nothing, so that
//! the same figure reads the same everywhere.

use std::collections::BTreeSet;

use migbench_scenarios::cell::Engine;
use migbench_workloads::settings::Load;

use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::{Measure, columns};
use crate::metric::{MetricKey, Unit};
use crate::quantity::{self, Scale};
use crate::record::{GuestAt, Record, Status};
use crate::stats::{Spread, Summary};

/// A figure as printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The median with its unit.
    pub value: String,
    /// The difference to the baseline, in parentheses.
    pub difference: Option<String>,
    /// Both ends of the spread, in the unit of the value; one number where they read the same.
    pub spread: Option<String>,
}

/// What a row tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// The cell that others are compared with.
    Baseline,
    /// A cell that is compared with it.
    Compared,
    /// A control.
    Control,
    /// The runs of the cell above that were capped.
    Capped,
    /// A cell that was left out.
    Skipped,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it tells of.
    pub kind: RowKind,
    /// Its first column.
    pub label: String,
    /// `converged k/n`, in the row of capped runs.
    pub converged: Option<String>,
    /// What the spread is, and of how many runs.
    pub samples: Option<String>,
    /// One per column of [`Table::columns`]; `None` where there is no figure. Empty for a cell that was left out.
    pub figures: Vec<Option<Figure>>,
    /// In place of figures.
    pub text: Option<String>,
}

/// A comparison, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Name of the comparison, and its workload where that differs.
    pub title: String,
    /// Labels of the columns of figures.
    pub columns: Vec<&'static str>,
    /// Baseline first, controls last.
    pub rows: Vec<Row>,
    /// Sentences below: ceiling, failures, what a reader must know to read the rows.
    pub notes: Vec<String>,
    /// Markdown of the suite about this comparison.
    pub analysis: String,
}

impl Table {
    /// Of one comparison.
    #[must_use]
    pub fn of(comparison: &ComparisonRuns<'_>) -> Self {
        let plan = comparison.plan;
        let mut workloads: Vec<_> = comparison.cells.iter().map(|cell| cell.cell.workload.as_str()).collect();
        workloads.dedup();
        let title = match workloads.as_slice() {
            [workload] if *workload != plan.name => format!("{} ({workload})", plan.name),
            _ => plan.name.clone(),
        };
        // Capped runs cost the most: ratios to the baseline's other runs alone would flatter the baseline.
        let baseline = comparison.baseline().filter(|baseline| baseline.capped.is_empty());
        let columns = columns(comparison);
        // Where all cells are of one engine, that engine is no control beside the others.
        let engine = comparison.baseline().map(|cell| cell.cell.engine);
        let control = |cell: &CellRuns<'_>| cell.is_control() && Some(cell.cell.engine) != engine;
        let rows =
            comparison.cells.iter().flat_map(|cell| rows(columns, baseline, cell, control(cell))).collect();
        Self {
            title,
            columns: columns.iter().map(|measure| measure.label()).collect(),
            rows,
            notes: notes(comparison, baseline),
            analysis: plan.analysis.clone(),
        }
    }
}

fn rows(
    columns: &[Measure],
    baseline: Option<&CellRuns<'_>>,
    cell: &CellRuns<'_>,
    control: bool,
) -> Vec<Row> {
    let kind = match cell {
        CellRuns { skipped: Some(_), .. } => RowKind::Skipped,
        CellRuns { baseline: true, .. } => RowKind::Baseline,
        _ if control => RowKind::Control,
        _ => RowKind::Compared,
    };
    let label = if cell.baseline { format!("{} (baseline)", cell.label) } else { cell.label.clone() };
    if let Some(reason) = cell.skipped {
        let text = Some(format!("not available here: {reason}"));
        return vec![Row { kind, label, converged: None, samples: None, figures: Vec::new(), text }];
    }
    let partner = baseline.filter(|_| kind == RowKind::Compared);
    let mut rows = vec![row(columns, kind, label, &cell.ok, |measure| measure.ratio(partner?, cell))];
    if !cell.capped.is_empty() {
        let label = format!("{} \u{2020}", cell.label);
        let mut capped = row(columns, RowKind::Capped, label, &cell.capped, |_| None);
        let (converged, ended) = cell.converged();
        capped.converged = Some(format!("converged {converged}/{ended}"));
        rows.push(capped);
    }
    rows
}

fn row(
    columns: &[Measure],
    kind: RowKind,
    label: String,
    runs: &[&Record],
    ratio: impl Fn(Measure) -> Option<f64>,
) -> Row {
    let summaries: Vec<_> = columns.iter().map(|measure| measure.summary(runs)).collect();
    let spread = summaries.iter().flatten().find_map(|summary| summary.spread);
    let samples = match (runs.len(), spread) {
        (0, _) => None,
        (n, None) => Some(format!("n = {n}")),
        (n, Some(Spread::Range { .. })) => Some(format!("range, n = {n}")),
        (n, Some(Spread::Interval { .. })) => Some(format!("95 %, n = {n}")),
    };
    let figures = columns.iter().zip(summaries).map(|(measure, summary)| {
        summary.map(|summary| figure(measure.unit(), &summary, runs.len(), ratio(*measure)))
    });
    Row { kind, label, converged: None, samples, figures: figures.collect(), text: None }
}

fn figure(unit: Unit, summary: &Summary, runs: usize, ratio: Option<f64>) -> Figure {
    let scale = Scale::suiting(unit, summary.median);
    Figure {
        value: scale.show(summary.median),
        difference: ratio.map(|ratio| format!("({})", quantity::difference(ratio))),
        spread: summary.spread.map(|spread| {
            let (low, high) = spread.ends();
            let (low, high) = (scale.number(low), scale.number(high));
            let ends = if low == high { low } else { format!("{low}..{high}") };
            // The row's label speaks of all runs; a metric that some of them lack says so itself.
            if summary.samples == runs { ends } else { format!("{ends}, n = {}", summary.samples) }
        }),
    }
}

fn notes(comparison: &ComparisonRuns<'_>, baseline: Option<&CellRuns<'_>>) -> Vec<String> {
    let mut notes = Vec::new();
    match (comparison.baseline(), baseline) {
        (Some(capped), None) => {
            let (converged, ended) = capped.converged();
            notes.push(format!(
                "the baseline did not converge ({converged}/{ended} runs did): \
                 neither a difference to it nor a ceiling is given"
            ));
        }
        (_, Some(baseline)) => notes.extend(ceiling(comparison, baseline)),
        (None, None) => notes.push("no cell of this comparison is its baseline".to_owned()),
    }
    notes.extend(closed_loop(comparison));
    notes.extend(writing(comparison));
    for cell in &comparison.cells {
        notes.extend(failures(cell));
    }
    notes
}

/// A ceiling under which no share of it is told: a share of nothing is noise.
const NOTHING_TO_SAVE: f64 = 0.01;

/// What delta can save at most: it sends round 0 in full as the baseline does, and saves all of the rest at best.
fn ceiling(comparison: &ComparisonRuns<'_>, baseline: &CellRuns<'_>) -> Option<String> {
    let mut deltas =
        comparison.cells.iter().filter(|cell| cell.cell.engine == Engine::Delta && cell.skipped.is_none());
    if baseline.cell.engine != Engine::Full || deltas.clone().next().is_none() {
        return None;
    }
    let amplification = Measure::Metric(MetricKey::Amplification).summary(&baseline.ok)?.median;
    let ceiling = 1.0 - 1.0 / amplification;
    if ceiling < NOTHING_TO_SAVE {
        let most = quantity::percent(ceiling.max(0.0));
        return Some(format!(
            "most that delta can save on traffic here: {most}, which is nothing to speak of"
        ));
    }
    let several = deltas.clone().count() > 1;
    let reached: Vec<_> = deltas
        .by_ref()
        .filter_map(|cell| {
            let saved = 1.0 - Measure::Metric(MetricKey::Traffic).ratio(baseline, cell)?;
            let by = if several { format!(" by {}", cell.label) } else { String::new() };
            Some(if saved > 0.0 {
                format!("reached {} of it{by}", quantity::percent(saved / ceiling))
            } else {
                format!("reached none of it{by}")
            })
        })
        .collect();
    let reached = if reached.is_empty() { String::new() } else { format!(" ({})", reached.join(", ")) };
    Some(format!("most that delta can save on traffic here: {}{reached}", quantity::percent(ceiling)))
}

/// What the columns about writes are of, where a workload calls it by another name.
fn writing(comparison: &ComparisonRuns<'_>) -> Option<String> {
    let names: BTreeSet<_> =
        comparison.cells.iter().map(|cell| cell.cell.settings.program.writing()).collect();
    let others: Vec<_> = names.into_iter().filter(|name| *name != "write").collect();
    (!others.is_empty())
        .then(|| format!("what this workload writes by: its operations `{}`", others.join("`, `")))
}

/// Under closed-loop load slow engines get an easier guest; the writes achieved show how much easier.
fn closed_loop(comparison: &ComparisonRuns<'_>) -> Option<String> {
    let closed = |cell: &&CellRuns<'_>| cell.cell.settings.load == Load::FlatOut;
    // Passes of `migbench track` have no pre-copy.
    let passes = columns(comparison).contains(&Measure::Metric(MetricKey::PassTime));
    comparison.cells.iter().find(closed).filter(|_| !passes)?;
    let writes: Vec<_> = comparison
        .cells
        .iter()
        .filter(closed)
        .filter_map(|cell| {
            let summary = Measure::Metric(MetricKey::PageWritesPrecopy).summary(&cell.ok)?;
            Some(format!("{} {}", cell.label, quantity::show(Unit::Count, summary.median)))
        })
        .collect();
    let writes = if writes.is_empty() { "not measured".to_owned() } else { writes.join(", ") };
    Some(format!(
        "closed loop: a guest that is slowed dirties less and migrates faster; page writes in pre-copy: {writes}"
    ))
}

fn failures(cell: &CellRuns<'_>) -> Option<String> {
    let failed =
        || cell.failed.iter().chain(cell.verification.iter().filter(|run| run.status == Status::Failed));
    let first = failed().next()?;
    let all = cell.ok.len() + cell.capped.len() + cell.failed.len() + cell.verification.len();
    let error = first.error.as_ref().map_or_else(
        || "no reason was recorded".to_owned(),
        |error| format!("{}: {} ({})", error.phase, error.message, place(error.guest)),
    );
    Some(format!(
        "{}: {} of {all} runs failed, first {} in {error}",
        cell.label,
        failed().count(),
        first.run_id
    ))
}

/// Where the guest ended up, as a phrase.
#[must_use]
pub const fn place(guest: GuestAt) -> &'static str {
    match guest {
        GuestAt::Source => "the guest went on at the source",
        GuestAt::Destination => "the guest runs at the destination",
        GuestAt::Lost => "THE GUEST WAS LOST",
        GuestAt::Unknown => "nobody can tell where the guest is",
        GuestAt::Nowhere => "the guest had never started",
    }
}

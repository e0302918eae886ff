//! The comparison table: what each engine costs, against the baseline.

use std::collections::BTreeSet;

use migbench_workloads::settings::Load;

use super::ceiling::Ceiling;
use super::{Table, partner, place};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::{MEMORY, Measure, Tails, columns, logs_alone};
use crate::metric::{MetricKey, Unit};
use crate::quantity;
use crate::record::Status;

/// What the table of costs has. What is said of memory stands above the tables, where there is a sentence.
const ELSEWHERE: [Measure; 2] = [Measure::Metric(MetricKey::Rounds), MEMORY];

/// Of one comparison, whose report has these tails; `with_memory` where no sentence speaks of memory.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>, tails: Tails, with_memory: bool) -> Table {
    let mut columns = columns(comparison, tails);
    columns.retain(|measure| !ELSEWHERE.contains(measure) || (*measure == MEMORY && with_memory));
    Table {
        notes: notes(comparison),
        analysis: comparison.plan.analysis.clone(),
        ..Table::of_measures(comparison, &columns)
    }
}

fn notes(comparison: &ComparisonRuns<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    match (comparison.baseline(), partner(comparison)) {
        (Some(capped), None) => {
            let (converged, ended) = capped.converged();
            notes.push(format!(
                "the baseline did not converge ({converged}/{ended} runs did): \
                 neither a difference to it nor a ceiling is given"
            ));
        }
        (_, Some(_)) => notes.extend(Ceiling::of(comparison).map(|ceiling| ceiling.note(comparison))),
        (None, None) => notes.push("no cell of this comparison is its baseline".to_owned()),
    }
    notes.extend(closed_loop(comparison));
    notes.extend(writing(comparison));
    for cell in &comparison.cells {
        notes.extend(failures(cell));
    }
    notes
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
    comparison.cells.iter().find(closed).filter(|_| !logs_alone(comparison))?;
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

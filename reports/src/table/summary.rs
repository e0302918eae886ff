//! The summary: geometric means over comparisons of different workloads, of the ratios to the baseline of each.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, Figure, Numbers, Row, RowKind, Subject, Table, partner};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::{Difference, Measure, columns};
use crate::metric::Unit;
use crate::quantity;
use crate::settings::{self, Flat};
use crate::stats;

/// What the table is, in a sentence.
pub const ABOUT: &str = "geometric means over workloads of the ratios to the baseline of each; a comparison with a capped run \
                         on either side stays out";

/// One for each way of comparing that at least two workloads were put to: cells that differ in more than their workload
/// are not averaged.
#[must_use]
pub fn tables(comparisons: &[ComparisonRuns<'_>]) -> Vec<Table> {
    let mut groups: Vec<(String, Flat, Vec<&ComparisonRuns<'_>>)> = Vec::new();
    for comparison in comparisons {
        let Some(baseline) = comparison.baseline() else { continue };
        let (compare, around) = (&comparison.plan.compare, around(baseline));
        match groups.iter_mut().find(|(axis, other, _)| axis == compare && *other == around) {
            Some((.., members)) => members.push(comparison),
            None => groups.push((compare.clone(), around, vec![comparison])),
        }
    }
    groups.retain(|(.., members)| workloads(members).len() > 1);
    let all: Vec<Flat> = groups.iter().map(|(_, around, _)| around.clone()).collect();
    groups.iter().map(|(compare, around, members)| table(compare, &apart(around, &all), members)).collect()
}

/// All settings of a cell but for those that belong to its workload.
fn around(cell: &CellRuns<'_>) -> Flat {
    let mut all = settings::flat(cell.cell);
    all.retain(|path, _| path != "workload" && !path.starts_with("settings.") && path != "start_phase");
    all
}

/// What tells these settings from those of other groups.
fn apart(around: &Flat, all: &[Flat]) -> String {
    let differs = |path: &&String| all.iter().any(|other| other.get(*path) != around.get(*path));
    around
        .keys()
        .filter(differs)
        .map(|path| format!("{path} {}", around[path]))
        .collect::<Vec<_>>()
        .join(", ")
}

fn workloads(members: &[&ComparisonRuns<'_>]) -> BTreeSet<String> {
    members.iter().filter_map(|member| Some(member.baseline()?.cell.workload.clone())).collect()
}

fn table(compare: &str, apart: &str, members: &[&ComparisonRuns<'_>]) -> Table {
    let measures = members.first().map_or(&[][..], |member| columns(member));
    let mut cells: BTreeMap<&str, Vec<(&ComparisonRuns<'_>, &CellRuns<'_>)>> = BTreeMap::new();
    let mut order = Vec::new();
    for member in members {
        for cell in member.compared() {
            let label = cell.label.as_str();
            if !order.contains(&label) {
                order.push(label);
            }
            cells.entry(label).or_default().push((member, cell));
        }
    }
    let of_several = |label: &&str| cells[*label].len() > 1;
    let rows: Vec<_> = order
        .iter()
        .filter(|label| of_several(label))
        .map(|label| row(label, &cells[*label], measures))
        .collect();
    let mut notes: Vec<_> = rows.iter().filter_map(|(_, note)| note.clone()).collect();
    notes.dedup();
    let over = if apart.is_empty() { String::new() } else { format!(", {apart}") };
    let count = workloads(members).len();
    Table {
        comparison: String::new(),
        title: format!("over {count} workloads{over}"),
        head: compare.to_owned(),
        columns: measures
            .iter()
            .map(|measure| Column::new(measure.name(), measure.label(), Unit::Ratio))
            .collect(),
        rows: rows.into_iter().map(|(row, _)| row).collect(),
        notes,
        analysis: String::new(),
    }
}

fn row(
    label: &str,
    cells: &[(&ComparisonRuns<'_>, &CellRuns<'_>)],
    measures: &[Measure],
) -> (Row, Option<String>) {
    let converged = |(comparison, cell): &&(&ComparisonRuns<'_>, &CellRuns<'_>)| {
        partner(comparison).is_some() && cell.capped.is_empty()
    };
    let used: Vec<_> = cells.iter().filter(converged).collect();
    let out: Vec<_> = cells
        .iter()
        .filter(|pair| !converged(pair))
        .map(|(comparison, _)| comparison.plan.name.as_str())
        .collect();
    let figure = |measure: &Measure| {
        let ratios: Vec<f64> = used
            .iter()
            .filter_map(|(comparison, cell)| Some(measure.difference(partner(comparison)?, cell)?.ratio))
            .collect();
        let ratio = stats::geometric_mean(&ratios)?;
        let count = ratios.len();
        Some(Figure {
            value: quantity::difference(ratio),
            difference: None,
            difference_spread: None,
            spread: (count != used.len()).then(|| format!("over {count}")),
            numbers: Numbers {
                samples: super::count(count),
                value: ratio,
                spread: None,
                difference: Some(Difference { ratio, spread: None, significant: None, p: None }),
            },
        })
    };
    let figures: Vec<_> = measures.iter().map(figure).collect();
    let row = Row {
        kind: RowKind::Compared,
        label: label.to_owned(),
        subject: Subject { cell: label.to_owned(), ..Subject::default() },
        converged: None,
        samples: Some(format!("over {} of {}", used.len(), cells.len())),
        figures,
        text: None,
    };
    let note =
        (!out.is_empty()).then(|| format!("{label}: without {}, where runs were capped", out.join(", ")));
    (row, note)
}

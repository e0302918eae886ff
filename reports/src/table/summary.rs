//! The summary: geometric means over comparisons of different workloads, of the ratios to the baseline of each.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, Numbers, PrintedFigure, Row, RowKind, Subject, Table, partner};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::{Difference, Measure, Tails, columns};
use crate::metric::Unit;
use crate::quantity;
use crate::settings::{self, Flat};
use crate::stats;

/// What the table is, in a sentence.
pub const ABOUT: &str = "geometric means over workloads, four at least, of the ratios to the baseline of each; settings that were \
                         varied are not averaged over, and a comparison with a capped run on either side stays out";

/// Of fewer workloads no mean is made: it would say more of the choice than of the engines.
const LEAST: usize = 4;

/// One for each way of comparing that at least [`LEAST`] workloads were put to. What was varied tells groups apart: only what a
/// workload is made of differs within one.
#[must_use]
pub fn tables(comparisons: &[ComparisonRuns<'_>], tails: &[Tails]) -> Vec<Table> {
    let varied = varied(comparisons);
    let mut groups: Vec<(String, Flat, Tails, Vec<&ComparisonRuns<'_>>)> = Vec::new();
    for (comparison, tails) in comparisons.iter().zip(tails) {
        let Some(baseline) = comparison.baseline() else { continue };
        let (compare, around) = (&comparison.plan.compare, around(baseline, &varied));
        match groups.iter_mut().find(|(axis, other, ..)| axis == compare && *other == around) {
            Some((.., members)) => members.push(comparison),
            None => groups.push((compare.clone(), around, *tails, vec![comparison])),
        }
    }
    groups.retain(|(.., members)| workloads(members).len() >= LEAST);
    let all: Vec<Flat> = groups.iter().map(|(_, around, ..)| around.clone()).collect();
    groups
        .iter()
        .map(|(compare, around, tails, members)| table(compare, &apart(around, &all), *tails, members))
        .collect()
}

/// Settings of workloads in which comparisons of one workload differ: they were varied, and are not what it is made of.
fn varied(comparisons: &[ComparisonRuns<'_>]) -> BTreeSet<String> {
    let mut first: BTreeMap<(&str, &str), Flat> = BTreeMap::new();
    let mut varied = BTreeSet::new();
    for comparison in comparisons {
        let Some(baseline) = comparison.baseline() else { continue };
        let here = settings::flat(baseline.cell);
        let of = (comparison.plan.compare.as_str(), baseline.cell.workload.as_str());
        let there = first.entry(of).or_insert_with(|| here.clone());
        let paths = here.keys().chain(there.keys());
        varied.extend(paths.filter(|path| here.get(*path) != there.get(*path)).cloned());
    }
    varied
}

/// All settings of a cell but for those that its workload is made of.
fn around(cell: &CellRuns<'_>, varied: &BTreeSet<String>) -> Flat {
    let mut all = settings::flat(cell.cell);
    let made_of = |path: &str| path == "workload" || path.starts_with("settings.") || path == "start_phase";
    all.retain(|path, _| varied.contains(path) || !made_of(path));
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

fn table(compare: &str, apart: &str, tails: Tails, members: &[&ComparisonRuns<'_>]) -> Table {
    let measures = &members.first().map_or_else(Vec::new, |first| columns(first, tails))[..];
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
    let of_several = |label: &&str| cells[*label].len() >= LEAST;
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
        .map(|(comparison, _)| comparison.title.as_str())
        .collect();
    // A mean over fewer than LEAST is none, also where capped runs leave no more.
    let figure = |measure: &Measure| {
        let ratios: Vec<f64> = used
            .iter()
            .filter_map(|(comparison, cell)| Some(measure.difference(partner(comparison)?, cell)?.ratio))
            .collect();
        let count = ratios.len();
        let ratio = stats::geometric_mean(&ratios).filter(|_| count >= LEAST)?;
        Some(PrintedFigure {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;
    use crate::manifest::{Manifest, ManifestCell, ManifestComparison};
    use crate::record::Record;
    use crate::sample::{self, Sample};

    /// So many workloads, each with three sizes of a change, of which delta saves the more the smaller they are.
    fn varied(workloads: usize) -> (Manifest, Vec<Record>) {
        let (mut manifest, mut records) = (sample::manifest(), Vec::new());
        manifest.comparisons.clear();
        for number in 0..workloads {
            for (bytes, part) in [(64, 0.4), (256, 0.5), (1024, 0.8)] {
                let name = format!("w{number}-{bytes}");
                let mut planned = Vec::new();
                for engine in ["full", "delta"] {
                    for repetition in 1..=2 {
                        let built =
                            Sample::new("write-heavy", engine).repetition(repetition).with(|record| {
                                record.comparison.clone_from(&name);
                                record.cell.workload = format!("w{number}");
                                record.cell.settings.change.bytes = bytes;
                            });
                        let time = if engine == "full" { 2.0 } else { 2.0 * part };
                        let built = built.metric(crate::metric::MetricKey::TotalTime, time);
                        records.push(built.build());
                    }
                    let cell = records[records.len() - 1].cell.clone();
                    planned.push(ManifestCell { id: format!("{name}/{engine}"), cell });
                }
                manifest.comparisons.push(ManifestComparison {
                    compare: "engine".to_owned(),
                    baseline: planned[0].id.clone(),
                    cells: planned,
                    analysis: String::new(),
                    name,
                });
            }
        }
        (manifest, records)
    }

    fn means(workloads: usize) -> Vec<(String, String)> {
        let (manifest, records) = varied(workloads);
        let (sorted, strangers) = cells::sort(&manifest, &records);
        assert_eq!(strangers, 0);
        let mean = |table: Table| (table.title, table.rows[0].figures[0].clone().unwrap().value);
        tables(&sorted, &Tails::of_each(&sorted)).into_iter().map(mean).collect()
    }

    /// Three settings were one mean once: -30.3 %.
    #[test]
    fn what_was_varied_is_not_averaged_over() {
        let expected = |bytes: &str, mean: &str| {
            (format!("over 4 workloads, settings.change.bytes {bytes}"), mean.to_owned())
        };
        assert_eq!(
            means(4),
            [expected("64", "-60.0 %"), expected("256", "-50.0 %"), expected("1024", "-20.0 %")]
        );
    }

    #[test]
    fn fewer_than_four_workloads_have_no_mean() {
        assert_eq!(means(3), []);
        // Nor where capped runs leave no more of them.
        let (manifest, mut records) = varied(4);
        let capped = records.iter_mut().find(|record| record.comparison == "w2-256").unwrap();
        capped.status = crate::record::Status::Capped;
        let (sorted, _) = cells::sort(&manifest, &records);
        let row = &tables(&sorted, &Tails::of_each(&sorted))[1].rows[0];
        assert_eq!((row.samples.as_deref(), &row.figures[0]), (Some("over 3 of 4"), &None));
    }
}

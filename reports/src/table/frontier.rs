//! The least blackout that was reached within a budget of total time, whatever the downtime limit: what to expect of an engine that is
//! given so long.

use super::{Column, PrintedFigure, Row, RowKind, Subject, Table};
use crate::cells::ComparisonRuns;
use crate::figure::frontier::LIMIT;
use crate::figure::scaling::{Placed, by_workload, families, labels};
use crate::measure::Measure;
use crate::metric::{MetricKey, Unit};
use crate::quantity;

/// What the tables are, in a sentence.
pub const ABOUT: &str = "the least blackout, as the median of runs, of the downtime limits at which all runs ended within a budget of total \
                         time, without being forced; beside it the limit";

/// Of each workload of which cells differ in the downtime limit alone, at three values or more.
#[must_use]
pub fn tables(comparisons: &[ComparisonRuns<'_>]) -> Vec<Table> {
    by_workload(comparisons)
        .into_iter()
        .filter_map(|(workload, cells)| {
            let families = families(LIMIT, &cells);
            let longest: Vec<f64> = families.values().flatten().filter_map(longest).collect();
            let budgets = budgets(&longest);
            let rows: Vec<Row> = families
                .values()
                .zip(labels(&families))
                .map(|(placed, label)| Row {
                    kind: RowKind::Compared,
                    subject: Subject {
                        cell: label.clone(),
                        workload: workload.to_owned(),
                        ..Subject::default()
                    },
                    label,
                    converged: None,
                    samples: None,
                    figures: budgets.iter().map(|budget| least(placed, *budget)).collect(),
                    text: None,
                })
                .collect();
            let column = |budget: &f64| {
                let name = format!("blackout_within_{}ms", (budget * 1e3).round());
                Column::new(
                    name,
                    format!("within {}", quantity::trimmed(Unit::Seconds, *budget)),
                    Unit::Seconds,
                )
            };
            (!rows.is_empty() && !budgets.is_empty()).then(|| Table {
                comparison: String::new(),
                title: format!("least blackout: {workload}"),
                head: "engine".to_owned(),
                columns: budgets.iter().map(column).collect(),
                rows,
                notes: Vec::new(),
                analysis: String::new(),
            })
        })
        .collect()
}

/// The longest run of a cell; none where some were forced to end.
fn longest(placed: &Placed<'_, '_>) -> Option<f64> {
    if !placed.cell.capped.is_empty() {
        return None;
    }
    let total = Measure::Metric(MetricKey::TotalTime);
    placed
        .cell
        .ok
        .iter()
        .map(|run| total.sample(run))
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .reduce(f64::max)
}

/// Round budgets around the longest runs of all cells: 1, 2 and 5 times a power of ten.
fn budgets(longest: &[f64]) -> Vec<f64> {
    let (least, most) =
        longest.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), time| (low.min(*time), high.max(*time)));
    let all = (-3..6).flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(exponent)));
    let budgets: Vec<f64> = all.filter(|budget| *budget >= least).collect();
    let enough = budgets.iter().position(|budget| *budget >= most).map_or(0, |place| place + 1);
    budgets[..enough].to_vec()
}

fn least(placed: &[Placed<'_, '_>], budget: f64) -> Option<PrintedFigure> {
    let blackout = Measure::Metric(MetricKey::Blackout);
    let within = placed.iter().filter(|placed| longest(placed).is_some_and(|longest| longest <= budget));
    let known = within.filter_map(|placed| Some((blackout.summary(&placed.cell.ok)?, placed)));
    let (summary, placed) = known.min_by(|a, b| a.0.median.total_cmp(&b.0.median))?;
    let mut figure = PrintedFigure::of(Unit::Seconds, &summary, None, placed.cell.ok.len());
    figure.difference = Some(format!("at {}", placed.text));
    Some(figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_round_and_hold_the_shortest_and_the_longest() {
        assert_eq!(budgets(&[0.8, 3.0]), [1.0, 2.0, 5.0]);
        assert_eq!(budgets(&[2.0]), [2.0]);
        assert!(budgets(&[]).is_empty());
    }
}

//! Where the guests of a comparison stalled: the listed stalls of pre-copy and switchover by what the host did, one row
//! per cell. Figures are of one vCPU in one run, so that the stall of the switchover reads like the blackout beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, PrintedFigure, Row, RowKind, Subject, Table};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::histogram::Phase;
use crate::metric::Unit;
use crate::quantity::{self, count};
use crate::record::{Cause, Record, Stall};
use crate::stats;

/// A table; none where no run of the comparison lists a stall of these phases.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>) -> Option<Table> {
    let cells: Vec<(&CellRuns<'_>, Vec<Causes>)> = comparison
        .cells
        .iter()
        .map(|cell| (cell, cell.ok.iter().filter_map(|run| causes_of(run)).collect()))
        .filter(|(_, runs): &(_, Vec<Causes>)| !runs.is_empty())
        .collect();
    let found: BTreeSet<Cause> =
        cells.iter().flat_map(|(_, runs)| runs).flat_map(|run| run.keys().copied()).collect();
    let causes: Vec<Cause> = found.into_iter().collect();
    if causes.is_empty() {
        return None;
    }
    let row = |cell: &CellRuns<'_>, runs: &[Causes]| {
        let figure = |cause: &Cause| {
            // A guest that waits for its schedule through the pause has no operation that stalled.
            let stalled = runs.iter().filter_map(|run| run.get(cause).copied());
            let (times, numbers): (Vec<f64>, Vec<f64>) = stalled.unzip();
            let (time, number) = (stats::median(&times)?, stats::median(&numbers)?);
            let samples = u64::try_from(times.len()).unwrap_or(u64::MAX);
            let figure = PrintedFigure::plain(Unit::Seconds, samples, time);
            let number = format!(
                "{} in {} of {}",
                quantity::show(Unit::Count, number),
                times.len(),
                count(runs.len(), "run")
            );
            Some(PrintedFigure { spread: Some(number), ..figure })
        };
        Row {
            kind: RowKind::Compared,
            label: cell.label.clone(),
            subject: Subject::of(cell),
            converged: None,
            samples: Some("how many, in runs that had any".to_owned()),
            figures: causes.iter().map(figure).collect(),
            text: None,
        }
    };
    let column =
        |cause: &Cause| Column::new(format!("stalled_{}", cause.word()), cause.word(), Unit::Seconds);
    Some(Table {
        title: comparison.title.clone(),
        rows: cells.iter().map(|(cell, runs)| row(cell, runs)).collect(),
        ..Table::empty(comparison, causes.iter().map(column).collect())
    })
}

/// Of one run, for each cause that it has: seconds and number of its stalls, for one vCPU.
type Causes = BTreeMap<Cause, (f64, f64)>;

/// `None` of a run that lists no stalls.
fn causes_of(run: &Record) -> Option<Causes> {
    let mut causes = Causes::new();
    for stall in run.stalls.get().as_ref().as_ref()?.list.iter().filter(|stall| counts(stall)) {
        let (time, number) = causes.entry(stall.cause).or_default();
        *time += stall.duration;
        *number += 1.0;
    }
    let vcpus = f64::from(run.cell.vcpus.max(1));
    Some(causes.into_iter().map(|(cause, (time, number))| (cause, (time / vcpus, number / vcpus))).collect())
}

fn counts(stall: &Stall) -> bool {
    [Phase::Precopy, Phase::Switchover].iter().any(|phase| phase.word() == stall.phase)
}

/// What the tables are, in a sentence.
pub const ABOUT: &str = "the longest operations in pre-copy and switchover, by what the host did at the time: how long together \
                           for one vCPU in one run, and how many, medians over the runs that had any";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;
    use crate::record::Stalls;
    use crate::sample::{self, Sample};

    fn stall(duration: f64, phase: &str, cause: Cause) -> Stall {
        let (phase, operation) = (phase.to_owned(), "write".to_owned());
        Stall { start: Some(0.1), duration, vcpu: 0, phase, operation, cause }
    }

    /// As the blackout beside it: 90 ms, whether two runs list it or four, on two vCPUs or one.
    #[test]
    fn a_row_is_of_one_vcpu_in_one_run() {
        let manifest = sample::manifest();
        let list = vec![
            stall(0.002, "precopy", Cause::Harvest),
            stall(0.001, "precopy", Cause::Harvest),
            stall(0.090, "switchover", Cause::Switchover),
            stall(0.5, "after", Cause::None),
        ];
        let stalls = |list| Some(Stalls { threshold: 1e-5, clock_error: None, dropped: 0, list });
        let run = |n, list: &Vec<Stall>| {
            let stalls = stalls(list.clone());
            Sample::new("write-heavy", "full").repetition(n).with(|r| r.stalls = stalls.into()).build()
        };
        // This one waited through the pause.
        let quieter = list[1..2].to_vec();
        let records = [
            run(1, &list),
            run(2, &list),
            run(3, &quieter),
            Sample::new("write-heavy", "full").repetition(4).build(),
            Sample::new("write-heavy", "delta").build(),
        ];
        let (sorted, _) = cells::sort(&manifest, &records);
        assert_eq!(table(&sorted[0]), None, "no run of the other comparison");
        let of_one = table(&sorted[1]).unwrap();
        let columns: Vec<_> = of_one.columns.iter().map(|column| column.label.as_str()).collect();
        assert_eq!(columns, ["harvest", "switchover"], "nothing of the time after");
        assert_eq!(of_one.rows.len(), 1, "delta lists no stalls");
        let figures = |table: &Table| -> Vec<(String, Option<String>)> {
            table.rows[0].figures.iter().flatten().map(|f| (f.value.clone(), f.spread.clone())).collect()
        };
        let figure = |value: &str, number: &str| (value.to_owned(), Some(number.to_owned()));
        assert_eq!(
            figures(&of_one),
            [figure("3.00 ms", "2 in 3 of 3 runs"), figure("90.0 ms", "1 in 2 of 3 runs")]
        );

        let mut manifest = manifest;
        manifest.comparisons[1].cells[0].cell.vcpus = 2;
        let twice: Vec<Stall> = list.iter().chain(&list).cloned().collect();
        let mut both = run(1, &twice);
        both.cell.vcpus = 2;
        let records = [both];
        let (sorted, _) = cells::sort(&manifest, &records);
        assert_eq!(
            figures(&table(&sorted[1]).unwrap()),
            [figure("3.00 ms", "2 in 1 of 1 run"), figure("90.0 ms", "1 in 1 of 1 run")]
        );
    }
}

//! Where the guests of a comparison stalled: the listed stalls of pre-copy and switchover by what the host did, one row
//! per cell.

use crate::cells::{CellRuns, ComparisonRuns};
use crate::histogram::Phase;
use crate::metric::Unit;
use crate::record::{Cause, Record, Stall};
use crate::table::{Column, Figure, Row, RowKind, Subject, Table};

/// A table; none where no run of the comparison lists a stall of these phases.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>) -> Option<Table> {
    let of_cell = |runs: &[&Record]| -> Vec<Stall> {
        let lists = runs.iter().filter_map(|run| run.stalls.as_ref()).flat_map(|stalls| &stalls.list);
        lists.filter(|stall| counts(stall)).cloned().collect()
    };
    let cells: Vec<_> = comparison.cells.iter().map(|cell| (cell, of_cell(&cell.ok))).collect();
    let causes: Vec<Cause> = Cause::ALL
        .into_iter()
        .filter(|cause| cells.iter().any(|(_, stalls)| stalls.iter().any(|stall| stall.cause == *cause)))
        .collect();
    if causes.is_empty() {
        return None;
    }
    let row = |cell: &CellRuns<'_>, stalls: &[Stall]| {
        let figure = |cause: &Cause| {
            let of_cause = || stalls.iter().filter(|stall| stall.cause == *cause);
            let time = of_cause().map(|stall| stall.duration).sum();
            let number = of_cause().count();
            let samples = u64::try_from(number).unwrap_or(u64::MAX);
            let figure = Figure::plain(Unit::Seconds, samples, time);
            (number > 0).then(|| Figure { spread: Some(number.to_string()), ..figure })
        };
        Row {
            kind: RowKind::Compared,
            label: cell.label.clone(),
            subject: Subject::of(cell),
            converged: None,
            samples: Some(format!("stalls, n = {}", cell.ok.len())),
            figures: causes.iter().map(figure).collect(),
            text: None,
        }
    };
    let listing = |cell: &CellRuns<'_>| cell.ok.iter().any(|run| run.stalls.is_some());
    let rows = cells.iter().filter(|(cell, _)| listing(cell));
    let column =
        |cause: &Cause| Column::new(format!("stalled_{}", cause.word()), cause.word(), Unit::Seconds);
    Some(Table {
        title: comparison.plan.name.clone(),
        rows: rows.map(|(cell, stalls)| row(cell, stalls)).collect(),
        ..Table::empty(comparison, causes.iter().map(column).collect())
    })
}

fn counts(stall: &Stall) -> bool {
    [Phase::Precopy, Phase::Switchover].iter().any(|phase| phase.word() == stall.phase)
}

/// What the tables are, in a sentence.
pub const HEADING: &str = "the longest operations of each run in pre-copy and switchover, by what the host did at the time; how \
                           long together, and how many";

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

    #[test]
    fn a_row_adds_up_what_its_runs_list() {
        let manifest = sample::manifest();
        let list = vec![
            stall(0.002, "precopy", Cause::Harvest),
            stall(0.001, "precopy", Cause::Harvest),
            stall(0.090, "switchover", Cause::Switchover),
            stall(0.5, "after", Cause::None),
        ];
        let stalls = Some(Stalls { threshold: 1e-5, clock_error: None, dropped: 0, list });
        let run = |n| {
            Sample::new("write-heavy", "full").repetition(n).with(|r| r.stalls.clone_from(&stalls)).build()
        };
        let records = vec![run(1), run(2), Sample::new("write-heavy", "delta").build()];
        let (sorted, _) = cells::sort(&manifest, &records);
        assert_eq!(table(&sorted[0]), None, "no run of the other comparison");
        let table = table(&sorted[1]).unwrap();
        let columns: Vec<_> = table.columns.iter().map(|column| column.label.as_str()).collect();
        assert_eq!(columns, ["harvest", "switchover"], "nothing of the time after");
        assert_eq!(table.rows.len(), 1, "delta lists no stalls");
        let figures: Vec<_> =
            table.rows[0].figures.iter().flatten().map(|f| (f.value.as_str(), f.spread.as_deref())).collect();
        assert_eq!(figures, [("6.00 ms", Some("4")), ("180 ms", Some("2"))]);
    }
}

//! When migrations stopped, whether the pause was what the rule foresaw, and what was lost against the best switchover.

use migbench_scenarios::cell::Rule;

use super::{PrintedFigure, Row, Table, parts, skipped};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::hindsight::Hindsight;
use crate::measure::Measure;
use crate::metric::{self, MetricKey, Unit};
use crate::quantity;
use crate::record::{Record, Status};
use crate::stats::{Summary, binomial};
use crate::table::{Column, ends};

/// What the tables are, in a sentence.
pub const ABOUT: &str = "what the stop rule foresaw of the pause and what came; how many migrations kept the limit, of all and without being \
                         forced; and what the switchover cost beyond the earliest one within the limit, in total time and in downtime \
                         (negative: the pause was the shorter for it), of the migrations in which one was within it";

/// Figures of medians.
const MEDIANS: [MetricKey; 3] =
    [MetricKey::DowntimePredicted, MetricKey::Downtime, MetricKey::PredictionError];

/// Of a comparison in which stopping is what differs, or is by another rule than usual; none of others.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>) -> Option<Table> {
    let is_of_interest = comparison.plan.compare.starts_with("stop.")
        || comparison.cells.iter().any(|cell| cell.cell.stop.rule() != Rule::Pages);
    if !is_of_interest || comparison.cells.iter().all(|cell| runs(cell).next().is_none()) {
        return None;
    }
    let mut columns: Vec<Column> = MEDIANS.map(|key| Column::from(Measure::Metric(key))).into();
    columns.extend([
        Column::new("within_limit", "within limit", Unit::Ratio),
        Column::new("converged_within_limit", "unforced", Unit::Ratio),
        Column::new("regret_time", "regret in time", Unit::Ratio),
        Column::new("regret_downtime", "in downtime", Unit::Seconds),
    ]);
    let mut table = Table::empty(comparison, columns);
    table.rows = comparison.cells.iter().filter_map(|cell| row(comparison, cell)).collect();
    let all: Vec<&Record> = comparison.cells.iter().flat_map(runs).collect();
    let kept = all.iter().filter(|run| keeps_limit(run)).count();
    if let Some(spread) = binomial::interval(kept, all.len()).filter(|_| comparison.cells.len() > 1) {
        let share = |end: f64| quantity::percent(end).trim_end_matches(" %").to_owned();
        table.notes.push(format!(
            "all together: {kept} of {} within the limit (95 % {} %)",
            all.len(),
            ends(spread, share)
        ));
    }
    Some(table)
}

/// Timed runs that reached the destination with a pause of which something was foreseen or could have been.
fn runs<'a>(cell: &'a CellRuns<'_>) -> impl Iterator<Item = &'a Record> {
    let has_rounds =
        |run: &&Record| run.rounds.last().is_some_and(|round| round.paused) && run.rounds.len() > 1;
    cell.ok.iter().chain(&cell.capped).copied().filter(has_rounds)
}

fn keeps_limit(run: &Record) -> bool {
    metric::value(&run.metrics, MetricKey::Downtime)
        .is_some_and(|downtime| downtime <= run.cell.stop.downtime_limit.0)
}

fn row(comparison: &ComparisonRuns<'_>, cell: &CellRuns<'_>) -> Option<Row> {
    if let Some(row) = skipped(cell) {
        return Some(row);
    }
    let all: Vec<&Record> = runs(cell).collect();
    if all.is_empty() {
        return None;
    }
    let median = |key| {
        let summary = Measure::Metric(key).summary(&all)?;
        Some(PrintedFigure::of(Measure::Metric(key).unit(), &summary, None, all.len()))
    };
    let share = |hits: usize| {
        PrintedFigure::share(all.len(), hits as f64 / all.len() as f64, binomial::interval(hits, all.len()))
    };
    let kept = all.iter().filter(|run| keeps_limit(run)).count();
    let unforced = all.iter().filter(|run| run.status == Status::Ok && keeps_limit(run)).count();
    let regrets: Vec<Hindsight> = all.iter().filter_map(|run| Hindsight::of(run)).collect();
    let of =
        |regret: fn(Hindsight) -> f64| Summary::of(&regrets.iter().copied().map(regret).collect::<Vec<_>>());
    let mut figures: Vec<Option<PrintedFigure>> = MEDIANS.map(median).into();
    figures.extend([
        Some(share(kept)),
        Some(share(unforced)),
        of(Hindsight::regret_of_time).map(|summary| PrintedFigure::share_of(&summary, all.len())),
        of(Hindsight::regret_of_downtime)
            .map(|summary| PrintedFigure::of(Unit::Seconds, &summary, None, all.len())),
    ]);
    let (kind, label, _) = parts(comparison, cell).swap_remove(0);
    Some(Row::of(kind, label, cell, all.len(), figures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;
    use crate::manifest::Manifest;
    use crate::sample::{self, Sample};

    fn planned(rule: Rule) -> (Manifest, Vec<Record>) {
        let mut manifest = sample::manifest();
        let plan = &mut manifest.comparisons[1];
        plan.cells.iter_mut().for_each(|cell| cell.cell.stop.set_rule(rule));
        let run = |engine: &str, n: u32, downtime: f64, capped: bool| {
            let sample =
                Sample::new("write-heavy", engine).repetition(n).metric(MetricKey::Downtime, downtime);
            let sample = sample.metric(MetricKey::DowntimePredicted, 0.09);
            let sample = sample.metric(MetricKey::PredictionError, downtime - 0.09);
            let sample = if capped { sample.capped() } else { sample };
            sample.with(|record| record.cell.stop.set_rule(rule)).build()
        };
        let mut records: Vec<_> = (1..=4).map(|n| run("full", n, 0.095, false)).collect();
        records.push(run("full", 5, 0.3, true));
        records.extend((1..=5).map(|n| run("delta", n, 0.099, false)));
        (manifest, records)
    }

    #[test]
    fn shares_have_exact_intervals_and_capped_runs_count() {
        let (manifest, records) = planned(Rule::Fixed);
        let (sorted, strangers) = cells::sort(&manifest, &records);
        assert_eq!(strangers, 0);
        let table = table(&sorted[1]).unwrap();
        let texts = |row: usize| -> Vec<String> {
            let figures = table.rows[row].figures.iter();
            figures.map(|figure| figure.as_ref().map_or_else(String::new, |f| f.value.clone())).collect()
        };
        assert_eq!(texts(0)[..5], ["90.0 ms", "95.0 ms", "5.00 ms", "80.0 %", "80.0 %"]);
        assert_eq!(texts(1)[3], "100.0 %");
        let spread = table.rows[0].figures[3].as_ref().unwrap().spread.clone();
        assert_eq!(spread.as_deref(), Some("28.4..99.5"));
        assert_eq!(table.notes, ["all together: 9 of 10 within the limit (95 % 55.5..99.7 %)"]);
    }

    #[test]
    fn the_usual_rule_is_told_about_only_where_stopping_is_compared() {
        let (mut manifest, records) = planned(Rule::Pages);
        let found = |manifest: &Manifest| {
            let (sorted, _) = cells::sort(manifest, &records);
            table(&sorted[1]).is_some()
        };
        assert!(!found(&manifest));
        manifest.comparisons[1].compare = "stop.downtime_limit".to_owned();
        assert!(found(&manifest));
    }
}

//! What throttling took from the guest for each millisecond of downtime that it saved.

use std::collections::BTreeMap;

use migbench_scenarios::cell::Throttle;

use super::{Column, PrintedFigure, Row, Table, parts};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::Measure;
use crate::metric::{self, MetricKey, Unit};
use crate::record::Record;
use crate::stats::{self, Summary};

/// What the tables are, in a sentence.
pub const ABOUT: &str = "by how much the pause was shorter than without a throttle in the same block, runs that were forced to end included; \
                         and what the guest paid for each millisecond of that beyond what it pays anyway: work that it did not do (closed \
                         loop), or delay of its operations (open loop), the median and its interval over the median of what was saved; none where half of the guests did not recover in their window";

/// What a guest pays, by how it is loaded.
const COSTS: [MetricKey; 2] = [MetricKey::OperationsLost, MetricKey::DelayTotal];

/// Of a comparison whose baseline has no throttle, and other cells have one.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>) -> Option<Table> {
    let baseline = comparison.baseline().filter(|cell| cell.cell.throttle == Throttle::None)?;
    let columns = vec![
        Measure::Metric(MetricKey::ThrottledTime).into(),
        Column::new("downtime_saved", "downtime saved", Unit::Seconds),
        Column::new("operations_lost_per_ms", "operations lost per ms", Unit::Operations),
        Column::new("delay_total_per_ms", "delay per ms", Unit::SecondsOfOperations),
    ];
    let mut table = Table::empty(comparison, columns);
    let throttled = comparison.compared().filter(|cell| cell.cell.throttle != Throttle::None);
    table.rows = throttled.filter_map(|cell| row(comparison, baseline, cell)).collect();
    (!table.rows.is_empty()).then_some(table)
}

fn row(comparison: &ComparisonRuns<'_>, baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Option<Row> {
    let of_block: BTreeMap<u32, &Record> = runs(baseline).map(|run| (run.repetition, run)).collect();
    let pairs: Vec<(&Record, &Record)> =
        runs(cell).filter_map(|run| Some((*of_block.get(&run.repetition)?, run))).collect();
    if pairs.is_empty() {
        return None;
    }
    let less = |key, (base, new): (&Record, &Record)| {
        Some(metric::value(&base.metrics, key)? - metric::value(&new.metrics, key)?)
    };
    let figure = |unit, of: &dyn Fn((&Record, &Record)) -> Option<f64>| {
        let samples: Vec<f64> = pairs.iter().copied().filter_map(of).collect();
        Some(PrintedFigure::of(unit, &Summary::of(&samples)?, None, pairs.len()))
    };
    let saved: Vec<f64> =
        pairs.iter().map(|pair| less(MetricKey::Downtime, *pair).unwrap_or(f64::NEG_INFINITY)).collect();
    let saved = stats::median(&saved).filter(|saved| *saved > 0.0);
    // A guest that did not recover in its window cost more than any other.
    let per_ms = |key: MetricKey| {
        let cost = |pair| less(key, pair).map_or(f64::INFINITY, |less| -less);
        let each = saved? * 1e3;
        let costs: Vec<f64> = pairs.iter().map(|pair| cost(*pair) / each).collect();
        let mut summary = Summary::of(&costs).filter(|summary| summary.median.is_finite())?;
        summary.spread = summary.spread.filter(|spread| spread.ends().1.is_finite());
        Some(PrintedFigure::of(key.definition().unit, &summary, None, pairs.len()))
    };
    let slept = |pair: (&Record, &Record)| metric::value(&pair.1.metrics, MetricKey::ThrottledTime);
    let figures = vec![
        figure(Unit::Seconds, &slept),
        figure(Unit::Seconds, &|pair| less(MetricKey::Downtime, pair)),
        per_ms(COSTS[0]),
        per_ms(COSTS[1]),
    ];
    let (kind, label, _) = parts(comparison, cell).swap_remove(0);
    Some(Row::of(kind, label, cell, pairs.len(), figures))
}

fn runs<'a>(cell: &'a CellRuns<'_>) -> impl Iterator<Item = &'a Record> {
    cell.ok.iter().chain(&cell.capped).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;
    use crate::manifest::{ManifestCell, ManifestComparison};
    use crate::sample::{self, Sample};

    #[test]
    fn what_is_paid_is_for_what_is_saved_in_the_same_block() {
        let mut manifest = sample::manifest();
        let cell = |throttle| {
            let mut cell = sample::cell("write-heavy", "full");
            cell.throttle = throttle;
            cell
        };
        let throttles = [Throttle::None, Throttle::Quota];
        manifest.comparisons = vec![ManifestComparison {
            name: "flat out".to_owned(),
            compare: "throttle".to_owned(),
            baseline: "none".to_owned(),
            cells: throttles
                .map(|throttle| ManifestCell { id: throttle.to_string(), cell: cell(throttle) })
                .to_vec(),
            analysis: String::new(),
        }];
        let run = |throttle: Throttle, n: u32, downtime: f64, lost: f64| {
            let sample =
                Sample::new("write-heavy", "full").repetition(n).metric(MetricKey::Downtime, downtime);
            let sample = sample.metric(MetricKey::OperationsLost, lost);
            // The guest never converges by itself.
            let sample = if throttle == Throttle::None { sample.capped() } else { sample };
            let sample =
                sample.metric(MetricKey::ThrottledTime, if throttle == Throttle::None { 0.0 } else { 1.5 });
            sample
                .with(|record| {
                    record.comparison = "flat out".to_owned();
                    record.cell.throttle = throttle;
                    record.run_id = format!("{throttle}-{n}");
                })
                .build()
        };
        let mut records = [
            run(Throttle::None, 1, 0.375, 1_000.0),
            run(Throttle::None, 2, 0.625, 1_000.0),
            run(Throttle::Quota, 1, 0.125, 3_500.0),
            run(Throttle::Quota, 2, 0.125, 11_000.0),
        ];
        let texts = |records: &[Record]| {
            let (sorted, strangers) = cells::sort(&manifest, records);
            assert_eq!(strangers, 0);
            let table = table(&sorted[0]).unwrap();
            assert_eq!(table.rows.len(), 1);
            table.rows[0].figures.iter().map(|f| f.as_ref().map(|f| f.value.clone())).collect::<Vec<_>>()
        };
        // 250 and 500 ms; 2,500 and 10,000 operations.
        let expected = |cost: Option<&str>| {
            [Some("1.50 s"), Some("375 ms"), cost, None].map(|text| text.map(str::to_owned)).to_vec()
        };
        assert_eq!(texts(&records), expected(Some("16.7 op")));
        // One of two guests did not recover in its window.
        records[3].metrics.remove("operations_lost");
        assert_eq!(texts(&records), expected(None));
    }
}

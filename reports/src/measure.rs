//! The columns of the comparison table: what each takes from a record, and how the runs of a cell become one
//! figure with its spread and its ratio to the baseline.

use crate::cells::CellRuns;
use crate::histogram::{self, Clock, Latencies, Phase};
use crate::metric::{self, MetricKey, Unit};
use crate::record::Record;
use crate::stats::{self, Summary};

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// One metric.
    Metric(MetricKey),
    /// Two metrics added in each run, under one label.
    Sum(&'static str, MetricKey, MetricKey),
    /// The 99.9th percentile of write response times around the migration, over all runs of a cell together: one run
    /// rarely has the 10 000 operations that it takes.
    WriteTail,
}

/// The columns of the comparison table.
pub const COLUMNS: [Measure; 8] = [
    Measure::Metric(MetricKey::TotalTime),
    Measure::Metric(MetricKey::Downtime),
    Measure::Metric(MetricKey::Blackout),
    Measure::Metric(MetricKey::Traffic),
    Measure::Metric(MetricKey::Rounds),
    Measure::WriteTail,
    Measure::Sum("CPU", MetricKey::CpuSource, MetricKey::CpuDestination),
    Measure::Sum("memory", MetricKey::MemorySource, MetricKey::MemoryDestination),
];

const TAIL: f64 = 0.999;
const TAIL_PHASES: [Phase; 3] = [Phase::Precopy, Phase::Switchover, Phase::Catchup];

impl Measure {
    /// The column's heading.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Metric(key) => key.definition().label,
            Self::Sum(label, ..) => label,
            Self::WriteTail => "p99.9 write response",
        }
    }

    /// The unit of its figures.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Metric(key) | Self::Sum(_, key, _) => key.definition().unit,
            Self::WriteTail => Unit::Seconds,
        }
    }

    /// Of one run; `None` where it was not measured, or where one run alone can't have it.
    #[must_use]
    pub fn sample(self, record: &Record) -> Option<f64> {
        match self {
            Self::Metric(key) => metric::value(&record.metrics, key),
            Self::Sum(_, first, second) => {
                Some(metric::value(&record.metrics, first)? + metric::value(&record.metrics, second)?)
            }
            Self::WriteTail => None,
        }
    }

    /// Of these runs.
    #[must_use]
    pub fn summary(self, runs: &[&Record]) -> Option<Summary> {
        if self == Self::WriteTail {
            let nanoseconds = histogram::supported_quantile(&write_responses(runs), TAIL)?;
            #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
            let median = nanoseconds as f64 / 1e9;
            return Some(Summary { samples: runs.len(), median, spread: None });
        }
        let samples: Vec<f64> = runs.iter().filter_map(|run| self.sample(run)).collect();
        Summary::of(&samples)
    }

    /// Runs of a cell over those of the baseline: paired by block, and for the tail the ratio of both quantiles.
    #[must_use]
    pub fn ratio(self, baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Option<f64> {
        if self == Self::WriteTail {
            return stats::paired_ratio(&[(
                self.summary(&baseline.ok)?.median,
                self.summary(&cell.ok)?.median,
            )]);
        }
        let of_block = |block: u32| {
            baseline.ok.iter().find(|run| run.repetition == block).and_then(|run| self.sample(run))
        };
        let pairs: Vec<_> =
            cell.ok.iter().filter_map(|run| Some((of_block(run.repetition)?, self.sample(run)?))).collect();
        stats::paired_ratio(&pairs)
    }
}

/// Write response times of these runs from the start of the migration until the backlog is gone. Damaged
/// histograms are left out here and warned of elsewhere.
#[must_use]
pub fn write_responses(runs: &[&Record]) -> Latencies {
    let mut all = histogram::empty();
    for run in runs {
        for phase in TAIL_PHASES {
            let text = run.histograms.get(&histogram::key("write", Clock::Response, phase));
            if let Some(part) = text.and_then(|text| histogram::decode(text).ok()) {
                // Grows as it must; a histogram that can't be added is of absurd values.
                let _ = all.add(part);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;
    use crate::sample::{self, Sample};

    #[test]
    fn the_tail_needs_several_runs() {
        let runs: Vec<_> =
            (1..=3).map(|r| Sample::new("write-heavy", "full").repetition(r).build()).collect();
        let runs: Vec<_> = runs.iter().collect();
        assert_eq!(Measure::WriteTail.summary(&runs[..2]), None);
        let tail = Measure::WriteTail.summary(&runs).unwrap().median;
        assert!((0.0899..0.0911).contains(&tail), "{tail}");
    }

    #[test]
    fn blocks_without_a_partner_do_not_count() {
        let manifest = sample::manifest();
        let mut records: Vec<_> =
            (1..=2).map(|r| Sample::new("write-heavy", "full").repetition(r).build()).collect();
        records.push(Sample::new("write-heavy", "delta").repetition(2).build());
        records.push(
            Sample::new("write-heavy", "delta")
                .repetition(3)
                .with(|r| {
                    let mut metrics = crate::metric::Metrics::new();
                    metrics.set(MetricKey::TotalTime, 999.0).unwrap();
                    r.metrics = metrics.into();
                })
                .build(),
        );
        let (sorted, _) = cells::sort(&manifest, &records);
        let (full, delta) = (&sorted[1].cells[0], &sorted[1].cells[1]);
        let ratio = Measure::Metric(MetricKey::TotalTime).ratio(full, delta).unwrap();
        assert!((ratio - 0.5).abs() < 1e-9, "{ratio}");
    }
}

//! The columns of the comparison table: what each takes from a record, and how the runs of a cell become one
//! figure with its spread and its ratio to the baseline.

use crate::cells::{CellRuns, ComparisonRuns};
use crate::histogram::{self, Clock, Latencies, Phase};
use crate::metric::{self, MetricKey, Unit};
use crate::quantity;
use crate::record::{Record, Round};
use crate::stats::{self, Spread, Summary};
use crate::table::NOT_SIGNIFICANT;
use crate::tail::Tail;

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
    /// The 99.9th percentile of the time that writes took in pre-copy, over all runs of a cell together.
    PrecopyWriteTail,
    /// The longest write in pre-copy, of one run.
    PrecopyWriteMax,
    /// `harvest_time` over the harvests of a run.
    HarvestPerRound,
    /// `harvest_time` over the pages that harvests found.
    HarvestPerPage,
    /// `traffic` without that of round 0.
    LaterTraffic,
}

/// The CPU time of both sides without the guest's.
pub const CPU: Measure = Measure::Sum("CPU", MetricKey::CpuSource, MetricKey::CpuDestination);
/// The memory of both sides without the guest's.
pub const MEMORY: Measure = Measure::Sum("memory", MetricKey::MemorySource, MetricKey::MemoryDestination);

/// A cell over the baseline, in one measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The ratio, new over baseline.
    pub ratio: f64,
    /// Of the ratio.
    pub spread: Option<Spread>,
    /// Whether it can be told from chance; `None` where nothing was tested.
    pub significant: Option<bool>,
    /// How likely a difference as large would be, were there none.
    pub p: Option<f64>,
}

impl Difference {
    /// In percent, with a mark where it may be chance.
    #[must_use]
    pub fn show(self) -> String {
        let text = quantity::difference(self.ratio);
        if self.significant == Some(false) { format!("{text} {NOT_SIGNIFICANT}") } else { text }
    }
}

/// The columns of a table that compares engines.
const MIGRATION: &[Measure] = &[
    Measure::Metric(MetricKey::TotalTime),
    Measure::Metric(MetricKey::Downtime),
    Measure::Metric(MetricKey::Blackout),
    Measure::Metric(MetricKey::Traffic),
    Measure::Metric(MetricKey::Rounds),
    Measure::WriteTail,
    CPU,
    MEMORY,
];

/// The columns of a table that compares trackers.
const TRACKERS: &[Measure] = &[
    Measure::Metric(MetricKey::SetupTime),
    Measure::HarvestPerRound,
    Measure::HarvestPerPage,
    Measure::Metric(MetricKey::StallPrecopy),
    Measure::Metric(MetricKey::SlowdownPrecopy),
    Measure::Metric(MetricKey::VcpuRunDelay),
    Measure::Metric(MetricKey::EngineRunDelay),
    Measure::PrecopyWriteTail,
    Measure::PrecopyWriteMax,
    Measure::Metric(MetricKey::Downtime),
    Measure::Metric(MetricKey::TotalTime),
];

/// The columns of a table of dirty logging alone.
const PASSES: &[Measure] = &[
    Measure::Metric(MetricKey::ArmTime),
    Measure::Metric(MetricKey::FirstWriteTime),
    Measure::Metric(MetricKey::PassTime),
    Measure::Metric(MetricKey::PassTimeUnlogged),
    Measure::HarvestPerRound,
    Measure::HarvestPerPage,
    Measure::Metric(MetricKey::RearmTime),
    Measure::Metric(MetricKey::DisarmTime),
];

/// The columns for a comparison: those of what it compares.
#[must_use]
pub fn columns(comparison: &ComparisonRuns<'_>) -> &'static [Measure] {
    let mut runs = comparison.cells.iter().flat_map(|cell| &cell.ok);
    if comparison.plan.compare != "tracker" {
        MIGRATION
    } else if runs.any(|run| run.metrics.contains_key(MetricKey::PassTime.name())) {
        PASSES
    } else {
        TRACKERS
    }
}

const TAIL_PHASES: [Phase; 3] = [Phase::Precopy, Phase::Switchover, Phase::Catchup];

impl Measure {
    /// Every metric, then what is derived from several.
    pub fn all() -> impl Iterator<Item = Self> {
        let derived = [
            CPU,
            MEMORY,
            Self::LaterTraffic,
            Self::HarvestPerRound,
            Self::HarvestPerPage,
            Self::WriteTail,
            Self::PrecopyWriteTail,
            Self::PrecopyWriteMax,
        ];
        MetricKey::ALL.iter().copied().map(Self::Metric).chain(derived)
    }

    /// What programs call it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Metric(key) => key.name().to_owned(),
            Self::Sum(label, ..) => label.to_lowercase(),
            Self::WriteTail => "write_response_p99.9".to_owned(),
            Self::PrecopyWriteTail => "write_precopy_p99.9".to_owned(),
            Self::PrecopyWriteMax => "write_precopy_max".to_owned(),
            Self::HarvestPerRound => "harvest_time_per_round".to_owned(),
            Self::HarvestPerPage => "harvest_time_per_page".to_owned(),
            Self::LaterTraffic => "traffic_later_rounds".to_owned(),
        }
    }

    /// The column's heading.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Metric(key) => key.definition().label,
            Self::Sum(label, ..) => label,
            Self::WriteTail => "p99.9 write response",
            Self::PrecopyWriteTail => "p99.9 write",
            Self::PrecopyWriteMax => "longest write",
            Self::HarvestPerRound => "harvest a round",
            Self::HarvestPerPage => "harvest a page",
            Self::LaterTraffic => "traffic, later rounds",
        }
    }

    /// The unit of its figures.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Metric(key) | Self::Sum(_, key, _) => key.definition().unit,
            Self::LaterTraffic => Unit::Bytes,
            _ => Unit::Seconds,
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
            Self::LaterTraffic => {
                let first = metric::value(&record.metrics, MetricKey::FirstRoundBytes)?;
                Some(metric::value(&record.metrics, MetricKey::Traffic)? - first)
            }
            Self::WriteTail | Self::PrecopyWriteTail => None,
            Self::PrecopyWriteMax => {
                let longest = writes(record, Clock::Service, &[Phase::Precopy]).max();
                (longest > 0).then(|| histogram::seconds(longest))
            }
            Self::HarvestPerRound => harvest(record, |_| 1),
            Self::HarvestPerPage => harvest(record, |round| round.dirty_pages),
        }
    }

    /// For tails that one run rarely has the samples for: over all runs of a cell together.
    fn tail(self, runs: &[&Record]) -> Option<Tail> {
        let of = |clock, phases| {
            let each: Vec<_> = runs.iter().map(|run| writes(run, clock, phases)).collect();
            Some(Tail::of(&each))
        };
        match self {
            Self::WriteTail => of(Clock::Response, &TAIL_PHASES),
            Self::PrecopyWriteTail => of(Clock::Service, &[Phase::Precopy]),
            _ => None,
        }
    }

    /// Of these runs.
    #[must_use]
    pub fn summary(self, runs: &[&Record]) -> Option<Summary> {
        if let Some(tail) = self.tail(runs) {
            return Some(Summary { samples: runs.len(), median: tail.seconds()?, spread: tail.spread() });
        }
        let samples: Vec<f64> = runs.iter().filter_map(|run| self.sample(run)).collect();
        Summary::of(&samples)
    }

    /// Runs of a cell over those of the baseline: paired by block, and for the tail the ratio of both quantiles, whose
    /// interval gives its mark.
    #[must_use]
    pub fn difference(self, baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Option<Difference> {
        if let (Some(base), Some(new)) = (self.tail(&baseline.ok), self.tail(&cell.ok)) {
            let (ratio, spread) = new.ratio(&base)?;
            let apart = spread.map(Spread::ends).is_some_and(|(low, high)| low > 1.0 || high < 1.0);
            return Some(Difference { ratio, spread, significant: Some(apart), p: None });
        }
        let of_block = |block: u32| {
            baseline.ok.iter().find(|run| run.repetition == block).and_then(|run| self.sample(run))
        };
        let pairs: Vec<_> =
            cell.ok.iter().filter_map(|run| Some((of_block(run.repetition)?, self.sample(run)?))).collect();
        let test = stats::paired(&pairs)?;
        Some(Difference {
            ratio: test.ratio,
            // One pair has no range.
            spread: (pairs.len() > 1).then(|| test.interval()),
            significant: Some(test.mark(stats::ALPHA).significant()),
            p: Some(test.p),
        })
    }
}

/// Times of the operations by which this run's workload writes, in `phases`. Damaged histograms are left out here and warned of
/// elsewhere.
fn writes(run: &Record, clock: Clock, phases: &[Phase]) -> Latencies {
    let operation = run.cell.settings.program.writing();
    let mut all = histogram::empty();
    for phase in phases {
        let text = run.histograms.get(&histogram::key(operation, clock, *phase));
        if let Some(part) = text.and_then(|text| histogram::decode(text).ok()) {
            // Grows as it must; a histogram that can't be added is of absurd values.
            let _ = all.add(part);
        }
    }
    all
}

/// Harvest time over what `count` makes of the rounds that began with a harvest.
#[expect(clippy::cast_precision_loss, reason = "counts of one run stay under 2^53")]
fn harvest(record: &Record, count: impl Fn(&Round) -> u64) -> Option<f64> {
    // Schema 1 has zero for rounds without one.
    let harvested = || {
        record.rounds.iter().filter_map(|round| Some((round, round.harvest_time.filter(|time| *time > 0.0)?)))
    };
    let things: u64 = harvested().map(|(round, _)| count(round)).sum();
    (things > 0).then(|| harvested().map(|(_, time)| time).sum::<f64>() / things as f64)
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
        let ratio = Measure::Metric(MetricKey::TotalTime).difference(full, delta).unwrap().ratio;
        assert!((ratio - 0.5).abs() < 1e-9, "{ratio}");
    }
}

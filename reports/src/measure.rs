//! The columns of the comparison table: what each takes from a record, and how the runs of a cell become one
//! figure with its spread and its ratio to the baseline.

use std::collections::HashMap;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cells::{CellRuns, ComparisonRuns};
use crate::histogram::{self, Clock, Phase};
use crate::metric::{self, MetricKey, Unit};
use crate::quantity;
use crate::record::{Record, Round};
use crate::stats::tail::Tail;
use crate::stats::{self, Spread, Summary};
use crate::table::{NOT_SIGNIFICANT, ends};

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// One metric.
    Metric(MetricKey),
    /// Two metrics added in each run, under one label.
    Sum(&'static str, MetricKey, MetricKey),
    /// The tail of write response times around the migration.
    WriteTail(Tail),
    /// The tail of the time that writes took in pre-copy.
    PrecopyWriteTail(Tail),
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// New over baseline; the difference in percent is 100 (ratio - 1).
    pub ratio: f64,
    /// Of the ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// Whether it can be told from chance at a level of 5 %; absent where nothing was tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub significant: Option<bool>,
    /// How likely a difference as large would be, were there none: two-sided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
}

impl Difference {
    /// In percent, or as a factor where an end is ten or more. Where it may be chance a mark stands in its place: a number is
    /// read before whatever qualifies it.
    #[must_use]
    pub fn show(self) -> String {
        match (self.significant, self.is_factor()) {
            (Some(false), _) => NOT_SIGNIFICANT.to_owned(),
            (_, true) => quantity::factor(self.ratio),
            (_, false) => quantity::difference(self.ratio),
        }
    }

    /// Both ends of its interval or range, in the unit of [`Difference::show`], which is repeated only where that has none.
    #[must_use]
    pub fn show_spread(self) -> Option<String> {
        let spread = self.spread?;
        let factor = self.is_factor();
        let end = |end| if factor { quantity::digits(end) } else { quantity::difference_end(end) };
        let ends = ends(spread, end);
        Some(match (self.significant, factor) {
            (Some(false), true) => format!("x {ends}"),
            (Some(false), false) => format!("{ends} %"),
            _ => ends,
        })
    }

    /// One unit for all of a difference.
    fn is_factor(self) -> bool {
        self.ratio.max(self.spread.map_or(0.0, |spread| spread.ends().1)) >= 10.0
    }
}

/// The columns of a table that compares engines, but for which quantile its tail is.
const MIGRATION: &[Measure] = &[
    Measure::Metric(MetricKey::TotalTime),
    Measure::Metric(MetricKey::Downtime),
    Measure::Metric(MetricKey::Blackout),
    Measure::Metric(MetricKey::Traffic),
    Measure::Metric(MetricKey::Rounds),
    Measure::WriteTail(Tail::P999),
    CPU,
    MEMORY,
];

/// The columns of a table that compares trackers, but for which quantile its tail is.
const TRACKERS: &[Measure] = &[
    Measure::Metric(MetricKey::SetupTime),
    Measure::HarvestPerRound,
    Measure::HarvestPerPage,
    Measure::Metric(MetricKey::StallPrecopy),
    Measure::Metric(MetricKey::SlowdownPrecopy),
    Measure::Metric(MetricKey::VcpuRunDelay),
    Measure::Metric(MetricKey::EngineRunDelay),
    Measure::PrecopyWriteTail(Tail::P999),
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

/// Whether a comparison is of dirty logging alone, which has no pre-copy.
#[must_use]
pub fn logs_alone(comparison: &ComparisonRuns<'_>) -> bool {
    let mut runs = comparison.cells.iter().flat_map(|cell| &cell.ok);
    comparison.plan.compare == "tracker"
        && runs.any(|run| run.metrics.contains_key(MetricKey::PassTime.name()))
}

/// The columns for a comparison, those of what it compares, with these tails.
#[must_use]
pub fn columns(comparison: &ComparisonRuns<'_>, tails: Tails) -> Vec<Measure> {
    let known = match comparison {
        one if logs_alone(one) => PASSES,
        one if one.plan.compare == "tracker" => TRACKERS,
        _ => MIGRATION,
    };
    let mut columns: Vec<_> = known.iter().map(|measure| measure.with(tails)).collect();
    if columns.contains(&Measure::PrecopyWriteMax) {
        columns.retain(|measure| *measure != Measure::PrecopyWriteTail(Tail::Longest));
    }
    columns
}

/// The tails that all runs of some comparisons support. To find them takes a look at each histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tails {
    write: Tail,
    precopy_write: Tail,
}

impl Tails {
    /// Of comparisons that are laid beside each other.
    #[must_use]
    pub fn of(comparisons: &[&ComparisonRuns<'_>]) -> Self {
        let tail = |writes| {
            let cells = comparisons.iter().flat_map(|comparison| &comparison.cells);
            let runs = cells.flat_map(|cell| cell.ok.iter().chain(&cell.capped));
            Tail::supported(runs.map(|run| WriteTail::of(run, writes).operations))
        };
        Self { write: tail(Writes::Response), precopy_write: tail(Writes::Precopy) }
    }

    /// Of each comparison of a report: those of one kind have the same.
    #[must_use]
    pub fn of_each(all: &[ComparisonRuns<'_>]) -> Vec<Self> {
        let kind = |one: &ComparisonRuns<'_>| (one.plan.compare == "tracker", logs_alone(one));
        let mut known: Vec<((bool, bool), Self)> = Vec::new();
        let of = |one: &ComparisonRuns<'_>| {
            let kind_of_one = kind(one);
            if let Some((_, tails)) = known.iter().find(|(kind, _)| *kind == kind_of_one) {
                return *tails;
            }
            let alike: Vec<_> = all.iter().filter(|other| kind(other) == kind_of_one).collect();
            let tails = Self::of(&alike);
            known.push((kind_of_one, tails));
            tails
        };
        all.iter().map(of).collect()
    }
}

const TAIL_PHASES: [Phase; 3] = [Phase::Precopy, Phase::Switchover, Phase::Catchup];

impl Measure {
    /// The same, with one of these tails where it is one.
    const fn with(self, tails: Tails) -> Self {
        match self {
            Self::WriteTail(_) => Self::WriteTail(tails.write),
            Self::PrecopyWriteTail(_) => Self::PrecopyWriteTail(tails.precopy_write),
            other => other,
        }
    }

    /// Every metric, then what is derived from several, with these tails.
    pub fn all(tails: Tails) -> Vec<Self> {
        let derived = [
            CPU,
            MEMORY,
            Self::LaterTraffic,
            Self::HarvestPerRound,
            Self::HarvestPerPage,
            Self::WriteTail(Tail::P999),
            Self::PrecopyWriteTail(Tail::P999),
            Self::PrecopyWriteMax,
        ];
        let all = MetricKey::ALL.iter().copied().map(Self::Metric).chain(derived);
        all.map(|measure| measure.with(tails)).collect()
    }

    /// What programs call it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Metric(key) => key.name().to_owned(),
            Self::Sum(label, ..) => label.to_lowercase(),
            Self::WriteTail(tail) => format!("write_response_{}", tail.word()),
            // The longest write in pre-copy has that name already, and is the same.
            Self::PrecopyWriteTail(tail) => format!("write_precopy_{}", tail.word()),
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
            Self::WriteTail(Tail::P999) => "p99.9 write response",
            Self::WriteTail(Tail::P99) => "p99 write response",
            Self::WriteTail(Tail::P90) => "p90 write response",
            Self::WriteTail(Tail::Longest) => "longest write response",
            Self::PrecopyWriteTail(Tail::P999) => "p99.9 write",
            Self::PrecopyWriteTail(Tail::P99) => "p99 write",
            Self::PrecopyWriteTail(Tail::P90) => "p90 write",
            Self::PrecopyWriteTail(Tail::Longest) => "longest write",
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

    /// Of one run; `None` where it was not measured.
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
            Self::WriteTail(tail) => WriteTail::of(record, Writes::Response).tail(tail),
            Self::PrecopyWriteTail(tail) => WriteTail::of(record, Writes::Precopy).tail(tail),
            Self::PrecopyWriteMax => {
                let longest = WriteTail::of(record, Writes::Precopy).tail(Tail::Longest);
                longest.filter(|longest| *longest > 0.0)
            }
            Self::HarvestPerRound => harvest(record, |_| 1),
            Self::HarvestPerPage => harvest(record, |round| round.dirty_pages),
        }
    }

    /// Of these runs.
    #[must_use]
    pub fn summary(self, runs: &[&Record]) -> Option<Summary> {
        let samples: Vec<f64> = runs.iter().filter_map(|run| self.sample(run)).collect();
        Summary::of(&samples)
    }

    /// Runs of a cell over those of the baseline, paired by block. None where a run of either was capped: those that were
    /// not are no fair sample, and a difference of them would flatter who was capped.
    #[must_use]
    pub fn difference(self, baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Option<Difference> {
        if !baseline.capped.is_empty() || !cell.capped.is_empty() {
            return None;
        }
        let pairs = self.pairs(baseline, cell);
        let test = stats::paired(&pairs)?;
        Some(Difference {
            ratio: test.ratio,
            // One pair has no range.
            spread: (pairs.len() > 1).then(|| test.interval()),
            significant: Some(test.mark(stats::ALPHA).significant()),
            p: Some(test.p),
        })
    }

    /// Of each block that both have a run of: the baseline's and the cell's.
    #[must_use]
    pub fn pairs(self, baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Vec<(f64, f64)> {
        // The first run of a block, should there be several.
        let of_block: HashMap<u32, &Record> =
            baseline.ok.iter().rev().map(|run| (run.repetition, *run)).collect();
        let pair = |run: &&Record| Some((self.sample(of_block.get(&run.repetition)?)?, self.sample(run)?));
        cell.ok.iter().filter_map(pair).collect()
    }

    /// How much more the cell has than the baseline in the same block.
    #[must_use]
    pub fn more(self, baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Option<Summary> {
        let more: Vec<f64> = self.pairs(baseline, cell).into_iter().map(|(base, new)| new - base).collect();
        Summary::of(&more)
    }

    /// Whether it is memory, which is compared in bytes: what delta remembers of a guest has no relation to what little the
    /// baseline takes.
    #[must_use]
    pub fn is_memory(self) -> bool {
        self == MEMORY || matches!(self, Self::Metric(MetricKey::MemorySource | MetricKey::MemoryDestination))
    }
}

/// When writes that a tail is of began to count, and in which phases.
#[derive(Debug, Clone, Copy)]
enum Writes {
    /// From when they were due, around the migration.
    Response,
    /// From their start, in pre-copy.
    Precopy,
}

/// What tails need of how long the operations took by which a run's workload writes. Its histograms are read for that once,
/// when the first table asks.
#[derive(Debug, Clone, Default)]
pub struct WriteTimes(OnceLock<[WriteTail; 2]>);

impl PartialEq for WriteTimes {
    /// It follows from the record, whoever has asked.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy)]
struct WriteTail {
    operations: u64,
    /// In the order of [`Tail::ALL`].
    tails: [Option<f64>; Tail::ALL.len()],
}

impl WriteTail {
    fn of(run: &Record, writes: Writes) -> Self {
        let read = || {
            let (histograms, operation) = (run.histograms.get(), run.cell.settings.program.writing());
            let tail = |clock, phases: &[Phase]| {
                let keys = phases.iter().map(|phase| histogram::key(operation, clock, *phase));
                let all = histogram::sum(keys.filter_map(|key| histograms.get(&key)));
                Self {
                    operations: all.len(),
                    tails: std::array::from_fn(|place| Tail::ALL[place].1.of(&all)),
                }
            };
            [tail(Clock::Response, &TAIL_PHASES), tail(Clock::Service, &[Phase::Precopy])]
        };
        run.write_times.0.get_or_init(read)[writes as usize]
    }

    fn tail(self, tail: Tail) -> Option<f64> {
        self.tails[tail as usize]
    }
}

/// Harvest time over what `count` makes of the rounds that began with a harvest.
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

    /// Write responses of 1 ms, and one in `late` of them of `tail` ms.
    fn with_tail(engine: &str, repetition: u32, operations: u64, late: u64, tail: u64) -> Record {
        let mut latencies = histogram::empty();
        latencies.record_n(1_000_000, operations - operations / late).unwrap();
        latencies.record_n(tail * 1_000_000, operations / late).unwrap();
        let key = histogram::key("write", Clock::Response, Phase::Switchover);
        let text = histogram::encode(&latencies).unwrap();
        let mut run = Sample::new("write-heavy", engine).repetition(repetition).build();
        run.histograms.to_mut().insert(key, text);
        run
    }

    /// Six runs, of which one was unlucky: pooled, the tail would be its 900 ms.
    #[test]
    fn the_tail_is_one_value_of_each_run() {
        let manifest = sample::manifest();
        let tails = [50, 52, 51, 900, 49, 53];
        let mut records: Vec<_> =
            (1..).zip(tails).map(|(n, tail)| with_tail("full", n, 20_000, 200, tail)).collect();
        records.extend((1..).zip(tails).map(|(n, tail)| with_tail("delta", n, 12_000, 200, tail / 2)));
        let (sorted, _) = cells::sort(&manifest, &records);
        let tail = columns(&sorted[1], Tails::of(&[&sorted[1]]))[5];
        assert_eq!((tail, tail.label()), (Measure::WriteTail(Tail::P999), "p99.9 write response"));
        let (full, delta) = (&sorted[1].cells[0], &sorted[1].cells[1]);
        let summary = tail.summary(&full.ok).unwrap();
        assert_eq!(summary.samples, 6);
        assert!((summary.median - 0.0515).abs() < 1e-3, "{summary:?}");
        assert!(matches!(summary.spread, Some(Spread::Interval { confidence, .. }) if confidence > 0.95));
        // Tested as any metric: by pairs of runs.
        let difference = tail.difference(full, delta).unwrap();
        assert_eq!((difference.significant, difference.p), (Some(true), Some(2.0 / 64.0)));
        assert!((difference.ratio - 0.5).abs() < 0.01, "{difference:?}");
        // One run of the table with fewer operations: another quantile for all of them.
        records[8] = with_tail("delta", 3, 9_000, 200, 25);
        let (sorted, _) = cells::sort(&manifest, &records);
        let tail = columns(&sorted[1], Tails::of(&[&sorted[1]]))[5];
        assert_eq!((tail, tail.name()), (Measure::WriteTail(Tail::P99), "write_response_p99".to_owned()));
        assert!(Measure::all(Tails::of(&[&sorted[1]])).contains(&tail));
    }

    /// Runs of both sides from one population, whose tails scatter by a factor: the bootstrap of pooled operations, which
    /// this replaced, called 15 to 19 % of them different.
    #[test]
    fn tails_that_do_not_differ_are_told_apart_in_one_of_twenty_at_most() {
        use rand::{RngExt, SeedableRng};
        const TAILS: [u64; 10] = [10, 15, 20, 30, 40, 60, 90, 140, 250, 500];
        let mut random = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(1);
        let manifest = sample::manifest();
        let mut apart = 0;
        for _ in 0..100 {
            let mut of = |engine| -> Vec<Record> {
                let mut tail = || TAILS[random.random_range(0..TAILS.len())];
                (1..=6).map(|n| with_tail(engine, n, 12_000, 200, tail())).collect()
            };
            let records = [of("full"), of("delta")].concat();
            let (sorted, _) = cells::sort(&manifest, &records);
            let tail = Measure::WriteTail(Tail::P999);
            let difference = tail.difference(&sorted[1].cells[0], &sorted[1].cells[1]).unwrap();
            apart += usize::from(difference.significant == Some(true));
        }
        // 3.1 are expected; four standard deviations are 7.
        assert!(apart <= 10, "{apart} of 100");
    }

    #[test]
    fn survivors_of_a_cap_have_no_difference() {
        let manifest = sample::manifest();
        for capped in ["full", "delta"] {
            let run = |engine: &str, n: u32| {
                let sample = Sample::new("write-heavy", engine).repetition(n);
                if engine == capped && n == 6 { sample.capped().build() } else { sample.build() }
            };
            let records: Vec<_> =
                ["full", "delta"].iter().flat_map(|engine| (1..=6).map(move |n| run(engine, n))).collect();
            let (sorted, _) = cells::sort(&manifest, &records);
            let (full, delta) = (&sorted[1].cells[0], &sorted[1].cells[1]);
            assert_eq!(Measure::Metric(MetricKey::TotalTime).difference(full, delta), None);
        }
    }

    #[test]
    fn blocks_without_a_partner_do_not_count() {
        let manifest = sample::manifest();
        let mut records: Vec<_> =
            (1..=2).map(|r| Sample::new("write-heavy", "full").repetition(r).build()).collect();
        records.push(Sample::new("write-heavy", "delta").repetition(2).build());
        records.push(
            Sample::new("write-heavy", "delta").repetition(3).metric(MetricKey::TotalTime, 999.0).build(),
        );
        let (sorted, _) = cells::sort(&manifest, &records);
        let (full, delta) = (&sorted[1].cells[0], &sorted[1].cells[1]);
        let ratio = Measure::Metric(MetricKey::TotalTime).difference(full, delta).unwrap().ratio;
        assert!((ratio - 0.5).abs() < 1e-9, "{ratio}");
    }
}

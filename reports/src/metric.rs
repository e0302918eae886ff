//! The one table of metrics: name, unit, label, direction and definition. Records are written through it, tables
//! label their columns from it, and the reference in `METRICS.md` is generated from it, so that a name or a unit
//! is typed once.

use std::collections::BTreeMap;
use std::fmt;

use migbench_scenarios::words;

use crate::record::{Cause, Metric};
use crate::word::Word;

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A number of things.
    Count,
    /// A number without dimension.
    Ratio,
    /// Guest operations.
    Operations,
    /// Guest operations per second.
    OperationsPerSecond,
    /// Pages per second.
    PagesPerSecond,
    /// Seconds per second.
    SecondsPerSecond,
    /// Seconds, summed over guest operations.
    SecondsOfOperations,
    /// Bytes per second.
    BytesPerSecond,
}

impl Unit {
    /// As records write it.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "B",
            Self::Count => "count",
            Self::Ratio => "ratio",
            Self::Operations => "op",
            Self::OperationsPerSecond => "op/s",
            Self::PagesPerSecond => "page/s",
            Self::SecondsPerSecond => "s/s",
            Self::SecondsOfOperations => "s x op",
            Self::BytesPerSecond => "B/s",
        }
    }
}

words! {
    /// Which values of a metric are the good ones.
    Better {
        /// Small ones: times, bytes, stalls.
        Smaller = "smaller",
        /// Large ones: throughput.
        Larger = "larger",
        /// Neither: the metric explains others.
        Neither = "neither",
    }
}

/// What is known of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Its name in records.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Which values are good.
    pub better: Better,
    /// What tables call it.
    pub label: &'static str,
    /// What is measured, from when to when.
    pub text: &'static str,
}

macro_rules! metrics {
    ($($key:ident = $name:literal, $unit:ident, $better:ident, $label:literal, $text:literal;)+) => {
        /// The name of a metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum MetricKey { $(#[doc = $text] $key),+ }

        impl MetricKey {
            /// All of them, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$key),+];

            /// What is known of it.
            #[must_use]
            pub const fn definition(self) -> Definition {
                match self {
                    $(Self::$key => Definition {
                        name: $name,
                        unit: Unit::$unit,
                        better: Better::$better,
                        label: $label,
                        text: $text,
                    }),+
                }
            }
        }
    };
}

metrics! {
    TotalTime = "total_time", Seconds, Smaller, "total time",
        "From when the source, ordered to start, turns to the migration (what it needs is made, and it connects next) until it hears that the guest runs at the destination. Arming the tracker is in it.";
    SetupTime = "setup_time", Seconds, Smaller, "set-up",
        "Arming the dirty tracker and connecting; a part of `total_time`. Of the control `track-only`, arming alone.";
    DestinationPrepareTime = "destination_prepare_time", Seconds, Smaller, "destination prepared",
        "Making the destination's memory and touching it where pre-faulting is on. Never a part of `total_time`, for any engine.";
    Downtime = "downtime", Seconds, Smaller, "downtime",
        "As the host sees it: from the source's order to pause until the last vCPU enters its first `KVM_RUN` at the destination. Of another VMM: from the time that it gives for its vCPUs' stop at the source to that of their start at the destination. Engines of different VMMs pause at different points; compare those on `blackout`.";
    DowntimePause = "downtime_pause", Seconds, Smaller, "pause",
        "Part of `downtime`: from the order to pause until the last vCPU has stopped and its state is read.";
    DowntimeHarvest = "downtime_harvest", Seconds, Smaller, "last harvest",
        "Part of `downtime`: reading the dirty tracker with the guest paused.";
    DowntimeSend = "downtime_send", Seconds, Smaller, "last round",
        "Part of `downtime`: encoding and sending the pages of the paused round.";
    DowntimeState = "downtime_state", Seconds, Smaller, "state",
        "Part of `downtime`: sending the CPU state, until the source hears that the destination has taken in the last pages and the state.";
    DowntimeResume = "downtime_resume", Seconds, Smaller, "resume",
        "Part of `downtime`: from then on, over the order to take the guest over, to the first `KVM_RUN` of the last vCPU.";
    DowntimePredicted = "downtime_predicted", Seconds, Neither, "downtime predicted",
        "What the stop rule foresaw of `downtime` when it decided to switch over, or when a limit forced it; as the rule counts, so that most rules foresee the sending of pages alone.";
    PredictionError = "prediction_error", Seconds, Neither, "prediction error",
        "`downtime` less `downtime_predicted`: positive where the pause was longer.";
    Blackout = "blackout", Seconds, Smaller, "blackout",
        "As the guest feels it: the longest gap between two successive operations of one vCPU that spans the switchover, the largest over vCPUs, on the host's clock: what the handover took from the guest's (`tsc_jump`) is in it. Resolved to one interval between operations.";
    Brownout = "brownout", Seconds, Smaller, "brownout",
        "Guest time, from the start of the migration to one second after its end, in 10 ms windows whose throughput is under 90 % of the steady median; without `blackout`, and less the share of such windows in the steady window times the same time. Negative where the steady window was the worse one.";
    StallPrecopy = "stall_precopy", SecondsPerSecond, Smaller, "stall in pre-copy",
        "Time per second of pre-copy by which operations exceeded the steady p99.9, less the same rate in a second steady window; all vCPUs together.";
    StallPrecopyArm = "stall_precopy_arm", SecondsPerSecond, Smaller, "stall: arming",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where the dirty tracker was turned on. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopyHarvest = "stall_precopy_harvest", SecondsPerSecond, Smaller, "stall: harvest",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where the dirty tracker was read. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopyClear = "stall_precopy_clear", SecondsPerSecond, Smaller, "stall: clearing",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where pages were re-armed before they were read. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopyFault = "stall_precopy_fault", SecondsPerSecond, Smaller, "stall: faults",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where a userfaultfd fault of that vCPU was handled. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopyRingFull = "stall_precopy_ring_full", SecondsPerSecond, Smaller, "stall: full rings",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where the full dirty ring of that vCPU was emptied. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopyThrottle = "stall_precopy_throttle", SecondsPerSecond, Smaller, "stall: throttled",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where that vCPU was kept out of the guest by a throttle. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopySwitchover = "stall_precopy_switchover", SecondsPerSecond, Smaller, "stall: pausing",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where the guest was being paused. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopyDisarm = "stall_precopy_disarm", SecondsPerSecond, Smaller, "stall: disarming",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where the dirty tracker was turned off. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopyNone = "stall_precopy_none", SecondsPerSecond, Smaller, "stall: nothing",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where the host did nothing of the others; faults that the kernel handles alone are here. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    StallPrecopyUnknown = "stall_precopy_unknown", SecondsPerSecond, Smaller, "stall: unknown",
        "Of the stalls that are listed, in pre-copy: time over the threshold per second, where nobody can say what the host did. The list holds the longest alone, so these sums are no parts of `stall_precopy`.";
    PeerTotalTime = "peer_total_time", Seconds, Smaller, "total time by itself",
        "What another VMM says of its migration's total time, in whole ms.";
    PeerDowntime = "peer_downtime", Seconds, Smaller, "downtime by itself",
        "What another VMM says of its migration's downtime, in whole ms.";
    TscJump = "tsc_jump", Seconds, Neither, "TSC jump",
        "Guest clock against host clock across the handover; near zero when the guest's clock saw the pause.";
    LinkRateAchieved = "link_rate_achieved", Ratio, Neither, "link rate achieved",
        "Of the rate: the time that the bytes of all rounds take on the wire, over that and all time of rounds in which the wire was idle, whoever's doing it was. Of a link between network namespaces: what left the sending socket over times in which it never ran empty, over what the rate allows in that time.";
    WireIdle = "wire_idle", Seconds, Smaller, "wire idle",
        "Time in rounds in which the wire had nothing to send although pages were left, summed over rounds: the engine's doing. The host's share, the sender's run delay in that time, is left out. Only of a link with a rate.";
    LinkQueue = "link_queue", Bytes, Neither, "link queue",
        "Room of the queue before a modelled wire: `link.queue`, or less where that was left to its default and the source's socket holds less. Only of a link with a rate that is modelled.";
    ThroughputSteady = "throughput_steady", OperationsPerSecond, Larger, "throughput before",
        "Guest operations per second in the steady window before the migration.";
    ThroughputPrecopy = "throughput_precopy", OperationsPerSecond, Larger, "throughput in pre-copy",
        "Guest operations per second from the start of the migration to the pause.";
    ThroughputAfter = "throughput_after", OperationsPerSecond, Larger, "throughput after",
        "Guest operations per second in the window after the migration.";
    SlowdownPrecopy = "slowdown_precopy", Ratio, Smaller, "slowdown in pre-copy",
        "Closed loop only: 1 - `throughput_precopy` / `throughput_steady`.";
    BacklogMax = "backlog_max", Operations, Smaller, "largest backlog",
        "Open loop only: the most operations that were overdue at any moment.";
    RecoveryTime = "recovery_time", Seconds, Smaller, "recovery",
        "From the guest's resume at the destination until it is itself again. Open loop: until no vCPU is behind its schedule. Closed loop: to the start of the first 100 ms whose throughput is 95 % of steady. Absent where that is not within the window after the migration.";
    DelayTotal = "delay_total", SecondsOfOperations, Smaller, "delay of all operations",
        "Open loop only: how much later than they were due operations began, summed over all from the order to migrate until no vCPU is behind its schedule: the whole cost to the guest. From histograms with three significant digits.";
    OperationsLost = "operations_lost", Operations, Smaller, "operations lost",
        "Closed loop only: steady throughput times the span from the order to migrate until recovered, less the operations done in it.";
    TimeToOperations = "time_to_operations", Seconds, Smaller, "time for a second's work",
        "From the order to migrate until as many operations were done as in one steady second, pause included. Absent where that is not within the samples.";
    ThrottledTime = "throttled_time", Seconds, Smaller, "throttled",
        "With a throttle only: time that vCPUs were kept out of the guest by it, summed over vCPUs. Each vCPU's own is in `throttled` of the record.";
    Traffic = "traffic", Bytes, Smaller, "traffic",
        "Bytes that both sides wrote to the socket, our headers included, TCP and IP headers not. Of another VMM what it says that it sent (QEMU: `ram.transferred`).";
    TrafficFull = "traffic_full", Bytes, Smaller, "whole pages",
        "Part of `traffic`: pages sent whole.";
    TrafficZero = "traffic_zero", Bytes, Smaller, "zero marks",
        "Part of `traffic`: marks for pages of zeros.";
    TrafficDelta = "traffic_delta", Bytes, Smaller, "deltas",
        "Part of `traffic`: pages sent as a delta.";
    TrafficState = "traffic_state", Bytes, Smaller, "CPU state",
        "Part of `traffic`: the state of vCPUs and of the guest's clock.";
    TrafficControl = "traffic_control", Bytes, Smaller, "control",
        "Part of `traffic`: everything else, such as round marks and the handover.";
    FirstRoundBytes = "first_round_bytes", Bytes, Neither, "first round",
        "Bytes of round 0, which sends all memory.";
    Amplification = "amplification", Ratio, Smaller, "amplification",
        "`traffic` / `first_round_bytes`: how often the memory was paid for.";
    Rounds = "rounds", Count, Smaller, "later rounds",
        "Rounds after round 0, the paused one included.";
    PagesFull = "pages_full", Count, Smaller, "pages whole",
        "Pages sent whole.";
    PagesZero = "pages_zero", Count, Neither, "pages zero",
        "Pages of zeros sent as a mark.";
    PagesDelta = "pages_delta", Count, Neither, "pages delta",
        "Pages sent as their codec encoded them: as a delta, or compressed.";
    PagesMask = "pages_mask", Count, Neither, "pages by mask",
        "With codec `auto`: part of `pages_delta`, those for which it chose `mask`. Whole pages, which it may choose too, are in `pages_full`.";
    PagesLz4 = "pages_lz4", Count, Neither, "pages by LZ4",
        "With codec `auto`: part of `pages_delta`, those for which it chose `lz4`.";
    PagesZstd = "pages_zstd", Count, Neither, "pages by Zstandard",
        "With codec `auto`: part of `pages_delta`, those for which it chose `zstd`.";
    CacheHits = "cache_hits", Count, Neither, "cache hits",
        "Dirty pages that were sent before and that the cache of the source held. Not all of them are saved: a page may have to be sent whole all the same.";
    CacheMisses = "cache_misses", Count, Neither, "cache misses",
        "Dirty pages that were sent before and that the cache did not hold, any more or at all.";
    CacheEvictions = "cache_evictions", Count, Neither, "cache evictions",
        "Pages that the cache gave up for others.";
    CacheBytes = "cache_bytes", Bytes, Smaller, "cache",
        "Memory that the cache asked for, whether it was touched or not. What was touched of it is in `memory_source`.";
    PagesUnchanged = "pages_unchanged", Count, Neither, "pages unchanged",
        "Pages found dirty that equal what the destination holds, and were not sent.";
    PagesOverflow = "pages_overflow", Count, Smaller, "pages overflowed",
        "Pages whose delta was no smaller than the page; sent whole and counted in `pages_full` too.";
    DirtyRate = "dirty_rate", PagesPerSecond, Neither, "dirty rate",
        "Unique pages found dirty per second, the median over rounds.";
    PageWriteRate = "page_write_rate", PagesPerSecond, Neither, "page writes/s",
        "Page writes per second that the guest made in the two steady windows, a page that is written twice counted twice: what a load in pages or bytes sets.";
    PageWritesPrecopy = "page_writes_precopy", Count, Neither, "page writes in pre-copy",
        "Page writes that the guest achieved during pre-copy. An engine that slows a closed-loop guest gets an easier guest; this shows it.";
    DeltaBytesPerPage = "delta_bytes_per_page", Bytes, Smaller, "bytes per delta",
        "Mean encoded size of the pages sent as a delta.";
    CopyTime = "copy_time", Seconds, Smaller, "copying",
        "Copying pages out of the guest at the source, summed over the run, in records of builds that did so before they encoded. Since then a page is read once, in `encode_time`.";
    EncodeTime = "encode_time", Seconds, Smaller, "encoding",
        "Time in the page policy and the codec at the source, reading pages included, summed over the run.";
    DecodeTime = "decode_time", Seconds, Smaller, "decoding",
        "Time in the codec at the destination, summed over the run.";
    HarvestTime = "harvest_time", Seconds, Smaller, "harvest",
        "Reading the dirty tracker, deciding on what it found (a probe included), and arming it again, summed over rounds.";
    CpuSource = "cpu_source", Seconds, Smaller, "CPU source",
        "User and system time of the source process from just before it connects until the guest runs at the destination, and of letting go afterwards; without its vCPU threads and what only measures.";
    CpuDestination = "cpu_destination", Seconds, Smaller, "CPU destination",
        "User and system time of the destination process without its vCPU threads.";
    CpuVcpu = "cpu_vcpu", Seconds, Neither, "CPU guest",
        "User and system time of the vCPU threads at both sides.";
    MemorySource = "memory_source", Bytes, Smaller, "memory source",
        "Resident memory of the source process without the guest's memory, read when the migration has ended and before anything is released.";
    MemoryDestination = "memory_destination", Bytes, Smaller, "memory destination",
        "Resident memory of the destination process without the guest's memory, read when the migration has ended and before anything is released.";
    HugePageShare = "huge_page_share", Ratio, Larger, "in huge pages",
        "Backings `thp` and `hugetlb` only: the share of the guest's resident memory that is mapped by 2 MiB pages at the source, right before the migration starts.";
    CanaryCopy = "canary_copy", BytesPerSecond, Neither, "host copies",
        "What the host could do before the block of runs that this one belongs to: copying 32 MiB in memory, the median of nine. It tells a slow engine from a host that became slow.";
    CanarySocket = "canary_socket", BytesPerSecond, Neither, "host's socket",
        "The same for 32 MiB through a Unix socket, written and read in turns by one thread.";
    StealTime = "steal_time", Seconds, Neither, "stolen",
        "CPU time that a hypervisor under the host took away during the run.";
    VcpuRunDelay = "vcpu_run_delay", Seconds, Neither, "vCPU wait",
        "Time that vCPU threads were ready and waited for a CPU. Contention must not pass for the cost of tracking.";
    EngineRunDelay = "engine_run_delay", Seconds, Neither, "engine wait",
        "Time that the engine's threads were ready and waited for a CPU.";
    PopulateTime = "populate_time", Seconds, Neither, "populate",
        "Dirty logging alone: the guest's first pass over its memory, which brings the memory in.";
    PassTimeUnlogged = "pass_time_unlogged", Seconds, Smaller, "pass unlogged",
        "Dirty logging alone: a pass before logging starts.";
    ArmTime = "arm_time", Seconds, Smaller, "arm",
        "Dirty logging alone: turning the tracker on, until every page is armed. A tracker that arms pages as they are read is given all of them as read.";
    PassTime = "pass_time", Seconds, Smaller, "pass logged",
        "Dirty logging alone: a logged pass of the slowest vCPU, the median over passes.";
    FirstWriteTime = "first_write_time", Seconds, Smaller, "first write",
        "Dirty logging alone: what logging adds to the first write of a page, `pass_time` less `pass_time_unlogged` over the pages found dirty, the median over passes. Given in lock-step only.";
    RearmTime = "rearm_time", Seconds, Smaller, "re-arm",
        "Dirty logging alone: arming again what a harvest leaves unarmed, the median over passes; near zero for trackers that re-arm as they harvest.";
    DisarmTime = "disarm_time", Seconds, Smaller, "disarm",
        "Dirty logging alone: turning the tracker off.";
}

impl MetricKey {
    /// The time that the listed stalls of a cause took in pre-copy.
    #[must_use]
    pub const fn stall(cause: Cause) -> Self {
        match cause {
            Cause::Arm => Self::StallPrecopyArm,
            Cause::Harvest => Self::StallPrecopyHarvest,
            Cause::Clear => Self::StallPrecopyClear,
            Cause::Fault => Self::StallPrecopyFault,
            Cause::RingFull => Self::StallPrecopyRingFull,
            Cause::Throttle => Self::StallPrecopyThrottle,
            Cause::Switchover => Self::StallPrecopySwitchover,
            Cause::Disarm => Self::StallPrecopyDisarm,
            Cause::None => Self::StallPrecopyNone,
            Cause::Unknown => Self::StallPrecopyUnknown,
        }
    }

    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.definition().name
    }

    /// The metric of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }
}

impl fmt::Display for MetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a metric was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum MetricError {
    #[error("`{key}` would be {value}; leave out what could not be measured")]
    NotFinite { key: MetricKey, value: f64 },
    #[error("no metric is called `{0}`")]
    UnknownName(String),
    #[error("`{key}` is in {}, not in `{unit}`", .key.definition().unit.symbol())]
    WrongUnit { key: MetricKey, unit: String },
}

/// The metrics of one run. A metric that could not be had is not set; none is ever zero for want of a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(BTreeMap<Word, Metric>);

impl Metrics {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a metric, in its own unit.
    ///
    /// # Errors
    /// [`MetricError::NotFinite`].
    pub fn set(&mut self, key: MetricKey, value: f64) -> Result<(), MetricError> {
        if !value.is_finite() {
            return Err(MetricError::NotFinite { key, value });
        }
        self.insert(key, value);
        Ok(())
    }

    /// Sets a count or a number of bytes.
    pub fn set_whole(&mut self, key: MetricKey, value: u64) {
        self.insert(key, value as f64);
    }

    fn insert(&mut self, key: MetricKey, value: f64) {
        let Definition { name, unit, .. } = key.definition();
        self.0.insert(name.into(), Metric { unit: unit.symbol().into(), value });
    }

    /// Its value, if it is set.
    #[must_use]
    pub fn get(&self, key: MetricKey) -> Option<f64> {
        value(&self.0, key)
    }
}

impl From<Metrics> for BTreeMap<Word, Metric> {
    fn from(metrics: Metrics) -> Self {
        metrics.0
    }
}

impl TryFrom<BTreeMap<Word, Metric>> for Metrics {
    type Error = MetricError;

    fn try_from(map: BTreeMap<Word, Metric>) -> Result<Self, MetricError> {
        for (name, metric) in &map {
            let key = MetricKey::find(name).ok_or_else(|| MetricError::UnknownName(name.to_string()))?;
            if *metric.unit != *key.definition().unit.symbol() {
                return Err(MetricError::WrongUnit { key, unit: metric.unit.to_string() });
            }
            if !metric.value.is_finite() {
                return Err(MetricError::NotFinite { key, value: metric.value });
            }
        }
        Ok(Self(map))
    }
}

/// A metric of a record as read: absent too where the unit is not the one defined here, since a number in
/// another unit must not enter a table.
#[must_use]
pub fn value(metrics: &BTreeMap<Word, Metric>, key: MetricKey) -> Option<f64> {
    let Definition { name, unit, .. } = key.definition();
    metrics.get(name).filter(|metric| *metric.unit == *unit.symbol()).map(|metric| metric.value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<_> = MetricKey::ALL.iter().map(|key| key.name()).collect();
        assert_eq!(names.len(), MetricKey::ALL.len());
        for &key in MetricKey::ALL {
            assert_eq!(MetricKey::find(key.name()), Some(key));
        }
    }

    #[test]
    fn refuses_what_is_no_number() {
        let mut metrics = Metrics::new();
        assert!(metrics.set(MetricKey::Downtime, f64::NAN).is_err());
        assert!(metrics.set(MetricKey::Downtime, f64::INFINITY).is_err());
        assert_eq!(metrics.get(MetricKey::Downtime), None);
        metrics.set(MetricKey::Downtime, 0.1).unwrap();
        assert_eq!(metrics.get(MetricKey::Downtime), Some(0.1));
    }

    #[test]
    fn refuses_unknown_names_and_other_units() {
        let one = |name: &'static str, unit: &'static str| {
            Metrics::try_from(BTreeMap::from([(name.into(), Metric { unit: unit.into(), value: 1.0 })]))
        };
        assert!(one("downtime", "s").is_ok());
        assert_eq!(one("downtime", "ms").unwrap_err().to_string(), "`downtime` is in s, not in `ms`");
        assert_eq!(one("down_time", "s").unwrap_err(), MetricError::UnknownName("down_time".to_owned()));
    }

    #[test]
    fn the_reference_holds_this_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- metrics: generated from src/metric.rs -->\n", "<!-- end -->");
        let (head, rest) = text.split_once(begin).unwrap();
        let (found, tail) = rest.split_once(end).unwrap();
        let mut table = String::from("\n| name | unit | better | definition |\n|---|---|---|---|\n");
        for key in MetricKey::ALL {
            let Definition { name, unit, better, text, .. } = key.definition();
            let better = format!("{better:?}").to_lowercase().replace("neither", "");
            writeln!(table, "| `{name}` | {} | {better} | {text} |", unit.symbol()).unwrap();
        }
        table.push('\n');
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, format!("{head}{begin}{table}{end}{tail}")).unwrap();
        } else {
            assert_eq!(found, table, "run the tests once with UPDATE_SCHEMA=1 and commit the result");
        }
    }
}

//! The metrics of a run by their definitions, from what the nodes report.

use std::collections::BTreeMap;

use migbench_reports::histogram::{self, Clock, Phase, key};
use migbench_reports::metric::{MetricError, MetricKey, Metrics};
use migbench_reports::record::Round;
use migbench_reports::stats::median;
use migbench_scenarios::cell::{Cache, Cell, Codec};
use migbench_workloads::settings::Load;

use super::record::{nanoseconds, series, span};
use super::{analysis, stalls};
use crate::node::protocol::{DestinationReport, PeerSending, PhaseWork, Sending, SourceReport};
use crate::sys::clock::seconds;

/// A guest clock that moved by more than this against the host's hid or made up time.
pub(super) const TSC_TOLERANCE: f64 = 1e-3;
/// Nanoseconds after the end of a migration that count as brownout's span.
const BROWNOUT_TAIL: u64 = 1_000_000_000;

/// Every metric that applies.
pub(super) fn measure(
    cell: &Cell,
    source: &SourceReport,
    destination: Option<&DestinationReport>,
    m: &mut Metrics,
) -> Result<(), MetricError> {
    use MetricKey as K;
    let series = series(source, destination);
    let Some(steady) = &source.steady else { return Ok(()) };
    let throughput = |from, to| analysis::throughput(&series, from, to);
    set(m, K::HugePageShare, source.huge_page_share)?;
    set(m, K::ThroughputSteady, throughput(steady.start, steady.end))?;
    set(m, K::PageWriteRate, Some(steady.page_write_rate))?;
    if let Some(precopy) = precopy_of(source, destination) {
        let lasted = seconds(0, precopy.nanoseconds);
        let in_precopy = (lasted > 0.0).then(|| precopy.operations as f64 / lasted);
        set(m, K::ThroughputPrecopy, in_precopy)?;
        set(m, K::PageWritesPrecopy, Some(precopy.page_writes as f64))?;
        if cell.settings.load == Load::FlatOut {
            let both = in_precopy.zip(m.get(K::ThroughputSteady));
            set(m, K::SlowdownPrecopy, both.and_then(|(now, before)| analysis::slowdown(now, before)))?;
        }
        let stall =
            |steady| analysis::stall(precopy.stall_ticks, source.tsc_khz, precopy.nanoseconds, steady);
        set(m, K::StallPrecopy, steady.stall.and_then(stall))?;
    }
    let Some((start, end)) = span(source, destination) else { return Ok(()) };
    let mut dark = None;
    if let (Some(sending), Some(there)) = (&source.sending, destination) {
        measure_sending(cell, sending, there, m)?;
        dark = measure_switchover(source, sending, there, &series, m)?;
        let after = there.caught_up.unwrap_or(sending.running);
        set(m, K::ThroughputAfter, throughput(after, there.end))?;
    } else if let (Some(peer), Some(there)) = (&source.peer, destination) {
        dark = measure_peer(cell, source, peer, there, &series, m)?;
        set(m, K::ThroughputAfter, throughput(there.caught_up.unwrap_or(end), there.end))?;
    } else {
        let last = series.last().map_or(end, |sample| sample.0);
        set(m, K::ThroughputAfter, throughput(end, last))?;
        let armed = source.control.zip(source.armed).map(|((start, _), armed)| seconds(start, armed));
        set(m, K::SetupTime, armed)?;
        set(m, K::HarvestTime, summed(&source.rounds, |r| r.harvest_time))?;
        set(m, K::DirtyRate, dirty_rate(&source.rounds))?;
    }
    if let Some(there) = destination.filter(|there| there.entered != 0) {
        measure_recovery(cell, source, there, start, &series, m)?;
    }
    // Where samples end before the span does, silence would pass for a brownout.
    let tail = end + BROWNOUT_TAIL;
    if series.last().is_some_and(|sample| sample.0 >= tail) {
        let brown = analysis::brownout(&series, (steady.start, steady.end), (start, tail), dark);
        set(m, K::Brownout, brown)?;
    }
    if cell.settings.load != Load::FlatOut {
        let backlog = destination.map(|d| d.backlog_max).or(source.backlog_max);
        set(m, K::BacklogMax, backlog.map(|b| b as f64))?;
    }
    let both = |f: fn(&crate::guest::usage::Usage) -> f64| {
        f(&source.usage) + destination.map_or(0.0, |d| f(&d.usage))
    };
    set(m, K::CpuSource, Some(source.usage.cpu))?;
    set(m, K::CpuDestination, destination.map(|d| d.usage.cpu))?;
    set(m, K::CpuVcpu, Some(both(|u| u.cpu_vcpu)))?;
    set(m, K::MemorySource, Some(source.usage.memory as f64))?;
    set(m, K::MemoryDestination, destination.map(|d| d.usage.memory as f64))?;
    set(m, K::VcpuRunDelay, Some(both(|u| u.vcpu_run_delay)))?;
    // Threads of another VMM that have ended are not seen any more, and with them how long they waited.
    let ours = source.peer.is_none();
    set(m, K::EngineRunDelay, Some(both(|u| u.engine_run_delay)).filter(|_| ours))?;
    set(m, K::StealTime, source.usage.steal)?;
    Ok(())
}

fn set(m: &mut Metrics, key: MetricKey, value: Option<f64>) -> Result<(), MetricError> {
    value.map_or(Ok(()), |value| m.set(key, value))
}

fn measure_sending(
    cell: &Cell,
    sending: &Sending,
    there: &DestinationReport,
    m: &mut Metrics,
) -> Result<(), MetricError> {
    use MetricKey as K;
    set(m, K::TotalTime, Some(seconds(sending.start, sending.running)))?;
    set(m, K::SetupTime, Some(seconds(sending.start, sending.set_up)))?;
    set(m, K::DestinationPrepareTime, Some(there.prepare))?;
    set(m, K::LinkRateAchieved, sending.rate_achieved)?;
    let [full, zero, delta, state, control] = sending.traffic;
    for (key, bytes) in [
        (K::TrafficFull, full),
        (K::TrafficZero, zero),
        (K::TrafficState, state),
        (K::TrafficControl, control + there.traffic),
    ] {
        m.set_whole(key, bytes);
    }
    let total = sending.traffic.iter().sum::<u64>() + there.traffic;
    m.set_whole(K::Traffic, total);
    let first = sending.rounds.first().map_or(0, |round| round.traffic);
    m.set_whole(K::FirstRoundBytes, first);
    set(m, K::Amplification, (first > 0).then(|| total as f64 / first as f64))?;
    m.set_whole(K::Rounds, (sending.rounds.len() as u64).saturating_sub(1));
    let sum = |f: fn(&Round) -> u64| sending.rounds.iter().map(f).sum::<u64>();
    m.set_whole(K::PagesFull, sum(|r| r.pages_full));
    m.set_whole(K::PagesZero, sum(|r| r.pages_zero));
    if cell.codec != Codec::None {
        let deltas = sum(|r| r.pages_delta);
        m.set_whole(K::TrafficDelta, delta);
        m.set_whole(K::PagesDelta, deltas);
        m.set_whole(K::PagesOverflow, sum(|r| r.pages_overflow));
        for &(codec, pages) in &sending.choices {
            match codec {
                Codec::Mask => m.set_whole(K::PagesMask, pages),
                Codec::Lz4 => m.set_whole(K::PagesLz4, pages),
                Codec::Zstd => m.set_whole(K::PagesZstd, pages),
                Codec::None | Codec::Xbzrle | Codec::ZstdDictionary | Codec::Auto => {}
            }
        }
        set(m, K::DeltaBytesPerPage, (deltas > 0).then(|| sending.delta_bytes as f64 / deltas as f64))?;
    }
    if cell.cache != Cache::None {
        m.set_whole(K::PagesUnchanged, sum(|r| r.pages_unchanged));
    }
    if let Some(cache) = &sending.cache {
        m.set_whole(K::CacheHits, cache.hits);
        m.set_whole(K::CacheMisses, cache.misses);
        m.set_whole(K::CacheEvictions, cache.evictions);
        m.set_whole(K::CacheBytes, cache.bytes);
    }
    if !sending.throttled.is_empty() {
        set(m, K::ThrottledTime, Some(sending.throttled.iter().map(|slept| seconds(0, *slept)).sum()))?;
    }
    set(m, K::DirtyRate, dirty_rate(&sending.rounds))?;
    let harvest = summed(&sending.rounds, |r| r.harvest_time);
    set(m, K::HarvestTime, harvest.map(|rounds| rounds + sending.deciding_harvest))?;
    set(m, K::EncodeTime, summed(&sending.rounds, |r| r.encode_time))?;
    set(m, K::DecodeTime, Some(there.decode))?;
    set(m, K::WireIdle, summed(&sending.rounds, |r| r.wire_idle))?;
    if let Some(queue) = sending.queue {
        m.set_whole(K::LinkQueue, queue);
    }
    Ok(())
}

/// What those rounds have of it together; absent where none has any.
fn summed(rounds: &[Round], of: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
    rounds.iter().filter_map(of).reduce(|sum, time| sum + time)
}

/// Unique pages found dirty per second of the time in which they got dirty, the median over rounds.
fn dirty_rate(rounds: &[Round]) -> Option<f64> {
    // What round n finds was written while round n - 1 went out. The paused round adds to pages left over.
    let rates: Vec<f64> = rounds
        .windows(2)
        .filter(|pair| !pair[1].paused && pair[0].duration > 0.0)
        .map(|pair| pair[1].dirty_pages as f64 / pair[0].duration)
        .collect();
    median(&rates)
}

/// Downtime, its parts, blackout and the TSC. Gives the span of the blackout.
fn measure_switchover(
    source: &SourceReport,
    sending: &Sending,
    there: &DestinationReport,
    series: &analysis::OperationSeries,
    m: &mut Metrics,
) -> Result<Option<(u64, u64)>, MetricError> {
    use MetricKey as K;
    if there.entered == 0 {
        return Ok(None);
    }
    let times = [
        (K::Downtime, sending.pause_ordered, there.entered),
        (K::DowntimePause, sending.pause_ordered, sending.paused),
        (K::DowntimeHarvest, sending.paused, sending.harvested),
        (K::DowntimeSend, sending.harvested, there.last_page),
        (K::DowntimeState, there.last_page, sending.ready),
        (K::DowntimeResume, sending.ready, there.entered),
    ];
    for (key, from, to) in times {
        set(m, key, Some(seconds(from, to)))?;
    }
    let decision = sending.rounds.iter().rev().find_map(|round| round.decision);
    let predicted = decision.and_then(|decision| decision.estimate);
    set(m, K::DowntimePredicted, predicted)?;
    let downtime = seconds(sending.pause_ordered, there.entered);
    set(m, K::PredictionError, predicted.map(|predicted| downtime - predicted))?;
    let gap = guest_gap(source, there, m)?;
    let switchover =
        analysis::Switchover { paused: sending.paused, entered: there.entered, running: sending.running };
    let blackout = analysis::blackout(gap, series, switchover);
    set(m, K::Blackout, Some(seconds(0, blackout)))?;
    let dark_until = sending.pause_ordered + blackout;
    Ok(Some((sending.pause_ordered, dark_until.max(there.entered))))
}

/// What a migration that was ordered at `start` cost the guest until it was itself again.
fn measure_recovery(
    cell: &Cell,
    source: &SourceReport,
    there: &DestinationReport,
    start: u64,
    series: &analysis::OperationSeries,
    m: &mut Metrics,
) -> Result<(), MetricError> {
    use MetricKey as K;
    let steady = m.get(K::ThroughputSteady);
    let closed = cell.settings.load == Load::FlatOut;
    let recovered = if closed {
        steady.and_then(|steady| analysis::recovered(series, steady, there.entered))
    } else {
        there.caught_up
    };
    set(m, K::RecoveryTime, recovered.map(|at| seconds(there.entered, at)))?;
    let done = steady.and_then(|steady| analysis::done_at(series, start, steady));
    set(m, K::TimeToOperations, done.map(|at| seconds(start, at)))?;
    if let (Some(at), true) = (recovered, closed) {
        let due = steady.map(|steady| steady * seconds(start, at));
        set(m, K::OperationsLost, due.map(|due| due - analysis::operations(series, start, at)))?;
    }
    if recovered.is_some() && !closed {
        let histograms = if there.histograms.is_empty() { &source.histograms } else { &there.histograms };
        set(m, K::DelayTotal, delay_total(cell, histograms))?;
    }
    Ok(())
}

/// By how many seconds operations began later than they were due, from the order to migrate until the guest had caught up, summed; none
/// where operations were not timed.
fn delay_total(cell: &Cell, histograms: &BTreeMap<String, String>) -> Option<f64> {
    let sum = |operation: &str, clock| {
        let keys =
            [Phase::Precopy, Phase::Switchover, Phase::Catchup].map(|phase| key(operation, clock, phase));
        let texts = keys.iter().filter_map(|key| histograms.get(key)).map(String::as_str);
        let all = histogram::merge(texts).ok().filter(|all| !all.is_empty())?;
        Some(all.mean() * all.len() as f64 / 1e9)
    };
    let operations = cell.settings.program.operations().iter();
    let delays = operations
        .filter_map(|operation| Some(sum(operation, Clock::Response)? - sum(operation, Clock::Service)?));
    delays.reduce(|sum, delay| sum + delay).map(|delay| delay.max(0.0))
}

/// Nanoseconds between the guest's operations around the switchover by its own clock, less what the handover added to that clock or
/// took from it against the host's, which is `tsc_jump`: so the blackouts of all engines are by one clock, the host's. None where
/// that is not known.
fn guest_gap(
    source: &SourceReport,
    there: &DestinationReport,
    m: &mut Metrics,
) -> Result<Option<u64>, MetricError> {
    let ticks_per_second = f64::from(source.tsc_khz) * 1000.0;
    let before = source.stalled.as_ref().map_or(&[][..], |stalled| &stalled.clocks);
    let jump = stalls::jump(before, &there.clocks, TSC_TOLERANCE * ticks_per_second);
    set(m, MetricKey::TscJump, jump.map(|ticks| ticks / ticks_per_second))?;
    let gap = there.gap_ticks.zip(jump).map(|(gap, jump)| (gap as f64 - jump) / ticks_per_second);
    Ok(gap.filter(|gap| *gap >= 0.0).map(nanoseconds))
}

/// Whether the source heard that the vCPUs had stopped only when they ran at the destination: then what they did there is among what was
/// read as done before.
pub(super) fn noticed_late(peer: &PeerSending, there: &DestinationReport) -> bool {
    peer.noticed > there.entered
}

/// What the guest did in pre-copy, where that is known.
pub(super) fn precopy_of<'a>(
    source: &'a SourceReport,
    destination: Option<&DestinationReport>,
) -> Option<&'a PhaseWork> {
    let late = source.peer.as_ref().zip(destination).is_some_and(|(peer, there)| noticed_late(peer, there));
    source.precopy.as_ref().filter(|_| !late)
}

/// A migration by another VMM: what can be seen from outside of it, and what it says of itself. Gives the span of the blackout.
fn measure_peer(
    cell: &Cell,
    source: &SourceReport,
    peer: &PeerSending,
    there: &DestinationReport,
    series: &analysis::OperationSeries,
    m: &mut Metrics,
) -> Result<Option<(u64, u64)>, MetricError> {
    use MetricKey as K;
    let counters = &peer.counters;
    set(m, K::TotalTime, Some(seconds(peer.start, there.running)))?;
    set(m, K::DestinationPrepareTime, Some(there.prepare))?;
    set(m, K::PeerTotalTime, counters.total_time)?;
    set(m, K::PeerDowntime, counters.downtime)?;
    let mut whole = |key, value: Option<u64>| value.into_iter().for_each(|value| m.set_whole(key, value));
    whole(K::Traffic, counters.traffic);
    whole(K::PagesFull, counters.pages_full);
    whole(K::PagesZero, counters.pages_zero);
    if let Some([pages, bytes, overflow, misses]) = counters.deltas {
        whole(K::PagesDelta, Some(pages));
        whole(K::TrafficDelta, Some(bytes));
        whole(K::PagesOverflow, Some(overflow));
        whole(K::CacheMisses, Some(misses));
    }
    if peer.stopped == 0 || there.entered == 0 {
        return Ok(None);
    }
    // Between an epoch raised too late and the pause lie operations that would pass for the switchover.
    let gap = guest_gap(source, there, m)?.filter(|_| !noticed_late(peer, there));
    let switchover =
        analysis::Switchover { paused: peer.stopped, entered: there.entered, running: there.running };
    let blackout = analysis::blackout(gap, series, switchover);
    // It lifts a limit of its own on bandwidth in its paused round: that is not the link of the cell.
    if cell.link.modelled_rate().is_none() {
        set(m, K::Downtime, Some(seconds(peer.stopped, there.entered)))?;
        set(m, K::Blackout, Some(seconds(0, blackout)))?;
    }
    Ok(Some((peer.stopped, (peer.stopped + blackout).max(there.entered))))
}

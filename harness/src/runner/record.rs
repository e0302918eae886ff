//! From what the nodes report to a record: metrics by their definitions, the error with its phase, and where the
//! guest was in the end.

use std::collections::BTreeMap;

use migbench_reports::measure::WriteTimes;
use migbench_reports::metric::{MetricError, MetricKey, Metrics};
use migbench_reports::part::Part;
use migbench_reports::record::{
    Backend, GuestAt, MemoryProof, Record, Round, RunError, RunKind, SCHEMA, Stalls, Status, Timeline,
};
use migbench_reports::stats::median;
use migbench_scenarios::cell::{Cell, Codec};
use migbench_workloads::settings::{Load, Pace};

use super::run::{NodeOutcome, RunOutcome, RunSpec};
use super::{analysis, stalls};
use crate::guest::sampler::INTERVAL;
use crate::node::protocol::{Checked, DestinationReport, Failure, Sending, SourceReport};
use crate::sys::clock::seconds;
use crate::track::{Passes, TrackError};

/// A guest clock that moved by more than this against the host's hid or made up time.
const TSC_TOLERANCE: f64 = 1e-3;
/// A guest that does less than this share of its schedule does not keep up.
const KEPT_UP: f64 = 0.95;
/// Nanoseconds after the end of a migration that count as brownout's span.
const BROWNOUT_TAIL: u64 = 1_000_000_000;
/// Nanoseconds before a migration that a timeline has at least.
const BEFORE: u64 = 1_000_000_000;

/// Where a record belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIdentity {
    /// Unique in the run directory.
    pub run_id: String,
    /// The suite.
    pub suite: String,
    /// The comparison.
    pub comparison: String,
    /// 0 is the verification run.
    pub repetition: u32,
    /// Place in the order of execution.
    pub order: u32,
    /// What ran the guest.
    pub backend: Backend,
    /// Sample or proof.
    pub kind: RunKind,
    /// When it started, RFC 3339.
    pub started: String,
}

impl RunIdentity {
    /// A record of which nothing is known yet but what was asked for: of an error, or else an ok one.
    #[must_use]
    pub fn record(self, spec: &RunSpec, error: Option<RunError>) -> Record {
        Record {
            schema: SCHEMA,
            run_id: self.run_id,
            suite: self.suite,
            comparison: self.comparison,
            repetition: self.repetition,
            order: self.order,
            backend: self.backend,
            kind: self.kind,
            status: if error.is_some() { Status::Failed } else { Status::Ok },
            error,
            verified: None,
            not_verified: None,
            guest_checked: None,
            flags: Vec::new(),
            planted: spec.planted_cost.map(|planted_cost| planted_cost.to_string()),
            canary: None,
            started: self.started,
            seed: spec.seed,
            cell: spec.cell.clone(),
            metrics: BTreeMap::new(),
            rounds: Vec::new(),
            histograms: Part::default(),
            timeline: Part::default(),
            stalls: Part::default(),
            write_times: WriteTimes::default(),
        }
    }
}

/// The record of passes without a migration.
#[must_use]
pub fn of_passes(
    place: RunIdentity,
    spec: &RunSpec,
    made: Result<Passes, TrackError>,
    lock_step: bool,
) -> Record {
    let figures = made
        .map_err(|error| error.to_string())
        .and_then(|passes| passes.figures(lock_step).map_err(|error| error.to_string()));
    match figures {
        Ok((metrics, rounds)) => Record { metrics: metrics.into(), rounds, ..place.record(spec, None) },
        Err(message) => {
            let error = RunError { phase: "track".into(), message, guest: GuestAt::Nowhere };
            place.record(spec, Some(error))
        }
    }
}

/// The record of a migration.
#[must_use]
pub fn of(place: RunIdentity, spec: &RunSpec, outcome: &RunOutcome) -> Record {
    let source = outcome.source.report();
    let destination = outcome.destination.as_ref().and_then(NodeOutcome::report);
    let mut error = failure(spec, outcome);
    let mut metrics = Metrics::new();
    if let Some(source) = source
        && let Err(bad) = measure(&spec.cell, source, destination, &mut metrics)
        && error.is_none()
    {
        error =
            Some(RunError { phase: "analysis".into(), message: bad.to_string(), guest: GuestAt::Unknown });
    }
    let stalls = source.and_then(|s| stalls_of(&spec.cell, s, destination, &mut metrics));
    let checked = destination.and_then(|d| d.checked.as_ref()).or(source.and_then(|s| s.checked.as_ref()));
    let sending = source.and_then(|s| s.sending.as_ref());
    let (verified, not_verified) =
        source.and_then(|s| s.proof.clone()).map_or((None, None), MemoryProof::into_fields);
    let bare = place.record(spec, error);
    let capped = bare.error.is_none() && sending.is_some_and(|s| s.capped);
    Record {
        status: if capped { Status::Capped } else { bare.status },
        verified,
        not_verified,
        guest_checked: checked.map(|c| c.passed),
        flags: flags(spec, source, destination, &metrics),
        metrics: metrics.into(),
        rounds: sending.map(|s| s.rounds.clone()).or(source.map(|s| s.rounds.clone())).unwrap_or_default(),
        histograms: histograms(source, destination).into(),
        timeline: source.map(|s| timeline(s, destination)).unwrap_or_default().into(),
        stalls: stalls.into(),
        ..bare
    }
}

fn stalls_of(
    cell: &Cell,
    source: &SourceReport,
    destination: Option<&DestinationReport>,
    metrics: &mut Metrics,
) -> Option<Stalls> {
    let stalls = stalls::of(source, destination, cell.settings.program.operations(), jumped(metrics))?;
    let lasted = source.precopy.map_or(0.0, |precopy| seconds(0, precopy.nanoseconds));
    if lasted > 0.0 {
        // Times over times: they are finite.
        let _ = stalls::measure(&stalls, lasted, metrics);
    }
    Some(stalls)
}

/// Whether the guest's clock hid or made up time in the handover.
fn jumped(metrics: &Metrics) -> bool {
    metrics.get(MetricKey::TscJump).is_some_and(|jump| jump.abs() > TSC_TOLERANCE)
}

fn histograms(
    source: Option<&SourceReport>,
    destination: Option<&DestinationReport>,
) -> BTreeMap<String, String> {
    // Telemetry is one memory for both nodes: whoever has the guest last has all counts.
    match destination.filter(|d| !d.histograms.is_empty()) {
        Some(destination) => destination.histograms.clone(),
        None => source.map(|s| s.histograms.clone()).unwrap_or_default(),
    }
}

/// The flag of a guest that leaves the host no core of its own, where that is so.
#[must_use]
pub fn oversubscribed(cell: &Cell, cores: Option<u32>) -> Option<String> {
    cores.is_some_and(|cores| cell.vcpus > cores.saturating_sub(1)).then(|| "oversubscribed".to_owned())
}

fn flags(
    spec: &RunSpec,
    source: Option<&SourceReport>,
    destination: Option<&DestinationReport>,
    metrics: &Metrics,
) -> Vec<String> {
    let steady = source.and_then(|s| s.steady.as_ref());
    let conditions = [
        ("not_steady", steady.is_some_and(|s| !s.settled)),
        ("cost_planted", spec.planted_cost.is_some()),
        ("fault_injected", spec.fault.is_some() || spec.guest_flags != 0),
        ("tsc_jumped", jumped(metrics)),
        ("overloaded", overloaded(spec, metrics)),
        ("clock_backwards", went_backwards(source, destination)),
    ];
    conditions.iter().filter(|(_, holds)| *holds).map(|(flag, _)| (*flag).to_owned()).collect()
}

/// Whether a vCPU saw its clock go backwards, here or there.
fn went_backwards(source: Option<&SourceReport>, destination: Option<&DestinationReport>) -> bool {
    source.is_some_and(|s| s.backwards > 0) || destination.is_some_and(|d| d.backwards > 0)
}

/// Whether the steady guest did less than its open-loop schedule asks for: its response times then show the
/// backlog, and its load is not what the suite says.
fn overloaded(spec: &RunSpec, metrics: &Metrics) -> bool {
    let whole = &spec.cell.settings;
    let held = whole.phases.get(spec.cell.start_phase.saturating_sub(1) as usize);
    let settings = held.map_or_else(|| whole.clone(), |phase| whole.within(phase));
    let (due, key) = match settings.pace(spec.cell.link.rate) {
        Pace::FlatOut => return false,
        Pace::Operations(rate) => (rate, MetricKey::ThroughputSteady),
        Pace::Writes(rate) => (rate, MetricKey::PageWriteRate),
    };
    metrics.get(key).is_some_and(|done| done < KEPT_UP * due)
}

/// Why the run failed and where the guest is; `None` when all went as planned.
fn failure(spec: &RunSpec, outcome: &RunOutcome) -> Option<RunError> {
    let source = outcome.source.report();
    let destination = outcome.destination.as_ref().and_then(NodeOutcome::report);
    let mut parts: Vec<(String, String)> = Vec::new();
    let mut add = |failure: Option<&Failure>, side: &str| {
        if let Some(failure) = failure {
            parts.push((failure.phase.clone(), format!("{side}: {}", failure.message)));
        }
    };
    add(source.and_then(|s| s.failure.as_ref()), "source");
    add(destination.and_then(|d| d.failure.as_ref()), "destination");
    for (side, died) in
        [("source", died(&outcome.source)), ("destination", outcome.destination.as_ref().and_then(died))]
    {
        if let Some(how) = died {
            parts.push((String::new(), format!("the {side} node {how}")));
        }
    }
    if let Some(limit) = outcome.timed_out {
        parts.push(("timeout".into(), format!("given up after {limit} s")));
    }
    let checked = [source.and_then(|s| s.checked.as_ref()), destination.and_then(|d| d.checked.as_ref())];
    for Checked { passed, message } in checked.into_iter().flatten() {
        if !passed {
            parts.push((
                "validate".into(),
                message.clone().unwrap_or_else(|| "the guest's check failed".into()),
            ));
        }
    }
    let first = parts.iter().find(|(phase, _)| !phase.is_empty()).or(parts.first())?;
    let phase = match &first.0 {
        // Whoever waited for a source that died so early has a phase of its own.
        _ if source.is_none() && ["boot", "warmup"].contains(&outcome.reached) => outcome.reached.to_owned(),
        phase if !phase.is_empty() => phase.clone(),
        // A side died and the other one had nothing to complain of: the guest was there by then.
        _ if destination.is_some_and(|d| d.took_over) => "handover".to_owned(),
        _ => outcome.reached.to_owned(),
    };
    let message = parts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
    Some(RunError { phase, message, guest: guest_at(spec, outcome) })
}

fn died<T>(outcome: &NodeOutcome<T>) -> Option<&str> {
    match outcome {
        NodeOutcome::Died(how) => Some(how),
        NodeOutcome::Reported(_) => None,
    }
}

/// Where the guest is, from what each side knows of itself: a dead process runs no guest, a source that has sent
/// commit never resumes, a destination that has not received it never starts.
fn guest_at(spec: &RunSpec, outcome: &RunOutcome) -> GuestAt {
    let destination = outcome.destination.as_ref();
    match destination.and_then(NodeOutcome::report) {
        Some(report) if report.guest_runs => return GuestAt::Destination,
        Some(_) => {}
        // A node that was killed for taking too long may have run the guest until then, if there was one.
        None if outcome.reached != "boot" && outcome.timed_out.is_some() && spec.cell.engine.migrates() => {
            return GuestAt::Unknown;
        }
        None => {}
    }
    match outcome.source.report() {
        Some(report) if report.guest_runs && !report.handed_over => GuestAt::Source,
        Some(report) if report.steady.is_none() && report.sending.is_none() => match &report.failure {
            Some(failure) if failure.phase == "boot" => GuestAt::Nowhere,
            _ => GuestAt::Lost,
        },
        Some(_) => GuestAt::Lost,
        None if outcome.reached == "boot" => GuestAt::Nowhere,
        None if outcome.timed_out.is_some() => GuestAt::Unknown,
        None => GuestAt::Lost,
    }
}

/// When the migration (or what a control did instead) started and ended, where it has ended.
fn span(source: &SourceReport) -> Option<(u64, u64)> {
    match (&source.sending, source.control) {
        (Some(sending), _) if sending.running != 0 => Some((sending.start, sending.running)),
        (_, control) => control,
    }
}

fn timeline(source: &SourceReport, destination: Option<&DestinationReport>) -> Timeline {
    let series = series(source, destination);
    let (Some(steady), Some(&(last, _))) = (&source.steady, series.last()) else {
        return Timeline::default();
    };
    let start =
        source.sending.as_ref().map(|s| s.start).or(source.control.map(|c| c.0)).unwrap_or(steady.end);
    // The steady windows, and a second at least as far as there are samples.
    let first = series.first().map_or(start, |sample| sample.0);
    let from = steady.start.min(start.saturating_sub(BEFORE)).max(first);
    let operations = analysis::timeline(&series, from, last, INTERVAL);
    let mut events = Vec::new();
    let mut event = |time: u64, name: &str| {
        if time != 0 {
            let after = if time >= start { seconds(start, time) } else { -seconds(time, start) };
            events.push((after, name.to_owned()));
        }
    };
    event(steady.start, "steady");
    event(start, "start");
    if let Some(sending) = &source.sending {
        event(sending.set_up, "armed");
        for round in sending.rounds.iter().filter(|round| !round.paused) {
            event(sending.start + nanoseconds(round.start), &format!("round-{}", round.round));
        }
        event(sending.pause_ordered, "pause");
        event(sending.committed, "commit");
        event(destination.map_or(0, |d| d.entered), "resume");
        event(sending.running, "running");
    } else if let Some((_, end)) = source.control {
        event(end, "end");
    }
    if let Some(time) = destination.and_then(|d| d.caught_up) {
        event(time, "caught-up");
    }
    Timeline {
        interval: seconds(0, INTERVAL),
        start: -seconds(from, start),
        gaps: analysis::gaps(&series, from, operations.len(), INTERVAL),
        operations,
        events,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a duration of minutes at most")]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn series(source: &SourceReport, destination: Option<&DestinationReport>) -> analysis::OperationSeries {
    let (there, resumed) = destination.filter(|d| d.guest_runs).map_or((&[][..], 0), |d| {
        (&d.samples.operations[..], d.samples.operations.first().map_or(0, |s| s.0))
    });
    analysis::merge(&source.samples.operations, there, resumed)
}

/// Every metric that applies.
#[expect(clippy::cast_precision_loss, reason = "counts and bytes of one run stay under 2^53")]
fn measure(
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
    if let Some(precopy) = &source.precopy {
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
    let Some((start, end)) = span(source) else { return Ok(()) };
    let mut dark = None;
    if let (Some(sending), Some(there)) = (&source.sending, destination) {
        measure_sending(cell, sending, there, m)?;
        dark = measure_switchover(source, sending, there, &series, m)?;
        let after = there.caught_up.unwrap_or(sending.running);
        set(m, K::ThroughputAfter, throughput(after, there.end))?;
    } else {
        let last = series.last().map_or(end, |sample| sample.0);
        set(m, K::ThroughputAfter, throughput(end, last))?;
        let armed = source.control.zip(source.armed).map(|((start, _), armed)| seconds(start, armed));
        set(m, K::SetupTime, armed)?;
        set(m, K::HarvestTime, summed(&source.rounds, |r| r.harvest_time))?;
        set(m, K::DirtyRate, dirty_rate(&source.rounds))?;
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
    set(m, K::EngineRunDelay, Some(both(|u| u.engine_run_delay)))?;
    set(m, K::StealTime, source.usage.steal)?;
    Ok(())
}

fn set(m: &mut Metrics, key: MetricKey, value: Option<f64>) -> Result<(), MetricError> {
    value.map_or(Ok(()), |value| m.set(key, value))
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes of one run stay under 2^53")]
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
        m.set_whole(K::PagesUnchanged, sum(|r| r.pages_unchanged));
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
    set(m, K::DirtyRate, dirty_rate(&sending.rounds))?;
    let harvest = summed(&sending.rounds, |r| r.harvest_time);
    set(m, K::HarvestTime, harvest.map(|rounds| rounds + sending.deciding_harvest))?;
    set(m, K::CopyTime, summed(&sending.rounds, |r| r.copy_time))?;
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
#[expect(clippy::cast_precision_loss, reason = "counts of one run stay under 2^53")]
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
    let ticks_per_second = f64::from(source.tsc_khz) * 1000.0;
    let before = source.stalled.as_ref().map_or(&[][..], |stalled| &stalled.clocks);
    let jump = stalls::jump(before, &there.clocks, TSC_TOLERANCE * ticks_per_second)
        .map(|ticks| ticks / ticks_per_second);
    set(m, K::TscJump, jump)?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of at most hours")]
    let by_guest = there.gap_ticks.map(|ticks| nanoseconds(ticks as f64 / ticks_per_second));
    let trusted = by_guest.filter(|_| jump.is_some_and(|jump| jump.abs() <= TSC_TOLERANCE));
    let switchover =
        analysis::Switchover { paused: sending.paused, entered: there.entered, running: sending.running };
    let blackout = analysis::blackout(trusted, series, switchover);
    set(m, K::Blackout, Some(seconds(0, blackout)))?;
    let dark_until = sending.pause_ordered + blackout;
    Ok(Some((sending.pause_ordered, dark_until.max(there.entered))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::stalls::GuestClock;

    fn spec() -> RunSpec {
        let suite = migbench_scenarios::Suite::find("quick").unwrap();
        let cell = suite.expand().unwrap().comparisons[0].cells[0].cell.clone();
        RunSpec {
            cell,
            seed: 1,
            start_jitter: 0.0,
            verify: false,
            fault: None,
            planted_cost: None,
            guest_flags: 0,
            passes: None,
            binary: std::path::PathBuf::new(),
        }
    }

    /// A migration of 10 ms of downtime in which all went well, of a guest whose clock was `before` and is `after`.
    fn halves(before: GuestClock, after: GuestClock) -> (SourceReport, DestinationReport) {
        let source = SourceReport {
            steady: Some(crate::guest::steady::Steady { settled: true, ..Default::default() }),
            sending: Some(Sending {
                start: 1,
                pause_ordered: 2_000_000,
                paused: 3_000_000,
                running: 13_000_000,
                ..Sending::default()
            }),
            stalled: Some(crate::node::protocol::Stalled {
                clocks: vec![Some(before)],
                ..Default::default()
            }),
            tsc_khz: 1_000_000,
            ..SourceReport::default()
        };
        let destination = DestinationReport {
            guest_runs: true,
            entered: 12_000_000,
            gap_ticks: Some(9_500_000),
            clocks: vec![Some(after)],
            ..DestinationReport::default()
        };
        (source, destination)
    }

    fn flagged(source: &SourceReport, destination: &DestinationReport) -> (Vec<String>, Metrics) {
        let mut metrics = Metrics::new();
        measure(&spec().cell, source, Some(destination), &mut metrics).unwrap();
        (flags(&spec(), Some(source), Some(destination), &metrics), metrics)
    }

    #[test]
    fn a_clock_that_went_on_is_believed() {
        let (source, destination) =
            halves(GuestClock { lag: 500, error: 100 }, GuestClock { lag: 400, error: 100 });
        let (flags, metrics) = flagged(&source, &destination);
        assert_eq!(flags, Vec::<String>::new());
        assert_eq!(metrics.get(MetricKey::TscJump), Some(1e-7));
        assert_eq!(metrics.get(MetricKey::Blackout), Some(0.0095), "the guest's own gap");
    }

    #[test]
    fn a_clock_that_jumped_or_is_not_known_is_reported_and_not_believed() {
        let moved = halves(GuestClock { lag: 0, error: 0 }, GuestClock { lag: 9_000_000, error: 0 });
        let (flags, metrics) = flagged(&moved.0, &moved.1);
        assert_eq!(flags, ["tsc_jumped"]);
        assert_eq!(metrics.get(MetricKey::TscJump), Some(-0.009));
        assert_eq!(metrics.get(MetricKey::Blackout), Some(0.01), "the host's sampling");
        let unknown = halves(GuestClock { lag: 0, error: 2_000_000 }, GuestClock { lag: 0, error: 0 });
        let (flags, metrics) = flagged(&unknown.0, &unknown.1);
        assert_eq!((flags, metrics.get(MetricKey::TscJump)), (vec![], None));
        assert_eq!(metrics.get(MetricKey::Blackout), Some(0.01));
    }

    #[test]
    fn a_clock_that_went_backwards_is_reported_whoever_saw_it() {
        let clock = GuestClock { lag: 0, error: 0 };
        for (here, there) in [(1, 0), (0, 1)] {
            let (mut source, mut destination) = halves(clock, clock);
            (source.backwards, destination.backwards) = (here, there);
            assert_eq!(flagged(&source, &destination).0, ["clock_backwards"]);
        }
    }
}

//! From what the nodes report to a record.

use std::collections::BTreeMap;

use migbench_reports::metric::{MetricKey, Metrics};
use migbench_reports::part::Part;
use migbench_reports::record::{
    Backend, GuestAt, MemoryProof, PeerRun, Record, RunError, RunKind, SCHEMA, Stalls, Status, Timeline,
    WriteTimes,
};
use migbench_scenarios::cell::Cell;
use migbench_workloads::settings::Pace;

use super::failure::failure;
use super::measures::{TSC_TOLERANCE, measure, noticed_late, precopy_of};
use super::run::{NodeOutcome, RunOutcome, RunSpec};
use super::{analysis, stalls};
use crate::guest::sampler::INTERVAL;
use crate::node::protocol::{DestinationReport, PeerSending, SourceReport};
use crate::sys::clock::seconds;
use crate::track::{Passes, TrackError};

/// A guest that does less than this share of its schedule does not keep up.
const KEPT_UP: f64 = 0.95;
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
            peer: None,
            planted: spec.planted_cost.map(|planted_cost| planted_cost.to_string()),
            canary: None,
            started: self.started,
            seed: spec.seed,
            cell: spec.cell.clone(),
            metrics: BTreeMap::new(),
            rounds: Vec::new(),
            throttled: Vec::new(),
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
    let peer = source.and_then(|s| s.peer.as_ref());
    let capped =
        bare.error.is_none() && (sending.is_some_and(|s| s.capped) || peer.is_some_and(|p| p.capped));
    Record {
        status: if capped { Status::Capped } else { bare.status },
        verified,
        not_verified,
        guest_checked: checked.map(|c| c.passed),
        peer: peer.map(|peer| peer_run(&spec.cell, peer, destination)),
        flags: flags(spec, source, destination, &metrics),
        metrics: metrics.into(),
        rounds: sending.map(|s| s.rounds.clone()).or(source.map(|s| s.rounds.clone())).unwrap_or_default(),
        throttled: sending
            .map(|s| s.throttled.iter().map(|slept| seconds(0, *slept)).collect())
            .unwrap_or_default(),
        histograms: histograms(source, destination).into(),
        timeline: source.map(|s| timeline(s, destination)).unwrap_or_default().into(),
        stalls: stalls.into(),
        ..bare
    }
}

fn peer_run(cell: &Cell, peer: &PeerSending, destination: Option<&DestinationReport>) -> PeerRun {
    let about = peer.about.clone();
    PeerRun {
        name: about.name,
        version: about.version,
        binary: about.binary,
        hash: about.hash,
        source_arguments: about.arguments,
        destination_arguments: destination.map(|d| d.arguments.clone()).unwrap_or_default(),
        paced_by_itself: cell.link.modelled_rate().is_some(),
        said: peer.counters.said.clone(),
    }
}

fn stalls_of(
    cell: &Cell,
    source: &SourceReport,
    destination: Option<&DestinationReport>,
    metrics: &mut Metrics,
) -> Option<Stalls> {
    let stalls = stalls::of(source, destination, cell.settings.program.operations(), jumped(metrics))?;
    let lasted = precopy_of(source, destination).map_or(0.0, |precopy| seconds(0, precopy.nanoseconds));
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
        (
            "pause_noticed_late",
            source
                .and_then(|s| s.peer.as_ref())
                .zip(destination)
                .is_some_and(|(peer, there)| there.entered != 0 && noticed_late(peer, there)),
        ),
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

/// When the migration (or what a control did instead) started and ended, where it has ended.
pub(super) fn span(source: &SourceReport, destination: Option<&DestinationReport>) -> Option<(u64, u64)> {
    match (&source.sending, &source.peer) {
        (Some(sending), _) if sending.running != 0 => Some((sending.start, sending.running)),
        (_, Some(peer)) => destination.filter(|d| d.running != 0).map(|d| (peer.start, d.running)),
        _ => source.control,
    }
}

fn timeline(source: &SourceReport, destination: Option<&DestinationReport>) -> Timeline {
    let series = series(source, destination);
    let (Some(steady), Some(&(last, _))) = (&source.steady, series.last()) else {
        return Timeline::default();
    };
    let ordered = source.sending.as_ref().map(|s| s.start);
    let by_peer = source.peer.as_ref().map(|p| p.start).filter(|&start| start != 0);
    let start = ordered.or(by_peer).or(source.control.map(|c| c.0)).unwrap_or(steady.end);
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
    } else if let Some(peer) = &source.peer {
        event(peer.stopped, "pause");
        event(destination.map_or(0, |d| d.entered), "resume");
        event(destination.map_or(0, |d| d.running), "running");
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
pub(super) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

pub(super) fn series(
    source: &SourceReport,
    destination: Option<&DestinationReport>,
) -> analysis::OperationSeries {
    let (there, resumed) = destination.filter(|d| d.guest_runs).map_or((&[][..], 0), |d| {
        (&d.samples.operations[..], d.samples.operations.first().map_or(0, |s| s.0))
    });
    analysis::merge(&source.samples.operations, there, resumed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::stalls::GuestClock;
    use crate::node::protocol::Sending;

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
        assert_eq!(
            metrics.get(MetricKey::Blackout),
            Some(0.009_499_9),
            "the guest's own gap, less what it gained"
        );
    }

    #[test]
    fn a_clock_that_jumped_is_set_right_and_one_that_is_not_known_is_not_believed() {
        let mut moved = halves(GuestClock { lag: 0, error: 0 }, GuestClock { lag: 9_000_000, error: 0 });
        moved.1.gap_ticks = Some(500_000);
        let (flags, metrics) = flagged(&moved.0, &moved.1);
        assert_eq!(flags, ["tsc_jumped"]);
        assert_eq!(metrics.get(MetricKey::TscJump), Some(-0.009));
        assert_eq!(metrics.get(MetricKey::Blackout), Some(0.0095), "with what its clock hid");
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

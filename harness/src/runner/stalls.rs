//! Why the guest stalled: its longest operations laid beside what the host did at the time. Pure functions of what the
//! nodes report; times are the host's TSC.

use std::collections::BTreeMap;

use migbench_reports::histogram::Phase;
use migbench_reports::metric::{MetricError, MetricKey, Metrics};
use migbench_reports::record::{Cause, Stall, Stalls};
use migbench_workloads::abi;

use crate::guest::stalls::{GuestClock, RawStall};
use crate::node::protocol::{DestinationReport, SourceReport, Stalled};
use crate::vm::events::Event;

/// Stalls that a record keeps.
const KEPT: usize = 256;

/// The stalls of a run of a guest with these `operations`, where operations were timed and a threshold could be had. Where the guest's clock `jumped` in the
/// handover, nobody can say when an operation was that ended after it, and such are left out.
#[must_use]
pub fn of(
    source: &SourceReport,
    destination: Option<&DestinationReport>,
    operations: &[&str],
    jumped: bool,
) -> Option<Stalls> {
    let threshold = source.steady.as_ref()?.stall_threshold?;
    let stalled = source.stalled.as_ref()?;
    let ended = entered(source, destination, stalled);
    let last = destination.filter(|d| d.guest_runs && d.ring.counted > 0).map_or(&stalled.ring, |d| &d.ring);
    // A slot of the ring may have been taken by a longer stall since the source read it.
    let both = stalled.ring.kept.iter().chain(&last.kept);
    let all: BTreeMap<_, _> = both.map(|stall| ((stall.vcpu, stall.start), *stall)).collect();
    let mut list: Vec<RawStall> = all.into_values().collect();
    list.retain(|stall| !jumped || stall.phase <= abi::PHASE_PRECOPY);
    list.sort_by_key(|stall| std::cmp::Reverse(stall.ticks));
    list.truncate(KEPT);
    let ticks_per_second = f64::from(source.tsc_khz) * 1000.0;
    let mut list: Vec<Stall> =
        list.iter().map(|stall| listed(stall, &ended, operations, ticks_per_second)).collect();
    list.sort_by(|a, b| a.start.unwrap_or(0.0).total_cmp(&b.start.unwrap_or(0.0)));
    let counted = last.counted.saturating_sub(stalled.before);
    Some(Stalls {
        threshold: threshold / 1e9,
        clock_error: error(&stalled.clocks).map(|ticks| signed(ticks) / ticks_per_second),
        dropped: counted.saturating_sub(list.len() as u64),
        list,
    })
}

/// As `stalled`, with a switchover that ends with the last vCPU's entry into the guest, and not with the word of it.
fn entered(source: &SourceReport, destination: Option<&DestinationReport>, stalled: &Stalled) -> Stalled {
    let mut stalled = stalled.clone();
    let running = source.sending.as_ref().map_or(0, |sending| sending.running);
    let entered = destination.map_or(0, |d| d.entered);
    if entered != 0 && running > entered {
        let late = u128::from(running - entered) * u128::from(source.tsc_khz) / 1_000_000;
        for event in stalled.events.iter_mut().filter(|event| event.cause == Cause::Switchover) {
            event.end = event.end.saturating_sub(u64::try_from(late).unwrap_or(0)).max(event.start);
        }
    }
    stalled
}

/// By how many ticks the guest's clock went ahead of the host's in the handover, of the vCPU whose clock went farthest.
/// `None` where a clock is not known to `tolerance` ticks on both sides: a busy host may not see enough of it.
#[must_use]
pub fn jump(before: &[Option<GuestClock>], after: &[Option<GuestClock>], tolerance: f64) -> Option<f64> {
    if before.is_empty() || before.len() != after.len() {
        return None;
    }
    let of_vcpu = |(before, after): (&Option<GuestClock>, &Option<GuestClock>)| {
        let (before, after) = ((*before)?, (*after)?);
        // What each may be less by moves the difference one way or the other.
        let known = signed(before.error.saturating_add(after.error)) <= tolerance;
        known.then(|| signed(before.lag.wrapping_sub(after.lag)))
    };
    let jumps: Vec<f64> = before.iter().zip(after).map(of_vcpu).collect::<Option<_>>()?;
    jumps.into_iter().max_by(|a, b| a.abs().total_cmp(&b.abs()))
}

/// The worst of all vCPUs, if all are known.
fn error(clocks: &[Option<GuestClock>]) -> Option<u64> {
    clocks.iter().map(|clock| clock.map(|c| c.error)).collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn signed(ticks: u64) -> f64 {
    ticks.cast_signed() as f64
}

fn listed(stall: &RawStall, stalled: &Stalled, operations: &[&str], ticks_per_second: f64) -> Stall {
    let clock = stalled.clocks.get(stall.vcpu as usize).copied().flatten();
    let begun = clock.map(|clock| stall.start.wrapping_add(clock.lag));
    let phase = Phase::ALL.get(stall.phase as usize).map_or("unknown", |(word, _)| *word);
    let operation = operations.get(stall.operation as usize).copied().unwrap_or("unknown");
    Stall {
        start: begun.map(|begun| signed(begun.wrapping_sub(stalled.start)) / ticks_per_second),
        duration: signed(stall.ticks) / ticks_per_second,
        vcpu: stall.vcpu,
        phase: phase.to_owned(),
        operation: operation.to_owned(),
        cause: clock.map_or(Cause::Unknown, |clock| cause(stall, clock, &stalled.events, stalled.full_since)),
    }
}

/// What overlaps the stall for the longest time, of all that does so wherever in the error of the clocks the truth lies.
fn cause(stall: &RawStall, clock: GuestClock, events: &[Event], full_since: Option<u64>) -> Cause {
    let start = stall.start.wrapping_add(clock.lag);
    let end = start.saturating_add(stall.ticks);
    let overlap = |event: &Event| event.end.min(end).saturating_sub(event.start.max(start));
    let longest = events
        .iter()
        .filter(|event| event.vcpu.is_none_or(|vcpu| vcpu == stall.vcpu))
        .filter(|event| event.start < end.saturating_sub(clock.error))
        .map(|event| (overlap(event), event.cause))
        .filter(|&(ticks, _)| ticks > 0)
        .max_by_key(|&(ticks, _)| ticks);
    match longest {
        Some((_, cause)) => cause,
        None if full_since.is_some_and(|since| end > since) => Cause::Unknown,
        None => Cause::None,
    }
}

/// Time over the threshold per second of a pre-copy of `lasted` seconds, by cause, of the stalls that are listed.
///
/// # Errors
/// Those of [`Metrics::set`].
pub fn measure(stalls: &Stalls, lasted: f64, m: &mut Metrics) -> Result<(), MetricError> {
    for &(_, cause) in Cause::ALL {
        let of_cause = |stall: &&Stall| stall.cause == cause && stall.phase == Phase::Precopy.word();
        let over: f64 =
            stalls.list.iter().filter(of_cause).map(|stall| stall.duration - stalls.threshold).sum();
        // Ticks and nanoseconds of the threshold are rounded each in its own way.
        m.set(MetricKey::stall(cause), over.max(0.0) / lasted)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::stalls::StallRing;
    use crate::guest::steady::Steady;
    use crate::node::protocol::Sending;

    const CLOCK: GuestClock = GuestClock { lag: 1_000_000, error: 10 };

    const OPERATIONS: [&str; 2] = ["read", "write"];

    fn raw(vcpu: u32, start: u64, ticks: u64, phase: u32) -> RawStall {
        RawStall { vcpu, start, ticks, phase, operation: 1 }
    }

    fn event(cause: Cause, start: u64, end: u64, vcpu: Option<u32>) -> Event {
        Event { start: CLOCK.lag + start, end: CLOCK.lag + end, cause, vcpu }
    }

    #[test]
    fn the_longest_overlap_is_the_cause() {
        let events = [
            event(Cause::Harvest, 0, 140, None),
            event(Cause::Fault, 150, 200, Some(0)),
            event(Cause::Fault, 100, 300, Some(1)),
        ];
        let of = |vcpu, start, ticks| cause(&raw(vcpu, start, ticks, 1), CLOCK, &events, None);
        assert_eq!(of(0, 100, 100), Cause::Fault, "50 ticks of fault, 40 of harvest");
        assert_eq!(of(0, 80, 100), Cause::Harvest, "30 ticks of fault, 60 of harvest");
        assert_eq!(of(1, 80, 100), Cause::Fault, "its own fault and not vCPU 0's");
        assert_eq!(of(0, 210, 80), Cause::None, "another vCPU's fault holds up nobody else");
        assert_eq!(
            of(0, 142, 18),
            Cause::None,
            "it may have been 10 ticks earlier, and over before the fault"
        );
        assert_eq!(of(0, 142, 19), Cause::Fault);
    }

    #[test]
    fn the_switchover_ends_when_the_guest_goes_on() {
        // The word comes 400 ticks later; what the guest does meanwhile is not held up by the pause.
        let mut source =
            report(StallRing { counted: 9, kept: vec![raw(0, 990, 620, 2), raw(0, 1620, 300, 3)] });
        source.sending = Some(Sending { running: 9_000, ..Sending::default() });
        let there = DestinationReport { guest_runs: true, entered: 8_600, ..Default::default() };
        let stalls = of(&source, Some(&there), &OPERATIONS, false).unwrap();
        let causes: Vec<_> = stalls.list.iter().map(|s| s.cause).collect();
        assert_eq!(causes, [Cause::Switchover, Cause::None]);
    }

    #[test]
    fn a_jump_is_that_of_the_worst_clock_and_only_where_all_are_known() {
        let clock = |lag, error| Some(GuestClock { lag, error });
        let of = |before: &[_], after: &[_]| jump(before, after, 50.0);
        // Less behind the host than before: it went ahead.
        assert_eq!(of(&[clock(900, 10)], &[clock(700, 40)]), Some(200.0));
        assert_eq!(of(&[clock(900, 0), clock(5, 0)], &[clock(890, 0), clock(305, 0)]), Some(-300.0));
        assert_eq!(of(&[clock(3, 0)], &[clock(7_u64.wrapping_neg(), 0)]), Some(10.0), "across zero");
        assert_eq!(of(&[clock(900, 11)], &[clock(700, 40)]), None, "known to 51 ticks only");
        assert_eq!(of(&[clock(900, 0), None], &[clock(900, 0), clock(1, 0)]), None);
        assert_eq!(of(&[], &[]), None, "operations were not timed");
    }

    #[test]
    fn a_full_log_makes_no_claims() {
        let of = |start| cause(&raw(0, start, 50, 1), CLOCK, &[], Some(CLOCK.lag + 500));
        assert_eq!((of(100), of(449), of(451)), (Cause::None, Cause::None, Cause::Unknown));
    }

    fn report(ring: StallRing) -> SourceReport {
        let events = vec![event(Cause::Arm, 0, 90, None), event(Cause::Switchover, 1000, 2000, None)];
        SourceReport {
            steady: Some(Steady { stall_threshold: Some(20.0), ..Steady::default() }),
            stalled: Some(Stalled {
                start: CLOCK.lag,
                before: 7,
                clocks: vec![Some(CLOCK), Some(CLOCK)],
                events,
                full_since: None,
                ring,
            }),
            // One tick is one nanosecond.
            tsc_khz: 1_000_000,
            ..SourceReport::default()
        }
    }

    #[test]
    fn both_readings_of_the_ring_are_one_list() {
        let kept = vec![raw(0, 10, 60, 1), raw(1, 990, 1020, 2), raw(0, 400, 30, 1)];
        let source = report(StallRing { counted: 10, kept });
        // The third was overwritten by one at the destination.
        let kept = vec![raw(0, 10, 60, 1), raw(1, 990, 1020, 2), raw(0, 5000, 40, 4)];
        let there = DestinationReport {
            guest_runs: true,
            ring: StallRing { counted: 13, kept },
            ..Default::default()
        };
        let stalls = of(&source, Some(&there), &OPERATIONS, false).unwrap();
        let listed: Vec<_> = stalls.list.iter().map(|s| (s.vcpu, s.phase.as_str(), s.cause)).collect();
        let due = [
            (0, "precopy", Cause::Arm),
            (0, "precopy", Cause::None),
            (1, "switchover", Cause::Switchover),
            (0, "after", Cause::None),
        ];
        assert_eq!((listed.as_slice(), stalls.dropped), (&due[..], 2), "six were counted, four are listed");
        assert_eq!((stalls.list[0].start, stalls.list[0].duration), (Some(10e-9), 60e-9));
        assert_eq!((stalls.threshold, stalls.clock_error), (20e-9, Some(10e-9)));
        assert_eq!(stalls.list[0].operation, "write");

        let mut m = Metrics::new();
        measure(&stalls, 2.0, &mut m).unwrap();
        assert!((m.get(MetricKey::StallPrecopyArm).unwrap() - 20e-9).abs() < 1e-15, "40 ns in 2 s");
        assert!((m.get(MetricKey::StallPrecopyNone).unwrap() - 5e-9).abs() < 1e-15, "after is no pre-copy");
        assert_eq!(m.get(MetricKey::StallPrecopySwitchover), Some(0.0), "nor is the switchover");
    }

    #[test]
    fn a_clock_that_jumped_leaves_the_time_before_it() {
        let source = report(StallRing { counted: 9, kept: vec![raw(0, 10, 60, 1), raw(1, 990, 1020, 2)] });
        let stalls = of(&source, None, &OPERATIONS, true).unwrap();
        assert_eq!((stalls.list.len(), stalls.dropped), (1, 1));
    }

    #[test]
    fn clocks_that_cannot_be_compared_give_no_cause() {
        let mut source = report(StallRing { counted: 8, kept: vec![raw(0, 10, 60, 1)] });
        source.stalled.as_mut().unwrap().clocks = vec![None, Some(CLOCK)];
        let stalls = of(&source, None, &OPERATIONS, false).unwrap();
        assert_eq!((stalls.list[0].start, stalls.list[0].cause), (None, Cause::Unknown));
        assert_eq!(stalls.clock_error, None);
        assert!((stalls.list[0].duration - 60e-9).abs() < 1e-15);
    }

    #[test]
    fn without_a_threshold_there_are_no_stalls() {
        let mut source = report(StallRing::default());
        source.steady = Some(Steady::default());
        assert_eq!(of(&source, None, &OPERATIONS, false), None);
    }

    #[test]
    fn the_longest_are_kept() {
        let kept = (0..1000).map(|n| raw(0, 10_000 * n, 100 + n, 1)).collect();
        let source = report(StallRing { counted: 1007, kept });
        let stalls = of(&source, None, &OPERATIONS, false).unwrap();
        assert_eq!((stalls.list.len(), stalls.dropped), (KEPT, 1000 - KEPT as u64));
        let shortest = stalls.list.iter().map(|s| s.duration).fold(f64::MAX, f64::min);
        assert!((shortest - (1100 - KEPT) as f64 * 1e-9).abs() < 1e-15, "{shortest}");
        assert!(stalls.list.is_sorted_by_key(|s| s.start));
    }
}

//! The engine's rounds as a record has them.

use migbench_reports::record::Round;

use crate::engine::round::SentRound;
use crate::sys::clock::seconds;

/// The record of a round of a migration that began at `start`.
pub fn record(round: &SentRound, start: u64) -> Round {
    let SentRound { stages, tally, .. } = round;
    let time = |nanoseconds| seconds(0, nanoseconds);
    Round {
        round: round.number,
        start: seconds(start, round.start),
        dirty_pages: round.dirty_pages,
        traffic: round.traffic,
        duration: seconds(round.start, round.end),
        harvest_time: Some(time(stages.harvest)),
        copy_time: None,
        encode_time: Some(time(stages.encode)),
        send_time: Some(time(stages.send)),
        wait_time: round.wire_idle.map(|_| time(stages.wait)),
        wire_idle: round.wire_idle.and_then(engines_share).map(time),
        pages_full: tally.full,
        pages_zero: tally.zero,
        pages_delta: tally.delta,
        pages_unchanged: tally.unchanged,
        pages_overflow: tally.overflow,
        estimate: round.decision.and_then(|decision| decision.estimate),
        decision: round.decision,
        paused: round.paused,
    }
}

/// What of the time in which the wire was idle is the engine's doing.
fn engines_share((idle, in_host): (u64, Option<u64>)) -> Option<u64> {
    in_host.map(|in_host| idle.saturating_sub(in_host))
}

/// The share of the link's rate that was used while there were pages, over all rounds: what leaves in `busy` nanoseconds, over
/// these and the time in which the wire was idle, whoever's doing that was.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a migration stay under 2^53")]
pub fn rate_achieved(rounds: &[SentRound], busy: impl Fn(u64) -> u64) -> Option<f64> {
    let idle: u64 = rounds.iter().map(|round| Some(round.wire_idle?.0)).sum::<Option<u64>>()?;
    let busy: u64 = rounds.iter().map(|round| busy(round.traffic)).sum();
    (busy > 0).then(|| busy as f64 / (busy + idle) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PageCounts;
    use crate::engine::round::{StageTimes, Stretch};

    fn round(wire_idle: Option<(u64, Option<u64>)>) -> SentRound {
        SentRound {
            number: 3,
            start: 2_000_000,
            end: 3_000_000,
            dirty_pages: 9,
            traffic: 50_000,
            stages: StageTimes { harvest: 100_000, encode: 500_000, send: 150_000, wait: 250_000 },
            wire_idle,
            tally: PageCounts::default(),
            stretch: Stretch::default(),
            decision: None,
            paused: false,
        }
    }

    #[test]
    fn the_stages_of_a_record_add_up_and_what_there_is_not_is_absent() {
        let record = record(&round(Some((70_000, Some(20_000)))), 1_000_000);
        let sum: f64 = record.stages().iter().filter_map(|(_, time)| *time).sum();
        assert!((sum - record.duration).abs() < 1e-9, "{sum} of {}", record.duration);
        assert_eq!((record.start, record.wire_idle), (0.001, Some(0.00005)));
        let unlimited = super::record(&round(None), 0);
        assert_eq!((unlimited.wait_time, unlimited.wire_idle), (None, None));
        let unknown = super::record(&round(Some((70_000, None))), 0);
        assert_eq!(
            (unknown.wait_time, unknown.wire_idle),
            (Some(0.00025), None),
            "whose doing, nobody knows"
        );
    }

    #[test]
    fn idle_time_lessens_the_rate_whoever_it_is() {
        let rounds = [round(Some((50_000, Some(50_000)))), round(Some((50_000, Some(0))))];
        assert_eq!(rate_achieved(&rounds, |bytes| 8 * bytes), Some(8.0 / 9.0));
        assert_eq!((rate_achieved(&[round(None)], |b| b), rate_achieved(&[], |b| b)), (None, None));
    }
}

//! Where the best switchover of a migration would have been, from the rounds that it recorded.
//!
//! Had the guest been paused after round `k` in place of going on, the paused round would have sent what round `k + 1` sent, and all else
//! would have been as it was at the real switchover: `downtime(k) = downtime - downtime_send + max(encode + send, traffic / rate)`, with
//! times and bytes of round `k + 1`; on a link without a rate the engine's time alone. The harvest that leads to a decision is before the pause. The paused guest would have dirtied
//! nothing meanwhile, and left its cores to the engine, so that real pauses
//! are no longer than that, and those of a busy host shorter. The best switchover is the earliest within the limit. What came after the
//! real one nobody knows, so that later ones are not judged.

use migbench_workloads::units::Rate;

use crate::metric::{self, MetricKey};
use crate::record::{Record, Round};

/// Seconds that sending a round takes until its last byte has left a link of that rate, with nothing queued before.
#[must_use]
pub fn sending(round: &Round, rate: Option<Rate>) -> f64 {
    let engine = [round.copy_time, round.encode_time, round.send_time].into_iter().flatten().sum::<f64>();
    rate.map_or(engine, |rate| engine.max(round.traffic as f64 / rate.0 as f64))
}

/// A switchover, as it was or would have been. Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Switchover {
    /// The last round with the guest running.
    pub after: u32,
    /// `downtime`.
    pub downtime: f64,
    /// `total_time`.
    pub total_time: f64,
}

/// The best switchover and the real one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hindsight {
    /// The earliest within the limit.
    pub best: Switchover,
    /// As it was.
    pub real: Switchover,
}

impl Hindsight {
    /// What the real one cost beyond the best, as a share of the best's total time.
    #[must_use]
    pub fn regret_of_time(self) -> f64 {
        self.real.total_time / self.best.total_time - 1.0
    }

    /// By how many seconds its pause was longer than the best one's; negative where what it waited for made the pause shorter.
    #[must_use]
    pub fn regret_of_downtime(self) -> f64 {
        self.real.downtime - self.best.downtime
    }

    /// Of a migration with rounds; none where no switchover up to the real one was within the limit, or nothing was measured.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let of = |key| metric::value(&record.metrics, key);
        let (downtime, total_time) = (of(MetricKey::Downtime)?, of(MetricKey::TotalTime)?);
        let (paused, running) = record.rounds.split_last().filter(|(last, _)| last.paused)?;
        let besides = downtime - of(MetricKey::DowntimeSend)?;
        let after_all = total_time - (paused.start - of(MetricKey::DowntimePause)? + downtime);
        let later = running.iter().skip(1).map(|round| {
            let harvest = round.harvest_time.unwrap_or(0.0);
            let downtime = besides + sending(round, record.cell.link.rate);
            Switchover {
                after: round.round.saturating_sub(1),
                downtime,
                total_time: round.start + harvest + downtime + after_all,
            }
        });
        let real = Switchover { after: running.last()?.round, downtime, total_time };
        let limit = record.cell.stop.downtime_limit.0;
        let best = later.chain([real]).find(|switchover| switchover.downtime <= limit)?;
        Some(Self { best, real })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Round;
    use crate::sample::Sample;

    /// Rounds that send for these lengths, the last one paused, and 10 ms of all else in the pause.
    fn record(lengths: &[f64], limit: f64) -> Record {
        let mut start = 0.0;
        let rounds = (0..).zip(lengths).map(|(round, &duration)| {
            let paused = round as usize + 1 == lengths.len();
            let encode_time = Some(duration);
            let this = Round { round, start, duration, encode_time, paused, ..Round::default() };
            start += duration;
            this
        });
        let rounds: Vec<_> = rounds.collect();
        Sample::new("write-heavy", "full")
            .metric(MetricKey::Downtime, lengths.last().unwrap_or(&0.0) + 0.010)
            .metric(MetricKey::DowntimeSend, *lengths.last().unwrap_or(&0.0))
            .metric(MetricKey::DowntimePause, 0.0)
            .metric(MetricKey::TotalTime, start + 0.002)
            .with(|record| record.cell.stop.downtime_limit.0 = limit)
            .build_with(rounds)
    }

    #[test]
    fn the_best_switchover_is_the_earliest_within_the_limit() {
        let waited = Hindsight::of(&record(&[1.0, 0.30, 0.09, 0.05], 0.1)).unwrap();
        assert_eq!((waited.best.after, waited.real.after), (1, 2));
        assert!((waited.best.downtime - 0.10).abs() < 1e-9 && (waited.best.total_time - 1.392).abs() < 1e-9);
        assert!((waited.regret_of_time() - 0.05 / 1.392).abs() < 1e-9);
        assert!((waited.regret_of_downtime() + 0.04).abs() < 1e-9, "it waited, and got less of a pause");
        let right = Hindsight::of(&record(&[1.0, 0.30, 0.05], 0.1)).unwrap();
        assert_eq!((right.best, right.regret_of_time()), (right.real, 0.0));
    }

    #[test]
    fn a_wire_takes_what_its_rate_takes() {
        let round = Round { encode_time: Some(0.1), send_time: Some(0.2), traffic: 1000, ..Round::default() };
        let at = |rate| sending(&round, Some(Rate(rate)));
        assert!((at(2000) - 0.5).abs() < 1e-9 && (at(10_000) - 0.3).abs() < 1e-9);
        assert!((sending(&round, None) - 0.3).abs() < 1e-9);
    }

    #[test]
    fn what_never_was_within_the_limit_has_no_best() {
        assert_eq!(Hindsight::of(&record(&[1.0, 0.3, 0.3, 0.3], 0.1)), None);
        // That a later one would have been is not known.
        assert_eq!(Hindsight::of(&record(&[1.0, 0.3], 0.1)), None);
        let control = record(&[], 0.1);
        assert_eq!(Hindsight::of(&control), None);
    }
}

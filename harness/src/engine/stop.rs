//! When pre-copy gives way to stop-and-copy: the same rule for every engine of a comparison.

use migbench_scenarios::cell::{Estimate, StopRule};

/// What the loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Another round with the guest running.
    Continue,
    /// The paused round is short enough.
    SwitchOver,
    /// It is not, but a limit is reached.
    Capped,
}

/// Sending over at least this long makes a speed.
const SPEED_SPAN: f64 = 0.010;

/// A stretch of sending.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    seconds: f64,
    pages: u64,
    bytes: u64,
}

/// The rule, and the speeds of late.
#[derive(Debug)]
pub struct Stop {
    rule: StopRule,
    recent: Vec<Stretch>,
}

impl Stop {
    /// A rule at the start of a migration.
    #[must_use]
    pub fn new(rule: StopRule) -> Self {
        Self { rule, recent: Vec::with_capacity(rule.max_rounds as usize + 2) }
    }

    /// Longest migration before a forced switchover, in seconds.
    #[must_use]
    pub const fn max_time(&self) -> f64 {
        self.rule.max_time.0
    }

    /// Tells of a round: `pages` looked at (sent or found unchanged), `bytes` sent, in `seconds`.
    pub fn observe(&mut self, seconds: f64, pages: u64, bytes: u64) {
        self.recent.push(Stretch { seconds, pages, bytes });
    }

    /// Predicted length in seconds of a paused round of `remaining` pages; `None` before any speed is known.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far under 2^53")]
    pub fn estimate(&self, remaining: u64) -> Option<f64> {
        if remaining == 0 {
            return Some(0.0);
        }
        let mut sum = Stretch::default();
        for stretch in self.recent.iter().rev() {
            sum.seconds += stretch.seconds;
            sum.pages += stretch.pages;
            sum.bytes += stretch.bytes;
            if sum.seconds >= SPEED_SPAN {
                break;
            }
        }
        let (amount, done) = match self.rule.estimate {
            Estimate::Pages => (remaining as f64, sum.pages),
            Estimate::Raw => (remaining as f64 * 4096.0, sum.bytes),
        };
        (done > 0 && sum.seconds > 0.0).then(|| amount * sum.seconds / done as f64)
    }

    /// What to do with `remaining` dirty pages when `next` is the number of the next round and `elapsed` seconds
    /// have passed.
    #[must_use]
    pub fn decide(&self, remaining: u64, next: u32, elapsed: f64) -> Decision {
        if self.estimate(remaining).is_some_and(|seconds| seconds <= self.rule.downtime_limit.0) {
            Decision::SwitchOver
        } else if next >= self.rule.max_rounds || elapsed >= self.rule.max_time.0 {
            Decision::Capped
        } else {
            Decision::Continue
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use migbench_workloads::units::Seconds;

    fn stop(estimate: Estimate) -> Stop {
        Stop::new(StopRule { downtime_limit: Seconds(0.1), max_rounds: 5, max_time: Seconds(10.0), estimate })
    }

    #[test]
    fn pages_see_what_delta_saves_and_raw_does_not() {
        let mut pages = stop(Estimate::Pages);
        let mut raw = stop(Estimate::Raw);
        for s in [&mut pages, &mut raw] {
            // 1000 pages in 0.1 s, as 400 KB of deltas.
            s.observe(0.1, 1000, 400_000);
        }
        assert_eq!(pages.estimate(500), Some(0.05));
        assert_eq!(raw.estimate(500), Some(500.0 * 4096.0 / 4_000_000.0));
        assert_eq!(pages.decide(500, 1, 1.0), Decision::SwitchOver);
        assert_eq!(raw.decide(500, 1, 1.0), Decision::Continue);
    }

    #[test]
    fn a_short_round_is_no_speed_of_its_own() {
        let mut s = stop(Estimate::Pages);
        s.observe(0.1, 1000, 4_096_000);
        s.observe(0.001, 1, 4096);
        let estimate = s.estimate(1000).unwrap();
        assert!((estimate - 0.101 * 1000.0 / 1001.0).abs() < 1e-12, "{estimate}");
    }

    #[test]
    fn limits_cap() {
        let mut s = stop(Estimate::Pages);
        s.observe(0.1, 100, 409_600);
        assert_eq!(s.decide(1000, 4, 1.0), Decision::Continue);
        assert_eq!(s.decide(1000, 5, 1.0), Decision::Capped);
        assert_eq!(s.decide(1000, 2, 10.0), Decision::Capped);
        assert_eq!(s.decide(50, 5, 11.0), Decision::SwitchOver);
        assert_eq!(stop(Estimate::Pages).decide(1, 1, 0.0), Decision::Continue);
        assert_eq!(s.decide(0, 1, 0.0), Decision::SwitchOver);
    }
}

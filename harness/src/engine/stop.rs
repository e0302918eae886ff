//! When pre-copy gives way to stop-and-copy: the same rule for every engine of a comparison.

use migbench_scenarios::cell::{Estimate, StopRule};

use super::round::Stretch;

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
        Self { rule, recent: Vec::with_capacity(64) }
    }

    /// Longest migration before a forced switchover, in nanoseconds.
    #[must_use]
    pub fn max_time(&self) -> u64 {
        u64::try_from(self.rule.max_time.duration().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes note of a round's speed.
    pub fn observe(&mut self, stretch: Stretch) {
        if self.recent.try_reserve(1).is_err() {
            // The newest count, and there is room for them in any case.
            self.recent.drain(..self.recent.len() / 2);
        }
        self.recent.push(stretch);
    }

    /// Predicted length in seconds of a paused round of `remaining` pages, before which `queued` seconds of bytes have to leave
    /// the link; `None` before any speed is known.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far under 2^53")]
    pub fn estimate(&self, remaining: u64, queued: f64) -> Option<f64> {
        if remaining == 0 {
            return Some(queued);
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
        (done > 0 && sum.seconds > 0.0).then(|| queued + amount * sum.seconds / done as f64)
    }

    /// Whether a pause of that length is short enough.
    #[must_use]
    pub fn fits(&self, estimate: Option<f64>) -> bool {
        estimate.is_some_and(|seconds| seconds <= self.rule.downtime_limit.0)
    }

    /// What to do after an `estimate`, when `next` is the number of the next round. `late`: the longest time is over.
    #[must_use]
    pub fn decide(&self, estimate: Option<f64>, next: u32, late: bool) -> Decision {
        if self.fits(estimate) {
            Decision::SwitchOver
        } else if next >= self.rule.max_rounds || late {
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

    fn stretch(seconds: f64, pages: u64, bytes: u64) -> Stretch {
        Stretch { seconds, pages, bytes }
    }

    #[test]
    fn pages_see_what_delta_saves_and_raw_does_not() {
        let mut pages = stop(Estimate::Pages);
        let mut raw = stop(Estimate::Raw);
        for s in [&mut pages, &mut raw] {
            // 1000 pages in 0.1 s, as 400 KB of deltas.
            s.observe(stretch(0.1, 1000, 400_000));
        }
        assert_eq!(pages.estimate(500, 0.0), Some(0.05));
        assert_eq!(raw.estimate(500, 0.0), Some(500.0 * 4096.0 / 4_000_000.0));
        assert_eq!(pages.decide(Some(0.05), 1, false), Decision::SwitchOver);
        assert_eq!(raw.decide(raw.estimate(500, 0.0), 1, false), Decision::Continue);
    }

    #[test]
    fn what_is_queued_must_leave_first() {
        let mut s = stop(Estimate::Pages);
        s.observe(stretch(0.1, 1000, 4_096_000));
        assert_eq!(s.estimate(500, 0.0084), Some(0.0584));
        assert_eq!(s.estimate(0, 0.0084), Some(0.0084));
        assert_eq!(s.decide(s.estimate(950, 0.0084), 1, false), Decision::Continue);
        assert_eq!(s.decide(s.estimate(950, 0.0), 1, false), Decision::SwitchOver);
    }

    #[test]
    fn a_short_round_is_no_speed_of_its_own() {
        let mut s = stop(Estimate::Pages);
        s.observe(stretch(0.1, 1000, 4_096_000));
        s.observe(stretch(0.001, 1, 4096));
        let estimate = s.estimate(1000, 0.0).unwrap();
        assert!((estimate - 0.101 * 1000.0 / 1001.0).abs() < 1e-12, "{estimate}");
    }

    #[test]
    fn limits_cap() {
        let s = stop(Estimate::Pages);
        assert_eq!(s.decide(Some(0.2), 4, false), Decision::Continue);
        assert_eq!(s.decide(Some(0.2), 5, false), Decision::Capped);
        assert_eq!(s.decide(Some(0.2), 2, true), Decision::Capped);
        assert_eq!(s.decide(Some(0.1), 5, true), Decision::SwitchOver);
        assert_eq!(s.decide(None, 1, false), Decision::Continue);
    }

    #[test]
    fn no_limit_sizes_memory_or_overflows() {
        let rule = StopRule {
            downtime_limit: Seconds(0.1),
            max_rounds: u32::MAX,
            max_time: Seconds(1e30),
            estimate: Estimate::Pages,
        };
        assert_eq!(Stop::new(rule).max_time(), u64::MAX);
    }
}

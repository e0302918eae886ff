//! Rule `fixed` under a limit that grows: a guest that converges gets a short pause, and one that does not gets a longer one soon.
//!
//! `limit(k) = downtime_limit x S^-(1 - min(k, S - 1) / (S - 1))` before round `k + 1`, with `S = ramp_steps`: from a fraction `1 / S` to
//! all of it, by equal factors, as oVirt's VDSM and OpenStack's Nova raise QEMU's `downtime-limit`, there by time and here by rounds.

use super::StopRule;

/// The rule.
#[derive(Debug)]
pub struct Ramp {
    limit: f64,
    steps: f64,
}

impl Ramp {
    /// To that limit in seconds, in two steps or more.
    pub fn new(limit: f64, steps: u32) -> Self {
        Self { limit, steps: f64::from(steps.max(2)) }
    }
}

impl StopRule for Ramp {
    fn limit(&self, next: u32) -> Option<f64> {
        let (last, step) = (self.steps - 1.0, f64::from(next.saturating_sub(1)));
        let below = 1.0 - (step / last).min(1.0);
        Some(self.limit * self.steps.powf(-below))
    }
}

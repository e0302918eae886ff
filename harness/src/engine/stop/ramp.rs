//! Rule `fixed` under a limit that grows: a guest that converges gets a short pause, and one that does not gets a longer one soon.
//!
//! `limit(k) = downtime_limit x S^-(1 - min(k, S - 1) / (S - 1))` before round `k + 1`, with `S = ramp_steps`: from a fraction `1 / S` to
//! all of it, by equal factors, as oVirt's VDSM and OpenStack's Nova raise QEMU's `downtime-limit`, there by time and here by rounds.

use super::fixed::Fixed;
use super::{Foreseen, Left, Probe, StopRule};
use crate::engine::round::Stretch;

/// The rule.
#[derive(Debug)]
pub struct Ramp {
    fixed: Fixed,
    steps: f64,
}

impl Ramp {
    /// In two steps or more.
    pub fn new(fixed: Fixed, steps: u32) -> Self {
        Self { fixed, steps: f64::from(steps.max(2)) }
    }
}

impl StopRule for Ramp {
    fn observe(&mut self, round: &Stretch) {
        self.fixed.observe(round);
    }

    fn wants_probe(&self) -> bool {
        self.fixed.wants_probe()
    }

    fn probed(&mut self, probe: Probe) {
        self.fixed.probed(probe);
    }

    fn foresee(&self, left: Left) -> Option<Foreseen> {
        self.fixed.foresee(left)
    }

    fn limit(&self, next: u32) -> Option<f64> {
        let (last, step) = (self.steps - 1.0, f64::from(next.saturating_sub(1)));
        let below = 1.0 - (step / last).min(1.0);
        self.fixed.limit(next).map(|limit| limit * self.steps.powf(-below))
    }
}

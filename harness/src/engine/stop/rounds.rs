//! After so many rounds, as Xen's tools stop after five (`xg_sr_save_domain`, there also at fewer than 50 dirty pages). It knows no limit
//! of the pause, which it predicts as rule `fixed` does, for the record.

use super::fixed::Fixed;
use super::{Foreseen, Left, Probe, StopRule};
use crate::engine::round::Stretch;

/// The rule.
#[derive(Debug)]
pub struct Rounds {
    fixed: Fixed,
    rounds: u32,
}

impl Rounds {
    /// After so many.
    pub fn new(fixed: Fixed, rounds: u32) -> Self {
        Self { fixed, rounds }
    }
}

impl StopRule for Rounds {
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

    fn limit(&self, _: u32) -> Option<f64> {
        None
    }

    fn is_met(&self, _: Option<Foreseen>, next: u32) -> bool {
        next >= self.rounds
    }
}

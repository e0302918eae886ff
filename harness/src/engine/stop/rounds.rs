//! After so many rounds, as Xen's tools stop after five (`xg_sr_save_domain`, there also at fewer than 50 dirty pages). It knows no limit
//! of the pause, which it predicts as rule `fixed` does, for the record.

use super::{Foreseen, StopRule};

/// The rule.
#[derive(Debug)]
pub struct Rounds {
    rounds: u32,
}

impl Rounds {
    /// After so many.
    pub const fn new(rounds: u32) -> Self {
        Self { rounds }
    }
}

impl StopRule for Rounds {
    fn limit(&self, _: u32) -> Option<f64> {
        None
    }

    fn is_met(&self, _: Option<Foreseen>, next: u32) -> bool {
        next >= self.rounds
    }
}

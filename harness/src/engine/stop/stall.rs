//! Rule `fixed`, which gives up hoping: once rounds shrink no more it takes what it can get under a ceiling.
//!
//! Rounds have stalled when the shortest pause foreseen before the last three rounds is not longer than 1.1 times the shortest foreseen
//! since. From then on it switches over at a pause that is within `ceiling` and no longer than any foreseen before the last three rounds:
//! at the next local minimum of a guest whose writing comes and goes.

use super::fixed::Fixed;
use super::{Foreseen, Left, Probe, StopRule};
use crate::engine::round::Stretch;

/// Rounds of late.
const LATE: usize = 3;
/// What is longer by less is no shorter pause.
const SHRUNK: f64 = 1.1;

/// The rule.
#[derive(Debug)]
pub struct Stall {
    fixed: Fixed,
    ceiling: f64,
    /// The shortest pause that was foreseen before the late ones.
    shortest: f64,
    /// What was foreseen of late, newest first.
    late: [f64; LATE],
}

impl Stall {
    /// With that ceiling, in seconds.
    pub fn new(fixed: Fixed, ceiling: f64) -> Self {
        Self { fixed, ceiling, shortest: f64::INFINITY, late: [f64::INFINITY; LATE] }
    }

    fn shortest_of_late(&self) -> f64 {
        self.late.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn has_stalled(&self) -> bool {
        self.shortest.is_finite() && self.shortest <= SHRUNK * self.shortest_of_late()
    }
}

impl StopRule for Stall {
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
        let limit = self.fixed.limit(next)?;
        Some(if self.has_stalled() { limit.max(self.ceiling.min(self.shortest_of_late())) } else { limit })
    }

    fn goes_on(&mut self, foreseen: Option<Foreseen>) {
        self.shortest = self.shortest.min(self.late[LATE - 1]);
        self.late.rotate_right(1);
        self.late[0] = foreseen.map_or(f64::INFINITY, |foreseen| foreseen.total);
    }
}

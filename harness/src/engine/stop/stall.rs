//! Rule `fixed`, which gives up hoping: once rounds shrink no more it takes what it can get under a ceiling.
//!
//! Rounds have stalled when the shortest pause foreseen before the last three rounds is not longer than 1.1 times the shortest foreseen
//! since. From then on it switches over at a pause that is within `ceiling` and no longer than any of these three:
//! at the next local minimum of a guest whose writing comes and goes.

use super::{Foreseen, StopRule};

/// Rounds of late.
const LATE: usize = 3;
/// What is longer by less is no shorter pause.
const SHRUNK: f64 = 1.1;

/// The rule.
#[derive(Debug)]
pub struct Stall {
    limit: f64,
    ceiling: f64,
    /// The shortest pause that was foreseen before the late ones.
    shortest: f64,
    /// What was foreseen of late, newest first.
    late: [f64; LATE],
}

impl Stall {
    /// With that limit and ceiling, in seconds.
    pub fn new(limit: f64, ceiling: f64) -> Self {
        Self { limit, ceiling, shortest: f64::INFINITY, late: [f64::INFINITY; LATE] }
    }

    fn shortest_of_late(&self) -> f64 {
        self.late.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn has_stalled(&self) -> bool {
        self.shortest.is_finite() && self.shortest <= SHRUNK * self.shortest_of_late()
    }
}

impl StopRule for Stall {
    fn limit(&self, _: u32) -> Option<f64> {
        let longest = if self.has_stalled() { self.ceiling.min(self.shortest_of_late()) } else { 0.0 };
        Some(self.limit.max(longest))
    }

    fn goes_on(&mut self, foreseen: Option<Foreseen>) {
        self.shortest = self.shortest.min(self.late[LATE - 1]);
        self.late.rotate_right(1);
        self.late[0] = foreseen.map_or(f64::INFINITY, |foreseen| foreseen.total);
    }
}

//! What was sent of late.

use std::collections::VecDeque;

use crate::engine::round::Stretch;

/// Sending over at least this long makes a speed.
const SPAN: f64 = 0.010;
/// More rounds than make up that span in any migration that ends.
const MOST: usize = 64;

/// The newest rounds.
#[derive(Debug)]
pub struct Recent(VecDeque<Stretch>);

impl Recent {
    /// None yet.
    pub fn new() -> Self {
        Self(VecDeque::with_capacity(MOST))
    }

    /// Adds one, and allocates nothing.
    pub fn push(&mut self, round: Stretch) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(round);
    }

    /// The newest ones together, as many as make up a hundredth of a second where there are so many; of those that `counts`.
    pub fn sum(&self, counts: impl Fn(&Stretch) -> bool) -> Stretch {
        let mut sum = Stretch::default();
        for round in self.0.iter().rev().filter(|round| counts(round)) {
            sum += *round;
            if sum.seconds >= SPAN {
                break;
            }
        }
        sum
    }
}

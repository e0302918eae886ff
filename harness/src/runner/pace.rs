//! How fast runs are made, against what was estimated of them: estimates of what is left follow the runs that were made.

use std::time::Duration;

/// Seconds of the runs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    estimated: f64,
    taken: f64,
}

impl Pace {
    /// A run was made that was estimated to take so many seconds.
    pub fn add(&mut self, estimated: f64, taken: Duration) {
        self.estimated += estimated;
        self.taken += taken.as_secs_f64();
    }

    /// By what estimates are multiplied: 1 before the first run.
    #[must_use]
    pub fn factor(&self) -> f64 {
        if self.estimated > 0.0 { self.taken / self.estimated } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_the_runs_that_were_made() {
        let mut pace = Pace::default();
        assert!((pace.factor() - 1.0).abs() < 1e-12);
        pace.add(2.0, Duration::from_secs(3));
        pace.add(2.0, Duration::from_secs(5));
        assert!((pace.factor() - 2.0).abs() < 1e-12);
    }
}

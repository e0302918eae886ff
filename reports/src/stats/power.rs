//! What the samples at hand could have found. Normal approximations: they say how many runs to make, and judge nothing.

use super::normal::value_at;

/// How often a difference is to be found for it to count as detectable.
pub const POWER: f64 = 0.9;

/// The smallest log ratio that a one-sided test at `alpha` finds with probability `power`, where the estimate has the
/// standard error `error`.
#[must_use]
pub fn minimum_detectable(error: f64, alpha: f64, power: f64) -> f64 {
    (value_at(1.0 - alpha) + value_at(power)) * error
}

/// How many times the runs at hand are needed for `log` to become detectable: the error falls with the root of their number.
#[must_use]
pub fn times_as_many(error: f64, alpha: f64, power: f64, log: f64) -> f64 {
    (minimum_detectable(error, alpha, power) / log).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard error of a log ratio of two groups of that many runs, where single runs scatter by `deviation`.
    fn error_of(deviation: f64, base: usize, new: usize) -> f64 {
        deviation * (1.0 / super::super::real(base) + 1.0 / super::super::real(new)).sqrt()
    }

    #[test]
    fn the_textbook_case() {
        // 1.6449 + 1.2816 standard errors.
        assert!((minimum_detectable(1.0, 0.05, 0.9) - 2.926_405).abs() < 1e-5);
        // 4 % of scatter and ten runs a side.
        let error = error_of(0.04, 10, 10);
        assert!((error - 0.017_888_5).abs() < 1e-6);
        let times = times_as_many(error, 0.05, 0.9, 0.05);
        assert!((minimum_detectable(error / times.sqrt(), 0.05, 0.9) - 0.05).abs() < 1e-12);
    }

    /// The promise kept: of seeded samples with such a difference, the share that is found.
    #[test]
    fn what_is_called_detectable_is_found_that_often() {
        use rand::{RngExt, SeedableRng};
        let mut generator = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(4);
        let mut normal = move || value_at(generator.random_range(1e-12..1.0));
        let (runs, deviation, alpha) = (20, 0.04, 0.05);
        let effect = minimum_detectable(error_of(deviation, runs, runs), alpha, POWER);
        let found = (0..300)
            .filter(|trial| {
                let shift = |unit| if unit < runs { 0.0 } else { effect };
                let cell = (0..2 * runs).map(|unit| (unit, shift(unit) + deviation * normal())).collect();
                let labels = super::super::Labels::Groups { base: runs, new: runs };
                super::super::Stratified::of(labels, &[cell], *trial).unwrap().p_greater(0.0) <= alpha
            })
            .count();
        // 270 of 300 are expected; four standard deviations are 21.
        assert!((249..=291).contains(&found), "{found} of 300");
    }
}

//! The tail of one run's operations. Operations of one run share its luck, so that a run has one value, and what is said of
//! several runs is said of these values: a quantile of all their operations together would be that of the worst run.

use migbench_scenarios::words;

use crate::histogram::{self, Latencies};

words! {
    /// What stands for the tail of a run: the same in all runs that are laid beside each other.
    Tail {
        /// The 99.9th percentile, of 10 000 operations at least.
        P999 = "p99.9",
        /// The 99th percentile, of 1 000 operations at least.
        P99 = "p99",
        /// The 90th percentile, of 100 operations at least.
        P90 = "p90",
        /// The longest operation.
        Longest = "max",
    }
}

impl Tail {
    /// The highest that runs of so many operations all support: 10 / (1 - q) operations stand behind a quantile q. Runs
    /// without any have no tail at all, and don't count.
    #[must_use]
    pub fn supported(operations: impl IntoIterator<Item = u64>) -> Self {
        match operations.into_iter().filter(|count| *count > 0).min() {
            None | Some(10_000..) => Self::P999,
            Some(1_000..) => Self::P99,
            Some(100..) => Self::P90,
            Some(_) => Self::Longest,
        }
    }

    /// Of one run, in seconds; `None` without operations.
    #[must_use]
    pub fn of(self, run: &Latencies) -> Option<f64> {
        let value = match self {
            Self::P999 => run.value_at_quantile(0.999),
            Self::P99 => run.value_at_quantile(0.99),
            Self::P90 => run.value_at_quantile(0.9),
            Self::Longest => run.max(),
        };
        (!run.is_empty()).then(|| histogram::seconds(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `early` operations of 1 ms, and `late` of 50 ms.
    fn run(early: u64, late: u64) -> Latencies {
        let mut run = histogram::empty();
        run.record_n(1_000_000, early).unwrap();
        run.record_n(50_000_000, late).unwrap();
        run
    }

    #[test]
    fn the_smallest_run_says_which_quantile() {
        assert_eq!(Tail::supported([20_000, 10_000]), Tail::P999);
        assert_eq!(Tail::supported([20_000, 9_999, 0]), Tail::P99);
        assert_eq!(Tail::supported([999, 2_000_000]), Tail::P90);
        assert_eq!(Tail::supported([99, 2_000_000]), Tail::Longest);
        assert_eq!(Tail::supported([0, 0]), Tail::P999);
    }

    #[test]
    fn each_run_has_its_own() {
        let close = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() / expected - 1.0).abs() < 2e-3, "{found:?}")
        };
        close(Tail::P99.of(&run(980, 20)), 0.05);
        close(Tail::P99.of(&run(995, 5)), 0.001);
        close(Tail::P999.of(&run(9_980, 20)), 0.05);
        close(Tail::P90.of(&run(95, 5)), 0.001);
        close(Tail::Longest.of(&run(95, 5)), 0.05);
        assert_eq!(Tail::Longest.of(&run(0, 0)), None);
    }
}

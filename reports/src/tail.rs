//! A tail quantile of the operations of several runs together, with what its runs say of its uncertainty. Operations of
//! one run share its luck, so that runs and not operations are drawn again for the interval.

use crate::histogram::{self, Latencies};
use crate::stats::bootstrap;
use crate::stats::{self, Spread};

/// The share of operations below the tail.
const QUANTILE: f64 = 0.999;
/// The same report from the same records.
const SEED: u64 = 0x7461_696c;

/// The operations of the runs of a cell, in nanoseconds.
#[derive(Debug)]
pub struct Tail {
    /// All values that occur, ascending.
    values: Vec<u64>,
    /// Per run and value: how many of its operations took as long at most.
    up_to: Vec<Vec<u64>>,
    /// Of all runs together, where enough operations stand behind it.
    pooled: Option<u64>,
}

impl Tail {
    /// Of these runs.
    #[must_use]
    pub fn of(runs: &[Latencies]) -> Self {
        let mut all = histogram::empty();
        for run in runs {
            // Grows as it must; a histogram that can't be added is of absurd values.
            let _ = all.add(run);
        }
        let values: Vec<u64> = all.iter_recorded().map(|step| step.value_iterated_to()).collect();
        let up_to = |run: &Latencies| {
            let mut own = run.iter_recorded().peekable();
            let mut count = 0;
            let up_to = |value: &u64| {
                while let Some(step) = own.next_if(|step| step.value_iterated_to() <= *value) {
                    count += step.count_since_last_iteration();
                }
                count
            };
            values.iter().map(up_to).collect()
        };
        let up_to = runs.iter().map(up_to).collect();
        Self { up_to, values, pooled: histogram::supported_quantile(&all, QUANTILE) }
    }

    /// How many runs these are.
    const fn runs(&self) -> usize {
        self.up_to.len()
    }

    /// The quantile of all runs together, in seconds, where enough operations stand behind it.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        self.pooled.map(histogram::seconds)
    }

    /// Its interval, from six runs on.
    #[must_use]
    pub fn spread(&self) -> Option<Spread> {
        self.pooled?;
        bootstrap::interval(self.runs(), stats::ALPHA, SEED, |drawn| self.of_drawn(drawn))
    }

    /// This tail over that of `base`, with its interval from six runs of each on.
    #[must_use]
    pub fn ratio(&self, base: &Self) -> Option<(f64, Option<Spread>)> {
        let ratio = |new: f64, base: f64| stats::paired_ratio(&[(base, new)]);
        let value = ratio(self.seconds()?, base.seconds()?)?;
        let spread =
            bootstrap::interval_of_two((base.runs(), self.runs()), stats::ALPHA, SEED, |of_base, of_new| {
                ratio(self.of_drawn(of_new)?, base.of_drawn(of_base)?)
            });
        Some((value, spread))
    }

    /// The quantile of the runs with these numbers together, one drawn twice counting twice.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of operations stay far under 2^53, and the share of one is a count"
    )]
    fn of_drawn(&self, drawn: &[usize]) -> Option<f64> {
        let all: u64 = drawn.iter().filter_map(|run| self.up_to[*run].last()).sum();
        let wanted = ((all as f64 * QUANTILE).ceil() as u64).max(1);
        let reached = |place: usize| drawn.iter().map(|run| self.up_to[*run][place]).sum::<u64>() >= wanted;
        // The first place that reaches it; counts only grow.
        let (mut first, mut end) = (0, self.values.len());
        while first < end {
            let middle = first.midpoint(end);
            if reached(middle) { end = middle } else { first = middle + 1 }
        }
        self.values.get(first).map(|value| histogram::seconds(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4000 operations of 1000 ns to 5000 ns, and `late` of `tail` ns.
    fn run(late: u64, tail: u64) -> Latencies {
        let mut run = histogram::empty();
        for value in 1000..5000 {
            run.record(value).unwrap();
        }
        run.record_n(tail, late).unwrap();
        run
    }

    /// Tails of 101, 102 ... times `unit` ns, of which each run has enough to move the quantile.
    fn runs(count: u64, unit: u64) -> Vec<Latencies> {
        (1..=count).map(|number| run(20, (100 + number) * unit)).collect()
    }

    #[test]
    fn all_runs_drawn_once_have_the_quantile_of_the_histogram() {
        for (late, tail) in [(0, 1), (3, 90_000), (9, 1_000_000), (4000, 77)] {
            let runs = [run(late, tail), run(late, tail + 5000), run(0, 1)];
            let of = Tail::of(&runs);
            assert_eq!(of.of_drawn(&[0, 1, 2]), of.seconds(), "{late} of {tail}");
            assert!(of.seconds().is_some());
        }
    }

    #[test]
    fn the_interval_holds_the_quantile_and_lies_within_the_runs() {
        let tail = Tail::of(&runs(8, 1000));
        let (low, high) = tail.spread().unwrap().ends();
        let value = tail.seconds().unwrap();
        assert!(low < value && value <= high, "{low} {value} {high}");
        assert!((100e-6..109e-6).contains(&low) && high < 109e-6, "{low} {high}");
    }

    #[test]
    fn a_ratio_has_the_quotient_of_both_and_an_interval_around_it() {
        let (base, new) = (Tail::of(&runs(6, 2000)), Tail::of(&runs(6, 1000)));
        let (ratio, spread) = new.ratio(&base).unwrap();
        let (low, high) = spread.unwrap().ends();
        assert!(
            (ratio - 0.5).abs() < 1e-3 && low < ratio && ratio < high && high < 1.0,
            "{low} {ratio} {high}"
        );
        let (same, spread) = base.ratio(&base).unwrap();
        let (low, high) = spread.unwrap().ends();
        assert!((same - 1.0).abs() < 1e-9 && low < 1.0 && high > 1.0, "{low} {high}");
    }

    #[test]
    fn few_runs_have_no_interval_and_few_operations_no_quantile() {
        let five = Tail::of(&runs(5, 1000));
        assert!(five.seconds().is_some() && five.spread().is_none());
        assert!(matches!(five.ratio(&five), Some((_, None))));
        let two = Tail::of(&runs(2, 1000));
        assert_eq!((two.seconds(), two.spread()), (None, None));
        assert!(two.ratio(&five).is_none());
        assert_eq!(Tail::of(&[]).seconds(), None);
    }
}

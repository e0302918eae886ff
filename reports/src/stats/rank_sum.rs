//! The test of Mann and Whitney (1947), also called Wilcoxon's rank-sum test, of two independent samples: under the null
//! hypothesis every split of all values into the two samples is as likely. Its statistic counts the pairs, one value from
//! each sample, in which the second is the larger one; its interval is made of the differences of all pairs.

use super::{normal, real};

/// Up to that many values in either sample the distribution is exact.
pub const EXACT: usize = 50;

/// The null distribution for two numbers of values, none tied.
#[derive(Debug, Clone, PartialEq)]
pub struct RankSum {
    sizes: (usize, usize),
    /// P(U <= u), up to [`EXACT`] values.
    cumulative: Vec<f64>,
}

/// Sums from the left, ending in one.
pub(super) fn summed(chances: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut cumulative: Vec<f64> = chances
        .iter()
        .map(|chance| {
            sum += chance;
            sum
        })
        .collect();
    if let Some(last) = cumulative.last_mut() {
        *last = 1.0;
    }
    cumulative
}

impl RankSum {
    /// Of that many values in the two samples.
    #[must_use]
    pub fn of(first: usize, second: usize) -> Self {
        let sizes = (first, second);
        if first.max(second) > EXACT {
            return Self { sizes, cumulative: Vec::new() };
        }
        let counts = splits(first, second);
        let all: f64 = counts.iter().sum();
        let chances: Vec<f64> = counts.iter().map(|count| count / all).collect();
        Self { sizes, cumulative: summed(&chances) }
    }

    /// Number of pairs, the largest value of the statistic.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.sizes.0 * self.sizes.1
    }

    /// The chance of a statistic up to `u`: exact, or normal with a correction for continuity beyond [`EXACT`] values.
    #[must_use]
    pub fn lower_tail(&self, u: usize) -> f64 {
        match self.cumulative.get(u) {
            Some(chance) => *chance,
            None if self.cumulative.is_empty() => {
                let (n, m) = (real(self.sizes.0), real(self.sizes.1));
                normal::lower_tail((real(u) + 0.5 - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt())
            }
            None => 1.0,
        }
    }
}

/// How many of the splits give each value of the statistic. A split is a choice of `first` ranks out of all; their sum,
/// less the smallest possible one, is the statistic.
fn splits(first: usize, second: usize) -> Vec<f64> {
    let most = first * second;
    // ways[k][u]: choices of k ranks with the statistic u, of the ranks seen so far.
    let mut ways = vec![vec![0.0; most + 1]; first + 1];
    ways[0][0] = 1.0;
    for rank in 0..first + second {
        for chosen in (1..=first.min(rank + 1)).rev() {
            // The chosen-th smallest of the choice, at this rank, has that many of the other sample below it.
            let below = rank + 1 - chosen;
            if below > second {
                continue;
            }
            let (head, tail) = ways.split_at_mut(chosen);
            for u in below..=most {
                tail[0][u] += head[chosen - 1][u - below];
            }
        }
    }
    ways.swap_remove(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All splits of n + m ranks counted.
    fn enumerated(n: u32, m: u32, u: u32) -> f64 {
        let splits = (0..1_u32 << (n + m)).filter(|split| split.count_ones() == n);
        let statistic = |split: u32| {
            (0..n + m)
                .filter(|i| split >> i & 1 == 1)
                .map(|i| (0..i).filter(|j| split >> j & 1 == 0).count())
                .sum::<usize>()
        };
        let (mut all, mut low) = (0_u32, 0_u32);
        for split in splits {
            all += 1;
            low += u32::from(statistic(split) <= u as usize);
        }
        f64::from(low) / f64::from(all)
    }

    #[test]
    fn the_distribution_agrees_with_all_splits_counted() {
        for (n, m) in [(1, 1), (1, 5), (2, 3), (4, 4), (3, 6), (5, 5), (6, 2), (6, 6)] {
            let distribution = RankSum::of(n as usize, m as usize);
            for u in 0..=n * m + 1 {
                let (found, truth) = (distribution.lower_tail(u as usize), enumerated(n, m, u));
                assert!((found - truth).abs() < 1e-12, "{n} and {m}, u = {u}: {found}, not {truth}");
            }
        }
    }

    /// Critical values for two-sided 0.05 (Mann and Whitney 1947; for example in Siegel and Castellan, or Milton 1964): the
    /// largest statistic that is still significant.
    #[test]
    fn critical_values_of_published_tables() {
        let critical = |n: usize, m: usize, alpha: f64| {
            let distribution = RankSum::of(n, m);
            (0..=n * m).take_while(|u| 2.0 * distribution.lower_tail(*u) <= alpha).last()
        };
        for (n, m, expected) in [
            (3, 3, None),
            (4, 4, Some(0)),
            (5, 5, Some(2)),
            (6, 6, Some(5)),
            (7, 7, Some(8)),
            (8, 8, Some(13)),
            (10, 10, Some(23)),
            (5, 10, Some(8)),
            (15, 15, Some(64)),
            (20, 20, Some(127)),
        ] {
            assert_eq!(critical(n, m, 0.05), expected, "{n} and {m}");
        }
        for (n, expected) in [(5, Some(0)), (6, Some(2)), (8, Some(7)), (10, Some(16)), (20, Some(105))] {
            assert_eq!(critical(n, n, 0.01), expected, "{n}");
        }
    }

    #[test]
    fn samples_that_do_not_overlap_are_as_far_apart_as_can_be() {
        // 1 / C(12, 6); a published crate gives 1.0 for the two-sided test here.
        assert!((RankSum::of(6, 6).lower_tail(0) - 1.0 / 924.0).abs() < 1e-15);
    }

    #[test]
    fn the_approximation_goes_on_where_the_exact_one_ends() {
        let (exact, normal) =
            (RankSum::of(EXACT, EXACT), RankSum { sizes: (EXACT, EXACT), cumulative: Vec::new() });
        for u in (700..1300).step_by(50) {
            assert!((exact.lower_tail(u) - normal.lower_tail(u)).abs() < 1e-3, "{u}");
        }
    }
}

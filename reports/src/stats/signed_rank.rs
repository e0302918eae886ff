//! Wilcoxon's signed-rank test (1945) of pairs: under the null hypothesis each difference could as well have the other
//! sign. Its statistic counts Walsh averages (means of two differences, each also with itself) over zero, which is why its
//! interval is made of them (Hodges and Lehmann 1963).

use super::{normal, real};

/// Up to that many pairs the distribution is exact.
pub const EXACT: usize = 100;

/// The null distribution for one number of pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedRank {
    pairs: usize,
    /// P(T <= t), up to [`EXACT`] pairs.
    cumulative: Vec<f64>,
}

impl SignedRank {
    /// Of that many pairs.
    #[must_use]
    pub fn of(pairs: usize) -> Self {
        if pairs > EXACT {
            return Self { pairs, cumulative: Vec::new() };
        }
        // Each rank joins the sum or does not.
        let mut chances = vec![1.0];
        for rank in 1..=pairs {
            let mut next = vec![0.0; chances.len() + rank];
            for (sum, chance) in chances.iter().enumerate() {
                next[sum] += chance / 2.0;
                next[sum + rank] += chance / 2.0;
            }
            chances = next;
        }
        Self { pairs, cumulative: summed(&chances) }
    }

    /// The chance of a statistic up to `t`: exact, or normal with a correction for continuity beyond [`EXACT`] pairs.
    #[must_use]
    pub fn lower_tail(&self, t: usize) -> f64 {
        match self.cumulative.get(t) {
            Some(chance) => *chance,
            None if self.cumulative.is_empty() => {
                let n = real(self.pairs);
                let spread = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
                normal::lower_tail((real(t) + 0.5 - n * (n + 1.0) / 4.0) / spread)
            }
            None => 1.0,
        }
    }
}

/// Sums from the left, ending in one.
fn summed(chances: &[f64]) -> Vec<f64> {
    let sums = chances.iter().scan(0.0, |sum, chance| {
        *sum += chance;
        Some(*sum)
    });
    let mut cumulative: Vec<f64> = sums.collect();
    if let Some(last) = cumulative.last_mut() {
        *last = 1.0;
    }
    cumulative
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 2^n assignments of signs counted.
    fn enumerated(n: u32, t: u32) -> f64 {
        let sum = |signs: u32| (1..=n).filter(|rank| signs >> (rank - 1) & 1 == 1).sum::<u32>();
        let count = (0..1_u32 << n).filter(|signs| sum(*signs) <= t).count();
        real(count) / f64::from(1_u32 << n)
    }

    #[test]
    fn the_distribution_agrees_with_all_signs_counted() {
        for n in 0..=12_u32 {
            let distribution = SignedRank::of(n as usize);
            for t in 0..=n * (n + 1) / 2 + 2 {
                let (found, truth) = (distribution.lower_tail(t as usize), enumerated(n, t));
                assert!((found - truth).abs() < 1e-12, "n = {n}, t = {t}: {found}, not {truth}");
            }
        }
    }

    /// Critical values for two-sided 0.05 and 0.01 as tables print them (Wilcoxon and Wilcox 1964; for example in Siegel and
    /// Castellan, Nonparametric Statistics, table H): the largest statistic that is still significant.
    #[test]
    fn critical_values_of_published_tables() {
        let critical = |n: usize, alpha: f64| {
            let distribution = SignedRank::of(n);
            (0..=n * (n + 1) / 2).take_while(|t| 2.0 * distribution.lower_tail(*t) <= alpha).last()
        };
        let five = [(5, None), (6, Some(0)), (7, Some(2)), (8, Some(3)), (9, Some(5)), (10, Some(8))];
        let more = [(12, Some(13)), (15, Some(25)), (20, Some(52)), (25, Some(89)), (30, Some(137))];
        for (n, expected) in five.into_iter().chain(more) {
            assert_eq!(critical(n, 0.05), expected, "n = {n}");
        }
        for (n, expected) in
            [(7, None), (8, Some(0)), (10, Some(3)), (15, Some(15)), (20, Some(37)), (25, Some(68))]
        {
            assert_eq!(critical(n, 0.01), expected, "n = {n}");
        }
    }

    #[test]
    fn the_approximation_goes_on_where_the_exact_one_ends() {
        let (exact, normal) = (SignedRank::of(EXACT), SignedRank { pairs: EXACT, cumulative: Vec::new() });
        for t in (1500..2600).step_by(50) {
            assert!((exact.lower_tail(t) - normal.lower_tail(t)).abs() < 1e-3, "{t}");
        }
        assert!(SignedRank::of(EXACT + 1).cumulative.is_empty());
    }
}

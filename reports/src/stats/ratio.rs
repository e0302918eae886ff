//! Pairs as a ratio, new over base: the estimate of Hodges and Lehmann (1963) on logarithms, so that twice and half
//! are equally far, with the mark of a rank test and the interval that comes from inverting that very test.
//!
//! The test is Wilcoxon's signed-rank test, and the ratios are the Walsh averages of the pairs' logarithms. The statistic
//! counts ratios on one side of 1, and the interval reaches from the k-th smallest ratio to the k-th largest,
//! where fewer than k on one side would be significant. A ratio of exactly 1 counts on both sides: with ties the test is
//! conservative, and still says what the interval says.

use super::signed_rank::SignedRank;
use super::walsh::WalshAverages;
use super::{ALPHA, LEAST_FOR_INTERVAL, Spread, real};

/// Logarithms nearer to zero than this are rounding, and zero.
const ROUNDING: f64 = 1e-12;

/// What a test says at a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Significance {
    /// The new side's values are larger.
    Larger,
    /// The new side's values are smaller.
    Smaller,
    /// No difference can be told from chance; that is not to say that there is none.
    NotSignificant,
    /// No difference could be significant with so few samples.
    TooFew,
}

impl Significance {
    /// Whether a difference was distinguished from chance.
    #[must_use]
    pub const fn significant(self) -> bool {
        matches!(self, Self::Larger | Self::Smaller)
    }
}

/// Base and new compared.
#[derive(Debug, Clone, PartialEq)]
pub struct RatioTest {
    /// How many pairs.
    pub pairs: usize,
    /// New over base: the estimate.
    pub ratio: f64,
    /// How likely a difference as large would be, were there none: two-sided.
    pub p: f64,
    null: SignedRank,
    /// Logarithms of all ratios.
    logs: WalshAverages,
    /// The smallest and the largest ratio that was seen.
    seen: (f64, f64),
}

impl RatioTest {
    fn of(pairs: usize, logs: WalshAverages, seen: (f64, f64)) -> Option<Self> {
        let ratio = rounded(logs.median()?);
        let low = logs.count(|log| rounded(log) <= 1.0);
        let high = logs.len() - logs.count(|log| rounded(log) < 1.0);
        let mut test = Self { pairs, ratio, p: 1.0, null: SignedRank::of(pairs), logs, seen };
        test.p = test.chance(low.min(high));
        Some(test)
    }

    /// How likely it is that no more ratios than these lie on one side, whichever it is.
    fn chance(&self, ratios: usize) -> f64 {
        (2.0 * self.null.lower_tail(ratios)).min(1.0)
    }

    /// The interval that misses the true ratio with probability `alpha` at most. The range of what was seen, where there are
    /// fewer than [`LEAST_FOR_INTERVAL`] pairs or `alpha` is smaller than so many can give.
    #[must_use]
    pub fn spread(&self, alpha: f64) -> Spread {
        let few = self.pairs < LEAST_FOR_INTERVAL;
        // The chances grow with the count: look for the last that is still significant.
        let (mut significant, mut not) = (0, self.logs.len());
        if few || self.chance(0) > alpha {
            return Spread::Range { low: self.seen.0, high: self.seen.1 };
        }
        while not - significant > 1 {
            let middle = usize::midpoint(significant, not);
            if self.chance(middle) <= alpha { significant = middle } else { not = middle }
        }
        let end = |place| self.logs.nth(place).map_or(f64::NAN, rounded);
        let (low, high) = (end(significant), end(self.logs.len() - 1 - significant));
        Spread::Interval { low, high, confidence: 1.0 - self.chance(significant) }
    }

    /// What the test says at that level; always what [`RatioTest::spread`] says of the same level.
    #[must_use]
    pub fn mark(&self, alpha: f64) -> Significance {
        match self.spread(alpha) {
            Spread::Range { .. } => Significance::TooFew,
            Spread::Interval { low, .. } if low > 1.0 => Significance::Larger,
            Spread::Interval { high, .. } if high < 1.0 => Significance::Smaller,
            Spread::Interval { .. } => Significance::NotSignificant,
        }
    }

    /// The 95 % interval, or the range.
    #[must_use]
    pub fn interval(&self) -> Spread {
        self.spread(ALPHA)
    }
}

/// A ratio of a logarithm.
fn rounded(log: f64) -> f64 {
    if log.abs() < ROUNDING { 1.0 } else { log.exp() }
}

fn logarithms(samples: &[f64]) -> Option<Vec<f64>> {
    let positive = |sample: &f64| *sample > 0.0 && sample.is_finite();
    samples.iter().all(positive).then(|| samples.iter().map(|sample| sample.ln()).collect())
}

/// Pairs (base, new), such as two runs of one block. Pairing cancels what drifts between blocks. `None` without pairs, and
/// where a value is not positive, since then there is no ratio.
#[must_use]
pub fn paired(pairs: &[(f64, f64)]) -> Option<RatioTest> {
    let (base, new): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (base, new) = (logarithms(&base)?, logarithms(&new)?);
    let differences: Vec<f64> = new.iter().zip(&base).map(|(new, base)| new - base).collect();
    let logs = WalshAverages::of(&differences);
    let (low, high) = logs.ends()?;
    RatioTest::of(pairs.len(), logs, (low.exp(), high.exp()))
}

/// The geometric mean, which is the one that fits ratios: of x and 1/x it is 1. `None` without ratios, and where one is not
/// positive.
#[must_use]
pub fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let logs = logarithms(ratios).filter(|logs| !logs.is_empty())?;
    Some((logs.iter().sum::<f64>() / real(logs.len())).exp())
}

#[cfg(test)]
#[path = "ratio_tests.rs"]
mod tests;

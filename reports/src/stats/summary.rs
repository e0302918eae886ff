//! What stands for the samples of one cell: their median with its exact interval, or with the range where there are
//! too few for one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantile::{median, sorted};

/// Smallest confidence of an interval that is shown.
const CONFIDENCE: f64 = 0.95;

/// What stands beside a median.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Spread {
    /// Smallest and largest sample: too few samples for an interval of 95 %.
    Range {
        /// Smallest sample.
        low: f64,
        /// Largest sample.
        high: f64,
    },
    /// Covers the median with at least 95 % confidence.
    Interval {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
        /// The exact confidence, 0.95 to 1.
        confidence: f64,
    },
}

impl Spread {
    /// Both ends.
    #[must_use]
    pub const fn ends(self) -> (f64, f64) {
        match self {
            Self::Range { low, high } | Self::Interval { low, high, .. } => (low, high),
        }
    }

    /// Which of both, as formats for programs write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Range { .. } => "range",
            Self::Interval { .. } => "interval",
        }
    }

    /// Of an interval.
    #[must_use]
    pub const fn confidence(self) -> Option<f64> {
        match self {
            Self::Range { .. } => None,
            Self::Interval { confidence, .. } => Some(confidence),
        }
    }
}

/// The samples of one metric in one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many.
    pub samples: usize,
    /// Their median.
    pub median: f64,
    /// Absent for a single sample.
    pub spread: Option<Spread>,
}

impl Summary {
    /// Of these samples; `None` for none.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let median = median(samples)?;
        Some(Self { samples: samples.len(), median, spread: spread(samples) })
    }
}

/// The interval of the median where the samples allow 95 %, from six on, else the range; `None` for fewer than two.
#[must_use]
pub fn spread(samples: &[f64]) -> Option<Spread> {
    let samples = sorted(samples);
    let (Some(&low), Some(&high)) = (samples.first(), samples.last()) else { return None };
    if samples.len() < 2 {
        return None;
    }
    let Some((rank, confidence)) = interval_rank(samples.len()) else {
        return Some(Spread::Range { low, high });
    };
    Some(Spread::Interval { low: samples[rank - 1], high: samples[samples.len() - rank], confidence })
}

/// The sign test turned round: the interval from the `k`-th smallest to the `k`-th largest of `n` samples misses
/// the median only if fewer than `k` samples fall on one side of it, with probability 2 P(Bin(n, 1/2) < k) at
/// most. Returns the largest `k` that keeps the confidence, and the confidence; `None` where `k` = 1 does not,
/// which is for `n` < 6.
fn interval_rank(n: usize) -> Option<(usize, f64)> {
    let count = u32::try_from(n).ok()?;
    let mut best = None;
    // ln of C(n, i) / 2^n, so that large n does not underflow.
    let mut log_term = -f64::from(count) * std::f64::consts::LN_2;
    let mut below = 0.0;
    for i in 0..count / 2 {
        below += log_term.exp();
        let confidence = 1.0 - 2.0 * below;
        if confidence < CONFIDENCE {
            break;
        }
        best = Some((usize::try_from(i).ok()? + 1, confidence));
        log_term += (f64::from(count - i) / f64::from(i + 1)).ln();
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_six_samples_there_is_only_a_range() {
        assert_eq!(spread(&[5.0]), None);
        assert_eq!(spread(&[5.0, 1.0, 3.0]), Some(Spread::Range { low: 1.0, high: 5.0 }));
        assert!(matches!(spread(&[1.0, 2.0, 3.0, 4.0, 5.0]), Some(Spread::Range { .. })));
        let six = [6.0, 1.0, 5.0, 2.0, 4.0, 3.0];
        assert_eq!(spread(&six), Some(Spread::Interval { low: 1.0, high: 6.0, confidence: 0.96875 }));
    }

    /// Each of `n` samples falls below or above the true median with equal chance: count all 2^n cases.
    fn enumerated_confidence(n: usize, rank: usize) -> f64 {
        let covered = (0_u32..1 << n)
            .filter(|case| {
                let below = case.count_ones() as usize;
                below >= rank && n - below >= rank
            })
            .count();
        f64::from(u32::try_from(covered).unwrap()) / f64::from(1_u32 << n)
    }

    #[test]
    fn ranks_agree_with_all_cases_counted() {
        for n in 1..=16 {
            let truth = (1..=n / 2)
                .map(|rank| (rank, enumerated_confidence(n, rank)))
                .rfind(|(_, confidence)| *confidence >= 0.95);
            match (interval_rank(n), truth) {
                (Some((rank, confidence)), Some((true_rank, true_confidence))) => {
                    assert_eq!(rank, true_rank, "n = {n}");
                    assert!((confidence - true_confidence).abs() < 1e-12, "n = {n}");
                }
                (found, truth) => assert_eq!(found, truth, "n = {n}"),
            }
        }
    }

    #[test]
    fn ranks_of_published_tables_and_of_many_samples() {
        // As tables of the sign-test interval of the median print them.
        let ranks = |n| interval_rank(n).map(|(rank, _)| rank);
        assert_eq!([10, 20, 25, 50, 100].map(ranks), [Some(2), Some(6), Some(8), Some(18), Some(40)]);
        let (rank, confidence) = interval_rank(5000).unwrap();
        assert_eq!(rank, 2431);
        assert!((0.95..0.952).contains(&confidence));
    }
}

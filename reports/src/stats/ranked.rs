//! Order statistics of the values that rank tests are made of, of which there are as many as pairs of samples: they are counted
//! and found, and never laid out in memory.

use super::quantile::sorted;

/// All values of a kind that two samples, or one with itself, give.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ranked {
    /// Means of two of these, each also with itself, which are in ascending order: Walsh averages.
    Means(Vec<f64>),
    /// A value of the second less one of the first, both in ascending order.
    Differences(Vec<f64>, Vec<f64>),
}

impl Ranked {
    /// Of pairs, whose differences these are.
    pub(super) fn means(differences: &[f64]) -> Self {
        Self::Means(sorted(differences))
    }

    /// Of two samples.
    pub(super) fn differences(first: &[f64], second: &[f64]) -> Self {
        Self::Differences(sorted(first), sorted(second))
    }

    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Means(all) => all.len() * (all.len() + 1) / 2,
            Self::Differences(first, second) => first.len() * second.len(),
        }
    }

    /// How many values are `low`, which is true of every value under one of which it is true.
    pub(super) fn count(&self, low: impl Fn(f64) -> bool) -> usize {
        let mut count = 0;
        match self {
            Self::Means(all) => {
                let mut end = all.len();
                for (index, one) in all.iter().enumerate() {
                    while end > index && !low(f64::midpoint(*one, all[end - 1])) {
                        end -= 1;
                    }
                    count += end.saturating_sub(index);
                }
            }
            Self::Differences(first, second) => {
                let mut start = 0;
                for one in second {
                    while start < first.len() && !low(one - first[start]) {
                        start += 1;
                    }
                    count += first.len() - start;
                }
            }
        }
        count
    }

    /// The value with so many under it; `None` where there are not as many.
    pub(super) fn nth(&self, place: usize) -> Option<f64> {
        if place >= self.len() {
            return None;
        }
        // The bits of numbers, put so that they are ordered as the numbers are: what is between two can be halved.
        let (mut below, mut found) = (i64::MIN, i64::MAX);
        while below.abs_diff(found) > 1 {
            let middle = i64::midpoint(below, found);
            let bound = number(middle);
            if self.count(|value| value.total_cmp(&bound).is_le()) > place {
                found = middle;
            } else {
                below = middle;
            }
        }
        Some(number(found))
    }

    /// The smallest and the largest value.
    pub(super) fn ends(&self) -> Option<(f64, f64)> {
        let last = self.len().checked_sub(1)?;
        Some((self.nth(0)?, self.nth(last)?))
    }

    /// The middle value, or the mean of the middle two.
    pub(super) fn median(&self) -> Option<f64> {
        let upper = self.nth(self.len() / 2)?;
        if self.len() % 2 == 1 {
            return Some(upper);
        }
        self.nth(self.len() / 2 - 1).map(|lower| f64::midpoint(lower, upper))
    }
}

/// The number at a place in the order of [`f64::total_cmp`].
const fn number(place: i64) -> f64 {
    let bits = if place < 0 { place ^ i64::MAX } else { place };
    f64::from_bits(bits.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn means(samples: &[f64]) -> Vec<f64> {
        let each = |(index, one): (usize, &f64)| {
            samples[index..].iter().map(|other| f64::midpoint(*one, *other)).collect::<Vec<_>>()
        };
        sorted(&samples.iter().enumerate().flat_map(each).collect::<Vec<_>>())
    }

    fn agree(ranked: &Ranked, all: &[f64]) {
        assert_eq!(ranked.len(), all.len());
        for (place, value) in all.iter().enumerate() {
            assert_eq!(ranked.nth(place).map(f64::to_bits), Some(value.to_bits()), "{place} of {all:?}");
        }
        assert_eq!(ranked.nth(all.len()), None);
        assert_eq!(ranked.median(), crate::stats::median(all));
        for bound in all {
            assert_eq!(ranked.count(|value| value < *bound), all.iter().filter(|v| **v < *bound).count());
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_laid_out_is_there(
            first in prop::collection::vec(prop_oneof![-2.0..2.0, Just(0.0), Just(0.5), -1e-300..1e-300], 0..9),
            second in prop::collection::vec(prop_oneof![-1e9..1e9, Just(0.5)], 0..9),
        ) {
            agree(&Ranked::means(&first), &means(&first));
            let all: Vec<f64> = second.iter().flat_map(|new| first.iter().map(move |base| new - base)).collect();
            agree(&Ranked::differences(&first, &second), &sorted(&all));
        }
    }

    /// Fifty million means, of which none is kept.
    #[test]
    fn memory_grows_with_the_samples_and_not_with_their_pairs() {
        let samples: Vec<f64> = (0..10_000).map(f64::from).collect();
        let ranked = Ranked::means(&samples);
        let used = allocation_counter::measure(|| assert_eq!(ranked.median(), Some(4999.5)));
        assert!(used.bytes_max < 1 << 20, "{used:?}");
    }
}

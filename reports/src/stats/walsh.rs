//! Order statistics of Walsh averages (means of two samples, each also with itself), of which there are as many as pairs of
//! samples: they are counted and found, and never laid out in memory.

use super::quantile::sorted;

/// The averages of these samples, which are in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WalshAverages(Vec<f64>);

impl WalshAverages {
    pub(super) fn of(samples: &[f64]) -> Self {
        Self(sorted(samples))
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len() * (self.0.len() + 1) / 2
    }

    /// How many are `low`, which is true of every average under one of which it is true.
    pub(super) fn count(&self, low: impl Fn(f64) -> bool) -> usize {
        let (mut count, mut end) = (0, self.0.len());
        for (index, one) in self.0.iter().enumerate() {
            while end > index && !low(f64::midpoint(*one, self.0[end - 1])) {
                end -= 1;
            }
            count += end.saturating_sub(index);
        }
        count
    }

    /// The average with so many under it; `None` where there are not as many.
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

    /// The smallest and the largest.
    pub(super) fn ends(&self) -> Option<(f64, f64)> {
        let last = self.len().checked_sub(1)?;
        Some((self.nth(0)?, self.nth(last)?))
    }

    /// The middle one, or the mean of the middle two.
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

    fn agree(averages: &WalshAverages, all: &[f64]) {
        assert_eq!(averages.len(), all.len());
        for (place, value) in all.iter().enumerate() {
            assert_eq!(averages.nth(place).map(f64::to_bits), Some(value.to_bits()), "{place} of {all:?}");
        }
        assert_eq!(averages.nth(all.len()), None);
        assert_eq!(averages.median(), crate::stats::median(all));
        for bound in all {
            assert_eq!(averages.count(|value| value < *bound), all.iter().filter(|v| **v < *bound).count());
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_laid_out_is_there(
            samples in prop::collection::vec(prop_oneof![-2.0..2.0, Just(0.0), Just(0.5), -1e-300..1e-300, -1e9..1e9], 0..9),
        ) {
            agree(&WalshAverages::of(&samples), &means(&samples));
        }
    }

    /// Fifty million means, of which none is kept.
    #[test]
    fn memory_grows_with_the_samples_and_not_with_their_pairs() {
        let samples: Vec<f64> = (0..10_000).map(f64::from).collect();
        let averages = WalshAverages::of(&samples);
        let used = allocation_counter::measure(|| assert_eq!(averages.median(), Some(4999.5)));
        assert!(used.bytes_max < 1 << 20, "{used:?}");
    }
}

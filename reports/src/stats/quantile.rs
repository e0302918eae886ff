//! Order statistics of one sample: median, quantiles, and Tukey's fences.

/// In ascending order.
pub(super) fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples
}

/// The middle sample, or the mean of the middle two; `None` for none.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    let samples = sorted(samples);
    let middle = samples.len() / 2;
    let upper = samples.get(middle).copied()?;
    if samples.len() % 2 == 1 {
        return Some(upper);
    }
    samples.get(middle - 1).map(|lower| f64::midpoint(*lower, upper))
}

/// The quantile `share`, from 0 to 1, between two samples by proportion: definition 7 of Hyndman and Fan (1996), which is
/// the default of R, NumPy and SciPy. `None` without samples.
#[must_use]
pub fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let samples = sorted(samples);
    let last = samples.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * super::real(last);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the last index"
    )]
    let below = place.floor() as usize;
    let (low, high) = (samples[below], samples[(below + 1).min(last)]);
    Some(low + (high - low) * (place - super::real(below)))
}

/// Tukey's fences: beyond 1.5 interquartile ranges from the quartiles a sample is an outlier. That is a reason to look, and
/// none to drop it: a slow migration is as much a result as a fast one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fences {
    /// Samples under it are outliers.
    pub low: f64,
    /// Samples over it are outliers.
    pub high: f64,
}

impl Fences {
    /// Of these samples; `None` for fewer than four, whose quartiles mean nothing.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.len() < 4 {
            return None;
        }
        let (first, third) = (quantile(samples, 0.25)?, quantile(samples, 0.75)?);
        let reach = 1.5 * (third - first);
        Some(Self { low: first - reach, high: third + reach })
    }

    /// The samples outside, by index.
    #[must_use]
    pub fn outside(&self, samples: &[f64]) -> Vec<usize> {
        let is_out = |sample: f64| sample < self.low || sample > self.high;
        samples.iter().enumerate().filter(|(_, sample)| is_out(**sample)).map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn quantiles_reach_from_the_smallest_to_the_largest() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&samples, 0.0), Some(1.0));
        assert_eq!(quantile(&samples, 1.0), Some(4.0));
        assert_eq!(quantile(&samples, 0.25), Some(1.75));
        assert_eq!(quantile(&samples, 0.5), median(&samples));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[5.0], 0.9), Some(5.0));
    }

    #[test]
    fn fences_name_outliers_and_drop_nothing() {
        let samples = [10.0, 11.0, 10.5, 10.2, 10.8, 30.0];
        assert_eq!(Fences::of(&samples).unwrap().outside(&samples), [5]);
        assert_eq!(Fences::of(&samples[..5]).unwrap().outside(&samples[..5]), Vec::<usize>::new());
        assert_eq!(Fences::of(&samples[..3]), None);
        // All alike: the fences are where the samples are, and nothing lies outside.
        assert_eq!(Fences::of(&[2.0; 6]).unwrap().outside(&[2.0; 6]), Vec::<usize>::new());
    }
}

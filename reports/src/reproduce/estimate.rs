//! A figure of ours with what stands beside it.

use serde::Serialize;

use crate::stats::{Spread, Summary};

/// A median and its spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// Lower end of the spread; the value itself for a single sample.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Runs, or pairs of runs.
    pub samples: usize,
    /// Whether the ends are an interval of 95 %; else they are the smallest and the largest sample.
    pub interval: bool,
}

impl Estimate {
    /// Of samples; `None` for none.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let Summary { samples, median, spread } = Summary::of(samples)?;
        let (low, high) = spread.map_or((median, median), Spread::ends);
        let interval = matches!(spread, Some(Spread::Interval { .. }));
        Some(Self { value: median, low, high, samples, interval })
    }

    /// Of what `f` makes of it, which must rise or fall throughout.
    #[must_use]
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (f(self.low), f(self.high));
        Self { value: f(self.value), low: a.min(b), high: a.max(b), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_stay_in_order() {
        let falling = Estimate::of(&[1.0, 2.0, 4.0]).unwrap().map(|x| 1.0 - 1.0 / x).map(|x| -x);
        assert_eq!((falling.low, falling.value, falling.high), (-0.75, -0.5, 0.0));
        assert_eq!((falling.samples, falling.interval), (3, false));
    }

    #[test]
    fn one_sample_has_no_spread() {
        let one = Estimate::of(&[3.0]).unwrap();
        assert_eq!((one.low, one.high, one.samples), (3.0, 3.0, 1));
        assert_eq!(Estimate::of(&[]), None);
    }
}

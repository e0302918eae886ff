//! Bootstrap intervals, for figures that have no exact one: quantiles pooled over runs and whatever else is computed from
//! all runs of a cell together. Whole migrations are drawn again, with replacement, never their operations, which are not
//! independent. Percentiles of what comes out are the interval (Efron and Tibshirani 1993, chapter 13). It is approximate,
//! and too narrow for few runs.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::quantile::quantile;
use super::{LEAST_FOR_INTERVAL, Spread};

/// How often runs are drawn again.
pub const DRAWS: usize = 2_000;

/// The interval of a figure of `runs` runs. `figure` computes it from the indices of the drawn ones, and may have none.
/// `None` for fewer than [`LEAST_FOR_INTERVAL`] runs, and where over one draw in twenty has no figure.
pub fn interval(
    runs: usize,
    alpha: f64,
    seed: u64,
    mut figure: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<Spread> {
    interval_of_two((runs, runs), alpha, seed, |drawn, _| figure(drawn))
}

/// The same for a figure of two independent groups of runs, such as the ratio of their pooled quantiles.
pub fn interval_of_two(
    runs: (usize, usize),
    alpha: f64,
    seed: u64,
    mut figure: impl FnMut(&[usize], &[usize]) -> Option<f64>,
) -> Option<Spread> {
    if runs.0.min(runs.1) < LEAST_FOR_INTERVAL {
        return None;
    }
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut first, mut second) = (vec![0; runs.0], vec![0; runs.1]);
    let figures: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            for (drawn, all) in [(&mut first, runs.0), (&mut second, runs.1)] {
                drawn.iter_mut().for_each(|index| *index = generator.random_range(0..all));
            }
            figure(&first, &second)
        })
        .collect();
    if figures.len() * 20 < DRAWS * 19 {
        return None;
    }
    let (low, high) = (quantile(&figures, alpha / 2.0)?, quantile(&figures, 1.0 - alpha / 2.0)?);
    Some(Spread::Interval { low, high, confidence: 1.0 - alpha })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::real;

    fn mean_of<'a>(samples: &'a [f64]) -> impl FnMut(&[usize]) -> Option<f64> + 'a {
        |drawn| Some(drawn.iter().map(|index| samples[*index]).sum::<f64>() / real(drawn.len()))
    }

    /// Of six runs there are 6^6 draws: the percentiles of all of them are the truth that the seeded ones come near to.
    #[test]
    fn draws_agree_with_all_draws_tried() {
        let samples = [1.0, 2.5, 3.0, 4.5, 7.0, 11.0];
        let all: Vec<f64> = (0..6_usize.pow(6))
            .map(|mut code| {
                let mut sum = 0.0;
                for _ in 0..6 {
                    sum += samples[code % 6];
                    code /= 6;
                }
                sum / 6.0
            })
            .collect();
        let truth = (quantile(&all, 0.025).unwrap(), quantile(&all, 0.975).unwrap());
        let (low, high) = interval(6, 0.05, 11, mean_of(&samples)).unwrap().ends();
        // The error of a percentile of 2000 draws: within the 1.5th and 3.5th percentile, and their mirror images.
        let within = |low, high| quantile(&all, low).unwrap()..=quantile(&all, high).unwrap();
        assert!(within(0.015, 0.035).contains(&low), "{low}, not {}", truth.0);
        assert!(within(0.965, 0.985).contains(&high), "{high}, not {}", truth.1);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let samples = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
        let of = |seed| interval(7, 0.05, seed, mean_of(&samples)).unwrap().ends();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn five_runs_and_missing_figures_have_none() {
        assert_eq!(interval(5, 0.05, 1, |_| Some(1.0)), None);
        assert_eq!(interval(9, 0.05, 1, |_| None), None);
        let equal = interval_of_two((6, 8), 0.05, 1, |a, b| Some(real(a.len()) / real(b.len())));
        assert_eq!(equal.map(Spread::ends), Some((0.75, 0.75)));
    }
}

//! Holm's correction (1979): of many tests, one is wrongly called significant with probability `alpha` at most, whatever
//! depends on what.

/// Adjusted p-values, in the order of `p`: a test is significant where its adjusted value is at most `alpha`.
#[must_use]
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![0.0; p.len()];
    let mut worst: f64 = 0.0;
    for (step, index) in ranked(p).into_iter().enumerate() {
        worst = worst.max((super::real(p.len() - step) * p[index]).min(1.0));
        adjusted[index] = worst;
    }
    adjusted
}

/// The level at which each test is to be looked at by itself, so that its own p-value is at most that level exactly where
/// its adjusted one is at most `alpha`. An interval of this level agrees with the adjusted mark, and since no level is
/// above `alpha` it covers at least as often as one of `alpha`.
#[must_use]
pub fn levels(p: &[f64], alpha: f64) -> Vec<f64> {
    let mut levels = vec![alpha; p.len()];
    let mut stopped = None;
    for (step, index) in ranked(p).into_iter().enumerate() {
        let here = alpha / super::real(p.len() - step);
        // After the first test that fails all others do, whatever their own step would allow.
        if stopped.is_none() && p[index] > here {
            stopped = Some(here);
        }
        levels[index] = stopped.unwrap_or(here);
    }
    levels
}

/// Indices from the smallest p-value to the largest.
fn ranked(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_literature() {
        // R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") and p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
        let close = |found: Vec<f64>, expected: &[f64]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        };
        close(adjusted(&[0.01, 0.02, 0.03, 0.04, 0.05]), &[0.05, 0.08, 0.09, 0.09, 0.09]);
        close(adjusted(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02]);
        assert_eq!(adjusted(&[]), Vec::<f64>::new());
        assert_eq!(adjusted(&[0.7, 0.9]), [1.0, 1.0]);
    }

    proptest! {
        #[test]
        fn adjusting_keeps_the_order_and_never_helps(p in prop::collection::vec(0.0..=1.0_f64, 0..12)) {
            let adjusted = adjusted(&p);
            for i in 0..p.len() {
                prop_assert!(adjusted[i] >= p[i] && adjusted[i] <= 1.0);
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
                }
            }
        }

        #[test]
        fn a_level_says_what_the_adjusted_value_says(p in prop::collection::vec(0.0..=0.2_f64, 0..12)) {
            let levels = levels(&p, 0.05);
            for ((p, adjusted), level) in p.iter().zip(adjusted(&p)).zip(levels) {
                prop_assert!(level <= 0.05);
                // On the very edge rounding decides, which no data hits.
                prop_assume!((adjusted - 0.05).abs() > 1e-12);
                prop_assert_eq!(*p <= level, adjusted <= 0.05);
            }
        }
    }
}

//! The exact interval of a share (Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
//! 1934): no share within it would give as many hits or more, or as few or fewer, in under half of [`ALPHA`].

use super::{ALPHA, Spread, real};

/// Of `hits` in `all` independent trials; none for no trial.
#[must_use]
pub fn interval(hits: usize, all: usize) -> Option<Spread> {
    if all == 0 || hits > all {
        return None;
    }
    let rare = ALPHA / 2.0;
    let low = if hits == 0 { 0.0 } else { solve(|share| 1.0 - at_most(hits - 1, all, share) >= rare) };
    let high = if hits == all { 1.0 } else { solve(|share| at_most(hits, all, share) < rare) };
    Some(Spread::Interval { low, high, confidence: 1.0 - ALPHA })
}

/// The smallest share for which that holds, which it does for all larger ones.
fn solve(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { high = middle } else { low = middle }
    }
    high
}

/// The chance of so many hits or fewer. In logarithms: of thousands of trials each single chance is too small for a number.
fn at_most(hits: usize, all: usize, share: f64) -> f64 {
    if share <= 0.0 {
        return 1.0;
    }
    if share >= 1.0 {
        return if hits >= all { 1.0 } else { 0.0 };
    }
    let (yes, no) = (share.ln(), (-share).ln_1p());
    let mut ways = 0.0;
    let mut sum = 0.0;
    for hit in 0..=hits {
        if hit > 0 {
            ways += (real(all - hit + 1) / real(hit)).ln();
        }
        sum += (ways + real(hit) * yes + real(all - hit) * no).exp();
    }
    f64::min(sum, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_second_implementation() {
        // By sums of the logarithms of the gamma function, in Python.
        for (hits, all, low, high) in [
            (0, 10, 0.0, 0.308_497_1),
            (10, 10, 0.691_502_9, 1.0),
            (95, 100, 0.887_165_1, 0.983_568_1),
            (1, 3, 0.008_403_8, 0.905_701_0),
            (1950, 2000, 0.967_172_2, 0.981_388_9),
        ] {
            let (found_low, found_high) = interval(hits, all).unwrap().ends();
            assert!((found_low - low).abs() < 1e-6, "{hits} of {all}: {found_low}");
            assert!((found_high - high).abs() < 1e-6, "{hits} of {all}: {found_high}");
        }
        assert_eq!(interval(0, 0), None);
    }
}

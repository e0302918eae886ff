//! Permutation tests of means: what the difference would have been under every other assignment of labels (or of signs),
//! all of them where they can be counted, and otherwise a seeded sample of them.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::real;

/// Up to that many assignments all are tried.
pub const EXACT: usize = 20_000;
/// Beyond, that many are drawn. With the one at hand they make ten thousand, so that a p-value near 0.01 is known to 0.001.
pub const DRAWS: usize = 9_999;

/// A p-value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance {
    /// How likely a difference as far on its side is if labels mean nothing, doubled for there being two sides, as SciPy
    /// does it.
    pub p: f64,
    /// Whether every assignment was tried.
    pub exact: bool,
}

/// How many assignments gave a sum at least as large as what was seen, and how many one at most as large.
#[derive(Debug)]
struct Tally {
    seen: f64,
    rounding: f64,
    all: usize,
    larger: usize,
    smaller: usize,
}

impl Tally {
    fn new(seen: f64, values: &[f64]) -> Self {
        // Sums differ by the order of adding: what is nearer than this counts as equal, which is the safe side.
        let rounding = 1e-12 * values.iter().map(|value| value.abs()).sum::<f64>();
        Self { seen, rounding, all: 0, larger: 0, smaller: 0 }
    }

    fn add(&mut self, sum: f64) {
        self.all += 1;
        self.larger += usize::from(sum >= self.seen - self.rounding);
        self.smaller += usize::from(sum <= self.seen + self.rounding);
    }

    fn chance(&self, exact: bool) -> Chance {
        // What was seen is one of the assignments; it is among all of them, and comes on top of those that were drawn.
        let own = if exact { 0.0 } else { 1.0 };
        let p = 2.0 * (real(self.larger.min(self.smaller)) + own) / (real(self.all) + own);
        Chance { p: p.min(1.0), exact }
    }
}

/// Whether the means of two independent samples differ. `None` where one is empty.
#[must_use]
pub fn two_samples(base: &[f64], new: &[f64], seed: u64) -> Option<Chance> {
    if base.is_empty() || new.is_empty() {
        return None;
    }
    let all = [base, new].concat();
    let (total, taken) = (all.iter().sum::<f64>(), new.len());
    let mean = total / real(all.len());
    // The mean of one side tells that of the other: it is enough to look how far one sum is from what it would be.
    let centred: Vec<f64> = all.iter().map(|value| value - mean).collect();
    let mut tally = Tally::new(centred[base.len()..].iter().sum(), &centred);
    if choices(all.len(), taken).is_some_and(|count| count <= EXACT) {
        choose(&centred, taken, 0.0, &mut |sum| tally.add(sum));
        return Some(tally.chance(true));
    }
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut pool = centred;
    for _ in 0..DRAWS {
        draw(&mut pool, taken, &mut generator);
        tally.add(pool[..taken].iter().sum());
    }
    Some(tally.chance(false))
}

/// Whether the mean of paired differences is not zero. `None` without any.
#[must_use]
pub fn paired(differences: &[f64], seed: u64) -> Option<Chance> {
    if differences.is_empty() {
        return None;
    }
    let mut tally = Tally::new(differences.iter().sum(), differences);
    let all = u32::try_from(differences.len()).ok().and_then(|n| 1_usize.checked_shl(n));
    if let Some(all) = all.filter(|all| *all <= EXACT) {
        for signs in 0..all {
            let signed = differences.iter().enumerate();
            tally.add(signed.map(|(i, value)| if signs >> i & 1 == 1 { -value } else { *value }).sum());
        }
        return Some(tally.chance(true));
    }
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(seed);
    for _ in 0..DRAWS {
        tally.add(differences.iter().map(|value| if generator.random() { -value } else { *value }).sum());
    }
    Some(tally.chance(false))
}

/// Moves a random choice of `taken` values to the front (Fisher and Yates).
pub(super) fn draw<T>(pool: &mut [T], taken: usize, generator: &mut Xoshiro256PlusPlus) {
    for place in 0..taken {
        let other = generator.random_range(place..pool.len());
        pool.swap(place, other);
    }
}

/// How many choices of `taken` out of `all` there are, if the number is small enough to count to.
pub(super) fn choices(all: usize, taken: usize) -> Option<usize> {
    (0..taken.min(all - taken))
        .try_fold(1_usize, |count, step| Some(count.checked_mul(all - step)? / (step + 1)))
}

/// Calls `each` with the sum of every choice of `taken` values.
fn choose(values: &[f64], taken: usize, sum: f64, each: &mut impl FnMut(f64)) {
    if taken == 0 {
        return each(sum);
    }
    for index in 0..=values.len() - taken {
        choose(&values[index + 1..], taken - 1, sum + values[index], each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_choices() {
        assert_eq!([choices(12, 6), choices(5, 0), choices(4, 3)], [Some(924), Some(1), Some(4)]);
        assert_eq!(choices(200, 100), None);
    }

    #[test]
    fn samples_that_do_not_overlap_have_the_smallest_chance() {
        let (low, high) = ([1.0, 2.0, 3.0, 4.0], [11.0, 12.0, 13.0, 14.0]);
        assert_eq!(two_samples(&low, &high, 1), Some(Chance { p: 2.0 / 70.0, exact: true }));
        assert_eq!(paired(&[1.0; 6], 1), Some(Chance { p: 2.0 / 64.0, exact: true }));
        assert_eq!(two_samples(&low, &[], 1), None);
    }

    #[test]
    fn equal_values_are_never_far() {
        assert_eq!(two_samples(&[0.1; 4], &[0.1; 5], 1).unwrap().p.to_bits(), 1.0_f64.to_bits());
        assert_eq!(paired(&[0.0; 5], 1).unwrap().p.to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn the_drawn_sample_agrees_with_the_whole() {
        // 15 pairs are too many to try all signs here, and not too many for the test.
        let differences: Vec<f64> = (0..15).map(|i| f64::from((i * 7) % 11) / 10.0 - 0.35).collect();
        let seen = differences.iter().sum::<f64>().abs();
        let far = (0..1_u32 << 15)
            .filter(|signs| {
                let signed = differences.iter().enumerate();
                signed.map(|(i, d)| if signs >> i & 1 == 1 { -d } else { *d }).sum::<f64>().abs()
                    >= seen - 1e-12
            })
            .count();
        let truth = real(far) / f64::from(1 << 15);
        let drawn = paired(&differences, 7).unwrap();
        // Four standard errors of a share of 9999 draws, doubled as it is.
        let error = 8.0 * (truth / 2.0 / 9_999.0).sqrt();
        assert!(!drawn.exact && (drawn.p - truth).abs() < error, "{} and {truth}", drawn.p);
        assert_eq!(paired(&differences, 7), Some(drawn), "the same seed gives the same figure");
    }
}

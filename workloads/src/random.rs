//! Pseudo-random numbers and choices, the same on both sides: SplitMix64, and pages by pattern. The guest compiles this
//! same file, so it uses `core` only.

use crate::abi::{PATTERN_SEQUENTIAL, PATTERN_UNIFORM, Params};

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 2^64 over the golden section: steps by it spread evenly.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64.
#[derive(Debug, Clone, Copy)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed ^ GOLDEN))
    }

    /// The stream that starts in this very state.
    #[must_use]
    pub const fn resume(state: u64) -> Self {
        Self(state)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform in `0..n`, by multiplication (bias under n / 2^64).
    pub const fn below(&mut self, n: u64) -> u64 {
        ((self.next() as u128 * n as u128) >> 64) as u64
    }
}

/// Chooses pages of one part: numbers in `0..pages`.
#[derive(Debug, Clone, Copy)]
pub struct Chooser {
    pattern: u32,
    pages: u64,
    cursor: u64,
    stride: u64,
    zeta: f64,
    first_two: f64,
    eta: f64,
    alpha: f64,
}

impl Chooser {
    /// A chooser over `pages` pages; `params` gives the pattern. `pages` must not be 0.
    #[must_use]
    pub fn new(params: &Params, pages: u64) -> Self {
        let theta = params.zipf_theta;
        let zeta = params.zipf_zeta;
        let first_two = 1.0 + power(0.5, theta);
        #[allow(clippy::cast_precision_loss)]
        let n = pages as f64;
        Self {
            pattern: params.pattern,
            pages,
            cursor: 0,
            stride: coprime(pages),
            zeta,
            first_two,
            eta: (1.0 - power(2.0 / n, 1.0 - theta)) / (1.0 - first_two / zeta),
            alpha: 1.0 / (1.0 - theta),
        }
    }

    /// The next page.
    pub fn next(&mut self, random: &mut Random) -> u64 {
        match self.pattern {
            PATTERN_SEQUENTIAL => {
                let page = self.cursor;
                self.cursor = if page + 1 == self.pages { 0 } else { page + 1 };
                page
            }
            PATTERN_UNIFORM => random.below(self.pages),
            _ => {
                let rank = self.zipf_rank(random);
                // A bijection, so that the popular pages are not neighbours.
                ((u128::from(rank) * u128::from(self.stride)) % u128::from(self.pages)) as u64
            }
        }
    }

    /// Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994, as YCSB uses it.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn zipf_rank(&self, random: &mut Random) -> u64 {
        let u = (random.next() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64);
        let uz = u * self.zeta;
        if uz < 1.0 {
            return 0;
        }
        if uz < self.first_two {
            return 1.min(self.pages - 1);
        }
        let rank = self.pages as f64 * power(self.eta * u - self.eta + 1.0, self.alpha);
        (rank as u64).min(self.pages - 1)
    }
}

/// A number near the golden section of `n` that shares no factor with it.
fn coprime(n: u64) -> u64 {
    let mut candidate = ((u128::from(n) * 0x9e37_79b9) >> 32) as u64 | 1;
    loop {
        let (mut a, mut b) = (candidate, n);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        if a == 1 {
            return candidate;
        }
        candidate += 2;
    }
}

/// `base` to the power of `exponent` for positive `base`, to about 1e-9: `core` has no `powf`.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
pub fn power(base: f64, exponent: f64) -> f64 {
    if base <= 0.0 {
        return 0.0;
    }
    // log2: the exponent, and atanh's series over the mantissa in [sqrt(1/2), sqrt(2)).
    let bits = base.to_bits();
    let mut whole = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > core::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        whole += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let s2 = s * s;
    let series = 1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0 + s2 / 11.0))));
    #[allow(clippy::cast_precision_loss)]
    let log2 = whole as f64 + 2.0 * core::f64::consts::LOG2_E * s * series;
    // exp2: the nearest whole number, and Taylor's series of the rest in [-1/2, 1/2].
    let y = (log2 * exponent).clamp(-1000.0, 1000.0);
    let n = if y >= 0.0 { (y + 0.5) as i64 } else { (y - 0.5) as i64 };
    #[allow(clippy::cast_precision_loss)]
    let x = (y - n as f64) * core::f64::consts::LN_2;
    let series = 1.0
        + x * (1.0
            + x / 2.0
                * (1.0
                    + x / 3.0
                        * (1.0
                            + x / 4.0
                                * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0 * (1.0 + x / 8.0)))))));
    series * f64::from_bits(((n + 1023) as u64) << 52)
}

#[cfg(all(test, not(guest)))]
#[path = "random_tests.rs"]
mod tests;

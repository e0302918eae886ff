//! What every page of the guest must hold, as pure functions of seed, page number and write count.
//!
//! The guest compiles this same file: it fills, writes and validates its pages with it, so that a page's whole
//! content can be checked at any time. A page of the working set starts with an 8-byte count of its writes and an
//! 8-byte tag; the rest, the body, holds the fill and over it the bytes of the last writes. A page that arrives
//! stale after a migration is a perfectly good page of an earlier time: it is found because the counts of all pages must
//! add up to the writes made.

use crate::abi::{CONTENT_COUNTER, CONTENT_RANDOM, PATTERN_SEQUENTIAL, PATTERN_UNIFORM, Params};

/// A page's bytes.
pub type Page = [u8; 4096];

const HEADER: usize = 16;
const BODY: usize = 4096 - HEADER;

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64.
#[derive(Debug, Clone, Copy)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed ^ GOLDEN))
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

const WORDS: [&[u8]; 32] = [
    b"the ",
    b"guest ",
    b"memory ",
    b"of ",
    b"a ",
    b"page ",
    b"is ",
    b"and ",
    b"to ",
    b"in ",
    b"machine ",
    b"that ",
    b"was ",
    b"migration ",
    b"with ",
    b"for ",
    b"it ",
    b"kernel ",
    b"on ",
    b"by ",
    b"not ",
    b"from ",
    b"round ",
    b"which ",
    b"dirty ",
    b"copy ",
    b"are ",
    b"at ",
    b"before ",
    b"write ",
    b"host ",
    b"state\n",
];

/// The rules of one guest's pages.
#[derive(Debug, Clone, Copy)]
pub struct Pages {
    seed: u64,
    working_set: u64,
    fill_q32: u64,
    text_q32: u64,
    content: u32,
    moves: bool,
    pieces: usize,
    /// Bytes of a piece; the first `longer` pieces have one more.
    short: usize,
    longer: usize,
    /// Distance between two pieces.
    segment: usize,
    /// Places that a moving piece goes through.
    slots: u64,
}

impl Pages {
    /// The rules that `params` sets. Values that the harness would refuse are brought into range.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        let bytes = (params.change_bytes as usize).clamp(1, BODY);
        let pieces = (params.change_pieces as usize).clamp(1, bytes);
        let short = bytes / pieces;
        let longer = bytes % pieces;
        let segment = BODY / pieces;
        let longest = short + usize::from(longer > 0);
        let slots = (segment / longest).max(1) as u64;
        Self {
            seed: params.seed,
            working_set: params.working_set,
            fill_q32: params.fill_q32,
            text_q32: params.text_q32,
            content: params.content,
            moves: params.change_moves != 0 && params.content != crate::abi::CONTENT_SAME,
            pieces,
            short,
            longer,
            segment,
            slots,
        }
    }

    /// Whether page `index` starts as zeros.
    #[must_use]
    pub fn starts_zero(&self, index: u64) -> bool {
        index >= self.working_set && mix(self.seed ^ index.wrapping_mul(GOLDEN)) >> 32 >= self.fill_q32
    }

    /// Writes what page `index` holds at first.
    pub fn fill(&self, index: u64, page: &mut Page) {
        if self.starts_zero(index) {
            page.fill(0);
            return;
        }
        let tag = mix(self.seed.wrapping_add(GOLDEN) ^ index.wrapping_mul(GOLDEN));
        let mut random = Random::new(tag);
        if tag >> 32 < self.text_q32 {
            let mut at = 0;
            while at < page.len() {
                let mut bits = random.next();
                for _ in 0..12 {
                    let word = WORDS[(bits & 31) as usize];
                    let length = word.len().min(page.len() - at);
                    page[at..at + length].copy_from_slice(&word[..length]);
                    at += length;
                    bits >>= 5;
                }
            }
        } else {
            for word in page.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes());
            }
        }
        if index < self.working_set {
            page[..8].copy_from_slice(&0_u64.to_le_bytes());
            page[8..16].copy_from_slice(&tag.to_le_bytes());
        }
    }

    /// How often the page was written.
    #[must_use]
    pub fn count(page: &Page) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&page[..8]);
        u64::from_le_bytes(word)
    }

    /// One page write.
    pub fn write(&self, index: u64, page: &mut Page) {
        let count =
            if self.content == crate::abi::CONTENT_SAME { 1 } else { Self::count(page).wrapping_add(1) };
        self.apply(index, count, page);
        page[..8].copy_from_slice(&count.to_le_bytes());
    }

    /// The body after write number `count`, given the body before it.
    fn apply(&self, index: u64, count: u64, page: &mut Page) {
        let slot = if self.moves { ((count - 1) % self.slots) as usize } else { 0 };
        let longest = self.short + usize::from(self.longer > 0);
        let mut random = Random(mix(self.seed ^ index.wrapping_mul(GOLDEN)) ^ mix(count));
        for piece in 0..self.pieces {
            let length = self.short + usize::from(piece < self.longer);
            let start = HEADER + piece * self.segment + slot * longest;
            let target = &mut page[start..start + length];
            let mut words = target.chunks_exact_mut(8);
            let mut next = || match self.content {
                CONTENT_COUNTER => count,
                CONTENT_RANDOM => random.next(),
                _ => 0xa5a5_a5a5_a5a5_a5a5,
            };
            for word in &mut words {
                word.copy_from_slice(&next().to_le_bytes());
            }
            let rest = words.into_remainder();
            if !rest.is_empty() {
                let length = rest.len();
                rest.copy_from_slice(&next().to_le_bytes()[..length]);
            }
        }
    }

    /// Compares a page with what it must hold after the writes that it counts; `scratch` is overwritten.
    ///
    /// # Errors
    /// The offset of the first byte that differs.
    pub fn validate(&self, index: u64, page: &Page, scratch: &mut Page) -> Result<(), usize> {
        self.fill(index, scratch);
        if index < self.working_set {
            let count = Self::count(page);
            if count > 0 {
                let first = if self.moves { count.saturating_sub(self.slots).wrapping_add(1) } else { count };
                for n in first..=count {
                    self.apply(index, n, scratch);
                }
            }
            scratch[..8].copy_from_slice(&count.to_le_bytes());
        }
        let differs = page.chunks_exact(8).zip(scratch.chunks_exact(8)).position(|(a, b)| a != b);
        match differs {
            None => Ok(()),
            Some(word) => {
                let start = word * 8;
                let byte = (start..start + 8).find(|&at| page[at] != scratch[at]);
                Err(byte.unwrap_or(start))
            }
        }
    }
}

/// Chooses pages for one vCPU: numbers in `0..pages`.
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
#[path = "kernel_tests.rs"]
mod tests;

//! Pairs of pages for the benches of codecs: what a destination holds, and what it should hold.

use migbench::codec::{PAGE, Page};
use migbench::sys::memory::{NoMemory, PageMemory};

/// A small generator, so that every run encodes the same pages.
#[derive(Debug)]
pub struct Xorshift(pub u64);

impl Xorshift {
    /// The next 64 bits.
    pub fn next_bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number under `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_bits() % end as u64).unwrap_or(0)
    }

    fn page(&mut self) -> Page {
        let mut page = [0; PAGE];
        page.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = self.next_bits().to_le_bytes());
        page
    }
}

/// How a page is changed.
#[derive(Debug, Clone, Copy)]
pub enum Density {
    /// Every byte of so many scattered words.
    Words(usize),
    /// So many scattered bytes.
    Bytes(usize),
    /// Every third byte.
    Third,
}

/// From nothing to everything.
pub const DENSITIES: &[(&str, Density)] = &[
    ("nothing", Density::Words(0)),
    ("1 word", Density::Words(1)),
    ("32 words", Density::Words(32)),
    ("256 words", Density::Words(256)),
    ("32 bytes", Density::Bytes(32)),
    ("512 bytes", Density::Bytes(512)),
    ("every third byte", Density::Third),
    ("everything", Density::Words(512)),
];

impl Density {
    /// Changes a page.
    pub fn apply(self, page: &mut Page, random: &mut Xorshift) {
        let (unit, count) = match self {
            Self::Words(count) => (8, count),
            Self::Bytes(count) => (1, count),
            Self::Third => return page.iter_mut().step_by(3).for_each(|byte| *byte ^= 1),
        };
        let (mut changed, mut left) = (vec![false; PAGE / unit], count);
        while left > 0 {
            let at = random.below(changed.len());
            if !std::mem::replace(&mut changed[at], true) {
                page[unit * at..unit * (at + 1)].iter_mut().for_each(|byte| *byte ^= 1);
                left -= 1;
            }
        }
    }

    /// Bytes that no encoding goes under on average: the new bytes, which are random, and which of all places they are at.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers under 4097")]
    pub fn bound(self) -> f64 {
        let (places, count, bytes) = match self {
            Self::Words(count) => (512, count, 8 * count),
            Self::Bytes(count) => (PAGE, count, count),
            Self::Third => (PAGE, PAGE.div_ceil(3), PAGE.div_ceil(3)),
        };
        let ways: f64 = (1..=count).map(|i| ((places - count + i) as f64 / i as f64).log2()).sum();
        bytes as f64 + ways / 8.0
    }

    /// `count` pairs of pages of noise, changed like that.
    #[must_use]
    pub fn pairs(self, count: usize) -> Vec<(Page, Page)> {
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let old = random.page();
            let mut new = old;
            self.apply(&mut new, &mut random);
            pairs.push((old, new));
        }
        pairs
    }
}

/// One page of each pair, in memory that starts at a page of the host, as guests' does.
///
/// # Errors
/// When there is none.
pub fn aligned(pairs: &[(Page, Page)], of: impl Fn(&(Page, Page)) -> &Page) -> Result<PageMemory, NoMemory> {
    let mut memory = PageMemory::map(pairs.len() as u64, "a bench")?;
    memory.iter_mut().zip(pairs).for_each(|(page, pair)| *page = *of(pair));
    Ok(memory)
}

/// An order of `count` things: as they lie, or drawn.
#[must_use]
pub fn order(count: usize, drawn: bool) -> Vec<usize> {
    let (mut order, mut random) = ((0..count).collect::<Vec<_>>(), Xorshift(1));
    if drawn {
        (1..count).rev().for_each(|i| order.swap(i, random.below(i + 1)));
    }
    order
}

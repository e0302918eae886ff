//! Relabellings: all of them where they can be counted, and otherwise a seeded sample of them. What is relabelled as one is
//! a **unit**: the two sides of a block, which may be swapped, or all that one repetition of a directory measured, which may
//! belong to the other directory.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Up to that many assignments all are tried.
const EXACT: usize = 20_000;
/// Beyond, that many are drawn. With the one at hand they make ten thousand, so that a p-value near 0.01 is known to 0.001.
const DRAWS: usize = 9_999;

/// Which labels the units have, and so which they could have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// So many blocks, each with a base and a new side that could as well be the other way round.
    Swaps(usize),
    /// Units of base, then units of new; any of them could have been base.
    Groups {
        /// How many are base.
        base: usize,
        /// How many are new.
        new: usize,
    },
}

/// The values of one metric in one cell, by unit: log ratios of blocks, or logarithms of values. A unit that lacks the
/// metric is left out.
pub type Values = Vec<(usize, f64)>;

impl Labels {
    /// Whether a unit is of the new side; a block has both.
    pub(super) const fn is_new(self, unit: usize) -> bool {
        match self {
            Self::Swaps(_) => true,
            Self::Groups { base, .. } => unit >= base,
        }
    }

    /// As they were seen.
    pub(super) fn seen(self) -> Vec<f64> {
        match self {
            Self::Swaps(blocks) => vec![1.0; blocks],
            Self::Groups { base, new } => [vec![0.0; base], vec![1.0; new]].concat(),
        }
    }

    fn count(self) -> Option<usize> {
        match self {
            Self::Swaps(blocks) => 1_usize.checked_shl(u32::try_from(blocks).ok()?),
            Self::Groups { base, new } => choices(base + new, new),
        }
    }

    /// Calls `each` with every assignment, or with some that are drawn; whether it was every one. An assignment has 1 or -1 for
    /// each block, or 1 for units that are new and 0 for the others.
    pub(super) fn each(self, seed: u64, each: &mut impl FnMut(&[f64])) -> bool {
        let exact = self.count().is_some_and(|count| count <= EXACT);
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(seed);
        match self {
            Self::Swaps(blocks) => {
                let mut signs = vec![1.0; blocks];
                for number in 0..if exact { 1 << blocks } else { DRAWS } {
                    for some in signs.chunks_mut(64) {
                        let mut bits = if exact { number as u64 } else { generator.random() };
                        for sign in some {
                            *sign = if bits & 1 == 1 { -1.0 } else { 1.0 };
                            bits >>= 1;
                        }
                    }
                    each(&signs);
                }
            }
            Self::Groups { base, new } if exact => {
                choose(base + new, new, &mut |chosen| each(&assigned(base + new, chosen)));
            }
            Self::Groups { base, new } => {
                let mut pool: Vec<usize> = (0..base + new).collect();
                for _ in 0..DRAWS {
                    draw(&mut pool, new, &mut generator);
                    each(&assigned(base + new, &pool[..new]));
                }
            }
        }
        exact
    }

    /// These labels and cells without the units that no cell has a value of, so that fewer need be relabelled.
    pub(super) fn restricted(self, cells: &[Values]) -> (Self, Vec<Values>) {
        let places: BTreeMap<usize, usize> = cells.iter().flatten().map(|(unit, _)| (*unit, 0)).collect();
        let places: BTreeMap<usize, usize> = places.into_keys().zip(0..).collect();
        let labels = match self {
            Self::Swaps(_) => Self::Swaps(places.len()),
            Self::Groups { base, .. } => {
                let base = places.range(..base).count();
                Self::Groups { base, new: places.len() - base }
            }
        };
        let moved = |cell: &Values| cell.iter().map(|(unit, value)| (places[unit], *value)).collect();
        (labels, cells.iter().map(moved).collect())
    }
}

fn assigned(units: usize, chosen: &[usize]) -> Vec<f64> {
    let mut assigned = vec![0.0; units];
    chosen.iter().for_each(|unit| assigned[*unit] = 1.0);
    assigned
}
/// Moves a random choice of `taken` values to the front (Fisher and Yates).
fn draw<T>(pool: &mut [T], taken: usize, generator: &mut Xoshiro256PlusPlus) {
    for place in 0..taken {
        let other = generator.random_range(place..pool.len());
        pool.swap(place, other);
    }
}

/// How many choices of `taken` out of `all` there are, if the number is small enough to count to.
fn choices(all: usize, taken: usize) -> Option<usize> {
    (0..taken.min(all - taken))
        .try_fold(1_usize, |count, step| Some(count.checked_mul(all - step)? / (step + 1)))
}

/// Calls `each` with every choice of `taken` places out of `all`.
fn choose(all: usize, taken: usize, each: &mut impl FnMut(&[usize])) {
    fn further(
        all: usize,
        taken: usize,
        from: usize,
        chosen: &mut Vec<usize>,
        each: &mut impl FnMut(&[usize]),
    ) {
        if chosen.len() == taken {
            return each(chosen);
        }
        for place in from..=all - (taken - chosen.len()) {
            chosen.push(place);
            further(all, taken, place + 1, chosen, each);
            chosen.pop();
        }
    }
    further(all, taken, 0, &mut Vec::new(), each);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_choices() {
        assert_eq!([choices(12, 6), choices(5, 0), choices(4, 3)], [Some(924), Some(1), Some(4)]);
        assert_eq!(choices(200, 100), None);
        let mut all = Vec::new();
        choose(4, 2, &mut |chosen| all.push([chosen[0], chosen[1]]));
        assert_eq!(all, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]);
    }
}

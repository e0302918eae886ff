//! Many cells of one metric as one test: labels are permuted within a cell, or within a block where base and new ran side
//! by side, and the statistic is the mean over cells of the log ratio. A cell counts once, however many runs it has.
//!
//! The test asks whether the ratio could be some value, not only 1. Take that value out of the new side; then a
//! permutation is at least as extreme as what was seen exactly if the value lies on one side of a threshold, which is a
//! property of the permutation (for pairs, the mean of those whose sides it swaps: Hartigan 1969). So one set of
//! permutations gives the p-values of all values, and the interval is made of its thresholds: the two cannot disagree.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::permutation::{DRAWS, EXACT, choices, draw};
use super::real;

/// What is nearer than this counts as equal: sums differ by the order of adding.
const ROUNDING: f64 = 1e-12;

/// The samples of one cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Stratum {
    /// Runs of base and of new that belong together, such as those of one block: (base, new).
    Pairs(Vec<(f64, f64)>),
    /// Runs that do not.
    Samples {
        /// Of the base.
        base: Vec<f64>,
        /// Of what is new.
        new: Vec<f64>,
    },
}

/// The logarithms of a cell: differences of pairs, or both sides in one list with the length of the base.
#[derive(Debug, Clone, PartialEq)]
enum Logs {
    Pairs(Vec<f64>),
    Samples(Vec<f64>, usize),
}

impl Stratum {
    /// `None` where a value is not positive, or there is none on a side.
    fn logs(&self) -> Option<Logs> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        match self {
            Self::Pairs(pairs) => {
                let fine = !pairs.is_empty() && pairs.iter().all(|&(a, b)| positive(a) && positive(b));
                fine.then(|| Logs::Pairs(pairs.iter().map(|(base, new)| new.ln() - base.ln()).collect()))
            }
            Self::Samples { base, new } => {
                let fine =
                    !base.is_empty() && !new.is_empty() && base.iter().chain(new).all(|v| positive(*v));
                fine.then(|| Logs::Samples(base.iter().chain(new).map(|v| v.ln()).collect(), base.len()))
            }
        }
    }
}

/// How a permutation changes the statistic of one cell: to `sum`, where it was the mean log ratio, less `share` of whatever
/// is taken out of the new side, where it was the whole of it.
#[derive(Debug, Clone, Copy)]
struct Effect {
    sum: f64,
    share: f64,
}

impl Logs {
    fn seen(&self) -> f64 {
        match self {
            Self::Pairs(differences) => mean(differences),
            Self::Samples(all, base) => mean(&all[*base..]) - mean(&all[..*base]),
        }
    }

    /// The squared standard error of [`Logs::seen`]; `None` for single samples.
    fn squared_error(&self) -> Option<f64> {
        match self {
            Self::Pairs(differences) => {
                Some(squares(differences) / freedom(differences)? / real(differences.len()))
            }
            Self::Samples(all, base) => {
                let (base, new) = all.split_at(*base);
                let freedom = real(all.len()) - 2.0;
                let pooled = (squares(base) + squares(new)) / (freedom > 0.0).then_some(freedom)?;
                Some(pooled * (1.0 / real(base.len()) + 1.0 / real(new.len())))
            }
        }
    }

    fn assignments(&self) -> Option<usize> {
        match self {
            Self::Pairs(differences) => 1_usize.checked_shl(u32::try_from(differences.len()).ok()?),
            Self::Samples(all, base) => choices(all.len(), all.len() - base),
        }
    }

    fn effect_of_signs(differences: &[f64], swapped: impl FnMut(usize) -> bool) -> Effect {
        let mut swapped = swapped;
        let (mut sum, mut share) = (0.0, 0.0);
        for (index, difference) in differences.iter().enumerate() {
            let sign = if swapped(index) { -1.0 } else { 1.0 };
            sum += sign * difference;
            share += sign;
        }
        let n = real(differences.len());
        Effect { sum: sum / n, share: share / n }
    }

    /// `chosen` are the places that are called new.
    fn effect_of_choice(all: &[f64], base: usize, chosen: &[usize]) -> Effect {
        let (n, m) = (real(base), real(all.len() - base));
        let sum: f64 = chosen.iter().map(|place| all[*place]).sum();
        let kept = real(chosen.iter().filter(|place| **place >= base).count());
        let rest = all.iter().sum::<f64>() - sum;
        Effect { sum: sum / m - rest / n, share: kept / m - (m - kept) / n }
    }

    fn all_effects(&self) -> Vec<Effect> {
        match self {
            Self::Pairs(differences) => (0..1_u64 << differences.len())
                .map(|signs| Self::effect_of_signs(differences, |index| signs >> index & 1 == 1))
                .collect(),
            Self::Samples(all, base) => {
                let mut effects = Vec::new();
                choose(all.len(), all.len() - base, 0, &mut Vec::new(), &mut |chosen| {
                    effects.push(Self::effect_of_choice(all, *base, chosen));
                });
                effects
            }
        }
    }
}

/// The test, made.
#[derive(Debug, Clone, PartialEq)]
pub struct Stratified {
    /// The mean over cells of the log ratio, new over base.
    pub estimate: f64,
    /// Its standard error, from the scatter within cells; absent where a cell has a single sample.
    pub error: Option<f64>,
    /// The log ratio of each cell.
    pub cells: Vec<f64>,
    /// Whether all permutations were tried.
    pub exact: bool,
    /// In ascending order.
    thresholds: Vec<f64>,
    /// Permutations that change nothing: as extreme as what was seen, whatever is asked.
    idle: usize,
}

impl Stratified {
    /// Of these cells. `None` without any, and where a value is not positive or a side is empty.
    #[must_use]
    pub fn of(cells: &[Stratum], seed: u64) -> Option<Self> {
        let cells: Vec<Logs> = cells.iter().map(Stratum::logs).collect::<Option<_>>()?;
        if cells.is_empty() {
            return None;
        }
        let seen: Vec<f64> = cells.iter().map(Logs::seen).collect();
        let count = real(cells.len());
        let error = cells.iter().map(Logs::squared_error).sum::<Option<f64>>().map(|sum| sum.sqrt() / count);
        let assignments = cells.iter().try_fold(1_usize, |all, cell| all.checked_mul(cell.assignments()?));
        let exact = assignments.is_some_and(|all| all <= EXACT);
        let mut test =
            Self { estimate: mean(&seen), error, cells: seen, exact, thresholds: Vec::new(), idle: 0 };
        if exact {
            test.try_all(&cells);
        } else {
            test.draw(&cells, seed);
        }
        test.thresholds.sort_by(f64::total_cmp);
        Some(test)
    }

    fn try_all(&mut self, cells: &[Logs]) {
        let mut totals = vec![Effect { sum: 0.0, share: 0.0 }];
        for cell in cells {
            let effects = cell.all_effects();
            let with = |total: &Effect| {
                let total = *total;
                let add = move |effect: &Effect| Effect {
                    sum: total.sum + effect.sum,
                    share: total.share + effect.share,
                };
                effects.iter().map(add).collect::<Vec<_>>()
            };
            totals = totals.iter().flat_map(with).collect();
        }
        totals.into_iter().for_each(|total| self.add(total));
    }

    fn draw(&mut self, cells: &[Logs], seed: u64) {
        // What was seen is one of the permutations, and the only one that is not drawn.
        self.idle = 1;
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(seed);
        let places = |cell: &Logs| match cell {
            Logs::Pairs(_) => Vec::new(),
            Logs::Samples(all, _) => (0..all.len()).collect(),
        };
        let mut pools: Vec<Vec<usize>> = cells.iter().map(places).collect();
        for _ in 0..DRAWS {
            let mut total = Effect { sum: 0.0, share: 0.0 };
            for (cell, pool) in cells.iter().zip(&mut pools) {
                let effect = match cell {
                    Logs::Pairs(differences) => {
                        let mut signs = 0_u64;
                        Logs::effect_of_signs(differences, |index| {
                            if index % 64 == 0 {
                                signs = generator.random();
                            }
                            signs >> (index % 64) & 1 == 1
                        })
                    }
                    Logs::Samples(all, base) => {
                        let taken = all.len() - base;
                        draw(pool, taken, &mut generator);
                        Logs::effect_of_choice(all, *base, &pool[..taken])
                    }
                };
                total.sum += effect.sum;
                total.share += effect.share;
            }
            self.add(total);
        }
    }

    fn add(&mut self, total: Effect) {
        let count = real(self.cells.len());
        let kept = count - total.share;
        if kept <= ROUNDING * count {
            self.idle += 1;
        } else {
            self.thresholds.push((self.estimate * count - total.sum) / kept);
        }
    }

    fn share(&self, extreme: usize) -> f64 {
        real(self.idle + extreme) / real(self.idle + self.thresholds.len())
    }

    /// How likely an estimate as large is, if the log ratio is `log` or less.
    #[must_use]
    pub fn p_greater(&self, log: f64) -> f64 {
        self.share(self.thresholds.partition_point(|threshold| *threshold <= log + ROUNDING))
    }

    /// How likely an estimate as small is, if the log ratio is `log` or more.
    #[must_use]
    pub fn p_less(&self, log: f64) -> f64 {
        self.share(
            self.thresholds.len() - self.thresholds.partition_point(|threshold| *threshold < log - ROUNDING),
        )
    }

    /// The smallest log ratio that [`Stratified::p_greater`] does not exclude at `alpha`; `None` where it can exclude none.
    #[must_use]
    pub fn lower(&self, alpha: f64) -> Option<f64> {
        let excluding =
            (0..=self.thresholds.len()).take_while(|extreme| self.share(*extreme) <= alpha).last()?;
        self.thresholds.get(excluding).copied()
    }

    /// The largest log ratio that [`Stratified::p_less`] does not exclude at `alpha`; `None` where it can exclude none.
    #[must_use]
    pub fn upper(&self, alpha: f64) -> Option<f64> {
        let excluding =
            (0..=self.thresholds.len()).take_while(|extreme| self.share(*extreme) <= alpha).last()?;
        self.thresholds.len().checked_sub(excluding + 1).map(|index| self.thresholds[index])
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / real(values.len())
}

fn squares(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

fn freedom(values: &[f64]) -> Option<f64> {
    (values.len() > 1).then(|| real(values.len() - 1))
}

/// Calls `each` with every choice of `taken` places out of `all`.
fn choose(all: usize, taken: usize, from: usize, chosen: &mut Vec<usize>, each: &mut impl FnMut(&[usize])) {
    if chosen.len() == taken {
        return each(chosen);
    }
    for place in from..=all - (taken - chosen.len()) {
        chosen.push(place);
        choose(all, taken, place + 1, chosen, each);
        chosen.pop();
    }
}

#[cfg(test)]
#[path = "stratified_tests.rs"]
mod tests;

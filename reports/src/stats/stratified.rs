//! Many cells of one metric as one estimate with bounds: the mean over cells of the log ratio (or of whatever the values are
//! logarithms or differences of). A cell counts once, however many runs it has.
//!
//! The bounds come from a permutation test that asks whether the mean could be some value. Take that value out of the new
//! side; then a permutation is at least as extreme as what was seen exactly if the value lies on one side of a threshold,
//! which is a property of the permutation (for pairs, the mean of those whose sides it swaps: Hartigan 1969). So one set of
//! permutations gives the p-values of all values, and the bounds are thresholds: the two cannot disagree. For a single cell
//! the test is that of [`super::joint`] before its adjustment for others.

use super::permutation::{Labels, Values};
use super::real;

/// What is nearer than this counts as equal: sums differ by the order of adding.
const ROUNDING: f64 = 1e-12;

/// How labels change the statistic of one cell: to `sum`, where it was the mean of the cell, less `share` of whatever is
/// taken out of the new side, where it was the whole of it.
#[derive(Debug, Clone, Copy)]
struct Effect {
    sum: f64,
    share: f64,
}

impl Effect {
    /// Nothing, where all values of the cell would be on one side.
    fn of(values: &Values, labels: Labels, assigned: &[f64]) -> Self {
        let (mut sum, mut share, mut new) = (0.0, 0.0, 0.0);
        for (unit, value) in values {
            let label = assigned[*unit];
            sum += label * value;
            new += label;
            if labels.is_new(*unit) {
                share += label;
            }
        }
        let n = real(values.len());
        match labels {
            Labels::Swaps(_) => Self { sum: sum / n, share: new / n },
            Labels::Groups { .. } if new == 0.0 || new == n => Self { sum: 0.0, share: 0.0 },
            Labels::Groups { .. } => {
                let (all, base) = (values.iter().map(|(_, value)| value).sum::<f64>(), n - new);
                let is_new = real(values.iter().filter(|(unit, _)| labels.is_new(*unit)).count());
                Self { sum: sum / new - (all - sum) / base, share: share / new - (is_new - share) / base }
            }
        }
    }
}

/// The squared standard error of the mean of a cell; `None` for single samples.
fn squared_error(values: &Values, labels: Labels) -> Option<f64> {
    let side = |new: bool| -> Vec<f64> {
        values.iter().filter(|(unit, _)| labels.is_new(*unit) == new).map(|(_, value)| *value).collect()
    };
    let squares = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / real(values.len());
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
    };
    let (base, new) = (side(false), side(true));
    let (constraints, per_value) = match labels {
        Labels::Swaps(_) => (1, 1.0 / real(new.len())),
        Labels::Groups { .. } => (2, 1.0 / real(base.len()) + 1.0 / real(new.len())),
    };
    let freedom = values.len().checked_sub(constraints).filter(|freedom| *freedom > 0)?;
    Some((squares(&base) + squares(&new)) / real(freedom) * per_value)
}

/// The test, made.
#[derive(Debug, Clone, PartialEq)]
pub struct Stratified {
    /// The mean over cells, new less base.
    pub estimate: f64,
    /// Its standard error, from the scatter within cells; absent where a cell has a single sample.
    pub error: Option<f64>,
    /// The mean of each cell.
    pub cells: Vec<f64>,
    /// Whether all permutations were tried.
    pub exact: bool,
    /// In ascending order.
    thresholds: Vec<f64>,
    /// Permutations that change nothing: as extreme as what was seen, whatever is asked.
    idle: usize,
}

impl Stratified {
    /// Of these cells. `None` without any, and where one has no value of a side.
    #[must_use]
    pub fn of(labels: Labels, cells: &[Values], seed: u64) -> Option<Self> {
        let (labels, cells) = labels.restricted(cells);
        let both = |cell: &Values| {
            let new = cell.iter().filter(|(unit, _)| labels.is_new(*unit)).count();
            new > 0 && (matches!(labels, Labels::Swaps(_)) || new < cell.len())
        };
        if cells.is_empty() || !cells.iter().all(both) {
            return None;
        }
        let seen = labels.seen();
        let means: Vec<f64> = cells.iter().map(|cell| Effect::of(cell, labels, &seen).sum).collect();
        let count = real(cells.len());
        let error = cells.iter().map(|cell| squared_error(cell, labels)).sum::<Option<f64>>();
        let estimate = means.iter().sum::<f64>() / count;
        let (mut thresholds, mut idle) = (Vec::new(), 0);
        let exact = labels.each(seed, &mut |assigned| {
            let (mut sum, mut share) = (0.0, 0.0);
            for cell in &cells {
                let effect = Effect::of(cell, labels, assigned);
                sum += effect.sum;
                share += effect.share;
            }
            let kept = count - share;
            if kept <= ROUNDING * count {
                idle += 1;
            } else {
                thresholds.push((estimate * count - sum) / kept);
            }
        });
        // What was seen is one of the permutations, and comes on top of those that were drawn.
        idle += usize::from(!exact);
        thresholds.sort_by(f64::total_cmp);
        let error = error.map(|sum| sum.sqrt() / count);
        Some(Self { estimate, error, cells: means, exact, thresholds, idle })
    }

    fn share(&self, extreme: usize) -> f64 {
        real(self.idle + extreme) / real(self.idle + self.thresholds.len())
    }

    /// How likely an estimate as large is, if the mean is `value` or less.
    #[must_use]
    pub fn p_greater(&self, value: f64) -> f64 {
        self.share(self.thresholds.partition_point(|threshold| *threshold <= value + ROUNDING))
    }

    /// How likely an estimate as small is, if the mean is `value` or more.
    #[must_use]
    pub fn p_less(&self, value: f64) -> f64 {
        self.share(
            self.thresholds.len()
                - self.thresholds.partition_point(|threshold| *threshold < value - ROUNDING),
        )
    }

    /// The smallest mean that [`Stratified::p_greater`] does not exclude at `alpha`; `None` where it can exclude none.
    #[must_use]
    pub fn lower(&self, alpha: f64) -> Option<f64> {
        let excluding =
            (0..=self.thresholds.len()).take_while(|extreme| self.share(*extreme) <= alpha).last()?;
        self.thresholds.get(excluding).copied()
    }

    /// The largest mean that [`Stratified::p_less`] does not exclude at `alpha`; `None` where it can exclude none.
    #[must_use]
    pub fn upper(&self, alpha: f64) -> Option<f64> {
        let excluding =
            (0..=self.thresholds.len()).take_while(|extreme| self.share(*extreme) <= alpha).last()?;
        self.thresholds.len().checked_sub(excluding + 1).map(|index| self.thresholds[index])
    }
}

#[cfg(test)]
#[path = "stratified_tests.rs"]
mod tests;

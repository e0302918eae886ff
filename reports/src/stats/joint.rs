//! Many hypotheses as one permutation test, adjusted for each other by what the data say of their dependence (Westfall and
//! Young 1993, step-down, algorithm 4.1). Labels are permuted for all hypotheses together, so that metrics of one run stay
//! together: six runs a side can pass among dozens of metrics, where a correction that knows of no dependence can't.
//!
//! Under the null hypothesis units are exchangeable; nothing else is assumed for the p-values. The statistic is the mean log
//! ratio over its standard error, brought to the scale of the normal distribution by its degrees of freedom (Wallace 1959),
//! since a statistic of five degrees and one of twenty can't share a maximum otherwise. Values in steps, such as a few rounds,
//! have the variance of their rounding besides (Sheppard 1897): some labelling gives all of them one sign and no scatter at all,
//! and with an error of zero it would exceed whatever another metric shows. Any such statistic is valid; this one is fair.

use super::permutation::{Labels, Values};
use super::real;

/// What is nearer than this, as a share, counts as equal: sums differ by the order of adding.
const ROUNDING: f64 = 1e-9;

/// What a hypothesis says of the estimate, were it true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// It is zero; either direction speaks against it.
    Equal,
    /// It is zero or less.
    NotGreater,
}

/// Hypotheses that are tested together.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Of the units.
    pub labels: Labels,
    /// What was measured.
    pub values: Vec<Values>,
    /// Each is about the mean over some of the values, by index.
    pub hypotheses: Vec<Vec<usize>>,
    /// What each says.
    pub against: Against,
}

/// What the test says of one hypothesis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// How likely a statistic as far is by chance, looked at by itself.
    pub p: f64,
    /// The same, adjusted for all that were tested with it: at most `alpha` for one true hypothesis or more with
    /// probability `alpha` at most.
    pub adjusted: f64,
    /// The smallest `p` that these values could have had under any labels. Above the level, the hypothesis can't be tested.
    pub smallest: f64,
}

/// One metric of one cell, centred where labels are groups.
struct Prepared {
    values: Values,
    squares: f64,
    /// The variance of a value that was rounded to the steps in which these come.
    rounding: f64,
}

/// Mean log ratio, its squared standard error and degrees of freedom.
struct MeanEstimate {
    mean: f64,
    squared_error: f64,
    freedom: f64,
}

impl Prepared {
    fn of(values: &Values, labels: Labels) -> Self {
        let mean = match labels {
            Labels::Swaps(_) => 0.0,
            Labels::Groups { .. } => {
                values.iter().map(|(_, value)| value).sum::<f64>() / real(values.len().max(1))
            }
        };
        let values: Values = values.iter().map(|(unit, value)| (*unit, value - mean)).collect();
        let squares = values.iter().map(|(_, value)| value * value).sum();
        let step = match labels {
            // A swap turns signs, and nothing may depend on those that were seen.
            Labels::Swaps(_) => step(values.iter().map(|(_, value)| value.abs()).chain([0.0])),
            Labels::Groups { .. } => step(values.iter().map(|(_, value)| *value)),
        };
        Self { values, squares, rounding: step * step / 12.0 }
    }

    /// `assigned` has 1 or -1 for each block, or 1 for units that are new and 0 for the others.
    fn estimate(&self, labels: Labels, assigned: &[f64]) -> Option<MeanEstimate> {
        let n = real(self.values.len());
        let sum: f64 = self.values.iter().map(|(unit, value)| assigned[*unit] * value).sum();
        let (mean, freedom, size) = match labels {
            Labels::Swaps(_) => (sum / n, n - 1.0, n),
            Labels::Groups { .. } => {
                let new: f64 = self.values.iter().map(|(unit, _)| assigned[*unit]).sum();
                let size = new * (n - new) / n;
                // Values are centred: the mean of one side gives that of the other.
                (sum / size, n - 2.0, size)
            }
        };
        if !(freedom > 0.0 && size > 0.0) {
            return None;
        }
        let within = (self.squares - size * mean * mean).max(0.0);
        Some(MeanEstimate { mean, squared_error: (within / freedom + self.rounding) / size, freedom })
    }
}

/// The least difference between values that differ; zero where none do.
fn step(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let range = sorted.last().zip(sorted.first()).map_or(0.0, |(last, first)| last - first);
    let steps = sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > ROUNDING * range);
    steps.reduce(f64::min).unwrap_or(0.0)
}

/// The mean over its error as a normal deviate that is as far out.
fn deviate<'a>(estimates: impl Iterator<Item = &'a Option<MeanEstimate>>) -> f64 {
    let (mut sum, mut squares, mut freedom) = (0.0, 0.0, 0.0);
    for estimate in estimates.flatten() {
        sum += estimate.mean;
        squares += estimate.squared_error;
        freedom += estimate.freedom;
    }
    // All values are zero.
    if squares <= 0.0 {
        return 0.0;
    }
    let t = sum / squares.sqrt();
    let scale = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0);
    (scale * (freedom * (t * t / freedom).ln_1p()).sqrt()).copysign(t)
}

impl Family {
    /// What the labels say of each hypothesis, in their order. Hypotheses that can't be tested at `alpha` are none among
    /// those that are adjusted for; which those are does not depend on the labels that were seen.
    ///
    /// # Panics
    /// Where a value is of a unit, or a hypothesis of values, that there are none of.
    #[must_use]
    pub fn test(&self, alpha: f64, seed: u64) -> Vec<Evidence> {
        let prepared: Vec<_> = self.values.iter().map(|values| Prepared::of(values, self.labels)).collect();
        let statistics = |assigned: &[f64]| -> Vec<f64> {
            let estimates: Vec<_> =
                prepared.iter().map(|values| values.estimate(self.labels, assigned)).collect();
            let of = |members: &Vec<usize>| {
                let far = deviate(members.iter().map(|cell| &estimates[*cell]));
                if self.against == Against::Equal { far.abs() } else { far }
            };
            self.hypotheses.iter().map(of).collect()
        };
        let seen = statistics(&self.labels.seen());
        let mut all = Vec::new();
        let exact = self.labels.each(seed, &mut |assigned| all.push(statistics(assigned)));
        if !exact {
            // What was seen is one of the assignments, and comes on top of those that were drawn.
            all.push(seen.clone());
        }
        let share = |count: usize| real(count) / real(all.len());
        let reach = |index: usize, bound: f64| {
            share(all.iter().filter(|statistics| as_far(statistics[index], bound)).count())
        };
        let mut evidence: Vec<Evidence> = (0..seen.len())
            .map(|index| {
                let most = all.iter().map(|statistics| statistics[index]).fold(f64::NEG_INFINITY, f64::max);
                Evidence { p: reach(index, seen[index]), adjusted: 1.0, smallest: reach(index, most) }
            })
            .collect();

        let mut order: Vec<usize> = (0..seen.len()).filter(|i| evidence[*i].smallest <= alpha).collect();
        order.sort_by(|a, b| seen[*a].total_cmp(&seen[*b]));
        // From the least to the most significant: the largest statistic of all that are no more significant.
        let mut exceeding = vec![0; order.len()];
        for statistics in &all {
            let mut largest = f64::NEG_INFINITY;
            for (place, index) in order.iter().enumerate() {
                largest = largest.max(statistics[*index]);
                exceeding[place] += usize::from(as_far(largest, seen[*index]));
            }
        }
        let mut adjusted: f64 = 0.0;
        for (place, index) in order.iter().enumerate().rev() {
            adjusted = adjusted.max(share(exceeding[place]));
            evidence[*index].adjusted = adjusted;
        }
        evidence
    }
}

fn as_far(statistic: f64, bound: f64) -> bool {
    statistic >= bound - ROUNDING * bound.abs()
}

#[cfg(test)]
#[path = "joint_tests.rs"]
mod tests;

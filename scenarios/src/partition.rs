//! A plan cut into slices, one for each of many machines. A slice has whole comparisons, since what is compared must have
//! met the same host; which ones depends on the plan and the number of slices alone, so that every machine finds its own
//! without asking the others.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Comparison, Plan, PlannedRun};

/// One of so many slices of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Slice {
    /// Which one, from 1.
    pub number: u32,
    /// Of so many.
    pub of: u32,
}

/// Why something is no slice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// Not the words.
    #[error("`{0}` is no partition; write it as slice:NUMBER/COUNT, for example slice:2/8")]
    Form(String),
    /// A number that does not exist.
    #[error("there is no slice {number} of {of}; slices count from 1")]
    Range {
        /// As asked for.
        number: u32,
        /// Of so many.
        of: u32,
    },
}

impl Slice {
    /// All of a plan.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Slice `number`, from 1, of `of`.
    ///
    /// # Errors
    /// [`SliceError::Range`].
    pub const fn new(number: u32, of: u32) -> Result<Self, SliceError> {
        if number == 0 || number > of {
            return Err(SliceError::Range { number, of });
        }
        Ok(Self { number, of })
    }

    /// All slices of so many.
    pub fn all(of: u32) -> impl Iterator<Item = Self> {
        (1..=of).map(move |number| Self { number, of })
    }
}

impl FromStr for Slice {
    type Err = SliceError;

    fn from_str(text: &str) -> Result<Self, SliceError> {
        let parts = text.strip_prefix("slice:").and_then(|rest| rest.split_once('/'));
        let numbers = parts.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let (number, of) = numbers.ok_or_else(|| SliceError::Form(text.to_owned()))?;
        Self::new(number, of)
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Plan {
    /// For each comparison, by its index, the number of its slice when there are `of`. Longest first, each into the slice
    /// that has the least to do so far; slices stay empty where there are more of them than comparisons.
    #[must_use]
    pub fn partition(&self, of: u32) -> Vec<u32> {
        let mut times = vec![0.0; self.comparisons.len()];
        for run in &self.order {
            if let Some(time) = times.get_mut(run.comparison) {
                *time += self.time(run).0;
            }
        }
        let mut longest: Vec<usize> = (0..times.len()).collect();
        longest.sort_by(|&a, &b| times[b].total_cmp(&times[a]).then(a.cmp(&b)));
        // Only slices that exist can be filled, and more than there are comparisons never are.
        let of = usize::try_from(of).unwrap_or(usize::MAX).min(times.len()).max(1);
        let mut loads = vec![0.0_f64; of];
        let mut slices = vec![1; times.len()];
        for comparison in longest {
            // The first of the least, so that all machines agree.
            let least = (0..of).min_by(|&a, &b| loads[a].total_cmp(&loads[b])).unwrap_or_default();
            loads[least] += times[comparison];
            slices[comparison] = u32::try_from(least + 1).unwrap_or(u32::MAX);
        }
        slices
    }

    /// The runs of a slice in their order, each with its number in the whole plan.
    #[must_use]
    pub fn runs_of(&self, slice: Slice) -> Vec<(usize, &PlannedRun)> {
        let slices = self.partition(slice.of);
        let runs = self.order.iter().enumerate();
        runs.filter(|(_, run)| slices.get(run.comparison) == Some(&slice.number)).collect()
    }

    /// The comparisons of a slice, in the order of the plan.
    #[must_use]
    pub fn comparisons_of(&self, slice: Slice) -> Vec<&Comparison> {
        let slices = self.partition(slice.of);
        let numbered = self.comparisons.iter().zip(slices);
        numbered.filter(|(_, number)| *number == slice.number).map(|(comparison, _)| comparison).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_reads_as_it_is_written() {
        assert_eq!("slice:2/8".parse(), Slice::new(2, 8));
        assert_eq!(Slice { number: 2, of: 8 }.to_string(), "2/8");
        for text in ["2/8", "slice:2", "slice:a/8", "slice:-1/8", "slice:2/8/9", ""] {
            assert_eq!(text.parse::<Slice>(), Err(SliceError::Form(text.to_owned())), "{text}");
        }
        for text in ["slice:0/8", "slice:9/8", "slice:0/0"] {
            assert!(matches!(text.parse::<Slice>(), Err(SliceError::Range { .. })), "{text}");
        }
    }
}

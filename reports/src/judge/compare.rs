//! Two sides, cell by cell and metric by metric: the ratio of each with its own interval, and one joint test of all that
//! are shown, adjusted for each other. For people who look around; what decides is the gate.

use super::measurement::Measurement;
use super::samples::{Samples, Units};
use crate::measure::Measure;
use crate::metric::{Better, MetricKey, Unit};
use crate::stats::{
    ALPHA, Against, Evidence, Family, Labels, Significance, Spread, Stratified, Values, median,
};

/// Seed of the permutations.
const SEED: u64 = 1;

/// One metric of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricChange {
    /// What is compared.
    pub measure: Measure,
    /// Medians of base and new.
    pub medians: (f64, f64),
    /// Samples of each.
    pub samples: (usize, usize),
    /// New over base; absent where values are not positive.
    pub ratio: Option<RatioOfMeans>,
}

/// A change by less reads as none in three decimals.
const LEAST: f64 = 0.0005;
/// What such a change is called.
pub const NEGLIGIBLE: &str = "under 0.1 %";

/// The ratio of geometric means, which is the exponentiated mean log ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatioOfMeans {
    /// New over base.
    pub value: f64,
    /// By itself, not adjusted for others: the interval of 95 %, or where so few samples have none the range of ratios.
    pub spread: Spread,
    /// Adjusted for all others that are shown.
    pub significance: Significance,
}

impl RatioOfMeans {
    /// With the interval that misses the true ratio with probability `alpha` at most. The joint test has yet to say whether it is
    /// significant.
    pub(super) fn of(samples: &Samples, labels: Labels, alpha: f64) -> Option<Self> {
        let test = Stratified::of(labels, &[samples.logs()?], SEED)?;
        let (low, high) = samples.range()?;
        let spread = match test.lower(alpha / 2.0).zip(test.upper(alpha / 2.0)) {
            Some((low, high)) => {
                Spread::Interval { low: low.exp(), high: high.exp(), confidence: 1.0 - alpha }
            }
            None => Spread::Range { low, high },
        };
        Some(Self { value: test.estimate.exp(), spread, significance: Significance::TooFew })
    }
}

impl MetricChange {
    /// What the joint test says, in a word. That nothing could have been found and that nothing was are not the same.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let better = match self.measure {
            Measure::Metric(key) | Measure::Sum(_, key, _) => key.definition().better,
            _ => Better::Smaller,
        };
        match (self.ratio.map(|ratio| ratio.significance), better) {
            (None, _) => "no ratio",
            (Some(Significance::TooFew), _) => "untestable",
            (Some(Significance::NotSignificant), _) => "none found",
            // Bytes that hardly vary tell themselves from chance by next to nothing.
            _ if self.ratio.is_some_and(|ratio| (ratio.value - 1.0).abs() < LEAST) => NEGLIGIBLE,
            (Some(Significance::Larger), Better::Neither) => "larger",
            (Some(Significance::Smaller), Better::Neither) => "smaller",
            (Some(Significance::Larger), Better::Smaller) | (Some(Significance::Smaller), Better::Larger) => {
                "worse"
            }
            (Some(Significance::Smaller), Better::Smaller) | (Some(Significance::Larger), Better::Larger) => {
                "better"
            }
        }
    }

    /// The unit of the medians.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.measure.unit()
    }
}

/// A cell that both sides have.
#[derive(Debug, Clone, PartialEq)]
pub struct CellChanges {
    /// Its id.
    pub id: String,
    /// Its metrics; none where a run was capped, since those that were not are no fair sample.
    pub metrics: Vec<MetricChange>,
    /// Capped runs of each.
    pub capped: (usize, usize),
}

/// All of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// In the order of the first plan.
    pub cells: Vec<CellChanges>,
}

impl Changes {
    /// Of two sides. `metrics` names what is compared; the columns of each table where it is empty.
    #[must_use]
    pub fn of(measurement: &Measurement<'_>, metrics: &[MetricKey]) -> Self {
        let units = Units::of(&measurement.cells);
        let mut values: Vec<Values> = Vec::new();
        let mut cells: Vec<CellChanges> = Vec::new();
        for (index, cell) in measurement.cells.iter().enumerate() {
            let measures: Vec<Measure> = match metrics {
                [] => cell.columns.clone(),
                keys => keys.iter().map(|key| Measure::Metric(*key)).collect(),
            };
            let mut changes = Vec::new();
            for measure in measures.into_iter().filter(|_| cell.capped == (0, 0)) {
                let samples = Samples::of(&units, index, cell, |run| measure.sample(run));
                let (base, new) = samples.sides();
                let Some(medians) = median(&base).zip(median(&new)) else { continue };
                let ratio = RatioOfMeans::of(&samples, units.labels, ALPHA);
                values.extend(ratio.and_then(|_| samples.logs()));
                changes.push(MetricChange { measure, medians, samples: samples.count(), ratio });
            }
            cells.push(CellChanges { id: cell.id.clone(), metrics: changes, capped: cell.capped });
        }
        let family = Family {
            labels: units.labels,
            hypotheses: (0..values.len()).map(|index| vec![index]).collect(),
            values,
            against: Against::Equal,
        };
        let ratios =
            cells.iter_mut().flat_map(|cell| &mut cell.metrics).filter_map(|change| change.ratio.as_mut());
        for (ratio, evidence) in ratios.zip(family.test(ALPHA, SEED)) {
            ratio.significance = significance(ratio, evidence);
        }
        Self { cells }
    }

    /// How many ratios were tested together.
    #[must_use]
    pub fn tests(&self) -> usize {
        let ratios = self.cells.iter().flat_map(|cell| &cell.metrics).filter_map(|change| change.ratio);
        ratios.filter(|ratio| ratio.significance != Significance::TooFew).count()
    }
}

/// Never what the interval beside it contradicts, which may happen by a hair with two sides of different size.
fn significance(ratio: &RatioOfMeans, evidence: Evidence) -> Significance {
    match ratio.spread {
        Spread::Range { .. } => Significance::TooFew,
        Spread::Interval { low, .. } if evidence.adjusted <= ALPHA && low > 1.0 => Significance::Larger,
        Spread::Interval { high, .. } if evidence.adjusted <= ALPHA && high < 1.0 => Significance::Smaller,
        _ => Significance::NotSignificant,
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;

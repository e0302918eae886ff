//! Two run directories, cell by cell and metric by metric: each a rank test of its own, Holm-adjusted over all that are
//! shown. For people who look around; what decides is the gate.

use super::measurement::{Measurement, Runs};
use crate::measure::Measure;
use crate::metric::{Better, MetricKey, Unit};
use crate::stats::{ALPHA, Mark, RatioTest, Spread, holm, independent, median, paired};

/// One metric of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What is compared.
    pub measure: Measure,
    /// Medians of the first and the second directory.
    pub medians: (f64, f64),
    /// Samples of each.
    pub samples: (usize, usize),
    /// The ratio and its test; absent where values are not positive.
    pub test: Option<RatioTest>,
    /// The level at which its own test says what the adjusted one says.
    pub level: f64,
}

impl Line {
    /// What the Holm-adjusted test says.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.test.as_ref().map(|test| test.mark(self.level))
    }

    /// The interval that agrees with the mark: of 95 % at least.
    #[must_use]
    pub fn spread(&self) -> Option<Spread> {
        self.test.as_ref().map(|test| test.spread(self.level))
    }

    /// The mark in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let better = match self.measure {
            Measure::Metric(key) | Measure::Sum(_, key, _) => key.definition().better,
            _ => Better::Smaller,
        };
        match (self.mark(), better) {
            (None, _) => "no ratio",
            (Some(Mark::TooFew), _) => "too few",
            (Some(Mark::NotSignificant), _) => "-",
            (Some(Mark::Larger), Better::Neither) => "larger",
            (Some(Mark::Smaller), Better::Neither) => "smaller",
            (Some(Mark::Larger), Better::Smaller) | (Some(Mark::Smaller), Better::Larger) => "worse",
            (Some(Mark::Smaller), Better::Smaller) | (Some(Mark::Larger), Better::Larger) => "better",
        }
    }

    /// The unit of the medians.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.measure.unit()
    }
}

/// A cell that both directories have.
#[derive(Debug, Clone, PartialEq)]
pub struct CellComparison {
    /// Its id.
    pub id: String,
    /// Its metrics.
    pub lines: Vec<Line>,
    /// Capped runs of each, which are no samples.
    pub capped: (usize, usize),
}

/// All of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// In the order of the first plan.
    pub cells: Vec<CellComparison>,
}

impl Comparison {
    /// Of two sides. `metrics` names what is compared; the columns of each table where it is empty.
    #[must_use]
    pub fn of(measurement: &Measurement<'_>, metrics: &[MetricKey]) -> Self {
        let mut cells: Vec<CellComparison> = measurement
            .cells
            .iter()
            .map(|cell| {
                let measures: Vec<Measure> = match metrics {
                    [] => cell.columns.to_vec(),
                    keys => keys.iter().map(|key| Measure::Metric(*key)).collect(),
                };
                let lines = measures.into_iter().filter_map(|measure| line(measure, &cell.runs)).collect();
                CellComparison { id: cell.id.clone(), lines, capped: cell.capped }
            })
            .collect();
        let lines = || cells.iter().flat_map(|cell| &cell.lines);
        let p: Vec<f64> = lines().filter_map(|line| line.test.as_ref()).map(|test| test.p).collect();
        let mut levels = holm::levels(&p, ALPHA).into_iter();
        for line in cells.iter_mut().flat_map(|cell| &mut cell.lines) {
            if line.test.is_some() {
                line.level = levels.next().unwrap_or(ALPHA);
            }
        }
        Self { cells }
    }

    /// How many tests were made.
    #[must_use]
    pub fn tests(&self) -> usize {
        self.cells.iter().flat_map(|cell| &cell.lines).filter(|line| line.test.is_some()).count()
    }
}

/// `None` where a side has no samples of it, as of tails that are pooled over runs.
fn line(measure: Measure, runs: &Runs<'_>) -> Option<Line> {
    use crate::stats::Stratum;
    let (base, new, test) = match runs.stratum(|run| measure.sample(run)) {
        Stratum::Pairs(pairs) => {
            let test = paired(&pairs);
            let (base, new): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            (base, new, test)
        }
        Stratum::Samples { base, new } => {
            let test = independent(&base, &new);
            (base, new, test)
        }
    };
    let medians = (median(&base)?, median(&new)?);
    Some(Line { measure, medians, samples: (base.len(), new.len()), test, level: ALPHA })
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;

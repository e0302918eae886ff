//! A figure of the runs of one cell, with the units that a joint test relabels: blocks where both sides ran side by side,
//! and otherwise repetitions of a directory, with all cells that were measured in them.

use std::collections::BTreeMap;

use super::measurement::{CellPair, Runs};
use crate::record::Record;
use crate::stats::{Labels, Values};

/// The units of a measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Units {
    /// Their labels.
    pub labels: Labels,
    /// By cell and block, or by side (0 is base) and repetition.
    places: BTreeMap<(usize, u32), usize>,
}

impl Units {
    /// Of these cells, all of which are in blocks, or none.
    #[must_use]
    pub fn of(cells: &[CellPair<'_>]) -> Self {
        let mut blocks = Vec::new();
        let (mut base_runs, mut new_runs) = (BTreeMap::new(), BTreeMap::new());
        for (index, cell) in cells.iter().enumerate() {
            match &cell.runs {
                Runs::Blocks(pairs) => blocks.extend(pairs.iter().map(|(base, _)| (index, base.repetition))),
                Runs::Apart { base, new } => {
                    base_runs.extend(base.iter().map(|run| ((0, run.repetition), ())));
                    new_runs.extend(new.iter().map(|run| ((1, run.repetition), ())));
                }
            }
        }
        if base_runs.is_empty() && new_runs.is_empty() {
            return Self {
                labels: Labels::Swaps(blocks.len()),
                places: blocks.into_iter().zip(0..).collect(),
            };
        }
        let labels = Labels::Groups { base: base_runs.len(), new: new_runs.len() };
        Self { labels, places: base_runs.into_keys().chain(new_runs.into_keys()).zip(0..).collect() }
    }
}

/// What `figure` gives of the runs of a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// Unit, base and new of each block in which both sides have it.
    Pairs(Vec<(usize, f64, f64)>),
    /// Unit and value.
    Groups {
        /// Of the base.
        base: Values,
        /// Of what is new.
        new: Values,
    },
}

impl Samples {
    /// Of the cell with that index.
    #[must_use]
    pub fn of(
        units: &Units,
        index: usize,
        cell: &CellPair<'_>,
        figure: impl Fn(&Record) -> Option<f64>,
    ) -> Self {
        let unit = |key: (usize, u32)| units.places.get(&key).copied();
        match &cell.runs {
            Runs::Blocks(pairs) => {
                let of = |(base, new): &(&Record, &Record)| {
                    Some((unit((index, base.repetition))?, figure(base)?, figure(new)?))
                };
                Self::Pairs(pairs.iter().filter_map(of).collect())
            }
            Runs::Apart { base, new } => {
                let of = |side: usize, runs: &[&Record]| {
                    runs.iter()
                        .filter_map(|run| Some((unit((side, run.repetition))?, figure(run)?)))
                        .collect()
                };
                Self::Groups { base: of(0, base), new: of(1, new) }
            }
        }
    }

    /// The values of base and of new.
    #[must_use]
    pub fn sides(&self) -> (Vec<f64>, Vec<f64>) {
        match self {
            Self::Pairs(pairs) => pairs.iter().map(|(_, base, new)| (*base, *new)).unzip(),
            Self::Groups { base, new } => {
                let values = |side: &Values| side.iter().map(|(_, value)| *value).collect();
                (values(base), values(new))
            }
        }
    }

    /// How many there are of each side.
    #[must_use]
    pub const fn count(&self) -> (usize, usize) {
        match self {
            Self::Pairs(pairs) => (pairs.len(), pairs.len()),
            Self::Groups { base, new } => (base.len(), new.len()),
        }
    }

    /// With the new side times `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        match self {
            Self::Pairs(pairs) => {
                Self::Pairs(pairs.iter().map(|(unit, base, new)| (*unit, *base, new * factor)).collect())
            }
            Self::Groups { base, new } => Self::Groups {
                base: base.clone(),
                new: new.iter().map(|(unit, value)| (*unit, value * factor)).collect(),
            },
        }
    }

    /// As values of which the mean difference is the log ratio; `None` where a value is not positive, or a side has none.
    #[must_use]
    pub fn logs(&self) -> Option<Values> {
        let (base, new) = self.sides();
        let positive = |value: &f64| *value > 0.0 && value.is_finite();
        let fine = !base.is_empty() && !new.is_empty() && base.iter().chain(&new).all(positive);
        fine.then(|| match self {
            Self::Pairs(pairs) => {
                pairs.iter().map(|(unit, base, new)| (*unit, new.ln() - base.ln())).collect()
            }
            Self::Groups { base, new } => {
                base.iter().chain(new).map(|(unit, value)| (*unit, value.ln())).collect()
            }
        })
    }

    /// As values of which the mean difference is that of the figure itself.
    #[must_use]
    pub fn differences(&self) -> Values {
        match self {
            Self::Pairs(pairs) => pairs.iter().map(|(unit, base, new)| (*unit, new - base)).collect(),
            Self::Groups { base, new } => base.iter().chain(new).copied().collect(),
        }
    }

    /// The smallest and the largest ratio that was seen: of blocks, or of any two runs.
    #[must_use]
    pub fn range(&self) -> Option<(f64, f64)> {
        let ratios: Vec<f64> = match self {
            Self::Pairs(pairs) => pairs.iter().map(|(_, base, new)| new / base).collect(),
            Self::Groups { .. } => {
                let (base, new) = self.sides();
                new.iter().flat_map(|new| base.iter().map(move |base| new / base)).collect()
            }
        };
        let low = ratios.iter().copied().min_by(f64::total_cmp)?;
        Some((low, ratios.iter().copied().max_by(f64::total_cmp)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::gate_tests::{ab, apart};
    use crate::judge::measurement::{Allowed, Measurement};
    use crate::metric::{self, MetricKey};

    fn total_times(measurement: &Measurement<'_>) -> (Labels, Vec<Samples>) {
        let units = Units::of(&measurement.cells);
        let figure = |run: &Record| metric::value(&run.metrics, MetricKey::TotalTime);
        let cells = measurement.cells.iter().enumerate();
        (units.labels, cells.map(|(index, cell)| Samples::of(&units, index, cell, figure)).collect())
    }

    #[test]
    fn blocks_are_units_of_their_cell_and_repetitions_of_all_cells() {
        let side_by_side = ab(6, |_, _| 1.0);
        let (labels, cells) = total_times(&Measurement::of_one(&side_by_side).unwrap());
        assert_eq!((labels, cells.len()), (Labels::Swaps(24), 4));
        let Samples::Pairs(pairs) = &cells[1] else { panic!("{cells:?}") };
        assert_eq!(pairs.iter().map(|(unit, ..)| *unit).collect::<Vec<_>>(), [6, 7, 8, 9, 10, 11]);

        let (base, mut new) = (apart(3, |_, _| 1.0), apart(4, |_, _| 2.0));
        // One run of one cell is missing.
        new.records.retain(|run| run.run_id != "write-heavy-full-2");
        let (labels, cells) = total_times(&Measurement::of_two(&base, &new, Allowed::default()).unwrap());
        assert_eq!(labels, Labels::Groups { base: 3, new: 4 });
        let units = |cell: &Samples| cell.differences().iter().map(|(unit, _)| *unit).collect::<Vec<_>>();
        assert_eq!(units(&cells[0]), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((units(&cells[2]), cells[2].count()), (vec![0, 1, 2, 3, 5, 6], (3, 3)));
    }

    #[test]
    fn what_is_not_positive_has_no_logarithm() {
        let pairs = Samples::Pairs(vec![(0, 1.0, 2.0), (1, 2.0, 3.0)]);
        assert_eq!(pairs.logs().unwrap().len(), 2);
        assert_eq!((pairs.range(), pairs.scaled(0.5).range()), (Some((1.5, 2.0)), Some((0.75, 1.0))));
        assert_eq!(Samples::Pairs(vec![(0, 0.0, 2.0)]).logs(), None);
        let one_side = Samples::Groups { base: vec![(0, 1.0)], new: Vec::new() };
        assert_eq!((one_side.logs(), one_side.range()), (None, None));
    }
}

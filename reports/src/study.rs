//! How far the gate can be trusted: real runs, drawn again and again, judged each time. The runs are those of `migbench ab`
//! with the same build on both sides, so that whatever is called a regression is a false alarm; and with a known change laid
//! over the new side, so that whatever is not called one is missed.
//!
//! Whole blocks are drawn, with what the host did in them, and which run of a block is called new is drawn too: both are of
//! the same build. An alarm is put to fresh draws, as a real one is put to fresh runs.

pub mod nights;

use std::collections::BTreeMap;

use migbench_scenarios::cell::Side;
use migbench_scenarios::gate::Gate;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::cells;
use crate::judge::measurement::same_schema;
use crate::judge::{Accepted, JudgeError, Measurement, Verdict, judge};
use crate::manifest::Manifest;
use crate::metric::{self, MetricKey};
use crate::part::Part;
use crate::record::{Record, RunKind, Status};
use crate::stats;
use crate::store::RunData;

/// Why nothing can be drawn.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum StudyError {
    #[error("name at least one run directory of `migbench ab` with the same build on both sides")]
    Nothing,
    #[error("{path} has other cells than {first}: draw from directories of one suite only")]
    Unlike { path: String, first: String },
    #[error("{cell} has {blocks} blocks; {wanted} are to be drawn without drawing any twice")]
    Few { cell: String, blocks: usize, wanted: usize },
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

impl StudyError {
    /// Whether directories were named together that do not go together.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        match self {
            Self::Unlike { .. } => true,
            Self::Judge(error) => error.is_incomparable(),
            Self::Nothing | Self::Few { .. } => false,
        }
    }
}

/// Blocks to draw from, by comparison. A block is a run of each side, one after the other.
#[derive(Debug)]
pub struct BlockPool {
    manifest: Manifest,
    gates: Vec<Gate>,
    blocks: BTreeMap<String, Vec<[Record; 2]>>,
}

/// A change that is laid over the new side.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift {
    /// The metric.
    pub metric: MetricKey,
    /// By what it is multiplied.
    pub factor: f64,
}

/// How often each verdict was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerdictCounts {
    /// Status 0.
    pub fine: usize,
    /// Status 3, without an alarm at first.
    pub unsure: usize,
    /// Status 4.
    pub regression: usize,
    /// An alarm at first that fresh samples did not confirm.
    pub unconfirmed: usize,
    /// Status 3, because the host was disturbed.
    pub host: usize,
}

impl VerdictCounts {
    /// Judges `first`, and puts an alarm to `fresh`.
    fn count(&mut self, first: &Measurement<'_>, fresh: &Measurement<'_>) -> Result<(), StudyError> {
        let accepted = Accepted::default();
        let alone = judge(first, None, &accepted)?.verdict;
        let said = match alone {
            Verdict::Unconfirmed => judge(first, Some(fresh), &accepted)?.verdict,
            other => other,
        };
        *match (alone, said) {
            (_, Verdict::Regression) => &mut self.regression,
            (_, Verdict::HostChanged | Verdict::HostDisturbed | Verdict::NotSteady) => &mut self.host,
            (Verdict::Unconfirmed, _) => &mut self.unconfirmed,
            (_, Verdict::Fine) => &mut self.fine,
            _ => &mut self.unsure,
        } += 1;
        Ok(())
    }

    /// All of them.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.fine + self.unsure + self.regression + self.unconfirmed + self.host
    }
}

impl BlockPool {
    /// The blocks of all `runs`, which are of one suite, to be judged by `gates`. Only runs that ended as planned, on both
    /// sides, count.
    ///
    /// # Errors
    /// [`StudyError`]
    pub fn of(runs: &[RunData], gates: &[Gate]) -> Result<Self, StudyError> {
        let first = runs.first().ok_or(StudyError::Nothing)?;
        let names = |data: &RunData| -> Vec<String> {
            data.manifest.comparisons.iter().map(|comparison| comparison.name.clone()).collect()
        };
        let mut blocks: BTreeMap<String, Vec<[Record; 2]>> = BTreeMap::new();
        for data in runs {
            let of = |data: &RunData| data.manifest.schema;
            same_schema((&first.path, of(first)), (&data.path, of(data))).map_err(JudgeError::from)?;
            if names(data) != names(first) {
                return Err(StudyError::Unlike {
                    path: data.path.display().to_string(),
                    first: first.path.display().to_string(),
                });
            }
            let (sorted, _) = cells::sort(&data.manifest, &data.records);
            for comparison in &sorted {
                let of = |side| comparison.cells.iter().find(|runs| runs.cell.side == Some(side));
                let (Some(base), Some(new)) = (of(Side::Base), of(Side::New)) else { continue };
                let pairs = base.ok.iter().filter_map(|run| {
                    let other = new.ok.iter().find(|other| other.repetition == run.repetition)?;
                    Some([light(run), light(other)])
                });
                blocks.entry(comparison.plan.name.clone()).or_default().extend(pairs);
            }
        }
        Ok(Self { manifest: first.manifest.clone(), gates: gates.to_vec(), blocks })
    }

    /// The metrics that are gated.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricKey> {
        self.gates.iter().filter_map(|gate| MetricKey::find(&gate.metric)).collect()
    }

    /// For each comparison, how many blocks there are, and how much `metric` varies between the runs of one side: standard
    /// deviation over mean.
    #[must_use]
    pub fn variation(&self, metric: MetricKey) -> Vec<(String, usize, Option<f64>)> {
        let of = |blocks: &Vec<[Record; 2]>| {
            let values: Vec<f64> =
                blocks.iter().flatten().filter_map(|run| metric::value(&run.metrics, metric)).collect();
            variation(&values)
        };
        self.blocks.iter().map(|(name, blocks)| (name.clone(), blocks.len(), of(blocks))).collect()
    }

    /// The geometric mean over comparisons of new over base, by medians.
    #[must_use]
    pub fn moved(&self, metric: MetricKey) -> Option<f64> {
        let ratios: Option<Vec<f64>> = self
            .blocks
            .values()
            .map(|blocks| {
                let side = |side: usize| -> Vec<f64> {
                    blocks.iter().filter_map(|block| metric::value(&block[side].metrics, metric)).collect()
                };
                Some(stats::median(&side(1))? / stats::median(&side(0))?)
            })
            .collect();
        stats::geometric_mean(&ratios?)
    }

    /// One measurement of `repetitions` blocks, drawn without drawing any twice. With `swap` either run of a block may be called
    /// new.
    fn draw(
        &self,
        repetitions: usize,
        swap: bool,
        shifts: &[Shift],
        random: &mut Xoshiro256PlusPlus,
    ) -> Result<RunData, StudyError> {
        let mut records = Vec::new();
        for comparison in &self.manifest.comparisons {
            let Some(blocks) = self.blocks.get(&comparison.name) else { continue };
            if blocks.len() < repetitions {
                let (cell, blocks) = (comparison.name.clone(), blocks.len());
                return Err(StudyError::Few { cell, blocks, wanted: repetitions });
            }
            let mut places: Vec<usize> = (0..blocks.len()).collect();
            let (drawn, _) = places.partial_shuffle(random, repetitions);
            for (repetition, place) in (1..).zip(drawn) {
                let turned = swap && random.random::<bool>();
                for (row, planned) in comparison.cells.iter().enumerate() {
                    let from = &blocks[*place][if turned { 1 - row } else { row }];
                    let mut run = from.clone();
                    run.repetition = repetition;
                    run.cell = planned.cell.clone();
                    if planned.cell.side == Some(Side::New) {
                        for shift in shifts {
                            if let Some(value) = run.metrics.get_mut(shift.metric.name()) {
                                value.value *= shift.factor;
                            }
                        }
                    }
                    records.push(run);
                }
            }
        }
        Ok(RunData { path: "drawn".into(), manifest: self.manifest.clone(), records, truncated: None })
    }

    /// Draws and judges `times`, each as `migbench ab` does: an alarm is put to a second draw.
    ///
    /// # Errors
    /// [`StudyError`]
    pub fn judged(
        &self,
        times: usize,
        repetitions: usize,
        swap: bool,
        shifts: &[Shift],
        seed: u64,
    ) -> Result<VerdictCounts, StudyError> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut tally = VerdictCounts::default();
        for _ in 0..times {
            let first = self.draw(repetitions, swap, shifts, &mut random)?;
            let fresh = self.draw(repetitions, swap, shifts, &mut random)?;
            let (first, fresh) = (self.measured(&first)?, self.measured(&fresh)?);
            tally.count(&first, &fresh)?;
        }
        Ok(tally)
    }

    /// Draws are of timed runs alone: what is missing of proofs says nothing of them.
    fn measured<'a>(&self, data: &'a RunData) -> Result<Measurement<'a>, StudyError> {
        let measurement = Measurement::of_one(data)?;
        Ok(Measurement { gates: self.gates.clone(), unsound: Vec::new(), ..measurement })
    }
}

/// What `migbench ab` says of `runs`, each by itself: an alarm is put to the next of them, which was measured later.
///
/// # Errors
/// [`StudyError`]
pub fn as_measured(runs: &[RunData], gates: &[Gate]) -> Result<VerdictCounts, StudyError> {
    let mut tally = VerdictCounts::default();
    for (index, data) in runs.iter().enumerate() {
        let of = |data| -> Result<Measurement<'_>, StudyError> {
            Ok(Measurement { gates: gates.to_vec(), ..Measurement::of_one(data)? })
        };
        tally.count(&of(data)?, &of(&runs[(index + 1) % runs.len()])?)?;
    }
    Ok(tally)
}

/// What the judge looks at: thousands of copies are made.
fn light(run: &Record) -> Record {
    let mut run = Record {
        histograms: Part::default(),
        timeline: Part::default(),
        stalls: Part::default(),
        ..run.clone()
    };
    run.rounds.clear();
    debug_assert!(run.kind == RunKind::Timed && run.status == Status::Ok);
    run
}

fn variation(values: &[f64]) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1 && mean > 0.0).then(|| (squares / (values.len() - 1) as f64).sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::gate_tests::{ab, gate};

    /// Two directories of thirty blocks of the same build, whose runs scatter evenly by `share` either way.
    fn pool(share: f64) -> BlockPool {
        let random = std::cell::RefCell::new(Xoshiro256PlusPlus::seed_from_u64(7));
        let factor = |_, _| 1.0 + share * random.borrow_mut().random_range(-1.0..1.0);
        BlockPool::of(&[ab(30, factor), ab(30, factor)], &[gate("total_time", 0.005)]).unwrap()
    }

    fn slower(factor: f64) -> [Shift; 1] {
        [Shift { metric: MetricKey::TotalTime, factor }]
    }

    #[test]
    fn the_same_build_raises_no_alarm_and_a_change_does() {
        let pool = pool(0.03);
        assert_eq!(pool.metrics(), [MetricKey::TotalTime]);
        let same = pool.judged(60, 10, true, &[], 1).unwrap();
        assert_eq!(same.all(), 60);
        assert!(same.regression <= 2, "{same:?}");
        let changed = pool.judged(60, 10, true, &slower(1.1), 1).unwrap();
        assert!(changed.regression >= 57, "{changed:?}");
        let again = || pool.judged(10, 10, true, &slower(1.1), 1).unwrap();
        assert_eq!(again(), again(), "the seed decides");
    }

    #[test]
    fn where_runs_scatter_widely_nothing_is_said_to_be_fine() {
        let noisy = pool(0.8).judged(50, 10, true, &slower(1.05), 1).unwrap();
        assert!(noisy.fine <= 5 && noisy.unsure >= 40, "{noisy:?}");
    }

    #[test]
    fn measurements_are_judged_one_by_one() {
        let same = [1, 2, 3].map(|_| ab(12, |_, repetition| 1.0 + f64::from(repetition) * 1e-3));
        let gates = [gate("total_time", 0.005)];
        assert_eq!(
            as_measured(&same, &gates).unwrap(),
            VerdictCounts { fine: 3, ..VerdictCounts::default() }
        );
        let slower =
            |side, repetition| if side == Side::New { 1.2 } else { 1.0 } + f64::from(repetition) * 1e-3;
        let slower = [1, 2].map(|_| ab(12, slower));
        assert_eq!(
            as_measured(&slower, &gates).unwrap(),
            VerdictCounts { regression: 2, ..VerdictCounts::default() }
        );
    }

    #[test]
    fn what_was_measured_is_described() {
        let pool = pool(0.03);
        for (_, blocks, variation) in pool.variation(MetricKey::TotalTime) {
            // Of an even scatter by 3 %: 3 % over the root of three, and what sample records differ by.
            assert!(blocks == 60 && (0.015..0.03).contains(&variation.unwrap()), "{variation:?}");
        }
        assert!((pool.moved(MetricKey::TotalTime).unwrap() - 1.0).abs() < 0.02);
        let few = pool.judged(1, 61, true, &[], 1).unwrap_err();
        assert!(few.to_string().contains("has 60 blocks"), "{few}");
        assert!(matches!(BlockPool::of(&[], &[]), Err(StudyError::Nothing)));
    }
}

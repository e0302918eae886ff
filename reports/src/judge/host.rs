//! Whether both sides had the same host, and a quiet one. A host that changed between two directories makes everything
//! slower or faster, and none of that is the commit's doing.
//!
//! - The **canary** is what the host could do before each block. Two directories have it each for themselves: it moved
//!   where it did by more than [`MOVED`] and by more than its own scatter explains, since on a small virtual machine it
//!   scatters by a quarter. Of merged directories each slice has blocks, and a host, of its own: slices are held against
//!   those that ran the same cells. Sides that ran in the same blocks share it, and what shifts between blocks shifts both.
//! - **Flags** of single runs count where they speak of the run itself ([`DISTURBING`]). A block before which the host was
//!   another one ([`crate::canary`]) does not: the pairing, or the canary between directories, takes care of it.

use std::collections::{BTreeMap, BTreeSet};

use migbench_scenarios::Slice;

use super::compare::RatioOfMeans;
use super::measurement::{CellPair, Runs};
use super::samples::Samples;
use crate::metric::{self, MetricKey};
use crate::record::Record;
use crate::stats::{self, Labels, Spread};

/// Between two directories, the change of the canary beyond which the host is another one.
pub const MOVED: f64 = 0.03;
/// The share of flagged runs of a side beyond which nothing is judged.
pub const FLAGGED: f64 = 0.2;
/// Flags that say that this very run was disturbed: by the host, or by whatever kept its guest from being steady.
pub const DISTURBING: [&str; 3] = ["cpu_stolen", "cpu_throttled", NOT_STEADY];
/// The flag of a guest that was not steady when its migration began, whoever is to blame.
const NOT_STEADY: &str = "not_steady";

/// The runs of both sides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sides<'a> {
    /// Of the base.
    pub base: Vec<&'a Record>,
    /// Of what is new.
    pub new: Vec<&'a Record>,
}

/// Why it was not one quiet host.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum HostChange {
    /// The canary moved.
    Canary { key: MetricKey, ratio: f64, spread: Spread, slices: (Option<Slice>, Option<Slice>) },
    /// Too many runs of a side are flagged.
    Flagged { side: &'static str, runs: usize, of: usize, flags: BTreeMap<String, usize> },
}

impl std::fmt::Display for HostChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Canary { key, ratio, spread, slices } => {
                let (low, high) = spread.ends();
                let of = |slice: &Option<Slice>| {
                    slice.map_or_else(|| "the whole".to_owned(), |slice| format!("slice {slice}"))
                };
                let between = match slices {
                    (None, None) => "the two".to_owned(),
                    (base, new) => format!("{} of base and {} of new", of(base), of(new)),
                };
                write!(
                    f,
                    "{} moved by {:+.1} % ({:+.1} to {:+.1} %) between {between}",
                    key.definition().label,
                    (ratio - 1.0) * 100.0,
                    (low - 1.0) * 100.0,
                    (high - 1.0) * 100.0
                )
            }
            Self::Flagged { side, runs, of, flags } => {
                let flags: Vec<_> = flags.iter().map(|(flag, runs)| format!("{flag} {runs}")).collect();
                write!(f, "{runs} of {of} runs of {side} were disturbed ({})", flags.join(", "))
            }
        }
    }
}

impl HostChange {
    /// Whether it says no more than that guests were not steady.
    #[must_use]
    pub fn is_unsteady(&self) -> bool {
        matches!(self, Self::Flagged { flags, .. } if flags.keys().all(|flag| flag == NOT_STEADY))
    }
}

impl<'a> Sides<'a> {
    fn of<'c>(cells: impl IntoIterator<Item = &'c CellPair<'a>>) -> Self
    where
        'a: 'c,
    {
        let mut sides = Self::default();
        for cell in cells {
            match &cell.runs {
                Runs::Blocks(blocks) => {
                    sides.base.extend(blocks.iter().map(|(base, _)| *base));
                    sides.new.extend(blocks.iter().map(|(_, new)| *new));
                }
                Runs::Apart { base, new } => {
                    sides.base.extend(base);
                    sides.new.extend(new);
                }
            }
        }
        sides
    }
}

/// What changed between the sides, or disturbed either.
#[must_use]
pub fn changes(cells: &[CellPair<'_>], interleaved: bool) -> Vec<HostChange> {
    let mut changes = Vec::new();
    if !interleaved {
        // A pair of hosts each, but for directories that were merged one pair.
        let pairs: BTreeSet<_> = cells.iter().map(|cell| cell.slices).collect();
        let level = stats::ALPHA / stats::real(pairs.len().max(1));
        for slices in pairs {
            let sides = Sides::of(cells.iter().filter(|cell| cell.slices == slices));
            let keys = [MetricKey::CanaryCopy, MetricKey::CanarySocket];
            changes.extend(keys.into_iter().filter_map(|key| canary(key, &sides, slices, level)));
        }
    }
    let sides = Sides::of(cells);
    changes.extend(flagged("base", &sides.base));
    changes.extend(flagged("new", &sides.new));
    changes
}

/// One figure a block of one host: all of its runs carry the same.
fn by_block(key: MetricKey, runs: &[&Record]) -> Vec<f64> {
    let by_block: BTreeMap<u32, f64> =
        runs.iter().filter_map(|run| Some((run.repetition, metric::value(&run.metrics, key)?))).collect();
    by_block.into_values().collect()
}

fn canary(
    key: MetricKey,
    sides: &Sides<'_>,
    slices: (Option<Slice>, Option<Slice>),
    level: f64,
) -> Option<HostChange> {
    let (base, new) = (by_block(key, &sides.base), by_block(key, &sides.new));
    let blocks = (base.len(), new.len());
    let labels = Labels::Groups { base: blocks.0, new: blocks.1 };
    let mut units = base.into_iter().chain(new).enumerate();
    let base = units.by_ref().take(blocks.0).collect();
    let samples = Samples::Groups { base, new: units.collect() };
    let RatioOfMeans { value: ratio, spread, .. } = RatioOfMeans::of(&samples, labels, level)?;
    let (low, high) = spread.ends();
    let beyond = (ratio - 1.0).abs() > MOVED || (1.0 / ratio - 1.0).abs() > MOVED;
    // The range of all ratios leaves 1 out exactly where the samples do not overlap.
    let explained = low <= 1.0 && high >= 1.0;
    (beyond && !explained).then_some(HostChange::Canary { key, ratio, spread, slices })
}

fn flagged(side: &'static str, runs: &[&Record]) -> Option<HostChange> {
    let mut flags = BTreeMap::new();
    let mut count = 0;
    for run in runs {
        let disturbing: Vec<_> =
            run.flags.iter().filter(|flag| DISTURBING.contains(&flag.as_str())).collect();
        count += usize::from(!disturbing.is_empty());
        for flag in disturbing {
            *flags.entry(flag.clone()).or_insert(0) += 1;
        }
    }
    let share = stats::real(count) / stats::real(runs.len().max(1));
    (share > FLAGGED).then_some(HostChange::Flagged { side, runs: count, of: runs.len(), flags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    fn runs(copies: &[f64]) -> Vec<Record> {
        let of = |(repetition, copy): (u32, &f64)| {
            let sample = Sample::new("write-heavy", "full").repetition(repetition);
            sample.metric(MetricKey::CanaryCopy, *copy).metric(MetricKey::CanarySocket, 3e9).build()
        };
        (1..).zip(copies).map(of).collect()
    }

    fn cell<'a>(base: &'a [Record], new: &'a [Record]) -> CellPair<'a> {
        CellPair {
            id: "write-heavy/full".to_owned(),
            comparison: "write-heavy".to_owned(),
            cell: &base[0].cell,
            columns: Vec::new(),
            runs: Runs::Apart { base: base.iter().collect(), new: new.iter().collect() },
            ok: (base.len(), new.len()),
            capped: (0, 0),
            slices: (None, None),
        }
    }

    const NOISY: [f64; 8] = [8e9, 10e9, 7e9, 9e9, 11e9, 8.5e9, 7.5e9, 9.5e9];

    #[test]
    fn a_canary_that_scatters_has_not_moved() {
        let (base, new) = (runs(&NOISY), runs(&NOISY.map(|copy| copy * 1.04)));
        assert_eq!(changes(&[cell(&base, &new)], false), []);
    }

    #[test]
    fn a_canary_that_moved_beyond_its_scatter_is_another_host() {
        let (base, new) = (runs(&NOISY), runs(&NOISY.map(|copy| copy * 0.5)));
        let found = changes(&[cell(&base, &new)], false);
        let [HostChange::Canary { key: MetricKey::CanaryCopy, ratio, .. }] = found[..] else {
            panic!("{found:?}")
        };
        assert!((ratio - 0.5).abs() < 0.05);
        assert!(found[0].to_string().starts_with("host copies moved by -"), "{}", found[0]);
        // Side by side there is one canary for both.
        assert_eq!(changes(&[cell(&base, &new)], true), []);
    }

    #[test]
    fn a_steady_canary_may_move_by_less_than_three_percent() {
        let steady = NOISY.map(|copy| 8e9 + copy * 1e-4);
        let base = runs(&steady);
        assert_eq!(changes(&[cell(&base, &runs(&steady.map(|copy| copy * 1.02)))], false), []);
        assert_eq!(changes(&[cell(&base, &runs(&steady.map(|copy| copy * 1.05)))], false).len(), 1);
        // Few blocks can't be tested, but need not overlap.
        assert_eq!(changes(&[cell(&base[..2], &runs(&[7e9, 7e9]))], false).len(), 1);
    }

    /// Of four blocks a side 2 of 70 labellings are as far apart, of three 2 of 20, which is more than 5 %.
    #[test]
    fn four_blocks_a_side_are_the_fewest_that_are_tested() {
        let of = |blocks: usize, factor: f64| {
            let (base, new) = (runs(&NOISY[..blocks]), runs(&NOISY.map(|copy| copy * factor)[..blocks]));
            changes(&[cell(&base, &new)], false)
        };
        let spread = |blocks| match &of(blocks, 0.5)[..] {
            [HostChange::Canary { spread, .. }] => *spread,
            other => panic!("{other:?}"),
        };
        assert!(matches!(spread(3), Spread::Range { .. }));
        assert!(matches!(spread(4), Spread::Interval { high, .. } if high < 1.0));
        assert_eq!((of(3, 0.9), of(4, 0.9), of(5, 0.9)), (vec![], vec![], vec![]), "sides that overlap");
    }

    #[test]
    fn disturbed_runs_count() {
        let (base, mut new) = (runs(&NOISY), runs(&NOISY));
        for run in &mut new[..2] {
            run.flags.push("cpu_stolen".to_owned());
        }
        let found = changes(&[cell(&base, &new)], true);
        assert_eq!(found[0].to_string(), "2 of 8 runs of new were disturbed (cpu_stolen 2)");
        assert!(!found[0].is_unsteady());
        new[0].flags.clear();
        assert_eq!(changes(&[cell(&base, &new)], true), []);
        for run in &mut new[..2] {
            run.flags = vec!["not_steady".to_owned()];
        }
        let found = changes(&[cell(&base, &new)], true);
        assert!(found[0].is_unsteady(), "whoever disturbed the guest, no host was seen to: {found:?}");
    }

    /// Slices 1 and 2 ran on hosts of different speed, and the second one of them became slower by a tenth.
    #[test]
    fn of_merged_directories_each_slice_has_a_canary_of_its_own() {
        let slice = |number| Some(Slice { number, of: 2 });
        let (fast, slow) = (NOISY.map(|copy| 2e10 + copy / 10.0), NOISY.map(|copy| 4e9 + copy / 10.0));
        let hosts = |first: &[f64], second: &[f64]| [runs(first), runs(second)];
        let found = |base: &[Vec<Record>; 2], new: &[Vec<Record>; 2]| {
            let of = |which: usize, slices| CellPair { slices, ..cell(&base[which], &new[which]) };
            changes(&[of(0, (slice(1), slice(1))), of(1, (slice(2), slice(2)))], false)
        };
        let base = hosts(&fast, &slow);
        assert_eq!(found(&base, &hosts(&fast, &slow)), []);
        let changed = found(&base, &hosts(&fast, &slow.map(|copy| copy * 0.9)));
        assert_eq!(changed.len(), 1, "{changed:?}");
        let text = changed[0].to_string();
        assert!(text.contains("between slice 2/2 of base and slice 2/2 of new"), "{text}");
    }
}

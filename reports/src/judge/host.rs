//! Whether both sides had the same host, and a quiet one. A host that changed between two directories makes everything
//! slower or faster, and none of that is the commit's doing.
//!
//! - The **canary** is what the host could do before each block. Two directories have it each for themselves: it moved
//!   where it did by more than [`MOVED`] and by more than its own scatter explains, since on a small virtual machine it
//!   scatters by a quarter. Sides that ran in the same blocks share it, and what shifts between blocks shifts both.
//! - **Flags** of single runs count where they speak of the run itself ([`DISTURBING`]). A block before which the host was
//!   another one ([`crate::canary`]) does not: the pairing, or the canary between directories, takes care of it.

use std::collections::BTreeMap;

use super::measurement::{CellPair, Runs};
use crate::metric::{self, MetricKey};
use crate::record::Record;
use crate::stats::{self, Spread};

/// Between two directories, the change of the canary beyond which the host is another one.
pub const MOVED: f64 = 0.03;
/// The share of flagged runs of a side beyond which nothing is judged.
pub const FLAGGED: f64 = 0.2;
/// Flags that say that the host disturbed this very run.
pub const DISTURBING: [&str; 3] = ["cpu_stolen", "cpu_throttled", "not_steady"];

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
pub enum HostChange {
    /// The canary moved.
    Canary {
        /// `canary_copy` or `canary_socket`.
        key: MetricKey,
        /// New over base.
        ratio: f64,
        /// Its 95 % interval, or the range.
        spread: Spread,
    },
    /// Too many runs of a side are flagged.
    Flagged {
        /// `base` or `new`.
        side: &'static str,
        /// Runs with such a flag.
        runs: usize,
        /// Of that many.
        of: usize,
        /// How many by flag.
        flags: BTreeMap<String, usize>,
    },
}

impl std::fmt::Display for HostChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Canary { key, ratio, spread } => {
                let (low, high) = spread.ends();
                write!(
                    f,
                    "{} moved by {:+.1} % ({:+.1} to {:+.1} %) between the two",
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

/// What changed between the sides, or disturbed either.
#[must_use]
pub fn changes(cells: &[CellPair<'_>], interleaved: bool) -> Vec<HostChange> {
    let mut sides = Sides::default();
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
    let mut changes = Vec::new();
    if !interleaved {
        let keys = [MetricKey::CanaryCopy, MetricKey::CanarySocket];
        changes.extend(keys.into_iter().filter_map(|key| canary(key, &sides)));
    }
    changes.extend(flagged("base", &sides.base));
    changes.extend(flagged("new", &sides.new));
    changes
}

/// One figure a block: all of its runs carry the same.
fn by_block(key: MetricKey, runs: &[&Record]) -> Vec<f64> {
    let by_block: BTreeMap<u32, f64> =
        runs.iter().filter_map(|run| Some((run.repetition, metric::value(&run.metrics, key)?))).collect();
    by_block.into_values().collect()
}

fn canary(key: MetricKey, sides: &Sides<'_>) -> Option<HostChange> {
    let (base, new) = (by_block(key, &sides.base), by_block(key, &sides.new));
    let test = stats::independent(&base, &new)?;
    let spread = test.interval();
    let (low, high) = spread.ends();
    let beyond = (test.ratio - 1.0).abs() > MOVED || (1.0 / test.ratio - 1.0).abs() > MOVED;
    // The range of all ratios leaves 1 out exactly where the samples do not overlap.
    let explained = low <= 1.0 && high >= 1.0;
    (beyond && !explained).then_some(HostChange::Canary { key, ratio: test.ratio, spread })
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
    use crate::metric::Metrics;
    use crate::sample::Sample;

    fn runs(copies: &[f64]) -> Vec<Record> {
        let of = |(repetition, copy): (u32, &f64)| {
            let mut metrics = Metrics::new();
            metrics.set(MetricKey::CanaryCopy, *copy).unwrap();
            metrics.set(MetricKey::CanarySocket, 3e9).unwrap();
            let sample = Sample::new("write-heavy", "full").repetition(repetition);
            sample.with(|record| record.metrics = metrics.into()).build()
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

    #[test]
    fn disturbed_runs_count() {
        let (base, mut new) = (runs(&NOISY), runs(&NOISY));
        for run in &mut new[..2] {
            run.flags.push("cpu_stolen".to_owned());
        }
        let found = changes(&[cell(&base, &new)], true);
        assert_eq!(found[0].to_string(), "2 of 8 runs of new were disturbed (cpu_stolen 2)");
        new[0].flags.clear();
        assert_eq!(changes(&[cell(&base, &new)], true), []);
    }
}

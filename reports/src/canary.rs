//! Whether the host was as fast before a block of runs as before the others. Records hold what each pass of the canary
//! reached; nobody judged it at the time, since only all blocks together tell what this host's canary does by itself.
//!
//! A block has moved where its median pass is further from the median of all blocks than [`ERRORS`] times the canary's own
//! scatter, that is, of its blocks among each other or of its passes within a block, whichever is wider. Scatter is the median
//! absolute deviation (Rousseeuw and Croux 1993), which a block that has moved does not widen. Two bounds stand beside it: under
//! [`LEAST`] nothing counts, because few blocks may agree by chance, and over [`MOST`] everything does, because no scatter
//! excuses a host at half of its speed.

use std::collections::BTreeMap;

use crate::manifest::Manifest;
use crate::metric::{self, MetricKey};
use crate::record::Record;
use crate::stats::median;

/// Standard deviations of the canary's own scatter that a block may be away.
pub const ERRORS: f64 = 5.0;
/// A factor by which a block may be faster or slower, however steady the others are.
pub const LEAST: f64 = 1.2;
/// A factor by which no block may be faster or slower, however much the others scatter.
pub const MOST: f64 = 1.4;
/// Of fewer blocks nobody can say which of them is the odd one.
pub const LEAST_BLOCKS: usize = 3;

/// From the median absolute deviation to the standard deviation, of a normal distribution.
const NORMAL: f64 = 1.4826;

/// How far a block is from the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CanaryShift {
    /// `canary_copy` or `canary_socket`.
    pub key: MetricKey,
    /// What the canary reached before this block, over the median of all blocks.
    pub ratio: f64,
}

/// One look at the host: the passes of both canaries, in bytes per second.
type Look = [Vec<f64>; 2];

const KEYS: [MetricKey; 2] = [MetricKey::CanaryCopy, MetricKey::CanarySocket];

/// Of each record whether the host was another one before its block than before the others. Slices that were merged are of
/// a host each, and a block that was resumed was looked at twice.
#[must_use]
pub fn moved(manifest: &Manifest, records: &[Record]) -> Vec<Option<CanaryShift>> {
    let host = |record: &Record| {
        manifest.parts.iter().position(|part| part.comparisons.contains(&record.comparison)).unwrap_or(0)
    };
    // Runs of a block have the same samples, and no two blocks have.
    let mut hosts: BTreeMap<usize, BTreeMap<_, (Look, Vec<usize>)>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let Some(look) = look(record) else { continue };
        let name = (
            record.repetition,
            look.each_ref().map(|passes| passes.iter().map(|p| p.to_bits()).collect::<Vec<_>>()),
        );
        let looks = hosts.entry(host(record)).or_default();
        looks.entry(name).or_insert((look, Vec::new())).1.push(index);
    }
    let mut all = vec![None; records.len()];
    for looks in hosts.into_values() {
        let (looks, members): (Vec<Look>, Vec<Vec<usize>>) = looks.into_values().unzip();
        for (moved, members) in judged(&looks).into_iter().zip(members) {
            members.into_iter().for_each(|index| all[index] = moved);
        }
    }
    all
}

/// Schema 1 has the median of the passes alone.
fn look(record: &Record) -> Option<Look> {
    match &record.canary {
        Some(samples) => Some([samples.copy.clone(), samples.socket.clone()]),
        None => {
            let [copy, socket] = KEYS.map(|key| metric::value(&record.metrics, key));
            Some([vec![copy?], vec![socket?]])
        }
    }
}

fn judged(looks: &[Look]) -> Vec<Option<CanaryShift>> {
    let mut all: Vec<Option<CanaryShift>> = vec![None; looks.len()];
    if looks.len() < LEAST_BLOCKS {
        return all;
    }
    for (which, key) in KEYS.into_iter().enumerate() {
        let passes: Vec<Vec<f64>> =
            looks.iter().map(|look| look[which].iter().map(|speed| speed.ln()).collect()).collect();
        let Some(blocks) = passes.iter().map(|passes| median(passes)).collect::<Option<Vec<f64>>>() else {
            continue;
        };
        let Some(usual) = median(&blocks) else { continue };
        let among: Vec<f64> = blocks.iter().map(|block| (block - usual).abs()).collect();
        let within: Vec<f64> = passes
            .iter()
            .zip(&blocks)
            .flat_map(|(passes, block)| passes.iter().map(move |pass| (pass - block).abs()))
            .collect();
        let scatter = NORMAL * median(&among).unwrap_or(0.0).max(median(&within).unwrap_or(0.0));
        let allowed = (ERRORS * scatter).clamp(LEAST.ln(), MOST.ln());
        for ((moved, block), away) in all.iter_mut().zip(&blocks).zip(&among) {
            if *away > allowed && moved.is_none_or(|other| other.ratio.ln().abs() < *away) {
                *moved = Some(CanaryShift { key, ratio: (block - usual).exp() });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::record::CanarySamples;
    use crate::sample::{self, Sample};

    struct Noise(Xoshiro256PlusPlus);

    impl Noise {
        /// Of the standard normal distribution (Box and Muller 1958).
        fn normal(&mut self) -> f64 {
            let (radius, turn) = (1.0 - self.0.random::<f64>(), self.0.random::<f64>());
            (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
        }

        /// Of Student's distribution, whose tails are the heavier the fewer its degrees of freedom.
        fn student(&mut self, freedom: u32) -> f64 {
            let squares: f64 = (0..freedom).map(|_| self.normal().powi(2)).sum();
            self.normal() / (squares / f64::from(freedom)).sqrt()
        }

        fn exponential(&mut self) -> f64 {
            -(1.0 - self.0.random::<f64>()).ln()
        }
    }

    /// What the logarithm of a host's speed does from block to block, and of one pass to the next.
    type SpeedWalk = fn(&mut Noise, &mut f64) -> f64;

    const BLOCKS: [(&str, SpeedWalk); 5] = [
        ("steady", |noise, _| 0.02 * noise.normal()),
        ("noisy", |noise, _| 0.05 * noise.normal()),
        ("as a small virtual machine was seen to", |noise, _| 0.08 * noise.normal()),
        ("heavy-tailed", |noise, _| 0.04 * noise.student(3)),
        ("drifting", |noise, at| {
            *at = 0.8 * *at + 0.6 * 0.08 * noise.normal();
            *at
        }),
    ];
    const PASSES: [(&str, SpeedWalk); 3] = [
        ("steady", |noise, _| 0.03 * noise.normal()),
        ("heavy-tailed", |noise, _| 0.05 * noise.student(2)),
        ("interrupted", |noise, _| {
            let interrupted = noise.0.random::<f64>() < 0.2;
            0.02 * noise.normal() - if interrupted { 0.3 * noise.exponential() } else { 0.0 }
        }),
    ];

    fn suite(noise: &mut Noise, blocks: usize, between: SpeedWalk, within: SpeedWalk) -> Vec<Look> {
        let mut at = [0.0; 2];
        (0..blocks)
            .map(|_| {
                [0, 1].map(|which| {
                    let block = between(noise, &mut at[which]);
                    (0..9).map(|_| 6e9 * (block + within(noise, &mut 0.0)).exp()).collect()
                })
            })
            .collect()
    }

    /// The share of blocks that are flagged in quiet suites, and how often a block at half of its speed is not.
    fn error_rates(blocks: usize, between: SpeedWalk, within: SpeedWalk) -> (f64, usize) {
        const SUITES: usize = 400;
        let mut noise = Noise(Xoshiro256PlusPlus::seed_from_u64(blocks as u64));
        let (mut flagged, mut missed) = (0, 0);
        for number in 0..SUITES {
            let mut looks = suite(&mut noise, blocks, between, within);
            flagged += judged(&looks).iter().flatten().count();
            let slow = number % blocks;
            looks[slow].iter_mut().flatten().for_each(|speed| *speed /= 2.0);
            let found = judged(&looks)[slow];
            missed += usize::from(!found.is_some_and(|moved| moved.ratio < 1.0));
        }
        (crate::stats::real(flagged) / crate::stats::real(SUITES * blocks), missed)
    }

    #[test]
    fn a_quiet_host_is_rarely_flagged_and_one_at_half_speed_always() {
        for (block, between) in BLOCKS {
            for (pass, within) in PASSES {
                for blocks in [4, 7, 11, 31] {
                    let (flagged, missed) = error_rates(blocks, between, within);
                    let what = format!("{blocks} {block} blocks, {pass} passes");
                    assert!(flagged < 0.05, "{what}: {:.1} % are flagged", flagged * 100.0);
                    assert_eq!(missed, 0, "{what}: a slow block was not flagged");
                }
            }
        }
    }

    fn run(repetition: u32, samples: [f64; 2]) -> Record {
        let [copy, socket] = samples.map(|speed| vec![speed; 9]);
        let sample = Sample::new("write-heavy", "full").repetition(repetition);
        sample.with(|record| record.canary = Some(CanarySamples { copy, socket })).build()
    }

    #[test]
    fn all_runs_of_the_block_are_moved_and_no_others() {
        let mut records: Vec<_> = (0..5).map(|block| run(block, [8e9, 3e9])).collect();
        records.push(run(3, [8e9, 1.5e9]));
        records.push(run(3, [8e9, 1.5e9]));
        let moved = moved(&sample::manifest(), &records);
        assert_eq!(moved[..5], [None; 5], "block 3 was resumed: what ran before is as it was");
        for run in &moved[5..] {
            let Some(CanaryShift { key: MetricKey::CanarySocket, ratio }) = run else { panic!("{run:?}") };
            assert!((ratio - 0.5).abs() < 1e-9);
        }
    }

    #[test]
    fn two_blocks_and_none_say_nothing() {
        let manifest = sample::manifest();
        assert_eq!(moved(&manifest, &[run(0, [8e9, 3e9]), run(1, [4e9, 3e9])]), [None; 2]);
        assert_eq!(moved(&manifest, &[Sample::new("write-heavy", "full").build()]), [None]);
    }

    #[test]
    fn slices_are_judged_host_by_host() {
        let mut manifest = sample::manifest();
        let slow = |block| Record { comparison: "read-heavy".to_owned(), ..run(block, [4e9, 1e9]) };
        let records: Vec<_> = (0..4).map(|block| run(block, [8e9, 3e9])).chain((0..4).map(slow)).collect();
        manifest.parts =
            vec![sample::part(1, &["write-heavy"], None), sample::part(2, &["read-heavy"], None)];
        assert_eq!(moved(&manifest, &records), [None; 8]);
    }

    #[test]
    fn schema_1_is_judged_by_its_medians() {
        let run = |(repetition, copy): (u32, f64)| {
            let sample =
                Sample::new("write-heavy", "full").repetition(repetition).with(|run| run.canary = None);
            sample.metric(MetricKey::CanaryCopy, copy).metric(MetricKey::CanarySocket, 3e9).build()
        };
        let speeds = [8e9, 8.1e9, 7.9e9, 4e9, 8.05e9];
        let records: Vec<_> = (0..).zip(speeds).map(run).collect();
        let moved = moved(&sample::manifest(), &records);
        let Some(CanaryShift { key: MetricKey::CanaryCopy, ratio }) = moved[3] else { panic!("{moved:?}") };
        assert!((ratio - 0.5).abs() < 1e-9);
        assert_eq!(moved.iter().flatten().count(), 1, "{moved:?}");
    }
}

//! The order of runs: randomised complete blocks. Each repetition runs every cell once; the cells of a comparison
//! stand side by side, so that slow drift of the host hits the engines that are compared alike, and their order is
//! drawn anew, so that none is always first.

use migbench_workloads::units::Seconds;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::plan::{Comparison, PlannedRun, RunKind};

/// Longest wait between the steady windows and the start of a migration: several of a guest's cycles. In whole
/// microseconds, which survive JSON unchanged.
const JITTER_US: u32 = 100_000;

/// All runs of these comparisons: one block of verification runs, then `repetitions` blocks of timed ones.
pub(crate) fn of(comparisons: &[Comparison], repetitions: u32, seed: u64) -> Vec<PlannedRun> {
    let mut order = Vec::new();
    for repetition in 0..=repetitions {
        let mut turns: Vec<usize> = (0..comparisons.len()).collect();
        turns.shuffle(&mut generator(seed, "order of comparisons", "", repetition));
        for comparison in turns {
            block(comparison, &comparisons[comparison], repetition, seed, &mut order);
        }
    }
    order
}

/// Each cell of one comparison once.
fn block(index: usize, comparison: &Comparison, repetition: u32, seed: u64, order: &mut Vec<PlannedRun>) {
    // Of the name and not of the position, so that a filtered suite gives its guests the same seeds.
    let mut guest = generator(seed, "guest", &comparison.name, repetition);
    let guest_seed = guest.random::<u64>() >> 11; // JSON readers keep 53 bits.
    let start_jitter = Seconds(f64::from(guest.random_range(0..JITTER_US)) / 1e6);
    let mut cells: Vec<usize> = (0..comparison.cells.len()).collect();
    cells.shuffle(&mut generator(seed, "order of cells", &comparison.name, repetition));
    order.extend(cells.into_iter().map(|cell| PlannedRun {
        comparison: index,
        cell,
        repetition,
        kind: if repetition == 0 { RunKind::Verification } else { RunKind::Timed },
        seed: guest_seed,
        start_jitter,
    }));
}

/// A generator for one purpose: independent of all others, the same on every machine.
fn generator(seed: u64, purpose: &str, name: &str, repetition: u32) -> Xoshiro256PlusPlus {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&repetition.to_le_bytes());
    hasher.update(purpose.as_bytes());
    hasher.update(&[0]);
    hasher.update(name.as_bytes());
    Xoshiro256PlusPlus::from_seed(*hasher.finalize().as_bytes())
}

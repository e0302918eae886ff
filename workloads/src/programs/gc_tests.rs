#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::programs::store_trials::{StoreTrial, content, endure};
use crate::settings::{self, Settings};

fn settings() -> Settings {
    Settings { program: settings::ProgramName::Gc, accesses: 4, ..Settings::BASE }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn endures(kind in 0..7_usize, batch in 1..40_u32, pages in 16..90_u64, seed: u64, bit: u64, age in 1..30_usize) {
        let settings = Settings { content: content(kind), accesses: batch, ..settings() };
        endure::<Gc>(&settings, pages, seed, bit, age);
    }
}

/// What each tree's own objects hold, by number of the object, and of which trees there are.
fn live(trial: &StoreTrial<Gc>) -> Vec<(u64, Vec<u64>)> {
    let memory = &trial.memory;
    let mut all = Vec::new();
    for slot in 0..trial.program.roots {
        let node = trial.program.resolve(memory, slot).unwrap();
        for child in 0..CHILDREN {
            let leaf = trial.program.resolve(memory, node + HEADER + child).unwrap();
            let words = (memory[leaf] >> 8) as usize;
            all.push((memory[node + 1], memory[leaf + 1..leaf + words].to_vec()));
        }
    }
    all
}

#[test]
fn a_collection_keeps_what_lives_and_frees_the_rest() {
    let mut trial = StoreTrial::<Gc>::new(&settings(), 300, 5);
    for round in 1..=5 {
        while trial.program.collection.is_none() {
            trial.operate();
        }
        let (before, full) = (live(&trial), trial.program.free - trial.program.base(trial.program.current));
        let (mut steps, from) = (0, trial.program.current);
        while trial.program.collection.is_some() {
            assert_eq!(trial.operate().operation, COLLECT);
            trial.check().unwrap();
            steps += 1;
        }
        assert_eq!((trial.program.collections(), trial.program.current), (round, 1 - from));
        assert!(steps > 3, "a collection is cut into steps: {steps}");
        assert!(live(&trial) == before, "what lives changed");
        let kept = trial.program.free - trial.program.base(trial.program.current);
        assert!(kept * 2 < full, "{kept} of {full} words live on");
    }
}

#[test]
fn a_collection_writes_the_other_space_and_marks_the_old_one() {
    let mut trial = StoreTrial::<Gc>::new(&settings(), 300, 5);
    while trial.program.collection.is_none() {
        trial.operate();
    }
    let (before, program) = (trial.memory.clone(), trial.program.clone());
    let mut counted = 0;
    while trial.program.collection.is_some() {
        counted += trial.operate().page_writes;
    }
    let written = trial.differing(&before);
    let to = program.base(1 - program.current);
    let copied = to..to + trial.program.free - trial.program.base(trial.program.current);
    assert!(
        (copied.start / 512..copied.end / 512).all(|page| written.contains(&page)),
        "all of the copies are written"
    );
    assert!(counted >= written.len() as u64, "{counted} counted, {} written", written.len());
}

#[test]
fn most_trees_die_young() {
    let mut trial = StoreTrial::<Gc>::new(&settings(), 300, 5);
    let roots = trial.program.roots as u64;
    while trial.program.trees < 20 * roots {
        trial.operate();
    }
    let trees = trial.program.trees;
    let old = live(&trial).iter().filter(|(tree, _)| tree + roots < trees).count() as f64;
    let share = old / (roots as f64 * CHILDREN as f64);
    // An old root is replaced by one tree in 8 x roots, a young one by nearly one in roots / 7.
    assert!((0.6..0.95).contains(&share), "{share} of the roots have an old tree");
}

use proptest::prelude::*;

use super::*;
use crate::programs::store_trials::{StoreTrial, content, endure};
use crate::settings::{self, Pattern, Settings};

fn settings(pattern: Pattern) -> Settings {
    Settings { program: settings::ProgramName::PageCache, pattern, accesses: 4, ..Settings::BASE }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn endures(
        uniform: bool,
        blocks in 1..40_u32,
        kind in 0..7_usize,
        pages in 16..90_u64,
        seed: u64,
        bit: u64,
        age in 1..30_usize,
    ) {
        let pattern = if uniform { Pattern::Uniform } else { Pattern::Zipf(0.99) };
        let settings = Settings { content: content(kind), accesses: blocks, ..settings(pattern) };
        endure::<PageCache>(&settings, pages, seed, bit, age);
    }
}

#[test]
fn a_file_that_is_read_from_end_to_end_is_never_in_the_cache() {
    let mut trial = StoreTrial::<PageCache>::new(&settings(Pattern::Sequential), 128, 3);
    // The beginning is there at first.
    for _ in 0..64 {
        trial.operate();
    }
    let hits = trial.program.hits;
    for _ in 0..1000 {
        let done = trial.operate();
        assert_eq!(done.operation, LOAD);
        // Four frames, and a page or two of the index and the table now and then.
        assert!((4..=8).contains(&done.page_writes), "{done:?}");
    }
    assert_eq!(trial.program.hits, hits);
}

#[test]
fn popular_blocks_stay() {
    let rates = [Pattern::Uniform, Pattern::Zipf(0.99)].map(|pattern| {
        let mut trial = StoreTrial::<PageCache>::new(&settings(pattern), 512, 3);
        for _ in 0..20_000 {
            trial.operate();
        }
        trial.program.hit_rate()
    });
    assert!((rates[0] - 0.25).abs() < 0.02, "a quarter of the file is cached: {rates:?}");
    assert!((0.65..0.9).contains(&rates[1]), "most requests are for popular blocks: {rates:?}");
}

#[test]
fn a_lookup_writes_nothing_but_marks() {
    let mut trial = StoreTrial::<PageCache>::new(&settings(Pattern::Zipf(0.99)), 512, 3);
    let mut lookups = 0;
    for _ in 0..2000 {
        let before = trial.memory.clone();
        if trial.operate().operation == LOOKUP {
            lookups += 1;
            let marks = trial.program.entry(0)..;
            assert!(trial.differing(&before).iter().all(|page| marks.contains(&(page * 512 + 511))));
        }
    }
    assert!(lookups > 1000);
}

#[test]
fn the_hand_spares_what_was_used() {
    let mut trial = StoreTrial::<PageCache>::new(&settings(Pattern::Uniform), 64, 3);
    let frames = trial.program.frames;
    // Use the first half, then load as many blocks as the other half has.
    for frame in 0..frames / 2 {
        trial.program.read(&mut trial.memory, frame, frame);
    }
    for block in 0..frames - frames / 2 {
        let frame = trial.program.load(&mut trial.memory, frames + block);
        assert_eq!(frame, frames / 2 + block);
    }
    trial.check().unwrap();
}

#[test]
fn a_stage_with_less_memory_reads_a_smaller_file() {
    let mut trial = StoreTrial::<PageCache>::new(&settings(Pattern::Uniform), 256, 3);
    trial.stage.pages = 32;
    for _ in 0..2000 {
        trial.operate();
    }
    // Half of the cache holds that file.
    let hits = trial.program.hits;
    for _ in 0..500 {
        assert_eq!(trial.operate().operation, LOOKUP);
    }
    assert_eq!(trial.program.hits, hits + 2000);
    trial.check().unwrap();
}

use proptest::prelude::*;

use super::*;
use crate::programs::store_trials::{StoreTrial, content, endure};
use crate::settings::{self, Pattern, Settings};

fn settings(program: settings::ProgramName) -> Settings {
    Settings { program, pattern: Pattern::Zipf(0.99), accesses: 4, ..Settings::BASE }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn endures(modify: bool, kind in 0..7_usize, pages in 16..90_u64, seed: u64, bit: u64, age in 1..30_usize) {
        let program = if modify { settings::ProgramName::KvModify } else { settings::ProgramName::Kv };
        let settings = Settings { content: content(kind), reads: 0.3, ..settings(program) };
        endure::<Kv>(&settings, pages, seed, bit, age);
    }

    #[test]
    fn every_size_has_records_and_fits(pages in 16..100_000_u64) {
        let records = records(pages);
        let used = slots(records) + blocks(records) * WORDS_OF_ALL;
        prop_assert!(records >= 6 && used <= pages * 512);
        // Of a large part hardly anything is left over.
        prop_assert!(pages < 2000 || used * 50 > pages * 512 * 49);
    }

    #[test]
    fn a_length_is_of_its_class(class in 0..CLASSES, draw: u64) {
        let trial = StoreTrial::<Kv>::new(&settings(settings::ProgramName::Kv), 16, 1);
        prop_assert_eq!(class_of(trial.program.length(class, draw)), class);
    }
}

#[test]
fn updates_go_in_place_mostly_and_elsewhere_now_and_then() {
    let settings = Settings { reads: 0.0, pattern: Pattern::Uniform, ..settings(settings::ProgramName::Kv) };
    let mut trial = StoreTrial::<Kv>::new(&settings, 512, 3);
    for _ in 0..2000 {
        assert_eq!(trial.operate().operation, UPDATE);
    }
    assert_eq!(trial.program.versions, 8000);
    // One in eight draws a length, of another class in five of six.
    let moved = trial.program.moved();
    assert!((8000 / 12..8000 / 8).contains(&moved), "{moved} of 8000");
}

#[test]
fn reads_write_nothing() {
    let settings = Settings { reads: 1.0, ..settings(settings::ProgramName::Kv) };
    let mut trial = StoreTrial::<Kv>::new(&settings, 64, 3);
    let before = trial.memory.clone();
    for _ in 0..1000 {
        assert_eq!(trial.operate(), Done { operation: READ, page_writes: 0 });
    }
    assert!(trial.differing(&before).is_empty());
}

#[test]
fn a_read_of_an_unsound_record_is_found_by_the_check() {
    let settings =
        Settings { reads: 1.0, pattern: Pattern::Sequential, ..settings(settings::ProgramName::Kv) };
    let mut trial = StoreTrial::<Kv>::new(&settings, 64, 3);
    let (_, at) = trial.program.find(&trial.memory, trial.program.key(2)).unwrap();
    trial.memory[at + HEADER] ^= 1;
    trial.operate();
    trial.memory[at + HEADER] ^= 1;
    assert_eq!(trial.check(), Err(Wrong::state(0, 1, 0)));
}

#[test]
fn a_modification_changes_a_field_and_an_update_the_value() {
    for (program, least, most) in [
        (settings::ProgramName::KvModify, 1, FIELD as u64 + 2),
        (settings::ProgramName::Kv, SMALLEST as u64 + 2, 256 + 2),
    ] {
        let settings = Settings { reads: 0.0, accesses: 1, pattern: Pattern::Uniform, ..settings(program) };
        let mut trial = StoreTrial::<Kv>::new(&settings, 256, 5);
        let mut in_place = 0;
        for _ in 0..500 {
            let (before, moved) = (trial.memory.clone(), trial.program.moved());
            let lengths = trial.program.versions;
            trial.operate();
            assert_eq!(trial.program.versions, lengths + 1);
            let changed = trial.memory.iter().zip(&before).filter(|(a, b)| a != b).count() as u64;
            if trial.program.moved() == moved {
                in_place += 1;
                assert!(changed <= 256 + 2, "{changed} words");
                // A length drawn anew can make a modification longer.
                assert!((least..=most).contains(&changed) || program == settings::ProgramName::KvModify);
            }
        }
        assert!(in_place > 400);
    }
}

#[test]
fn popular_keys_take_the_share_that_zipf_says() {
    let settings = Settings { reads: 0.0, accesses: 1, ..settings(settings::ProgramName::Kv) };
    let mut trial = StoreTrial::<Kv>::new(&settings, 512, 9);
    for _ in 0..20_000 {
        trial.operate();
    }
    let records = trial.program.records;
    let mut versions: Vec<u64> = (0..records)
        .map(|number| {
            let (_, at) = trial.program.find(&trial.memory, trial.program.key(number)).unwrap();
            trial.memory[at + 1] >> 16
        })
        .collect();
    versions.sort_unstable();
    let zeta: f64 = (1..=records).map(|k| (k as f64).powf(-0.99)).sum();
    let top = *versions.last().unwrap() as f64 / 20_000.0;
    assert!((top * zeta - 1.0).abs() < 0.1, "{top} of the requests go to the most popular key");
}

#[test]
fn a_stage_with_less_memory_goes_to_fewer_keys() {
    let settings = Settings { reads: 0.0, pattern: Pattern::Uniform, ..settings(settings::ProgramName::Kv) };
    let mut trial = StoreTrial::<Kv>::new(&settings, 256, 3);
    trial.stage.pages = 64;
    for _ in 0..2000 {
        trial.operate();
    }
    let records = trial.program.records;
    let written = (0..records).filter(|&number| {
        let (_, at) = trial.program.find(&trial.memory, trial.program.key(number)).unwrap();
        trial.memory[at + 1] >> 16 > 0
    });
    assert!(written.eq(0..records / 4), "a quarter of the keys, and all of them");
    trial.check().unwrap();
}

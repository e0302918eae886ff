use proptest::prelude::*;

use super::*;
use crate::programs::store_trials::{StoreTrial, content, endure};
use crate::settings::{self, Settings};

fn settings() -> Settings {
    Settings { program: settings::ProgramName::Log, accesses: 4, ..Settings::BASE }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn endures(kind in 0..7_usize, batch in 1..40_u32, pages in 16..90_u64, seed: u64, bit: u64, age in 1..30_usize) {
        let settings = Settings { content: content(kind), accesses: batch, ..settings() };
        endure::<Log>(&settings, pages, seed, bit, age);
    }
}

#[test]
fn a_checkpoint_rewrites_the_table_and_moves_the_window() {
    let mut trial = StoreTrial::<Log>::new(&settings(), 200, 5);
    let table = trial.program.table;
    for number in 1..=20 {
        while trial.program.cursor == table {
            assert_eq!(trial.operate().operation, APPEND);
        }
        let (before, head, last) = (trial.memory.clone(), trial.program.head, trial.program.last);
        let mut steps = 0;
        while trial.program.cursor < table {
            assert_eq!(
                trial.operate(),
                Done { operation: CHECKPOINT, page_writes: STEP.min(table - steps * STEP) }
            );
            trial.check().unwrap();
            steps += 1;
        }
        assert_eq!(steps, table.div_ceil(STEP));
        assert_eq!(trial.differing(&before), (0..table as usize).collect::<Vec<_>>());
        assert_eq!(trial.program.checkpoints(), number);
        assert_eq!((trial.program.tail, trial.program.last), (last, head));
    }
}

#[test]
fn the_window_moves_round_and_no_record_is_overwritten_too_early() {
    let mut trial = StoreTrial::<Log>::new(&settings(), 64, 5);
    let (mut rounds, mut at) = (0, 0);
    while rounds < 30 {
        trial.operate();
        trial.check().unwrap();
        rounds += u32::from(trial.program.head.at < at);
        at = trial.program.head.at;
    }
}

#[test]
fn page_writes_are_the_pages_that_a_tracker_finds() {
    // Until the window comes round, no page is written twice but in one run.
    let mut trial = StoreTrial::<Log>::new(&settings(), 2000, 5);
    let before = trial.memory.clone();
    let mut counted = 0;
    while trial.program.checkpoints() < 2 {
        counted += trial.operate().page_writes;
    }
    // The first checkpoint cuts the run at the head: that page is counted again after it.
    assert_eq!(counted, trial.differing(&before).len() as u64 + 1);
}

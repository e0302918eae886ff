//! That programs read the settings that they declare, and no others.

use super::*;
use crate::params::MachineParams;
use crate::settings::{Content, PARTICULAR, PageChange, Pattern, ProgramName as Word, Settings};
use crate::units::Bytes;

const PAGES: usize = 128;
const OPERATIONS: usize = 1500;

fn base(program: Word) -> Settings {
    Settings {
        program,
        working_set: Bytes(PAGES as u64 * 4096),
        accesses: 8,
        writes: 2,
        change: PageChange { bytes: 256, pieces: 4, moves: true },
        content: Content::Random,
        ..Settings::BASE
    }
}

/// With another value of that setting.
fn with_other(name: &str, mut settings: Settings) -> Settings {
    match name {
        "reads" => settings.reads = 0.9,
        "pattern" => settings.pattern = Pattern::Sequential,
        "accesses" => settings.accesses = 5,
        "writes" => settings.writes = 4,
        "change.bytes" => settings.change.bytes = 512,
        "change.pieces" => settings.change.pieces = 8,
        "change.moves" => settings.change.moves = false,
        "content" => settings.content = Content::Records,
        other => panic!("what is another value of {other}?"),
    }
    settings
}

/// What a guest with these settings holds after some operations, and what those were.
fn outcome(settings: &Settings) -> (Vec<u8>, Vec<Done>) {
    fn run<P: Program>(
        settings: &Settings,
        mut memory: Vec<P::MemoryUnit>,
    ) -> (Vec<P::MemoryUnit>, Vec<Done>) {
        let machine =
            MachineParams { vcpus: 1, tsc_khz: 1_000_000, seed: 5, link: None, timing: false, telemetry: 0 };
        let params = Params::new(settings, &machine);
        let mut program = P::start(&PartContext { params: &params, part: 0, first_page: 0 }, &mut memory);
        let done = (0..OPERATIONS).map(|_| program.operate(&params.stages[0], &mut memory)).collect();
        (memory, done)
    }
    fn words<P: Program<MemoryUnit = u64>>(settings: &Settings) -> (Vec<u8>, Vec<Done>) {
        let (memory, done) = run::<P>(settings, vec![0; PAGES * 512]);
        (memory.iter().flat_map(|word| word.to_le_bytes()).collect(), done)
    }
    match settings.program {
        Word::Parametric => {
            let (memory, done) = run::<Parametric>(settings, vec![[0; 4096]; PAGES]);
            (memory.concat(), done)
        }
        Word::Kv | Word::KvModify => words::<Kv>(settings),
        Word::Analytics => words::<Analytics>(settings),
        Word::Sort => words::<Sort>(settings),
        Word::Matmul => words::<Matmul>(settings),
        Word::Stream => words::<Stream>(settings),
        Word::Log => words::<Log>(settings),
        Word::Gc => words::<Gc>(settings),
        Word::PageCache => words::<PageCache>(settings),
        Word::Memstress => words::<Memstress>(settings),
        Word::XbzrleDoc => words::<XbzrleDoc>(settings),
        Word::Guestperf => words::<Guestperf>(settings),
    }
}

#[test]
fn programs_read_what_they_declare_and_nothing_else() {
    for (word, program) in Word::ALL {
        let usual = outcome(&base(*program));
        for setting in PARTICULAR {
            let differs = outcome(&with_other(setting, base(*program))) != usual;
            assert_eq!(differs, program.reads(setting), "{word}, {setting}");
        }
    }
}

#[test]
fn every_program_has_the_other_settings() {
    assert!(
        Word::Matmul.reads("working_set") && Word::Matmul.reads("load") && !Word::Matmul.reads("content")
    );
}

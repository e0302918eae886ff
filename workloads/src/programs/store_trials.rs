//! Trials that every program over words goes through on the host: it stays sound, and what is not its own doing is found.
#![allow(clippy::unwrap_used)]

use super::{Done, PartContext, Program};
use crate::abi::{Params, WorkloadStage};
use crate::params::MachineParams;
use crate::settings::{Content, Settings};
use crate::units::Bytes;

/// One part of a guest's memory, with a program at work in it.
#[derive(Debug, Clone)]
pub struct StoreTrial<P> {
    pub program: P,
    pub memory: Vec<u64>,
    pub stage: WorkloadStage,
}

/// The parameters of a guest of one part.
pub fn params(settings: &Settings, pages: u64, seed: u64) -> Params {
    let settings = Settings { working_set: Bytes(pages * 4096), ..settings.clone() };
    let machine =
        MachineParams { vcpus: 1, tsc_khz: 1_000_000, seed, link: None, timing: false, telemetry: 0 };
    Params::new(&settings, &machine)
}

impl<P: Program<MemoryUnit = u64> + Clone> StoreTrial<P> {
    pub fn new(settings: &Settings, pages: u64, seed: u64) -> Self {
        let params = params(settings, pages, seed);
        // What is there before must not matter.
        let mut memory = vec![seed | 1; usize::try_from(pages).unwrap() * 512];
        let program = P::start(&PartContext { params: &params, part: 0, first_page: 0 }, &mut memory);
        Self { program, memory, stage: params.stages[0] }
    }

    pub fn operate(&mut self) -> Done {
        self.program.operate(&self.stage, &mut self.memory)
    }

    pub fn check(&self) -> Result<(), super::Wrong> {
        self.program.check(&self.memory)
    }

    /// Pages that differ from `before`.
    pub fn differing(&self, before: &[u64]) -> Vec<usize> {
        let pages = self.memory.chunks(512).zip(before.chunks(512)).enumerate();
        pages.filter(|(_, (now, then))| now != then).map(|(page, _)| page).collect()
    }
}

/// Operations in a trial.
const OPERATIONS: usize = 400;

/// Runs a program and fails unless it stays sound, counts the pages it writes, is the same again, finds a flipped bit
/// anywhere (`bit` of all of memory's), and finds every page that is put back to what it was `age` operations ago.
pub fn endure<P: Program<MemoryUnit = u64> + Clone>(
    settings: &Settings,
    pages: u64,
    seed: u64,
    bit: u64,
    age: usize,
) {
    let mut trial = StoreTrial::<P>::new(settings, pages, seed);
    let mut again = trial.clone();
    trial.check().expect("sound at the start");
    let (mut counted, mut changed, mut uncounted, mut written) = (0, 0, 0, Vec::new());
    let mut old = trial.clone();
    for operation in 0..OPERATIONS {
        if operation + age == OPERATIONS {
            old = trial.clone();
        }
        let before = trial.memory.clone();
        let done = trial.operate();
        // A run's pages may have been counted with the operation before.
        let differing = trial.differing(&before);
        let fresh = differing.iter().filter(|page| !written.contains(*page)).count() as u64;
        uncounted += fresh.saturating_sub(done.page_writes);
        counted += done.page_writes;
        changed += differing.len() as u64;
        written = differing;
        assert_eq!(again.operate(), done, "the same again");
        if operation % 16 == 0 {
            trial.check().expect("sound on the way");
        }
    }
    assert!(trial.memory == again.memory, "the same seed, another memory");
    // Other contents store what was there already. This one does it now and then: an operation puts back what was there before it,
    // or stores into a page what stands there, and the next one changes it in the same run.
    if settings.content == Content::Random {
        let few = changed / 100 + 1;
        assert!(counted <= changed + few, "{counted} page writes counted, {changed} made");
        assert!(uncounted <= few, "{uncounted} of {changed} page writes were not counted");
    }
    trial.check().expect("sound at the end");

    let at = bit % (trial.memory.len() as u64 * 64);
    let word = usize::try_from(at / 64).unwrap();
    trial.memory[word] ^= 1 << (at % 64);
    trial.check().expect_err("a flipped bit");
    trial.memory[word] ^= 1 << (at % 64);

    for page in trial.differing(&old.memory) {
        let words = page * 512..(page + 1) * 512;
        let current = trial.memory[words.clone()].to_vec();
        trial.memory[words.clone()].copy_from_slice(&old.memory[words.clone()]);
        trial.check().expect_err("a stale page");
        trial.memory[words].copy_from_slice(&current);
    }
    // The other way round: all of memory is there but the state is old.
    if !trial.differing(&old.memory).is_empty() {
        old.program.check(&trial.memory).expect_err("a stale state");
    }
    trial.check().expect("sound as it was");
}

/// Every content, to choose from.
pub fn content(n: usize) -> Content {
    Content::ALL[n % Content::ALL.len()].1
}

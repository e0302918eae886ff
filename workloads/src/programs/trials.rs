//! What every program of a guest must stand, on the host over a plain buffer: that it finds no fault with itself, and
//! every fault that is made.

use std::fmt::Debug;
use std::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult};

use super::{Done, PartContext, Program, Wrong};
use crate::abi::{Params, WorkloadStage};
use crate::params::MachineParams;
use crate::random::GOLDEN;
use crate::settings::{Content, Settings};
use crate::units::Bytes;

/// Bits to flip, one after another, in each trial.
const FLIPS: usize = 16;
/// Words of a page.
pub const PAGE: usize = 512;

/// A guest, and faults to make.
#[derive(Debug, Clone)]
pub struct Trial {
    pub seed: u64,
    pub pages: usize,
    /// Which of several equal parts this one is.
    pub part: u64,
    pub content: Content,
    /// Operations before the first fault.
    pub operations: usize,
    /// Operations by which a stale page is late.
    pub late: usize,
    /// The first bit to flip, counted round and round.
    pub bit: usize,
}

/// A program at work.
pub struct TrialGuest<P> {
    pub program: P,
    pub memory: Vec<u64>,
    pub done: Vec<Done>,
    stage: WorkloadStage,
}

/// Trials of parts of so many pages, after so many operations.
pub fn trials(pages: Range<usize>, operations: Range<usize>) -> impl Strategy<Value = Trial> {
    let contents: Vec<Content> = Content::ALL.iter().map(|(_, content)| *content).collect();
    (
        any::<u64>(),
        pages,
        0..3_u64,
        proptest::sample::select(contents),
        operations,
        1..40_usize,
        any::<usize>(),
    )
        .prop_map(|(seed, pages, part, content, operations, late, bit)| Trial {
            seed,
            pages,
            part,
            content,
            operations,
            late,
            bit,
        })
}

/// Cases enough for faults at many places, and few enough that memory can be large.
pub fn few() -> Config {
    Config { cases: 48, failure_persistence: None, ..Config::default() }
}

/// The bytes of words.
pub fn bodies(words: &[u64]) -> impl Iterator<Item = u8> {
    words.iter().flat_map(|word| word.to_le_bytes())
}

/// Numbers of the pages that differ.
pub fn differing(before: &[u64], after: &[u64]) -> Vec<usize> {
    let pages = before.chunks(PAGE).zip(after.chunks(PAGE)).enumerate();
    pages.filter(|(_, (before, after))| before != after).map(|(page, _)| page).collect()
}

impl Trial {
    /// One to start from.
    pub fn small() -> Self {
        Self { seed: 1, pages: 64, part: 0, content: Content::Random, operations: 0, late: 1, bit: 0 }
    }

    fn params(&self) -> Params {
        let working_set = Bytes(self.pages as u64 * 3 * 4096);
        let settings = Settings { working_set, content: self.content, ..Settings::BASE };
        let machine = MachineParams {
            vcpus: 3,
            tsc_khz: 1_000_000,
            seed: self.seed,
            link: None,
            timing: false,
            telemetry: 0,
        };
        Params::new(&settings, &machine)
    }

    /// The guest before its first operation.
    pub fn guest<P: Program<MemoryUnit = u64>>(&self) -> TrialGuest<P> {
        let params = self.params();
        // Memory may hold anything before.
        let mut memory = vec![0xdead_beef_dead_beef; self.pages * PAGE];
        let place =
            PartContext { params: &params, part: self.part, first_page: self.part * self.pages as u64 };
        let program = P::start(&place, &mut memory);
        TrialGuest { program, memory, done: Vec::new(), stage: params.stages[0] }
    }

    /// A program finds no fault with itself, is the same each time, and finds a flipped bit and a stale page.
    pub fn stands<P: Program<MemoryUnit = u64> + Debug>(&self) -> TestCaseResult {
        let mut guest = self.guest::<P>();
        prop_assert_eq!(guest.check(), Ok(()), "at the start");
        let mut again = self.guest::<P>();
        for _ in 0..self.operations {
            guest.operate();
            again.operate();
        }
        prop_assert_eq!(guest.check(), Ok(()));
        prop_assert!(guest.memory == again.memory && guest.done == again.done, "not the same each time");

        for n in 0..FLIPS {
            let bit = self.bit.wrapping_add(n.wrapping_mul(GOLDEN as usize)) % (guest.memory.len() * 64);
            guest.memory[bit / 64] ^= 1 << (bit % 64);
            prop_assert!(guest.check().is_err(), "bit {} missed", bit);
            guest.memory[bit / 64] ^= 1 << (bit % 64);
        }

        let before = guest.memory.clone();
        for _ in 0..self.late {
            guest.operate();
            prop_assert_eq!(guest.check(), Ok(()));
        }
        for page in differing(&before, &guest.memory) {
            let place = page * PAGE..(page + 1) * PAGE;
            let current = guest.memory[place.clone()].to_vec();
            guest.memory[place.clone()].copy_from_slice(&before[place.clone()]);
            prop_assert!(guest.check().is_err(), "stale page {} missed", page);
            guest.memory[place].copy_from_slice(&current);
        }
        prop_assert_eq!(guest.check(), Ok(()));
        Ok(())
    }
}

impl<P: Program<MemoryUnit = u64>> TrialGuest<P> {
    /// One operation.
    pub fn operate(&mut self) -> Done {
        let done = self.program.operate(&self.stage, &mut self.memory);
        self.done.push(done);
        done
    }

    /// Operations until `more` says no.
    pub fn operate_while(&mut self, more: impl Fn(&P) -> bool) {
        let most = self.done.len() + 10_000_000;
        while more(&self.program) {
            self.operate();
            assert!(self.done.len() < most, "it does not come to an end");
        }
    }

    /// What the program says.
    pub fn check(&self) -> Result<(), Wrong> {
        self.program.check(&self.memory)
    }
}

//! The parametric kernel: each operation is a batch of accesses to pages chosen by pattern, some of which write.

use core::hint::black_box;

use super::{Done, PartContext, Program, Wrong};
use crate::abi::{BAD_WRITES, CONTENT_SAME, WorkloadStage};
use crate::pages::{Page, PageRules};
use crate::random::{Chooser, Random};

/// An operation that only reads.
pub const READ: usize = 0;
/// An operation that writes.
pub const WRITE: usize = 1;

/// State over one part of the pages.
#[derive(Debug, Clone)]
pub struct Parametric {
    rules: PageRules,
    first_page: u64,
    accesses: u32,
    counts: bool,
    reads: Chooser,
    writes: Chooser,
    random: Random,
    page_writes: u64,
    sink: u64,
}

impl Program for Parametric {
    type MemoryUnit = Page;

    fn start(place: &PartContext<'_>, memory: &mut [Page]) -> Self {
        let params = place.params;
        let rules = PageRules::new(params);
        for (index, page) in (place.first_page..).zip(memory.iter_mut()) {
            rules.fill(index, page);
        }
        Self {
            rules,
            first_page: place.first_page,
            accesses: params.accesses,
            counts: params.content != CONTENT_SAME,
            reads: Chooser::new(params, memory.len() as u64),
            writes: Chooser::new(params, memory.len() as u64),
            random: Random::new(params.seed ^ ((place.part + 1) << 56)),
            page_writes: 0,
            sink: 0,
        }
    }

    #[inline(always)]
    fn operate(&mut self, stage: &WorkloadStage, memory: &mut [Page]) -> Done {
        let limit = stage.pages.min(memory.len() as u64);
        let writing = (self.random.next() >> 32) >= stage.reads_q32;
        let mut reads = self.accesses;
        let mut page_writes = 0;
        if writing {
            reads = reads.saturating_sub(stage.writes);
            for _ in 0..stage.writes {
                let at = within(self.writes.next(&mut self.random), limit);
                self.rules.write(self.first_page + at, &mut memory[at as usize]);
            }
            page_writes = u64::from(stage.writes);
            self.page_writes += page_writes;
        }
        for _ in 0..reads {
            let at = within(self.reads.next(&mut self.random), limit);
            let word = (self.random.next() % 512) as usize * 8;
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&memory[at as usize][word..word + 8]);
            self.sink = self.sink.wrapping_add(u64::from_le_bytes(bytes));
        }
        black_box(self.sink);
        Done { operation: if writing { WRITE } else { READ }, page_writes }
    }

    fn check(&self, memory: &[Page]) -> Result<(), Wrong> {
        let mut scratch: Page = [0; 4096];
        let mut counted = 0_u64;
        for (at, page) in (0_u64..).zip(memory) {
            self.rules
                .validate(self.first_page + at, page, &mut scratch)
                .map_err(|offset| Wrong::content(at * 4096 + offset as u64))?;
            counted = counted.wrapping_add(PageRules::count(page));
        }
        // With `same` content the counter does not count, and a lost write would have changed nothing.
        if self.counts && counted != self.page_writes {
            return Err(Wrong { reason: BAD_WRITES, offset: 0, found: counted, expected: self.page_writes });
        }
        Ok(())
    }
}

/// A page of the stage's own range: choices run over the whole part.
#[inline(always)]
fn within(page: u64, limit: u64) -> u64 {
    if page < limit { page } else { page % limit }
}

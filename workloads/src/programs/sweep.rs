//! Programs of others that go over memory again and again, page by page in address order: `memstress`, `xbzrle-doc` and
//! `guestperf`. All that they write is a function of how often a page was swept, so a check compares every byte.

use core::marker::PhantomData;

use super::{Done, PartContext, Program, Wrong};
use crate::abi::WorkloadStage;
use crate::random::{GOLDEN, mix};

/// Words of a page.
const PAGE: usize = 512;

/// What one pass does to a page.
pub trait Touch {
    /// Pages of one operation.
    const PAGES: usize;

    /// Changes a page that was touched before or not; `seed` is the part's.
    fn touch(seed: u64, page: &mut [u64]);

    /// Word `at` of a page that was touched `times` times.
    fn word(seed: u64, at: usize, times: u64) -> u64;
}

/// A constant stored to the first 8 bytes of each page, as `memstress` of the kernel's KVM selftests does. Pages hold it
/// before the first operation, since the selftest populates memory in a pass of its own before it measures.
#[derive(Debug, Clone, Copy)]
pub struct Constant;

impl Touch for Constant {
    // Under 2 us where nothing is tracked; under tracking each page is a fault, and more of them would blur blackout.
    const PAGES: usize = 64;

    fn touch(_: u64, page: &mut [u64]) {
        page[0] = 0x0123_4567_89ab_cdef;
    }

    fn word(_: u64, at: usize, _: u64) -> u64 {
        if at == 0 { 0x0123_4567_89ab_cdef } else { 0 }
    }
}

/// One byte incremented in each KiB of memory that was zero, as the load generator in QEMU's description of XBZRLE does.
#[derive(Debug, Clone, Copy)]
pub struct OneByte;

impl Touch for OneByte {
    const PAGES: usize = 64;

    fn touch(_: u64, page: &mut [u64]) {
        for word in page.iter_mut().step_by(128) {
            *word = Self::byte(*word + 1);
        }
    }

    fn word(_: u64, at: usize, times: u64) -> u64 {
        if at.is_multiple_of(128) { Self::byte(times) } else { 0 }
    }
}

impl OneByte {
    const fn byte(count: u64) -> u64 {
        count & 0xff
    }
}

/// Every word XORed with one page of random data, as `stress` of QEMU's guestperf does: the same page of data for ever,
/// so that every second touch restores what was there.
#[derive(Debug, Clone, Copy)]
pub struct Xor;

impl Touch for Xor {
    const PAGES: usize = 4;

    fn touch(seed: u64, page: &mut [u64]) {
        for (at, word) in page.iter_mut().enumerate() {
            *word ^= Self::data(seed, at);
        }
    }

    fn word(seed: u64, at: usize, times: u64) -> u64 {
        // What stress.c fills its memory with.
        let first = 0xfefe_fefe_fefe_fefe;
        if times.is_multiple_of(2) { first } else { first ^ Self::data(seed, at) }
    }
}

impl Xor {
    fn data(seed: u64, at: usize) -> u64 {
        mix(seed ^ (at as u64).wrapping_mul(GOLDEN))
    }
}

/// A program that sweeps over its memory with `T`.
#[derive(Debug, Clone)]
pub struct Sweep<T> {
    seed: u64,
    /// Passes that are over.
    pass: u64,
    /// The page that comes next in this one.
    next: usize,
    touch: PhantomData<T>,
}

/// The kernel selftests' memory stress.
pub type Memstress = Sweep<Constant>;
/// The load generator of QEMU's XBZRLE document.
pub type XbzrleDoc = Sweep<OneByte>;
/// The stress of QEMU's guestperf.
pub type Guestperf = Sweep<Xor>;

impl<T: Touch> Program for Sweep<T> {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        // Each vCPU of stress.c draws data of its own.
        let seed = mix(place.params.seed ^ (place.part + 1).wrapping_mul(GOLDEN));
        for page in memory.chunks_exact_mut(PAGE) {
            for (at, word) in page.iter_mut().enumerate() {
                *word = T::word(seed, at, 0);
            }
        }
        Self { seed, pass: 0, next: 0, touch: PhantomData }
    }

    #[inline(always)]
    fn operate(&mut self, _: &WorkloadStage, memory: &mut [u64]) -> Done {
        let pages = memory.len() / PAGE;
        let end = (self.next + T::PAGES).min(pages);
        for page in memory[self.next * PAGE..end * PAGE].chunks_exact_mut(PAGE) {
            T::touch(self.seed, page);
        }
        let page_writes = (end - self.next) as u64;
        self.next = end;
        if end == pages {
            (self.next, self.pass) = (0, self.pass + 1);
        }
        Done { operation: 0, page_writes }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        for (number, page) in memory.chunks_exact(PAGE).enumerate() {
            let times = self.pass + u64::from(number < self.next);
            for (at, &word) in page.iter().enumerate() {
                let expected = T::word(self.seed, at, times);
                if word != expected {
                    return Err(Wrong::word(number * PAGE + at, word, expected));
                }
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(guest)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::programs::trials::{self, Trial, bodies};

    proptest! {
        #![proptest_config(trials::few())]

        #[test]
        fn memstress_stands_its_trials(trial in trials::trials(1..40, 0..30)) {
            trial.stands::<Memstress>()?;
        }

        #[test]
        fn xbzrle_doc_stands_its_trials(trial in trials::trials(1..40, 0..30)) {
            trial.stands::<XbzrleDoc>()?;
        }

        #[test]
        fn guestperf_stands_its_trials(trial in trials::trials(1..40, 0..300)) {
            trial.stands::<Guestperf>()?;
        }
    }

    #[test]
    fn pages_that_are_touched_are_counted() {
        for pages in [1, 7, 64, 65, 130] {
            let mut guest = Trial { pages, ..Trial::small() }.guest::<Guestperf>();
            let mut written = 0;
            for _ in 0..200 {
                let before = guest.memory.clone();
                let done = guest.operate();
                assert_eq!(done.page_writes, trials::differing(&before, &guest.memory).len() as u64);
                written += done.page_writes;
            }
            assert_eq!(guest.program.pass * pages as u64 + guest.program.next as u64, written);
        }
    }

    /// Bytes of a page that `passes` passes change, of 4096.
    fn changed<T: Touch>(passes: u64) -> usize {
        let mut guest = Trial { pages: 64, ..Trial::small() }.guest::<Sweep<T>>();
        guest.operate_while(|program: &Sweep<T>| program.pass < 3);
        let before = guest.memory[..PAGE].to_vec();
        guest.operate_while(|program: &Sweep<T>| program.pass < 3 + passes);
        bodies(&before).zip(bodies(&guest.memory[..PAGE])).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn each_is_what_its_original_is_to_an_encoder() {
        for passes in 1..4 {
            assert_eq!(changed::<Constant>(passes), 0);
            assert_eq!(changed::<OneByte>(passes), 4);
        }
        // Of random bytes one in 256 is zero and changes nothing.
        assert!(changed::<Xor>(1) > 4000);
        assert_eq!(changed::<Xor>(2), 0);
        assert!(changed::<Xor>(3) > 4000);
    }

    #[test]
    fn a_byte_goes_round() {
        let mut guest = Trial { pages: 1, ..Trial::small() }.guest::<XbzrleDoc>();
        for _ in 0..256 {
            guest.operate();
        }
        assert!(guest.memory.iter().all(|&word| word == 0), "no carry into the next byte");
        guest.operate();
        guest.check().unwrap();
    }
}

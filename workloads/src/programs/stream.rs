//! The triad of STREAM (McCalpin): `a = b + 3 c` over three arrays of doubles, each a third of memory. After each pass the
//! arrays change roles, so that every pass writes new values; after ten passes, STREAM's own count, the next run
//! begins with new values in two of the arrays. All values are whole numbers under 2^53, so that a check can compute them.

use super::{Done, PartContext, Program, Wrong};
use crate::abi::WorkloadStage;
use crate::random::{GOLDEN, mix};

/// `a = b + 3 c` over eight pages of `a`.
pub const TRIAD: usize = 0;
/// New values in eight pages of `b` or `c`.
pub const INITIALISE: usize = 1;

/// Words of a page.
const PAGE: usize = 512;
/// Pages of one operation: with both sources 96 KiB, too much for a first-level cache.
const PAGES: usize = 8;
/// Steps of a run: two arrays are initialised, then ten passes of the triad.
const STEPS: u64 = 12;
/// STREAM's scalar.
const SCALAR: u64 = 3;

/// State over one part.
#[derive(Debug, Clone)]
pub struct Stream {
    seed: u64,
    /// Which run, from 1; before the first the arrays hold the values of run 0 at its end.
    run: u64,
    /// The step of it.
    step: u64,
    /// The page of the step's array that comes next.
    next: usize,
}

/// The array that a step writes.
const fn target(step: u64) -> usize {
    // The first triad writes array 0, from the two that were initialised.
    [1, 2, 0][(step % 3) as usize]
}

/// What the values after `step` are made of: multiples of the two initial values.
fn factors(step: u64) -> (u64, u64) {
    let (mut before, mut last) = ((1, 0), (0, 1));
    if step == 0 {
        return before;
    }
    for _ in 1..step {
        (before, last) = (last, (before.0 + SCALAR * last.0, before.1 + SCALAR * last.1));
    }
    last
}

impl Stream {
    /// An initial value: 30 bits, so that the last pass of a run stays under 2^49.
    fn initial(&self, run: u64, array: u64, at: usize) -> u64 {
        let id = (run << 1 | array).wrapping_mul(GOLDEN) ^ self.seed;
        mix(mix(id) ^ (at as u64).wrapping_mul(GOLDEN)) >> 34
    }

    /// Element `at` of the array that `step` of `run` wrote.
    #[allow(clippy::cast_precision_loss)]
    fn value(&self, run: u64, (b, c): (u64, u64), at: usize) -> u64 {
        let initial = |factor, array| if factor == 0 { 0 } else { factor * self.initial(run, array, at) };
        ((initial(b, 0) + initial(c, 1)) as f64).to_bits()
    }

    /// Run and step that last wrote page `page` of `array`.
    fn written(&self, array: usize, page: usize) -> (u64, u64) {
        if array == target(self.step) && page < self.next {
            return (self.run, self.step);
        }
        // The last of the steps before that wrote the array.
        let now = self.run * STEPS + self.step;
        let back = (1..=3).find(|back| target((now - back) % STEPS) == array).unwrap_or(3);
        ((now - back) / STEPS, (now - back) % STEPS)
    }
}

/// What pages hold that are left over by a division into three.
fn left_over(seed: u64, at: usize) -> u64 {
    mix(!seed ^ (at as u64).wrapping_mul(GOLDEN))
}

impl Program for Stream {
    type MemoryUnit = u64;

    fn start(place: &PartContext<'_>, memory: &mut [u64]) -> Self {
        let seed = mix(place.params.seed ^ (place.part + 1).wrapping_mul(GOLDEN));
        let new = Self { seed, run: 1, step: 0, next: 0 };
        let length = memory.len() / PAGE / 3 * PAGE;
        for array in 0..3 {
            let (run, step) = new.written(array, 0);
            let factors = factors(step);
            for (at, word) in memory[array * length..(array + 1) * length].iter_mut().enumerate() {
                *word = new.value(run, factors, at);
            }
        }
        for (at, word) in memory[3 * length..].iter_mut().enumerate() {
            *word = left_over(seed, at);
        }
        new
    }

    #[inline(always)]
    fn operate(&mut self, _: &WorkloadStage, memory: &mut [u64]) -> Done {
        let pages = memory.len() / PAGE / 3;
        let end = (self.next + PAGES).min(pages);
        let (low, high) = (self.next * PAGE, end * PAGE);
        let operation = if self.step < 2 {
            let first = target(self.step) * pages * PAGE;
            let factors = factors(self.step);
            for (at, word) in (low..).zip(&mut memory[first + low..first + high]) {
                *word = self.value(self.run, factors, at);
            }
            INITIALISE
        } else {
            let (a, rest) = memory.split_at_mut(pages * PAGE);
            let (b, rest) = rest.split_at_mut(pages * PAGE);
            let (a, b, c) = (&mut a[low..high], &mut b[low..high], &mut rest[low..high]);
            match target(self.step) {
                0 => triad(a, b, c),
                1 => triad(b, c, a),
                _ => triad(c, a, b),
            }
            TRIAD
        };
        let page_writes = (end - self.next) as u64;
        self.next = end;
        if end == pages {
            (self.next, self.step) = (0, self.step + 1);
            if self.step == STEPS {
                (self.step, self.run) = (0, self.run + 1);
            }
        }
        Done { operation, page_writes }
    }

    fn check(&self, memory: &[u64]) -> Result<(), Wrong> {
        let pages = memory.len() / PAGE / 3;
        for array in 0..3 {
            for page in 0..pages {
                let (run, step) = self.written(array, page);
                let factors = factors(step);
                let first = (array * pages + page) * PAGE;
                for (at, &word) in memory[first..first + PAGE].iter().enumerate() {
                    let expected = self.value(run, factors, page * PAGE + at);
                    if word != expected {
                        return Err(Wrong::word(first + at, word, expected));
                    }
                }
            }
        }
        for (at, &word) in memory[3 * pages * PAGE..].iter().enumerate() {
            let expected = left_over(self.seed, at);
            if word != expected {
                return Err(Wrong::word(3 * pages * PAGE + at, word, expected));
            }
        }
        Ok(())
    }
}

/// `a = b + 3 c`
#[inline(always)]
#[allow(clippy::cast_precision_loss)]
fn triad(a: &mut [u64], b: &[u64], c: &[u64]) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = (f64::from_bits(*b) + SCALAR as f64 * f64::from_bits(*c)).to_bits();
    }
}

#[cfg(all(test, not(guest)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::programs::trials::{self, Trial, differing};

    proptest! {
        #![proptest_config(trials::few())]

        #[test]
        fn stands_its_trials(trial in trials::trials(3..40, 0..300)) {
            trial.stands::<Stream>()?;
        }
    }

    #[test]
    fn every_pass_writes_every_page_of_one_array_anew() {
        let mut guest = Trial { pages: 31, ..Trial::small() }.guest::<Stream>();
        let mut pages = 0;
        for step in 0..30 {
            let before = guest.memory.clone();
            let (run, step_of_run) = (guest.program.run, guest.program.step);
            assert_eq!((run, step_of_run), (1 + step / STEPS, step % STEPS));
            let mut written = 0;
            loop {
                let before = guest.memory.clone();
                let done = guest.operate();
                assert_eq!(done.operation, if step_of_run < 2 { INITIALISE } else { TRIAD });
                assert_eq!(done.page_writes, differing(&before, &guest.memory).len() as u64);
                written += done.page_writes;
                if guest.program.next == 0 {
                    break;
                }
            }
            let array = target(step_of_run);
            assert_eq!(differing(&before, &guest.memory), (array * 10..(array + 1) * 10).collect::<Vec<_>>());
            assert_eq!(written, 10);
            pages += written;
        }
        assert_eq!(pages, 300);
        guest.check().unwrap();
    }

    #[test]
    fn values_are_exact() {
        let (b, c) = factors(STEPS - 1);
        assert!((b + c) << 30 < 1 << 53);
        let mut guest = Trial { pages: 3, ..Trial::small() }.guest::<Stream>();
        guest.operate_while(|program: &Stream| program.step < 3);
        let [a, b, c] = [0, 1, 2].map(|array| f64::from_bits(guest.memory[array * PAGE + 7]));
        assert_eq!(a, b + 3.0 * c);
        guest.operate_while(|program: &Stream| program.step < 4);
        assert_eq!(f64::from_bits(guest.memory[PAGE + 7]), c + 3.0 * a);
    }
}

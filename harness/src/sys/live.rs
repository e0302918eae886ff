//! Pages that somebody may be writing: a guest. They are loaded a line at a time, each line once, into memory of our own; there are
//! no references to them, since what a reference points to must not change.

use std::marker::PhantomData;

use migbench_workloads::pages::Page;

/// Bytes of a line: what a cache line has.
pub const LINE: usize = 64;

/// One line of a page.
pub type Line = [u8; LINE];

/// One page of guest memory, mapped for as long as `'a`.
#[derive(Debug, Clone, Copy)]
pub struct LivePage<'a> {
    start: *const Line,
    _memory: PhantomData<&'a ()>,
}

/// One line of it.
#[derive(Debug, Clone, Copy)]
pub struct LiveLine<'a> {
    start: *const Line,
    _memory: PhantomData<&'a ()>,
}

impl<'a> LivePage<'a> {
    /// The page at a host address.
    ///
    /// # Safety
    /// It is mapped and readable for `'a`, at a multiple of [`LINE`].
    pub(super) const unsafe fn new(start: *const Line) -> Self {
        Self { start, _memory: PhantomData }
    }

    /// A page that nobody writes meanwhile, seen as one of a guest.
    ///
    /// # Panics
    /// When it does not start at a multiple of [`LINE`].
    #[must_use]
    pub fn of(page: &'a Page) -> Self {
        let start: *const Line = page.as_ptr().cast();
        assert!(start.addr().is_multiple_of(LINE), "a page that starts in the middle of a line");
        // SAFETY: borrowed for `'a`, and aligned, as just checked.
        unsafe { Self::new(start) }
    }

    /// One of its lines; numbers go round at the end.
    #[must_use]
    #[inline(always)]
    pub fn line(self, number: usize) -> LiveLine<'a> {
        // SAFETY: the number is below that of the lines of a page.
        let start = unsafe { self.start.add(number % (size_of::<Page>() / LINE)) };
        LiveLine { start, _memory: PhantomData }
    }

    /// Whether every byte is zero. A guest that writes meanwhile makes that true of no one moment.
    #[must_use]
    pub fn is_zero(self) -> bool {
        use core::arch::x86_64::{
            __m128i, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_setzero_si128,
        };
        (0..size_of::<Page>() / LINE).all(|number| {
            let start: *const __m128i = self.line(number).start.cast();
            // SAFETY: the four parts of a line, which is mapped and aligned. SSE2 is part of x86-64, and any bits are a value.
            unsafe {
                let [a, b, c, d] = [0, 1, 2, 3].map(|part| start.add(part).read_volatile());
                let any = _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d));
                _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) == 0xffff
            }
        })
    }
}

impl LiveLine<'_> {
    /// Where it is: mapped, readable, and at a multiple of [`LINE`].
    #[must_use]
    #[inline(always)]
    pub const fn start(self) -> *const Line {
        self.start
    }

    /// What is there now. Each word is of one moment.
    #[must_use]
    #[inline(always)]
    pub fn load(self) -> Line {
        let mut line = [0; LINE];
        for (number, word) in line.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // SAFETY: one of the eight words of a line, which is mapped and aligned; any bits are a value.
            *word = unsafe { self.start.cast::<u64>().add(number).read_volatile() }.to_ne_bytes();
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::PageMemory;

    #[test]
    fn one_set_bit_anywhere_is_seen() {
        let mut memory = PageMemory::map(1, "a test").unwrap();
        assert!(LivePage::of(&memory[0]).is_zero());
        for at in 0..size_of::<Page>() {
            memory[0][at] = 1 << (at % 8);
            assert!(!LivePage::of(&memory[0]).is_zero(), "{at}");
            assert!(LivePage::of(&memory[0]).line(at / LINE).load()[at % LINE] != 0, "{at}");
            memory[0][at] = 0;
        }
    }

    #[test]
    #[should_panic(expected = "in the middle of a line")]
    fn lines_lie_in_lines_of_the_cache() {
        let memory = [[0; 8192]];
        let start = memory.as_flattened().as_ptr().align_offset(LINE);
        let _ = LivePage::of(memory.as_flattened()[start + 8..].first_chunk().unwrap());
    }
}

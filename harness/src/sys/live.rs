//! Pages of guests. Those that a guest may be writing are loaded a line at a time, each line once, into memory of our own; those of a
//! guest that does not run yet are written in place. There are no references to either, since what a reference points to must not
//! change.

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

/// One page of a guest that does not run yet, or of our own, that is written in place.
#[derive(Debug)]
pub struct TargetPage<'a> {
    start: *mut u8,
    _memory: PhantomData<&'a mut Page>,
}

impl<'a> TargetPage<'a> {
    /// The page at a host address.
    ///
    /// # Safety
    /// It is mapped, readable and writable for `'a`.
    pub(super) const unsafe fn new(start: *mut u8) -> Self {
        Self { start, _memory: PhantomData }
    }

    /// A page of our own.
    #[must_use]
    pub const fn of(page: &'a mut Page) -> Self {
        // SAFETY: borrowed for `'a`.
        unsafe { Self::new(page.as_mut_ptr()) }
    }

    /// Writes bytes from `at` on. None, and nothing is written, where they reach beyond the page.
    #[inline(always)]
    pub fn write<const N: usize>(&mut self, at: usize, bytes: &[u8; N]) -> Option<()> {
        (at <= size_of::<Page>().checked_sub(N)?).then_some(())?;
        // SAFETY: `N` bytes from `at` on are inside of the page, as just checked, and no alignment is asked for.
        unsafe { self.start.add(at).cast::<[u8; N]>().write_unaligned(*bytes) };
        Some(())
    }

    /// As [`Self::write`], of any length.
    #[inline]
    pub fn write_all(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        (at <= size_of::<Page>().checked_sub(bytes.len())?).then_some(())?;
        // SAFETY: inside of the page, as just checked; `bytes` is memory of our own, which is no guest's page nor the page of a
        // `TargetPage`, borrowed as it is.
        unsafe { self.start.add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Some(())
    }

    /// One of its lines; numbers go round at the end.
    #[must_use]
    #[inline(always)]
    pub fn line(&self, number: usize) -> Line {
        // SAFETY: a line of the page, of which any bytes are a value; no alignment is asked for.
        unsafe { self.start.add(offset(number)).cast::<Line>().read_unaligned() }
    }

    /// Sets one of its lines; numbers go round at the end.
    #[inline(always)]
    pub fn set_line(&mut self, number: usize, line: &Line) {
        // SAFETY: a line of the page; no alignment is asked for.
        unsafe { self.start.add(offset(number)).cast::<Line>().write_unaligned(*line) };
    }
}

/// Where a line starts.
#[inline(always)]
const fn offset(number: usize) -> usize {
    number % (size_of::<Page>() / LINE) * LINE
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

    #[test]
    fn nothing_is_written_beyond_a_page() {
        let mut pages = [[7; 4096]; 3];
        let mut target = TargetPage::of(&mut pages[1]);
        assert_eq!(target.write(4089, &[1; 8]), None);
        assert_eq!(target.write(usize::MAX, &[1; 8]), None);
        assert_eq!(target.write_all(4096, &[1]), None);
        assert_eq!(target.write_all(1, &[1; 4096]), None);
        assert_eq!(target.write_all(usize::MAX, &[]), None);
        assert_eq!(target.write_all(4096, &[]), Some(()));
        assert_eq!(target.write(4088, &[2; 8]), Some(()));
        assert_eq!(target.write_all(0, &[3; 5]), Some(()));
        let line = target.line(63);
        assert_eq!((line[55], line[56]), (7, 2));
        target.set_line(64 + 1, &[4; LINE]);
        assert!(pages[0] == [7; 4096] && pages[2] == [7; 4096]);
        assert_eq!(pages[1][..6], [3, 3, 3, 3, 3, 7]);
        assert!(pages[1][64..128] == [4; 64] && pages[1][128..4088].iter().all(|byte| *byte == 7));
    }
}

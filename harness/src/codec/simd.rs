//! The vector twins of the codecs for x86-64, the only `unsafe` of the codecs. A value of [`Avx2`] or
//! [`Avx512`] is the proof that the CPU has the instructions, so their methods are safe to call. Pages enter as arrays, and every load
//! and store is inside one of them; but for those that a guest may be writing, which are loaded through [`LiveLine`].

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_sfence, _mm_shuffle_epi8,
    _mm256_blendv_pd, _mm256_castpd_si256, _mm256_castsi256_pd, _mm256_cmpeq_epi8, _mm256_loadu_si256,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_permutevar8x32_epi32, _mm256_storeu_si256,
    _mm256_stream_si256, _mm256_testz_si256, _mm512_cmpneq_epi8_mask, _mm512_loadu_si512,
    _mm512_mask_compress_epi8, _mm512_mask_compress_epi64, _mm512_mask_expand_epi8, _mm512_mask_expand_epi64,
    _mm512_or_si512, _mm512_storeu_si512, _mm512_test_epi64_mask,
};

use super::lanes::{LINE, Lanes, Line};
use super::runs::Positions;
use super::{Change, DecodeError, Page, change, mask, xbzrle};
use crate::sys::live::{LiveLine, LivePage, TargetPage};

/// Proof that this CPU has AVX2 and the bit instructions of the same age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

/// Proof that this CPU has AVX-512 F, BW and VBMI2 (Ice Lake, Zen 4 and later), and what [`Avx2`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(pub(super) Avx2);

/// A whole function, compiled with `$features`, which the backend that it is a method of stands for.
macro_rules! compiled {
    ($features:literal, $name:ident = $function:path, ($($argument:ident: $type:ty),+) -> $result:ty) => {
        #[inline]
        pub(super) fn $name(self, $($argument: $type),+) -> $result {
            #[target_feature(enable = $features)]
            fn compiled<L: Lanes>(cpu: L, $($argument: $type),+) -> $result {
                $function(cpu, $($argument),+)
            }
            // SAFETY: `self` exists only if `detect` has found every feature that the function is compiled with.
            unsafe { compiled(self, $($argument),+) }
        }
    };
}

/// The whole functions of a backend.
macro_rules! compiled_with {
    ($backend:ident, $features:literal) => {
        impl $backend {
            compiled!($features, merge = change::merge,
                (live: LivePage<'_>, held: &mut Page, change: &mut Change, keep_old: bool) -> ());
            compiled!($features, copy = change::copy, (live: LivePage<'_>, copy: &mut Page) -> ());
            compiled!($features, copy_twice = change::copy_twice,
                (live: LivePage<'_>, copy: &mut Page, held: &mut Page) -> ());
            compiled!($features, encode_xbzrle = xbzrle::encode,
                (change: &Change, new: &Page, out: &mut [u8], positions: &mut Positions) -> Option<usize>);
            compiled!($features, encode_mask = mask::encode,
                (change: &Change, new: &Page, out: &mut [u8], positions: &mut Positions) -> Option<usize>);
            compiled!($features, decode_mask = mask::decode,
                (encoded: &[u8], page: TargetPage<'_>) -> Result<(), DecodeError>);
        }
    };
}

compiled_with!(Avx2, "avx2,bmi1,bmi2,popcnt");
compiled_with!(Avx512, "avx512f,avx512bw,avx512vbmi2,avx2,bmi1,bmi2,popcnt");

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
    }

    #[inline]
    pub(super) fn is_zero(self, page: &Page) -> bool {
        // SAFETY: `self` exists only if `detect` has found every feature that the function is compiled with.
        unsafe { is_zero_avx2(page) }
    }
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2");
        Avx2::detect().filter(|_| has).map(Self)
    }

    #[inline]
    pub(super) fn is_zero(self, page: &Page) -> bool {
        // SAFETY: `self` exists only if `detect` has found every feature that the function is compiled with.
        unsafe { is_zero_avx512(page) }
    }
}

/// For each set of eight bytes, where those of the set come from when they are moved together. The highest bit makes a zero.
static COMPRESS: [[u8; 8]; 256] = tables().0;
/// For each set of eight bytes, which of those that lie together belongs to each of the set. The highest bit marks the others.
static EXPAND: [[u8; 8]; 256] = tables().1;
/// The same for four words, in halves of words.
static COMPRESS_WORDS: [[u32; 8]; 16] = word_tables().0;
static EXPAND_WORDS: [[u32; 8]; 16] = word_tables().1;

/// An entry of a table of bytes that stands for none.
const NO_BYTE: u8 = 0x80;
/// An entry of a table of words that stands for none: the permutation looks at the lowest bits alone, and a blend at the highest.
const NO_WORD: u32 = 1 << 31;

#[expect(clippy::cast_possible_truncation, reason = "numbers under eight")]
const fn tables() -> ([[u8; 8]; 256], [[u8; 8]; 256]) {
    let (mut compress, mut expand) = ([[NO_BYTE; 8]; 256], [[NO_BYTE; 8]; 256]);
    let mut set = 0;
    while set < 256 {
        let (mut byte, mut count) = (0, 0);
        while byte < 8 {
            if set >> byte & 1 != 0 {
                compress[set][count] = byte as u8;
                expand[set][byte] = count as u8;
                count += 1;
            }
            byte += 1;
        }
        set += 1;
    }
    (compress, expand)
}

#[expect(clippy::cast_possible_truncation, reason = "numbers under eight")]
const fn word_tables() -> ([[u32; 8]; 16], [[u32; 8]; 16]) {
    let (mut compress, mut expand) = ([[NO_WORD; 8]; 16], [[NO_WORD; 8]; 16]);
    let mut set = 0;
    while set < 16 {
        let (mut word, mut count) = (0, 0);
        while word < 4 {
            if set >> word & 1 != 0 {
                compress[set][2 * count] = 2 * word as u32;
                compress[set][2 * count + 1] = 2 * word as u32 + 1;
                expand[set][2 * word] = 2 * count as u32;
                expand[set][2 * word + 1] = 2 * count as u32 + 1;
                count += 1;
            }
            word += 1;
        }
        set += 1;
    }
    (compress, expand)
}

// The methods of `Lanes` are inlined into the functions above, which are compiled with the instructions; by itself none of
// them is ever called.

impl Lanes for Avx2 {
    #[inline(always)]
    fn load(self, line: LiveLine<'_>) -> Line {
        #[target_feature(enable = "avx2")]
        #[inline]
        fn load(live: LiveLine<'_>) -> Line {
            let (start, mut line): (*const __m256i, _) = (live.start().cast(), [0; LINE]);
            for half in 0..2 {
                // SAFETY: half of a line, which is mapped and aligned; any bits are a value.
                let loaded = unsafe { start.add(half).read_volatile() };
                store256(loaded, &mut line, 32 * half);
            }
            line
        }
        // SAFETY: `self` is the proof of AVX2.
        unsafe { load(line) }
    }

    #[inline(always)]
    fn stream(self, line: &Line, to: &mut Line) {
        #[target_feature(enable = "avx2")]
        #[inline]
        fn stream(line: &Line, to: &mut Line) {
            let start: *mut __m256i = to.as_mut_ptr().cast();
            if !start.is_aligned() {
                *to = *line;
                return;
            }
            let [low, high] = halves(line);
            // SAFETY: the two halves of `to`, which is aligned, as just checked. Nobody reads it before `fence`.
            unsafe {
                _mm256_stream_si256(start, low);
                _mm256_stream_si256(start.add(1), high);
            }
        }
        // SAFETY: `self` is the proof of AVX2.
        unsafe { stream(line, to) }
    }

    #[inline(always)]
    fn fence(self) {
        // SAFETY: only orders stores. SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    fn differ(self, old: &Line, new: &Line) -> u64 {
        #[target_feature(enable = "avx2")]
        #[inline]
        fn differ(old: &Line, new: &Line) -> u64 {
            let ([old_low, old_high], [new_low, new_high]) = (halves(old), halves(new));
            let equal = |old, new| _mm256_movemask_epi8(_mm256_cmpeq_epi8(old, new)).cast_unsigned();
            !(u64::from(equal(old_low, new_low)) | u64::from(equal(old_high, new_high)) << 32)
        }
        // SAFETY: `self` is the proof of AVX2.
        unsafe { differ(old, new) }
    }

    #[inline(always)]
    fn compress_words(self, line: &Line, words: u8, out: &mut Line) {
        #[target_feature(enable = "avx2")]
        #[inline]
        fn compress(line: &Line, words: u8, out: &mut Line) {
            let [low, high] = halves(line);
            let (first, second) = (usize::from(words & 15), usize::from(words >> 4));
            store256(_mm256_permutevar8x32_epi32(low, load_words(&COMPRESS_WORDS[first])), out, 0);
            let at = 8 * first.count_ones() as usize;
            store256(_mm256_permutevar8x32_epi32(high, load_words(&COMPRESS_WORDS[second])), out, at);
        }
        // SAFETY: `self` is the proof of AVX2.
        unsafe { compress(line, words, out) }
    }

    #[inline(always)]
    fn compress_bytes(self, line: &Line, bytes: u64, out: &mut Line) {
        let mut at = 0;
        for (word, set) in line.as_chunks::<8>().0.iter().zip(bytes.to_le_bytes()) {
            let together = self.compress_eight(u64::from_le_bytes(*word), set);
            if let Some(to) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<8>()) {
                *to = together.to_le_bytes();
            }
            at += set.count_ones() as usize;
        }
    }

    #[inline(always)]
    fn expand_words(self, from: &Line, words: u8, line: &mut Line) {
        #[target_feature(enable = "avx2")]
        #[inline]
        fn expand(from: &Line, words: u8, line: &mut Line) {
            let [low, high] = halves(line);
            let (first, second) = (usize::from(words & 15), usize::from(words >> 4));
            let half = |old, from, set: usize| {
                let order = load_words(&EXPAND_WORDS[set]);
                let moved = _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(from, order));
                let old = _mm256_castsi256_pd(old);
                _mm256_castpd_si256(_mm256_blendv_pd(moved, old, _mm256_castsi256_pd(order)))
            };
            store256(half(low, load256(from, 0), first), line, 0);
            store256(half(high, load256(from, 8 * first.count_ones() as usize), second), line, 32);
        }
        // SAFETY: `self` is the proof of AVX2.
        unsafe { expand(from, words, line) }
    }

    #[inline(always)]
    fn expand_bytes(self, from: &Line, bytes: u64, line: &mut Line) {
        let mut at = 0;
        for (word, set) in line.as_chunks_mut::<8>().0.iter_mut().zip(bytes.to_le_bytes()) {
            let together = from
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |from| u64::from_le_bytes(*from));
            // What the table marks as none keeps what it has.
            let keep = !self.expand_eight(u64::MAX, set);
            let moved = self.expand_eight(together, set) | u64::from_le_bytes(*word) & keep;
            *word = moved.to_le_bytes();
            at += set.count_ones() as usize;
        }
    }

    #[inline(always)]
    fn compress_eight(self, value: u64, bytes: u8) -> u64 {
        // SAFETY: `self` is the proof of AVX2, which implies SSSE3.
        unsafe { shuffle(value, COMPRESS[usize::from(bytes)]) }
    }

    #[inline(always)]
    fn expand_eight(self, value: u64, bytes: u8) -> u64 {
        // SAFETY: `self` is the proof of AVX2, which implies SSSE3.
        unsafe { shuffle(value, EXPAND[usize::from(bytes)]) }
    }
}

impl Lanes for Avx512 {
    #[inline(always)]
    fn load(self, line: LiveLine<'_>) -> Line {
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn load(live: LiveLine<'_>) -> Line {
            let mut line = [0; LINE];
            // SAFETY: a line, which is mapped and aligned; any bits are a value.
            store512(unsafe { live.start().cast::<__m512i>().read_volatile() }, &mut line);
            line
        }
        // SAFETY: `self` is the proof of AVX-512 F.
        unsafe { load(line) }
    }

    #[inline(always)]
    fn stream(self, line: &Line, to: &mut Line) {
        self.0.stream(line, to);
    }

    #[inline(always)]
    fn fence(self) {
        self.0.fence();
    }

    #[inline(always)]
    fn differ(self, old: &Line, new: &Line) -> u64 {
        #[target_feature(enable = "avx512f,avx512bw")]
        #[inline]
        fn differ(old: &Line, new: &Line) -> u64 {
            _mm512_cmpneq_epi8_mask(load512(old), load512(new))
        }
        // SAFETY: `self` is the proof of AVX-512 F and BW.
        unsafe { differ(old, new) }
    }

    // Compressed in a register and stored plainly: Zen 4 runs the form that writes to memory from microcode. Merged with the line
    // itself: the form that fills up with zeros waits for what the register held before.

    #[inline(always)]
    fn compress_words(self, line: &Line, words: u8, out: &mut Line) {
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn compress(line: &Line, words: u8, out: &mut Line) {
            let line = load512(line);
            store512(_mm512_mask_compress_epi64(line, words, line), out);
        }
        // SAFETY: `self` is the proof of AVX-512 F.
        unsafe { compress(line, words, out) }
    }

    #[inline(always)]
    fn compress_bytes(self, line: &Line, bytes: u64, out: &mut Line) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
        #[inline]
        fn compress(line: &Line, bytes: u64, out: &mut Line) {
            let line = load512(line);
            store512(_mm512_mask_compress_epi8(line, bytes, line), out);
        }
        // SAFETY: `self` is the proof of AVX-512 F, BW and VBMI2.
        unsafe { compress(line, bytes, out) }
    }

    #[inline(always)]
    fn expand_words(self, from: &Line, words: u8, line: &mut Line) {
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn expand(from: &Line, words: u8, line: &mut Line) {
            store512(_mm512_mask_expand_epi64(load512(line), words, load512(from)), line);
        }
        // SAFETY: `self` is the proof of AVX-512 F.
        unsafe { expand(from, words, line) }
    }

    #[inline(always)]
    fn expand_bytes(self, from: &Line, bytes: u64, line: &mut Line) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
        #[inline]
        fn expand(from: &Line, bytes: u64, line: &mut Line) {
            store512(_mm512_mask_expand_epi8(load512(line), bytes, load512(from)), line);
        }
        // SAFETY: `self` is the proof of AVX-512 F, BW and VBMI2.
        unsafe { expand(from, bytes, line) }
    }

    #[inline(always)]
    fn compress_eight(self, value: u64, bytes: u8) -> u64 {
        self.0.compress_eight(value, bytes)
    }

    #[inline(always)]
    fn expand_eight(self, value: u64, bytes: u8) -> u64 {
        self.0.expand_eight(value, bytes)
    }
}

/// The bytes of `value` in the order of `order`; zeros where its highest bit is set.
#[target_feature(enable = "ssse3")]
#[inline]
fn shuffle(value: u64, order: [u8; 8]) -> u64 {
    let vector = |value: u64| -> __m128i { _mm_cvtsi64_si128(value.cast_signed()) };
    _mm_cvtsi128_si64(_mm_shuffle_epi8(vector(value), vector(u64::from_le_bytes(order)))).cast_unsigned()
}

#[target_feature(enable = "avx2")]
#[inline]
fn load256(from: &Line, at: usize) -> __m256i {
    let from: &[u8; 32] = from.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(&[0; 32]);
    // SAFETY: the load reads 32 bytes, which is the size of the array, and needs no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn halves(line: &Line) -> [__m256i; 2] {
    [load256(line, 0), load256(line, 32)]
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_words(from: &[u32; 8]) -> __m256i {
    // SAFETY: the load reads 32 bytes, which is the size of the array, and needs no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store256(value: __m256i, to: &mut Line, at: usize) {
    if let Some(to) = to.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<32>()) {
        // SAFETY: the store writes 32 bytes, which is the size of the array, and needs no alignment.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load512(from: &Line) -> __m512i {
    // SAFETY: the load reads 64 bytes, which is the size of the array, and needs no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store512(value: __m512i, to: &mut Line) {
    // SAFETY: the store writes 64 bytes, which is the size of the array, and needs no alignment.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
}

/// Bytes between two branches of the zero tests: four loads of the wider kind.
const STRIDE: usize = 256;

#[target_feature(enable = "avx2")]
fn is_zero_avx2(page: &Page) -> bool {
    for chunk in page.as_chunks::<STRIDE>().0 {
        let mut any = load256(&[0; LINE], 0);
        for part in chunk.as_chunks::<LINE>().0 {
            let [low, high] = halves(part);
            any = _mm256_or_si256(any, _mm256_or_si256(low, high));
        }
        if _mm256_testz_si256(any, any) == 0 {
            return false;
        }
    }
    true
}

#[target_feature(enable = "avx512f,avx512bw")]
fn is_zero_avx512(page: &Page) -> bool {
    for chunk in page.as_chunks::<STRIDE>().0 {
        let mut any = load512(&[0; LINE]);
        for part in chunk.as_chunks::<LINE>().0 {
            any = _mm512_or_si512(any, load512(part));
        }
        if _mm512_test_epi64_mask(any, any) != 0 {
            return false;
        }
    }
    true
}

//! The vector twins of the codec for x86-64, the only `unsafe` of the codec. A value of [`Avx2`] or
//! [`Avx512`] is the proof that the CPU has the instructions, so their methods are safe to call; pages enter
//! as arrays and every load is inside one of them.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_testz_si256, _mm512_cmpneq_epi8_mask, _mm512_loadu_si512, _mm512_or_si512, _mm512_test_epi64_mask,
};

use super::Page;
use super::runs::{BLOCK, Edges};
use super::xbzrle::XbzrleOutcome;

/// Proof that this CPU has AVX2 and the bit instructions of the same age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

/// Proof that this CPU has AVX-512 F and BW, and what [`Avx2`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

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

    #[inline]
    pub(super) fn encode(self, old: &Page, new: &Page, out: &mut [u8]) -> XbzrleOutcome {
        // SAFETY: `self` exists only if `detect` has found every feature that the function is compiled with.
        unsafe { encode_avx2(old, new, out) }
    }
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        (has && Avx2::detect().is_some()).then_some(Self(()))
    }

    #[inline]
    pub(super) fn is_zero(self, page: &Page) -> bool {
        // SAFETY: `self` exists only if `detect` has found every feature that the function is compiled with.
        unsafe { is_zero_avx512(page) }
    }

    #[inline]
    pub(super) fn encode(self, old: &Page, new: &Page, out: &mut [u8]) -> XbzrleOutcome {
        // SAFETY: `self` exists only if `detect` has found every feature that the function is compiled with.
        unsafe { encode_avx512(old, new, out) }
    }
}

/// Bytes between two branches of the zero tests: four loads of the wider kind.
const STRIDE: usize = 256;

#[target_feature(enable = "avx2")]
fn load256(from: &[u8; 32]) -> __m256i {
    // SAFETY: the load reads 32 bytes, which is the size of the array, and needs no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn load512(from: &[u8; BLOCK]) -> __m512i {
    // SAFETY: the load reads 64 bytes, which is the size of the array, and needs no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn is_zero_avx2(page: &Page) -> bool {
    for chunk in page.as_chunks::<STRIDE>().0 {
        let mut any = load256(&[0; 32]);
        for part in chunk.as_chunks::<32>().0 {
            any = _mm256_or_si256(any, load256(part));
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
        let mut any = load512(&[0; BLOCK]);
        for part in chunk.as_chunks::<BLOCK>().0 {
            any = _mm512_or_si512(any, load512(part));
        }
        if _mm512_test_epi64_mask(any, any) != 0 {
            return false;
        }
    }
    true
}

/// A bit for each of 32 bytes, set where they differ.
#[target_feature(enable = "avx2")]
fn differ(old: &[u8], new: &[u8]) -> u64 {
    let (Some(old), Some(new)) = (old.first_chunk(), new.first_chunk()) else { return 0 };
    let equal = _mm256_movemask_epi8(_mm256_cmpeq_epi8(load256(old), load256(new)));
    u64::from(!equal.cast_unsigned())
}

#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn encode_avx2(old: &Page, new: &Page, out: &mut [u8]) -> XbzrleOutcome {
    let mut edges = Edges::new();
    let blocks = old.as_chunks::<BLOCK>().0.iter().zip(new.as_chunks::<BLOCK>().0);
    for (i, (old, new)) in blocks.enumerate() {
        edges.add(i, differ(&old[..32], &new[..32]) | differ(&old[32..], &new[32..]) << 32);
    }
    edges.encode(new, out)
}

#[target_feature(enable = "avx512f,avx512bw,avx2,bmi1,bmi2,popcnt")]
fn encode_avx512(old: &Page, new: &Page, out: &mut [u8]) -> XbzrleOutcome {
    let mut edges = Edges::new();
    let blocks = old.as_chunks::<BLOCK>().0.iter().zip(new.as_chunks::<BLOCK>().0);
    for (i, (old, new)) in blocks.enumerate() {
        edges.add(i, _mm512_cmpneq_epi8_mask(load512(old), load512(new)));
    }
    edges.encode(new, out)
}

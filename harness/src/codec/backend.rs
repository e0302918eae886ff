//! Which instructions the hot functions of the codecs use. Each exists once in portable Rust and, where the CPU has them, with
//! vector instructions; all of them give the same bytes.

use std::fmt;
use std::sync::OnceLock;

use super::lanes::Portable;
use super::runs::Positions;
#[cfg(target_arch = "x86_64")]
use super::simd;
use super::{Change, DecodeError, Page, change, mask, xbzrle, zero};
use crate::sys::live::{LivePage, TargetPage};

/// One implementation of the hot functions. A value exists only for what this CPU can run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodecBackend(SimdLevel);

#[derive(Clone, Copy, PartialEq, Eq)]
enum SimdLevel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(simd::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(simd::Avx512),
}

impl CodecBackend {
    /// The implementation in portable Rust, which every CPU can run.
    pub const PORTABLE: Self = Self(SimdLevel::Portable);

    /// The fastest implementation for this CPU, found out once per process.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<CodecBackend> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::PORTABLE))
    }

    /// Every implementation that this CPU can run, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut available = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            available.extend(simd::Avx2::detect().map(|cpu| Self(SimdLevel::Avx2(cpu))));
            available.extend(simd::Avx512::detect().map(|cpu| Self(SimdLevel::Avx512(cpu))));
        }
        available
    }

    /// What this implementation is called in benches and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            SimdLevel::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(_) => "avx512",
        }
    }

    /// Whether every byte of `page` is zero.
    #[must_use]
    pub fn is_zero(self, page: &Page) -> bool {
        match self.0 {
            SimdLevel::Portable => zero::is_zero_portable(page),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(cpu) => !zero::starts_nonzero(page) && cpu.is_zero(page),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(cpu) => !zero::starts_nonzero(page) && cpu.is_zero(page),
        }
    }

    /// See [`Change::merge`].
    pub(super) fn merge(self, live: LivePage<'_>, held: &mut Page, change: &mut Change, keep_old: bool) {
        match self.0 {
            SimdLevel::Portable => change::merge(Portable, live, held, change, keep_old),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(cpu) => cpu.merge(live, held, change, keep_old),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(cpu) => cpu.merge(live, held, change, keep_old),
        }
    }

    /// Copies a page.
    pub fn copy(self, live: LivePage<'_>, copy: &mut Page) {
        match self.0 {
            SimdLevel::Portable => change::copy(Portable, live, copy),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(cpu) => cpu.copy(live, copy),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(cpu) => cpu.copy(live, copy),
        }
    }

    /// Copies a page of which nothing is remembered yet, twice: into `copy`, which is sent and stays in the caches, and past them
    /// into `held`, where it is needed only when the page has changed.
    pub fn copy_twice(self, live: LivePage<'_>, copy: &mut Page, held: &mut Page) {
        match self.0 {
            SimdLevel::Portable => change::copy_twice(Portable, live, copy, held),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(cpu) => cpu.copy_twice(live, copy, held),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(cpu) => cpu.copy_twice(live, copy, held),
        }
    }

    pub(super) fn encode_xbzrle(
        self,
        change: &Change,
        new: &Page,
        out: &mut [u8],
        positions: &mut Positions,
    ) -> Option<usize> {
        match self.0 {
            SimdLevel::Portable => xbzrle::encode(Portable, change, new, out, positions),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(cpu) => cpu.encode_xbzrle(change, new, out, positions),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(cpu) => cpu.encode_xbzrle(change, new, out, positions),
        }
    }

    pub(super) fn encode_mask(
        self,
        change: &Change,
        new: &Page,
        out: &mut [u8],
        positions: &mut Positions,
    ) -> Option<usize> {
        match self.0 {
            SimdLevel::Portable => mask::encode(Portable, change, new, out, positions),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(cpu) => cpu.encode_mask(change, new, out, positions),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(cpu) => cpu.encode_mask(change, new, out, positions),
        }
    }

    pub(super) fn decode_mask(self, encoded: &[u8], page: TargetPage<'_>) -> Result<(), DecodeError> {
        match self.0 {
            SimdLevel::Portable => mask::decode(Portable, encoded, page),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(cpu) => cpu.decode_mask(encoded, page),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(cpu) => cpu.decode_mask(encoded, page),
        }
    }
}

impl fmt::Debug for CodecBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! Pure functions between pages and bytes. A page enters as `&Page`, together with the copy that the
//! destination is known to hold, and leaves as an encoding in the caller's buffer; the decoder goes the
//! other way. Nothing here allocates, does I/O or touches guest memory, so an encoder must be given a
//! private copy of a page: guest memory changes while it is read.
//!
//! Each hot function exists once in portable Rust and, where the CPU has them, with vector instructions.
//! All of them give the same bytes; [`Backend::best`] picks one when the process starts to encode.

pub mod xbzrle;
pub mod zero;

use std::fmt;
use std::sync::OnceLock;

pub use xbzrle::{Outcome, XbzrleError};
pub use zero::is_zero;

/// Bytes of one guest page.
pub const PAGE: usize = 4096;

/// The contents of one guest page.
pub type Page = [u8; PAGE];

/// One implementation of the hot functions. A value exists only for what this CPU can run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Backend(Level);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Portable,
}

impl Backend {
    /// The implementation in portable Rust, which every CPU can run.
    pub const PORTABLE: Self = Self(Level::Portable);

    /// The fastest implementation for this CPU, found out once per process.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Backend> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::PORTABLE))
    }

    /// Every implementation that this CPU can run, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        vec![Self::PORTABLE]
    }

    /// What this implementation is called in benches and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
        }
    }

    /// Whether every byte of `page` is zero.
    #[must_use]
    pub fn is_zero(self, page: &Page) -> bool {
        match self.0 {
            Level::Portable => zero::is_zero_portable(page),
        }
    }

    /// See [`xbzrle::encode`].
    pub fn encode_xbzrle(self, old: &Page, new: &Page, out: &mut [u8]) -> Outcome {
        match self.0 {
            Level::Portable => xbzrle::encode_portable(old, new, out),
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

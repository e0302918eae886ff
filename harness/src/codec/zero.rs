//! Finds pages that are all zero, which travel as eight bytes or less. Most pages of a fresh guest are zero
//! and most pages of a busy one differ in their first words, so the first words are looked at alone.

use super::{CodecBackend, Page};

/// Whether every byte of `page` is zero.
#[must_use]
pub fn is_zero(page: &Page) -> bool {
    CodecBackend::best().is_zero(page)
}

/// Bytes that are tested before the wide loop is entered.
const FIRST: usize = 64;

/// Whether the first bytes of the page already show that it is not zero.
#[inline(always)]
pub(super) fn starts_nonzero(page: &Page) -> bool {
    page[..FIRST].as_chunks::<8>().0.iter().fold(0, |any, word| any | u64::from_ne_bytes(*word)) != 0
}

/// The portable twin: 256 bytes between two branches, which compilers turn into whatever vectors the target
/// has by default.
pub(super) fn is_zero_portable(page: &Page) -> bool {
    !starts_nonzero(page)
        && page.as_chunks::<256>().0.iter().all(|chunk| {
            chunk.as_chunks::<8>().0.iter().fold(0, |any, word| any | u64::from_ne_bytes(*word)) == 0
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::PAGE;

    #[test]
    fn one_set_bit_anywhere_is_seen_by_every_backend() {
        for backend in CodecBackend::available() {
            let mut page = [0; PAGE];
            assert!(backend.is_zero(&page), "{backend:?}");
            for at in 0..PAGE {
                page[at] = 1 << (at % 8);
                assert!(!backend.is_zero(&page), "{backend:?} missed byte {at}");
                page[at] = 0;
            }
        }
    }
}

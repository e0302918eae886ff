//! The XOR of two pages, for codecs that compress: what stayed is zero, and against a page of zeros it is the page itself.

use super::{PAGE, Page};

/// Writes the XOR of two pages, and says whether they differ.
pub(super) fn xor(old: &Page, new: &Page, difference: &mut Page) -> bool {
    let mut any = 0;
    for ((old, new), to) in old.iter().zip(new).zip(difference) {
        *to = old ^ new;
        any |= *to;
    }
    any != 0
}

/// Turns the old page into the new one.
pub(super) fn apply(difference: &Page, page: &mut Page) {
    page.iter_mut().zip(difference).for_each(|(byte, xor)| *byte ^= xor);
}

/// Memory for a difference.
pub(super) fn buffer() -> Box<Page> {
    Box::new([0; PAGE])
}

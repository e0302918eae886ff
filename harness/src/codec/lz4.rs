//! LZ4 blocks (`lz4_flex`) of the XOR with the old page, and of whole pages where there is no old one.

use std::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use migbench_scenarios::cell::Codec;

use super::{Change, DecodeError, MAX_ENCODED, PAGE, Page, PageCodec, change};
use crate::sys::live::TargetPage;

/// The codec.
pub struct Lz4 {
    /// Where the compressor finds what it has seen, kept so that no page allocates one.
    table: CompressTable,
    difference: Box<Page>,
}

impl Lz4 {
    /// With memory to work in.
    #[must_use]
    pub fn new() -> Self {
        Self { table: CompressTable::small(), difference: Box::new([0; PAGE]) }
    }
}

impl Default for Lz4 {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Lz4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lz4").finish_non_exhaustive()
    }
}

impl PageCodec for Lz4 {
    fn name(&self) -> &'static str {
        Codec::Lz4.word()
    }

    fn worst_size(&self) -> usize {
        get_maximum_output_size(PAGE)
    }

    fn takes_old(&self) -> bool {
        true
    }

    fn encode(&mut self, _: u64, change: &Change, new: &Page, out: &mut [u8]) -> Option<usize> {
        change.xor(new, &mut self.difference);
        match compress_into_with_table(&self.difference[..], out, &mut self.table) {
            Ok(length) if length <= MAX_ENCODED => Some(length),
            _ => None,
        }
    }

    fn decode_in_place(&mut self, encoded: &[u8], page: TargetPage<'_>) -> Result<(), DecodeError> {
        let damaged = |what| DecodeError::Damaged { codec: "LZ4", what };
        let length = decompress_into(encoded, &mut self.difference[..])
            .map_err(|_| damaged("it is no block of at most a page"))?;
        if length != PAGE {
            return Err(damaged("it holds less than a page"));
        }
        change::apply(&self.difference, page);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_less_or_more_than_a_page_are_refused() {
        for (length, fits) in [(PAGE - 1, false), (PAGE, true), (PAGE + 1, false)] {
            let block = lz4_flex::block::compress(&vec![1; length]);
            assert_eq!(Lz4::new().decode(&block, &mut [0; PAGE]).is_ok(), fits, "{length}");
        }
    }
}

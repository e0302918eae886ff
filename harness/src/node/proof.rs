//! Proof that memory arrived whole: hashes of 2 MiB blocks before the guest resumes, or of every page as it was
//! decoded against the source's frozen memory.

use migbench_workloads::units::PAGE_SIZE;

use super::NodeError;
use crate::codec::Page;
use crate::sys::memory::{reserve, zeroed};
use crate::sys::ram::{GRANULE, Ram};

/// Bytes of a block's hash.
pub const BLOCK_HASH: usize = 32;
const BLOCK_PAGES: u64 = GRANULE / PAGE_SIZE;

/// BLAKE3 of every 2 MiB of memory, in order. The guest must not run.
///
/// # Errors
/// When memory cannot be read, or there is none for the hashes.
pub fn hash_blocks(ram: &Ram) -> Result<Vec<u8>, NodeError> {
    let mut block = zeroed::<u8>(GRANULE, "a block to hash")?;
    let blocks = usize::try_from(ram.pages().div_ceil(BLOCK_PAGES)).unwrap_or(usize::MAX);
    let mut hashes = Vec::new();
    reserve(&mut hashes, blocks.saturating_mul(BLOCK_HASH), "hashes of blocks")?;
    for first in (0..ram.pages()).step_by(usize::try_from(BLOCK_PAGES).unwrap_or(1)) {
        ram.read(first, &mut block)?;
        hashes.extend_from_slice(blake3::hash(&block).as_bytes());
    }
    Ok(hashes)
}

/// Compares two lists of [`hash_blocks`].
///
/// # Errors
/// Names the first block that differs.
pub fn compare_blocks(ram: &Ram, here: &[u8], there: &[u8]) -> Result<(), NodeError> {
    if here.len() != there.len() {
        let message =
            format!("{} hashes came, {} were due", there.len() / BLOCK_HASH, here.len() / BLOCK_HASH);
        return Err(NodeError::Content(message));
    }
    let Some((first, count)) = differing(here, there) else { return Ok(()) };
    let address = ram.address(first as u64 * BLOCK_PAGES)?;
    Err(NodeError::Differs(format!(
        "memory differs at the destination in {count} of {} blocks, first in the 2 MiB from {address} on",
        here.len() / BLOCK_HASH
    )))
}

/// The first block whose hashes differ, or that one of two lists of them lacks, and how many there are.
#[must_use]
pub fn differing(here: &[u8], there: &[u8]) -> Option<(usize, usize)> {
    let blocks = here.len().max(there.len()).div_ceil(BLOCK_HASH);
    let block =
        |hashes: &[u8], n: usize| hashes.get(n * BLOCK_HASH..(n + 1) * BLOCK_HASH).map(<[u8]>::to_vec);
    let differ: Vec<usize> = (0..blocks).filter(|&n| block(here, n) != block(there, n)).collect();
    differ.first().map(|&first| (first, differ.len()))
}

/// Hash of one page as the destination decoded it.
#[must_use]
pub fn hash_page(page: &Page) -> u64 {
    xxhash_rust::xxh3::xxh3_64(page)
}

/// Hashes of all pages of frozen memory.
///
/// # Errors
/// When memory cannot be read, or there is none for the hashes.
pub fn hash_pages(ram: &Ram) -> Result<Vec<u64>, NodeError> {
    let mut page = [0; 4096];
    let mut hashes = Vec::new();
    reserve(&mut hashes, usize::try_from(ram.pages()).unwrap_or(usize::MAX), "hashes of pages")?;
    for number in 0..ram.pages() {
        ram.read(number, &mut page)?;
        hashes.push(hash_page(&page));
    }
    Ok(hashes)
}

/// Compares the hashes of pages `first..` that came from the destination with `here`.
///
/// # Errors
/// Names the first page that differs.
pub fn compare_pages(ram: &Ram, here: &[u64], first: usize, there: &[u8]) -> Result<usize, NodeError> {
    let count = there.len() / 8;
    // A frame without a hash would bring nothing forward, and could come for ever.
    let due = here.get(first..first + count).filter(|_| count > 0 && there.len().is_multiple_of(8));
    let Some(due) = due else {
        return Err(NodeError::Content(format!("hashes of pages {first}.. do not fit the guest")));
    };
    for (offset, (hash, bytes)) in due.iter().zip(there.chunks_exact(8)).enumerate() {
        if hash.to_le_bytes() != bytes {
            let page = (first + offset) as u64;
            let address = ram.address(page)?;
            return Err(NodeError::Differs(format!(
                "the page at {address} was decoded differently from what the source holds"
            )));
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use migbench_scenarios::cell::Backing;
    use migbench_workloads::units::Bytes;

    #[test]
    fn a_flipped_bit_is_named_by_block_and_by_page() {
        let ram = Ram::new(Bytes(32 << 20), Backing::Anonymous).unwrap();
        let other = Ram::new(Bytes(32 << 20), Backing::Anonymous).unwrap();
        let mut page = [0; 4096];
        page[17] = 1;
        other.write(1030, &page).unwrap();
        let (a, b) = (hash_blocks(&ram).unwrap(), hash_blocks(&other).unwrap());
        assert!(compare_blocks(&ram, &a, &a).is_ok());
        let error = compare_blocks(&ram, &a, &b).unwrap_err().to_string();
        assert!(error.contains("1 of 16 blocks") && error.contains("0x400000"), "{error}");

        let (a, b) = (hash_pages(&ram).unwrap(), hash_pages(&other).unwrap());
        let bytes: Vec<u8> = b.iter().flat_map(|h| h.to_le_bytes()).collect();
        let error = compare_pages(&ram, &a, 0, &bytes).unwrap_err().to_string();
        assert!(error.contains("0x406000"), "{error}");
        assert!(compare_pages(&ram, &a, 1031, &bytes[1031 * 8..]).is_ok());
        assert!(compare_pages(&ram, &a, 8000, &bytes).is_err());
        assert!(compare_pages(&ram, &a, 0, &[]).is_err(), "no hash at all");
    }
}

//! Proof that another VMM's migration brought memory over whole: each side copies its paused guest's memory to a file and hashes
//! it, the destination leaves its hashes for the source, and the source compares.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use super::{Peer, PeerError};
use crate::node::proof::{BLOCK_HASH, differing};
use crate::sys::clock;
use crate::sys::ram::GRANULE;

/// What is hashed at once.
const BLOCK: usize = 2 << 20;
const _: () = assert!(BLOCK as u64 == GRANULE);
/// What is copied at once, so that a host needs no memory for a further copy of the guest.
const PART: u64 = 32 << 20;

/// BLAKE3 of every 2 MiB of a paused guest's memory, through a file in `scratch` that is gone afterwards.
fn hashes(peer: &dyn Peer, scratch: &Path, side: &str) -> Result<Vec<u8>, PeerError> {
    let path = scratch.join(format!("{side}.memory"));
    let mut all = Vec::new();
    let mut start = 0;
    while start < peer.memory() {
        let length = PART.min(peer.memory() - start);
        peer.copy_memory(start, length, &path)?;
        start += length;
        let hashed = hash_file(&path, length).map_err(PeerError::system("read a copy of guest memory"));
        let _ = std::fs::remove_file(&path);
        all.extend(hashed?);
    }
    Ok(all)
}

fn hash_file(path: &Path, length: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != length {
        return Err(std::io::Error::other("it has not all of the guest's memory"));
    }
    let (mut left, mut block, mut hashes) = (length, vec![0; BLOCK], Vec::new());
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        file.read_exact(&mut block[..part])?;
        hashes.extend_from_slice(blake3::hash(&block[..part]).as_bytes());
        left -= part as u64;
    }
    Ok(hashes)
}

/// At the destination, before the guest runs there: leaves its hashes for the source.
pub fn publish(peer: &dyn Peer, scratch: &Path) -> Result<(), PeerError> {
    let hashes = hashes(peer, scratch, "destination")?;
    let write = || {
        let part = scratch.join("hashes.part");
        File::create(&part)?.write_all(&hashes)?;
        std::fs::rename(part, scratch.join("hashes"))
    };
    write().map_err(PeerError::system("leave hashes of memory for the source"))
}

/// At the source, after its guest has stopped for good: compares with what the destination leaves within `patience`.
///
/// # Errors
/// [`PeerError::Differs`] names the first block that differs.
pub fn compare(peer: &dyn Peer, scratch: &Path, patience: Duration) -> Result<(), PeerError> {
    let here = hashes(peer, scratch, "source")?;
    let path = scratch.join("hashes");
    let came = clock::found_within(patience, Duration::from_millis(5), || Ok::<_, PeerError>(path.exists()))?;
    if !came {
        return Err(PeerError::Vmm("the destination's hashes of memory did not come".to_owned()));
    }
    let there = std::fs::read(&path).map_err(PeerError::system("read the destination's hashes"))?;
    let Some((first, count)) = differing(&here, &there) else { return Ok(()) };
    Err(PeerError::Differs(format!(
        "memory differs at the destination in {count} of {} blocks, first in the 2 MiB from {:#x} of its RAM on",
        here.len() / BLOCK_HASH,
        first * BLOCK
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::example::Vmm;

    /// Over more than one part, the last of which is short.
    #[test]
    fn memories_of_two_sides_are_compared() {
        let scratch = tempfile::tempdir().unwrap();
        let part = usize::try_from(PART).unwrap();
        let mut memory = vec![3; part + 3 * BLOCK];
        let source = Vmm::new(memory.clone());
        publish(&Vmm::new(memory.clone()), scratch.path()).unwrap();
        compare(&source, scratch.path(), Duration::ZERO).unwrap();
        memory[part + BLOCK] ^= 1;
        publish(&Vmm::new(memory), scratch.path()).unwrap();
        let error = compare(&source, scratch.path(), Duration::ZERO).unwrap_err().to_string();
        assert!(
            error.contains("in 1 of 19 blocks, first in the 2 MiB from 0x2200000 of its RAM on"),
            "{error}"
        );
        let elsewhere = tempfile::tempdir().unwrap();
        let error = compare(&source, elsewhere.path(), Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("did not come"), "{error}");
        let left: Vec<_> = std::fs::read_dir(elsewhere.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_block_that_differs_or_is_missing_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory");
        let mut memory = vec![7; 3 * BLOCK];
        std::fs::write(&path, &memory).unwrap();
        let length = memory.len() as u64;
        let here = hash_file(&path, length).unwrap();
        assert_eq!((here.len(), differing(&here, &here)), (3 * BLOCK_HASH, None));
        memory[2 * BLOCK + 5] ^= 1;
        std::fs::write(&path, &memory).unwrap();
        assert_eq!(differing(&here, &hash_file(&path, length).unwrap()), Some((2, 1)));
        assert_eq!(differing(&here, &here[..BLOCK_HASH]), Some((1, 2)));
        assert!(hash_file(&path, length + 1).is_err(), "a short copy");
    }
}

//! Takes frames of pages apart and into the destination's memory. Nothing of a frame is applied before all its entries were found
//! sound. Whole pages behind the payload come from the socket straight to where they belong: a run that fails after that throws this
//! memory away.

use migbench_scenarios::cell::Codec;
use migbench_workloads::units::{Gpa, PAGE_SIZE};
use vm_memory::VolatileSlice;

use super::{NodeError, proof};
use crate::codec::{self, Page, PageCodec};
use crate::sys::clock;
use crate::sys::memory::{NoMemory, zeroed};
use crate::sys::ram::Ram;
use crate::vm::page_set::PageSet;
use crate::wire::frame::Frame;
use crate::wire::pages::{PageRecord, PageRecords};

/// What the destination knows about the pages that it took in.
#[derive(Debug)]
pub struct PageReceiver {
    /// Pages that may hold something else than zeros.
    written: PageSet,
    /// None where every page comes whole.
    codec: Option<Box<dyn PageCodec>>,
    /// Hash of each page as it was decoded; empty unless asked for.
    hashes: Vec<u64>,
    /// Whether the first round is still coming: long before the guest runs here, so its pages go past the caches. What later
    /// rounds bring the guest needs soon.
    first_round: bool,
    /// Nanoseconds in decoding.
    decode: u64,
    /// Pages that this round may still bring: each comes at most once.
    left: u64,
    page: Box<Page>,
}

impl PageReceiver {
    /// For `ram` full of zeros, of whose pages some may come as `codec` encodes them. `hashed` keeps the hash of each page as it was decoded.
    ///
    /// # Errors
    /// When there is no memory for that.
    pub fn new(ram: &Ram, codec: Codec, hashed: bool) -> Result<Self, NoMemory> {
        let mut hashes = zeroed(if hashed { ram.pages() } else { 0 }, "hashes of pages")?;
        hashes.fill(proof::hash_page(&[0; 4096]));
        let (pages, page) = (ram.pages(), Box::new([0; 4096]));
        let written = PageSet::new(pages)?;
        let codec = codec::new(codec);
        Ok(Self { written, codec, hashes, first_round: true, decode: 0, left: pages, page })
    }

    /// Hash of each page as it was decoded; empty unless asked for.
    #[must_use]
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Time spent in [`Self::pages`].
    #[must_use]
    pub const fn decode_nanoseconds(&self) -> u64 {
        self.decode
    }

    /// Says where the whole pages behind the payload of `frame` go.
    ///
    /// # Errors
    /// When an entry is not sound.
    pub fn place<'r>(
        &self,
        ram: &'r Ram,
        frame: &Frame<'_>,
        places: &mut Vec<VolatileSlice<'r>>,
    ) -> Result<(), NodeError> {
        for record in PageRecords::parse(frame, ram.pages())? {
            if let PageRecord::Full { first, count, data: None } = record {
                for slice in ram.slices(first, count) {
                    places.push(slice?);
                }
            }
        }
        Ok(())
    }

    /// Applies a frame of pages, of which those behind the payload are in their [place](Self::place).
    ///
    /// # Errors
    /// When an entry is not sound, or a delta does not fit its page.
    pub fn pages(&mut self, ram: &Ram, frame: &Frame<'_>) -> Result<(), NodeError> {
        let start = clock::now();
        let left = self.left;
        for record in PageRecords::parse(frame, ram.pages())? {
            let (first, count) = match record {
                PageRecord::Zero { first, count } | PageRecord::Full { first, count, .. } => (first, count),
                PageRecord::Delta { pfn, .. } => (pfn, 1),
            };
            let more = || NodeError::Content("more pages came in a round than the guest has".into());
            self.left = self.left.checked_sub(count).ok_or_else(more)?;
            match record {
                PageRecord::Zero { .. } => {
                    for page in first..first + count {
                        // Memory starts as zeros: most marks need no write.
                        if self.written.contains(page) {
                            ram.write(page, &[0; 4096])?;
                        }
                    }
                }
                PageRecord::Full { data, .. } => {
                    match data {
                        Some(data) if self.first_round => ram.write_past_caches(first, data)?,
                        Some(data) => ram.write(first, data)?,
                        None => {}
                    }
                    (first..first + count).for_each(|page| self.written.insert(page));
                }
                PageRecord::Delta { pfn, data } => {
                    let codec = self.codec.as_mut().ok_or_else(|| {
                        NodeError::Content("an encoded page came, and the codec is none".into())
                    })?;
                    codec
                        .decode_in_place(data, ram.target(pfn)?)
                        .map_err(|source| NodeError::Delta { page: Gpa(pfn * PAGE_SIZE), source })?;
                    self.written.insert(pfn);
                }
            }
            if !self.hashes.is_empty() {
                for page in first..first + count {
                    ram.read(page, &mut self.page[..])?;
                    note(&mut self.hashes, page, &self.page);
                }
            }
        }
        if self.left == left {
            return Err(NodeError::Content("a Pages frame without a page came".into()));
        }
        self.decode += clock::now() - start;
        Ok(())
    }

    /// The source has sent all of a round: the next one may bring every page again.
    pub fn round_ends(&mut self, ram: &Ram) {
        self.first_round = false;
        self.left = ram.pages();
    }

    /// Takes note of what page `page` holds now.
    pub(super) fn note(&mut self, page: u64, content: &Page) {
        note(&mut self.hashes, page, content);
    }
}

fn note(hashes: &mut [u64], page: u64, content: &Page) {
    if let Some(hash) = usize::try_from(page).ok().and_then(|at| hashes.get_mut(at)) {
        *hash = proof::hash_page(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::FrameKind;
    use migbench_scenarios::cell::Backing;
    use migbench_workloads::units::Bytes;

    /// The payload of a frame of pages with these runs of zero pages.
    fn zeros(runs: &[(u64, u64)]) -> Vec<u8> {
        let head = (runs.len() as u64).to_le_bytes();
        let entries = runs.iter().map(|(first, count)| first | count << 44 | 1 << 60);
        head.into_iter().chain(entries.flat_map(u64::to_le_bytes)).collect()
    }

    /// What a peer could send for ever without bringing the migration forward.
    #[test]
    fn a_round_brings_each_page_once_and_every_frame_brings_some() {
        let ram = Ram::new(Bytes(32 << 20), Backing::Anonymous).unwrap();
        let pages = ram.pages();
        let mut pages_in = PageReceiver::new(&ram, Codec::None, false).unwrap();
        let take = |pages_in: &mut PageReceiver, runs: &[(u64, u64)]| {
            let payload = zeros(runs);
            let frame =
                Frame { kind: FrameKind::Pages, sequence: 0, offset: 0, payload: &payload, trailing: 0 };
            pages_in.pages(&ram, &frame).map_err(|error| error.to_string())
        };
        take(&mut pages_in, &[(0, pages / 2)]).unwrap();
        take(&mut pages_in, &[(pages / 2, pages / 2)]).unwrap();
        let error = take(&mut pages_in, &[(0, 1)]).unwrap_err();
        assert_eq!(error, "more pages came in a round than the guest has");
        pages_in.round_ends(&ram);
        take(&mut pages_in, &[(7, 1)]).unwrap();
        assert_eq!(take(&mut pages_in, &[]).unwrap_err(), "a Pages frame without a page came");
    }
}

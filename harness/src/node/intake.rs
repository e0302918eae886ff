//! Takes frames of pages apart and into the destination's memory. A frame enters whole and verified; nothing of it
//! is applied before all its entries were found sound.

use super::{NodeError, proof};
use crate::codec::Page;
use crate::codec::xbzrle;
use crate::sys::clock;
use crate::sys::ram::Ram;
use crate::vm::page_set::PageSet;
use crate::wire::frame::Frame;
use crate::wire::pages::{PageRecord, PageRecords};

/// What the destination knows about the pages that it took in.
#[derive(Debug)]
pub struct Intake {
    /// Pages that may hold something else than zeros.
    written: PageSet,
    /// Hash of each page as it was decoded; empty unless asked for.
    hashes: Vec<u64>,
    /// Nanoseconds in decoding.
    decode: u64,
    page: Box<Page>,
}

impl Intake {
    /// For `ram` full of zeros. `hashed` keeps the hash of each page as it was decoded.
    #[must_use]
    pub fn new(ram: &Ram, hashed: bool) -> Self {
        let mut hashes = Vec::new();
        if hashed {
            hashes.resize(usize::try_from(ram.pages()).unwrap_or(0), proof::hash_page(&[0; 4096]));
        }
        Self { written: PageSet::new(ram.pages()), hashes, decode: 0, page: Box::new([0; 4096]) }
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

    /// Applies a frame of pages.
    ///
    /// # Errors
    /// When an entry is not sound, or a delta does not fit its page.
    pub fn pages(&mut self, ram: &Ram, frame: &Frame<'_>) -> Result<(), NodeError> {
        let start = clock::now();
        for record in PageRecords::parse(frame, ram.pages())? {
            match record {
                PageRecord::Zero { first, count } => {
                    for page in first..first + count {
                        // Memory starts as zeros: most marks need no write.
                        if self.written.contains(page) {
                            ram.write(page, &[0; 4096])?;
                        }
                        self.note(page, &[0; 4096]);
                    }
                }
                PageRecord::Full { first, data } => {
                    ram.write(first, data)?;
                    for (page, content) in (first..).zip(data.as_chunks::<4096>().0) {
                        self.written.insert(page);
                        self.note(page, content);
                    }
                }
                PageRecord::Delta { pfn, data } => {
                    ram.read(pfn, &mut self.page[..])?;
                    if let Err(source) = xbzrle::decode(data, &mut self.page) {
                        return Err(NodeError::Delta { page: ram.address(pfn)?, source });
                    }
                    ram.write(pfn, &self.page[..])?;
                    self.written.insert(pfn);
                    if !self.hashes.is_empty() {
                        let page = self.page.clone();
                        self.note(pfn, &page);
                    }
                }
            }
        }
        self.decode += clock::now() - start;
        Ok(())
    }

    /// Takes note of what page `page` holds now.
    pub(super) fn note(&mut self, page: u64, content: &Page) {
        if let Some(hash) = usize::try_from(page).ok().and_then(|at| self.hashes.get_mut(at)) {
            *hash = proof::hash_page(content);
        }
    }
}

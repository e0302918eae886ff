//! Takes a batch of pages apart at the destination. A payload enters as bytes that nothing is known about;
//! only when all of it was found sound does the first record come out.

use super::{ENTRY, EntryKind, HEAD, MAX_ENTRIES, PAGE, PagesEntry};
use crate::wire::frame::{Frame, FrameError, FrameFault, FrameKind};

/// What a batch says about one page or a run of them. All page numbers are inside the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageRecord<'a> {
    /// Pages that are zero.
    Zero {
        /// The first page's number.
        first: u64,
        /// How many there are, at least one.
        count: u64,
    },
    /// Whole pages.
    Full {
        /// The first page's number.
        first: u64,
        /// Their contents, 4,096 bytes for each.
        data: &'a [u8],
    },
    /// One page as an encoding against what the destination holds.
    Delta {
        /// The page's number.
        pfn: u64,
        /// The encoding, which is not verified yet.
        data: &'a [u8],
    },
}

/// The records of a batch, in the order in which they were sent.
#[derive(Debug, Clone)]
pub struct PageRecords<'a> {
    entries: &'a [[u8; ENTRY]],
    data: &'a [u8],
}

impl<'a> PageRecords<'a> {
    /// Verifies the payload of a frame of pages, for a guest of `guest_pages` pages.
    ///
    /// # Errors
    /// If an entry is not sound, names a page outside the guest, or data is missing or left over.
    pub fn parse(frame: &Frame<'a>, guest_pages: u64) -> Result<Self, FrameError> {
        let payload = frame.payload;
        let refuse = |at: usize, fault| {
            Err(FrameError { offset: frame.offset + at as u64, kind: Some(FrameKind::Pages), fault })
        };
        let truncated = |needed| FrameFault::Truncated { needed, have: payload.len() };
        let Some((head, rest)) = payload.split_first_chunk::<HEAD>() else {
            return refuse(payload.len(), truncated(HEAD));
        };
        let head = u64::from_le_bytes(*head);
        let (entry_count, data_length) = (head & u64::from(u32::MAX), head >> 32);
        // The division cannot overflow as a multiplication of the untrusted count could.
        let Some(entry_count) =
            usize::try_from(entry_count).ok().filter(|count| *count <= rest.len() / ENTRY)
        else {
            return refuse(
                0,
                truncated(usize::try_from(entry_count).unwrap_or(usize::MAX).saturating_mul(ENTRY)),
            );
        };
        if entry_count > MAX_ENTRIES {
            return refuse(0, FrameFault::Entries { count: entry_count });
        }
        let (entries, data) = rest.split_at(entry_count * ENTRY);
        if data.len() as u64 != data_length {
            return refuse(4, FrameFault::DataLength { expected: data_length, found: data.len() as u64 });
        }
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let (mut needed, mut due) = (0, 0);
        for (index, bytes) in entries.iter().enumerate() {
            match check(*bytes, index, due, guest_pages) {
                Ok((length, end)) => (needed, due) = (needed + length, end),
                Err(fault) => return refuse(HEAD + index * ENTRY, fault),
            }
        }
        if needed != data_length {
            return refuse(4, FrameFault::DataLength { expected: needed, found: data_length });
        }
        Ok(Self { entries, data })
    }
}

/// Verifies one entry, whose first page may be `due` at the earliest. Gives the bytes of data that belong to it, and the
/// number of the page behind it.
fn check(bytes: [u8; ENTRY], index: usize, due: u64, guest_pages: u64) -> Result<(u64, u64), FrameFault> {
    let entry =
        PagesEntry::from_bytes(bytes).map_err(|found| FrameFault::EntryKind { entry: index, found })?;
    let PagesEntry { kind, first, count } = entry;
    if count == 0 {
        return Err(FrameFault::EmptyEntry { entry: index });
    }
    // Neither sum nor product can overflow: a page number has 44 bits, a count 16.
    let end = entry.end();
    if end > guest_pages {
        return Err(FrameFault::OutsideGuest { entry: index, first, count: end - first, guest_pages });
    }
    if first < due {
        return Err(FrameFault::Order { entry: index, first, due });
    }
    match kind {
        EntryKind::Zero => Ok((0, end)),
        EntryKind::Full => Ok((count * PAGE as u64, end)),
        EntryKind::Delta if count < PAGE as u64 => Ok((count, end)),
        EntryKind::Delta => Err(FrameFault::DeltaLength {
            entry: index,
            length: usize::try_from(count).unwrap_or(usize::MAX),
        }),
    }
}

impl<'a> Iterator for PageRecords<'a> {
    type Item = PageRecord<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (bytes, rest) = self.entries.split_first()?;
        self.entries = rest;
        // `parse` has verified all of this; were it wrong, the records would end rather than lie.
        let PagesEntry { kind, first, count } = PagesEntry::from_bytes(*bytes).ok()?;
        let mut take = |length: u64| {
            let (data, rest) = self.data.split_at_checked(usize::try_from(length).ok()?)?;
            self.data = rest;
            Some(data)
        };
        Some(match kind {
            EntryKind::Zero => PageRecord::Zero { first, count },
            EntryKind::Full => PageRecord::Full { first, data: take(count * PAGE as u64)? },
            EntryKind::Delta => PageRecord::Delta { pfn: first, data: take(count)? },
        })
    }
}

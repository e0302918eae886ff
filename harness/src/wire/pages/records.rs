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
        /// How many there are, at least one.
        count: u64,
        /// Their contents, 4,096 bytes for each; none where these come behind the payload.
        data: Option<&'a [u8]>,
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
    encoded: &'a [u8],
    /// None where whole pages come behind the payload.
    whole: Option<&'a [u8]>,
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
        let (mut encoded, mut whole, mut due) = (0, 0, 0);
        for (index, bytes) in entries.iter().enumerate() {
            match check(*bytes, index, due, guest_pages) {
                Ok(entry) => {
                    due = entry.end();
                    match entry.kind {
                        EntryKind::Zero => {}
                        EntryKind::Full => whole += entry.count * PAGE as u64,
                        EntryKind::Delta => encoded += entry.count,
                    }
                }
                Err(fault) => return refuse(HEAD + index * ENTRY, fault),
            }
        }
        let behind = u64::from(frame.trailing) * PAGE as u64;
        let (needed, found) = (encoded + whole, data_length + behind);
        // Whole pages come all in the payload or all behind it.
        if needed != found || ![0, whole].contains(&behind) {
            return refuse(4, FrameFault::DataLength { expected: needed, found });
        }
        // At most the length of the payload, as was just seen.
        let (encoded, in_payload) = data.split_at(usize::try_from(encoded).unwrap_or(data.len()));
        Ok(Self { entries, encoded, whole: (behind == 0).then_some(in_payload) })
    }
}

/// Verifies one entry, whose first page may be `due` at the earliest.
fn check(bytes: [u8; ENTRY], index: usize, due: u64, guest_pages: u64) -> Result<PagesEntry, FrameFault> {
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
    if kind == EntryKind::Delta && count >= PAGE as u64 {
        let length = usize::try_from(count).unwrap_or(usize::MAX);
        return Err(FrameFault::DeltaLength { entry: index, length });
    }
    Ok(entry)
}

impl<'a> Iterator for PageRecords<'a> {
    type Item = PageRecord<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (bytes, rest) = self.entries.split_first()?;
        self.entries = rest;
        // `parse` has verified all of this; were it wrong, the records would end rather than lie.
        let PagesEntry { kind, first, count } = PagesEntry::from_bytes(*bytes).ok()?;
        Some(match kind {
            EntryKind::Zero => PageRecord::Zero { first, count },
            EntryKind::Full => {
                let data = match &mut self.whole {
                    Some(whole) => Some(take(whole, count * PAGE as u64)?),
                    None => None,
                };
                PageRecord::Full { first, count, data }
            }
            EntryKind::Delta => PageRecord::Delta { pfn: first, data: take(&mut self.encoded, count)? },
        })
    }
}

fn take<'a>(from: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
    *from = rest;
    Some(taken)
}

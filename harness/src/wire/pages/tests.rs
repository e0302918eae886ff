//! Batches come back as the records that were put in, and no payload makes the decoder panic or name a page outside the
//! guest.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::frame::{Frame, FrameError, FrameFault, FrameKind, HEADER};

const GUEST: u64 = 1 << 20;

/// One page as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SentPage {
    Zero(u64),
    Full(u64, u8),
    Delta(u64, Vec<u8>),
}

fn any_sent() -> impl Strategy<Value = Vec<SentPage>> {
    // Small steps between pages, so that runs form.
    let page = (1..3u64, 0..4u8, any::<u8>(), vec(any::<u8>(), 1..60));
    vec(page, 0..200).prop_map(|pages| {
        let mut pfn = 0;
        let sent = |(step, kind, byte, delta)| {
            pfn += step;
            match kind {
                0 => SentPage::Delta(pfn, delta),
                1 => SentPage::Zero(pfn),
                _ => SentPage::Full(pfn, byte),
            }
        };
        pages.into_iter().map(sent).collect()
    })
}

fn frame(payload: &[u8]) -> Frame<'_> {
    Frame { kind: FrameKind::Pages, sequence: 0, offset: HEADER as u64, payload, trailing: 0 }
}

/// The sender's memory: whole pages in one place, encodings in another.
#[derive(Default)]
struct TestMemory {
    whole: Vec<u8>,
    encoded: Vec<u8>,
}

impl TestMemory {
    fn push(&mut self, batch: &mut PageBatch, page: &SentPage) {
        match page {
            SentPage::Zero(pfn) => batch.push_zero(*pfn),
            SentPage::Full(pfn, byte) => {
                self.whole.extend([*byte; PAGE]);
                batch.push_whole(*pfn);
            }
            SentPage::Delta(pfn, delta) => {
                self.encoded.extend(delta);
                batch.push_encoded(*pfn, delta.len());
            }
        }
    }

    /// The payload with all data in it.
    fn payload(&self, batch: &mut PageBatch) -> Vec<u8> {
        [batch.meta(self.encoded.len() + self.whole.len()), &self.encoded, &self.whole].concat()
    }

    /// The payload of a frame behind which whole pages come, and how many.
    fn before_pages(&self, batch: &mut PageBatch) -> (Vec<u8>, u16) {
        let payload = [batch.meta(self.encoded.len()), &self.encoded].concat();
        (payload, u16::try_from(self.whole.len() / PAGE).unwrap())
    }
}

fn received(frame: &Frame<'_>, behind: &[u8]) -> Vec<SentPage> {
    let (mut pages, mut behind) = (Vec::new(), behind);
    for record in PageRecords::parse(frame, GUEST).unwrap() {
        match record {
            PageRecord::Zero { first, count } => pages.extend((first..first + count).map(SentPage::Zero)),
            PageRecord::Full { first, count, data } => {
                let bytes = usize::try_from(count).unwrap() * PAGE;
                let data = data.unwrap_or_else(|| behind.split_off(..bytes).unwrap());
                assert_eq!(data.len(), bytes);
                for (pfn, page) in (first..).zip(data.as_chunks::<PAGE>().0) {
                    assert!(page.iter().all(|byte| *byte == page[0]));
                    pages.push(SentPage::Full(pfn, page[0]));
                }
            }
            PageRecord::Delta { pfn, data } => pages.push(SentPage::Delta(pfn, data.to_vec())),
        }
    }
    assert!(behind.is_empty());
    pages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pushed_pages_come_back(pages in any_sent(), most in 1..200usize) {
        let mut batch = PageBatch::new();
        let (mut came_back, mut came_behind) = (Vec::new(), Vec::new());
        for pages in pages.chunks(most) {
            let mut memory = TestMemory::default();
            pages.iter().for_each(|page| memory.push(&mut batch, page));
            let payload = memory.payload(&mut batch);
            prop_assert_eq!(batch.traffic().total(), (payload.len() + HEADER) as u64);
            came_back.extend(received(&frame(&payload), &[]));
            let (payload, trailing) = memory.before_pages(&mut batch);
            came_behind.extend(received(&Frame { trailing, ..frame(&payload) }, &memory.whole));
            batch.clear();
        }
        prop_assert_eq!(&came_back, &pages);
        prop_assert_eq!(came_behind, pages);
    }

    #[test]
    fn damaged_payloads_never_panic_nor_leave_the_guest(
        pages in any_sent(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), guest in 0..300u64,
        cut in any::<prop::sample::Index>(), shorten: bool, behind: bool,
    ) {
        let (mut batch, mut memory) = (PageBatch::new(), TestMemory::default());
        pages.iter().for_each(|page| memory.push(&mut batch, page));
        let (mut payload, trailing) =
            if behind { memory.before_pages(&mut batch) } else { (memory.payload(&mut batch), 0) };
        // Damage the entries rather than the data, where it would change nothing.
        let reach = payload.len().min(200);
        for (at, byte) in damage {
            payload[at.index(reach)] = byte;
        }
        if shorten {
            payload.truncate(cut.index(payload.len()));
        }
        if let Ok(records) = PageRecords::parse(&Frame { trailing, ..frame(&payload) }, guest) {
            let (mut due, mut placed) = (0, 0);
            for record in records {
                let (first, end) = match record {
                    PageRecord::Zero { first, count } => (first, first + count),
                    PageRecord::Full { first, count, data } => {
                        prop_assert!(data.is_none_or(|data| data.len() as u64 == count * PAGE as u64));
                        placed += if data.is_none() { count } else { 0 };
                        (first, first + count)
                    }
                    PageRecord::Delta { pfn, data } => {
                        prop_assert!(!data.is_empty() && data.len() < PAGE);
                        (pfn, pfn + 1)
                    }
                };
                prop_assert!(due <= first && end <= guest);
                due = end;
            }
            prop_assert_eq!(placed, u64::from(trailing));
        }
    }

    #[test]
    fn any_payload_is_parsed_or_refused(payload in vec(any::<u8>(), 0..200)) {
        let _ = PageRecords::parse(&frame(&payload), GUEST);
    }
}

fn payload_of(entries: &[PagesEntry], data: &[u8]) -> Vec<u8> {
    let head = entries.len() as u64 | (data.len() as u64) << 32;
    let entries = entries.iter().flat_map(|entry| entry.to_bytes());
    head.to_le_bytes().into_iter().chain(entries).chain(data.iter().copied()).collect()
}

fn refused(payload: &[u8]) -> FrameError {
    PageRecords::parse(&frame(payload), 100).unwrap_err()
}

#[test]
fn refusals_name_the_entry_and_its_offset() {
    let entry = |kind, first, count| PagesEntry { kind, first, count };
    let fine = entry(EntryKind::Zero, 0, 1);
    let second = (HEADER + HEAD + ENTRY) as u64;

    let error = refused(&payload_of(&[fine, entry(EntryKind::Zero, 99, 2)], &[]));
    assert_eq!(error.offset, second);
    assert_eq!(error.fault, FrameFault::OutsideGuest { entry: 1, first: 99, count: 2, guest_pages: 100 });

    let error = refused(&payload_of(&[fine, entry(EntryKind::Full, 1, 0)], &[]));
    assert_eq!((error.offset, error.fault), (second, FrameFault::EmptyEntry { entry: 1 }));

    let error = refused(&payload_of(&[entry(EntryKind::Delta, 1, 4096)], &[0; 4096]));
    assert_eq!(error.fault, FrameFault::DeltaLength { entry: 0, length: 4096 });

    let error = refused(&payload_of(&[entry(EntryKind::Full, 1, 2)], &[0; PAGE]));
    assert_eq!(error.fault, FrameFault::DataLength { expected: 2 * PAGE as u64, found: PAGE as u64 });

    // One whole page in the payload and one behind it, and one more behind it than there are.
    let two = [entry(EntryKind::Full, 1, 2)];
    for (data, trailing) in [(PAGE, 1), (0, 3)] {
        let payload = payload_of(&two, &vec![0; data]);
        let error = PageRecords::parse(&Frame { trailing, ..frame(&payload) }, 100).unwrap_err();
        assert!(matches!(error.fault, FrameFault::DataLength { .. }), "{error}");
    }

    // No page twice: a frame of 8 KiB would otherwise name sixty million.
    let error = refused(&payload_of(&[fine, entry(EntryKind::Zero, 0, 100)], &[]));
    assert_eq!((error.offset, error.fault), (second, FrameFault::Order { entry: 1, first: 0, due: 1 }));
    let many: Vec<_> = (0..1025).map(|first| entry(EntryKind::Zero, 2 * first, 1)).collect();
    let error = PageRecords::parse(&frame(&payload_of(&many, &[])), GUEST).unwrap_err();
    assert_eq!(error.fault, FrameFault::Entries { count: 1025 });

    let mut payload = payload_of(&[fine], &[]);
    payload[HEAD + 7] |= 0xf0;
    assert_eq!(refused(&payload).fault, FrameFault::EntryKind { entry: 0, found: 15 });

    let mut payload = payload_of(&[fine], &[]);
    payload[0] = 2;
    assert_eq!(refused(&payload).fault, FrameFault::Truncated { needed: 16, have: 16 });
    payload.push(0);
    payload[0] = 1;
    assert_eq!(refused(&payload).fault, FrameFault::DataLength { expected: 0, found: 1 });
}

#[test]
fn zero_pages_cost_one_entry_a_run() {
    let mut batch = PageBatch::new();
    (0..100_000).for_each(|pfn| batch.push_zero(pfn));
    assert_eq!((batch.pages(), batch.has_data(), batch.room()), (100_000, false, 1022));
    assert_eq!(batch.traffic().zero, 2 * ENTRY as u64);
    let payload = TestMemory::default().payload(&mut batch);
    assert_eq!(received(&frame(&payload), &[]).len(), 100_000);
}

#[test]
fn bytes_are_attributed_to_the_kind_they_carry() {
    let (mut batch, mut memory) = (PageBatch::new(), TestMemory::default());
    for page in
        [SentPage::Full(5, 1), SentPage::Full(6, 2), SentPage::Delta(7, vec![0, 1, 9]), SentPage::Zero(8)]
    {
        memory.push(&mut batch, &page);
    }
    let traffic = batch.traffic();
    assert_eq!((traffic.full, traffic.delta, traffic.zero, traffic.control), (8 + 8192, 8 + 3, 8, 36 + 8));
}

#[test]
fn the_largest_batch_is_the_largest_frame() {
    let (mut batch, mut memory) = (PageBatch::new(), TestMemory::default());
    // Every second page, so that each is an entry of its own.
    (0..PageBatch::PAGES as u64).for_each(|n| memory.push(&mut batch, &SentPage::Full(2 * n, 1)));
    let rest = batch.room() as u64;
    (0..rest).for_each(|n| batch.push_zero(1000 + 2 * n));
    assert_eq!(batch.room(), 0);
    assert_eq!((HEADER + memory.payload(&mut batch).len()) as u64, LARGEST_FRAME);
    let (payload, trailing) = memory.before_pages(&mut batch);
    assert_eq!((HEADER + payload.len() + usize::from(trailing) * PAGE) as u64, LARGEST_FRAME);
    assert!(trailing <= FrameKind::Pages.max_trailing());
    const { assert!(LARGEST_FRAME <= (HEADER + FrameKind::Pages.max_payload()) as u64) };
}

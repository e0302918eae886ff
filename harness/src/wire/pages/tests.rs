//! Batches come back as the records that were put in, staged or pushed, and no payload makes the decoder
//! panic or name a page outside the guest.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::{Outcome, PAGE, Page};
use crate::wire::frame::{Fault, Frame, FrameError, FrameKind, HEADER};

const GUEST: u64 = 1 << 20;

/// One page as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sent {
    Zero(u64),
    Full(u64, u8),
    Delta(u64, Vec<u8>),
}

fn any_sent() -> impl Strategy<Value = Vec<Sent>> {
    // Small steps between pages, so that runs form.
    let page = (0..3u64, 0..4u8, any::<u8>(), vec(any::<u8>(), 1..60));
    vec(page, 0..200).prop_map(|pages| {
        let mut pfn = 0;
        let sent = |(step, kind, byte, delta)| {
            pfn += step;
            match kind {
                0 => Sent::Delta(pfn, delta),
                1 => Sent::Zero(pfn),
                _ => Sent::Full(pfn, byte),
            }
        };
        pages.into_iter().map(sent).collect()
    })
}

fn frame(payload: &[u8]) -> Frame<'_> {
    Frame { kind: FrameKind::Pages, sequence: 0, offset: HEADER as u64, payload }
}

fn push(batch: &mut PageBatch, page: &Sent) -> Result<(), BatchFull> {
    match page {
        Sent::Zero(pfn) => batch.push_zero(*pfn),
        Sent::Full(pfn, byte) => batch.push_full(*pfn, &[*byte; PAGE]),
        Sent::Delta(pfn, delta) => batch.push_delta(*pfn, delta),
    }
}

fn stage(batch: &mut PageBatch, pages: &[Sent]) -> usize {
    let slots = batch.stage(pages.len());
    for (slot, page) in slots.iter_mut().zip(pages) {
        *slot = match page {
            Sent::Full(_, byte) => [*byte; PAGE],
            Sent::Zero(_) => [0; PAGE],
            Sent::Delta(..) => [0xdd; PAGE],
        };
    }
    let staged = slots.len();
    for page in &pages[..staged] {
        match page {
            Sent::Zero(pfn) => batch.settle_zero(*pfn),
            Sent::Full(pfn, _) => batch.settle_full(*pfn),
            Sent::Delta(pfn, delta) => {
                batch.settle_delta(*pfn, |page: &Page, out| {
                    assert!(page.iter().all(|byte| *byte == 0xdd));
                    out[..delta.len()].copy_from_slice(delta);
                    Outcome::Delta(delta.len())
                });
            }
        }
    }
    staged
}

fn received(payload: &[u8]) -> Vec<Sent> {
    let mut pages = Vec::new();
    for record in PageRecords::parse(&frame(payload), GUEST).unwrap() {
        match record {
            PageRecord::Zero { first, count } => pages.extend((first..first + count).map(Sent::Zero)),
            PageRecord::Full { first, data } => {
                let (data, rest) = data.as_chunks::<PAGE>();
                assert!(rest.is_empty());
                for (pfn, page) in (first..).zip(data) {
                    assert!(page.iter().all(|byte| *byte == page[0]));
                    pages.push(Sent::Full(pfn, page[0]));
                }
            }
            PageRecord::Delta { pfn, data } => pages.push(Sent::Delta(pfn, data.to_vec())),
        }
    }
    pages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pushed_pages_come_back(pages in any_sent(), capacity in 1..40usize) {
        let mut batch = PageBatch::new(capacity);
        let mut came_back = Vec::new();
        for page in &pages {
            if push(&mut batch, page).is_err() {
                came_back.extend(received(&batch.to_payload()));
                batch.clear();
                push(&mut batch, page).unwrap();
            }
        }
        came_back.extend(received(&batch.to_payload()));
        prop_assert_eq!(came_back, pages);
    }

    #[test]
    fn staged_pages_come_back(pages in any_sent(), capacity in 1..40usize, at_once in 1..20usize) {
        let mut batch = PageBatch::new(capacity);
        let mut came_back = Vec::new();
        for chunk in pages.chunks(at_once) {
            let mut settled = 0;
            while settled < chunk.len() {
                settled += stage(&mut batch, &chunk[settled..]);
                if batch.room() == 0 {
                    let payload = batch.to_payload();
                    prop_assert_eq!(batch.traffic().total(), (payload.len() + HEADER) as u64);
                    came_back.extend(received(&payload));
                    batch.clear();
                }
            }
        }
        came_back.extend(received(&batch.to_payload()));
        prop_assert_eq!(came_back, pages);
    }

    #[test]
    fn damaged_payloads_never_panic_nor_leave_the_guest(
        pages in any_sent(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), guest in 0..300u64,
        cut in any::<prop::sample::Index>(), shorten: bool,
    ) {
        let mut batch = PageBatch::new(64);
        let _ = pages.iter().try_for_each(|page| push(&mut batch, page));
        let mut payload = batch.to_payload();
        // Damage the entries rather than the data, where it would change nothing.
        let reach = payload.len().min(200);
        for (at, byte) in damage {
            payload[at.index(reach)] = byte;
        }
        if shorten {
            payload.truncate(cut.index(payload.len()));
        }
        if let Ok(records) = PageRecords::parse(&frame(&payload), guest) {
            for record in records {
                let end = match record {
                    PageRecord::Zero { first, count } => first + count,
                    PageRecord::Full { first, data } => first + (data.len() / PAGE) as u64,
                    PageRecord::Delta { pfn, data } => {
                        prop_assert!(!data.is_empty() && data.len() < PAGE);
                        pfn + 1
                    }
                };
                prop_assert!(end <= guest);
            }
        }
    }

    #[test]
    fn any_payload_is_parsed_or_refused(payload in vec(any::<u8>(), 0..200)) {
        let _ = PageRecords::parse(&frame(&payload), GUEST);
    }
}

fn payload_of(entries: &[Entry], data: &[u8]) -> Vec<u8> {
    let head = entries.len() as u64 | (data.len() as u64) << 32;
    let entries = entries.iter().flat_map(|entry| entry.to_bytes());
    head.to_le_bytes().into_iter().chain(entries).chain(data.iter().copied()).collect()
}

fn refused(payload: &[u8]) -> FrameError {
    PageRecords::parse(&frame(payload), 100).unwrap_err()
}

#[test]
fn refusals_name_the_entry_and_its_offset() {
    let entry = |kind, first, count| Entry { kind, first, count };
    let fine = entry(EntryKind::Zero, 0, 100);
    let second = (HEADER + HEAD + ENTRY) as u64;

    let error = refused(&payload_of(&[fine, entry(EntryKind::Zero, 99, 2)], &[]));
    assert_eq!(error.offset, second);
    assert_eq!(error.fault, Fault::OutsideGuest { entry: 1, first: 99, count: 2, guest_pages: 100 });

    let error = refused(&payload_of(&[fine, entry(EntryKind::Full, 1, 0)], &[]));
    assert_eq!((error.offset, error.fault), (second, Fault::EmptyEntry { entry: 1 }));

    let error = refused(&payload_of(&[entry(EntryKind::Delta, 1, 4096)], &[0; 4096]));
    assert_eq!(error.fault, Fault::DeltaLength { entry: 0, length: 4096 });

    let error = refused(&payload_of(&[entry(EntryKind::Full, 1, 2)], &[0; PAGE]));
    assert_eq!(error.fault, Fault::DataLength { expected: 2 * PAGE as u64, found: PAGE as u64 });

    let mut payload = payload_of(&[fine], &[]);
    payload[HEAD + 7] |= 0xf0;
    assert_eq!(refused(&payload).fault, Fault::EntryKind { entry: 0, found: 15 });

    let mut payload = payload_of(&[fine], &[]);
    payload[0] = 2;
    assert_eq!(refused(&payload).fault, Fault::Truncated { needed: 16, have: 16 });
    payload.push(0);
    payload[0] = 1;
    assert_eq!(refused(&payload).fault, Fault::DataLength { expected: 0, found: 1 });
}

#[test]
fn zero_pages_leave_slots_free_and_cost_one_entry_a_run() {
    let mut batch = PageBatch::new(4);
    for first in (0..100_000).step_by(4) {
        assert_eq!(batch.stage(4).len(), 4);
        (first..first + 4).for_each(|pfn| batch.settle_zero(pfn));
    }
    assert_eq!(batch.pages(), 100_000);
    assert_eq!(batch.traffic().zero, 2 * ENTRY as u64);
    assert_eq!(received(&batch.to_payload()).len(), 100_000);
}

#[test]
fn bytes_are_attributed_to_the_kind_they_carry() {
    let mut batch = PageBatch::new(8);
    batch.push_full(5, &[1; PAGE]).unwrap();
    batch.push_full(6, &[2; PAGE]).unwrap();
    batch.push_delta(7, &[0, 1, 9]).unwrap();
    batch.push_zero(8).unwrap();
    let traffic = batch.traffic();
    assert_eq!((traffic.full, traffic.delta, traffic.zero, traffic.control), (8 + 8192, 8 + 3, 8, 28 + 8));
}

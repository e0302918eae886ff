//! What comes over the link and the control sockets.

use migbench_scenarios::cell::{Backing, Codec, Engine};
use migbench_workloads::units::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vm_memory::VolatileSlice;

use crate::codec::{self, CodecBackend, MAX_ENCODED, PAGE, Page, SLACK};
use crate::node::hello::Hello;
use crate::node::page_receiver::PageReceiver;
use crate::node::proof;
use crate::node::protocol::{Message, Order, read_line};
use crate::sys::ram::Ram;
use crate::vm::model::CpuModel;
use crate::vm::state::VcpuState;
use crate::wire::frame::{self, Frame, FrameKind, HEADER};
use crate::wire::pages::{PageRecord, PageRecords};

/// A guest's memory, all zeros and hardly any of it there.
fn ram() -> std::sync::Arc<Ram> {
    Ram::new(Bytes(32 << 20), Backing::Anonymous).unwrap()
}

pub(super) fn frame(data: &[u8]) -> bool {
    let _ = frame::decode(data, 0, 0);
    let Some((head, payload)) = data.split_first_chunk::<HEADER>() else { return false };
    // No fuzzer guesses a checksum.
    let mut head = *head;
    let number = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().unwrap());
    let (sequence, release) = (number(12), number(20));
    let trailing = u16::from_le_bytes(*head[6..].first_chunk().unwrap());
    frame::seal(&mut head, trailing, release);
    let Ok(header) = frame::decode_header(&head, 0, sequence) else { return false };
    assert!(header.length <= header.kind.max_payload());
    assert!(header.trailing <= header.kind.max_trailing());
    assert_eq!((header.sequence, header.release, header.trailing), (sequence, release, trailing));
    if let Ok(frame) = header.with_payload(payload) {
        assert_eq!((frame.kind, frame.payload), (header.kind, payload));
    }
    let payload = &payload[..payload.len().min(header.kind.max_payload())];
    let sent = frame::encode_header(header.kind, sequence, [payload], 0).unwrap();
    let whole = [&sent[..], payload].concat();
    assert_eq!(frame::decode(&whole, 0, sequence).unwrap().payload, payload);
    true
}

/// A byte for the codec, and payloads of frames, each behind its length in two bytes and the number of pages behind it in one; one
/// of no length ends a round.
pub(super) fn pages(data: &[u8]) -> bool {
    let Some((&codec, mut data)) = data.split_first() else { return false };
    let (_, codec) = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    let ram = ram();
    let mut receiver = PageReceiver::new(&ram, codec, true).unwrap();
    let mut accepted = false;
    while let Some((&[low, high, trailing], rest)) = data.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()));
        data = rest;
        if payload.is_empty() {
            receiver.round_ends(&ram);
            continue;
        }
        let trailing = trailing.into();
        let frame = Frame { kind: FrameKind::Pages, sequence: 0, offset: 0, payload, trailing };
        let mut places = Vec::new();
        if receiver.place(&ram, &frame, &mut places).is_err() {
            break;
        }
        let room: usize = places.iter().map(VolatileSlice::len).sum();
        assert!([0, usize::from(trailing) * PAGE].contains(&room), "{room} bytes for {trailing} pages");
        places.iter().for_each(|place| place.copy_from(&vec![7_u8; place.len()]));
        if receiver.pages(&ram, &frame).is_err() {
            break;
        }
        accepted = true;
        for record in PageRecords::parse(&frame, ram.pages()).unwrap() {
            let (first, count) = match record {
                PageRecord::Zero { first, count } | PageRecord::Full { first, count, .. } => (first, count),
                PageRecord::Delta { pfn, .. } => (pfn, 1),
            };
            // What was hashed is what is there.
            for page in [first, first + count - 1] {
                let mut content = [0; PAGE];
                ram.read(page, &mut content).unwrap();
                let hash = receiver.hashes()[usize::try_from(page).unwrap()];
                assert_eq!(hash, proof::hash_page(&content), "page {page}");
            }
        }
    }
    accepted
}

/// A page with something in it.
fn old_page() -> Page {
    std::array::from_fn(|at| if at % 1024 < 700 { at.to_le_bytes()[0] } else { 0 })
}

/// An encoding; and where in a page the bytes are laid that are to be encoded.
fn codec(word: Codec, data: &[u8]) -> bool {
    let new_codec = || codec::new(word).unwrap();
    let (old, mut decoded) = (old_page(), old_page());
    let accepted = new_codec().decode(data, &mut decoded).is_ok();
    let Some((at, bytes)) = data.split_first_chunk::<2>() else { return accepted };
    let mut new = old;
    let start = usize::from(u16::from_le_bytes(*at)) % PAGE;
    for (to, from) in new[start..].iter_mut().zip(bytes) {
        *to = *from;
    }
    let mut out = vec![0; MAX_ENCODED + SLACK];
    match codec::encode_pair(new_codec().as_mut(), CodecBackend::best(), 7, [&old, &new], &mut out) {
        Some(0) => assert!(old == new),
        None => {}
        Some(length) => {
            let mut page = old;
            new_codec().decode(&out[..length], &mut page).unwrap();
            assert!(page == new, "{word}");
        }
    }
    accepted
}

pub(super) fn xbzrle(data: &[u8]) -> bool {
    codec(Codec::Xbzrle, data)
}

pub(super) fn mask(data: &[u8]) -> bool {
    codec(Codec::Mask, data)
}

pub(super) fn lz4(data: &[u8]) -> bool {
    codec(Codec::Lz4, data)
}

pub(super) fn zstd(data: &[u8]) -> bool {
    codec(Codec::Zstd, data)
}

pub(super) fn auto(data: &[u8]) -> bool {
    codec(Codec::Auto, data)
}

pub(super) fn hello(data: &[u8]) -> bool {
    let cell = migbench_scenarios::cell::Cell::default_for(Engine::Delta, "idle").unwrap();
    Hello::of(&cell, 8192, false).heard(data).is_ok()
}

/// A model as a host has it, and JSON of another one.
pub(super) fn model(data: &[u8]) -> bool {
    const HERE: &str = include_str!("../../fuzz/corpus/model/here.json");
    let here: CpuModel = serde_json::from_str(HERE).unwrap();
    assert_eq!(here.check_source(HERE.as_bytes()), Ok(()));
    here.check_source(data).is_ok()
}

pub(super) fn vcpu_state(data: &[u8]) -> bool {
    let mut state = VcpuState::without_kvm(&[0x10, 0x174, 0xc000_0080]);
    let before = state.as_bytes().concat();
    let accepted = state.load(data).is_ok();
    assert_eq!(state.as_bytes().concat(), if accepted { data } else { &before[..] });
    accepted
}

/// Hashes of blocks or of pages, as a byte says, and from which page on.
pub(super) fn hashes(data: &[u8]) -> bool {
    let Some(([kind, first], there)) = data.split_first_chunk::<2>() else { return false };
    let ram = ram();
    if *kind == b'b' {
        let here = vec![7; 16 * proof::BLOCK_HASH];
        return proof::compare_blocks(&ram, &here, there).is_ok();
    }
    let here = vec![u64::from_le_bytes([7; 8]); usize::try_from(ram.pages()).unwrap()];
    let first = usize::from(*first) * 64;
    let compared = proof::compare_pages(&ram, &here, first, there);
    compared.is_ok_and(|next| {
        assert!(next <= here.len());
        true
    })
}

pub(super) fn order(data: &[u8]) -> bool {
    lines::<Order>(data)
}

pub(super) fn message(data: &[u8]) -> bool {
    lines::<Message>(data)
}

/// Reads lines, each of which must mean the same once it was written again.
fn lines<T: Serialize + DeserializeOwned>(mut data: &[u8]) -> bool {
    let mut accepted = false;
    while let Ok(said) = read_line::<T>(&mut data, 1 << 20) {
        let line = serde_json::to_string(&said).unwrap() + "\n";
        let again: T = read_line(&mut line.as_bytes(), 1 << 30).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap() + "\n", line);
        accepted = true;
    }
    accepted
}

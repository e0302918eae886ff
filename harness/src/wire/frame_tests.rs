//! Properties of frames: any payload comes back, any damage is refused by name, no bytes make it panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn any_kind() -> impl Strategy<Value = FrameKind> {
    prop::sample::select(FrameKind::ALL)
}

/// A kind, and a payload that it may have.
fn any_frame(most: usize) -> impl Strategy<Value = (FrameKind, Vec<u8>)> {
    any_kind().prop_flat_map(move |kind| (Just(kind), vec(any::<u8>(), 0..=most.min(kind.max_payload()))))
}

fn encode(kind: FrameKind, sequence: u64, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = encode_header(kind, sequence, parts.iter().copied(), 0).unwrap().to_vec();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

proptest! {
    #[test]
    fn any_payload_comes_back(
        (kind, payload) in any_frame(3000),
        sequence: u64,
        release: u64,
        cut in any::<prop::sample::Index>(),
        behind in vec(any::<u8>(), 0..50),
        trailing: u16,
    ) {
        let (head, tail) = payload.split_at(cut.index(payload.len() + 1));
        let mut bytes = encode(kind, sequence, &[head, tail]);
        bytes.extend(behind);
        let header = bytes.first_chunk_mut().unwrap();
        let trailing = trailing.min(kind.max_trailing());
        seal(header, trailing, release);
        prop_assert_eq!(decode_header(header, 0, sequence).unwrap().release, release);
        let frame = decode(&bytes, 1000, sequence).unwrap();
        prop_assert_eq!(frame, Frame { kind, sequence, offset: 1000 + HEADER as u64, payload: &payload, trailing });
    }

    #[test]
    fn any_flipped_bit_is_refused(
        (kind, payload) in any_frame(100), sequence: u64, bit in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(kind, sequence, &[&payload]);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = decode(&bytes, 500, sequence).unwrap_err();
        match bit / 8 {
            0..4 => prop_assert!(matches!(error.fault, FrameFault::Magic(_)) && error.offset == 500),
            4 => prop_assert!(matches!(error.fault, FrameFault::Version(_)) && error.offset == 504),
            5..HEADER => {
                let named = matches!(error.fault, FrameFault::HeaderChecksum { .. });
                prop_assert!(named && error.offset == 532);
            },
            _ => {
                let named = matches!(error.fault, FrameFault::PayloadChecksum { .. });
                prop_assert!(named);
                prop_assert_eq!((error.kind, error.offset), (Some(kind), 500 + HEADER as u64));
            }
        }
    }

    #[test]
    fn any_truncation_is_refused(
        (kind, payload) in any_frame(300), cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(kind, 3, &[&payload]);
        let cut = cut.index(bytes.len());
        let error = decode(&bytes[..cut], 0, 3).unwrap_err();
        prop_assert!(matches!(error.fault, FrameFault::Truncated { have, .. } if have == cut), "{error}");
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(mut bytes in vec(any::<u8>(), 0..200), ours: bool) {
        if ours && bytes.len() > 5 {
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4] = VERSION;
        }
        prop_assert!(decode(&bytes, 0, 0).is_err());
    }
}

/// A header with `change` made to it and its checksum made good again: what a peer with a bug would send.
fn forged(change: impl FnOnce(&mut [u8; HEADER])) -> FrameError {
    let mut header = encode_header(FrameKind::Hello, 7, [&b"x"[..]], 0).unwrap();
    change(&mut header);
    let trailing = u16::from_le_bytes([header[6], header[7]]);
    seal(&mut header, trailing, 0);
    decode_header(&header, 100, 7).unwrap_err()
}

#[test]
fn every_field_is_checked_even_under_a_good_checksum() {
    assert_eq!(forged(|h| h[5] = 99).fault, FrameFault::Kind(99));
    assert_eq!(forged(|h| h[7] = 1).fault, FrameFault::Trailing(0x100));
    assert_eq!(forged(|h| h[11] = 0xff).fault, FrameFault::Length { length: 0xff00_0001, limit: 4096 });
    let by_one = forged(|h| h[8..12].copy_from_slice(&4097_u32.to_le_bytes()));
    assert_eq!(by_one.fault, FrameFault::Length { length: 4097, limit: 4096 });
    let error = forged(|h| h[12] = 8);
    assert_eq!(error.fault, FrameFault::Sequence { expected: 7, found: 8 });
    assert_eq!(
        error.to_string(),
        "bad Hello frame at byte 112 of the stream: it has number 8, the next one is 7"
    );
}

#[test]
fn a_payload_is_as_long_as_its_header_says() {
    let bytes = encode(FrameKind::Hello, 7, &[b"ab"]);
    for payload in [&b"a"[..], b"abc"] {
        let header = decode_header(bytes.first_chunk().unwrap(), 0, 7).unwrap();
        let fault = header.with_payload(payload).unwrap_err().fault;
        assert_eq!(fault, FrameFault::Truncated { needed: 2, have: payload.len() });
    }
}

#[test]
fn a_payload_over_its_kinds_limit_is_neither_sent_nor_waited_for() {
    for kind in FrameKind::ALL {
        let (limit, half) = (kind.max_payload(), vec![0; kind.max_payload() / 2 + 1]);
        let fault = FrameFault::Length { length: 2 * half.len() as u64, limit };
        assert_eq!(encode_header(*kind, 0, [&half[..], &half], 9).unwrap_err().fault, fault);
    }
}

#[test]
fn the_checksum_is_crc_32c() {
    // The check value of the CRC catalogue, whole and in parts.
    assert_eq!(crc32c([&b"123456789"[..]]), 0xe306_9283);
    assert_eq!(crc32c([&b"1234"[..], b"", b"56789"]), 0xe306_9283);
}

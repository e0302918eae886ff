//! Properties of frames: any payload comes back, any damage is refused by name, no bytes make it panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn any_kind() -> impl Strategy<Value = FrameKind> {
    prop::sample::select(FrameKind::ALL)
}

fn encode(kind: FrameKind, sequence: u64, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = encode_header(kind, sequence, parts, 0).unwrap().to_vec();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

proptest! {
    #[test]
    fn any_payload_comes_back(
        kind in any_kind(),
        sequence: u64,
        payload in vec(any::<u8>(), 0..3000),
        cut in any::<prop::sample::Index>(),
        trailing in vec(any::<u8>(), 0..50),
    ) {
        let (head, tail) = payload.split_at(cut.index(payload.len() + 1));
        let mut bytes = encode(kind, sequence, &[head, tail]);
        bytes.extend(trailing);
        let frame = decode(&bytes, 1000, sequence).unwrap();
        prop_assert_eq!(frame, Frame { kind, sequence, offset: 1000 + HEADER as u64, payload: &payload });
    }

    #[test]
    fn any_flipped_bit_is_refused(
        kind in any_kind(), sequence: u64, payload in vec(any::<u8>(), 0..100), bit in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(kind, sequence, &[&payload]);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = decode(&bytes, 500, sequence).unwrap_err();
        match bit / 8 {
            0..4 => prop_assert!(matches!(error.fault, Fault::Magic(_)) && error.offset == 500),
            4 => prop_assert!(matches!(error.fault, Fault::Version(_)) && error.offset == 504),
            5..HEADER => {
                let named = matches!(error.fault, Fault::HeaderChecksum { .. });
                prop_assert!(named && error.offset == 524);
            },
            _ => {
                let named = matches!(error.fault, Fault::PayloadChecksum { .. });
                prop_assert!(named);
                prop_assert_eq!((error.kind, error.offset), (Some(kind), 500 + HEADER as u64));
            }
        }
    }

    #[test]
    fn any_truncation_is_refused(
        kind in any_kind(), payload in vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode(kind, 3, &[&payload]);
        let cut = cut.index(bytes.len());
        let error = decode(&bytes[..cut], 0, 3).unwrap_err();
        prop_assert!(matches!(error.fault, Fault::Truncated { have, .. } if have == cut), "{error}");
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
    let mut header = encode_header(FrameKind::Hello, 7, &[b"x"], 0).unwrap();
    change(&mut header);
    let own = crc32c(&[&header[..24]]);
    header[24..].copy_from_slice(&own.to_le_bytes());
    decode_header(&header, 100, 7).unwrap_err()
}

#[test]
fn every_field_is_checked_even_under_a_good_checksum() {
    assert_eq!(forged(|h| h[5] = 99).fault, Fault::Kind(99));
    assert_eq!(forged(|h| h[7] = 1).fault, Fault::Flags(0x100));
    assert_eq!(forged(|h| h[11] = 0xff).fault, Fault::Length(0xff00_0001));
    let error = forged(|h| h[12] = 8);
    assert_eq!(error.fault, Fault::Sequence { expected: 7, found: 8 });
    assert_eq!(
        error.to_string(),
        "bad Hello frame at byte 112 of the stream: it has number 8, the next one is 7"
    );
}

#[test]
fn a_payload_over_the_limit_is_not_sent() {
    let half = vec![0; MAX_PAYLOAD / 2 + 1];
    let error = encode_header(FrameKind::State, 0, &[&half, &half], 9).unwrap_err();
    assert_eq!(error.fault, Fault::Length(MAX_PAYLOAD as u64 + 2));
}

#[test]
fn the_checksum_is_crc_32c() {
    // The check value of the CRC catalogue, whole and in parts.
    assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
    assert_eq!(crc32c(&[b"1234", b"", b"56789"]), 0xe306_9283);
}

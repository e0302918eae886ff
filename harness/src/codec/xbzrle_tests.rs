//! Properties of the XBZRLE codec: what was encoded is decoded, every backend writes the same bytes, and no
//! input whatever makes the decoder panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::encode_pair;
use crate::codec::tests::any_pair;

const BUFFER: usize = PAGE + 64;

/// The format written down as directly as it can be said, one byte at a time.
pub(in crate::codec) fn encode_plainly(old: &Page, new: &Page) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    let length = |out: &mut Vec<u8>, mut value: usize| {
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    };
    loop {
        let start = (at..PAGE).find(|&i| old[i] != new[i]);
        let Some(start) = start else { return out };
        let end = (start..PAGE).find(|&i| old[i] == new[i]).unwrap_or(PAGE);
        length(&mut out, start - at);
        length(&mut out, end - start);
        out.extend_from_slice(&new[start..end]);
        at = end;
    }
}

fn encode(backend: CodecBackend, old: &Page, new: &Page, out: &mut [u8]) -> Option<usize> {
    encode_pair(&mut Xbzrle::new(backend), backend, 0, [old, new], out)
}

fn check(old: &Page, new: &Page) {
    let plain = encode_plainly(old, new);
    let mut scalar = [0; BUFFER];
    let length = encode_scalar(old, new, &mut scalar);
    assert_eq!(length, Some(plain.len()).filter(|length| *length <= MAX_ENCODED));
    assert!(
        scalar[..length.unwrap_or(0)] == plain[..length.unwrap_or(0)],
        "the scalar encoder wrote other bytes"
    );
    for backend in CodecBackend::available() {
        let mut out = [0xa5; BUFFER];
        match encode(backend, old, new, &mut out) {
            Some(0) => assert!(old == new && plain.is_empty(), "{backend:?}"),
            None => {
                assert!(plain.len() > MAX_ENCODED, "{backend:?}: {} bytes", plain.len())
            }
            Some(length) => {
                assert!(length <= MAX_ENCODED, "{backend:?}");
                assert!(out[..length] == plain[..], "{backend:?} wrote other bytes");
                let mut page = *old;
                decode(&out[..length], TargetPage::of(&mut page)).unwrap();
                assert!(page == *new, "{backend:?}");
            }
        }
        // A buffer of exactly the size of the encoding suffices, one byte less does not.
        if (1..=MAX_ENCODED).contains(&plain.len()) {
            let exact = encode(backend, old, new, &mut out[..plain.len()]);
            assert_eq!(exact, Some(plain.len()), "{backend:?}");
            assert!(out[..plain.len()] == plain[..], "{backend:?}");
            let short = encode(backend, old, new, &mut out[..plain.len() - 1]);
            assert_eq!(short, None, "{backend:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_pages_round_trip_and_all_backends_agree((old, new) in any_pair()) {
        check(&old, &new);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let mut page = [7; PAGE];
        if let Err(error) = decode(&bytes, TargetPage::of(&mut page)) {
            prop_assert!(error.to_string().contains("offset"));
        }
    }

    #[test]
    fn damaged_encodings_never_panic(
        (old, new) in any_pair(),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
        xor in 1..=255u8,
    ) {
        let mut encoded = encode_plainly(&old, &new);
        prop_assume!(!encoded.is_empty());
        let mut page = old;
        let cut = cut.index(encoded.len());
        // A cut at a run's end is a shorter encoding; anywhere else it must be refused.
        if decode(&encoded[..cut], TargetPage::of(&mut page)).is_ok() {
            prop_assert!(cut == 0 || new[..] != old[..]);
        }
        let at = flip.index(encoded.len());
        encoded[at] ^= xor;
        let _ = decode(&encoded, TargetPage::of(&mut page));
    }
}

#[test]
fn the_documented_example() {
    let mut old = [0; PAGE];
    let mut new = [0; PAGE];
    for (i, byte) in (0x05..=0x13).enumerate() {
        old[1001 + i] = byte;
    }
    for (i, byte) in (0x01..=0x0f).enumerate() {
        new[1001 + i] = byte;
    }
    old[1016..1022].copy_from_slice(&[0x68, 0, 0, 0x6b, 0, 0x6d]);
    new[1016..1022].copy_from_slice(&[0x68, 0, 0, 0x67, 0, 0x69]);
    let expected = [
        0xe9, 0x07, 0x0f, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e,
        0x0f, 0x03, 0x01, 0x67, 0x01, 0x01, 0x69,
    ];
    for backend in CodecBackend::available() {
        let mut out = [0; BUFFER];
        assert_eq!(encode(backend, &old, &new, &mut out), Some(24), "{backend:?}");
        assert_eq!(out[..24], expected, "{backend:?}");
    }
    check(&old, &new);
}

#[test]
fn lengths_at_the_bounds_of_their_encoding() {
    for run in
        [1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 129, 4000, 4090, 4091, 4092, 4093, 4095, 4096]
    {
        for start in [0, 1, 63, 64, 127, 128, 129, PAGE - run] {
            let (old, mut new) = ([0; PAGE], [0; PAGE]);
            new[start.min(PAGE - run)..][..run].fill(9);
            check(&old, &new);
        }
    }
}

#[test]
fn every_third_byte_overflows() {
    let (old, mut new) = ([0; PAGE], [0; PAGE]);
    new.iter_mut().step_by(3).for_each(|byte| *byte = 1);
    for backend in CodecBackend::available() {
        assert_eq!(encode(backend, &old, &new, &mut [0; BUFFER]), None);
    }
}

#[test]
fn refusals_name_the_offset() {
    let mut page = [0; PAGE];
    let mut refuse = |bytes: &[u8]| decode(bytes, TargetPage::of(&mut page)).unwrap_err();
    assert_eq!(refuse(&[5]), DecodeError::Truncated { offset: 1 });
    assert_eq!(refuse(&[0x85]), DecodeError::Truncated { offset: 1 });
    assert_eq!(refuse(&[0, 3, 1, 2]), DecodeError::Truncated { offset: 4 });
    assert_eq!(refuse(&[0x80, 0x80, 1, 1]), DecodeError::LengthTooLong { offset: 0 });
    assert_eq!(refuse(&[0, 1, 9, 4, 0x81, 0x81, 1]), DecodeError::LengthTooLong { offset: 4 });
    assert_eq!(refuse(&[0, 1, 9, 0, 1, 9]), DecodeError::EmptyRun { offset: 3 });
    assert_eq!(refuse(&[4, 0, 1]), DecodeError::EmptyRun { offset: 1 });
    assert_eq!(refuse(&[0x81, 0x20, 1, 1]), DecodeError::BeyondPage { offset: 0, end: 4097 });
    assert_eq!(refuse(&[0xff, 0x1f, 2, 1, 1]), DecodeError::BeyondPage { offset: 2, end: 4097 });
    // The same where enough follows for the short way through a run.
    let mut refuse_long = |bytes: &[u8]| refuse(&[bytes, &[5, 1, 9].repeat(10)].concat());
    assert_eq!(refuse_long(&[0, 1, 9, 0, 1, 9]), DecodeError::EmptyRun { offset: 3 });
    assert_eq!(refuse_long(&[4, 0]), DecodeError::EmptyRun { offset: 1 });
    assert_eq!(refuse_long(&[0x80, 0x80, 1, 1]), DecodeError::LengthTooLong { offset: 0 });
    assert_eq!(refuse_long(&[0xff, 0x1f, 2, 1, 1]), DecodeError::BeyondPage { offset: 2, end: 4097 });
}

//! The format `mask`: its bytes against a plain encoder, its sizes against what its description promises, and each operation on
//! a line against the portable one.

use proptest::prelude::*;

use super::*;
use crate::codec::lanes::{Portable, words_of};
use crate::codec::tests::any_pair;
use crate::codec::xbzrle::tests::encode_plainly as runs_plainly;
use crate::codec::{PAGE, encode_pair};

/// The format written down as directly as it can be said. Empty if the pages are equal; longer than [`MAX_ENCODED`] if the page is
/// to be sent whole.
fn encode_plainly(old: &Page, new: &Page) -> Vec<u8> {
    if old == new {
        return Vec::new();
    }
    let changed = |at: usize| old[at] != new[at];
    let bits = |count: usize, set: &dyn Fn(usize) -> bool| {
        (0..count).filter(|i| set(*i)).fold(0_u64, |map, i| map | 1 << i)
    };
    let word_changed = |word: usize| (8 * word..8 * word + 8).any(changed);
    let line_changed = |line: usize| (8 * line..8 * line + 8).any(word_changed);
    let lines: Vec<usize> = (0..64).filter(|line| line_changed(*line)).collect();
    let words: Vec<usize> = (0..512).filter(|word| word_changed(*word)).collect();
    let byte = |map: u64| u8::try_from(map).unwrap();

    let mut head = bits(64, &line_changed).to_le_bytes().to_vec();
    head.extend(lines.iter().map(|line| byte(bits(8, &|i| word_changed(8 * line + i)))));
    let mut by_words = [&[0x11], &head[..]].concat();
    by_words.extend(words.iter().flat_map(|word| &new[8 * word..8 * word + 8]));
    let mut by_bytes = [&[0x12], &head[..]].concat();
    by_bytes.extend(words.iter().map(|word| byte(bits(8, &|i| changed(8 * word + i)))));
    by_bytes.extend((0..PAGE).filter(|at| changed(*at)).map(|at| new[at]));
    let by_runs = [&[0x10], &runs_plainly(old, new)[..]].concat();
    // Of equally long ones the first.
    [by_words, by_bytes, by_runs].into_iter().min_by_key(Vec::len).unwrap()
}

fn check(old: &Page, new: &Page) {
    let plain = encode_plainly(old, new);
    for backend in CodecBackend::available() {
        let (mut mask, mut out) = (Mask::new(backend), [0xa5; BUFFER]);
        match encode_pair(&mut mask, backend, 0, [old, new], &mut out) {
            Some(0) => assert!(plain.is_empty(), "{backend:?}"),
            None => assert!(plain.len() > MAX_ENCODED, "{backend:?}: {} bytes", plain.len()),
            Some(length) => {
                assert!(out[..length] == plain[..], "{backend:?} wrote other bytes");
                let mut page = *old;
                mask.decode(&out[..length], &mut page).unwrap();
                assert!(page == *new, "{backend:?}");
            }
        }
    }
    // The promise: never more than XBZRLE and the tag, also where XBZRLE gives up.
    let runs = runs_plainly(old, new).len();
    assert!(plain.len() <= runs + 1, "{} bytes for {runs} of XBZRLE", plain.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_backends_write_what_the_description_says((old, new) in any_pair()) {
        check(&old, &new);
    }
}

#[test]
fn two_neighbouring_words_in_every_way() {
    let old = [9; PAGE];
    for set in 0..=u16::MAX {
        // The last word of a line and the first of the next.
        let mut new = old;
        (0..16).filter(|i| set >> i & 1 != 0).for_each(|i| new[56 + i] = 1);
        if set % 16 == 0 {
            check(&old, &new);
        }
        for backend in CodecBackend::available() {
            let (mut mask, mut out, mut page) = (Mask::new(backend), [0; BUFFER], old);
            if let Some(length @ 1..) = encode_pair(&mut mask, backend, 0, [&old, &new], &mut out) {
                mask.decode(&out[..length], &mut page).unwrap();
            }
            assert!(page == new, "{backend:?} {set:#x}");
        }
    }
}

#[test]
fn changes_at_every_place_and_in_every_word() {
    let old = [9; PAGE];
    for at in 0..PAGE {
        let mut new = old;
        new[at] = 1;
        check(&old, &new);
    }
    for stride in 1..200 {
        let mut new = old;
        new.iter_mut().step_by(stride).for_each(|byte| *byte = 1);
        check(&old, &new);
    }
}

#[test]
fn every_third_byte_takes_1951_bytes_where_xbzrle_gives_up() {
    let (old, mut new) = ([0; PAGE], [0; PAGE]);
    new.iter_mut().step_by(3).for_each(|byte| *byte = 1);
    assert_eq!(encode_plainly(&old, &new).len(), 1951);
    assert!(runs_plainly(&old, &new).len() > MAX_ENCODED);
    check(&old, &new);
}

#[test]
fn the_examples_of_the_description() {
    let old = [0; PAGE];
    let mut new = old;
    new[1000..1008].fill(0xff);
    assert_eq!(encode_plainly(&old, &new), [&[0x10, 0xe8, 7, 8][..], &[0xff; 8]].concat());
    for word in [0, 4, 8, 11, 16, 20, 24, 28, 32, 36, 40, 44] {
        new[8 * word..8 * word + 8].fill(word.try_into().unwrap());
    }
    new[0..8].fill(0xaa);
    let plain = encode_plainly(&old, &new);
    assert_eq!(plain[..9], [0x11, 0x3f, 0x80, 0, 0, 0, 0, 0, 0]);
    assert_eq!(plain[9..16], [0x11, 0x09, 0x11, 0x11, 0x11, 0x11, 0x20]);
    assert_eq!(plain.len(), 16 + 13 * 8);
    check(&old, &new);
    new = old;
    (0..40).for_each(|i| new[64 + 3 * i] = 0xbb);
    let plain = encode_plainly(&old, &new);
    assert_eq!(plain[..9], [0x12, 0x06, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(plain[9..13], [0xff, 0x7f, 0x49, 0x92]);
    check(&old, &new);
}

#[test]
fn refusals_name_the_offset() {
    for backend in CodecBackend::available() {
        let refuse = |bytes: &[u8]| Mask::new(backend).decode(bytes, &mut [0; PAGE]).unwrap_err();
        let head = |tag: u8, lines: u64| [&[tag], &lines.to_le_bytes()[..]].concat();
        let with = |tag, lines, rest: &[u8]| [&head(tag, lines), rest].concat();
        assert_eq!(refuse(&[]), DecodeError::Truncated { offset: 0 });
        assert_eq!(refuse(&[0x20, 1]), DecodeError::Tag { offset: 0, found: 0x20 });
        assert_eq!(refuse(&[0x13, 1]), DecodeError::Tag { offset: 0, found: 0x13 });
        assert_eq!(refuse(&[0x10, 5]), DecodeError::Truncated { offset: 2 });
        assert_eq!(refuse(&[0x10, 0, 1, 9, 0, 1, 9]), DecodeError::EmptyRun { offset: 4 });
        assert_eq!(refuse(&[0x10, 0xff, 0x1f, 2, 1, 1]), DecodeError::BeyondPage { offset: 3, end: 4097 });
        for tag in [WORDS, BYTES] {
            assert_eq!(refuse(&head(tag, 1)[..8]), DecodeError::Truncated { offset: 8 });
            assert_eq!(refuse(&with(tag, 3, &[1])), DecodeError::Truncated { offset: 10 });
            assert_eq!(refuse(&with(tag, 0, &[1])), DecodeError::Trailing { offset: 9 });
        }
        assert_eq!(
            refuse(&with(WORDS, 1, &[3, 1, 1, 1, 1, 1, 1, 1, 1])),
            DecodeError::Truncated { offset: 18 }
        );
        assert_eq!(
            refuse(&with(WORDS, 1, &[1, 1, 1, 1, 1, 1, 1, 1, 1, 7])),
            DecodeError::Trailing { offset: 18 }
        );
        assert_eq!(refuse(&with(BYTES, 1, &[3, 1])), DecodeError::Truncated { offset: 11 });
        assert_eq!(refuse(&with(BYTES, 1, &[3, 1, 3, 8, 8])), DecodeError::Truncated { offset: 14 });
        assert_eq!(refuse(&with(BYTES, 1, &[3, 1, 3, 8, 8, 8, 8])), DecodeError::Trailing { offset: 15 });
    }
}

/// Compares the operations of a backend with the portable ones: every set of words, and every set of bytes of two neighbouring
/// words, at every place of the line.
fn same_on_every_line<L: Lanes>(lanes: L) {
    let (line, other): (Line, Line) = (
        std::array::from_fn(|i| u8::try_from(i + 1).unwrap()),
        std::array::from_fn(|i| u8::try_from(200 - i).unwrap()),
    );
    for words in 0..=u8::MAX {
        let count = 8 * words.count_ones() as usize;
        let mut results = [[0; LINE]; 2];
        lanes.compress_words(&line, words, &mut results[0]);
        Portable.compress_words(&line, words, &mut results[1]);
        assert_eq!(results[0][..count], results[1][..count], "{words:#x}");
        let mut results = [other; 2];
        lanes.expand_words(&line, words, &mut results[0]);
        Portable.expand_words(&line, words, &mut results[1]);
        assert_eq!(results[0], results[1], "{words:#x}");
        let value = u64::from_le_bytes(*line.first_chunk().unwrap());
        let low = 1_u64.checked_shl(8 * words.count_ones()).map_or(u64::MAX, |bit| bit - 1);
        let both = |lanes: &dyn Fn(u64) -> u64| lanes(value) & low;
        assert_eq!(both(&|v| lanes.compress_eight(v, words)), both(&|v| Portable.compress_eight(v, words)));
        assert_eq!(lanes.expand_eight(value, words), Portable.expand_eight(value, words), "{words:#x}");
    }
    for set in 0..=u16::MAX {
        for at in 0..7 {
            let bytes = u64::from(set) << (8 * at) | u64::from(set).wrapping_mul(0x8001) << 40;
            let count = bytes.count_ones() as usize;
            let mut results = [[0; LINE]; 2];
            lanes.compress_bytes(&line, bytes, &mut results[0]);
            Portable.compress_bytes(&line, bytes, &mut results[1]);
            assert_eq!(results[0][..count], results[1][..count], "{bytes:#x}");
            let mut results = [other; 2];
            lanes.expand_bytes(&line, bytes, &mut results[0]);
            Portable.expand_bytes(&line, bytes, &mut results[1]);
            assert_eq!(results[0], results[1], "{bytes:#x}");
            assert_eq!(lanes.differ(&results[0], &other), Portable.differ(&results[0], &other));
            assert_eq!(Portable.differ(&results[0], &other), bytes, "no byte of the two lines is the same");
        }
    }
}

#[test]
fn every_backend_does_to_a_line_what_the_portable_one_does() {
    same_on_every_line(Portable);
    #[cfg(target_arch = "x86_64")]
    {
        use crate::codec::simd::{Avx2, Avx512};
        Avx2::detect().into_iter().for_each(same_on_every_line);
        Avx512::detect().into_iter().for_each(same_on_every_line);
    }
}

#[test]
fn words_of_every_byte_and_of_its_neighbours() {
    for byte in 0..8 {
        for value in 0..=255_u64 {
            for others in [0, 0x0101_0101_0101_0101, 0x8080_8080_8080_8080, u64::MAX] {
                let mask = others & !(0xff << (8 * byte)) | value << (8 * byte);
                let expected = (0..8).filter(|i| mask >> (8 * i) & 0xff != 0).fold(0, |map, i| map | 1 << i);
                assert_eq!(words_of(mask), expected, "{mask:#x}");
            }
        }
    }
}

//! What holds for every codec: what was encoded is decoded, all backends write the same bytes, and no input whatever makes a
//! decoder panic or write outside of its page.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn page_of(bytes: &[u8]) -> Page {
    let mut page = [0; PAGE];
    page[..bytes.len()].copy_from_slice(bytes);
    page
}

/// A page of a repeated pattern, or of noise: what lies between the changes does not matter to the codec.
fn any_page() -> impl Strategy<Value = Page> {
    prop_oneof![
        any::<u8>().prop_map(|byte| [byte; PAGE]),
        vec(any::<u8>(), PAGE).prop_map(|bytes| page_of(&bytes)),
    ]
}

/// Changes to a page: nothing, scattered bytes, words, a few clusters, every n-th byte, everything.
fn any_change() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let scattered = vec((0..PAGE, 1..=255u8), 0..600);
    let words = vec(0..PAGE / 8, 0..300).prop_map(|words| {
        words.iter().flat_map(|word| (0..8).map(move |byte| (word * 8 + byte, 0x55))).collect()
    });
    let clusters = vec((0..PAGE, 1..1500usize, 1..=255u8), 1..6).prop_map(|clusters| {
        clusters
            .iter()
            .flat_map(|&(start, length, xor)| (start..(start + length).min(PAGE)).map(move |at| (at, xor)))
            .collect()
    });
    let strided =
        (1..9usize, 0..PAGE).prop_map(|(step, from)| (from..PAGE).step_by(step).map(|at| (at, 1)).collect());
    prop_oneof![Just(Vec::new()), scattered, words, clusters, strided]
}

pub(super) fn any_pair() -> impl Strategy<Value = (Page, Page)> {
    let changed = (any_page(), any_change()).prop_map(|(old, changes)| {
        let mut new = old;
        for (at, xor) in changes {
            new[at] ^= xor;
        }
        (old, new)
    });
    prop_oneof![8 => changed, 1 => (any_page(), any_page())]
}

/// Every codec with every implementation of it, one value for each side.
fn codecs() -> Vec<[Box<dyn PageCodec>; 2]> {
    let both = |new: &dyn Fn() -> Box<dyn PageCodec>| [new(), new()];
    let mut codecs = Vec::new();
    for backend in CodecBackend::available() {
        codecs.push(both(&|| Box::new(Xbzrle::new(backend))));
        codecs.push(both(&|| Box::new(Mask::new(backend))));
    }
    codecs.extend(
        Codec::ALL
            .iter()
            .filter(|(_, codec)| new(*codec).is_some())
            .map(|(_, codec)| both(&|| new(*codec).unwrap())),
    );
    codecs
}

/// Encodes and decodes, and says how many bytes the encoding has; none if the page is to be sent whole.
fn round_trip(
    [source, destination]: &mut [Box<dyn PageCodec>; 2],
    page: u64,
    old: &Page,
    new: &Page,
) -> Option<usize> {
    let mut out = [0xa5; MAX_ENCODED + SLACK];
    let name = source.name();
    let encoded = source.encode(page, old, new, &mut out);
    assert_eq!(encoded == Encoded::Unchanged, old == new, "{name}");
    let length = match encoded {
        Encoded::Unchanged => return Some(0),
        Encoded::Overflow => return None,
        Encoded::Delta(length) => length,
    };
    assert!((1..=MAX_ENCODED).contains(&length), "{name}: {length}");
    assert!(
        out[source.worst_size()..].iter().all(|byte| *byte == 0xa5),
        "{name} writes behind its worst size"
    );
    let mut decoded = *old;
    destination.decode(&out[..length], &mut decoded).unwrap();
    assert!(decoded == *new, "{name}: another page");
    Some(length)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_pages_round_trip_with_every_codec(pairs in vec(any_pair(), 1..4)) {
        for codec in &mut codecs() {
            for (page, (old, new)) in (0..).zip(&pairs) {
                round_trip(codec, page, old, new);
            }
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200), tag in prop_oneof![0..4u8, 0x10..0x13u8]) {
        for [_, codec] in &mut codecs() {
            for start in [None, Some(tag)] {
                let bytes: Vec<u8> = start.into_iter().chain(bytes.iter().copied()).collect();
                if let Err(error) = codec.decode(&bytes, &mut [7; PAGE]) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }

    #[test]
    fn damaged_encodings_never_panic(
        (old, new) in any_pair(),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
        early: bool,
        xor in 1..=255u8,
    ) {
        for [source, destination] in &mut codecs() {
            let mut out = [0; MAX_ENCODED + SLACK];
            if let Encoded::Delta(length) = source.encode(0, &old, &new, &mut out) {
                let _ = destination.decode(&out[..cut.index(length)], &mut old.clone());
                // Damage the head rather than the data, where it would change nothing.
                out[flip.index(if early { length.min(80) } else { length })] ^= xor;
                let _ = destination.decode(&out[..length], &mut old.clone());
            }
        }
    }
}

/// What the docs promise of every density, from one changed byte to all, and of changes in bytes, words and lines.
#[test]
fn every_density_round_trips() {
    let old: Page = std::array::from_fn(|i| u8::try_from(i * 7 % 251).unwrap());
    for codec in &mut codecs() {
        let mut page = 0;
        for unit in [1, 8, 64] {
            for step in [1, 2, 3, 5, 8, 16, 63, 64, 65, 512, 4096] {
                for from in [0, 1, step - 1] {
                    let mut new = old;
                    let places = (from * unit..PAGE).step_by(step * unit);
                    places.for_each(|at| {
                        new[at..(at + unit).min(PAGE)].iter_mut().for_each(|byte| *byte ^= 0x5a)
                    });
                    round_trip(codec, page, &old, &new);
                    page += 1;
                }
            }
        }
    }
}

#[test]
fn a_codec_is_called_as_in_suites_and_keeps_to_the_room_of_all() {
    for &(word, codec) in Codec::ALL {
        match new(codec) {
            None => assert_eq!(codec, Codec::None),
            Some(codec) => {
                assert_eq!(codec.name(), word);
                assert!((MAX_ENCODED..=MAX_ENCODED + SLACK).contains(&codec.worst_size()), "{word}");
            }
        }
    }
}

#[test]
fn every_encoding_cut_short_anywhere_is_refused_or_another_page() {
    let old = [3; PAGE];
    for [source, destination] in &mut codecs() {
        for step in [2, 3, 40, 700] {
            let mut new = old;
            new.iter_mut().step_by(step).for_each(|byte| *byte ^= 1);
            let mut out = [0; MAX_ENCODED + SLACK];
            let Encoded::Delta(length) = source.encode(0, &old, &new, &mut out) else { continue };
            for cut in 0..length {
                let mut page = old;
                if destination.decode(&out[..cut], &mut page).is_ok() {
                    assert!(page != new, "{}: {cut} of {length} bytes are enough", source.name());
                }
            }
        }
    }
}

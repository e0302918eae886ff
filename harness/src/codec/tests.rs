//! What holds for every codec: what was encoded is decoded, all backends write the same bytes, and no input whatever makes a
//! decoder panic or write outside of its page.

use proptest::collection::vec;
use proptest::prelude::*;

use std::sync::atomic::{AtomicBool, Ordering};

use migbench_scenarios::cell::Backing;
use migbench_workloads::units::{Bytes, Gpa};

use super::*;
use crate::sys::live::LivePage;
use crate::sys::memory::PageMemory;
use crate::sys::ram::Ram;

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

/// A codec with one implementation of it: a value for each side.
struct Both {
    backend: CodecBackend,
    source: Box<dyn PageCodec>,
    destination: Box<dyn PageCodec>,
}

impl Both {
    fn new(backend: CodecBackend, new: &dyn Fn() -> Box<dyn PageCodec>) -> Self {
        Self { backend, source: new(), destination: new() }
    }

    fn encode(&mut self, page: u64, old: &Page, new: &Page, out: &mut [u8]) -> Option<usize> {
        encode_pair(self.source.as_mut(), self.backend, page, [old, new], out)
    }
}

/// Every codec with every implementation of it.
fn codecs() -> Vec<Both> {
    let mut codecs = Vec::new();
    for backend in CodecBackend::available() {
        codecs.push(Both::new(backend, &|| Box::new(Xbzrle::new(backend))));
        codecs.push(Both::new(backend, &|| Box::new(Mask::new(backend))));
    }
    let words = Codec::ALL.iter().filter(|(_, codec)| new(*codec).is_some());
    codecs.extend(words.map(|(_, codec)| Both::new(CodecBackend::best(), &|| new(*codec).unwrap())));
    codecs
}

/// Encodes and decodes, and says how many bytes the encoding has; none if the page is to be sent whole.
fn round_trip(codec: &mut Both, page: u64, old: &Page, new: &Page) -> Option<usize> {
    let mut out = [0xa5; MAX_ENCODED + SLACK];
    let length = codec.encode(page, old, new, &mut out)?;
    let Both { source, destination, .. } = codec;
    let name = source.name();
    assert_eq!(length == 0, old == new, "{name}");
    if length == 0 {
        return Some(0);
    }
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
        for Both { destination: codec, .. } in &mut codecs() {
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
        for mut codec in codecs() {
            let mut out = [0; MAX_ENCODED + SLACK];
            if let Some(length @ 1..) = codec.encode(0, &old, &new, &mut out) {
                let mut destination = codec.destination;
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
        let compresses = codec.compresses();
        match new(codec) {
            None => assert_eq!(codec, Codec::None),
            Some(codec) => {
                assert_eq!(codec.name(), word);
                assert_eq!(codec.takes_old(), compresses, "{word}");
                assert!((MAX_ENCODED..=MAX_ENCODED + SLACK).contains(&codec.worst_size()), "{word}");
            }
        }
    }
}

#[test]
fn every_encoding_cut_short_anywhere_is_refused_or_another_page() {
    let old = [3; PAGE];
    for mut codec in codecs() {
        for step in [2, 3, 40, 700] {
            let mut new = old;
            new.iter_mut().step_by(step).for_each(|byte| *byte ^= 1);
            let mut out = [0; MAX_ENCODED + SLACK];
            let Some(length) = codec.encode(0, &old, &new, &mut out) else { continue };
            for cut in 0..length {
                let mut page = old;
                if codec.destination.decode(&out[..cut], &mut page).is_ok() {
                    assert!(page != new, "{}: {cut} of {length} bytes are enough", codec.source.name());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What is remembered is what was read, and every backend finds the same change.
    #[test]
    fn a_copy_becomes_the_page_and_the_change_is_the_same_for_all((old, new) in any_pair(), keep_old: bool) {
        let mut memory = PageMemory::map(1, "a test").unwrap();
        memory[0] = new;
        let mut found = Vec::new();
        for backend in CodecBackend::available() {
            let (mut change, mut held) = (Change::new(backend), old);
            change.merge(LivePage::of(&memory[0]), &mut held, keep_old);
            prop_assert!(held == new, "{backend:?}");
            let changed = (0..PAGE).filter(|at| old[*at] != new[*at]);
            let of_masks = (0..PAGE).filter(|at| change.masks[at / 64] >> (at % 64) & 1 != 0);
            prop_assert!(of_masks.eq(changed), "{backend:?}");
            prop_assert_eq!(change.is_none(), old == new);
            if keep_old {
                let mut xor = [0; PAGE];
                change.xor(&new, &mut xor);
                prop_assert!((0..PAGE).all(|at| xor[at] == old[at] ^ new[at]), "{backend:?}");
            }
            found.push((change.words, change.lines, change.edged, change.changed_bytes, change.changed_words, change.edges));
        }
        prop_assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn first_sends_are_copied_twice_by_every_backend() {
    let mut memory = PageMemory::map(2, "a test").unwrap();
    memory[0] = std::array::from_fn(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]);
    let (page, held) = memory.split_at_mut(1);
    for backend in CodecBackend::available() {
        let (mut copy, mut unaligned) = ([0; PAGE], [[0; PAGE]; 2]);
        held[0].fill(0);
        backend.copy_twice(LivePage::of(&page[0]), &mut copy, &mut held[0]);
        assert!(copy == page[0] && held[0] == page[0], "{backend:?}");
        let odd = unaligned.as_flattened_mut()[1..].first_chunk_mut().unwrap();
        backend.copy_twice(LivePage::of(&page[0]), &mut copy, odd);
        assert!(*odd == page[0], "{backend:?}");
        copy.fill(0);
        backend.copy(LivePage::of(&page[0]), &mut copy);
        assert!(copy == page[0], "{backend:?}");
    }
}

/// A guest that writes while its page is read: what was made of it is what is remembered, whichever moments were read.
#[test]
fn what_is_encoded_of_a_page_that_changes_is_what_is_remembered() {
    const ROUNDS: usize = 2000;
    let ram = Ram::new(Bytes(32 << 20), Backing::Anonymous).unwrap();
    /// Ends the writer also where an assertion fails.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = ram.clone();
        let stop = &done;
        let _ends = Ends(&done);
        scope.spawn(move || {
            let mut state = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let at = state >> 40 & 0xff8;
                writer.write_at(Gpa(at), &state.to_le_bytes()).unwrap();
            }
        });
        for mut codec in codecs() {
            let (mut held, mut destination, mut changed) = ([0; PAGE], [0; PAGE], 0);
            let (mut change, mut out) = (Change::new(codec.backend), [0; MAX_ENCODED + SLACK]);
            for _ in 0..ROUNDS {
                change.merge(ram.live(0).unwrap(), &mut held, codec.source.takes_old());
                if change.is_none() {
                    continue;
                }
                changed += 1;
                match codec.source.encode(0, &change, &held, &mut out) {
                    Some(length) => codec.destination.decode(&out[..length], &mut destination).unwrap(),
                    None => destination = held,
                }
                assert!(destination == held, "{}", codec.source.name());
            }
            assert!(changed > 0, "nobody wrote");
        }
    });
}

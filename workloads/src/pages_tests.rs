//! Properties of the guest's pages: what was written validates, what was damaged does not, whatever the parameters.

use proptest::prelude::*;

use super::*;
use crate::abi::CONTENT_SAME;
use crate::params::MachineParams;
use crate::settings::{Content, Fill, PageChange, Settings};
use crate::units::Bytes;

const WORKING_SET: u64 = 64;

fn settings() -> Settings {
    Settings { working_set: Bytes(WORKING_SET * 4096), accesses: 8, ..Settings::BASE }
}

fn params(settings: &Settings, seed: u64) -> Params {
    let machine =
        MachineParams { vcpus: 1, tsc_khz: 2_000_000, seed, link: None, timing: false, telemetry: 0 };
    Params::new(settings, &machine)
}

prop_compose! {
    fn any_settings()(
        bytes in prop_oneof![1..64_u32, 1..=4080_u32],
        share in 0.0..1.0_f64,
        moves: bool,
        content in prop::sample::select(Content::ALL.to_vec()).prop_map(|(_, content)| content),
        text in 0.0..=1.0_f64,
    ) -> Settings {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32")]
        let pieces = ((f64::from(bytes) * share * share) as u32).max(1);
        let change = PageChange { bytes, pieces, moves };
        let fill = Fill { zero: 0.5, random: 0.4 * (1.0 - text), text: 0.4 * text, duplicate: 0.1 };
        Settings { change, content, fill, ..settings() }
    }
}

/// Page `index` after `writes` writes.
fn written(pages: &PageRules, index: u64, writes: u32) -> Page {
    let mut page = [0; 4096];
    pages.fill(index, &mut page);
    for _ in 0..writes {
        pages.write(index, &mut page);
    }
    page
}

proptest! {
    #[test]
    fn what_was_written_validates(settings in any_settings(), seed: u64, index in 0..WORKING_SET, writes in 0..60_u32) {
        let pages = PageRules::new(&params(&settings, seed));
        let page = written(&pages, index, writes);
        let mut scratch = [0x77; 4096];
        prop_assert_eq!(pages.validate(index, &page, &mut scratch), Ok(()));
        let expected = if settings.content == Content::Same { u64::from(writes.min(1)) } else { u64::from(writes) };
        prop_assert_eq!(PageRules::count(&page), expected);
        prop_assert_eq!(scratch, page);
    }

    #[test]
    fn every_changed_byte_is_found(
        settings in any_settings(),
        seed: u64,
        index in 0..WORKING_SET,
        writes in 0..20_u32,
        at in prop_oneof![0..16_usize, 16..4096_usize],
        flip in 1..=255_u8,
    ) {
        let pages = PageRules::new(&params(&settings, seed));
        let mut page = written(&pages, index, writes);
        let count = PageRules::count(&page);
        page[at] ^= flip;
        let found = pages.validate(index, &page, &mut [0; 4096]);
        if at < 8 {
            // A wrong count asks for another body, or else is missed in the sum of all counts.
            prop_assert!(found.is_err() || PageRules::count(&page) != count);
        } else {
            prop_assert_eq!(found, Err(at));
        }
    }

    #[test]
    fn a_stale_page_is_a_good_page_with_a_lower_count(
        settings in any_settings(), seed: u64, index in 0..WORKING_SET, early in 0..20_u32, more in 1..20_u32,
    ) {
        let pages = PageRules::new(&params(&settings, seed));
        let stale = written(&pages, index, early);
        let page = written(&pages, index, early + more);
        prop_assert_eq!(pages.validate(index, &stale, &mut [0; 4096]), Ok(()));
        if settings.content != Content::Same || early == 0 {
            prop_assert!(PageRules::count(&stale) < PageRules::count(&page));
        } else {
            prop_assert_eq!(stale, page, "a second write of the same changes nothing");
        }
    }

    #[test]
    fn a_write_changes_no_more_than_it_says(settings in any_settings(), seed: u64, index in 0..WORKING_SET, writes in 0..20_u32) {
        let pages = PageRules::new(&params(&settings, seed));
        let before = written(&pages, index, writes);
        let mut after = before;
        pages.write(index, &mut after);
        let changed = (16..4096).filter(|&at| before[at] != after[at]).count();
        prop_assert!(changed <= settings.change.bytes as usize, "{changed} bytes");
        prop_assert_eq!(&before[8..16], &after[8..16], "the tag stays");
    }

    #[test]
    fn pages_outside_of_the_working_set_keep_their_fill(settings in any_settings(), seed: u64, index in WORKING_SET..4096) {
        let pages = PageRules::new(&params(&settings, seed));
        let mut page = [1; 4096];
        pages.fill(index, &mut page);
        prop_assert_eq!(pages.starts_zero(index), page == [0; 4096]);
        prop_assert_eq!(pages.validate(index, &page, &mut [0; 4096]), Ok(()));
        page[4095] ^= 0x80;
        prop_assert_eq!(pages.validate(index, &page, &mut [0; 4096]), Err(4095));
    }

    #[test]
    fn pages_and_seeds_differ(seed: u64, index in 0..WORKING_SET) {
        let page = written(&PageRules::new(&params(&settings(), seed)), index, 3);
        let other_page = written(&PageRules::new(&params(&settings(), seed)), (index + 1) % WORKING_SET, 3);
        let other_seed = written(&PageRules::new(&params(&settings(), seed ^ 1)), index, 3);
        prop_assert_ne!(page, other_page);
        prop_assert_ne!(page, other_seed);
    }
}

#[test]
fn the_content_same_is_what_the_abi_says() {
    let same = Settings { content: Content::Same, ..settings() };
    assert_eq!(params(&same, 1).content, CONTENT_SAME);
}

//! Every codec and every cache under a guest that writes as fast as it can, with all memory compared and hashed as it was decoded.

use migbench_reports::record::Status;
use migbench_scenarios::cell::Codec;

use crate::support::{in_turn, metric, migrate, require_kvm};

#[test]
fn every_codec_brings_a_guest_that_writes_flat_out_over_whole() {
    require_kvm!();
    for &(word, codec) in Codec::ALL.iter().filter(|(_, codec)| *codec != Codec::None) {
        let codec_is = format!("codec={word}");
        let changes =
            ["settings.load=flat-out", "stop.max_rounds=4", "proof=every"].map(|text| ["--set", text]);
        let asked = ["--engine", "delta", "--set", &codec_is, "--link", "unlimited", "--verify"];
        let (outcome, record) = migrate(&[&asked[..], changes.as_flattened()].concat());
        assert_ne!(record.status, Status::Failed, "{word}: {:?} {}", record.error, outcome.stderr);
        assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{word}");
        assert_eq!(record.cell.codec, codec);
        assert!(metric(&record, "pages_delta") > 0.0, "{word} encoded nothing");
        let first = &record.rounds[0];
        assert_eq!(first.pages_delta > 0, codec.compresses(), "{word}: {first:?}");
        let choices = ["pages_mask", "pages_lz4", "pages_zstd"];
        if codec == Codec::Auto {
            let chosen: f64 = choices.map(|name| metric(&record, name)).iter().sum();
            assert_eq!(chosen, metric(&record, "pages_delta"));
        } else {
            assert!(choices.iter().all(|name| !record.metrics.contains_key(*name)), "{word} chooses nothing");
        }
    }
}

/// What a cache forgets, takes for unchanged or holds of a torn page would be another guest.
#[test]
fn every_cache_brings_a_guest_that_writes_flat_out_over_whole() {
    require_kvm!();
    const TRACKERS: [&str; 5] = ["kvm-bitmap", "kvm-manual", "kvm-ring", "uffd-wp", "uffd-async"];
    let caches = ["shadow", "bounded(1MiB)", "digest(64)", "digest(1024)", "unchanged"];
    for (turn, cache) in caches.into_iter().enumerate() {
        let (engine, codecs) = match cache {
            "unchanged" => ("full", vec!["none"]),
            "shadow" | "bounded(1MiB)" => {
                ("delta", in_turn(["mask", "zstd", "xbzrle", "lz4", "zstd-dictionary", "auto"], turn))
            }
            _ => ("delta", in_turn(["xbzrle", "mask"], turn)),
        };
        for tracker in in_turn(TRACKERS, turn) {
            for codec in &codecs {
                let settings = [
                    format!("cache={cache}"),
                    format!("codec={codec}"),
                    format!("tracker={tracker}"),
                    format!("shadow.prefault={}", cache == "shadow"),
                    "settings.load=flat-out".to_owned(),
                    "stop.max_rounds=6".to_owned(),
                    "proof=every".to_owned(),
                ];
                let settings = settings.iter().flat_map(|setting| ["--set", setting]);
                let asked = ["--engine", engine, "--link", "unlimited", "--verify"].into_iter();
                let (outcome, record) = migrate(&asked.chain(settings).collect::<Vec<_>>());
                let what = format!("{cache} {codec} {tracker}");
                assert_ne!(record.status, Status::Failed, "{what}: {:?} {}", record.error, outcome.stderr);
                assert_eq!((record.verified, record.guest_checked), (Some(true), Some(true)), "{what}");
                assert!(metric(&record, "cache_hits") > 0.0, "{what} held nothing");
                assert_eq!(metric(&record, "cache_misses") > 0.0, cache == "bounded(1MiB)", "{what}");
                assert!(metric(&record, "cache_bytes") > 0.0, "{what}");
                if cache != "unchanged" {
                    assert!(metric(&record, "pages_delta") > 0.0, "{what} encoded nothing");
                }
            }
        }
    }
}

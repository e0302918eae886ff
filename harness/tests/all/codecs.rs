//! Every codec under a guest that writes as fast as it can, with all memory compared and hashed as it was decoded.

use migbench_reports::record::Status;
use migbench_scenarios::cell::Codec;

use crate::support::{metric, migrate, require_kvm};

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

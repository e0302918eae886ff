//! Planted costs: each shows in the time of its own stage, and nowhere else.

use migbench_reports::record::{Record, Status};

use crate::support::{metric, migrate, require_kvm};

fn planted(planted_cost: &str) -> Record {
    let arguments = ["--engine", "delta", "--link", "unlimited", "--set", "settings.load=pages(10000)"];
    let (outcome, record) = migrate(&[&arguments[..], &["--plant", planted_cost]].concat());
    assert_eq!(outcome.status, 0, "{planted_cost}: {}", outcome.stderr);
    assert_eq!(record.status, Status::Ok, "{planted_cost}");
    assert_eq!(record.planted.as_deref(), Some(planted_cost), "the record says what it carries");
    assert!(record.flags.contains(&"cost_planted".to_owned()), "{:?}", record.flags);
    record
}

/// Seconds in encoding over seconds in sending.
fn encode_over_send(record: &Record) -> f64 {
    let sending: f64 = record.rounds.iter().filter_map(|round| round.send_time).sum();
    metric(record, "encode_time") / sending
}

/// A busy host makes a stage longer, never shorter: what was planted is the least that it takes.
#[test]
fn a_cost_shows_where_it_was_planted() {
    require_kvm!();
    let encode = planted("encode+20us");
    for round in &encode.rounds {
        let pages = round.pages_full + round.pages_zero + round.pages_delta + round.pages_unchanged;
        assert!(round.encode_time.unwrap() >= pages as f64 * 20e-6 - 5e-6, "{round:?}");
    }
    let send = planted("send+20us");
    for round in &send.rounds {
        let pages = round.pages_full + round.pages_zero + round.pages_delta;
        assert!(round.send_time.unwrap() >= pages as f64 * 20e-6 - 5e-6, "{round:?}");
    }
    let (encoding, sending) = (encode_over_send(&encode), encode_over_send(&send));
    assert!(encoding > sending, "encoding over sending: {encoding}, {sending}");

    let harvest = planted("harvest+3ms");
    for round in harvest.rounds.iter().filter(|round| round.round > 0) {
        assert!(round.harvest_time.unwrap() >= 3e-3, "{round:?}");
    }
    assert!(metric(&harvest, "downtime_harvest") >= 3e-3);
    let resume = planted("resume+40ms");
    assert!(metric(&resume, "downtime_resume") >= 40e-3);
}

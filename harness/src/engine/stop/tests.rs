use super::*;
use migbench_scenarios::cell::{Estimate, StopRule as Settings};
use migbench_workloads::units::Seconds;

/// Bytes per second.
const RATE: f64 = 125e6;

fn settings(rule: Rule) -> Settings {
    let mut settings = Settings {
        downtime_limit: Seconds(0.1),
        max_rounds: 30,
        max_time: Seconds(10.0),
        ..Settings::DEFAULT
    };
    settings.set_rule(rule);
    settings
}

fn stop(rule: Rule) -> Stop {
    Stop::new(&settings(rule), Some(RATE), Overhead::default())
}

fn sent(seconds: f64, pages: u64, bytes: u64) -> Stretch {
    Stretch { seconds, engine: seconds / 4.0, pages, bytes, first: false }
}

fn left(pages: u64, queued: f64) -> Left {
    Left { pages, queued, harvest: 0.0 }
}

fn estimate(stop: &mut Stop, left: Left) -> Option<f64> {
    stop.decide(left, 1, false).estimate
}

#[test]
fn pages_see_what_delta_saves_and_raw_does_not() {
    let (mut pages, mut raw) = (stop(Rule::Pages), stop(Rule::Raw));
    for stop in [&mut pages, &mut raw] {
        // 1000 pages in 0.1 s, as 400 KB of deltas.
        stop.observe(&sent(0.1, 1000, 400_000));
    }
    let decision = pages.decide(left(500, 0.0), 1, false);
    assert_eq!((decision.estimate, decision.decided), (Some(0.05), Decided::SwitchOver));
    assert_eq!((decision.pages, decision.limit, decision.bytes), (500, Some(0.1), None));
    let decision = raw.decide(left(500, 0.0), 1, false);
    assert_eq!(decision.estimate, Some(500.0 * 4096.0 / 4_000_000.0));
    assert_eq!((decision.decided, decision.bytes), (Decided::Continue, Some(500.0 * 4096.0)));
}

#[test]
fn what_is_queued_must_leave_first() {
    let mut stop = stop(Rule::Pages);
    stop.observe(&sent(0.1, 1000, 4_096_000));
    assert_eq!(estimate(&mut stop, left(500, 0.0084)), Some(0.0584));
    assert_eq!(estimate(&mut stop, left(0, 0.0084)), Some(0.0084));
    assert_eq!(stop.decide(left(950, 0.0084), 1, false).decided, Decided::Continue);
    assert!(!stop.ends(left(950, 0.0084), 1, false) && stop.ends(left(950, 0.0), 1, false));
    assert!(!stop.ends(left(1200, 0.0), 1, false) && stop.ends(left(1200, 0.0), 1, true));
    assert_eq!(stop.decide(left(950, 0.0), 1, false).decided, Decided::SwitchOver);
}

#[test]
fn a_short_round_is_no_speed_of_its_own() {
    let mut stop = stop(Rule::Pages);
    stop.observe(&sent(0.1, 1000, 4_096_000));
    stop.observe(&sent(0.001, 1, 4096));
    let estimate = estimate(&mut stop, left(1000, 0.0)).unwrap();
    assert!((estimate - 0.101 * 1000.0 / 1001.0).abs() < 1e-12, "{estimate}");
}

#[test]
fn limits_cap() {
    let mut stop = Stop::new(&Settings { max_rounds: 5, ..settings(Rule::Pages) }, None, Overhead::default());
    assert_eq!(stop.decide(left(10, 0.0), 1, false).decided, Decided::Continue, "nothing is known");
    stop.observe(&sent(0.1, 1000, 4_096_000));
    assert_eq!(stop.decide(left(2000, 0.0), 4, false).decided, Decided::Continue);
    assert_eq!(stop.decide(left(2000, 0.0), 5, false).decided, Decided::Capped);
    assert_eq!(stop.decide(left(2000, 0.0), 2, true).decided, Decided::Capped);
    assert_eq!(stop.decide(left(1000, 0.0), 5, true).decided, Decided::SwitchOver);
}

#[test]
fn no_limit_sizes_memory_or_overflows() {
    for (_, rule) in Rule::ALL {
        let mut extreme = settings(*rule);
        (extreme.max_rounds, extreme.max_time) = (u32::MAX, Seconds(1e30));
        (extreme.ramp_steps, extreme.rounds, extreme.ceiling) = (u32::MAX, u32::MAX, Seconds(1e300));
        for limit in [1e-9, 1e300] {
            extreme.downtime_limit = Seconds(limit);
            let mut stop = Stop::new(&extreme, Some(0.0), Overhead::default());
            assert_eq!(stop.max_time(), u64::MAX);
            for next in [1, 2, u32::MAX] {
                stop.observe(&Stretch {
                    seconds: 1e9,
                    engine: 1e9,
                    pages: u64::MAX / 4,
                    bytes: u64::MAX / 4,
                    first: true,
                });
                stop.decide(Left { pages: u64::MAX, queued: 1e12, harvest: 1e9 }, next, true);
            }
        }
    }
    // More rounds than are remembered.
    let mut stop = stop(Rule::Fixed);
    (0..10_000).for_each(|_| stop.observe(&sent(1e-6, 1, 4096)));
    assert!(stop.decide(left(1, 0.0), 1, false).estimate.is_some());
}

#[test]
fn old_records_have_their_rule() {
    let old = r#"{"downtime_limit":0.1,"max_rounds":30,"max_time":300.0,"estimate":"raw"}"#;
    let read: Settings = serde_json::from_str(old).unwrap();
    assert_eq!((read.rule(), serde_json::to_string(&read).unwrap()), (Rule::Raw, old.to_owned()));
    for (_, rule) in Rule::ALL {
        let mut settings = Settings { estimate: Estimate::Raw, ..Settings::DEFAULT };
        settings.set_rule(*rule);
        let read: Settings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
        assert_eq!((read.rule(), read), (*rule, settings));
    }
}

#[test]
fn encoded_counts_bytes_of_later_rounds_and_the_engine_where_that_is_slower() {
    let mut stop = stop(Rule::Encoded);
    // All memory, whole; then as deltas of 125 bytes.
    stop.observe(&Stretch { first: true, ..sent(0.8, 20_000, 82_000_000) });
    let whole = stop.decide(left(1000, 0.0), 1, false);
    assert_eq!(whole.bytes, Some(4_100_000.0));
    assert!((whole.estimate.unwrap() - 0.0328).abs() < 1e-9);
    stop.observe(&Stretch { engine: 0.001, ..sent(0.02, 2000, 250_000) });
    let deltas = stop.decide(left(1000, 0.002), 2, false);
    assert_eq!((deltas.bytes, deltas.estimate), (Some(125_000.0), Some(0.003)));
    // An engine that takes 10 us a page is slower than the wire is with 125 bytes.
    stop.observe(&Stretch { engine: 0.02, ..sent(0.02, 2000, 250_000) });
    assert!((stop.decide(left(1000, 0.0), 3, false).estimate.unwrap() - 0.01).abs() < 1e-12);
    // A link without a rate has no other bound.
    let mut unlimited = Stop::new(&settings(Rule::Encoded), None, Overhead::default());
    unlimited.observe(&Stretch { engine: 0.002, ..sent(0.02, 2000, 250_000) });
    assert_eq!(unlimited.decide(left(1000, 0.0), 1, false).estimate, Some(0.001));
}

/// The workload that QEMU's rule never lets go: its pages are many and their deltas few bytes.
#[test]
fn a_probe_sees_deltas_before_the_first_was_sent() {
    let mut stop = stop(Rule::Encoded);
    stop.observe(&Stretch { first: true, ..sent(0.8, 20_000, 82_000_000) });
    assert_eq!(stop.decide(left(5000, 0.0), 1, false).decided, Decided::Continue, "as if they went whole");
    assert!(stop.wants_probe());
    stop.probed(Probe { pages: 64, bytes: 6_400, seconds: 64e-6 });
    let seen = stop.decide(left(5000, 0.0), 1, false);
    assert_eq!((seen.decided, seen.bytes), (Decided::SwitchOver, Some(500_000.0)));
    // 1 us each in the codec, and a fortieth of what the engine took of a whole page.
    let engine = 5000.0 * (1e-6 + 1e-5 * 100.0 / 4100.0);
    assert!((seen.estimate.unwrap() - engine).abs() < 1e-9, "{seen:?}, {engine}");
    let mut raw = super::tests::stop(Rule::Raw);
    raw.observe(&Stretch { first: true, ..sent(0.8, 20_000, 82_000_000) });
    for next in 1..29 {
        assert_eq!(raw.decide(left(5000, 0.0), next, false).decided, Decided::Continue);
        raw.observe(&sent(0.005, 5000, 500_000));
    }
    // Once a round of deltas was sent nobody needs a probe.
    stop.observe(&sent(0.005, 5000, 500_000));
    assert!(!stop.wants_probe());
}

#[test]
fn fixed_adds_what_else_a_pause_takes() {
    let overhead = Overhead { pause: 0.0002, resume: 0.0001, round_trip: 0.0002, state: 12_500 };
    let mut stop = Stop::new(&settings(Rule::Fixed), Some(RATE), overhead);
    stop.observe(&Stretch { engine: 0.001, ..sent(0.1, 1000, 12_500_000) });
    let decision = stop.decide(Left { pages: 500, queued: 0.001, harvest: 0.0005 }, 1, false);
    assert!((decision.overhead.unwrap() - 0.0014).abs() < 1e-12, "{decision:?}");
    assert!((decision.estimate.unwrap() - 0.0524).abs() < 1e-12, "{decision:?}");
    // What fits without it does not fit with it.
    assert_eq!(stop.decide(left(995, 0.0), 1, false).decided, Decided::Continue);
}

/// Rounds with so many pages left after each, sent whole at the rate of the link; gives after how many the rule let go, and why.
fn course(rule: Rule, left_after: impl Fn(u32) -> u64) -> (u32, Decision) {
    let mut stop = stop(rule);
    let mut pages = 20_000;
    for next in 1.. {
        let bytes = pages * 4096;
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let seconds = bytes as f64 / RATE;
        stop.observe(&Stretch { engine: seconds / 4.0, first: next == 1, ..sent(seconds, pages, bytes) });
        pages = left_after(next);
        let decision = stop.decide(left(pages, 0.0), next, false);
        if decision.decided != Decided::Continue {
            return (next, decision);
        }
    }
    unreachable!()
}

/// Pages that take so many milliseconds.
fn ms(milliseconds: u32) -> u64 {
    u64::from(milliseconds) * 125_000 / 4096
}

#[test]
fn a_guest_that_never_converges_is_capped_by_all_but_stall_and_rounds() {
    for (_, rule) in Rule::ALL {
        let (after, decision) = course(*rule, |_| ms(400));
        match rule {
            Rule::Stall => {
                assert_eq!((after, decision.decided), (5, Decided::SwitchOver), "{rule}");
                assert!(
                    (0.39..0.41).contains(&decision.estimate.unwrap()),
                    "within the ceiling: {decision:?}"
                );
            }
            Rule::Rounds => assert_eq!((after, decision.decided), (5, Decided::SwitchOver), "{rule}"),
            _ => assert_eq!((after, decision.decided), (30, Decided::Capped), "{rule}"),
        }
    }
    // Over the ceiling nobody lets go.
    assert_eq!(course(Rule::Stall, |_| ms(1500)).1.decided, Decided::Capped);
}

#[test]
fn a_guest_that_converges_is_let_go_at_the_first_chance_but_by_ramp() {
    let shrinking = |next: u32| ms(800 >> next);
    for rule in [Rule::Pages, Rule::Raw, Rule::Encoded, Rule::Fixed, Rule::Stall] {
        assert_eq!(course(rule, shrinking).0, 3, "{rule}: 100 ms");
    }
    // Its limits are 10, 12.9, 16.7, 21.5, 27.8, 35.9 ms.
    let (after, decision) = course(Rule::Ramp, shrinking);
    assert_eq!(after, 5, "{decision:?}");
    assert!((decision.limit.unwrap() - 0.1 * 10_f64.powf(-5.0 / 9.0)).abs() < 1e-12, "{decision:?}");
    // At last all of the limit is allowed.
    assert_eq!(course(Rule::Ramp, |_| ms(99)).0, 10);
}

/// In waves: 200 ms at the trough, 600 ms at the crest.
#[test]
fn stall_waits_for_the_trough_of_a_wave() {
    let waves = |next: u32| if next.is_multiple_of(4) { ms(200) } else { ms(600) };
    let (after, decision) = course(Rule::Stall, waves);
    assert_eq!(decision.decided, Decided::SwitchOver);
    assert!(after.is_multiple_of(4) && after <= 12, "{after}: {decision:?}");
    // One burst is no stall.
    let burst = |next: u32| if next == 2 { ms(900) } else { ms(1000 >> next) };
    assert_eq!(course(Rule::Stall, burst).0, 4);
}

//! Tests of nights on made-up figures whose truth is known.

use super::*;
use crate::judge::gate_tests::{ab, gate, noise};
use crate::store::RunData;

/// A night of ten blocks of four cells that scatter by `percent`, its new side slower by `change`.
fn data(change: f64, percent: f64, seed: u64) -> RunData {
    let noise = noise(percent, seed);
    ab(10, |side, _| noise() * if side == migbench_scenarios::cell::Side::New { change } else { 1.0 })
}

fn gates() -> [Gate; 1] {
    [gate("total_time", 0.0)]
}

fn night(change: f64, percent: f64, seed: u64) -> Option<NightSamples> {
    let data = data(change, percent, seed);
    Some(NightSamples::of(&Measurement::of_one(&data).unwrap(), &gates(), &Accepted::default()))
}

fn course(nights: impl IntoIterator<Item = Option<NightSamples>>) -> Course<Option<NightSamples>> {
    let mut course = Course::default();
    nights.into_iter().for_each(|night| course.add(night));
    course
}

#[test]
fn all_looks_of_a_test_together_spend_alpha() {
    let spent = |looks: usize| (1..=looks).map(|look| level(look, 0)).sum::<f64>();
    assert!((spent(5) - 0.75 * ALPHA).abs() < 1e-12);
    assert!(spent(100_000) < ALPHA && spent(100_000) > 0.999 * ALPHA);
    assert!((level(3, 1) - level(3, 0) / 2.0).abs() < 1e-15);
    assert_eq!(level(3, 3), level(3, 50));
}

#[test]
fn a_quiet_build_passes_at_once_and_a_slow_one_is_alarmed_at_once() {
    let same = judge(&course([night(1.0, 2.0, 1)]), &gates(), true);
    assert_eq!((same.said, same.looks), (Said::Pass, 1));
    let slower = judge(&course([night(1.2, 2.0, 1)]), &gates(), true);
    assert_eq!(slower.said, Said::Alarm);
    assert!(slower.alarms.iter().any(|alarm| alarm.cell.is_none() && alarm.nights == 1));
    // A base that does not advance is never passed.
    assert_eq!(judge(&course([night(1.0, 2.0, 1)]), &gates(), false).said, Said::Open);
}

#[test]
fn nights_tell_together_what_none_tells_alone() {
    let nights = |change: f64, first: u64| (first..first + 5).map(move |seed| night(change, 11.0, seed));
    for seed in [10, 20, 30] {
        for night in nights(1.05, seed) {
            assert_ne!(judge(&course([night]), &gates(), true).said, Said::Pass);
        }
        let together = judge(&course(nights(1.06, seed)), &gates(), true);
        assert_eq!(together.said, Said::Alarm, "{together:?}");
        assert!(together.alarms[0].nights > 1);
        assert_ne!(judge(&course(nights(1.0, seed)), &gates(), true).said, Said::Alarm);
    }
}

#[test]
fn one_cell_is_found_over_nights() {
    let nights = (1..=5).map(|seed| {
        let noise = noise(5.0, seed);
        let mut data = ab(10, |_, _| noise());
        for record in &mut data.records {
            let slower = record.comparison == "read-heavy/delta"
                && record.cell.side == Some(migbench_scenarios::cell::Side::New);
            if slower && let Some(value) = record.metrics.get_mut("total_time") {
                value.value *= 1.1;
            }
        }
        Some(NightSamples::of(&Measurement::of_one(&data).unwrap(), &gates(), &Accepted::default()))
    });
    let judged = judge(&course(nights), &gates(), true);
    assert_eq!(judged.said, Said::Alarm);
    assert!(judged.alarms.iter().any(|alarm| alarm.cell.as_deref() == Some("read-heavy/delta")));
    let text = judged.text("c0ffee");
    assert!(text.contains("for the worse in read-heavy/delta, over the last 5 nights"), "{text}");
}

#[test]
fn a_regression_under_the_floor_is_none_and_passes() {
    let floor = [gate("total_time", 1e6)];
    let data = data(1.2, 2.0, 1);
    let night = NightSamples::of(&Measurement::of_one(&data).unwrap(), &floor, &Accepted::default());
    assert_eq!(judge(&course([Some(night)]), &floor, true).said, Said::Pass);
}

#[test]
fn a_later_regression_does_not_pass_with_the_nights_before_it_and_stays_in_the_windows() {
    // Three clean nights, and builds that are slower from the fourth on. The candidate, which is clean, may pass meanwhile.
    let mut course = course((1..=3).map(|seed| night(1.0, 11.0, seed)));
    course.conclude(Said::Pass);
    assert_eq!((course.looks, course.recent.len()), (0, 3));
    for seed in 4..=6 {
        course.add(night(1.08, 11.0, seed));
    }
    assert_eq!(course.test().len(), 3, "against the base at hand");
    assert_eq!(judge(&course, &gates(), true).said, Said::Alarm);
    course.conclude(Said::Alarm);
    assert_eq!((course.recent.len(), course.looks, course.alarms), (0, 0, 1));
}

#[test]
fn a_night_whose_samples_are_gone_is_a_look_all_the_same() {
    let judged = judge(&course([night(1.0, 2.0, 1), None, night(1.0, 2.0, 2)]), &gates(), true);
    assert_eq!((judged.looks, judged.said), (3, Said::Pass));
    assert!((judged.level - level(3, 0)).abs() < 1e-15);
}

#[test]
fn tonight_alone_confirms_an_alarm_or_keeps_a_build_from_passing() {
    let passing = judge(&course([night(1.0, 2.0, 1)]), &gates(), true);
    let of = |verdict| Judgement { verdict, gates: Vec::new(), first_alarms: Vec::new() };
    assert_eq!(passing.with(&of(Verdict::NotEnough)), Said::Pass);
    assert_eq!(passing.with(&of(Verdict::Unconfirmed)), Said::Open);
    assert_eq!(passing.with(&of(Verdict::Regression)), Said::Alarm);
}

#[test]
fn nothing_judged_is_nothing_passed() {
    assert_eq!(judge(&course([night(1.0, 2.0, 1)]), &[], true).said, Said::Open);
    let other = [gate("downtime", 0.0), gate("huge_page_share", 0.0)];
    let data = data(1.0, 2.0, 1);
    let night = NightSamples::of(&Measurement::of_one(&data).unwrap(), &other, &Accepted::default());
    assert_eq!(judge(&course([Some(night)]), &other, true).said, Said::Open, "one gate has no samples");
}

#[test]
fn the_short_way_of_a_study_says_the_same() {
    for (change, percent) in [(1.0, 11.0), (1.0, 4.0), (1.05, 11.0), (1.05, 3.0)] {
        for seed in (1..40).step_by(7) {
            let nights: Vec<_> = (seed..seed + 3).map(|seed| night(change, percent, seed)).collect();
            for some in 1..=3 {
                let course = course(nights[..some].to_vec());
                let whole = judge(&course, &gates(), true);
                assert_eq!(said(&course, &gates(), true), whole.said);
                // And what it leaves out raises no alarm.
                let data = data(change, percent, seed);
                let alone =
                    crate::judge::judge(&Measurement::of_one(&data).unwrap(), None, &Accepted::default());
                let alarmed = alone.unwrap().verdict == Verdict::Unconfirmed;
                assert!(!alarmed || suspicious(nights[0].as_ref().unwrap(), &gates()));
            }
        }
    }
}

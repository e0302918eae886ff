//! Tests of comparisons.

use migbench_scenarios::cell::Side;

use super::*;
use crate::judge::gate_tests::{ab, apart, noise};
use crate::judge::measurement::{Allowed, Measurement};
use crate::sample::Sample;

fn wobble(repetition: u32) -> f64 {
    1.0 + 0.003 * f64::from(repetition * 7 % 5)
}

fn words(changes: &Changes, cell: usize) -> Vec<(&'static str, &'static str)> {
    changes.cells[cell].metrics.iter().map(|change| (change.measure.label(), change.word())).collect()
}

#[test]
fn ratios_have_marks_beside_intervals_of_their_own() {
    let base = apart(8, |_, r| wobble(r));
    let new = apart(8, |engine, r| wobble(r + 1) * if engine == "delta" { 1.3 } else { 1.0 });
    let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
    let changes = Changes::of(&measurement, &[]);
    let full = words(&changes, 0);
    assert!(full.iter().all(|(_, word)| *word == "none found"), "{full:?}");
    let delta = words(&changes, 1);
    assert!(delta.contains(&("total time", "worse")) && delta.contains(&("traffic", "none found")));
    for ratio in changes.cells.iter().flat_map(|cell| &cell.metrics).filter_map(|change| change.ratio) {
        let (low, high) = ratio.spread.ends();
        assert!(!ratio.significance.significant() || low > 1.0 || high < 1.0, "{ratio:?}");
    }
    let text = changes.text(&measurement);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    insta::assert_snapshot!(text);
}

/// Two runs of `quick`: six runs a side, 28 metrics, of which Holm's correction of rank sums could pass none.
#[test]
fn six_runs_a_side_show_what_changed() {
    let of = |change: f64, seed| {
        let noise = noise(3.0, seed);
        apart(6, move |engine, _| noise() * if engine == "delta" { change } else { 1.0 })
    };
    let (base, new) = (of(1.0, 1), of(1.3, 2));
    let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
    let changes = Changes::of(&measurement, &[]);
    assert!(changes.tests() >= 28, "{}", changes.tests());
    assert!(words(&changes, 1).contains(&("total time", "worse")), "{:?}", words(&changes, 1));
    assert!(words(&changes, 3).contains(&("downtime", "worse")), "{:?}", words(&changes, 3));
    assert!(words(&changes, 0).iter().all(|(_, word)| *word == "none found"));
}

#[test]
fn six_blocks_show_what_changed() {
    let noise = noise(3.0, 1);
    let data = ab(6, |side, _| noise() * if side == Side::New { 1.5 } else { 1.0 });
    let measurement = Measurement::of_one(&data).unwrap();
    let changes = Changes::of(&measurement, &[]);
    assert!((0..4).all(|cell| words(&changes, cell).contains(&("total time", "worse"))), "{changes:?}");
}

#[test]
fn what_can_not_be_tested_and_what_was_not_found_look_different() {
    let compared = |runs: u32| {
        let (base, new) = (apart(runs, |_, r| wobble(r)), apart(runs, |_, r| 2.0 * wobble(r)));
        let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
        let changes = Changes::of(&measurement, &[MetricKey::TotalTime, MetricKey::ThroughputSteady]);
        (words(&changes, 0), changes.text(&measurement))
    };
    // Three runs a side are one of twenty labellings at best, four one of seventy.
    let (words, text) = compared(3);
    assert_eq!(words, [("total time", "untestable"), ("throughput before", "untestable")]);
    assert!(text.contains("(1.9") && text.contains("untestable: "), "{text}");
    let (words, text) = compared(4);
    assert_eq!(words, [("total time", "worse"), ("throughput before", "none found")]);
    assert!(!text.contains("untestable"), "{text}");
}

/// Bytes that hardly vary are told apart by less than anybody cares for.
#[test]
fn what_is_next_to_nothing_is_no_mark() {
    let (base, new) = (apart(8, |_, r| wobble(r)), apart(8, |_, r| 1.3 * wobble(r)));
    let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
    let mut changes = Changes::of(&measurement, &[MetricKey::TotalTime]);
    let metric = &mut changes.cells[0].metrics[0];
    assert_eq!(metric.word(), "worse");
    for (value, word) in [(1.0004, "under 0.1 %"), (0.9996, "under 0.1 %"), (1.0006, "worse")] {
        metric.ratio = metric.ratio.map(|ratio| RatioOfMeans { value, ..ratio });
        assert_eq!(metric.word(), word);
    }
    changes.cells[0].metrics[0].ratio.as_mut().unwrap().value = 1.0;
    assert!(changes.text(&measurement).contains("under 0.1 %: told from chance"));
}

/// Those that converged did so by luck, and are not what the engine costs.
#[test]
fn survivors_of_a_cap_are_compared_with_nothing() {
    let (base, mut new) = (apart(6, |_, r| wobble(r)), apart(6, |_, r| wobble(r)));
    let capped = Sample::new("write-heavy", "delta").repetition(6).capped().build();
    let place = new.records.iter().position(|run| run.run_id == capped.run_id).unwrap();
    new.records[place] = capped;
    let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
    let changes = Changes::of(&measurement, &[]);
    assert_eq!((changes.cells[3].metrics.len(), changes.cells[3].capped), (0, (0, 1)));
    assert!(!changes.cells[2].metrics.is_empty());
    assert!(changes.text(&measurement).contains("did not converge: 0 runs of base, 1 run of new"));
}

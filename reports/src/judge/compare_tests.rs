//! Tests of comparisons.

use super::*;
use crate::judge::gate_tests::apart;
use crate::judge::measurement::{Allowed, Measurement};

fn wobble(repetition: u32) -> f64 {
    1.0 + 0.003 * f64::from(repetition * 7 % 5)
}

#[test]
fn ratios_have_marks_that_agree_with_their_intervals() {
    let base = apart(8, |_, r| wobble(r));
    let new = apart(8, |engine, r| wobble(r + 1) * if engine == "delta" { 1.3 } else { 1.0 });
    let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
    let comparison = Comparison::of(&measurement, &[]);
    let words = |cell: usize| {
        comparison.cells[cell]
            .lines
            .iter()
            .map(|line| (line.measure.label(), line.word()))
            .collect::<Vec<_>>()
    };
    assert!(words(0).iter().all(|(_, word)| *word == "-"), "{:?}", words(0));
    assert!(words(1).contains(&("total time", "worse")) && words(1).contains(&("traffic", "-")));
    for line in comparison.cells.iter().flat_map(|cell| &cell.lines) {
        let (low, high) = line.spread().unwrap().ends();
        assert_eq!(line.mark().unwrap().significant(), low > 1.0 || high < 1.0);
    }
    let text = comparison.text(&measurement);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn few_runs_have_ranges_and_no_marks() {
    let (base, new) = (apart(5, |_, r| wobble(r)), apart(5, |_, r| 2.0 * wobble(r)));
    let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
    let comparison = Comparison::of(&measurement, &[MetricKey::TotalTime]);
    assert!(comparison.cells.iter().all(|cell| cell.lines.len() == 1 && cell.lines[0].word() == "too few"));
    assert!(comparison.text(&measurement).contains("(1.9"));
}

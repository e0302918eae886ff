//! Drawings of small figures and of wild ones.

use proptest::prelude::*;

use super::*;
use crate::cells;
use crate::figure::{Figures, tests as figures};
use crate::measure::Tails;
use crate::sample;

fn drawn(comparisons: &[cells::ComparisonRuns<'_>]) -> Figures {
    Figures::of(comparisons, &Tails::of_each(comparisons))
}

/// Every number of an attribute that places something.
fn places(svg: &str) -> Vec<f64> {
    let attributes =
        [" x=\"", " y=\"", " x1=\"", " x2=\"", " y1=\"", " y2=\"", " width=\"", " height=\"", " d=\""];
    let mut found = Vec::new();
    for attribute in attributes {
        for rest in svg.split(attribute).skip(1) {
            let text = rest.split('"').next().unwrap();
            let numbers =
                text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c.is_lowercase()));
            found.extend(numbers.filter(|text| !text.is_empty()).map(|text| {
                text.parse::<f64>().unwrap_or_else(|_| panic!("{text:?} is no number in {attribute}"))
            }));
        }
    }
    found
}

/// Elements are closed in the order in which they were opened, attributes are quoted, and text has no markup of its own.
fn well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "{rest}");
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{svg}");
        } else if !tag.ends_with('/') {
            open.push(tag.split([' ', '\n']).next().unwrap());
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
}

fn check(figures: &Figures) -> usize {
    let mut drawn = 0;
    for plot in figures.all() {
        for svg in panels(plot, &plot.id).into_iter().chain([file(plot)]) {
            well_formed(&svg.replace(STYLE, ""));
            // What is placed far outside cannot be seen.
            assert!(places(&svg).iter().all(|place| (-2000.0..10_000.0).contains(place)), "{}", plot.id);
            assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{}", plot.id);
            drawn += 1;
        }
    }
    drawn
}

#[test]
fn the_reference_run_can_be_drawn() {
    let data = figures::reference();
    let figures = drawn(&cells::sort(&data.manifest, &data.records).0);
    assert!(check(&figures) > 20);
}

fn small() -> Figures {
    let mut records = sample::records();
    records.iter_mut().for_each(figures::migrated);
    drawn(&cells::sort(&sample::manifest(), &records).0)
}

#[test]
fn bars_and_timeline_are_drawn_like_this() {
    let figures = small();
    let kind = |kind| figures.comparisons[1].iter().find(|plot| plot.kind == kind).unwrap();
    let drawn = |svg: String| svg.replace('>', ">\n").replace(STYLE, "");
    let bars = kind(crate::figure::PlotKind::Bars);
    insta::assert_snapshot!("bars", drawn(panels(bars, "bars").remove(1)));
    let rounds = kind(crate::figure::PlotKind::Rounds);
    insta::assert_snapshot!("rounds", drawn(panels(rounds, "rounds").remove(0)));
}

#[test]
fn scaling_is_a_file_of_its_own_like_this() {
    let (manifest, records) = figures::grown();
    let figures = drawn(&cells::sort(&manifest, &records).0);
    let mut plot =
        figures.suite.into_iter().find(|plot| plot.kind == crate::figure::PlotKind::Scaling).unwrap();
    plot.panels.truncate(1);
    insta::assert_snapshot!("scaling", file(&plot).replace(STYLE, "...\n").replace("><", ">\n<"));
}

/// Every series can be told from every other by dash and marker, without colour.
#[test]
fn curves_differ_without_colour() {
    let (manifest, records) = figures::grown();
    let figures = drawn(&cells::sort(&manifest, &records).0);
    for plot in figures.all().chain(small().all()) {
        let mut known = std::collections::BTreeSet::new();
        for (label, style, _) in plot.legend() {
            assert!(known.insert((style.dash(), format!("{:?}", style.marker()))), "{}: {label}", plot.id);
        }
    }
}

#[test]
fn names_from_a_suite_are_no_markup() {
    let mut manifest = sample::manifest();
    let mut records = sample::records();
    let evil = "<script>alert(\"1\")</script>&";
    evil.clone_into(&mut manifest.comparisons[1].name);
    records.iter_mut().for_each(figures::migrated);
    for record in records.iter_mut().filter(|record| record.comparison == "write-heavy") {
        evil.clone_into(&mut record.comparison);
        record.run_id = format!("{evil}{}", record.run_id);
    }
    let figures = drawn(&cells::sort(&manifest, &records).0);
    assert!(!figures.comparisons[1].is_empty());
    check(&figures);
    assert!(figures.all().all(|plot| !file(plot).contains("<script")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_records_say_drawings_are_sound(records in figures::wild()) {
        check(&drawn(&cells::sort(&sample::manifest(), &records).0));
    }
}

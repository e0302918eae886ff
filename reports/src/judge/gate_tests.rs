//! Tests of the gate on made-up records whose truth is known.

use migbench_scenarios::cell::Side;
use migbench_scenarios::gate::Gate;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::accepted::{Acceptance, Accepted};
use super::gate::{Judgement, Outcome, Verdict, judge};
use super::measurement::{Allowed, JudgeError, Measurement};
use crate::manifest::{Build, ManifestCell, Tool};
use crate::record::Record;
use crate::sample::{self, Sample};
use crate::store::RunData;

pub fn gate(metric: &str, floor: f64) -> Gate {
    Gate { metric: metric.to_owned(), floor, cells: None }
}

fn data(manifest: crate::manifest::Manifest, records: Vec<Record>) -> RunData {
    RunData { path: "results/some".into(), ..sample::data(manifest, records) }
}

fn plan_with(gates: &[Gate]) -> serde_json::Value {
    serde_json::json!({
        "suite": "quick", "description": "", "analysis": "", "time_budget": "", "hash": "", "seed": 1,
        "repetitions": 1, "comparisons": [], "order": [], "gates": gates,
    })
}

/// Times a factor for everything that takes time.
fn scaled(record: &mut Record, factor: f64) {
    for name in ["total_time", "downtime", "blackout", "cpu_source"] {
        if let Some(metric) = record.metrics.get_mut(name) {
            metric.value *= factor;
        }
    }
}

/// A directory of `runs` runs of each cell, total time times `factor(engine, repetition)`.
pub fn apart(runs: u32, factor: impl Fn(&str, u32) -> f64) -> RunData {
    let mut manifest = sample::manifest();
    manifest.plan = plan_with(&[gate("total_time", 0.005)]);
    manifest.repetitions = runs;
    let mut records = Vec::new();
    for workload in ["read-heavy", "write-heavy"] {
        for engine in ["full", "delta"] {
            records.push(Sample::new(workload, engine).verification(Some(true)).build());
            for repetition in 1..=runs {
                let mut record = Sample::new(workload, engine).repetition(repetition).build();
                scaled(&mut record, factor(engine, repetition));
                records.push(record);
            }
        }
    }
    data(manifest, records)
}

/// The same of `migbench ab`, `factor(side, repetition)`.
pub fn ab(runs: u32, factor: impl Fn(Side, u32) -> f64) -> RunData {
    let mut manifest = sample::manifest();
    manifest.plan = plan_with(&[gate("total_time", 0.005)]);
    manifest.repetitions = runs;
    manifest.comparisons = Vec::new();
    let mut records = Vec::new();
    for workload in ["read-heavy", "write-heavy"] {
        for engine in ["full", "delta"] {
            let name = format!("{workload}/{engine}");
            let mut cells = Vec::new();
            for side in [Side::Base, Side::New] {
                let mut cell = sample::cell(workload, engine);
                cell.side = Some(side);
                cells.push(ManifestCell { id: format!("{name}/{side}"), cell: cell.clone() });
                let of = |sample: Sample| {
                    let name = name.clone();
                    let cell = cell.clone();
                    sample.with(|record| (record.comparison, record.cell) = (name, cell)).build()
                };
                records.push(of(Sample::new(workload, engine).verification(Some(true))));
                for repetition in 1..=runs {
                    let mut record = of(Sample::new(workload, engine).repetition(repetition));
                    scaled(&mut record, factor(side, repetition));
                    records.push(record);
                }
            }
            manifest.comparisons.push(crate::manifest::ManifestComparison {
                baseline: format!("{name}/base"),
                name,
                compare: "side".to_owned(),
                cells,
                analysis: String::new(),
            });
        }
    }
    data(manifest, records)
}

/// Scatter of a few percent, the same for the same arguments.
pub fn noise(percent: f64, seed: u64) -> impl Fn() -> f64 {
    let generator = std::cell::RefCell::new(Xoshiro256PlusPlus::seed_from_u64(seed));
    move || {
        let normal = crate::stats::normal::value_at(generator.borrow_mut().random_range(1e-9..1.0));
        (normal * percent / 100.0).exp()
    }
}

fn noisy(change: f64, percent: f64, seed: u64, runs: u32) -> RunData {
    let noise = noise(percent, seed);
    ab(runs, |side, _| if side == Side::New { change * noise() } else { noise() })
}

/// Of two builds, of which the new one is slower by that factor.
pub fn slower(change: f64, seed: u64) -> RunData {
    let mut data = noisy(change, 3.0, seed, 10);
    let binary = |side: Option<Side>| side.map(|side| format!("builds/{side}"));
    let build = |side: Side, commit: &str| Build {
        binary: format!("builds/{side}"),
        program: "migbench".to_owned(),
        tool: Tool { commit: Some(commit.to_owned()), ..sample::manifest().tool },
        protocol: 1,
        blake3: format!("hash of {side}"),
    };
    data.manifest.builds = vec![build(Side::Base, "0fedcba"), build(Side::New, "0123abc")];
    for planned in data.manifest.comparisons.iter_mut().flat_map(|comparison| &mut comparison.cells) {
        planned.cell.binary = binary(planned.cell.side);
    }
    for record in &mut data.records {
        record.cell.binary = binary(record.cell.side);
    }
    data
}

/// The same, measured afterwards.
pub fn again(mut data: RunData) -> RunData {
    data.path.as_mut_os_string().push("-again");
    data.manifest.seed += 1;
    data.manifest.started = "2025-02-28T12:00:00Z".to_owned();
    data
}

fn verdict(first: &RunData, fresh: Option<&RunData>) -> Judgement {
    let first = Measurement::of_one(first).unwrap();
    let fresh = fresh.map(|fresh| Measurement::of_one(fresh).unwrap());
    judge(&first, fresh.as_ref(), &Accepted::default()).unwrap()
}

#[test]
fn the_same_build_passes() {
    let judgement = verdict(&noisy(1.0, 3.0, 1, 10), None);
    assert_eq!(judgement.verdict, Verdict::Fine, "{judgement:?}");
    assert_eq!(judgement.verdict.status(), 0);
}

#[test]
fn an_alarm_stands_only_if_fresh_samples_confirm_it() {
    let slow = noisy(1.05, 3.0, 2, 10);
    let first = verdict(&slow, None);
    assert_eq!((first.verdict, first.verdict.status()), (Verdict::Unconfirmed, 3));
    let confirmed = verdict(&slow, Some(&noisy(1.05, 3.0, 3, 10)));
    assert_eq!((confirmed.verdict, confirmed.verdict.status()), (Verdict::Regression, 4));
    assert_eq!(confirmed.first_alarms.len(), 1);
    // The fresh samples are alike: what was first seen was chance.
    let not = verdict(&slow, Some(&noisy(1.0, 3.0, 4, 10)));
    assert_eq!((not.verdict, not.first_alarms.len()), (Verdict::Fine, 1));
    // And fresh samples that say nothing leave it open.
    let open = verdict(&slow, Some(&noisy(1.0, 40.0, 5, 6)));
    assert_eq!(open.verdict, Verdict::NotEnough);
}

#[test]
fn fresh_samples_never_raise_an_alarm_of_their_own() {
    let judgement = verdict(&noisy(1.0, 3.0, 1, 10), Some(&noisy(1.2, 3.0, 2, 10)));
    assert_eq!((judgement.verdict, judgement.first_alarms.len()), (Verdict::Fine, 0));
}

#[test]
fn a_faster_build_passes() {
    assert_eq!(verdict(&noisy(0.8, 3.0, 1, 10), None).verdict, Verdict::Fine);
}

#[test]
fn a_noisy_host_does_not_pass_for_a_good_commit() {
    let judgement = verdict(&noisy(1.0, 40.0, 1, 6), None);
    assert_eq!((judgement.verdict, judgement.verdict.status()), (Verdict::NotEnough, 3));
    let Outcome::NotEnough { runs: Some(runs) } = judgement.gates[0].outcome else { panic!("{judgement:?}") };
    assert!(runs > 20, "{runs}");
    assert_eq!(verdict(&ab(1, |_, _| 1.0), None).verdict, Verdict::NotEnough);
}

#[test]
fn what_is_small_is_no_regression() {
    // Two percent, and as sure as can be.
    assert_eq!(verdict(&noisy(1.02, 0.5, 1, 20), None).verdict, Verdict::Fine);
    // Ten percent, and less than the floor.
    let mut data = noisy(1.1, 3.0, 1, 10);
    data.manifest.plan = plan_with(&[gate("total_time", 0.5)]);
    assert_eq!(verdict(&data, None).verdict, Verdict::Fine);
}

#[test]
fn more_of_a_rate_is_better() {
    let of = |factor: f64| {
        let mut data = noisy(1.0, 3.0, 1, 10);
        data.manifest.plan = plan_with(&[gate("throughput_steady", 100.0)]);
        let noise = noise(2.0, 9);
        for record in &mut data.records {
            let change = if record.cell.side == Some(Side::New) { factor } else { 1.0 };
            record.metrics.get_mut("throughput_steady").unwrap().value *= noise() * change;
        }
        verdict(&data, None)
    };
    let (more, less) = (of(1.1), of(0.9));
    assert_eq!((more.verdict, less.verdict), (Verdict::Fine, Verdict::Unconfirmed));
    let [more, less] = [more, less].map(|judgement| judgement.gates[0].mean.clone().unwrap());
    assert!(more.ratio > 1.0 && less.ratio < 1.0 && less.worse_by > 0.0);
    let (low, high) = less.bounds;
    assert!(low.unwrap() < less.ratio && less.ratio < high.unwrap());
}

#[test]
fn a_changed_host_is_never_a_regression() {
    let slow = |seed| {
        let mut data = noisy(1.2, 3.0, seed, 10);
        data.records.iter_mut().step_by(2).for_each(|record| record.flags.push("cpu_stolen".to_owned()));
        data
    };
    let judgement = verdict(&slow(1), Some(&slow(2)));
    assert_eq!((judgement.verdict, judgement.verdict.status()), (Verdict::HostDisturbed, 3));
    // Nobody saw the host do anything to guests that were not steady.
    let mut data = noisy(1.2, 3.0, 1, 10);
    data.records.iter_mut().step_by(2).for_each(|record| record.flags.push("not_steady".to_owned()));
    let judgement = verdict(&data, None);
    assert_eq!((judgement.verdict, judgement.verdict.status()), (Verdict::NotSteady, 3));
    let measurement = Measurement::of_one(&data).unwrap();
    let text = judgement.text(&measurement, None, &Accepted::default(), "");
    assert!(text.contains("NOT STEADY: ") && !text.contains("HOST"), "{text}");
}

#[test]
fn failed_proofs_are_no_matter_of_speed() {
    let mut data = noisy(1.0, 3.0, 1, 10);
    data.records[0].verified = Some(false);
    assert_eq!(verdict(&data, None).verdict, Verdict::Unsound);
}

fn accepting(metric: &str, cell: Option<&str>, size: &str) -> Accepted {
    let one = Acceptance {
        metric: metric.to_owned(),
        cell: cell.map(str::to_owned),
        size: size.parse().unwrap(),
        reason: "checksums".to_owned(),
        until: "2031-01-31".to_owned(),
    };
    Accepted { current: vec![one], expired: Vec::new() }
}

#[test]
fn what_is_beyond_an_accepted_change_is_judged() {
    let judged = |change: f64, cell: Option<&str>, size: &str| {
        let slow = noisy(change, 2.0, 1, 10);
        let measurement = Measurement::of_one(&slow).unwrap();
        judge(&measurement, None, &accepting("total_time", cell, size)).unwrap()
    };
    let whole = judged(1.2, None, "20%");
    // What was found is accepted, and there is nothing else that could pass.
    assert_eq!((whole.verdict, whole.gates[0].cells.len()), (Verdict::NothingJudged, 4));
    assert_eq!((whole.verdict.status(), &whole.gates[0].outcome), (3, &Outcome::Fine));
    // What is reported is what was measured, and not what is left of it.
    let mean = whole.gates[0].mean.clone().unwrap();
    assert!((mean.ratio - 1.2).abs() < 0.03 && (mean.accepted - 0.2).abs() < 1e-9, "{mean:?}");
    assert!(mean.bounds.0.unwrap() < 1.2 && mean.bounds.1.unwrap() > 1.2, "{mean:?}");
    assert_eq!(judged(1.35, None, "20%").verdict, Verdict::Unconfirmed);
    assert_eq!(judged(1.2, None, "5%").verdict, Verdict::Unconfirmed);
    // Of four cells the three others still raise it.
    let one = judged(1.2, Some("write-heavy/full"), "20%");
    let alarms: Vec<bool> = one.gates[0].cells.iter().map(|cell| cell.change.alarm).collect();
    assert_eq!((one.verdict, alarms), (Verdict::Unconfirmed, vec![true, true, false, true]));
    // A cell that is accepted leaves three that are judged.
    assert_eq!(judged(1.0, Some("write-heavy/full"), "20%").verdict, Verdict::Fine);
}

/// With two gates of which one is accepted the other one still says something.
#[test]
fn a_pass_needs_a_gate_that_is_judged_and_says_which() {
    let mut data = noisy(1.0, 1.0, 1, 10);
    cap(&mut data, Side::Base, 4);
    cap(&mut data, Side::New, 4);
    data.manifest.plan = plan_with(&[gate("total_time", 0.005), gate("downtime", 0.001)]);
    let measurement = Measurement::of_one(&data).unwrap();
    let said = |accepted: &Accepted| {
        let judgement = judge(&measurement, None, accepted).unwrap();
        (judgement.verdict, judgement.text(&measurement, None, accepted, "what to do now"))
    };
    let one = accepting("total_time", None, "20%");
    let (verdict, text) = said(&one);
    assert_eq!(verdict, Verdict::Fine, "{text}");
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "PASS: judged were total_time in 3 of 4 cells, downtime in 3 of 4 cells, by 10 runs of each cell and side.",
        "excluded beyond what is accepted, or what is not is under the floor. What was left out stands above",
        "without read-heavy/full: did not converge in 4 runs of base and 4 of new",
    ] {
        assert!(flat.contains(words), "no {words:?} in {text}");
    }
    assert!(text.ends_with("\nwhat to do now\n"), "{text}");
    let mut both = one;
    both.current.extend(accepting("downtime", None, "20%").current);
    both.current.extend(accepting("traffic", None, "20%").current);
    both.current.extend(accepting("downtime", Some("elsewhere/full"), "20%").current);
    let (verdict, text) = said(&both);
    assert_eq!((verdict, verdict.status()), (Verdict::NothingJudged, 3));
    assert!(text.contains("NOTHING JUDGED: a change is accepted of all that could be judged"), "{text}");
    let idle = text.lines().filter(|line| line.starts_with("accepted, but nothing that is judged here: "));
    assert_eq!(idle.count(), 2, "{text}");
}

#[test]
fn of_what_is_better_the_more_less_may_be_accepted() {
    let mut data = noisy(1.0, 3.0, 1, 10);
    data.manifest.plan = plan_with(&[gate("throughput_steady", 100.0)]);
    let noise = noise(1.0, 9);
    for record in &mut data.records {
        let change = if record.cell.side == Some(Side::New) { 0.8 } else { 1.0 };
        record.metrics.get_mut("throughput_steady").unwrap().value *= noise() * change;
    }
    let measurement = Measurement::of_one(&data).unwrap();
    let judged = |size| judge(&measurement, None, &accepting("throughput_steady", None, size)).unwrap();
    let whole = judged("20%");
    let mean = whole.gates[0].mean.clone().unwrap();
    assert_eq!(whole.verdict, Verdict::NothingJudged);
    assert!((mean.ratio - 0.8).abs() < 0.01 && (mean.accepted - 0.2).abs() < 1e-9, "{mean:?}");
    assert_eq!(judged("10%").verdict, Verdict::Unconfirmed);
}

/// One of four cells is slower, by so much that the mean is fine, or pays for it elsewhere.
#[test]
fn a_cell_that_became_worse_is_found_and_named() {
    let of = |slow: f64, others: f64, percent: f64, seed: u64| {
        let mut data = noisy(1.0, percent, seed, 6);
        for record in data.records.iter_mut().filter(|record| record.cell.side == Some(Side::New)) {
            let slower = record.comparison == "write-heavy/delta";
            scaled(record, if slower { slow } else { others });
        }
        data
    };
    let judged = |slow: f64, others: f64| verdict(&of(slow, others, 1.5, 1), Some(&of(slow, others, 1.5, 2)));
    for (slow, others) in [(1.1, 1.0), (1.76, 1.0), (1.3, 0.9)] {
        let judgement = judged(slow, others);
        assert_eq!(judgement.verdict, Verdict::Regression, "{slow} {others}: {judgement:?}");
        let alarms: Vec<_> = judgement.gates[0]
            .cells
            .iter()
            .filter(|cell| cell.change.alarm)
            .map(|cell| cell.id.as_str())
            .collect();
        assert_eq!(alarms, ["write-heavy/delta"]);
    }
    assert_eq!(judged(1.0, 1.0).verdict, Verdict::Fine);
    // Where a cell scatters so that twice as slow could not be seen, that nothing was seen says nothing.
    let mut scattered = of(1.0, 1.0, 0.5, 1);
    let noise = noise(50.0, 3);
    for record in scattered.records.iter_mut().filter(|record| record.comparison == "read-heavy/full") {
        scaled(record, noise());
    }
    let judgement = verdict(&scattered, None);
    assert_eq!(judgement.verdict, Verdict::NotEnough);
    let worst = judgement.gates[0].worst().unwrap();
    assert_eq!((worst.id.as_str(), worst.change.excluded), ("read-heavy/full", false));
}

/// An alarm of one cell is not confirmed by another one.
#[test]
fn fresh_samples_confirm_what_raised_the_alarm() {
    let of = |cell: &'static str, seed| {
        let mut data = noisy(1.0, 1.0, seed, 8);
        let slower = |record: &&mut Record| record.cell.side == Some(Side::New) && record.comparison == cell;
        data.records.iter_mut().filter(slower).for_each(|record| scaled(record, 1.09));
        data
    };
    let judgement = verdict(&of("read-heavy/full", 1), Some(&of("write-heavy/full", 2)));
    assert_ne!(judgement.verdict, Verdict::Regression, "{judgement:?}");
    assert_eq!(judgement.first_alarms.len(), 1);
    let confirmed = verdict(&of("read-heavy/full", 1), Some(&of("read-heavy/full", 2)));
    assert_eq!(confirmed.verdict, Verdict::Regression);
    // Nor is it taken back where its cell can't be looked at.
    let mut without = of("write-heavy/full", 2);
    without
        .records
        .iter_mut()
        .filter(|record| record.comparison == "read-heavy/full")
        .for_each(|record| drop(record.metrics.remove("total_time")));
    assert_eq!(verdict(&of("read-heavy/full", 1), Some(&without)).verdict, Verdict::NotEnough);
}

/// Cells of 10 s and of 10 ms. Half as much again of the large one is 2.5 s in the mean; by ratios it is 11 %, which of the
/// median cell would be nothing to speak of.
#[test]
fn a_floor_bounds_the_mean_of_cells_of_different_size() {
    let of = |change: f64| {
        let mut data = noisy(1.0, 1.0, 1, 8);
        data.manifest.plan = plan_with(&[gate("total_time", 1.0)]);
        for record in &mut data.records {
            let large = record.comparison == "write-heavy/full";
            let size = if large { 10.0 } else { 0.01 };
            let slower = large && record.cell.side == Some(Side::New);
            let value = &mut record.metrics.get_mut("total_time").unwrap().value;
            *value *= size / 2.4 * if slower { change } else { 1.0 };
        }
        verdict(&data, None)
    };
    let judgement = of(1.5);
    assert_eq!(judgement.verdict, Verdict::Unconfirmed, "{judgement:?}");
    assert!((judgement.gates[0].mean.clone().unwrap().worse_by - 1.25).abs() < 0.1);
    // Twice as slow where that is ten milliseconds is under the floor.
    let mut small = noisy(1.0, 1.0, 1, 8);
    small.manifest.plan = plan_with(&[gate("total_time", 1.0)]);
    for record in &mut small.records {
        let slower = record.comparison == "write-heavy/full" && record.cell.side == Some(Side::New);
        record.metrics.get_mut("total_time").unwrap().value *= if slower { 2e-2 } else { 1e-2 };
    }
    assert_eq!(verdict(&small, None).verdict, Verdict::Fine);
}

fn cap(data: &mut RunData, side: Side, runs: u32) {
    let of_side =
        |record: &&mut Record| record.comparison == "read-heavy/full" && record.cell.side == Some(side);
    let timed =
        data.records.iter_mut().filter(of_side).filter(|record| (1..=runs).contains(&record.repetition));
    timed.for_each(|record| record.status = crate::record::Status::Capped);
}

#[test]
fn capped_cells_and_missing_metrics_are_left_out_and_told() {
    let mut data = noisy(1.0, 3.0, 1, 10);
    cap(&mut data, Side::New, 1);
    let without = |data: &mut RunData, runs: u32| {
        let lacking = |r: &&mut Record| r.comparison == "write-heavy/delta" && r.repetition <= runs;
        data.records.iter_mut().filter(lacking).for_each(|r| drop(r.metrics.remove("total_time")));
    };
    without(&mut data, 2);
    let judgement = verdict(&data, None);
    assert_eq!(judgement.verdict, Verdict::NotEnough, "it may be worse in a way that no time tells");
    assert_eq!(judgement.gates[0].cells.iter().map(|cell| cell.samples.0).collect::<Vec<_>>(), [10, 10, 8]);
    without(&mut data, 3);
    let judgement = verdict(&data, None);
    let why: Vec<_> = judgement.gates[0].left_out.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(
        why,
        [
            "did not converge in 0 runs of base and 1 of new",
            "lacks total_time in some runs: 7 and 7 of 10 and 10 have it"
        ]
    );
}

#[test]
fn what_a_limit_cut_short_on_both_sides_is_named_and_not_judged() {
    let capped = |base: u32, new: u32| {
        let mut data = noisy(1.0, 2.0, 1, 10);
        cap(&mut data, Side::Base, base);
        cap(&mut data, Side::New, new);
        verdict(&data, None)
    };
    for (base, new) in [(10, 10), (3, 4), (4, 0)] {
        let judgement = capped(base, new);
        assert_eq!((judgement.verdict, judgement.gates[0].cells.len()), (Verdict::Fine, 3), "{base} {new}");
        assert!(judgement.gates[0].left_out[0].1.starts_with("did not converge in"));
    }
    // On the new side alone, and so many more of it that it can't be chance.
    for (base, new) in [(0, 1), (1, 9)] {
        assert_eq!(capped(base, new).verdict.status(), 3, "{base} {new}");
    }
    // Nothing is left to judge.
    let mut all = noisy(1.0, 2.0, 1, 10);
    all.records
        .iter_mut()
        .filter(|record| record.repetition > 0)
        .for_each(|record| record.status = crate::record::Status::Capped);
    assert_eq!(verdict(&all, None).verdict.status(), 3);
}

#[test]
fn runs_that_failed_or_are_missing_are_status_1() {
    for side in [Side::Base, Side::New] {
        let of_side = |record: &Record| record.repetition == 4 && record.cell.side == Some(side);
        let mut data = noisy(1.0, 2.0, 1, 10);
        let failed = data.records.iter_mut().find(|record| of_side(record)).unwrap();
        failed.status = crate::record::Status::Failed;
        let judgement = verdict(&data, None);
        assert_eq!((judgement.verdict, judgement.verdict.status()), (Verdict::Unsound, 1));
        let mut data = noisy(1.0, 2.0, 1, 10);
        let missing = data.records.iter().position(of_side).unwrap();
        data.records.remove(missing);
        assert_eq!(verdict(&data, None).verdict, Verdict::Unsound);
        let unsound = Measurement::of_one(&data).unwrap().unsound;
        assert_eq!(unsound, ["1 planned run is missing"]);
        let unfinished = Measurement::of_one(&data).unwrap().unfinished;
        assert_eq!(unfinished, [data.path.clone()]);
    }
}

#[test]
fn directories_that_stand_apart_are_judged_too() {
    let of = |factor: f64, seed| {
        let noise = noise(2.0, seed);
        apart(10, move |_, _| factor * noise())
    };
    let (base, same, slow) = (of(1.0, 1), of(1.0, 2), of(1.08, 3));
    let judged = |new: &RunData| {
        let measurement = Measurement::of_two(&base, new, Allowed::default()).unwrap();
        judge(&measurement, None, &Accepted::default()).unwrap().verdict
    };
    assert_eq!((judged(&same), judged(&slow)), (Verdict::Fine, Verdict::Unconfirmed));
    // Whatever confirms it: the host may have changed between the two.
    let measurement = Measurement::of_two(&base, &slow, Allowed::default()).unwrap();
    let slower = noisy(1.1, 1.0, 4, 10);
    let fresh = Measurement::of_one(&slower).unwrap();
    let judgement = judge(&measurement, Some(&fresh), &Accepted::default()).unwrap();
    assert_eq!((judgement.verdict, judgement.verdict.status()), (Verdict::Unconfirmed, 3));
    let text = judgement.text(&measurement, None, &Accepted::default(), "");
    assert!(text.contains("advisory: measured at two times"), "{text}");
    assert!(text.contains("NOT CONFIRMED (advisory): "), "{text}");
    let error =
        judge(&Measurement::of_two(&base, &base, Allowed::default()).unwrap(), None, &Accepted::default())
            .unwrap_err();
    assert!(matches!(error, JudgeError::Same { .. }), "{error}");
}

#[test]
fn a_suite_without_gates_can_not_be_judged() {
    let mut data = noisy(1.0, 3.0, 1, 10);
    data.manifest.plan = serde_json::json!({});
    let measurement = Measurement::of_one(&data).unwrap();
    let error = judge(&measurement, None, &Accepted::default()).unwrap_err();
    assert!(error.to_string().contains("declares no [[gate]]"), "{error}");
}

#[test]
fn the_stage_that_moved_is_named() {
    let mut data = noisy(1.0, 1.0, 1, 10);
    let noise = noise(2.0, 8);
    for record in data.records.iter_mut().filter(|record| record.cell.side == Some(Side::New)) {
        scaled(record, 1.06);
        record
            .rounds
            .iter_mut()
            .flat_map(|round| &mut round.encode_time)
            .for_each(|time| *time += 0.01 * noise());
    }
    let judgement = verdict(&data, None);
    let stages: Vec<_> = judgement.gates[0].stages.iter().map(|moved| moved.stage).collect();
    assert_eq!(stages, ["encode"]);
    assert!((judgement.gates[0].stages[0].seconds - 0.02).abs() < 1e-3);
}

#[test]
fn an_alarm_tells_everything_in_a_hundred_columns() {
    let slow = noisy(1.05, 3.0, 2, 10);
    let (first, again) = (Measurement::of_one(&slow).unwrap(), noisy(1.05, 3.0, 3, 10));
    let fresh = Measurement::of_one(&again).unwrap();
    let accepted = Accepted::default();
    let judgement = judge(&first, Some(&fresh), &accepted).unwrap();
    let text = judgement.text(&first, Some(&fresh), &accepted, "migbench ab quick");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    insta::assert_snapshot!(text);
}

/// What the rules promise, on normal scatter of 4 % in four cells of ten blocks: rare false alarms, and 5 % found.
#[test]
fn false_alarms_are_rare_and_five_percent_are_found() {
    let judged = |change: f64, seed: u64| {
        verdict(&noisy(change, 4.0, 2 * seed, 10), Some(&noisy(change, 4.0, 2 * seed + 1, 10))).verdict
    };
    let count = |change: f64, wanted: Verdict| (0..40).filter(|seed| judged(change, *seed) == wanted).count();
    assert_eq!(count(1.0, Verdict::Regression), 0);
    let found = count(1.05, Verdict::Regression);
    assert!(found >= 34, "{found} of 40");
    assert_eq!(count(1.05, Verdict::Fine), 0);
}

/// How often invocations of `quick` say what: one gate, four cells, six blocks, runs that vary by `percent`; the same build,
/// one whose cells all take 5 % longer, and one of which one cell takes so much longer. The figures of METHODOLOGY:
/// `cargo test -p migbench-reports --release -- --ignored --nocapture gates_find`.
#[test]
#[ignore = "thousands of judgements"]
fn gates_find_cells_and_raise_no_false_alarms() {
    let trials = 300;
    for percent in [1.5, 4.0] {
        let made = |all: f64, one: f64, seed: u64| {
            let mut data = noisy(all, percent, seed, 6);
            let slower = |record: &&mut Record| {
                record.cell.side == Some(Side::New) && record.comparison == "write-heavy/delta"
            };
            data.records.iter_mut().filter(slower).for_each(|record| scaled(record, one));
            data
        };
        for (all, one) in [(1.0, 1.0), (1.05, 1.0), (1.0, 1.1), (1.0, 1.2)] {
            let judged = |seed: u64| {
                let fresh = made(all, one, 2 * seed + 1);
                let judgement = verdict(&made(all, one, 2 * seed), Some(&fresh));
                let cells = judgement.gates[0].cells.iter().filter(|cell| cell.change.alarm);
                let named = cells.clone().any(|cell| cell.id == "write-heavy/delta");
                (judgement.verdict, named, !judgement.first_alarms.is_empty())
            };
            let all_of: Vec<_> = (0..trials).map(judged).collect();
            let count = |wanted: Verdict| all_of.iter().filter(|(verdict, ..)| *verdict == wanted).count();
            let (fine, alarm) = (count(Verdict::Fine), count(Verdict::Regression));
            let named =
                all_of.iter().filter(|(verdict, named, _)| *verdict == Verdict::Regression && *named).count();
            let first = all_of.iter().filter(|(.., first)| *first).count();
            println!(
                "{percent} %, all x {all}, one x {one}: {fine} fine, {first} first alarms, {alarm} regressions, \
                 {named} name the cell, of {trials}"
            );
            if (all, one) == (1.0, 1.0) {
                assert!(first <= 27 && alarm <= 3, "{first} and {alarm}");
            } else {
                assert!(fine <= 27, "{fine}");
            }
        }
    }
}

//! Tests of what stands against what.

use super::*;
use crate::judge::gate_tests::{ab, apart};
use crate::sample;

#[test]
fn two_directories_give_the_cells_that_both_have() {
    let (base, new) = (apart(6, |_, _| 1.0), apart(7, |_, _| 1.0));
    let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
    let ids: Vec<_> = measurement.cells.iter().map(|cell| cell.id.as_str()).collect();
    assert_eq!(ids, ["full", "delta", "full", "delta"]);
    assert_eq!(measurement.cells[0].runs.count(), (6, 7));
    assert_eq!((measurement.interleaved, measurement.repetitions()), (false, 6));
    assert_eq!(measurement.gates.len(), 1);
}

#[test]
fn other_plans_and_hosts_are_refused_unless_told() {
    let (base, mut new) = (apart(6, |_, _| 1.0), apart(6, |_, _| 1.0));
    new.manifest.comparisons[0].cells[1].cell.vcpus = 2;
    let error = Measurement::of_two(&base, &new, Allowed::default()).unwrap_err();
    assert!(error.to_string().contains("the cell delta differs in vcpus"), "{error}");
    let lay = "; `migbench compare results/some results/some --different-plans` lays";
    assert!(error.to_string().contains(lay), "{error}");
    // Both where both are needed.
    let kernel = new.manifest.host.kernel.replace("6.13.0".to_owned());
    let error = Measurement::of_two(&base, &new, Allowed::default()).unwrap_err().to_string();
    assert!(error.contains("results/some --different-plans --different-hosts` lays"), "{error}");
    new.manifest.host.kernel = kernel;
    let allowed = Allowed { different_plans: true, ..Allowed::default() };
    let measurement = Measurement::of_two(&base, &new, allowed).unwrap();
    assert!(measurement.notes[0].contains("differs in vcpus") && !measurement.notes[0].contains("compare"));

    new.manifest = base.manifest.clone();
    new.manifest.host.kernel = Some("6.13.0".to_owned());
    let error = Measurement::of_two(&base, &new, Allowed::default()).unwrap_err();
    assert!(error.to_string().contains("kernel is 6.12.0 there and 6.13.0 here"), "{error}");
    let allowed = Allowed { different_hosts: true, ..Allowed::default() };
    assert!(Measurement::of_two(&base, &new, allowed).is_ok());
}

#[test]
fn other_schemas_are_refused_whatever_is_allowed() {
    let (mut base, new) = (apart(6, |_, _| 1.0), apart(6, |_, _| 1.0));
    base.manifest.schema = 1;
    base.path = "old".into();
    let allowed = Allowed { different_plans: true, different_hosts: true };
    let error = Measurement::of_two(&base, &new, allowed).unwrap_err();
    assert!(error.is_incomparable(), "{error}");
    let error = error.to_string();
    assert!(error.starts_with("old holds records of schema 1 and "), "{error}");
    assert!(error.contains(" of schema 2") && error.contains("measure both with one build"), "{error}");
}

#[test]
fn another_seed_is_no_other_plan() {
    let (base, mut new) = (apart(6, |_, _| 1.0), apart(6, |_, _| 1.0));
    new.manifest.seed = 9;
    new.records.iter_mut().for_each(|record| record.seed = 9);
    assert_eq!(Measurement::of_two(&base, &new, Allowed::default()).unwrap().notes, [""; 0]);
}

#[test]
fn another_build_is_no_other_plan() {
    let (base, mut new) = (apart(6, |_, _| 1.0), apart(6, |_, _| 1.0));
    for planned in new.manifest.comparisons.iter_mut().flat_map(|c| &mut c.cells) {
        planned.cell.binary = Some("/opt/new".to_owned());
    }
    for record in &mut new.records {
        record.cell.binary = Some("/opt/new".to_owned());
    }
    let measurement = Measurement::of_two(&base, &new, Allowed::default()).unwrap();
    assert_eq!(measurement.cells[0].runs.count(), (6, 6));
    assert_eq!(measurement.new.commit(), "0123abc, the nodes of /opt/new");
}

#[test]
fn one_directory_is_two_sides_in_blocks() {
    let data = ab(6, |_, _| 1.0);
    let measurement = Measurement::of_one(&data).unwrap();
    let ids: Vec<_> = measurement.cells.iter().map(|cell| cell.id.as_str()).collect();
    assert_eq!(ids, ["read-heavy/full", "read-heavy/delta", "write-heavy/full", "write-heavy/delta"]);
    let Runs::Blocks(blocks) = &measurement.cells[0].runs else { panic!("not in blocks") };
    assert!(blocks.iter().all(|(base, new)| base.repetition == new.repetition));
    assert_eq!(blocks[0].0.cell.side, Some(Side::Base));
}

#[test]
fn sides_and_directories_are_not_mixed() {
    let (two, one) = (apart(6, |_, _| 1.0), ab(6, |_, _| 1.0));
    assert!(matches!(Measurement::of_one(&two), Err(JudgeError::NoSides { .. })));
    assert!(matches!(Measurement::of_two(&two, &one, Allowed::default()), Err(JudgeError::HasSides { .. })));
}

#[test]
fn a_side_that_failed_or_lacks_runs_is_not_sound() {
    let unsound = |change: fn(&mut RunData), of_new: bool| {
        let (mut base, mut new) = (apart(6, |_, _| 1.0), apart(6, |_, _| 1.0));
        change(if of_new { &mut new } else { &mut base });
        Measurement::of_two(&base, &new, Allowed::default()).unwrap().unsound
    };
    assert_eq!(unsound(|_| {}, true), Vec::<String>::new());
    let fail = |data: &mut RunData| {
        let gone = sample::Sample::new("write-heavy", "full").repetition(6).failed("precopy", "gone").build();
        let place = data.records.iter().position(|run| run.run_id == gone.run_id).unwrap();
        data.records[place] = gone;
    };
    assert_eq!(unsound(fail, true), ["1 run of new failed, the first of them write-heavy-full-6: gone"]);
    assert_eq!(unsound(fail, false), ["1 run of base failed, the first of them write-heavy-full-6: gone"]);
    let interrupt = |data: &mut RunData| data.records.truncate(25);
    assert_eq!(unsound(interrupt, true), ["3 planned runs of new are missing"]);
}

#[test]
fn directories_of_one_build_are_told_apart_from_two_builds() {
    use crate::manifest::Build;
    let build =
        |blake3: &str| Build { binary: Build::OWN.to_owned(), blake3: blake3.to_owned(), ..Build::default() };
    let (mut base, mut new) = (apart(6, |_, _| 1.0), apart(6, |_, _| 1.0));
    let mut notes = |base_hash: &str, new_hash: &str| {
        (base.manifest.builds, new.manifest.builds) = (vec![build(base_hash)], vec![build(new_hash)]);
        Measurement::of_two(&base, &new, Allowed::default()).unwrap().notes
    };
    assert_eq!(notes("a", "b"), [""; 0]);
    assert!(notes("a", "a")[0].starts_with("both were measured with one build"));
}

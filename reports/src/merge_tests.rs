//! Slices of synthetic records, merged.

use migbench_scenarios::{Assignment, Overrides, Suite};
use proptest::prelude::*;

use super::*;
use crate::manifest::Skipped;
use crate::record::RunKind;
use crate::report::Report;
use crate::sample::{self, Sample};

fn plan(repeat: u32) -> Plan {
    let set = ["link.rate=500Mbit/s,1Gbit/s,10Gbit/s"].map(|text| Assignment::parse(text).unwrap()).to_vec();
    let mut suite = Suite::find("quick").unwrap();
    suite.apply(&Overrides { set, repeat: Some(repeat), ..Overrides::default() }).unwrap();
    suite.expand().unwrap()
}

/// What a machine that runs these runs of the plan leaves.
fn measured(plan: &Plan, slice: Slice, host: &str) -> RunData {
    let mut manifest = sample::manifest();
    manifest.suite = plan.suite.clone();
    manifest.suite_hash = plan.hash.clone();
    manifest.plan = serde_json::to_value(plan).unwrap();
    manifest.repetitions = plan.repetitions;
    manifest.host.hostname = Some(host.to_owned());
    let runs = plan.runs_of(slice);
    manifest.planned_runs = u32::try_from(runs.len()).unwrap();
    let here: BTreeSet<_> = runs.iter().map(|(_, run)| run.comparison).collect();
    manifest.comparisons =
        here.iter().map(|&index| ManifestComparison::of(&plan.comparisons[index], plan)).collect();
    manifest.slice = Some(PlanSlice {
        slice,
        plan_hash: FrozenPlan::hash_of(&manifest.tool, &manifest.suite_text, plan),
        chosen_by: "--partition".to_owned(),
    });
    let records = runs.iter().map(|(number, run)| record(plan, *number, run)).collect();
    RunData { path: format!("slices/{}", slice.number).into(), ..sample::data(manifest, records) }
}

fn record(plan: &Plan, number: usize, run: &PlannedRun) -> Record {
    let planned = plan.cell(run).unwrap();
    let comparison = plan.comparisons[run.comparison].name.clone();
    let sample = Sample::new(&planned.cell.workload, planned.cell.engine.word());
    let sample = match run.kind {
        RunKind::Verification => sample.verification(Some(true)),
        RunKind::Timed => sample.repetition(run.repetition),
    };
    let with = sample.with(|record| {
        record.run_id = format!("{number:04}-{comparison}");
        record.comparison = comparison;
        record.order = u32::try_from(number).unwrap();
        record.seed = run.seed;
        record.cell = planned.cell.clone();
    });
    with.metric(MetricKey::CanaryCopy, 1e9 + f64::from(run.repetition))
        .metric(MetricKey::CanarySocket, 5e8)
        .build()
}

fn slices(plan: &Plan, of: u32) -> Vec<RunData> {
    Slice::all(of).map(|slice| measured(plan, slice, &format!("node{}", slice.number))).collect()
}

fn merged(slices: &[RunData]) -> Result<Merged, MergeError> {
    merge(slices, false, vec!["migbench".to_owned(), "merge".to_owned()])
}

#[test]
fn simulated_slices_do_not_go_with_real_ones() {
    let mut slices = slices(&plan(1), 2);
    slices[1].manifest.backend = crate::record::Backend::Simulated;
    let error = merged(&slices).unwrap_err();
    assert!(error.is_incomparable() && error.to_string().contains("the backend is kvm in one"), "{error}");
}

#[track_caller]
fn refused(slices: &[RunData], words: &str) -> MergeError {
    let error = merged(slices).unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    error
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn slices_of_any_number_give_what_one_machine_gives(
        repeat in 1u32..4, of in 1u32..10, turn in 0usize..10,
    ) {
        let plan = plan(repeat);
        let whole = measured(&plan, Slice::WHOLE, "node1");
        let mut slices = slices(&plan, of);
        // In whatever order they are named.
        slices.rotate_left(turn % of as usize);
        let merged = merged(&slices).unwrap();
        prop_assert_eq!(&merged.records, &whole.records);
        let manifest = &merged.manifest;
        prop_assert_eq!(manifest.planned_runs, whole.manifest.planned_runs);
        prop_assert_eq!(&manifest.comparisons, &whole.manifest.comparisons);
        prop_assert_eq!(&manifest.plan, &whole.manifest.plan);
        prop_assert_eq!(manifest.host.class(), whole.manifest.host.class());
        prop_assert_eq!(manifest.parts.iter().map(|part| part.records).sum::<u32>(), manifest.planned_runs);
        let report = |manifest: &Manifest, records: &[Record]| {
            let (manifest, records) = (manifest.clone(), records.to_vec());
            Report::of(&sample::data(manifest, records))
        };
        let (merged, whole) =
            (report(&merged.manifest, &merged.records), report(&whole.manifest, &whole.records));
        prop_assert_eq!(merged.tables, whole.tables);
        prop_assert_eq!(merged.verification, whole.verification);
        prop_assert_eq!(merged.warnings, whole.warnings);
    }
}

#[test]
fn every_host_stays_with_its_canary() {
    let plan = plan(3);
    let mut slices = slices(&plan, 3);
    slices[1].manifest.host.memory = slices[1].manifest.host.memory.map(|bytes| bytes - 4096);
    slices[1].manifest.host.governor = Some("powersave".to_owned());
    slices[2].manifest.disturbances.push("the load was 3".to_owned());
    slices[2].manifest.started = "2025-01-31T11:00:00Z".to_owned();
    let merged = merged(&slices).unwrap().manifest;
    let hosts: Vec<_> = merged.parts.iter().map(|part| part.host.hostname.as_deref().unwrap()).collect();
    assert_eq!(hosts, ["node1", "node2", "node3"]);
    // Blocks 0 to 3, each once.
    assert_eq!(merged.parts[0].canary, Some(CanaryMedians { copy: 1e9 + 1.5, socket: 5e8 }));
    assert_eq!(merged.parts[1].host.governor.as_deref(), Some("powersave"));
    assert_eq!((merged.host.governor, merged.host.hostname), (None, None), "what differs is no one's");
    assert_eq!(merged.host.memory, slices[0].manifest.host.memory, "a part of the class");
    assert_eq!(merged.disturbances, ["the load was 3 (host node3, slice 3/3)"]);
    assert_eq!(merged.started, "2025-01-31T11:00:00Z");
    assert_eq!(merged.command, ["migbench", "merge"]);
}

#[test]
fn what_a_host_could_not_run_is_not_missed() {
    let plan = plan(2);
    let mut slices = slices(&plan, 2);
    let one = &mut slices[0];
    let (name, cell) =
        (one.manifest.comparisons[0].name.clone(), one.manifest.comparisons[0].cells[1].clone());
    one.records.retain(|record| record.cell != cell.cell);
    one.manifest.planned_runs = u32::try_from(one.records.len()).unwrap();
    one.manifest.skipped.push(Skipped { comparison: name, cell: cell.id, reason: "no rings".to_owned() });
    let merged = merged(&slices).unwrap();
    assert_eq!(merged.manifest.skipped.len(), 1);
    assert_eq!(usize::try_from(merged.manifest.planned_runs).unwrap(), merged.records.len());
    assert_eq!(merged.records.len(), plan.order.len() - 3);
}

#[test]
fn mixed_plans_partitions_builds_and_hosts_are_refused() {
    let plans = [plan(2), plan(3)];
    let [mut two, three] = [slices(&plans[0], 2), slices(&plans[1], 2)];
    assert!(refused(&[two[0].clone(), three[1].clone()], "the plan is").is_incomparable());
    let other = measured(&plans[0], Slice { number: 2, of: 3 }, "node2");
    assert!(refused(&[two[0].clone(), other], "the number of slices is 2 in one and 3").is_incomparable());
    two[1].manifest.host.kernel = Some("6.13.0".to_owned());
    assert!(refused(&two, "the kernel is 6.12.0 in one and 6.13.0 in the other").is_incomparable());
    two[1].manifest.host.kernel = two[0].manifest.host.kernel.clone();
    two[1].manifest.tool.commit = Some("fedcba9".to_owned());
    assert!(refused(&two, "the build of migbench is 0.1.0 of commit 0123abc in one").is_incomparable());
}

#[test]
fn slices_of_another_schema_are_refused_and_those_of_schema_1_still_go_together() {
    let plan = plan(2);
    let mut slices = slices(&plan, 2);
    let old = |slice: &mut RunData| {
        slice.manifest.schema = 1;
        slice.manifest.slice.as_mut().unwrap().plan_hash = "as schema 1 had it".to_owned();
        slice.records.iter_mut().for_each(|record| record.schema = 1);
    };
    old(&mut slices[0]);
    let words = "slices/1 holds records of schema 1 and slices/2 of schema 2";
    let error = refused(&slices, words);
    assert!(error.is_incomparable() && error.to_string().contains("run both slices with"), "{error}");
    old(&mut slices[1]);
    assert_eq!(merged(&slices).unwrap().manifest.schema, 1);
}

#[test]
fn cells_that_would_count_twice_are_refused() {
    let plan = plan(2);
    let mut slices = slices(&plan, 2);
    let again = RunData { path: "again".into(), ..slices[0].clone() };
    let both = [slices.clone(), vec![again]].concat();
    assert!(refused(&both, "slices/1 and again both hold slice 1/2").is_incomparable());

    let (one, other) = (slices[0].records[0].clone(), slices[1].records[0].clone());
    slices[0].records[1] = one;
    assert!(refused(&slices, "has the place of another one").is_incomparable());
    slices[0].records[1] = other;
    assert!(refused(&slices, "is no run of this slice").is_incomparable());
}

#[test]
fn missing_slices_and_runs_are_reported_and_may_be_allowed() {
    let plan = plan(2);
    let mut slices = slices(&plan, 3);
    slices.remove(1);
    slices[1].records.pop();
    let (runs, third) = (plan.runs_of(Slice { number: 2, of: 3 }).len(), slices[1].manifest.planned_runs);
    let error = refused(&slices, &format!("slice 2/3 with {runs} runs is missing"));
    assert!(error.is_too_little(), "{error}");
    let expected = format!("slice 3/3 in slices/3 has {} of {third} runs", third - 1);
    assert!(error.to_string().contains(&expected), "{error}");

    let part = merge(&slices, true, Vec::new()).unwrap();
    assert_eq!(part.missing.len(), 2);
    assert_eq!(part.records.len(), plan.order.len() - runs - 1);
    assert_eq!(
        usize::try_from(part.manifest.planned_runs).unwrap(),
        plan.order.len(),
        "reports speak of the rest"
    );
}

#[test]
fn an_empty_slice_may_be_there_or_not() {
    let plan = plan(1);
    let mut slices = slices(&plan, 8);
    let (empty, full): (Vec<_>, Vec<_>) = slices.drain(..).partition(|slice| slice.records.is_empty());
    assert_eq!((empty.len(), full.len()), (2, 6));
    assert_eq!(merged(&full).unwrap().records.len(), plan.order.len());
    assert_eq!(merged(&[full, empty].concat()).unwrap().manifest.parts.len(), 8);
}

#[test]
fn only_slices_of_the_plan_they_name_are_merged() {
    let plan = plan(2);
    let whole = RunData { path: "whole".into(), ..measured(&plan, Slice::WHOLE, "node1") };
    let mut alone = whole.clone();
    alone.manifest.slice = None;
    refused(&[alone], "whole: no slice of a frozen plan");
    let mut merged_before = whole.clone();
    merged_before.manifest = merged(std::slice::from_ref(&whole)).unwrap().manifest;
    refused(&[merged_before], "merged already");
    let mut changed = whole;
    changed.manifest.plan["order"][0]["seed"] = serde_json::json!(1);
    refused(&[changed], "not the one that its hash names");
}

//! Plans cut into slices.

use std::collections::BTreeSet;

use migbench_scenarios::{Assignment, Overrides, Plan, Slice, Suite, shipped};
use proptest::prelude::*;

fn plan(suite: usize, overrides: &Overrides) -> Plan {
    let (name, _) = shipped::SHIPPED[suite % shipped::SHIPPED.len()];
    let mut suite = Suite::find(name).unwrap();
    suite.apply(overrides).unwrap();
    suite.expand().unwrap()
}

fn seconds(plan: &Plan, slice: Slice) -> f64 {
    plan.runs_of(slice).iter().map(|(_, run)| plan.time(run).0).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn slices_have_every_run_once_and_comparisons_whole(
        suite in 0usize..32, seed in 0..u64::MAX, repeat in 1u32..4, of in 1u32..40,
    ) {
        let overrides = Overrides { seed: Some(seed), repeat: Some(repeat), ..Overrides::default() };
        let plan = plan(suite, &overrides);
        let mut seen = BTreeSet::new();
        let mut homes = vec![None; plan.comparisons.len()];
        for slice in Slice::all(of) {
            let runs = plan.runs_of(slice);
            prop_assert!(runs.is_sorted_by_key(|(number, _)| *number));
            for (number, run) in runs {
                prop_assert_eq!(&plan.order[number], run);
                prop_assert!(seen.insert(number), "run {} stands in two slices", number);
                prop_assert_eq!(*homes[run.comparison].get_or_insert(slice.number), slice.number);
            }
        }
        prop_assert_eq!(seen.len(), plan.order.len());
        // The same plan after a journey as text gives the same slices.
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap().partition(of), plan.partition(of));
    }

    #[test]
    fn no_slice_has_more_than_its_share_and_one_comparison(suite in 0usize..32, of in 1u32..20) {
        let plan = plan(suite, &Overrides::default());
        let longest = (0..plan.comparisons.len())
            .map(|index| plan.order.iter().filter(|run| run.comparison == index).map(|run| plan.time(run).0).sum())
            .fold(0.0, f64::max);
        let most = Slice::all(of).map(|slice| seconds(&plan, slice)).fold(0.0, f64::max);
        let bound = plan.estimate().0 / f64::from(of) + longest;
        prop_assert!(most <= bound * (1.0 + 1e-9), "{most} s of at most {bound} s");
    }
}

#[test]
fn the_longest_go_apart() {
    let set = ["link.rate=100Mbit/s,1Gbit/s"].map(|text| Assignment::parse(text).unwrap()).to_vec();
    let mut suite = Suite::find("quick").unwrap();
    suite.apply(&Overrides { set, ..Overrides::default() }).unwrap();
    let plan = suite.expand().unwrap();
    let names: Vec<_> = plan.comparisons.iter().map(|comparison| comparison.name.as_str()).collect();
    let slow: Vec<_> = (0..names.len()).filter(|&index| names[index].contains("100Mbit")).collect();
    assert_eq!((slow.len(), names.len()), (2, 4), "{names:?}");
    let slices = plan.partition(2);
    assert_ne!(slices[slow[0]], slices[slow[1]], "{names:?} {slices:?}");
}

#[test]
fn more_slices_than_comparisons_leave_some_empty() {
    let plan = Suite::find("quick").unwrap().expand().unwrap();
    let full = Slice::all(5).filter(|&slice| !plan.runs_of(slice).is_empty()).count();
    assert_eq!(full, plan.comparisons.len());
    assert_eq!(plan.runs_of(Slice::WHOLE).len(), plan.order.len());
}

//! From suites to plans: the shipped suites, matrices, overrides, and the order of runs.

use std::collections::BTreeMap;

use migbench_scenarios::cell::{Cache, Codec, Engine};
use migbench_scenarios::{Assignment, Draft, Overrides, Plan, RunKind, Suite, shipped};
use migbench_workloads::units::{Bytes, Rate};
use proptest::prelude::*;

fn suite(body: &str) -> Suite {
    let text = format!("name = \"t\"\ndescription = \"d\"\n{body}");
    Suite::parse(&text, "t.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn plan(body: &str) -> Plan {
    suite(body).expand().unwrap_or_else(|error| panic!("{error}"))
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.comparisons.iter().flat_map(|c| &c.cells).map(|cell| cell.id.as_str()).collect()
}

fn overridden(body: &str, overrides: &Overrides) -> Plan {
    let mut suite = suite(body);
    suite.apply(overrides).unwrap_or_else(|error| panic!("{error}"));
    suite.expand().unwrap_or_else(|error| panic!("{error}"))
}

fn set(texts: &[&str]) -> Overrides {
    let set = texts.iter().map(|text| Assignment::parse(text).expect("key=value")).collect();
    Overrides { set, ..Overrides::default() }
}

const MATRIX: &str = r#"
[[comparison]]
workload = "write-heavy"
axes = { engine = ["full", "delta"], memory = ["128MiB", "1GiB"], "link.rate" = ["1Gbit/s"] }
"#;

#[test]
fn every_shipped_suite_expands() {
    for (name, text) in shipped::SHIPPED {
        let suite = Suite::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(suite.name, *name);
        assert!(!suite.description.is_empty() && !suite.analysis.is_empty() && !suite.time_budget.is_empty());
        suite.expand().unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn quick_is_four_cells_in_two_to_three_minutes() {
    let plan = Suite::find("quick").unwrap().expand().unwrap();
    assert_eq!(ids(&plan), ["read-heavy/full", "read-heavy/delta", "write-heavy/full", "write-heavy/delta"]);
    assert_eq!(plan.order.len(), 28);
    let estimate = plan.estimate().0;
    assert!((120.0..180.0).contains(&estimate), "{estimate}");
    let cell = &plan.comparisons[1].cells[1].cell;
    assert_eq!((cell.engine, cell.codec, cell.cache), (Engine::Delta, Codec::Xbzrle, Cache::Shadow));
    assert_eq!((cell.memory, cell.link.rate), (Bytes(128 << 20), Some(Rate(125_000_000))));
    assert_eq!(plan.comparisons[1].baseline, Some(0));
}

#[test]
fn names_say_what_varies_and_nothing_else() {
    assert_eq!(
        ids(&plan(MATRIX)),
        [
            "write-heavy memory=128MiB/full",
            "write-heavy memory=128MiB/delta",
            "write-heavy memory=1GiB/full",
            "write-heavy memory=1GiB/delta",
        ]
    );
}

#[test]
fn a_name_may_be_a_template() {
    let body = MATRIX.replace("workload =", "name = \"{workload} in {memory}\"\nworkload =");
    assert_eq!(plan(&body).comparisons[1].name, "write-heavy in 1GiB");
}

#[test]
fn exclude_takes_and_include_adds() {
    let body = format!(
        "{MATRIX}exclude = [{{ memory = \"1024MiB\", engine = \"delta\" }}]
include = [
    {{ engine = \"stop-and-copy\" }},
    {{ engine = \"delta\", memory = \"128MiB\", backing = \"memfd\", optional = true }},
    {{ workload = \"idle\", memory = \"32MiB\" }},
]"
    );
    let plan = plan(&body);
    assert_eq!(
        ids(&plan),
        [
            "write-heavy memory=128MiB/full",
            "write-heavy memory=128MiB/delta",
            "write-heavy memory=128MiB/stop-and-copy",
            "write-heavy memory=128MiB/delta backing=memfd",
            "write-heavy memory=1GiB/full",
            "write-heavy memory=1GiB/stop-and-copy",
            "idle memory=32MiB/full",
            "idle memory=32MiB/delta",
        ]
    );
    let optional: Vec<_> =
        plan.comparisons.iter().flat_map(|c| &c.cells).filter(|c| c.optional).map(|c| &c.id).collect();
    assert_eq!(optional, ["write-heavy memory=128MiB/delta backing=memfd"]);
}

#[test]
fn another_axis_can_be_compared() {
    let body = r#"
[[comparison]]
workload = "idle"
engine = "full"
axes = { backing = ["anonymous", "memfd"], vcpus = [1, 2] }
compare = "backing"
optional = [{ backing = "memfd", vcpus = 2 }]
"#;
    let plan = plan(body);
    assert_eq!(
        ids(&plan),
        ["idle vcpus=1/anonymous", "idle vcpus=1/memfd", "idle vcpus=2/anonymous", "idle vcpus=2/memfd"]
    );
    assert_eq!(plan.comparisons[1].cells.iter().map(|c| c.optional).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_suite_has_workloads_of_its_own() {
    let body = r#"
[workload.skewed]
base = "write-heavy"
pattern = "zipf(0.99)"
change.bytes = 8
change.pieces = 1
[[comparison]]
workload = "skewed"
settings.reads = 0.25
axes = { engine = ["full", "delta"], settings.load = ["pressure(0.2)", "flat-out"] }
"#;
    let plan = plan(body);
    let cell = &plan.comparisons[0].cells[0].cell;
    assert_eq!(plan.comparisons[0].name, "skewed settings.load=pressure(0.2)");
    assert_eq!(cell.workload, "skewed");
    assert_eq!((cell.settings.change.bytes, cell.settings.reads), (8, 0.25));
    assert_eq!(cell.settings.working_set, Bytes(64 << 20));
}

#[test]
fn set_replaces_values_and_axes() {
    let overrides = set(&["memory=256MiB", "vcpus=1,2", "link.rate=10Gbit/s"]);
    let plan = overridden(MATRIX, &overrides);
    assert_eq!(
        ids(&plan),
        [
            "write-heavy vcpus=1/full",
            "write-heavy vcpus=1/delta",
            "write-heavy vcpus=2/full",
            "write-heavy vcpus=2/delta"
        ]
    );
    assert!(plan.comparisons.iter().flat_map(|c| &c.cells).all(|c| c.cell.memory == Bytes(256 << 20)));
    assert!(
        plan.comparisons.iter().flat_map(|c| &c.cells).all(|c| c.cell.link.rate == Some(Rate(1_250_000_000)))
    );
}

#[test]
fn a_filter_keeps_seeds_and_hash() {
    let whole = plan(MATRIX);
    let filter =
        Overrides { filter: Some("1GiB/delta$".to_owned()), repeat: Some(2), ..Overrides::default() };
    let part = overridden(MATRIX, &filter);
    assert_eq!(ids(&part), ["write-heavy memory=1GiB/delta"]);
    assert_eq!(part.comparisons[0].baseline, None);
    assert_eq!(part.order.len(), 3);
    assert_eq!(part.hash, whole.hash);
    for run in &part.order {
        let same = |other: &&migbench_scenarios::PlannedRun| {
            other.comparison == 1 && other.cell == 1 && other.repetition == run.repetition
        };
        assert_eq!(whole.order.iter().find(same).map(|other| other.seed), Some(run.seed));
    }
}

#[test]
fn set_changes_the_hash() {
    assert_ne!(plan(MATRIX).hash, overridden(MATRIX, &set(&["memory=256MiB"])).hash);
}

#[test]
fn the_seed_and_prose_are_no_part_of_what_makes_two_plans_the_same() {
    let with = |seed| overridden(MATRIX, &Overrides { seed: Some(seed), ..Overrides::default() });
    assert_ne!(with(1).order, with(2).order);
    assert_eq!(with(1).hash, with(2).hash);
    assert_eq!(with(1).reseeded(9).hash, with(1).hash);
    let analysed = format!("analysis = \"another\"\nrepetitions = 7\n{MATRIX}");
    assert_eq!(plan(&analysed).hash, plan(MATRIX).hash);
}

#[test]
fn a_key_that_is_set_to_its_default_changes_no_hash() {
    let same = [
        "vcpus=1",
        "stop.max_rounds=30",
        "link.transport=unix",
        "link.queue=544KiB",
        "link.delay=0s",
        "wait=spin",
        "tracker_settings.ring_entries=4096",
    ];
    assert_eq!(plan(MATRIX).hash, overridden(MATRIX, &set(&same)).hash);
    for other in [
        "vcpus=2",
        "link.queue=1MiB",
        "link.delay=5ms",
        "wait=doorbell",
        "link.transport=netns",
        "wait=doorbell",
        "settings.load=pressure(0.71)",
    ] {
        assert_ne!(plan(MATRIX).hash, overridden(MATRIX, &set(&[other])).hash, "{other}");
    }
}

#[test]
fn plans_survive_json() {
    let plan = plan(MATRIX);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn a_draft_makes_a_cell_by_the_same_rules() {
    let mut draft = Draft::new();
    for (flag, key, value) in [
        ("--memory", "memory", "256MiB"),
        ("--engine", "engine", "delta"),
        ("--workload", "workload", "write-heavy"),
        ("--pin-vcpus", "pinning.vcpus", "0"),
        ("--pin-source", "pinning.source", "1"),
        ("--pin-destination", "pinning.destination", "1-2"),
    ] {
        draft.set(&Assignment::flag(flag, key, value)).unwrap();
    }
    let cell = draft.build().unwrap();
    assert_eq!((cell.memory, cell.codec), (Bytes(256 << 20), Codec::Xbzrle));
    assert_eq!(cell.pinning.as_ref().unwrap().destination, [1, 2]);
    let plan = Plan::single(cell, 1, false, 7);
    assert_eq!(plan.order.len(), 1);
    assert_eq!(plan.order[0].kind, RunKind::Timed);
}

proptest! {
    #[test]
    fn the_order_is_complete_blocks(seed in 0..u64::MAX, repetitions in 1u32..6, memories in 1usize..4) {
        let memories = ["128MiB", "256MiB", "512MiB"][..memories].join("\", \"");
        let body = format!(
            "[[comparison]]\naxes = {{ workload = [\"idle\", \"read-heavy\"], engine = [\"full\", \"delta\", \
             \"none\"], memory = [\"{memories}\"] }}"
        );
        let overrides = Overrides { seed: Some(seed), repeat: Some(repetitions), ..Overrides::default() };
        let plan = overridden(&body, &overrides);
        prop_assert_eq!(&plan, &overridden(&body, &overrides));
        let cells: usize = plan.comparisons.iter().map(|c| c.cells.len()).sum();
        let mut blocks: BTreeMap<(u32, usize), (u64, f64)> = BTreeMap::new();
        for (repetition, block) in (0u32..).zip(plan.order.chunks(cells)) {
            let mut seen: Vec<_> = block.iter().map(|run| (run.comparison, run.cell)).collect();
            // Side by side: a comparison, once left, does not come again.
            let mut comparisons: Vec<_> = seen.iter().map(|(comparison, _)| *comparison).collect();
            comparisons.dedup();
            prop_assert_eq!(comparisons.len(), plan.comparisons.len());
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), cells);
            for run in block {
                prop_assert_eq!(run.repetition, repetition);
                prop_assert_eq!(run.kind == RunKind::Verification, repetition == 0);
                prop_assert!((0.0..0.1).contains(&run.start_jitter.0) && run.seed < 1 << 53);
                let shared = (run.seed, run.start_jitter.0);
                prop_assert_eq!(*blocks.entry((repetition, run.comparison)).or_insert(shared), shared);
            }
        }
        let mut seeds: Vec<_> = blocks.values().map(|(seed, _)| *seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        prop_assert_eq!(seeds.len(), blocks.len());
        prop_assert_eq!(plan.order.len(), cells * (repetitions as usize + 1));
    }
}

#[test]
fn another_seed_gives_another_order() {
    let with = |seed| overridden(MATRIX, &Overrides { seed: Some(seed), ..Overrides::default() }).order;
    assert_ne!(with(1), with(2));
}

//! What is read from files, and from the command line.

use std::path::Path;

use migbench_reports::format::Format;
use migbench_reports::judge::accepted::Accepted;
use migbench_reports::render;
use migbench_reports::report::Report;
use migbench_reports::store::{Accept, MANIFEST, RUNS, RunData};
use migbench_reports::{history, reproduce, show};
use migbench_scenarios::frozen::FrozenPlan;
use migbench_scenarios::{Claims, Overrides, Slice, Suite};
use migbench_workloads::units::{Bytes, Rate, Seconds};

use crate::engine::planted_cost::PlantedCost;
use crate::node::about::About;
use crate::node::fault::InjectedFault;
use crate::runner::simulated::spec::Simulation;

/// A run directory, read and shown.
fn report(manifest: &[u8], runs: &[u8]) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join(MANIFEST), manifest).unwrap();
    std::fs::write(scratch.path().join(RUNS), runs).unwrap();
    let Ok(data) = RunData::load_as(scratch.path(), Accept::Simulated) else { return false };
    let report = Report::of(&data);
    for format in [Format::Terminal, Format::Csv, Format::Json, Format::Markdown] {
        assert!(!render::render(std::slice::from_ref(&report), format, 100).unwrap().is_empty());
    }
    let _ = show::list(&data);
    for record in &data.records {
        let _ = show::record(record);
    }
    !data.records.is_empty()
}

const REFERENCE: &str = include_str!("../../fuzz/corpus/manifest/good.json");
const RECORD: &str = include_str!("../../fuzz/corpus/records/good.jsonl");

pub(super) fn records(data: &[u8]) -> bool {
    report(REFERENCE.as_bytes(), data)
}

pub(super) fn manifest(data: &[u8]) -> bool {
    report(data, RECORD.as_bytes())
}

pub(super) fn plan(data: &[u8]) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("plan.json");
    let parsed = serde_json::from_slice::<FrozenPlan>(data).ok();
    let tool = parsed.as_ref().map(|plan| plan.tool.clone()).unwrap_or_default();
    std::fs::write(&file, data).unwrap();
    let _ = FrozenPlan::read(&file, &tool);
    // No fuzzer guesses a hash.
    let Some(plan) = parsed else { return false };
    let plan = FrozenPlan::new(plan.plan, plan.suite_text, plan.tool);
    let file = scratch.path().join("again.json");
    plan.write(&file).unwrap();
    FrozenPlan::read(&file, &tool).is_ok_and(|read| {
        assert_eq!(read, plan);
        true
    })
}

pub(super) fn suite(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let Ok(mut suite) = Suite::parse(&text, "suite.toml") else { return false };
    // A hundred thousand runs are nothing to look at again and again.
    let one = Overrides { repeat: Some(1), ..Overrides::default() };
    suite.apply(&one).unwrap();
    suite.expand().is_ok_and(|plan| {
        assert!(!plan.comparisons.is_empty());
        true
    })
}

pub(super) fn claims(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    Claims::parse(&text, "claims.toml", Path::new("/dev/null"), &reproduce::metrics()).is_ok()
}

/// Base64 of an `HdrHistogram`, as in records, or what is in it.
pub(super) fn histogram(data: &[u8]) -> bool {
    let text = std::str::from_utf8(data).ok().and_then(|text| migbench_reports::histogram::decode(text).ok());
    let bytes = migbench_reports::histogram::from_bytes(data).ok();
    let Some(histogram) = text.or(bytes) else { return false };
    let again = migbench_reports::histogram::encode(&histogram).unwrap();
    let again = migbench_reports::histogram::decode(&again).unwrap();
    assert_eq!((again.len(), again.max()), (histogram.len(), histogram.max()));
    let _ = again.value_at_quantile(0.99);
    migbench_reports::histogram::empty().add(again).is_ok()
}

/// Lines of nights, and behind a byte of no text those of the CSV.
pub(super) fn history(data: &[u8]) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let mut parts = data.splitn(2, |&byte| byte == 0);
    for name in ["nights.jsonl", "history.csv"] {
        std::fs::write(scratch.path().join(name), parts.next().unwrap_or_default()).unwrap();
    }
    let before = history::nights(scratch.path());
    history::mend(scratch.path()).unwrap();
    if let (Ok(before), Ok(after)) = (before, history::nights(scratch.path())) {
        assert_eq!(before, after, "what is mended loses nothing");
    }
    history::drift(scratch.path()).is_ok_and(|drift| !drift.text().is_empty())
}

pub(super) fn accepted(data: &[u8]) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("accepted.toml");
    std::fs::write(&file, data).unwrap();
    Accepted::load(&file, "2031-02-28").is_ok_and(|accepted| {
        let _ = accepted.size("total_time", "write-heavy/full");
        true
    })
}

/// Quantities, and what tests and other builds of the program say.
pub(super) fn words(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    if let Ok(fault) = text.parse::<InjectedFault>() {
        assert_eq!(fault.to_string().parse(), Ok(fault));
    }
    if let Ok(time) = text.parse::<Seconds>() {
        let _ = (time.duration(), time.to_string());
    }
    let shown = [
        text.parse::<Bytes>().ok().map(|it| it.to_string()),
        text.parse::<Rate>().ok().map(|it| it.to_string()),
        text.parse::<Slice>().ok().map(|it| format!("{it:?}")),
        text.parse::<Simulation>().ok().map(|it| format!("{it:?}")),
        text.parse::<PlantedCost>().ok().map(|it| format!("{it:?}")),
        serde_json::from_str::<About>(text).ok().map(|it| format!("{it:?}")),
    ];
    shown.into_iter().flatten().any(|text| !text.is_empty()) || text.parse::<InjectedFault>().is_ok()
}

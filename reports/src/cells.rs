//! Records sorted into the cells of the plan: which runs are samples of which cell, which were capped, which
//! failed, which proved memory. Tables and the verification footer start from here.

use std::collections::{BTreeSet, HashMap};

use migbench_scenarios::cell::{Cell, Engine};

use crate::manifest::{Manifest, ManifestCell, ManifestComparison};
use crate::record::{Record, RunKind, Status};

/// One cell of a comparison and all of its runs.
#[derive(Debug, Clone)]
pub struct CellRuns<'a> {
    /// What tables call it: its value on the compared axis.
    pub label: String,
    /// What it is.
    pub cell: &'a Cell,
    /// Whether the others are compared with it.
    pub baseline: bool,
    /// Why it was left out on this machine.
    pub skipped: Option<&'a str>,
    /// Timed runs that ended as planned: the only samples.
    pub ok: Vec<&'a Record>,
    /// Timed runs that a limit forced to switch over.
    pub capped: Vec<&'a Record>,
    /// Timed runs that failed.
    pub failed: Vec<&'a Record>,
    /// Runs that hash memory, however they ended.
    pub verification: Vec<&'a Record>,
}

/// A comparison and its cells, baseline first.
#[derive(Debug, Clone)]
pub struct ComparisonRuns<'a> {
    /// As planned.
    pub plan: &'a ManifestComparison,
    /// What people read in place of its name: see [`short_names`].
    pub title: String,
    /// Baseline first, then in the order of the plan.
    pub cells: Vec<CellRuns<'a>>,
}

impl CellRuns<'_> {
    /// Runs that reached the destination in time, and all that reached it.
    #[must_use]
    pub fn converged(&self) -> (usize, usize) {
        (self.ok.len(), self.ok.len() + self.capped.len())
    }

    /// Whether it is a control beside the engines and not one of those that are compared.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        !self.baseline && matches!(self.cell.engine, Engine::None | Engine::TrackOnly | Engine::StopAndCopy)
    }
}

impl<'a> ComparisonRuns<'a> {
    /// The cell that the others are compared with.
    #[must_use]
    pub fn baseline(&self) -> Option<&CellRuns<'a>> {
        self.cells.iter().find(|cell| cell.baseline)
    }

    /// Whether a cell is a control beside the others: where all cells are of one engine, that engine is none.
    #[must_use]
    pub fn is_control(&self, cell: &CellRuns<'_>) -> bool {
        cell.is_control() && Some(cell.cell.engine) != self.baseline().map(|cell| cell.cell.engine)
    }

    /// The cells that are compared with the baseline and were not left out.
    pub fn compared(&self) -> impl Iterator<Item = &CellRuns<'a>> {
        self.cells.iter().filter(|cell| !cell.baseline && cell.skipped.is_none() && !self.is_control(cell))
    }
}

/// Sorts records into the plan of their manifest. Records that belong to no planned cell are left out; their number
/// comes second.
#[must_use]
pub fn sort<'a>(manifest: &'a Manifest, records: &'a [Record]) -> (Vec<ComparisonRuns<'a>>, usize) {
    let names: Vec<_> = manifest.comparisons.iter().map(|plan| plan.name.as_str()).collect();
    let titles = short_names(&names);
    let comparisons = manifest.comparisons.iter().zip(titles);
    let mut sorted: Vec<_> = comparisons.map(|(plan, title)| empty(manifest, plan, title)).collect();
    let mut strangers = 0;
    let mut named: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        named.entry(name).or_default().push(index);
    }
    for record in records {
        let found = named.get(record.comparison.as_str()).into_iter().flatten().find_map(|&index| {
            let cell = sorted[index].cells.iter().position(|runs| *runs.cell == record.cell)?;
            Some((index, cell))
        });
        let found = found.map(|(index, cell)| &mut sorted[index].cells[cell]);
        let Some(runs) = found else {
            strangers += 1;
            continue;
        };
        match (record.kind, record.status) {
            (RunKind::Verification, _) => &mut runs.verification,
            (RunKind::Timed, Status::Ok) => &mut runs.ok,
            (RunKind::Timed, Status::Capped) => &mut runs.capped,
            (RunKind::Timed, Status::Failed) => &mut runs.failed,
        }
        .push(record);
    }
    (sorted, strangers)
}

/// Of names that sweeps give to comparisons (`kv-a settings.change.bytes=8 memory=64MiB`) the words that not all have, with keys
/// as short as they are told apart by: `bytes=8`. Other names stay.
#[must_use]
pub fn short_names(names: &[&str]) -> Vec<String> {
    let whole = || names.iter().map(|name| (*name).to_owned()).collect();
    let words = || names.iter().flat_map(|name| name.split(' '));
    let keys: BTreeSet<&str> = words().filter_map(|word| Some(word.split_once('=')?.0)).collect();
    let is_key = |key: &&str| migbench_scenarios::key::KEYS.iter().any(|known| known.name == *key);
    if names.len() < 2 || names.iter().any(|name| !name.contains('=')) || !keys.iter().all(is_key) {
        return whole();
    }
    let mut shared: HashMap<&str, usize> = HashMap::new();
    for name in names {
        for word in name.split(' ').collect::<BTreeSet<_>>() {
            *shared.entry(word).or_default() += 1;
        }
    }
    let shared = |word: &str| shared.get(word) == Some(&names.len());
    let name = |name: &&str| {
        let own = name.split(' ').filter(|word| !shared(word)).map(|word| match word.split_once('=') {
            Some((key, value)) => format!("{}={value}", short_key(key, &keys)),
            None => word.to_owned(),
        });
        own.collect::<Vec<_>>().join(" ")
    };
    let found: Vec<_> = names.iter().map(name).collect();
    let different = found.iter().collect::<BTreeSet<_>>().len() == names.len();
    if different && found.iter().all(|name| !name.is_empty()) { found } else { whole() }
}

/// The end of a key that no other of `keys` has.
#[must_use]
pub fn short_key(key: &str, keys: &BTreeSet<&str>) -> String {
    let ends = key.rmatch_indices('.').map(|(at, _)| &key[at + 1..]);
    let alone = |end: &&str| {
        let has = |other: &&&str| **other == *end || other.ends_with(&format!(".{end}"));
        keys.iter().filter(has).count() == 1
    };
    ends.into_iter().find(alone).unwrap_or(key).to_owned()
}

fn empty<'a>(manifest: &'a Manifest, plan: &'a ManifestComparison, title: String) -> ComparisonRuns<'a> {
    let baseline = plan.cells.iter().find(|planned| planned.id == plan.baseline);
    let engine = baseline.map_or(Engine::None, |planned| planned.cell.engine);
    let labels: Vec<_> = plan.cells.iter().map(|planned| label(&plan.compare, planned, engine)).collect();
    let mut cells: Vec<_> = plan
        .cells
        .iter()
        .zip(&labels)
        .map(|(planned, label)| CellRuns {
            // Two cells may share a word on the axis and differ in what belongs to it, as codecs of one engine do.
            label: match labels.iter().filter(|other| *other == label).count() {
                1 => label.clone(),
                _ => own_name(planned, plan),
            },
            cell: &planned.cell,
            baseline: planned.id == plan.baseline,
            skipped: manifest
                .skipped
                .iter()
                .find(|skipped| skipped.comparison == plan.name && skipped.cell == planned.id)
                .map(|skipped| skipped.reason.as_str()),
            ok: Vec::new(),
            capped: Vec::new(),
            failed: Vec::new(),
            verification: Vec::new(),
        })
        .collect();
    cells.sort_by_key(|cell| (!cell.baseline, cell.is_control()));
    ComparisonRuns { plan, title, cells }
}

/// What tells a cell from others of its word: its id without the comparison's name, and without the word before its keys that it
/// begins with anyway.
fn own_name(planned: &ManifestCell, plan: &ManifestComparison) -> String {
    let id = planned.id.strip_prefix(&format!("{}/", plan.name)).unwrap_or(&planned.id);
    let engine = planned.cell.engine.word();
    id.replace(&format!(" {engine}."), " ")
}

/// The cell's value on the axis, where cells are of `engine`. Controls beside them are labelled by their own engine first.
fn label(axis: &str, planned: &ManifestCell, engine: Engine) -> String {
    match planned.cell.engine {
        other if axis == "engine" || other == engine => value(axis, planned),
        // Nothing is tracked or sent, whatever the axis says.
        Engine::None => Engine::None.to_string(),
        other @ (Engine::TrackOnly | Engine::StopAndCopy) => format!("{other} {}", value(axis, planned)),
        _ => value(axis, planned),
    }
}

fn value(axis: &str, planned: &ManifestCell) -> String {
    let pointer = format!("/{}", axis.replace('.', "/"));
    let cell = serde_json::to_value(&planned.cell).unwrap_or_default();
    match cell.pointer(&pointer) {
        Some(serde_json::Value::String(word)) => word.clone(),
        Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
            format!("{axis} = {}", crate::settings::show(axis, value))
        }
        _ => planned.id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use migbench_scenarios::cell::Tracker;

    use super::*;
    use crate::sample::{self, Sample};

    #[test]
    fn sorts_runs_by_what_they_can_prove() {
        let manifest = sample::manifest();
        let records = [
            Sample::new("write-heavy", "full").build(),
            Sample::new("write-heavy", "full").capped().build(),
            Sample::new("write-heavy", "full").failed("precopy", "gone").build(),
            Sample::new("write-heavy", "full").verification(Some(true)).build(),
            Sample::new("write-heavy", "full").with(|r| r.cell.vcpus = 3).build(),
        ];
        let (sorted, strangers) = sort(&manifest, &records);
        let full = &sorted[1].cells[0];
        assert_eq!((full.label.as_str(), full.baseline), ("full", true));
        assert_eq!([full.ok.len(), full.capped.len(), full.failed.len(), full.verification.len()], [1; 4]);
        assert_eq!((full.converged(), strangers), ((1, 2), 1));
    }

    #[test]
    fn names_of_sweeps_say_what_varies_and_others_stay() {
        assert_eq!(
            short_names(&[
                "kv-a settings.change.bytes=8 memory=64MiB",
                "kv-a settings.change.bytes=64 memory=64MiB"
            ]),
            ["bytes=8", "bytes=64"]
        );
        let keys = BTreeSet::from(["settings.change.bytes", "stop.bytes", "memory"]);
        assert_eq!(
            ["settings.change.bytes", "memory"].map(|key| short_key(key, &keys)),
            ["change.bytes", "memory"]
        );
        for stay in [
            &["read-heavy", "write-heavy"][..],
            &["one memory=64MiB"],
            &["a b=1", "a c"],
            &["x=1 y=1", "y=1 x=1"],
        ] {
            assert_eq!(short_names(stay), stay);
        }
    }

    #[test]
    fn the_baseline_comes_first_and_controls_last() {
        let mut manifest = sample::manifest();
        let plan = &mut manifest.comparisons[1];
        for engine in ["none", "stop-and-copy"] {
            let cell = sample::cell("write-heavy", engine);
            plan.cells.insert(0, ManifestCell { id: engine.to_owned(), cell });
        }
        plan.cells.reverse();
        let (sorted, _) = sort(&manifest, &[]);
        let labels: Vec<_> = sorted[1].cells.iter().map(|cell| cell.label.as_str()).collect();
        assert_eq!(labels, ["full", "delta", "none", "stop-and-copy"]);
    }

    #[test]
    fn controls_among_trackers_are_labelled_by_their_engine() {
        let mut manifest = sample::manifest();
        let plan = &mut manifest.comparisons[1];
        plan.compare = "tracker".to_owned();
        plan.cells.truncate(1);
        for (engine, tracker) in
            [("none", Tracker::KvmBitmap), ("track-only", Tracker::KvmBitmap), ("full", Tracker::KvmRing)]
        {
            let cell = Cell { tracker, ..sample::cell("write-heavy", engine) };
            plan.cells.push(ManifestCell { id: format!("{engine}/{tracker}"), cell });
        }
        let (sorted, _) = sort(&manifest, &[]);
        let labels: Vec<_> = sorted[1].cells.iter().map(|cell| cell.label.as_str()).collect();
        assert_eq!(labels, ["kvm-bitmap", "kvm-ring", "none", "track-only kvm-bitmap"]);
    }

    #[test]
    fn cells_are_labelled_by_the_compared_axis() {
        let mut manifest = sample::manifest();
        let plan = &mut manifest.comparisons[0];
        plan.compare = "vcpus".to_owned();
        plan.cells[1].cell.vcpus = 2;
        let (sorted, _) = sort(&manifest, &[]);
        assert_eq!(sorted[0].cells[1].label, "vcpus = 2");
        // Both cells of the other comparison have the same rate, so that their ids must tell them apart.
        manifest.comparisons[1].compare = "link.rate".to_owned();
        let (sorted, _) = sort(&manifest, &[]);
        assert_eq!(sorted[1].cells[1].label, "delta");
    }
}

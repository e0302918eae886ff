//! The slices of one frozen plan, made by many machines, as one run directory: the same cells and as many records as one
//! machine would have given. Nothing is averaged or chosen. What does not go together is refused, because a table does not
//! show who ran what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use migbench_scenarios::frozen::{FrozenPlan, short};
use migbench_scenarios::{Plan, PlannedRun, Slice};

use crate::manifest::{CanaryMedians, Host, Manifest, ManifestComparison, MergedPart, PlanSlice};
use crate::metric::{self, MetricKey};
use crate::record::Record;
use crate::shell;
use crate::stats;
use crate::store::{Accept, OtherSchema, RunData, StoreError};

/// Why directories were not merged.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum MergeError {
    #[error("{}: {what}; merge takes what `migbench run --plan` made", .path.display())]
    NoSlice { path: PathBuf, what: &'static str },
    #[error("{} and {} can't be merged: the {what} is {was} in one and {is} in the other", .first.display(), .other.display())]
    Mixed { first: PathBuf, other: PathBuf, what: &'static str, was: String, is: String },
    #[error(transparent)]
    Schemas(#[from] OtherSchema),
    #[error(
        "{} and {} both hold slice {slice}, so that its cells would count twice: leave one out",
        .first.display(), .other.display()
    )]
    Twice { first: PathBuf, other: PathBuf, slice: Slice },
    #[error("{}: record {run_id} {what}", .path.display())]
    Stranger { path: PathBuf, run_id: String, what: &'static str },
    #[error("{}; or merge what is there with --partial", .0.join("; "))]
    Missing(Vec<String>),
}

impl MergeError {
    /// Whether things were named together that do not go together.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        matches!(self, Self::Mixed { .. } | Self::Schemas(_) | Self::Twice { .. } | Self::Stranger { .. })
    }

    /// Whether all that was named is good, and it is too little.
    #[must_use]
    pub const fn is_too_little(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// Of the whole, with the parts in it.
    pub manifest: Manifest,
    /// In the order of the plan.
    pub records: Vec<Record>,
    /// What is missing, a sentence each; empty unless it was allowed.
    pub missing: Vec<String>,
}

/// A run directory that is a slice, with its plan.
struct Sliced<'a> {
    data: &'a RunData,
    slice: &'a PlanSlice,
}

/// Merges slices of one plan; `command` is the command line that asks for it. With `partial`, slices and records may be
/// missing.
///
/// # Errors
/// See [`MergeError`].
pub fn merge(slices: &[RunData], partial: bool, command: Vec<String>) -> Result<Merged, MergeError> {
    let slices = slices.iter().map(sliced).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = slices.first() else {
        return Err(MergeError::NoSlice { path: PathBuf::new(), what: "no directory was named" });
    };
    for other in &slices[1..] {
        go_together(first, other)?;
    }
    let plan = plan_of(first)?;
    let mut by_number: BTreeMap<u32, &Sliced> = BTreeMap::new();
    for sliced in &slices {
        if let Some(there) = by_number.insert(sliced.slice.slice.number, sliced) {
            let (first, other) = (there.data.path.clone(), sliced.data.path.clone());
            return Err(MergeError::Twice { first, other, slice: sliced.slice.slice });
        }
        only_its_own(sliced, &plan)?;
    }
    let missing = missing(&by_number, first.slice.slice.of, &plan);
    if !(missing.is_empty() || partial) {
        return Err(MergeError::Missing(missing));
    }
    let mut records: Vec<_> = slices.iter().flat_map(|sliced| &sliced.data.records).cloned().collect();
    records.sort_by_key(|record| record.order);
    let manifests = || by_number.values().map(|sliced| &sliced.data.manifest);
    let skipped: Vec<_> = manifests().flat_map(|manifest| manifest.skipped.iter().cloned()).collect();
    let left_out = |run: &&PlannedRun| {
        plan.cell(run).is_some_and(|cell| skipped.iter().any(|skipped| skipped.cell == cell.id))
    };
    let planned_runs = plan.order.len() - plan.order.iter().filter(left_out).count();
    let hosts: Vec<_> = manifests().map(|manifest| &manifest.host).collect();
    let manifest = Manifest {
        planned_runs: u32::try_from(planned_runs).unwrap_or(u32::MAX),
        comparisons: plan
            .comparisons
            .iter()
            .map(|comparison| ManifestComparison::of(comparison, &plan))
            .collect(),
        skipped,
        host: shared(&hosts),
        disturbances: disturbances(&by_number),
        resumptions: manifests().flat_map(|manifest| manifest.resumptions.iter().cloned()).collect(),
        command,
        started: manifests().map(|manifest| manifest.started.clone()).min().unwrap_or_default(),
        slice: None,
        parts: by_number.values().map(|sliced| part(sliced)).collect(),
        ..first.data.manifest.clone()
    };
    Ok(Merged { manifest, records, missing })
}

fn sliced(data: &RunData) -> Result<Sliced<'_>, MergeError> {
    let refused = |what| MergeError::NoSlice { path: data.path.clone(), what };
    match &data.manifest.slice {
        Some(slice) => Ok(Sliced { data, slice }),
        None if data.manifest.parts.is_empty() => Err(refused("no slice of a frozen plan")),
        None => Err(refused("merged already; name its slices")),
    }
}

fn go_together(first: &Sliced, other: &Sliced) -> Result<(), MergeError> {
    let schema = |sliced: &Sliced| sliced.data.manifest.schema;
    OtherSchema::refuse(
        (&first.data.path, schema(first)),
        (&other.data.path, schema(other)),
        "run both slices with the build of migbench that froze the plan",
    )?;
    let of = |sliced: &Sliced| {
        let manifest = &sliced.data.manifest;
        [
            ("backend", manifest.backend.word().to_owned()),
            // Before the plan's hash, of which it is a part: it says more.
            ("build of migbench", manifest.tool.build()),
            ("plan", short(&sliced.slice.plan_hash).to_owned()),
            ("number of slices", sliced.slice.slice.of.to_string()),
        ]
        .into_iter()
        .chain(manifest.host.class())
    };
    match of(first).zip(of(other)).find(|((_, was), (_, is))| was != is) {
        None => Ok(()),
        Some(((what, was), (_, is))) => Err(MergeError::Mixed {
            first: first.data.path.clone(),
            other: other.data.path.clone(),
            what,
            was,
            is,
        }),
    }
}

/// The plan in a slice's manifest, which must be the one that its hash names.
fn plan_of(sliced: &Sliced) -> Result<Plan, MergeError> {
    let manifest = &sliced.data.manifest;
    let refused = |what| MergeError::NoSlice { path: sliced.data.path.clone(), what };
    let plan: Plan = serde_json::from_value(manifest.plan.clone())
        .map_err(|_| refused("the plan in its manifest is not one of this version"))?;
    // Slices of schema 1 were hashed with every key of every cell, which a version that knows more keys can't repeat.
    let of_now = || FrozenPlan::hash_of(&manifest.tool, &manifest.suite_text, &plan);
    if manifest.schema > 1 && of_now() != sliced.slice.plan_hash {
        return Err(refused("the plan in its manifest is not the one that its hash names"));
    }
    Ok(plan)
}

/// Refuses records that the slice has not planned, or has twice.
fn only_its_own(sliced: &Sliced, plan: &Plan) -> Result<(), MergeError> {
    let stranger = |record: &Record, what| MergeError::Stranger {
        path: sliced.data.path.clone(),
        run_id: record.run_id.clone(),
        what,
    };
    if plan_of(sliced)? != *plan {
        return Err(MergeError::NoSlice { path: sliced.data.path.clone(), what: "its plan is another one" });
    }
    let runs: BTreeMap<usize, _> = plan.runs_of(sliced.slice.slice).into_iter().collect();
    let mut seen = BTreeSet::new();
    for record in &sliced.data.records {
        let run = usize::try_from(record.order).ok().and_then(|number| runs.get(&number));
        if !run.is_some_and(|run| is_of(record, run, plan)) {
            return Err(stranger(record, "is no run of this slice: the directory was mended by hand"));
        }
        if !seen.insert(record.order) {
            return Err(stranger(record, "has the place of another one in the plan"));
        }
    }
    Ok(())
}

fn is_of(record: &Record, run: &PlannedRun, plan: &Plan) -> bool {
    let name = plan.comparisons.get(run.comparison).map(|comparison| &comparison.name);
    name == Some(&record.comparison)
        && plan.cell(run).is_some_and(|planned| planned.cell == record.cell)
        && (record.repetition, record.kind, record.seed) == (run.repetition, run.kind, run.seed)
}

/// What is not there, a sentence each. A slice without runs is not missed.
fn missing(there: &BTreeMap<u32, &Sliced>, of: u32, plan: &Plan) -> Vec<String> {
    let absent = Slice::all(of).filter(|slice| !there.contains_key(&slice.number));
    let absent = absent.map(|slice| (slice, plan.runs_of(slice).len())).filter(|(_, runs)| *runs > 0);
    let absent = absent.map(|(slice, runs)| {
        format!(
            "slice {slice} with {runs} runs is missing: run it with --partition slice:{slice} of `migbench run --plan`, or name \
             its directory"
        )
    });
    let interrupted = there.values().filter_map(|sliced| {
        let (recorded, planned) = (sliced.data.records.len(), sliced.data.manifest.planned_runs);
        let short = usize::try_from(planned).is_ok_and(|planned| recorded < planned);
        let path = shell::path(&sliced.data.path);
        short.then(|| {
            let simulating = sliced.data.manifest.simulating();
            let simulating = simulating.map_or_else(String::new, |word| format!(" {}", shell::quoted(word)));
            format!(
                "slice {} in {path} has {recorded} of {planned} runs: `migbench run --resume {path}{simulating}` on its host \
                 makes the rest",
                sliced.slice.slice
            )
        })
    });
    absent.chain(interrupted).collect()
}

fn part(sliced: &Sliced) -> MergedPart {
    let manifest = &sliced.data.manifest;
    MergedPart {
        slice: sliced.slice.clone(),
        comparisons: manifest.comparisons.iter().map(|comparison| comparison.name.clone()).collect(),
        records: u32::try_from(sliced.data.records.len()).unwrap_or(u32::MAX),
        host: manifest.host.clone(),
        canary: canary(&sliced.data.records),
        disturbances: manifest.disturbances.clone(),
        command: manifest.command.clone(),
        started: manifest.started.clone(),
    }
}

/// Of each block once: its runs share the value.
fn canary(records: &[Record]) -> Option<CanaryMedians> {
    let of = |key| {
        let blocks: BTreeMap<u32, f64> = records
            .iter()
            .filter_map(|record| Some((record.repetition, metric::value(&record.metrics, key)?)))
            .collect();
        let values: Vec<f64> = blocks.into_values().collect();
        stats::median(&values)
    };
    Some(CanaryMedians { copy: of(MetricKey::CanaryCopy)?, socket: of(MetricKey::CanarySocket)? })
}

fn disturbances(there: &BTreeMap<u32, &Sliced>) -> Vec<String> {
    let of = |sliced: &&Sliced| {
        let manifest = &sliced.data.manifest;
        let host = manifest.host.hostname.clone().unwrap_or_else(|| "unknown".to_owned());
        let slice = sliced.slice.slice;
        manifest.disturbances.iter().map(move |text| format!("{text} (host {host}, slice {slice})")).collect()
    };
    there.values().flat_map(|sliced| -> Vec<String> { of(sliced) }).collect()
}

/// What is true of all hosts. They are of one class: what belongs to that is the first one's, although its bytes of memory
/// may differ a little.
fn shared(hosts: &[&Host]) -> Host {
    let [first, others @ ..] = hosts else { return Host::default() };
    let value = |host: &Host| serde_json::to_value(host).unwrap_or_default();
    let mut all = value(first);
    if let Some(fields) = all.as_object_mut() {
        for other in others.iter().map(|other| value(other)) {
            fields.retain(|name, value| {
                matches!(name.as_str(), "memory" | "kvm") || other.get(name) == Some(value)
            });
        }
    }
    serde_json::from_value(all).unwrap_or_else(|_| (*first).clone())
}

/// The directories of slices, read.
///
/// # Errors
/// Those of [`RunData::load_as`].
pub fn load<P: AsRef<Path>>(directories: &[P], accept: Accept) -> Result<Vec<RunData>, StoreError> {
    directories.iter().map(|path| RunData::load_as(path.as_ref(), accept)).collect()
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;

//! Whether an interrupted run directory may be gone on with: what was begun with another plan, build or host is not mixed with it.

use migbench_reports::manifest::{self, Manifest, PlanSlice, Skipped};
use migbench_reports::record::{Backend, SCHEMA};
use migbench_scenarios::frozen::short;

use super::builds::Builds;
use super::suite::{Job, SuiteRunError};
use crate::host::provenance::this_tool;

/// Refuses to mix what differs in one run directory.
pub(super) fn refuse_other(
    job: &Job,
    there: &Manifest,
    host: &manifest::Host,
    builds: &Builds,
    backend: Backend,
    skipped: &[Skipped],
) -> Result<(), SuiteRunError> {
    if !there.parts.is_empty() {
        return Err(SuiteRunError::Merged { path: job.directory.display().to_string() });
    }
    let tool = this_tool();
    // By way of text, as the other one came here.
    let plan = serde_json::to_string(&job.plan).unwrap_or_default();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap_or_default();
    let named = |plan: &serde_json::Value| {
        let runs = plan.get("order").and_then(|order| order.as_array()).map_or(0, Vec::len);
        let of = |key| plan.get(key).map_or_else(|| "-".to_owned(), |value| value.to_string());
        format!("{} of {runs} runs with seed {}", of("hash").trim_matches('"'), of("seed"))
    };
    if plan != there.plan {
        let (was, is) = (named(&there.plan), named(&plan));
        return Err(SuiteRunError::Differs {
            path: job.directory.display().to_string(),
            what: "plan",
            was,
            is,
        });
    }
    let of = |host: &manifest::Host| {
        let name = host.hostname.clone().unwrap_or_else(|| "unknown".to_owned());
        std::iter::once(("host name", name)).chain(host.class())
    };
    let part = |slice: &Option<PlanSlice>| {
        slice.as_ref().map_or_else(
            || "all of a suite".to_owned(),
            |part| format!("slice {} of plan {}", part.slice, short(&part.plan_hash)),
        )
    };
    let left_out = |skipped: &[Skipped]| {
        let ids: Vec<&str> = skipped.iter().map(|skipped| skipped.cell.as_str()).collect();
        if ids.is_empty() { "empty".to_owned() } else { ids.join(", ") }
    };
    let of_backend = |backend: Backend| backend.word().to_owned();
    let mut pairs = vec![
        ("schema of its records", there.schema.to_string(), SCHEMA.to_string()),
        ("backend", of_backend(there.backend), of_backend(backend)),
        ("list of cells that are left out", left_out(&there.skipped), left_out(skipped)),
        ("part of the plan", part(&there.slice), part(&job.slice)),
        ("migbench", there.tool.build(), tool.build()),
    ];
    let files = |builds: &[manifest::Build]| {
        let of_each = builds.iter().map(|build| format!("{} {}", build.binary, build.blake3));
        of_each.collect::<Vec<_>>().join(", ")
    };
    // Directories of before had one build, known by its commit alone.
    if !there.builds.is_empty() {
        pairs.push(("files of builds", files(&there.builds), files(&builds.list())));
    }
    let planted = |planted: Option<&String>| planted.map_or_else(|| "nothing".to_owned(), String::clone);
    let here = job.planted.map(|planted| planted.to_string());
    pairs.push(("planted cost", planted(there.planted.as_ref()), planted(here.as_ref())));
    let hosts = of(&there.host).zip(of(host));
    pairs.extend(hosts.map(|((what, was), (_, is))| (what, was, is)));
    match pairs.into_iter().find(|(_, was, is)| was != is) {
        None => Ok(()),
        Some((what, was, is)) => {
            Err(SuiteRunError::Differs { path: job.directory.display().to_string(), what, was, is })
        }
    }
}

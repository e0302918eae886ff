//! A publication's figures laid beside ours. Claims and run directories go in, findings come out: what was published, what
//! we measured, what could be reached at most, and a verdict with the runs behind it. Where a publication does not state its
//! set-up, no verdict can say that it was reproduced; the words are in [`Reach`].

mod estimate;
mod evidence;
mod finding;
mod page;
mod reach;
mod sensitivity;
mod sources;
#[cfg(test)]
mod tests;

use migbench_scenarios::Claims;
use serde::Serialize;

pub use estimate::Estimate;
pub use finding::Finding;
pub use page::{Block, GridRow, ReproductionPage, markdown, terminal};
pub use reach::Reach;
pub use sensitivity::{Sensitivity, SensitivityPoint};
pub use sources::{RecordSource, gather};

use crate::metric::MetricKey;
use crate::store::RunData;

/// Version of the shape of `reproduce.json`.
pub const SCHEMA: u32 = 1;

/// Claims tested against records.
#[derive(Debug, Clone, Serialize)]
pub struct Reproduction {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What the claims are called.
    pub name: String,
    /// One per claim, in their order.
    pub findings: Vec<Finding>,
    /// One factor at a time, where its records were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Sensitivity>,
    /// What in the measured workloads differs from the catalogue's, a sentence per comparison.
    pub workloads: Vec<String>,
    /// The run directories behind it.
    pub sources: Vec<RecordSource>,
}

impl Reproduction {
    /// Tests claims against run directories, some of which may be of other suites.
    #[must_use]
    pub fn of(claims: &Claims, data: &[RunData]) -> Self {
        let findings: Vec<_> = claims.claims.iter().map(|claim| finding::test(claims, claim, data)).collect();
        let of_claims = |data: &&RunData| claims.suites.iter().any(|s| s.plan.suite == data.manifest.suite);
        Self {
            schema: SCHEMA,
            name: claims.name.clone(),
            findings,
            sensitivity: claims.sensitivity.as_ref().and_then(|one| sensitivity::vary(claims, one, data)),
            workloads: finding::workloads(claims, data),
            sources: data.iter().filter(of_claims).map(RecordSource::of).collect(),
        }
    }

    /// Whether some claim could not be tested for want of runs.
    #[must_use]
    pub fn lacks_evidence(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Reach::NoEvidence)
    }

    /// Whether no run failed and nothing that was to be proven is disproven or missing.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.sources.iter().all(|source| source.failed_runs == 0 && source.alarms.is_empty())
    }
}

/// Names of metrics with their units, as [`Claims`] wants them.
#[must_use]
pub fn metrics() -> Vec<(&'static str, &'static str)> {
    let named = |key: &MetricKey| {
        let definition = key.definition();
        (definition.name, definition.unit.symbol())
    };
    MetricKey::ALL.iter().map(named).collect()
}

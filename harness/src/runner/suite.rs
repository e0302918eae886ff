//! Works off a plan: one run after the other in its order, each kept before the next one starts.

use std::path::PathBuf;
use std::time::Duration;

use migbench_reports::manifest::{self, Manifest, Skipped};
use migbench_reports::record::{Kind, Record, Round, Status};
use migbench_reports::store::{RunDirectory, StoreError};
use migbench_scenarios::cell::Cell;
use migbench_scenarios::plan::{self, Plan, PlannedRun};

use super::admission::{Refusal, admit};
use super::host::{this_host, this_tool};
use super::record::{self, Place};
use super::run::{RunError, RunSpec, run};
use crate::node::fault::Fault;

/// Why a suite could not be worked off.
#[derive(Debug, thiserror::Error)]
pub enum SuiteRunError {
    /// The run directory cannot be had.
    #[error(transparent)]
    Output(StoreError),
    /// Something cannot be kept in the run directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A node.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A cell that must run is one that this host cannot.
    #[error("{cell}: {source}; write `optional` to leave such cells out")]
    Unavailable {
        /// The cell's id.
        cell: String,
        /// Why not.
        source: Refusal,
    },
    /// Ctrl-C.
    #[error(
        "interrupted: {done} of {planned} records are kept in {path}; `migbench report {path}` reads them"
    )]
    Interrupted {
        /// Records written.
        done: usize,
        /// Runs planned.
        planned: usize,
        /// Where.
        path: String,
    },
}

impl SuiteRunError {
    /// Whether it is a matter of what was asked for: found before the first guest, and mended by asking otherwise.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Output(_) | Self::Unavailable { .. })
    }
}

/// What is worked off.
#[derive(Debug)]
pub struct Job {
    /// The plan.
    pub plan: Plan,
    /// The suite's text, for the manifest.
    pub suite_text: String,
    /// The run directory to make.
    pub directory: PathBuf,
    /// The command line.
    pub command: Vec<String>,
    /// A planted fault, for tests.
    pub fault: Option<Fault>,
    /// The binary that serves as node.
    pub binary: PathBuf,
}

/// Who wants to hear of progress.
pub trait Listener {
    /// A run is about to start: its number from 0, its cell's id, and the plan.
    fn run_starts(&mut self, _number: usize, _id: &str, _plan: &Plan) {}
    /// A round has ended.
    fn round(&mut self, _round: &Round) {}
    /// A run is kept.
    fn run_ends(&mut self, _record: &Record) {}
}

/// The cells of `plan` that this host cannot run and need not, with the reason.
///
/// # Errors
/// [`SuiteRunError::Unavailable`] for the first that it cannot run and must.
pub fn skipped(
    plan: &Plan,
    admit: impl Fn(&Cell) -> Result<(), Refusal>,
) -> Result<Vec<Skipped>, SuiteRunError> {
    let mut skipped = Vec::new();
    for comparison in &plan.comparisons {
        for planned in &comparison.cells {
            let Err(source) = admit(&planned.cell) else { continue };
            if !planned.optional {
                return Err(SuiteRunError::Unavailable { cell: planned.id.clone(), source });
            }
            let (comparison, cell) = (comparison.name.clone(), planned.id.clone());
            skipped.push(Skipped { comparison, cell, reason: source.reason() });
        }
    }
    Ok(skipped)
}

/// Works the plan off.
///
/// # Errors
/// See [`SuiteRunError`]; failed runs are records, and `Ok` says how many of those there are.
pub fn work(job: &Job, listener: &mut dyn Listener) -> Result<usize, SuiteRunError> {
    // Before the directory: a refused job leaves nothing in the way of the next try.
    let skipped = skipped(&job.plan, admit)?;
    let mut directory = RunDirectory::create(&job.directory).map_err(SuiteRunError::Output)?;
    let host = this_host();
    let cores = host.logical_cores;
    let left_out = |id: &str| skipped.iter().any(|skipped| skipped.cell == id);
    directory.write_manifest(&manifest(job, host, skipped.clone()))?;
    let mut failed = 0;
    for (number, planned) in job.plan.order.iter().enumerate() {
        let Some(cell) = job.plan.cell(planned).filter(|cell| !left_out(&cell.id)) else { continue };
        listener.run_starts(number, &cell.id, &job.plan);
        let spec = RunSpec {
            cell: cell.cell.clone(),
            seed: planned.seed,
            start_jitter: planned.start_jitter.0,
            verify: planned.kind == plan::Kind::Verification && cell.cell.engine.migrates(),
            fault: job.fault,
            guest_flags: 0,
            binary: job.binary.clone(),
        };
        let place = place(job, planned, number);
        let outcome = match run(&spec, limit(&spec.cell), &mut |round| listener.round(round)) {
            Ok(outcome) => outcome,
            Err(RunError::Interrupted) => {
                let path = job.directory.display().to_string();
                return Err(SuiteRunError::Interrupted { done: number, planned: job.plan.order.len(), path });
            }
            Err(error) => return Err(error.into()),
        };
        let record = record::of(place, &spec, &outcome, cores);
        failed += usize::from(record.status == Status::Failed);
        directory.append(&record)?;
        listener.run_ends(&record);
    }
    Ok(failed)
}

/// The longest that a run of `cell` may take before it is given up.
#[must_use]
pub fn limit(cell: &Cell) -> Duration {
    let windows = cell.windows;
    // Boot, hashing, validation: all linear in memory, at 128 MiB/s on a slow host.
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let memory = (cell.memory.0 >> 27) as f64;
    let known = 2.0 * windows.steady.0 + windows.after.0 + windows.control.0 + windows.warmup_max.0;
    // The paused round may have all memory to send.
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let last = cell.link.rate.map_or(0.0, |rate| cell.memory.0 as f64 / rate.0 as f64);
    Duration::from_secs_f64(120.0 + known + cell.stop.max_time.0 + 2.0 * last + 8.0 * memory)
}

/// Where the record of run `number` belongs.
#[must_use]
pub fn place(job: &Job, planned: &PlannedRun, number: usize) -> Place {
    let comparison = &job.plan.comparisons[planned.comparison];
    let label = &comparison.cells[planned.cell].label;
    let slug: String = format!("{}-{label}", comparison.name)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    Place {
        run_id: format!("{number:04}-{slug}-{}", planned.repetition),
        suite: job.plan.suite.clone(),
        comparison: comparison.name.clone(),
        repetition: planned.repetition,
        order: u32::try_from(number).unwrap_or(u32::MAX),
        kind: match planned.kind {
            plan::Kind::Timed => Kind::Timed,
            plan::Kind::Verification => Kind::Verification,
        },
        started: super::now_utc(),
    }
}

/// The manifest of a job on this host, without the cells of `skipped`.
#[must_use]
pub fn manifest(job: &Job, host: manifest::Host, skipped: Vec<Skipped>) -> Manifest {
    let plan = &job.plan;
    let comparisons = plan
        .comparisons
        .iter()
        .map(|comparison| manifest::Comparison {
            name: comparison.name.clone(),
            compare: comparison.compare.clone(),
            baseline: comparison.baseline.map(|row| comparison.cells[row].id.clone()).unwrap_or_default(),
            cells: comparison
                .cells
                .iter()
                .map(|c| manifest::PlannedCell { id: c.id.clone(), cell: c.cell.clone() })
                .collect(),
            analysis: if comparison.analysis.is_empty() {
                plan.analysis.clone()
            } else {
                comparison.analysis.clone()
            },
        })
        .collect();
    let left_out = |id: &str| skipped.iter().any(|skipped| skipped.cell == id);
    let planned_runs =
        plan.order.iter().filter(|run| plan.cell(run).is_some_and(|cell| !left_out(&cell.id))).count();
    Manifest {
        schema: migbench_reports::record::SCHEMA,
        suite: plan.suite.clone(),
        suite_hash: plan.hash.clone(),
        suite_text: job.suite_text.clone(),
        plan: serde_json::to_value(plan).unwrap_or_default(),
        seed: plan.seed,
        repetitions: plan.repetitions,
        planned_runs: u32::try_from(planned_runs).unwrap_or(u32::MAX),
        comparisons,
        skipped,
        host,
        tool: this_tool(),
        command: job.command.clone(),
        started: super::now_utc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use migbench_scenarios::Suite;
    use migbench_scenarios::cell::Tracker;

    use crate::dirty::Unavailable;

    fn no_rings(cell: &Cell) -> Result<(), Refusal> {
        match cell.tracker {
            Tracker::KvmRing => {
                Err(Unavailable { tracker: cell.tracker, missing: "no rings".into(), remedy: "add some" }
                    .into())
            }
            _ => Ok(()),
        }
    }

    #[test]
    fn optional_cells_are_left_out_with_their_reason_and_others_refuse_the_suite() {
        let plan = Suite::find("trackers").unwrap().expand().unwrap();
        let skipped = skipped(&plan, no_rings).unwrap();
        let found: Vec<_> = skipped.iter().map(|s| (s.cell.as_str(), s.reason.as_str())).collect();
        assert_eq!(
            found,
            [("delta/kvm-ring", "no rings; add some"), ("track-only/kvm-ring", "no rings; add some")]
        );

        let mut plan = plan;
        plan.comparisons[0].cells.iter_mut().for_each(|cell| cell.optional = false);
        let error = super::skipped(&plan, no_rings).unwrap_err().to_string();
        assert!(error.contains("delta/kvm-ring: the tracker kvm-ring is not available here"), "{error}");
    }
}

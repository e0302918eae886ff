//! Runs a plan: one run after the other in its order, each kept before the next one starts.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use migbench_reports::manifest::{self, Manifest, PlanSlice, Resumption, Skipped};
use migbench_reports::record::{Backend, Record, Round, RunKind, SCHEMA, Status};
use migbench_reports::shell;
use migbench_reports::store::{Accept, RunData, RunDirectory, StoreError};
use migbench_scenarios::Slice;
use migbench_scenarios::cell::Cell;
use migbench_scenarios::plan::{self, Plan, PlannedRun};
use migbench_workloads::units::Seconds;

use super::admission::Refusal;
use super::builds::{BuildError, Builds};
use super::host_watch::HostWatch;
use super::pace::Pace;
use super::record::RunIdentity;
use super::resume;
use super::run::{Moment, RunSpec, RunnerError};
use super::testbed::Testbed;
use crate::engine::planted_cost::Planted;
use crate::host::lock::LockError;
use crate::host::provenance::this_tool;
use crate::node::fault::InjectedFault;
use crate::track::TrackOptions;

/// Why a suite could not be run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum SuiteRunError {
    #[error(transparent)]
    Output(StoreError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Run(#[from] RunnerError),
    #[error("{cell}: {source}; write `optional` to leave such cells out")]
    Unavailable { cell: String, source: Refusal },
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{path} cannot be resumed: its {what} was {was}, and is {is} here; start anew with another -o")]
    Differs { path: String, what: &'static str, was: String, is: String },
    #[error(
        "{path} was merged and cannot be resumed: resume the slices that lack runs, and merge them again"
    )]
    Merged { path: String },
    #[error(
        "{path}: no repetition of all cells would end within {} s; allow more time, or leave cells out with --filter", .limit.as_secs()
    )]
    OutOfTime { path: String, limit: Duration },
    #[error(
        "interrupted: {done} of {planned} records are kept in {}; `migbench report {}{}` reads them, `{rest}` makes the rest",
        .path.display(), shell::path(.path), if *.simulated { " --simulated" } else { "" }
    )]
    Interrupted { done: usize, planned: usize, path: PathBuf, simulated: bool, rest: String },
}

impl SuiteRunError {
    /// Whether two things were asked to go together that do not.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        match self {
            Self::Differs { .. } => true,
            Self::Build(build) => build.is_incomparable(),
            _ => false,
        }
    }

    /// Whether it is a matter of what was asked for: found before the first guest, and mended by asking otherwise.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Output(_)
                | Self::Unavailable { .. }
                | Self::Merged { .. }
                | Self::Build(BuildError::Unreadable { .. } | BuildError::Unknown { .. })
        )
    }
}

/// What is run.
#[derive(Debug)]
pub struct Job {
    /// The plan, whole.
    pub plan: Plan,
    /// The slice of it that runs here; without one, all of it.
    pub slice: Option<PlanSlice>,
    /// The suite's text, for the manifest.
    pub suite_text: String,
    /// The run directory to make, or to finish.
    pub directory: PathBuf,
    /// Whether it is there already, interrupted.
    pub resume: bool,
    /// The command line.
    pub command: Vec<String>,
    /// The command that makes what an interruption leaves, as typed in a shell.
    pub rest: String,
    /// A planted fault, for tests.
    pub fault: Option<InjectedFault>,
    /// A planted cost, for tests.
    pub planted: Option<Planted>,
    /// Passes to make instead of migrations.
    pub passes: Option<TrackOptions>,
    /// No repetition begins that would not end within this time: the plan is then cut to those that were made.
    pub time_limit: Option<Duration>,
    /// The binary that serves as node.
    pub binary: PathBuf,
}

impl Job {
    /// The part of the plan that runs here.
    #[must_use]
    pub fn part(&self) -> Slice {
        self.slice.as_ref().map_or(Slice::WHOLE, |here| here.slice)
    }

    /// The runs of this job in their order, each with its number in the plan.
    #[must_use]
    pub fn runs(&self) -> Vec<(usize, &PlannedRun)> {
        self.plan.runs_of(self.part())
    }
}

/// Who wants to hear of progress.
pub trait Listener {
    /// Something a reader of the results must know.
    fn warn(&mut self, _text: &str) {}
    /// A run is about to start: its number from 0, its cell's id, and the plan.
    fn run_starts(&mut self, _number: usize, _id: &str, _plan: &Plan) {}
    /// What the runner does at any moment; everything below is among it.
    fn step(&mut self, _step: Step<'_>) {}
    /// A round has ended.
    fn round(&mut self, _round: &Round) {}
    /// A run has ended and its record is on the disk.
    fn run_ends(&mut self, _record: &Record) {}
}

/// The cells of `comparisons` that this host cannot run and need not, with the reason.
///
/// # Errors
/// [`SuiteRunError::Unavailable`] for the first that it cannot run and must.
fn skipped<'a>(
    comparisons: impl IntoIterator<Item = &'a plan::Comparison>,
    admit: impl Fn(&Cell) -> Result<(), Refusal>,
) -> Result<Vec<Skipped>, SuiteRunError> {
    let mut skipped = Vec::new();
    for comparison in comparisons {
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

/// What the runner does, step by step, in its order. A line each, as text.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Nobody else measures here.
    Locked,
    /// Every cell of the plan was held against the host.
    Admitted,
    /// The host was looked at: how many disturbances were found.
    Disturbances(usize),
    /// The run directory was made, with its manifest.
    Created,
    /// A run directory was opened again, with that many records.
    Reopened(usize),
    /// The canary was measured before a block.
    Canary(u32),
    /// A run starts.
    Run {
        /// Its number from 0.
        number: usize,
        /// Its cell's id.
        id: &'a str,
    },
    /// Something happened in it.
    In(Moment<'a>),
    /// Its record was made.
    Recorded(&'a Record),
    /// Its record is on the disk.
    Written(&'a Record),
    /// The run was broken off.
    Interrupted,
    /// All is done: so many runs failed.
    Ended(usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("lock"),
            Self::Admitted => f.write_str("admit"),
            Self::Disturbances(found) => write!(f, "disturbances {found}"),
            Self::Created => f.write_str("create"),
            Self::Reopened(records) => write!(f, "reopen {records}"),
            Self::Canary(block) => write!(f, "canary {block}"),
            Self::Run { number, id } => write!(f, "run {number} {id}"),
            Self::In(moment) => moment.fmt(f),
            Self::Recorded(record) => {
                let verified = match record.verified {
                    Some(true) => " verified",
                    Some(false) => " differs",
                    None => "",
                };
                write!(f, "record {}{verified}", record.status)
            }
            Self::Written(record) => write!(f, "write {}", record.order),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Ended(failed) => write!(f, "end {failed}"),
        }
    }
}

/// Runs the plan, or what is left of it, on `testbed`.
///
/// # Errors
/// See [`SuiteRunError`]; failed runs are records, and `Ok` says how many of those this call made.
pub fn run_plan(
    job: &Job,
    testbed: &mut dyn Testbed,
    listener: &mut dyn Listener,
) -> Result<usize, SuiteRunError> {
    // Before the directory: a refused job leaves nothing in the way of the next try.
    let _lock = testbed.lock()?;
    listener.step(Step::Locked);
    let skipped = skipped(job.plan.comparisons_of(job.part()), |cell| testbed.admit(cell))?;
    listener.step(Step::Admitted);
    let builds = Builds::of(&job.plan, &job.binary)?;
    let host = testbed.host();
    let mut watch = HostWatch::new(&host);
    let disturbances = testbed.disturbances(&host);
    for text in &disturbances {
        listener.warn(text);
    }
    listener.step(Step::Disturbances(disturbances.len()));
    let left_out = |id: &str| skipped.iter().any(|skipped| skipped.cell == id);
    let (mut directory, kept_manifest, done) = if job.resume {
        let there = RunData::load_as(&job.directory, Accept::Simulated)?;
        resume::refuse_other(job, &there.manifest, &host, &builds, testbed.backend(), &skipped)?;
        let directory = RunDirectory::reopen(&there)?;
        listener.step(Step::Reopened(there.records.len()));
        let records = u32::try_from(there.records.len()).unwrap_or(u32::MAX);
        let mut manifest = there.manifest;
        if records < manifest.planned_runs {
            let started = super::utc(testbed.date(there.records.len()));
            let command = job.command.clone();
            manifest.resumptions.push(Resumption { records, command, started, disturbances });
            directory.write_manifest(&manifest)?;
        }
        (directory, manifest, there.records.iter().map(|record| record.order).collect())
    } else {
        let manifest = Manifest {
            backend: testbed.backend(),
            started: super::utc(testbed.date(0)),
            ..manifest(job, host, &builds, skipped.clone(), disturbances)
        };
        let directory = RunDirectory::begin(&job.directory, &manifest).map_err(SuiteRunError::Output)?;
        listener.step(Step::Created);
        (directory, manifest, BTreeSet::new())
    };
    let mut kept = done.len();
    let mut failed = 0;
    let runs = job.runs();
    let (began, mut pace) = (testbed.uptime(), Pace::default());
    let mut block = None;
    for (number, planned) in runs.iter().copied() {
        let Some(cell) = job.plan.cell(planned).filter(|cell| !left_out(&cell.id)) else { continue };
        if u32::try_from(number).is_ok_and(|number| done.contains(&number)) {
            continue;
        }
        if let Some(limit) = job.time_limit.filter(|_| block != Some(planned.repetition)) {
            block = Some(planned.repetition);
            let here = runs.iter().filter(|(_, run)| run.repetition == planned.repetition);
            let estimated: f64 = here.map(|(_, run)| job.plan.time(run).0).sum();
            let ends = (testbed.uptime() - began).as_secs_f64() + estimated * pace.factor();
            if ends > limit.as_secs_f64() {
                let made = planned.repetition.saturating_sub(1);
                if made == 0 {
                    let path = job.directory.display().to_string();
                    return Err(SuiteRunError::OutOfTime { path, limit });
                }
                listener.warn(&format!(
                    "the time is over: {made} of {} timed repetitions were made; the plan is cut to these",
                    job.plan.repetitions
                ));
                directory.write_manifest(&cut(kept_manifest, job, made, &left_out))?;
                break;
            }
        }
        if watch.block(planned.repetition, testbed) {
            listener.step(Step::Canary(planned.repetition));
        }
        listener.run_starts(number, &cell.id, &job.plan);
        listener.step(Step::Run { number, id: &cell.id });
        let spec = RunSpec {
            cell: cell.cell.clone(),
            seed: planned.seed,
            start_jitter: planned.start_jitter.0,
            verify: planned.kind == RunKind::Verification && cell.cell.engine.migrates(),
            // None is planted into another VMM.
            fault: job.fault.filter(|_| !cell.cell.engine.is_peer()),
            planted_cost: Planted::on(job.planted, &cell.cell),
            guest_flags: 0,
            passes: job.passes,
            binary: builds.program(&cell.cell)?,
        };
        let place = RunIdentity {
            backend: testbed.backend(),
            started: super::utc(testbed.date(number)),
            ..place(job, planned, number)
        };
        watch.run_starts(testbed);
        let before = testbed.uptime();
        let mut hear = |moment: Moment<'_>| {
            if let Moment::Round(round) = moment {
                listener.round(round);
            }
            listener.step(Step::In(moment));
        };
        let mut record = match testbed.run(number, place, &spec, &mut hear) {
            Ok(record) => record,
            Err(RunnerError::Interrupted) => {
                listener.step(Step::Interrupted);
                return Err(SuiteRunError::Interrupted {
                    done: kept,
                    planned: runs.len(),
                    path: job.directory.clone(),
                    simulated: testbed.backend() == Backend::Simulated,
                    rest: job.rest.clone(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        pace.add(job.plan.time(planned).0, testbed.uptime() - before);
        watch.run_ends(&mut record, testbed);
        failed += usize::from(record.status == Status::Failed);
        listener.step(Step::Recorded(&record));
        directory.append(&record)?;
        kept += 1;
        listener.step(Step::Written(&record));
        listener.run_ends(&record);
    }
    listener.step(Step::Ended(failed));
    Ok(failed)
}

/// The manifest of a job whose time was over after `made` timed repetitions: as if no more had been planned.
fn cut(manifest: Manifest, job: &Job, made: u32, left_out: &impl Fn(&str) -> bool) -> Manifest {
    let mut plan = job.plan.clone();
    plan.repetitions = made;
    plan.order.retain(|run| run.repetition <= made);
    let runs = plan.runs_of(job.part());
    let planned =
        runs.iter().filter(|(_, run)| plan.cell(run).is_some_and(|cell| !left_out(&cell.id))).count();
    Manifest {
        repetitions: made,
        planned_runs: u32::try_from(planned).unwrap_or(u32::MAX),
        plan: serde_json::to_value(&plan).unwrap_or_default(),
        ..manifest
    }
}

/// The longest that a run of `cell` may take before it is given up.
#[must_use]
pub fn limit(cell: &Cell) -> Duration {
    let windows = cell.windows;
    // Boot, hashing, validation: all linear in memory, at 128 MiB/s on a slow host.
    let memory = (cell.memory.0 >> 27) as f64;
    let known = 2.0 * windows.steady.0 + windows.after.0 + windows.control.0 + windows.warmup_max.0;
    // The paused round may have all memory to send.
    let last = cell.link.rate.map_or(0.0, |rate| cell.memory.0 as f64 / rate.0 as f64);
    Seconds(120.0 + known + cell.stop.max_time.0 + 2.0 * last + 8.0 * memory).duration()
}

/// Where the record of run `number` belongs.
fn place(job: &Job, planned: &PlannedRun, number: usize) -> RunIdentity {
    let comparison = &job.plan.comparisons[planned.comparison];
    let label = &comparison.cells[planned.cell].label;
    let slug: String = format!("{}-{label}", comparison.name)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    RunIdentity {
        run_id: format!("{number:04}-{slug}-{}", planned.repetition),
        suite: job.plan.suite.clone(),
        comparison: comparison.name.clone(),
        repetition: planned.repetition,
        order: u32::try_from(number).unwrap_or(u32::MAX),
        backend: Backend::Kvm,
        kind: planned.kind,
        started: super::now_utc(),
    }
}

/// The manifest of a job on this host, without the cells of `skipped`.
fn manifest(
    job: &Job,
    host: manifest::Host,
    builds: &Builds,
    skipped: Vec<Skipped>,
    disturbances: Vec<String>,
) -> Manifest {
    let plan = &job.plan;
    let here = plan.comparisons_of(job.part());
    let comparisons =
        here.iter().map(|comparison| manifest::ManifestComparison::of(comparison, plan)).collect();
    let left_out = |id: &str| skipped.iter().any(|skipped| skipped.cell == id);
    let planned_runs =
        job.runs().iter().filter(|(_, run)| plan.cell(run).is_some_and(|cell| !left_out(&cell.id))).count();
    Manifest {
        schema: SCHEMA,
        backend: Backend::Kvm,
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
        disturbances,
        resumptions: Vec::new(),
        tool: this_tool(),
        builds: builds.list(),
        planted: job.planted.map(|planted| planted.to_string()),
        command: job.command.clone(),
        started: super::now_utc(),
        slice: job.slice.clone(),
        parts: Vec::new(),
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
        let skipped = skipped(&plan.comparisons, no_rings).unwrap();
        let cells = plan.comparisons.iter().flat_map(|comparison| &comparison.cells);
        let rings =
            cells.filter(|planned| planned.cell.tracker == Tracker::KvmRing).map(|planned| &planned.id);
        assert!(skipped.iter().map(|skipped| &skipped.cell).eq(rings) && skipped.len() > 1, "{skipped:?}");
        assert!(skipped.iter().all(|skipped| skipped.reason == "no rings; add some"));

        let mut plan = plan;
        plan.comparisons[0].cells.iter_mut().for_each(|cell| cell.optional = false);
        let error = super::skipped(&plan.comparisons, no_rings).unwrap_err().to_string();
        assert!(error.contains("delta/kvm-ring: the tracker kvm-ring is not available here"), "{error}");
    }
}

//! Whole migrations, `migrate/<engine>/<workload>` (total time) and `downtime/<engine>/<workload>`: real guests of 64 MiB
//! between two fresh processes over an unlimited link, so that what is timed is the engine's own speed.
//!
//! They answer whether a change of the code moved an engine: `cargo bench -- --save-baseline before`, change,
//! `cargo bench -- --baseline before`. An iteration is one migration, and its time is what the record says. What Criterion
//! can't do is compare engines: it runs one after the other, so that a drift of the host falls on one of them, and verifies nothing.
//!
//! The downtime of a migration is known once its total time is. `downtime/...` replays what `migrate/...` recorded, and
//! migrates only where that is missing, as with a filter that chose it alone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode};
use migbench_benches::{have_kvm, migrate, node};
use migbench_scenarios::cell::{Cell, Engine};
use migbench_scenarios::{Assignment, Draft};

const ENGINES: [Engine; 2] = [Engine::Full, Engine::Delta];
const WORKLOADS: [&str; 4] = ["idle", "read-heavy", "write-heavy", "kv-a"];

/// What differs from the defaults. A guest needs no more than a moment of steady state to be worth migrating here.
const SETTINGS: &[(&str, &str)] = &[
    ("memory", "64MiB"),
    ("link.rate", "unlimited"),
    ("stop.downtime_limit", "10ms"),
    ("windows.warmup_max", "300ms"),
    ("windows.steady", "50ms"),
    ("windows.after", "50ms"),
];

/// For workloads that write: shares of a link's rate say nothing over an unlimited one. Idle has no such settings.
const BUSY: &[(&str, &str)] = &[("settings.working_set", "32MiB"), ("settings.load", "pages(25000)")];

/// Longer than no time, so that Criterion's warm-up is over after one call, and its samples are one call each.
const ONE_CALL: Duration = Duration::from_millis(1);

fn cell(engine: Engine, workload: &str) -> Result<Cell, Box<dyn std::error::Error>> {
    let mut draft = Draft::new();
    let named = [("engine", engine.word()), ("workload", workload)];
    let busy = if workload == "idle" { &[] } else { BUSY };
    for &(key, value) in named.iter().chain(SETTINGS).chain(busy) {
        draft.set(&Assignment::flag(&format!("--{key}"), key, value))?;
    }
    Ok(draft.build()?)
}

/// What one iteration takes by one of its metrics.
type Measured = fn(&mut MigrateSubject) -> Duration;

/// Migrations of one cell, and the downtimes that nobody has asked for yet.
struct MigrateSubject {
    cell: Cell,
    seed: u64,
    downtimes: VecDeque<Duration>,
}

impl MigrateSubject {
    /// Total time and downtime of a fresh migration. One that fails is a bench that fails.
    fn migrate(&mut self) -> (Duration, Duration) {
        self.seed += 1;
        let record = migrate(&self.cell, self.seed).unwrap_or_else(|error| panic!("{error}"));
        let time = |name: &str| match record.metrics.get(name) {
            Some(metric) => Duration::from_secs_f64(metric.value),
            None => panic!("the record of a migration has no {name}"),
        };
        (time("total_time"), time("downtime"))
    }

    fn total_time(&mut self) -> Duration {
        let (total, downtime) = self.migrate();
        self.downtimes.push_back(downtime);
        total
    }

    fn downtime(&mut self) -> Duration {
        match self.downtimes.pop_front() {
            Some(recorded) => {
                // Criterion doubles its iterations until its warm-up has taken as long as it should.
                std::thread::sleep(2 * ONE_CALL);
                recorded
            }
            None => self.migrate().1,
        }
    }
}

fn migrations(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    for engine in ENGINES {
        for workload in WORKLOADS {
            let subject = RefCell::new(MigrateSubject {
                cell: cell(engine, workload)?,
                seed: 0,
                downtimes: VecDeque::new(),
            });
            let metrics =
                [("migrate", MigrateSubject::total_time as Measured), ("downtime", MigrateSubject::downtime)];
            for (group, measured) in metrics {
                let mut group = criterion.benchmark_group(group);
                group.sampling_mode(SamplingMode::Flat);
                group.bench_function(BenchmarkId::new(engine.word(), workload), |bencher| {
                    bencher
                        .iter_custom(|times| (0..times).map(|_| measured(&mut subject.borrow_mut())).sum());
                });
                group.finish();
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    if let Some(exit) = node() {
        return exit;
    }
    if !have_kvm() {
        return ExitCode::SUCCESS;
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(ONE_CALL)
        .measurement_time(ONE_CALL)
        .configure_from_args();
    println!(
        "migrate: total time and downtime of guests of 64 MiB over an unlimited link, to compare a build with one before.\n\
         To compare engines use `migbench run`: it interleaves them, verifies memory, and says what it isn't sure of."
    );
    if let Err(error) = migrations(&mut criterion) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}

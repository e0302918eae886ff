//! What the benches share: a check for KVM, medians with their ranges, and runs of whole migrations in which the
//! bench's own binary is the node.
#![forbid(unsafe_code)]

pub mod pages;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use migbench::sys::memory::Telemetry;
use migbench::vm::Vm;
use migbench_reports::record::{Record, RunKind};
use migbench_scenarios::cell::{Cell, Engine, Tracker};
use migbench_workloads::abi;
use migbench_workloads::settings::Pattern;
use migbench_workloads::units::Bytes;

/// What can fail in a bench, for whatever reason.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Whether only one small pass was asked for: by `cargo bench -- --test`, or by `cargo test --benches`, which does not
/// pass the `--bench` of `cargo bench`.
#[must_use]
pub fn quick() -> bool {
    std::env::args().any(|argument| argument == "--test")
        || !std::env::args().any(|argument| argument == "--bench")
}

/// Options of Criterion that take a value; benches without Criterion are given them as well.
const WITH_VALUE: &[&str] = &[
    "--save-baseline",
    "-s",
    "--baseline",
    "-b",
    "--baseline-lenient",
    "--load-baseline",
    "--sample-size",
    "--warm-up-time",
    "--measurement-time",
    "--nresamples",
    "--noise-threshold",
    "--confidence-level",
    "--significance-level",
    "--profile-time",
    "--output-format",
    "--color",
    "-c",
    "--colour",
    "--plotting-backend",
    "--format",
];

/// Whether the bench `name`, which is not one of Criterion's, is to run: `cargo bench -- FILTER` runs only what has the
/// filter in its name, and `--list` or a baseline that is only loaded runs nothing.
#[must_use]
pub fn wanted(name: &str) -> bool {
    is_wanted(name, std::env::args().skip(1))
}

fn is_wanted(name: &str, arguments: impl IntoIterator<Item = String>) -> bool {
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" | "--load-baseline" => return false,
            option if WITH_VALUE.contains(&option) => drop(arguments.next()),
            option if option.starts_with('-') => {}
            filter => return name.contains(filter),
        }
    }
    true
}

/// Whether guests can run here; says why not otherwise.
#[must_use]
pub fn have_kvm() -> bool {
    match migbench::host::kvm::open_kvm(Path::new("/dev/kvm")) {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

/// What a bench that ended leaves its caller: its error is said.
#[must_use]
pub fn ended(done: Fallible<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a bench of guests that is not one of Criterion's, where it is [`wanted`] and guests can run.
#[must_use]
pub fn run(name: &str, bench: impl FnOnce() -> Fallible<()>) -> ExitCode {
    ended(if wanted(name) && have_kvm() { bench() } else { Ok(()) })
}

/// Boots a guest that works at once, in the phase in which it is steady.
///
/// # Errors
/// As the boot.
pub fn boot(cell: &Cell, seed: u64) -> Fallible<Vm> {
    let memfd = nix::sys::memfd::memfd_create(c"telemetry", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let telemetry = Telemetry::map(memfd, usize::try_from(cell.vcpus)?, cell.timing)?;
    telemetry.control().phase.store(abi::PHASE_STEADY, Relaxed);
    Ok(Vm::boot(cell, seed, 0, Arc::new(telemetry))?)
}

/// The median of some values, and their range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MedianRange {
    /// The middle one; of an even number the mean of both.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl MedianRange {
    /// Of `values`; `None` of nothing.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            sorted[middle - 1].midpoint(sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, least, most })
    }
}

impl fmt::Display for MedianRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        write!(f, "{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most)
    }
}

/// A guest of 512 MiB that makes a pass over its working set when asked to.
#[derive(Debug)]
pub struct PassesGuest {
    /// What it was booted for.
    pub cell: Cell,
    /// The guest.
    pub vm: Vm,
    pass: u32,
}

impl PassesGuest {
    /// The cell of one that writes each page of its first 16 MiB, in order.
    ///
    /// # Errors
    /// When the catalogue has no such workload.
    pub fn cell(tracker: Tracker) -> Result<Cell, Box<dyn std::error::Error>> {
        let mut cell = Cell::default_for(Engine::TrackOnly, "write-heavy")?;
        cell.tracker = tracker;
        cell.timing = false;
        cell.memory = Bytes(512 << 20);
        cell.settings.working_set = Bytes(16 << 20);
        cell.settings.reads = 0.0;
        cell.settings.pattern = Pattern::Sequential;
        Ok(cell)
    }

    /// Boots it and lets it make a first pass, which brings its memory in.
    ///
    /// # Errors
    /// As the boot.
    pub fn boot(cell: Cell) -> Result<Self, Box<dyn std::error::Error>> {
        let memfd = nix::sys::memfd::memfd_create(c"telemetry", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
        let telemetry = Arc::new(Telemetry::map(memfd, 1, false)?);
        let vm = Vm::boot(&cell, 1, abi::FLAG_PASSES, telemetry)?;
        let mut guest = Self { cell, vm, pass: 0 };
        guest.write();
        Ok(guest)
    }

    /// One pass, from its start to its end.
    pub fn write(&mut self) {
        self.pass += 1;
        let telemetry = self.vm.telemetry();
        telemetry.control().pass.store(self.pass, Release);
        while telemetry.vcpu(0).pass.load(Acquire) < self.pass {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// Serves as a node where the runner started this binary as one.
#[must_use]
pub fn node() -> Option<ExitCode> {
    (std::env::args().nth(1).as_deref() == Some("node")).then(migbench::cli::main)
}

/// One migration of two fresh processes, both this binary.
///
/// # Errors
/// With the reason, also when the run itself failed.
pub fn migrate(cell: &Cell, seed: u64) -> Result<Record, Box<dyn std::error::Error>> {
    use migbench::runner::{now_utc, record, run, suite};
    let spec = run::RunSpec {
        cell: cell.clone(),
        seed,
        start_jitter: 0.0,
        verify: false,
        fault: None,
        planted_cost: None,
        guest_flags: 0,
        passes: None,
        binary: std::env::current_exe()?,
    };
    let outcome = run::run(&spec, suite::limit(cell), &mut |_| {})?;
    let place = record::RunIdentity {
        run_id: "bench".into(),
        suite: "bench".into(),
        comparison: cell.workload.clone(),
        repetition: 1,
        order: 0,
        backend: migbench_reports::record::Backend::Kvm,
        kind: RunKind::Timed,
        started: now_utc(),
    };
    let record = record::of(place, &spec, &outcome);
    match &record.error {
        Some(error) => Err(format!("{}: {}", error.phase, error.message).into()),
        None => Ok(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_chooses_and_options_do_not() {
        let wanted = |arguments: &str| is_wanted("probe", arguments.split_whitespace().map(str::to_owned));
        assert!(wanted("") && wanted("--bench") && wanted("prob --bench"));
        assert!(wanted("--save-baseline before --bench") && wanted("--baseline before probe --bench"));
        assert!(!wanted("migrate --bench") && !wanted("--save-baseline probe migrate --bench"));
        assert!(!wanted("--list --bench") && !wanted("--load-baseline before --bench"));
    }

    #[test]
    fn the_middle_of_even_and_odd() {
        assert_eq!(
            MedianRange::of([3.0, 1.0, 2.0]),
            Some(MedianRange { median: 2.0, least: 1.0, most: 3.0 })
        );
        assert_eq!(MedianRange::of([4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(MedianRange::of([]), None);
        assert_eq!(MedianRange::of([1.0]).unwrap().to_string(), "1.000 (1.000 to 1.000)");
    }
}

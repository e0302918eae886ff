//! What the benches share: a check for KVM, medians with their ranges, and runs of whole migrations in which the
//! bench's own binary is the node.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;

use migbench_reports::record::{Kind, Record};
use migbench_scenarios::cell::Cell;

/// Whether only one small pass was asked for (`cargo bench -- --test`).
#[must_use]
pub fn quick() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// Whether guests can run here; says why not otherwise.
#[must_use]
pub fn have_kvm() -> bool {
    match migbench::doctor::open_kvm(Path::new("/dev/kvm")) {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

/// The median of some values, and their range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number the mean of both.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
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

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        write!(f, "{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most)
    }
}

/// Serves as a node where the runner started this binary as one.
#[must_use]
pub fn node() -> Option<std::process::ExitCode> {
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
        guest_flags: 0,
        binary: std::env::current_exe()?,
    };
    let outcome = run::run(&spec, suite::limit(cell), &mut |_| {})?;
    let place = record::Place {
        run_id: "bench".into(),
        suite: "bench".into(),
        comparison: cell.workload.clone(),
        repetition: 1,
        order: 0,
        kind: Kind::Timed,
        started: now_utc(),
    };
    let record = record::of(place, &spec, &outcome, None);
    match &record.error {
        Some(error) => Err(format!("{}: {}", error.phase, error.message).into()),
        None => Ok(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_even_and_odd() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0]).unwrap().to_string(), "1.000 (1.000 to 1.000)");
    }
}

//! The time before a migration: warm-up until throughput is steady, then two steady windows. The first gives the
//! threshold over which an operation counts as stalled, the second the stall rate of an undisturbed guest.

use std::sync::atomic::Ordering::Release;

use migbench_reports::histogram as hdr;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::units::Seconds;
use serde::{Deserialize, Serialize};

use super::{Guest, GuestError, telemetry};
use crate::sys::clock;

/// How the guest was before the migration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// Whether throughput became steady.
    pub settled: bool,
    /// The first steady window.
    pub start: u64,
    /// End of the second one.
    pub end: u64,
    /// Stalled seconds per second in the second one, where a threshold could be had.
    pub stall: Option<f64>,
    /// The threshold in ns: the p99.9 of service times in the first one.
    pub stall_threshold: Option<f64>,
    /// Page writes per second in both.
    pub page_write_rate: f64,
}

/// Seconds of one window of the warm-up.
const WINDOW: f64 = 0.1;
/// Windows that must agree.
const AGREE: usize = 3;
/// How closely.
const TOLERANCE: f64 = 0.02;
/// The quantile that makes the threshold, and the samples that must stand behind it.
const STALL_QUANTILE: f64 = 0.999;

/// Warms up, then measures both windows.
///
/// # Errors
/// When the guest goes down.
pub fn reach(guest: &dyn Guest, cell: &Cell) -> Result<Steady, GuestError> {
    let control = guest.telemetry().control();
    // A workload with phases stays in one of them until the migration starts, or no window would be like another.
    control.hold.store(cell.start_phase, Release);
    let settled = warm_up(guest, cell)?;
    control.stall_threshold.store(0, Release);
    control.phase.store(abi::PHASE_STEADY, Release);
    let start = clock::now();
    let written = telemetry::page_writes(guest.telemetry());
    std::thread::sleep(cell.windows.steady.duration());
    let mut service = telemetry::empty_histogram();
    for operation in 0..abi::OPERATIONS {
        telemetry::lift(guest.telemetry(), abi::PHASE_STEADY as usize, operation, 0, &mut service);
    }
    let threshold = hdr::supported_quantile(&service, STALL_QUANTILE);
    let ticks_per_ns = f64::from(guest.tsc_khz()) / 1e6;
    if let Some(nanoseconds) = threshold {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a positive time under an hour"
        )]
        let ticks = (nanoseconds as f64 * ticks_per_ns) as u64;
        control.stall_threshold.store(ticks.max(1), Release);
    }
    let second = clock::now();
    let before = telemetry::stalls(guest.telemetry(), abi::PHASE_STEADY).0;
    std::thread::sleep(cell.windows.steady.duration());
    let end = clock::now();
    let stalled = telemetry::stalls(guest.telemetry(), abi::PHASE_STEADY).0 - before;
    let written = telemetry::page_writes(guest.telemetry()) - written;
    guest.check()?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of at most minutes")]
    let stall = threshold.map(|_| stalled as f64 / ticks_per_ns / 1e9 / clock::seconds(second, end));
    #[expect(clippy::cast_precision_loss, reason = "a time under an hour")]
    let stall_threshold = threshold.map(|ns| ns as f64);
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds")]
    let page_write_rate = written as f64 / clock::seconds(start, end);
    Ok(Steady { settled, start, end, stall, stall_threshold, page_write_rate })
}

/// Waits until the last windows agree, or `warmup_max` is over. Says whether they agreed.
fn warm_up(guest: &dyn Guest, cell: &Cell) -> Result<bool, GuestError> {
    let start = clock::now();
    let mut windows: Vec<f64> = Vec::new();
    loop {
        let (from, before) = (clock::now(), telemetry::operations(guest.telemetry()));
        std::thread::sleep(Seconds(WINDOW).duration());
        guest.check()?;
        let done = telemetry::operations(guest.telemetry()) - before;
        #[expect(clippy::cast_precision_loss, reason = "counts of a window")]
        windows.push(done as f64 / clock::seconds(from, clock::now()));
        if agree(&windows) {
            return Ok(true);
        }
        if clock::seconds(start, clock::now()) >= cell.windows.warmup_max.0 {
            return Ok(false);
        }
    }
}

/// Whether the last windows lie within the tolerance of each other, and something happened in them.
fn agree(windows: &[f64]) -> bool {
    let Some(last) = windows.len().checked_sub(AGREE).map(|from| &windows[from..]) else { return false };
    let (least, most) = last.iter().fold((f64::MAX, 0.0_f64), |(a, b), &w| (a.min(w), b.max(w)));
    least > 0.0 && (most - least) / most <= TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_windows_within_two_percent_are_steady() {
        assert!(!agree(&[100.0, 100.0]));
        assert!(agree(&[1.0, 100.0, 101.0, 102.0]));
        assert!(!agree(&[100.0, 101.0, 103.0]));
        assert!(!agree(&[0.0, 0.0, 0.0]));
    }
}

//! The time before a migration: warm-up until throughput has settled, then two steady windows. The first gives the
//! threshold over which an operation counts as stalled, the second the stall rate of an undisturbed guest.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Release;

use migbench_reports::histogram as hdr;
use migbench_scenarios::cell::Cell;
use migbench_workloads::abi;
use migbench_workloads::units::Seconds;

use crate::node::NodeError;
use crate::node::protocol::Steady;
use crate::sys::clock;
use crate::vm::{Vm, telemetry};

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
pub fn reach(vm: &Vm, cell: &Cell) -> Result<Steady, NodeError> {
    let control = vm.telemetry().control();
    // A workload with phases stays in one of them until the migration starts, or no window would be like another.
    control.hold.store(cell.start_phase, Release);
    let settled = warm_up(vm, cell)?;
    control.stall_threshold.store(0, Release);
    control.phase.store(abi::PHASE_STEADY, Release);
    let start = clock::now();
    let written = telemetry::page_writes(vm.telemetry());
    std::thread::sleep(cell.windows.steady.duration());
    let mut service = telemetry::empty_histogram();
    for operation in 0..abi::OPERATIONS {
        telemetry::lift(vm.telemetry(), abi::PHASE_STEADY as usize, operation, 0, &mut service);
    }
    let threshold = hdr::supported_quantile(&service, STALL_QUANTILE);
    let ticks_per_ns = f64::from(vm.tsc_khz()) / 1e6;
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
    let before = telemetry::stalls(vm.telemetry(), abi::PHASE_STEADY).0;
    std::thread::sleep(cell.windows.steady.duration());
    let end = clock::now();
    let stalled = telemetry::stalls(vm.telemetry(), abi::PHASE_STEADY).0 - before;
    let written = telemetry::page_writes(vm.telemetry()) - written;
    vm.check()?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of at most minutes")]
    let stall = threshold.map(|_| stalled as f64 / ticks_per_ns / 1e9 / clock::seconds(second, end));
    #[expect(clippy::cast_precision_loss, reason = "a time under an hour")]
    let stall_threshold = threshold.map(|ns| ns as f64);
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds")]
    let page_write_rate = written as f64 / clock::seconds(start, end);
    Ok(Steady { settled, start, end, stall, stall_threshold, page_write_rate })
}

/// Waits until the last windows agree, or `warmup_max` is over. Says whether they agreed.
fn warm_up(vm: &Vm, cell: &Cell) -> Result<bool, NodeError> {
    let start = clock::now();
    let mut windows: Vec<f64> = Vec::new();
    loop {
        let (from, before) = (clock::now(), telemetry::operations(vm.telemetry()));
        std::thread::sleep(Seconds(WINDOW).duration());
        vm.check()?;
        let done = telemetry::operations(vm.telemetry()) - before;
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

/// All histograms that have counts, by name.
pub fn histograms(vm: &Vm, names: &[&str]) -> BTreeMap<String, String> {
    let clocks = [hdr::Clock::Service, hdr::Clock::Response];
    let phases = [
        hdr::Phase::Steady,
        hdr::Phase::Precopy,
        hdr::Phase::Switchover,
        hdr::Phase::Catchup,
        hdr::Phase::After,
    ];
    let mut all = BTreeMap::new();
    for (operation, name) in names.iter().enumerate() {
        for (phase, phase_name) in phases.into_iter().enumerate() {
            for (clock, clock_name) in clocks.into_iter().enumerate() {
                let mut histogram = telemetry::empty_histogram();
                telemetry::lift(vm.telemetry(), phase, operation, clock, &mut histogram);
                if histogram.is_empty() {
                    continue;
                }
                if let Ok(text) = hdr::encode(&histogram) {
                    all.insert(hdr::key(name, clock_name, phase_name), text);
                }
            }
        }
    }
    all
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

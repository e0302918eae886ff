//! The host's side of telemetry: sums over vCPUs, histograms lifted into `hdrhistogram`, words for what the guest
//! found wrong.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use hdrhistogram::Histogram;
use migbench_reports::histogram as hdr;
use migbench_workloads::abi;

use crate::sys::memory::Telemetry;

/// Operations ended so far, all vCPUs.
#[must_use]
pub fn operations(telemetry: &Telemetry) -> u64 {
    (0..telemetry.vcpus()).map(|n| telemetry.vcpu(n).operations.load(Relaxed)).sum()
}

/// Pages written so far, all vCPUs.
#[must_use]
pub fn page_writes(telemetry: &Telemetry) -> u64 {
    (0..telemetry.vcpus()).map(|n| telemetry.vcpu(n).page_writes.load(Relaxed)).sum()
}

/// Stall sum in ticks and stall count of a phase, all vCPUs.
#[must_use]
pub fn stalls(telemetry: &Telemetry, phase: u32) -> (u64, u64) {
    (0..telemetry.vcpus()).fold((0, 0), |(ticks, count), n| {
        let vcpu = telemetry.vcpu(n);
        let slot = phase as usize;
        (ticks + vcpu.stall_ticks[slot].load(Relaxed), count + vcpu.stall_count[slot].load(Relaxed))
    })
}

/// Nanoseconds, three significant digits, the guest's own bucket layout.
///
/// # Panics
/// Never: the bounds are constants that `hdrhistogram` accepts.
#[must_use]
pub fn empty_histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, abi::HISTOGRAM_MAX, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds: {error}"),
    }
}

/// Adds the guest's counts of one kind, all vCPUs, to `into`. Buckets are the same, so no count moves.
pub fn lift(telemetry: &Telemetry, phase: usize, operation: usize, clock: usize, into: &mut Histogram<u64>) {
    for vcpu in 0..telemetry.vcpus() {
        for (index, count) in telemetry.histogram(vcpu, phase, operation, clock).iter().enumerate() {
            let count = count.load(Relaxed);
            if count != 0 {
                into.saturating_record_n(abi::histogram_value(index), u64::from(count));
            }
        }
    }
}

/// What a vCPU's program found when it checked itself.
#[must_use]
pub fn describe_invalid(vcpu: usize, block: &abi::VcpuTelemetry) -> String {
    let (page, offset) = (block.bad_page.load(Relaxed), block.bad_offset.load(Relaxed));
    let expected = block.bad_expected.load(Relaxed);
    let what = match block.bad_reason.load(Relaxed) {
        abi::BAD_CONTENT => format!("the page at {page:#x} is wrong from byte {offset} on"),
        abi::BAD_WRITES => {
            format!("its pages count {offset} writes, but it made {expected}: a written page was lost")
        }
        abi::BAD_REGISTER => format!("byte {offset} of {expected} bytes in vector registers changed"),
        abi::BAD_OPERATIONS => format!("its program counts {offset} operations, telemetry {expected}"),
        abi::BAD_STATE => {
            format!("near page {page:#x} its program finds {offset} where its own books say {expected}")
        }
        other => format!("unknown reason {other}"),
    };
    format!("the guest's check failed on vCPU {vcpu}: {what}")
}

/// All histograms that have counts, by name.
pub fn histograms(telemetry: &Telemetry, names: &[&str]) -> BTreeMap<String, String> {
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
                let mut histogram = empty_histogram();
                lift(telemetry, phase, operation, clock, &mut histogram);
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

/// Starts the count of overdue operations anew.
pub fn reset_backlog(telemetry: &Telemetry) {
    (0..telemetry.vcpus()).for_each(|n| telemetry.vcpu(n).backlog_max.store(0, Relaxed));
}

/// The most operations overdue at once since then, summed over vCPUs.
#[must_use]
pub fn backlog_max(telemetry: &Telemetry) -> u64 {
    (0..telemetry.vcpus()).map(|n| telemetry.vcpu(n).backlog_max.load(Acquire)).sum()
}

/// Times that a vCPU's clock went backwards.
#[must_use]
pub fn backwards(telemetry: &Telemetry) -> u32 {
    (0..telemetry.vcpus()).map(|n| telemetry.vcpu(n).backwards.load(Acquire)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guest's bucket of any value is hdrhistogram's own.
    #[test]
    fn buckets_are_those_of_hdrhistogram() {
        let histogram = empty_histogram();
        let mut value = 1_u64;
        while value < abi::HISTOGRAM_MAX {
            for v in [value - 1, value, value + 1, value + value / 3] {
                let v = v.min(abi::HISTOGRAM_MAX);
                let lowest = abi::histogram_value(abi::histogram_index(v));
                assert_eq!(lowest, histogram.lowest_equivalent(v), "{v}");
            }
            value *= 2;
        }
        assert_eq!(abi::histogram_index(abi::HISTOGRAM_MAX), abi::HISTOGRAM_COUNTS - 1);
    }
}

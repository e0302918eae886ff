//! From settings, which people choose, to the parameter block, which the guest reads.

use crate::abi::{self, Params, WorkloadStage};
use crate::settings::{Fill, Pace, Pattern, Settings, Sharing};
use crate::units::Rate;

/// What the guest must know besides its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineParams {
    /// vCPUs.
    pub vcpus: u32,
    /// TSC frequency in kHz.
    pub tsc_khz: u32,
    /// Seed of every choice.
    pub seed: u64,
    /// The link's limit, for loads given as pressure.
    pub link: Option<Rate>,
    /// Whether operations are timed.
    pub timing: bool,
    /// Guest-physical address of telemetry.
    pub telemetry: u64,
}

/// `share` of one as a 32-bit fixed-point fraction; 1 becomes 2^32, which every 32-bit draw is under.
fn q32(share: f64) -> u64 {
    rounded(share.clamp(0.0, 1.0) * 4_294_967_296.0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "brought into the range of u64")]
fn rounded(value: f64) -> u64 {
    value.round().clamp(0.0, 9e18) as u64
}

/// The sum of 1 / k^theta for k = 1..=n: exact up to a million, then Euler-Maclaurin's formula.
#[expect(clippy::cast_precision_loss, reason = "page counts stay far under 2^53")]
fn zeta(n: u64, theta: f64) -> f64 {
    let exact = n.min(1_000_000);
    let sum: f64 = (1..=exact).map(|k| (k as f64).powf(-theta)).sum();
    if n == exact {
        return sum;
    }
    let (a, b) = (exact as f64, n as f64);
    let integral = (b.powf(1.0 - theta) - a.powf(1.0 - theta)) / (1.0 - theta);
    sum + integral + (b.powf(-theta) - a.powf(-theta)) / 2.0
}

impl Params {
    /// The block for `settings` on `machine`.
    #[must_use]
    pub fn new(settings: &Settings, machine: &MachineParams) -> Self {
        let vcpus = machine.vcpus.max(1);
        let parts = match settings.sharing {
            Sharing::Partitioned => vcpus,
            Sharing::Shared => PARTS,
        };
        let pages = settings.working_set.pages().0;
        let ticks_per_second = f64::from(machine.tsc_khz) * 1000.0;
        let theta = match settings.pattern {
            Pattern::Zipf(theta) => theta,
            _ => 0.0,
        };
        let Fill { random, text, duplicate, .. } = settings.fill;
        let filled = random + text + duplicate;
        let of_filled = |share: f64| if filled > 0.0 { q32(share / filled) } else { 0 };
        let mut params = Self {
            magic: abi::MAGIC,
            version: abi::VERSION,
            flags: if machine.timing { abi::FLAG_TIMING } else { 0 },
            telemetry: machine.telemetry,
            telemetry_size: abi::telemetry_size(vcpus as usize, machine.timing) as u64,
            nanoseconds_q32: rounded(1e9 / ticks_per_second * 4_294_967_296.0),
            seed: machine.seed,
            working_set: pages,
            fill_q32: q32(filled),
            text_q32: of_filled(text),
            duplicate_q32: of_filled(duplicate),
            self_test_operations: 0,
            zipf_zeta: zeta(settings.choices((pages / u64::from(parts)).max(1)).max(1), theta),
            zipf_theta: theta,
            vcpus,
            parts,
            program: settings.program.number(),
            pattern: match settings.pattern {
                Pattern::Sequential => abi::PATTERN_SEQUENTIAL,
                Pattern::Uniform => abi::PATTERN_UNIFORM,
                Pattern::Zipf(_) => abi::PATTERN_ZIPF,
            },
            content: settings.content.number(),
            accesses: settings.accesses,
            change_bytes: settings.change.bytes,
            change_pieces: settings.change.pieces,
            change_moves: u32::from(settings.change.moves),
            stage_count: 1,
            stages: [WorkloadStage::default(); abi::MAX_STAGES],
        };
        let stage = |settings: &Settings, seconds: f64| {
            let (rate, by_writes) = match settings.pace(machine.link) {
                Pace::FlatOut => (None, 0),
                Pace::Operations(rate) => (Some(rate), 0),
                Pace::Writes(rate) => (Some(rate), 1),
            };
            let interval = |rate: f64| rounded(ticks_per_second / rate * f64::from(vcpus) * 65_536.0).max(1);
            WorkloadStage {
                ticks: rounded(seconds * ticks_per_second),
                interval_q16: rate.map_or(0, interval),
                reads_q32: q32(settings.reads),
                pages: (settings.working_set.pages().0 / u64::from(parts)).max(1),
                writes: settings.writes,
                by_writes,
            }
        };
        params.stages[0] = stage(settings, 0.0);
        // A part that is a page longer than others is used whole.
        params.stages[0].pages = u64::MAX;
        for (place, phase) in params.stages.iter_mut().zip(&settings.phases) {
            *place = stage(&settings.within(phase), phase.duration.0);
        }
        params.stage_count = u32::try_from(settings.phases.len().clamp(1, abi::MAX_STAGES)).unwrap_or(1);
        params
    }
}

/// Parts that vCPUs share, enough that they seldom wait for each other.
const PARTS: u32 = 64;
const _: () = assert!(PARTS as usize == abi::MAX_PARTS && abi::MAX_VCPUS <= abi::MAX_PARTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeta_agrees_with_the_plain_sum_beyond_a_million() {
        let n = 3_000_000;
        let plain: f64 = (1..=n).map(|k: u32| f64::from(k).powf(-0.99)).sum();
        assert!((zeta(u64::from(n), 0.99) / plain - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_time_in_ticks_is_that_of_the_clock() {
        let machine =
            MachineParams { vcpus: 1, tsc_khz: 2_500_000, seed: 1, link: None, timing: true, telemetry: 0 };
        let params = Params::new(&Settings::BASE, &machine);
        for (nanoseconds, ticks) in [(0, 0), (1_000, 2_500), (abi::REST_MOST, 25_000_000)] {
            assert!(params.ticks(nanoseconds).abs_diff(ticks) <= 1, "{nanoseconds} ns");
        }
    }

    #[test]
    fn a_share_of_one_takes_every_draw() {
        assert_eq!(q32(1.0), 1 << 32);
        assert_eq!(q32(0.0), 0);
        assert_eq!(q32(0.5), 1 << 31);
    }
}

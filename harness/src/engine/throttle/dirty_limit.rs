//! Each vCPU sleeps for the share of the time at which it writes what it may, after QEMU's dirty page rate limit (`system/dirtylimit.c`,
//! "the dirty limit is per vCPU"): every tenth of a second the share in which it runs is multiplied by the root of what it may write
//! over what it wrote, so that chance is not chased. At first it is a fifth, and multiplied by all of that with every nap. Naps come every
//! 20 ms; less than a millisecond of running is saved up over several. Pages are counted once between two looks at the tracker, as the dirty
//! ring has them.

use migbench_scenarios::cell::ThrottleSettings;
use migbench_workloads::units::PAGE_SIZE;

use super::{Slice, Throttle};

/// Nanoseconds from nap to nap, and naps after which the share is set anew.
const CYCLE: u64 = 20_000_000;
const CYCLES: u32 = 5;
/// The least nanoseconds for which a vCPU is let go: what waking up and kicking add is a small part of it.
const SLOT: f64 = 1e6;
/// The share in which a vCPU runs before anything is known of it.
const FIRST: f64 = 0.2;
/// The most by which the share grows at once: few pages say little, and none nothing.
const GROWTH: f64 = 1.5;
/// The least share in which a vCPU runs: it has to go on.
const LEAST: f64 = 0.001;

#[derive(Debug, Clone, Copy)]
struct Limited {
    /// The share of the time in which it runs.
    runs: f64,
    /// Nanoseconds of it that were too short to wake up for.
    saved: f64,
    written: Option<u32>,
}

/// The throttle.
#[derive(Debug)]
pub struct DirtyLimit {
    /// Pages per second.
    limit: f64,
    vcpus: Vec<Limited>,
    /// Looks so far.
    looks: u32,
    since: u64,
}

impl DirtyLimit {
    /// Of so many vCPUs.
    #[expect(clippy::cast_precision_loss, reason = "rates stay under 2^53")]
    pub fn new(settings: &ThrottleSettings, vcpus: usize) -> Self {
        let limit = settings.dirty_rate.0 as f64 / PAGE_SIZE as f64;
        Self {
            limit,
            vcpus: vec![Limited { runs: FIRST, saved: 0.0, written: None }; vcpus],
            looks: 0,
            since: 0,
        }
    }
}

impl Throttle for DirtyLimit {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "20 ms at most"
    )]
    fn look(&mut self, now: u64, vcpus: &mut [Slice]) -> u64 {
        let begins = self.looks <= CYCLES;
        let sets = begins || self.looks.is_multiple_of(CYCLES);
        let lasted = now.saturating_sub(self.since) as f64 / 1e9;
        for (limited, vcpu) in self.vcpus.iter_mut().zip(vcpus) {
            if sets {
                let before = limited.written.replace(vcpu.written);
                let pages = before.map_or(0, |before| vcpu.written.wrapping_sub(before));
                let rate = f64::from(pages) / lasted;
                // What writes little may run more than it does, up to all of the time.
                if before.is_some() {
                    let over = self.limit / rate.max(1.0);
                    let change = if begins { over } else { over.sqrt().min(GROWTH) };
                    limited.runs = (limited.runs * change).clamp(LEAST, 1.0);
                }
            }
            limited.saved += CYCLE as f64 * limited.runs;
            vcpu.nap_until = now
                + if limited.saved < SLOT {
                    // To the next look, and on if that comes late.
                    CYCLE + CYCLE / 20
                } else {
                    CYCLE - std::mem::take(&mut limited.saved).min(CYCLE as f64) as u64
                };
        }
        if sets {
            self.since = now;
        }
        self.looks = self.looks.wrapping_add(1);
        now + CYCLE
    }
}

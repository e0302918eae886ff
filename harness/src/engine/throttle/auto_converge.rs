//! All vCPUs sleep for a share of the time, as in QEMU (`migration/ram.c` and `system/cpu-throttle.c`): in every second round after which
//! more was found written than the `trigger`'s share of what was sent, the share becomes `initial`, or grows by `increment` up to
//! `maximum`. Of a share `p` vCPUs run for 10 ms and sleep for `10 ms x p / (1 - p)`.

use migbench_scenarios::cell::ThrottleSettings;

use super::{Slice, Throttle};

/// Nanoseconds that a vCPU runs between two naps.
const RUN: u64 = 10_000_000;

/// The throttle.
#[derive(Debug)]
pub struct AutoConverge {
    settings: ThrottleSettings,
    share: Option<f64>,
    /// Rounds that wrote too much since it last grew.
    high: u32,
}

impl AutoConverge {
    /// One that has not begun.
    pub const fn new(settings: &ThrottleSettings) -> Self {
        Self { settings: *settings, share: None, high: 0 }
    }
}

impl Throttle for AutoConverge {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a second at most"
    )]
    fn look(&mut self, now: u64, vcpus: &mut [Slice]) -> u64 {
        let share = self.share.unwrap_or(0.0).min(0.99);
        let nap = (RUN as f64 * share / (1.0 - share)) as u64;
        for vcpu in vcpus {
            vcpu.nap_until = now + nap;
        }
        now + nap + RUN
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes of a round stay under 2^53")]
    fn round(&mut self, sent: u64, written: u64) {
        if written as f64 <= sent as f64 * self.settings.trigger {
            return;
        }
        self.high += 1;
        if self.high < 2 {
            return;
        }
        self.high = 0;
        let next = self.share.map_or(self.settings.initial, |share| share + self.settings.increment);
        self.share = Some(next.min(self.settings.maximum));
    }
}

//! Rule `encoded`, and what else a pause takes.
//!
//! `estimate = encoded + pause + harvest + state / r + pause + 1.5 x round trip + resume`, each as measured in this run before: pausing
//! and saving every vCPU and letting it go are rehearsed before the guest is watched, restoring a state is taken to last as long as
//! saving it, the harvest is the last one, and a round trip that of the greeting. From the last page on the destination says that it is
//! ready, the source commits, and the destination lets the guest go: one and a half.

use super::encoded::Encoded;
use super::{Forecast, Foreseen, Left, Overhead, Probe};
use crate::engine::round::Stretch;

/// The forecast.
#[derive(Debug)]
pub struct Fixed {
    encoded: Encoded,
    /// Seconds of all but sending pages and the harvest.
    overhead: f64,
}

impl Fixed {
    /// Over a link of that rate in bytes per second.
    #[expect(clippy::cast_precision_loss, reason = "bytes of state stay under 2^53")]
    pub fn new(rate: Option<f64>, overhead: Overhead) -> Self {
        let Overhead { pause, resume, round_trip, state } = overhead;
        let state = rate.map_or(0.0, |rate| state as f64 / rate);
        Self { encoded: Encoded::new(rate), overhead: 2.0 * pause + state + 1.5 * round_trip + resume }
    }
}

impl Forecast for Fixed {
    fn observe(&mut self, round: &Stretch) {
        self.encoded.observe(round);
    }

    fn wants_probe(&self) -> bool {
        self.encoded.wants_probe()
    }

    fn probed(&mut self, probe: Probe) {
        self.encoded.probed(probe);
    }

    fn foresee(&self, left: Left) -> Option<Foreseen> {
        let foreseen = self.encoded.foresee(left)?;
        let overhead = self.overhead + left.harvest;
        Some(Foreseen { total: foreseen.total + overhead, overhead, ..foreseen })
    }
}

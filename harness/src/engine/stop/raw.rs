//! Remaining bytes of memory over bytes per second, as in QEMU (`migration/migration.c`: `threshold_size` is the bandwidth of late
//! times `downtime-limit`, against `ram_state_pending`).
//!
//! `estimate = queued + pages x 4096 x seconds / bytes sent`. It mixes bytes of memory with bytes of the wire, so that it never sees
//! what delta saves: a guest whose deltas are small looks as if its link were slow.

use super::pages::proportion;
use super::recent::Recent;
use super::{Forecast, Foreseen, Left};
use crate::engine::round::Stretch;

/// The forecast.
#[derive(Debug)]
pub struct Raw {
    recent: Recent,
}

impl Raw {
    /// Before anything was sent.
    pub fn new() -> Self {
        Self { recent: Recent::new() }
    }
}

impl Forecast for Raw {
    fn observe(&mut self, round: &Stretch) {
        self.recent.push(*round);
    }

    fn foresee(&self, left: Left) -> Option<Foreseen> {
        let sent = self.recent.sum(|_| true);
        let bytes = left.pages.saturating_mul(4096);
        let foreseen = proportion(left, bytes, sent.bytes, sent.seconds)?;
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory stay under 2^53")]
        Some(Foreseen { bytes: Some(bytes as f64), ..foreseen })
    }
}

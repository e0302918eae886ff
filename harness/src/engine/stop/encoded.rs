//! Bytes of the pages that are left, as they will be encoded, over the speed of the wire; or their time in the engine, whichever is
//! longer, since the two overlap.
//!
//! `estimate = queued + max(pages x b / r, pages x t)`, with
//! - `b`: bytes a page on the wire and `t`: seconds a page in policy, codec and socket, of the newest rounds after the first. In the
//!   first one every page is sent for the first time, which no later page is. Before a second round was sent they come from a probe: up
//!   to 64 of the pages that are left are encoded, and thrown away. So savings of delta are seen before the first delta is sent. A
//!   policy that can't be probed has the figures of the first round.
//! - `r`: the rate of the link. A link without one has no bound but the engine's time.

use super::recent::Recent;
use super::{Forecast, Foreseen, Left, Probe};
use crate::engine::round::Stretch;

/// The forecast.
#[derive(Debug)]
pub struct Encoded {
    rate: Option<f64>,
    recent: Recent,
    /// Whether a round of pages that were sent before was sent.
    again: bool,
    probe: Option<Probe>,
}

impl Encoded {
    /// Over a link of that rate in bytes per second.
    pub fn new(rate: Option<f64>) -> Self {
        Self { rate, recent: Recent::new(), again: false, probe: None }
    }

    /// Bytes and seconds a page.
    #[expect(clippy::cast_precision_loss, reason = "counts of a migration stay under 2^53")]
    fn per_page(&self) -> Option<(f64, f64)> {
        let sent = self.recent.sum(|round| !self.again || !round.first);
        let looked = sent.pages as f64;
        let observed = (sent.pages > 0).then(|| (sent.bytes as f64 / looked, sent.engine / looked));
        match (self.probe.filter(|probe| !self.again && probe.pages > 0), observed) {
            (Some(probe), Some((_, seconds))) => {
                let pages = probe.pages as f64;
                // What the socket takes of a page is not in the probe: no less than its share of what whole pages take.
                let share = probe.bytes as f64 / sent.bytes.max(1) as f64 * looked / pages;
                Some((probe.bytes as f64 / pages, probe.seconds / pages + seconds * share.min(1.0)))
            }
            (_, observed) => observed,
        }
    }
}

impl Forecast for Encoded {
    fn observe(&mut self, round: &Stretch) {
        self.again |= !round.first && round.pages > 0;
        self.recent.push(*round);
    }

    fn wants_probe(&self) -> bool {
        !self.again
    }

    fn probed(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a migration stay under 2^53")]
    fn foresee(&self, left: Left) -> Option<Foreseen> {
        if left.pages == 0 {
            return Some(Foreseen { total: left.queued, bytes: Some(0.0), overhead: 0.0 });
        }
        let (bytes, seconds) = self.per_page()?;
        let pages = left.pages as f64;
        let wire = self.rate.map_or(0.0, |rate| pages * bytes / rate);
        let total = left.queued + wire.max(pages * seconds);
        Some(Foreseen { total, bytes: Some(pages * bytes), overhead: 0.0 })
    }
}

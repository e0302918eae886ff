//! Remaining pages over pages per second.
//!
//! `estimate = queued + pages x seconds / pages sent`, over at least the last 10 ms of sending, without zero pages. It sees what delta
//! saves, once it has saved something.

use super::recent::Recent;
use super::{Forecast, Foreseen, Left};
use crate::engine::round::Stretch;

/// The forecast.
#[derive(Debug)]
pub struct Pages {
    recent: Recent,
}

impl Pages {
    /// Before anything was sent.
    pub fn new() -> Self {
        Self { recent: Recent::new() }
    }
}

impl Forecast for Pages {
    fn observe(&mut self, round: &Stretch) {
        self.recent.push(*round);
    }

    fn foresee(&self, left: Left) -> Option<Foreseen> {
        let sent = self.recent.sum(|_| true);
        proportion(left, left.pages, sent.pages, sent.seconds)
    }
}

/// What `amount` takes when `done` took so many seconds, behind what is queued.
#[expect(clippy::cast_precision_loss, reason = "counts stay far under 2^53")]
pub fn proportion(left: Left, amount: u64, done: u64, seconds: f64) -> Option<Foreseen> {
    let sending = match amount {
        0 => 0.0,
        _ if done == 0 || seconds <= 0.0 => return None,
        _ => amount as f64 * seconds / done as f64,
    };
    Some(Foreseen { total: left.queued + sending, ..Foreseen::default() })
}

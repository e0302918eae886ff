//! When pre-copy gives way to stop-and-copy: a rule, the same for every engine of a comparison, under limits that end what does not
//! converge. Every rule is a forecast of
//! the pause and a judgement of it, each one file that implements [`Forecast`] or [`StopRule`], and one line in `rule`. METHODOLOGY.md has the formulae together.
//!
//! Rules know what was sent, by rounds, and what is left. They count bytes that have left the wire, and add the time that what is queued
//! takes.

mod encoded;
mod fixed;
mod pages;
mod ramp;
mod raw;
mod recent;
mod rounds;
mod stall;
#[cfg(test)]
mod tests;

use std::fmt;

use migbench_reports::record::{Decided, Decision};
use migbench_scenarios::cell::{Rule, StopRule as Settings};

use super::round::Stretch;

/// What is left to send when a rule is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Left {
    /// Pages that are dirty.
    pub pages: u64,
    /// Seconds until what is queued has left the wire.
    pub queued: f64,
    /// Seconds that the last look at the tracker took.
    pub harvest: f64,
}

/// Some of the pages that are left, as they would be encoded now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Probe {
    /// How many.
    pub pages: u64,
    /// Bytes of them on the wire.
    pub bytes: u64,
    /// Seconds that encoding took.
    pub seconds: f64,
}

/// What a pause takes beside sending pages, as far as it was measured before. Times are seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overhead {
    /// Pausing every vCPU and saving its state.
    pub pause: f64,
    /// From letting vCPUs go until every one was entered.
    pub resume: f64,
    /// One round trip over the link.
    pub round_trip: f64,
    /// Bytes of the vCPUs' state.
    pub state: u64,
}

/// What a rule foresees of a pause now. Times are seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Foreseen {
    /// All of it.
    pub total: f64,
    /// Bytes of the pages that are left, where the rule counts in bytes.
    pub bytes: Option<f64>,
    /// What is in `total` beside pages and queue.
    pub overhead: f64,
}

/// What is foreseen of a pause.
pub trait Forecast: fmt::Debug {
    /// Takes note of a round that was sent.
    fn observe(&mut self, round: &Stretch);

    /// Whether it wants to know how pages that are left would be encoded.
    fn wants_probe(&self) -> bool {
        false
    }

    /// Takes note of that.
    fn probed(&mut self, _probe: Probe) {}

    /// What a pause now would be; none before anything is known.
    fn foresee(&self, left: Left) -> Option<Foreseen>;
}

/// Which pause is short enough.
pub trait StopRule: fmt::Debug {
    /// The longest pause for which it switches over before round `next`; none where that does not matter to it.
    fn limit(&self, next: u32) -> Option<f64>;

    /// Whether it switches over before round `next`, when that is foreseen.
    fn is_met(&self, foreseen: Option<Foreseen>, next: u32) -> bool {
        foreseen.zip(self.limit(next)).is_some_and(|(foreseen, limit)| foreseen.total <= limit)
    }

    /// Another round follows although that was foreseen.
    fn goes_on(&mut self, _foreseen: Option<Foreseen>) {}
}

/// A pause within a limit in seconds.
#[derive(Debug)]
struct Within(f64);

impl StopRule for Within {
    fn limit(&self, _: u32) -> Option<f64> {
        Some(self.0)
    }
}

/// Forecast and rule of a cell, whose link keeps to `rate` bytes per second where it has a limit.
fn rule(
    settings: &Settings,
    rate: Option<f64>,
    overhead: Overhead,
) -> (Box<dyn Forecast>, Box<dyn StopRule>) {
    let (rule, limit) = (settings.rule(), settings.downtime_limit.0);
    let forecast: Box<dyn Forecast> = match rule {
        Rule::Pages => Box::new(pages::Pages::new()),
        Rule::Raw => Box::new(raw::Raw::new()),
        Rule::Encoded => Box::new(encoded::Encoded::new(rate)),
        Rule::Fixed | Rule::Ramp | Rule::Stall | Rule::Rounds => Box::new(fixed::Fixed::new(rate, overhead)),
    };
    let rule: Box<dyn StopRule> = match rule {
        Rule::Pages | Rule::Raw | Rule::Encoded | Rule::Fixed => Box::new(Within(limit)),
        Rule::Ramp => Box::new(ramp::Ramp::new(limit, settings.ramp_steps)),
        Rule::Stall => Box::new(stall::Stall::new(limit, settings.ceiling.0)),
        Rule::Rounds => Box::new(rounds::Rounds::new(settings.rounds)),
    };
    (forecast, rule)
}

/// A rule and the limits over it.
#[derive(Debug)]
pub struct Stop {
    forecast: Box<dyn Forecast>,
    rule: Box<dyn StopRule>,
    max_rounds: u32,
    /// Nanoseconds.
    max_time: u64,
}

impl Stop {
    /// At the start of a migration over a link that keeps to `rate` bytes per second where it has a limit.
    #[must_use]
    pub fn new(settings: &Settings, rate: Option<f64>, overhead: Overhead) -> Self {
        let max_time = u64::try_from(settings.max_time.duration().as_nanos()).unwrap_or(u64::MAX);
        let (forecast, rule) = rule(settings, rate, overhead);
        Self { forecast, rule, max_rounds: settings.max_rounds, max_time }
    }

    /// Longest migration before a forced switchover, in nanoseconds.
    #[must_use]
    pub const fn max_time(&self) -> u64 {
        self.max_time
    }

    /// See [`Forecast::observe`].
    pub fn observe(&mut self, round: &Stretch) {
        self.forecast.observe(round);
    }

    /// See [`Forecast::wants_probe`].
    #[must_use]
    pub fn wants_probe(&self) -> bool {
        self.forecast.wants_probe()
    }

    /// See [`Forecast::probed`].
    pub fn probed(&mut self, probe: Probe) {
        self.forecast.probed(probe);
    }

    /// Whether pre-copy would end before round `next`. `late`: the longest time is over.
    #[must_use]
    pub fn ends(&self, left: Left, next: u32, late: bool) -> bool {
        self.rule.is_met(self.forecast.foresee(left), next) || self.is_over(next, late)
    }

    const fn is_over(&self, next: u32, late: bool) -> bool {
        next >= self.max_rounds || late
    }

    /// What to do before round `next`, and all that was known. `late`: the longest time is over.
    pub fn decide(&mut self, left: Left, next: u32, late: bool) -> Decision {
        // By the limit that decides: that of the next round may follow from what was foreseen now.
        let (foreseen, limit) = (self.forecast.foresee(left), self.rule.limit(next));
        let decided = if self.rule.is_met(foreseen, next) {
            Decided::SwitchOver
        } else if self.is_over(next, late) {
            Decided::Capped
        } else {
            self.rule.goes_on(foreseen);
            Decided::Continue
        };
        Decision {
            decided,
            pages: left.pages,
            queued: left.queued,
            estimate: foreseen.map(|foreseen| foreseen.total),
            bytes: foreseen.and_then(|foreseen| foreseen.bytes),
            overhead: foreseen.map(|foreseen| foreseen.overhead).filter(|overhead| *overhead > 0.0),
            limit,
        }
    }
}

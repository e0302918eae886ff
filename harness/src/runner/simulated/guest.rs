//! What a simulated guest does meanwhile: how many operations until when, and how long they took.

use std::collections::BTreeMap;

use migbench_reports::histogram::{self, Clock, Phase};
use migbench_scenarios::cell::Cell;

use super::course::{Work, slowdown};
use crate::guest::sampler::INTERVAL;
use crate::guest::telemetry::empty_histogram;

/// Speed, against its usual one, of a guest that catches up.
const CATCHING_UP: f64 = 1.5;
/// The same of one whose pages have all just been protected, for so many nanoseconds.
const ARMED: (f64, u64) = (0.6, 15_000_000);
/// Nanoseconds of an operation, usually.
const SERVICE: f64 = 8_000.0;
/// Times of operations against the usual one, and the share of operations that take that long. The p99.9 is the last but
/// one, so that every thousandth stalls.
const TIMES: [(f64, f64); 5] = [(0.9, 0.5), (1.1, 0.4), (1.6, 0.09), (2.5, 0.009), (6.0, 0.001)];
/// What the p99.9 is against the usual time.
pub const THRESHOLD: f64 = 2.5;

/// Moments of a migration, or of what a control does instead, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    /// The first steady window.
    pub steady: u64,
    /// The migration starts.
    pub start: u64,
    /// Every vCPU stands still; the end of a control.
    pub paused: u64,
    /// The guest goes on; the same for a control.
    pub entered: u64,
    /// The last sample.
    pub end: u64,
}

/// A guest's progress over the time of a run.
#[derive(Debug, Clone)]
pub struct SimulatedGuest {
    work: Work,
    /// From when on, at how many operations a second; ascending.
    speeds: Vec<(u64, f64)>,
    /// When it had caught up.
    pub caught_up: u64,
    /// Nanoseconds of an operation, usually.
    pub service: f64,
}

const fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, of a run")]
const fn whole(value: f64) -> u64 {
    value as u64
}

impl SimulatedGuest {
    /// The guest of `cell`. `speed` is on all of its operations, `precopy` on those during the migration, `latency` on
    /// their times. Some trackers slow it down: `tracked` says whether one was armed. A throttle keeps it out for nanoseconds of the
    /// migration, evenly.
    pub fn new(
        cell: &Cell,
        at: Moments,
        tracked: bool,
        asleep: u64,
        speed: f64,
        precopy: f64,
        latency: f64,
    ) -> Self {
        let work = Work::of(cell);
        // Who has a schedule keeps to it.
        let usual = work.operations * if work.open { 1.0 } else { speed };
        let lost = if work.open || !tracked { 1.0 } else { 1.0 - slowdown(cell.tracker) };
        let precopied = at.paused - at.start;
        let asleep = asleep.min(precopied);
        let awake = 1.0 - float(asleep) / float(precopied.max(1));
        let during = usual * lost * precopy * awake;
        let mut speeds = vec![(at.steady, usual)];
        if tracked {
            speeds.push((at.start, usual * ARMED.0));
        }
        speeds.push((if tracked { (at.start + ARMED.1).min(at.paused) } else { at.start }, during));
        speeds.push((at.paused, 0.0));
        let missed = float(at.entered - at.paused + asleep);
        let late = if work.open { whole(missed / (CATCHING_UP - 1.0)) } else { 0 };
        let caught_up = at.entered + late;
        speeds.push((at.entered, usual * CATCHING_UP));
        speeds.push((caught_up, usual));
        Self { work, speeds, caught_up, service: SERVICE * latency }
    }

    /// Operations ended until `time`.
    pub fn operations(&self, time: u64) -> f64 {
        let ends = self.speeds.iter().skip(1).map(|next| next.0).chain([u64::MAX]);
        let parts = self.speeds.iter().zip(ends).map(|(&(from, speed), until)| {
            speed * float(time.min(until).saturating_sub(from.min(time))) / 1e9
        });
        parts.sum()
    }

    /// Operations in `[from, to)`.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        whole(self.operations(to) - self.operations(from))
    }

    /// Page writes of so many operations.
    pub fn writes(&self, operations: u64) -> u64 {
        whole(float(operations) * self.work.writes)
    }

    /// Page writes per second before the migration.
    pub fn write_rate(&self) -> f64 {
        self.speeds[0].1 * self.work.writes
    }

    /// The most operations overdue after a pause of so many nanoseconds.
    pub fn backlog(&self, paused: u64) -> u64 {
        whole(self.work.operations * float(paused) / 1e9)
    }

    /// Samples from `from` to `to`, as a sampler takes them.
    pub fn samples(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        // Step by step, since a sum over all speeds for each of thousands would take long.
        let mut samples = Vec::with_capacity(usize::try_from((to - from) / INTERVAL + 1).unwrap_or(0));
        let (mut done, mut before) = (self.operations(from), from);
        let mut time = from;
        while time <= to {
            done += self.operations_since(before, time);
            before = time;
            samples.push((time, whole(done)));
            time += INTERVAL;
        }
        samples
    }

    fn operations_since(&self, from: u64, to: u64) -> f64 {
        let speed_at = |time: u64| self.speeds.iter().rev().find(|(since, _)| *since <= time);
        match (speed_at(from), speed_at(to)) {
            (Some(a), Some(b)) if a.0 == b.0 => a.1 * float(to - from) / 1e9,
            _ => self.operations(to) - self.operations(from),
        }
    }

    /// Histograms as the guest of `cell` keeps them. `dark`: nanoseconds of the blackout; none without a migration.
    pub fn histograms(&self, cell: &Cell, at: Moments, dark: Option<u64>) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        if !cell.timing {
            return all;
        }
        let program = cell.settings.program;
        let reads = cell.settings.reads;
        for name in program.operations() {
            let share = match (program.reads_alone(), *name == program.writing()) {
                (true, true) => 1.0 - reads,
                (true, false) => reads,
                (false, _) => 1.0 / float(program.operations().len() as u64),
            };
            let mut keep_all = |clock, phase, times: &[(f64, f64)]| {
                let mut histogram = empty_histogram();
                for &(time, count) in times {
                    histogram.saturating_record_n(whole(time).max(1), whole(count.round()));
                }
                if !histogram.is_empty()
                    && let Ok(text) = histogram::encode(&histogram)
                {
                    all.insert(histogram::key(name, clock, phase), text);
                }
            };
            let mut keep = |clock, phase, count: f64, usual: f64| {
                keep_all(clock, phase, &TIMES.map(|(time, part)| (usual * time, count * share * part)));
            };
            let count = |from, to| float(self.between(from, to));
            let until = self.caught_up.min(at.end);
            let phases = [
                (Phase::Steady, at.steady, at.start, 1.0, 1.2),
                (Phase::Precopy, at.start, at.paused, 1.3, 2.0),
                (Phase::After, if dark.is_some() { until } else { at.entered }, at.end, 1.0, 1.2),
            ];
            for (phase, from, to, service, response) in phases {
                keep(Clock::Service, phase, count(from, to), self.service * service);
                if self.work.open {
                    keep(Clock::Response, phase, count(from, to), self.service * response);
                }
            }
            let Some(dark) = dark else { continue };
            if self.work.open {
                keep(Clock::Service, Phase::Catchup, count(at.entered, until), self.service / CATCHING_UP);
                // Late by half of the pause, on average.
                keep(Clock::Response, Phase::Catchup, count(at.entered, until), float(dark) * 0.5);
            }
            if *name == program.writing() {
                let paused = [(float(dark), f64::from(cell.vcpus))];
                keep_all(Clock::Service, Phase::Switchover, &paused);
                if self.work.open {
                    keep_all(Clock::Response, Phase::Switchover, &paused);
                }
            }
        }
        all
    }
}

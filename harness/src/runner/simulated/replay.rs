//! Recorded migrations, played again under other stop rules: what each round found and took is as it was recorded, as far as it goes; what
//! comes after the last recorded round comes in at the pace of that round, and takes what its pages took. Where a rule stops earlier than the recorded one did, its
//! paused round is the next recorded round.

use std::path::Path;
use std::sync::Arc;

use migbench_reports::metric::{self, MetricKey};
use migbench_reports::record::{Decided, Record, Round, RunKind, Status};
use migbench_reports::settings::{self, Flat};
use migbench_reports::store::{Accept, RunData, StoreError};
use migbench_scenarios::cell::Cell;
use migbench_workloads::units::PAGE_SIZE;

use super::course::{Course, Leg, Times};
use crate::engine::round::Stretch;
use crate::engine::stop::{Left, Overhead, Probe, Stop};

/// The migrations of a run directory.
#[derive(Debug, Clone)]
pub struct Replay {
    runs: Arc<Vec<(Flat, Record)>>,
}

impl PartialEq for Replay {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.runs, &other.runs)
    }
}

/// What tells cells apart whose migrations are alike until a rule decides.
fn around(cell: &Cell) -> Flat {
    let mut flat = settings::flat(cell);
    flat.retain(|path, _| !path.starts_with("stop.") && path != "binary" && path != "side");
    flat
}

impl Replay {
    /// Of a run directory.
    ///
    /// # Errors
    /// As the directory.
    pub fn load(directory: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(RunData::load_as(directory, Accept::Simulated)?.records))
    }

    fn of(records: Vec<Record>) -> Self {
        let is_one = |record: &Record| {
            record.kind == RunKind::Timed
                && record.status != Status::Failed
                && record.rounds.last().is_some_and(|round| round.paused)
                && record.rounds.len() > 1
        };
        let runs = records.into_iter().filter(is_one).map(|record| (around(&record.cell), record)).collect();
        Self { runs: Arc::new(runs) }
    }

    /// The migration that a run of `cell` with that `seed` plays: its own where it was recorded, else one of its block with the most
    /// rounds, else any.
    #[must_use]
    pub fn find(&self, cell: &Cell, seed: u64) -> Option<&Record> {
        let wanted = around(cell);
        let alike: Vec<&Record> =
            self.runs.iter().filter(|(around, _)| *around == wanted).map(|(_, record)| record).collect();
        let of_block = alike.iter().copied().filter(|record| record.seed == seed);
        let own = of_block.clone().find(|record| record.cell.stop == cell.stop);
        let longest = || of_block.max_by_key(|record| record.rounds.len());
        let any = || alike.get(usize::try_from(seed % alike.len().max(1) as u64).unwrap_or(0)).copied();
        own.or_else(longest).or_else(any)
    }
}

fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, not negative")]
fn count(value: f64) -> u64 {
    value.round() as u64
}

/// A recorded round as one of so many dirty pages.
fn leg(recorded: &Round, number: u32, dirty: u64, paused: bool) -> Leg {
    let share = if recorded.dirty_pages == 0 { 1.0 } else { float(dirty) / float(recorded.dirty_pages) };
    let scaled = |pages: u64| count(float(pages) * share);
    let time = |stage: Option<f64>| stage.unwrap_or(0.0) * share;
    let round = Round {
        round: number,
        dirty_pages: dirty,
        pages_full: scaled(recorded.pages_full),
        pages_zero: scaled(recorded.pages_zero),
        pages_delta: scaled(recorded.pages_delta),
        pages_unchanged: scaled(recorded.pages_unchanged),
        pages_overflow: scaled(recorded.pages_overflow),
        wire_idle: recorded.wire_idle,
        paused,
        ..Round::default()
    };
    let times = Times {
        harvest: recorded.harvest_time.unwrap_or(0.0),
        encode: time(recorded.encode_time) + time(recorded.copy_time),
        send: time(recorded.send_time) + time(recorded.wait_time),
    };
    Leg { round, times, traffic: Some(scaled(recorded.traffic)) }
}

/// The recorded migration under the rule of `cell`.
#[must_use]
pub fn play(recorded: &Record, cell: &Cell) -> Course {
    let of = |key| metric::value(&recorded.metrics, key).unwrap_or(0.0);
    let rounds = &recorded.rounds;
    let all = cell.memory.0 / PAGE_SIZE;
    let mut course = Course {
        arm: of(MetricKey::SetupTime),
        pause: of(MetricKey::DowntimePause),
        state: of(MetricKey::DowntimeState),
        resume: of(MetricKey::DowntimeResume),
        decode: of(MetricKey::DecodeTime),
        prepare: of(MetricKey::DestinationPrepareTime),
        asleep: metric::value(&recorded.metrics, MetricKey::ThrottledTime)
            .map(|slept| slept / f64::from(cell.vcpus)),
        ..Course::default()
    };
    // What lies between the paused round and the word that the guest runs, of which downtime's parts are known.
    let after = rounds.last().map_or(0.0, |last| of(MetricKey::TotalTime) - last.start - last.duration);
    course.word = (after - course.state - course.resume).max(0.0);
    let rate = cell.link.rate.map(|rate| float(rate.0));
    let overhead = Overhead {
        pause: course.pause / 2.0,
        resume: course.resume,
        round_trip: course.state / 2.0,
        state: 0,
    };
    let mut stop = Stop::new(&cell.stop, rate, overhead);
    let at = |number: u32| rounds.get(number as usize).or(rounds.last());
    // What was found after the last running round, and while how long it came in.
    let (newest, during) = match &rounds[..] {
        [.., running, last] => (float(last.dirty_pages), running.duration),
        _ => (0.0, 0.0),
    };
    let mut elapsed = course.arm;
    let mut dirty = rounds.first().map_or(all, |first| first.dirty_pages);
    let mut number = 0;
    while let Some(recorded) = at(number) {
        let mut this = leg(recorded, number, dirty, false);
        let lasted = this.times.all();
        elapsed += lasted;
        // Waiting for the queue of a link is not the engine's doing.
        let share = float(dirty) / float(recorded.dirty_pages.max(1));
        let waited = recorded.wait_time.unwrap_or(0.0) * share;
        stop.observe(&Stretch {
            seconds: this.times.encode + this.times.send,
            engine: this.times.encode + this.times.send - waited,
            pages: this.round.dirty_pages.saturating_sub(this.round.pages_zero),
            bytes: this.traffic.unwrap_or(0),
            first: number == 0,
        });
        number += 1;
        let next = at(number).unwrap_or(recorded);
        // After the last recorded round pages come in at the newest pace.
        dirty = match rounds.get(number as usize) {
            Some(next) => next.dirty_pages,
            None if during > 0.0 => count(newest * lasted / during).min(all),
            None => next.dirty_pages,
        };
        if stop.wants_probe() && next.dirty_pages > 0 {
            let seconds = next.encode_time.unwrap_or(0.0);
            stop.probed(Probe { pages: next.dirty_pages, bytes: next.traffic, seconds });
        }
        let harvest = next.harvest_time.unwrap_or(0.0);
        let queued = recorded.decision.map_or(0.0, |decision| decision.queued);
        let left = Left { pages: dirty, queued, harvest };
        let late = elapsed + harvest >= cell.stop.max_time.0;
        let decision = stop.decide(left, number, late);
        (this.round.estimate, this.round.decision) = (decision.estimate, Some(decision));
        course.legs.push(this);
        if decision.decided != Decided::Continue {
            course.capped = decision.decided == Decided::Capped;
            // Between two recorded rounds lie the deciding harvest, the rest of the queue, and the pause.
            let between = next.start - recorded.start - recorded.duration - course.pause;
            let is_recorded = next.paused && (number as usize) < rounds.len();
            course.decided = if is_recorded { between.max(0.0) } else { harvest };
            course.legs.push(leg(next, number, dirty, true));
            return course;
        }
    }
    course
}

/// How well the rules that were recorded are foreseen by playing their own migrations again: of each figure, how many, the median of the
/// errors without their signs, and the largest, as shares.
#[must_use]
pub fn errors(played: &[Record], recorded: &Replay) -> Vec<(MetricKey, usize, f64, f64)> {
    let twin = |played: &Record| {
        let found = recorded.find(&played.cell, played.seed)?;
        (found.seed == played.seed && found.cell.stop == played.cell.stop).then_some(found)
    };
    let of = |key: MetricKey| {
        let timed = played.iter().filter(|record| record.kind == RunKind::Timed);
        let error = |played: &Record| {
            let value = |record: &Record| metric::value(&record.metrics, key);
            Some((value(played)? / value(twin(played)?)? - 1.0).abs())
        };
        let mut errors: Vec<f64> = timed.filter_map(error).collect();
        errors.sort_by(f64::total_cmp);
        let largest = *errors.last()?;
        Some((key, errors.len(), migbench_reports::stats::median(&errors)?, largest))
    };
    [MetricKey::TotalTime, MetricKey::Downtime, MetricKey::Traffic].into_iter().filter_map(of).collect()
}

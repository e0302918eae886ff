//! Recorded migrations, played again under other stop rules: what each round found and took is as it was recorded, as far as it goes; what
//! comes after the last recorded round comes in at the pace of that round, and takes what its pages took. Where a rule stops earlier than the recorded one did, its
//! paused round is the next recorded round.

use std::path::Path;
use std::sync::Arc;

use migbench_reports::hindsight;
use migbench_reports::metric::{self, MetricKey};
use migbench_reports::record::{Decided, Record, Round, RunKind, Status};
use migbench_reports::settings::{self, Flat};
use migbench_reports::store::{Accept, RunData, StoreError};
use migbench_scenarios::cell::Cell;
use migbench_workloads::units::{PAGE_SIZE, Rate};

use super::course::{Course, Leg, Times, sends};
use crate::engine::policy::can_be_probed;
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

/// A recorded round as one of so many dirty pages. Its bytes are queued by its end, but of a paused one they have left.
fn leg(recorded: &Round, number: u32, dirty: u64, rate: Option<Rate>, paused: bool) -> Leg {
    let share = if recorded.dirty_pages == 0 { 1.0 } else { float(dirty) / float(recorded.dirty_pages) };
    let scaled = |pages: u64| count(float(pages) * share);
    let time = |stages: &[Option<f64>]| stages.iter().copied().flatten().sum::<f64>();
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
    let encode = time(&[recorded.copy_time, recorded.encode_time]);
    let send = if paused {
        hindsight::sending(recorded, rate) - encode
    } else {
        time(&[recorded.send_time, recorded.wait_time])
    };
    let times =
        Times { harvest: recorded.harvest_time.unwrap_or(0.0), encode: encode * share, send: send * share };
    Leg { round, times, traffic: Some(scaled(recorded.traffic)) }
}

/// What the recorded rule counted beside pages, but for the harvest, of which a decision after a wait has the last look alone: the most. What
/// the pause had beside pages where it counted nothing.
fn overhead(recorded: &Record) -> Overhead {
    let rounds = recorded.rounds.iter().zip(recorded.rounds.iter().skip(1));
    let counted = rounds.filter_map(|(round, next)| {
        Some(round.decision?.overhead? - next.harvest_time.unwrap_or(0.0)).filter(|_| !next.paused)
    });
    let of = |key| metric::value(&recorded.metrics, key).unwrap_or(0.0);
    let measured = || {
        [MetricKey::DowntimePause, MetricKey::DowntimeState, MetricKey::DowntimeResume].map(of).iter().sum()
    };
    Overhead { resume: counted.reduce(f64::max).unwrap_or_else(measured), ..Overhead::default() }
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
        delta: count(of(MetricKey::DeltaBytesPerPage)),
        ..Course::default()
    };
    let [.., running, last] = &rounds[..] else { return course };
    // What lies between the end of the pause and the word that the guest runs.
    let paused = last.start - course.pause;
    course.word = (of(MetricKey::TotalTime) - paused - of(MetricKey::Downtime)).max(0.0);
    let link = cell.link.rate;
    let mut stop = Stop::new(&cell.stop, link.map(|rate| float(rate.0)), overhead(recorded));
    let at = |number: u32| rounds.get(number as usize).unwrap_or(last);
    // What came in during the last running round.
    let unsent = running.dirty_pages.saturating_sub(sends(running));
    let found = running.decision.map_or(last.dirty_pages, |decision| decision.pages);
    let newest = float(found.saturating_sub(unsent));
    let mut elapsed = course.arm;
    let mut dirty = rounds.first().map_or(all, |first| first.dirty_pages);
    let mut number = 0;
    loop {
        let recorded_round = at(number);
        let mut this = leg(recorded_round, number, dirty, link, false);
        let lasted = this.times.all();
        elapsed += lasted;
        let share = float(dirty) / float(recorded_round.dirty_pages.max(1));
        stop.observe(&Stretch {
            seconds: share * hindsight::sending(recorded_round, link),
            engine: share * hindsight::sending(recorded_round, None),
            pages: sends(&this.round) - this.round.pages_zero,
            bytes: this.traffic.unwrap_or(0),
            first: number == 0,
        });
        number += 1;
        let next = at(number);
        // After the last recorded round pages come in at the newest pace.
        dirty = match rounds.get(number as usize) {
            Some(next) => next.dirty_pages,
            None => count(newest * lasted / running.duration.max(1e-9)).min(all),
        };
        if can_be_probed(cell) && stop.wants_probe() && next.dirty_pages > 0 {
            let seconds = next.encode_time.unwrap_or(0.0);
            stop.probed(Probe { pages: next.dirty_pages, bytes: next.traffic, seconds });
        }
        // What is queued leaves before the rule is asked.
        let harvest = next.harvest_time.unwrap_or(0.0);
        let left = Left { pages: dirty, queued: 0.0, harvest };
        let decision = stop.decide(left, number, elapsed + harvest >= cell.stop.max_time.0);
        (this.round.estimate, this.round.decision) = (decision.estimate, Some(decision));
        course.legs.push(this);
        if decision.decided != Decided::Continue {
            course.capped = decision.decided == Decided::Capped;
            // Between two recorded rounds lie the deciding harvest, the rest of the queue, and the pause.
            let between = next.start - recorded_round.start - recorded_round.duration - course.pause;
            let is_recorded = next.paused && (number as usize) < rounds.len();
            course.decided = if is_recorded { between.max(0.0) } else { harvest };
            let mut paused = leg(next, number, dirty, link, true);
            paused.times.harvest = last.harvest_time.unwrap_or(0.0);
            if is_recorded {
                paused.times.send = (of(MetricKey::DowntimeSend) - paused.times.encode).max(0.0);
            }
            course.legs.push(paused);
            let played = elapsed / (last.start - course.pause).max(elapsed);
            let slept = metric::value(&recorded.metrics, MetricKey::ThrottledTime);
            course.asleep = slept.map(|slept| slept / f64::from(cell.vcpus) * played);
            return course;
        }
    }
}

/// How well migrations that are played again under their own rule come out as they were recorded.
#[derive(Debug)]
pub struct Agreement {
    /// Migrations that were recorded under the rule that they were played under.
    pub migrations: usize,
    /// Of these, those that stopped after the same round.
    pub alike: usize,
    /// Of those, by figure: the median of the errors without their signs, and the largest, as shares.
    pub errors: Vec<(MetricKey, f64, f64)>,
}

impl Agreement {
    /// Of migrations that were played with what they were played from.
    #[must_use]
    pub fn of(played: &[Record], recorded: &Replay) -> Self {
        let timed = played.iter().filter(|record| record.kind == RunKind::Timed);
        let pairs: Vec<_> = timed
            .filter_map(|played| Some((played, recorded.find(&played.cell, played.seed)?)))
            .filter(|(played, twin)| twin.seed == played.seed && twin.cell.stop == played.cell.stop)
            .collect();
        let is_alike = |(played, twin): &&(&Record, &Record)| played.rounds.len() == twin.rounds.len();
        let alike: Vec<_> = pairs.iter().filter(is_alike).collect();
        let of = |key: MetricKey| {
            let value = |record: &Record| metric::value(&record.metrics, key);
            let error =
                |(played, twin): &&(&Record, &Record)| Some((value(played)? / value(twin)? - 1.0).abs());
            let errors: Vec<f64> = alike.iter().copied().filter_map(|pair| error(&pair)).collect();
            let largest = errors.iter().copied().fold(0.0, f64::max);
            Some((key, migbench_reports::stats::median(&errors)?, largest))
        };
        let figures = [MetricKey::TotalTime, MetricKey::Downtime, MetricKey::Traffic];
        let errors = figures.into_iter().filter_map(of).collect();
        Self { migrations: pairs.len(), alike: alike.len(), errors }
    }
}

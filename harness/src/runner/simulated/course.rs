//! The course of a simulated migration: the textbook model of pre-copy with the stop rule of real runs, then factors and
//! noise on what came of it.
//!
//! Noise is put on the outcome and not into the model, where a round that takes longer would let the guest dirty more and
//! so on: every time has the variation that was asked for, and no more.

use migbench_reports::record::{Decided, Record, Round};
use migbench_scenarios::cell::{Cell, Codec, Engine, Throttle, Tracker};
use migbench_workloads::settings::{Content, Pace};

use super::draw::Draws;
use super::replay;
use super::spec::{FactorTarget, Simulation};
use crate::engine::policy::can_be_probed;
use crate::engine::round::Stretch;
use crate::engine::stop::{Left, Overhead, Probe, Stop};
use crate::engine::throttle::{self, Slice};
use crate::runner::run::RunSpec;
use crate::track::{Pass, Passes, TrackOptions};

/// Bytes per second of a link without a limit.
const FAST: f64 = 1e9;
/// Bytes of a whole page on the wire, and of the mark for a zero page.
const FULL: u64 = 4097;
const ZERO: u64 = 3;
/// Bytes of frames and of the batches' heads: for each batch of so many pages, and for a round's end.
const BATCH: u64 = 64;
const HEAD: u64 = 36;
/// Bytes of the state of a vCPU.
pub const STATE: u64 = 5776;
/// Seconds for a page in the policy, and in the codec on top where there is one.
const POLICY: f64 = 2e-6;
const CODEC: f64 = 3e-6;
/// Seconds for a page at the destination.
const DECODE: f64 = 0.4e-6;
/// Bytes per second that hashing memory reaches.
const HASHED: f64 = 1e9;
/// Operations per second of a vCPU that runs flat out.
const FLAT_OUT: f64 = 25_000.0;

/// What a guest does when nothing is migrated.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Operations per second.
    pub operations: f64,
    /// Page writes per operation.
    pub writes: f64,
    /// Whether operations have times at which they are due.
    pub open: bool,
}

impl Work {
    /// Of the guest of `cell`, in the phase in which it is migrated.
    pub fn of(cell: &Cell) -> Self {
        let whole = &cell.settings;
        let held = whole.phases.get(cell.start_phase.saturating_sub(1) as usize);
        let settings = held.map_or_else(|| whole.clone(), |phase| whole.within(phase));
        let writes = ((1.0 - settings.reads) * f64::from(settings.writes)).max(1e-3);
        match settings.pace(cell.link.rate) {
            Pace::FlatOut => Self { operations: FLAT_OUT * f64::from(cell.vcpus), writes, open: false },
            Pace::Operations(operations) => Self { operations, writes, open: true },
            Pace::Writes(pages) => Self { operations: pages / writes, writes, open: true },
        }
    }
}

/// Share of its speed that a closed loop loses to a tracker.
pub const fn slowdown(tracker: Tracker) -> f64 {
    match tracker {
        Tracker::KvmBitmap => 0.05,
        Tracker::KvmManual => 0.04,
        Tracker::KvmRing => 0.06,
        Tracker::UffdWp => 0.5,
        Tracker::UffdAsync => 0.08,
    }
}

/// Seconds for each page that a tracker arms, and for each that it finds dirty.
const fn tracking(tracker: Tracker) -> (f64, f64) {
    match tracker {
        Tracker::KvmBitmap => (6e-8, 5e-8),
        Tracker::KvmManual => (1e-8, 8e-8),
        Tracker::KvmRing => (6e-8, 1e-7),
        Tracker::UffdWp => (4e-8, 6e-8),
        Tracker::UffdAsync => (4e-8, 9e-8),
    }
}

/// Seconds of a round, by what took them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Its harvest.
    pub harvest: f64,
    /// Policy and codec.
    pub encode: f64,
    /// The link.
    pub send: f64,
}

impl Times {
    /// All of them.
    pub fn all(self) -> f64 {
        self.harvest + self.encode + self.send
    }

    fn scale(&mut self, by: f64) {
        self.harvest *= by;
        self.encode *= by;
        self.send *= by;
    }
}

/// A round and its times.
#[derive(Debug, Clone, Default)]
pub struct Leg {
    /// Counts; its times and its traffic are set at the end.
    pub round: Round,
    /// Times.
    pub times: Times,
    /// Bytes, where they were recorded.
    pub traffic: Option<u64>,
}

/// A migration. Times are seconds.
#[derive(Debug, Clone, Default)]
pub struct Course {
    /// Turning the tracker on.
    pub arm: f64,
    /// Connecting.
    pub connect: f64,
    /// Rounds, the paused one last.
    pub legs: Vec<Leg>,
    /// The harvest after the last running round, which led to the pause.
    pub decided: f64,
    /// Stopping the vCPUs.
    pub pause: f64,
    /// From the last page to the word that the destination has everything; hashing memory is among it.
    pub state: f64,
    /// From there to the first entry into the guest.
    pub resume: f64,
    /// From there to the word that the guest runs.
    pub word: f64,
    /// At the destination.
    pub decode: f64,
    /// Making the destination's memory.
    pub prepare: f64,
    /// A throttle kept each vCPU out of the guest; `None` where there was none.
    pub asleep: Option<f64>,
    /// Whether a limit forced the switchover.
    pub capped: bool,
    /// Bytes of an encoded page.
    pub delta: u64,
    /// Bytes sent by kind: full, zero, delta, state, control.
    pub traffic: [u64; 5],
}

fn float(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a model, not negative"
)]
fn count(value: f64) -> u64 {
    value.round() as u64
}

/// The model of one cell.
struct Model<'a> {
    simulation: &'a Simulation,
    cell: &'a Cell,
    /// Bytes of an encoded page; `None` where pages are sent whole.
    delta: Option<u64>,
    /// Share of dirty pages that turn out to be as they were sent.
    unchanged: f64,
    written: f64,
}

impl Model<'_> {
    fn factor(&self, stage: FactorTarget) -> f64 {
        self.simulation.factor(self.cell, stage)
    }

    /// Unique pages that the guest writes in so many seconds: of pages drawn evenly, some are drawn again.
    fn dirtied(&self, seconds: f64) -> f64 {
        let set = float(self.cell.settings.working_set.0 / 4096);
        set * (1.0 - (-self.written * seconds / set).exp())
    }

    /// The share of the time that each vCPU sleeps: what keeps it to its rate, or what the throttle has come to.
    fn asleep(&self, throttle: &mut dyn throttle::Throttle) -> f64 {
        let settings = self.cell.throttle_settings.unwrap_or_default();
        let each = match self.cell.throttle {
            Throttle::None | Throttle::AutoConverge => {
                let mut vcpu = [Slice::default()];
                let cycle = throttle.look(0, &mut vcpu);
                return float(vcpu[0].nap_until) / float(cycle);
            }
            Throttle::DirtyLimit => float(settings.dirty_rate.0) / 4096.0,
            Throttle::Quota => f64::from(settings.pages) / settings.slice.0,
        };
        (1.0 - each * f64::from(self.cell.vcpus) / self.written).max(0.0)
    }

    fn harvest(&self, dirty: f64) -> f64 {
        (3e-6 + tracking(self.cell.tracker).1 * dirty) * self.factor(FactorTarget::Harvest)
    }

    fn seconds(&self, bytes: u64, encode: f64) -> f64 {
        let rate = self.cell.link.rate.map_or(FAST, |rate| float(rate.0).min(FAST));
        // A link with a limit makes up for the time in which nothing was sent.
        let send = float(bytes) * self.factor(FactorTarget::Send);
        if self.cell.link.rate.is_some() {
            (send / rate - encode).max(send / FAST / 4.0)
        } else {
            send / FAST
        }
    }

    /// All memory, for the first time.
    fn first(&self, paused: bool) -> Leg {
        let pages = self.cell.memory.0 / 4096;
        let set = self.cell.settings.working_set.0 / 4096;
        let zeros = if self.cell.elide_zero {
            count(float(pages.saturating_sub(set)) * self.cell.settings.fill.zero)
        } else {
            0
        };
        let round = Round {
            dirty_pages: pages,
            pages_zero: zeros,
            pages_full: pages - zeros,
            paused,
            ..Round::default()
        };
        self.timed(round)
    }

    /// So many dirty pages.
    fn again(&self, number: u32, dirty: u64, paused: bool) -> Leg {
        let mut round = Round { round: number, dirty_pages: dirty, paused, ..Round::default() };
        match self.delta {
            None => round.pages_full = dirty,
            Some(bytes) => {
                round.pages_unchanged = count(float(dirty) * self.unchanged);
                let changed = dirty - round.pages_unchanged;
                if bytes >= 4096 {
                    (round.pages_full, round.pages_overflow) = (changed, changed);
                } else {
                    round.pages_delta = changed;
                }
            }
        }
        self.timed(round)
    }

    fn timed(&self, mut round: Round) -> Leg {
        round.wire_idle = self.cell.link.modelled_rate().map(|_| 0.0);
        let pages = float(round.dirty_pages);
        let codec = if self.cell.codec == Codec::None { 0.0 } else { CODEC };
        let encode = pages * (POLICY + codec) * self.factor(FactorTarget::Encode);
        let bytes = bytes(&round, self.delta.unwrap_or(0)).iter().sum();
        let send = self.seconds(bytes, encode);
        Leg { round, times: Times { harvest: 0.0, encode, send }, traffic: None }
    }

    fn run(&self, forced: bool) -> Course {
        let cell = self.cell;
        let (arm, _) = tracking(cell.tracker);
        let mut course = Course {
            arm: (2e-4 + arm * float(cell.memory.0 / 4096)) * self.factor(FactorTarget::Arm),
            connect: 3e-4,
            delta: self.delta.unwrap_or(0),
            ..Course::default()
        };
        if cell.engine == Engine::StopAndCopy {
            course.legs.push(self.first(true));
        } else {
            self.precopy(&mut course, forced);
        }
        let vcpus = f64::from(cell.vcpus);
        course.pause = 1.2e-4 * vcpus * self.factor(FactorTarget::Pause);
        course.state = 3e-4 * vcpus * self.factor(FactorTarget::State);
        course.resume = 5e-5 * vcpus * self.factor(FactorTarget::Resume);
        course.word = 2e-4;
        let sent: u64 = course.legs.iter().map(|leg| leg.round.pages_full + leg.round.pages_delta).sum();
        course.decode = float(sent) * DECODE * self.factor(FactorTarget::Decode);
        course.prepare = float(cell.memory.0) / 2e9;
        course
    }

    /// Rounds until the stop rule of real runs decides; where the cap is `forced`, it may not decide for anything else.
    fn precopy(&self, course: &mut Course, forced: bool) {
        let rate = self.cell.link.rate.map(|rate| float(rate.0));
        // A simulated host rehearses nothing: the overhead is what its model has.
        let vcpus = f64::from(self.cell.vcpus);
        let overhead = Overhead {
            pause: 1.2e-4 * vcpus,
            resume: 5e-5 * vcpus,
            round_trip: 1e-4,
            state: STATE * u64::from(self.cell.vcpus),
        };
        let mut stop = Stop::new(&self.cell.stop, rate, overhead);
        let mut throttle = throttle::throttle(self.cell, self.cell.vcpus as usize);
        let mut elapsed = course.arm + course.connect;
        let mut leg = self.first(false);
        let mut number = 0;
        loop {
            let left = self.cut(&mut leg, elapsed);
            let lasted = leg.times.all();
            elapsed += lasted;
            let seen = leg.round.dirty_pages - left;
            let sent = bytes(&leg.round, course.delta).iter().sum();
            stop.observe(&Stretch {
                seconds: leg.times.encode + leg.times.send,
                // The rate of a link is not the engine's doing.
                engine: leg.times.encode + if rate.is_some() { 0.0 } else { leg.times.send },
                pages: seen - leg.round.pages_zero,
                bytes: sent,
                first: number == 0,
            });
            let share = throttle.as_mut().map_or(0.0, |throttle| self.asleep(throttle.as_mut()));
            let asleep = lasted * share;
            let dirty = (left + count(self.dirtied(lasted - asleep))).min(self.cell.memory.0 / 4096);
            if let Some(throttle) = &mut throttle {
                throttle.round(sent, dirty * 4096);
                course.asleep = Some(course.asleep.unwrap_or(0.0) + asleep);
            }
            number += 1;
            let harvest = self.harvest(float(dirty));
            elapsed += harvest;
            if can_be_probed(self.cell) && stop.wants_probe() && dirty > 0 {
                let all = self.again(number, dirty, false);
                let bytes = bytes(&all.round, course.delta).iter().sum();
                stop.probed(Probe { pages: dirty, bytes, seconds: all.times.encode });
            }
            let left = Left { pages: dirty, queued: 0.0, harvest };
            let mut decision = stop.decide(left, number, elapsed >= self.cell.stop.max_time.0);
            if forced {
                let cap = number >= self.cell.stop.max_rounds || elapsed >= self.cell.stop.max_time.0;
                decision.decided = if cap { Decided::Capped } else { Decided::Continue };
            }
            (leg.round.estimate, leg.round.decision) = (decision.estimate, Some(decision));
            course.legs.push(leg);
            if decision.decided == Decided::Continue {
                elapsed -= harvest;
                leg = self.again(number, dirty, false);
                leg.times.harvest = harvest;
                continue;
            }
            course.capped = decision.decided == Decided::Capped;
            course.decided = harvest;
            // A few more pages until every vCPU stands still.
            let more = count(self.dirtied(harvest + 1e-4));
            let mut last = self.again(number, dirty + more, true);
            last.times.harvest = self.harvest(float(more));
            course.legs.push(last);
            return;
        }
    }

    /// Ends a round at the longest time of a migration, and gives the pages that stay.
    fn cut(&self, leg: &mut Leg, elapsed: f64) -> u64 {
        let room = self.cell.stop.max_time.0 - elapsed;
        let lasted = leg.times.all();
        if lasted <= room {
            return 0;
        }
        let share = (room / lasted).clamp(0.0, 1.0);
        let round = &mut leg.round;
        let before = sends(round);
        for pages in counts(round) {
            *pages = count(float(*pages) * share);
        }
        leg.times.encode *= share;
        leg.times.send *= share;
        before - sends(round)
    }
}

/// Pages that a round looked at.
pub fn sends(round: &Round) -> u64 {
    round.pages_full + round.pages_zero + round.pages_delta + round.pages_unchanged
}

fn counts(round: &mut Round) -> [&mut u64; 5] {
    [
        &mut round.pages_full,
        &mut round.pages_zero,
        &mut round.pages_delta,
        &mut round.pages_unchanged,
        &mut round.pages_overflow,
    ]
}

/// Bytes of a round: full, zero, delta, state, control.
fn bytes(round: &Round, delta: u64) -> [u64; 5] {
    [
        round.pages_full * FULL,
        round.pages_zero * ZERO,
        round.pages_delta * (delta + 3),
        0,
        sends(round).div_ceil(BATCH) * HEAD + HEAD,
    ]
}

/// The course of the run of `cell` with that `seed`, on a host that is so many times `slower` than at first. `forced`: it
/// does not converge.
pub fn of(
    simulation: &Simulation,
    recorded: Option<&Record>,
    cell: &Cell,
    seed: u64,
    verify: bool,
    slower: f64,
    forced: bool,
) -> Course {
    if let Some(recorded) = recorded {
        let mut course = replay::play(recorded, cell);
        derive(&mut course, 1.0);
        return course;
    }
    let change = cell.settings.change;
    let delta = u64::from(change.bytes + 4 * change.pieces + 40);
    let work = Work::of(cell);
    let model = Model {
        simulation,
        cell,
        delta: (cell.codec != Codec::None).then_some(delta),
        unchanged: if cell.settings.content == Content::Same { 0.9 } else { 0.1 },
        written: work.operations * work.writes * simulation.factor(cell, FactorTarget::Dirty),
    };
    let mut course = model.run(forced);
    disturb(&mut course, simulation, cell, seed, slower);
    if verify {
        course.state += float(cell.memory.0) / HASHED;
    }
    derive(&mut course, simulation.factor(cell, FactorTarget::Traffic));
    course
}

/// Passes without a migration, of a guest whose every page is written once in each.
pub fn passes(simulation: &Simulation, spec: &RunSpec, slower: f64, options: TrackOptions) -> Passes {
    let cell = &spec.cell;
    let mut draws = Draws::of_run(simulation, spec.seed, cell, "passes");
    let mut time =
        |usual: f64, stage| usual * slower * draws.factor(simulation.noise) * simulation.factor(cell, stage);
    let (memory, working_set) = (float(cell.memory.pages().0), cell.settings.working_set.pages().0);
    let (pages, (to_arm, to_find)) = (float(working_set), tracking(cell.tracker));
    let unlogged = time(pages * 1e-7, FactorTarget::TotalTime);
    let pass = |_| Pass {
        guest: unlogged + time(pages * 1e-6, FactorTarget::TotalTime),
        writes: working_set,
        harvest: time(pages * to_find, FactorTarget::Harvest),
        rearm: time(pages * to_arm, FactorTarget::Arm),
        dirty: working_set,
    };
    let passes = (0..options.passes).map(pass).collect();
    let populate = time(pages * 5e-7, FactorTarget::TotalTime);
    let [arm, disarm] = [(); 2].map(|()| time(memory * to_arm, FactorTarget::Arm));
    Passes { populate, unlogged, arm, passes, disarm }
}

/// Noise, drift, and the factors that apply after everything else.
fn disturb(course: &mut Course, simulation: &Simulation, cell: &Cell, seed: u64, slower: f64) {
    let mut draws = Draws::of_run(simulation, seed, cell, "times");
    let mut pages = Draws::of_run(simulation, seed, cell, "pages");
    let pair = Draws::of_pair(simulation, seed).factor(simulation.block_noise);
    // Four fifths in common and three of its own: each stage varies as asked, and so does, nearly, their sum.
    let common = draws.factor(0.8 * simulation.noise) * pair * slower;
    let all = common * simulation.factor(cell, FactorTarget::TotalTime);
    let down = simulation.factor(cell, FactorTarget::Downtime);
    let mut own = || all * draws.factor(0.6 * simulation.noise);
    let (harvest, encode, send) = (own(), own(), own());
    for time in [&mut course.arm, &mut course.connect, &mut course.word] {
        *time *= own();
    }
    for time in [&mut course.pause, &mut course.state, &mut course.resume] {
        *time *= own() * down;
    }
    course.decode *= own();
    course.asleep = course.asleep.map(|asleep| asleep * send);
    course.prepare *= common;
    course.decided *= harvest;
    let dirty = pages.factor(simulation.noise);
    for leg in &mut course.legs {
        leg.times.harvest *= harvest;
        leg.times.encode *= encode;
        leg.times.send *= send;
        if leg.round.paused {
            leg.times.scale(down);
        }
        if leg.round.round > 0 {
            let before = sends(&leg.round);
            for pages in counts(&mut leg.round) {
                *pages = count(float(*pages) * dirty);
            }
            let left = leg.round.dirty_pages.saturating_sub(before);
            leg.round.dirty_pages = sends(&leg.round) + left;
        }
    }
}

/// Derives what follows from everything else: the traffic, and when rounds begin and how long they take.
fn derive(course: &mut Course, weight: f64) {
    let mut at = course.arm + course.connect;
    let (decided, pause, delta) = (course.decided, course.pause, course.delta);
    for Leg { round, times, traffic } in &mut course.legs {
        if round.paused {
            at += decided + pause;
        }
        let mut bytes = bytes(round, delta);
        if let Some(traffic) = traffic {
            // Of recorded rounds the sum alone is known; its kinds are in proportion to what the model makes of the pages.
            let modelled: u64 = bytes.iter().sum();
            bytes = bytes.map(|of_kind| count(float(of_kind) * float(*traffic) / float(modelled)));
            bytes[4] += traffic.saturating_sub(bytes.iter().sum());
        }
        for (kind, of_round) in course.traffic.iter_mut().zip(&mut bytes) {
            *of_round = count(float(*of_round) * weight);
            *kind += *of_round;
        }
        round.traffic = bytes.iter().sum();
        round.start = at;
        round.duration = times.all();
        round.harvest_time = Some(times.harvest);
        round.encode_time = Some(times.encode);
        round.send_time = Some(times.send);
        at += round.duration;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn courses(spec: &str) -> Vec<Course> {
        let plan = migbench_scenarios::Suite::find("quick").unwrap().expand().unwrap();
        let cells = plan.comparisons.iter().flat_map(|comparison| &comparison.cells);
        let cell = cells.map(|planned| &planned.cell).find(|cell| cell.engine == Engine::Full).unwrap();
        let simulation = spec.parse().unwrap();
        (0..4_000).map(|seed| of(&simulation, None, cell, seed, false, 1.0, false)).collect()
    }

    fn variation(courses: &[Course], of: impl Fn(&Course) -> f64) -> f64 {
        let count = float(courses.len() as u64);
        let mean = courses.iter().map(&of).sum::<f64>() / count;
        (courses.iter().map(|course| (of(course) / mean - 1.0).powi(2)).sum::<f64>() / count).sqrt()
    }

    fn total(course: &Course) -> f64 {
        let ends = course.legs.last().map_or(0.0, |leg| leg.round.start + leg.round.duration);
        ends + course.state + course.resume + course.word
    }

    #[test]
    fn noise_is_as_wide_as_was_asked_for() {
        let courses = courses("noise=0.1");
        for (stage, found) in [
            ("arm", variation(&courses, |course| course.arm)),
            ("resume", variation(&courses, |course| course.resume)),
            ("encode", variation(&courses, |course| course.legs[0].times.encode)),
            ("send", variation(&courses, |course| course.legs[0].times.send)),
            ("pages", variation(&courses, |course| float(course.legs[1].round.pages_full))),
        ] {
            assert!((found - 0.1).abs() < 0.006, "{stage}: {found}");
        }
        // Stages vary in part by themselves, which averages out a little.
        let found = variation(&courses, total);
        assert!((0.08..0.1).contains(&found), "total time: {found}");
        assert!(variation(&courses, |course| float(course.legs[0].round.traffic)) == 0.0, "the first round");
    }

    #[test]
    fn runs_of_a_block_share_what_is_the_blocks() {
        let alone = courses("noise=0.0");
        assert!(variation(&alone, total) < 1e-12);
        let found = variation(&courses("noise=0.0,block-noise=0.1"), total);
        assert!((found - 0.1).abs() < 0.006, "{found}");
    }
}

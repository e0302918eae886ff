//! What the two nodes of a simulated run report, and how it goes wrong where it is to.

use std::collections::VecDeque;
use std::time::Duration;

use migbench_reports::record::MemoryProof;
use migbench_reports::record::{Cause, Round};
use migbench_scenarios::cell::{Cache, Cell, Engine, Proof};
use migbench_workloads::abi;

use super::course::{self, Course, STATE};
use super::draw::Draws;
use super::guest::{Moments, SimulatedGuest, THRESHOLD};
use super::replay::Replay;
use super::spec::{FactorTarget, Mishap, Simulation};
use crate::cache::CacheCounts;
use crate::guest::sampler::ProgressSamples;
use crate::guest::stalls::{GuestClock, RawStall, StallRing};
use crate::guest::steady::Steady;
use crate::guest::usage::Usage;
use crate::node::protocol::{
    Checked, DestinationReport, Failure, Message, PhaseWork, Role, Sending, SourceReport, Stalled,
};
use crate::runner::run::{NodeEvent, RunSpec};
use crate::vm::events;

/// When a simulated host's clock stands at the start of a run, in nanoseconds; its TSC counts the same.
const BEGIN: u64 = 1_000_000_000_000;
/// So far behind the host's is the guest's TSC.
const CLOCK: GuestClock = GuestClock { lag: 400_000_000_000, error: 400 };
/// One tick is a nanosecond.
const TSC_KHZ: u32 = 1_000_000;
/// Nanoseconds after the window that follows a migration: as real destinations have them.
const MARGIN: u64 = 100_000_000;
/// Nanoseconds that brownout looks at after a migration.
const TAIL: u64 = 1_000_000_000;
/// Seconds between harvests of `track-only`.
const PACE: f64 = 0.1;
/// Bytes that the destination sends.
const ANSWERS: u64 = 120;
/// Bytes of a node's own memory.
const NODE: f64 = 6.5e6;

/// Both halves.
#[derive(Debug)]
pub struct Halves {
    /// What both nodes say after the order to migrate, in order.
    pub script: VecDeque<NodeEvent>,
    /// How the source's process ends, where not as it should.
    pub died: Option<String>,
    /// How long the run takes on the simulated host.
    pub lasted: Duration,
}

fn ns(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds.max(0.0)).as_nanos()).unwrap_or(u64::MAX / 4)
}

fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes, not negative")]
fn whole(value: f64) -> u64 {
    value as u64
}

/// One run in the making.
struct SimulatedRun<'a> {
    simulation: &'a Simulation,
    spec: &'a RunSpec,
    draws: Draws,
}

impl Halves {
    /// Of run `number`, on a host that is so many times `slower` than at first.
    pub fn of(
        simulation: &Simulation,
        replay: Option<&Replay>,
        number: usize,
        spec: &RunSpec,
        slower: f64,
    ) -> Self {
        let cell = &spec.cell;
        let recorded = replay.and_then(|replay| replay.find(cell, spec.seed));
        let mut luck = Draws::of_run(simulation, spec.seed, cell, "luck");
        let meets = |mishap| simulation.meets(number, mishap);
        let fails = luck.happens(simulation.fail_rate) || meets(Mishap::Fail);
        let capped = luck.happens(simulation.cap_rate) || meets(Mishap::Cap);
        let draws = Draws::of_run(simulation, spec.seed, cell, "guest");
        let mut run = SimulatedRun { simulation, spec, draws };
        if !cell.engine.migrates() {
            return run.control(fails, meets(Mishap::Die));
        }
        let forced = capped && cell.engine != Engine::StopAndCopy;
        let course = course::of(simulation, recorded, cell, spec.seed, spec.verify, slower, forced);
        let (mut source, mut destination) = run.migrated(&course);
        let lasted = Duration::from_nanos(destination.end - BEGIN);
        let rounds: Vec<Round> =
            course.legs.iter().filter(|leg| !leg.round.paused).map(|leg| leg.round.clone()).collect();
        let mut said: Vec<Message> =
            rounds.into_iter().map(|round| Message::Round(Box::new(round))).collect();
        let mut died = None;
        if meets(Mishap::Die) {
            died = Some("was killed by signal 9".to_owned());
            destination = abandoned("precopy", "the source closed the connection", &destination);
        } else if fails {
            said.truncate(1);
            let what = "the simulation was asked to fail here";
            source = kept(&source, "precopy", what, &destination);
            destination = abandoned("precopy", "the source gave up", &destination);
        } else if meets(Mishap::Differ) && spec.verify {
            source = kept(&source, "verification", "memory differs in the 2 MiB at 0x0", &destination);
            source.proof = Some(MemoryProof::Different);
            destination = abandoned("verification", "the source found other memory", &destination);
        }
        if died.is_none() {
            said.push(Message::Source(Box::new(source)));
        }
        let mut script: VecDeque<NodeEvent> =
            said.into_iter().map(|message| NodeEvent::Said(Box::new(message))).collect();
        script.push_back(NodeEvent::Closed(Role::Source));
        script.push_back(NodeEvent::Said(Box::new(Message::Destination(Box::new(destination)))));
        script.push_back(NodeEvent::Closed(Role::Destination));
        Self { script, died, lasted }
    }
}

/// The source's report of a migration that failed before the guest was handed over: it goes on here, and is asked.
fn kept(source: &SourceReport, phase: &str, message: &str, there: &DestinationReport) -> SourceReport {
    SourceReport {
        failure: Some(Failure { phase: phase.to_owned(), message: message.to_owned() }),
        handed_over: false,
        guest_runs: true,
        sending: None,
        precopy: None,
        checked: there.checked.clone(),
        histograms: there.histograms.clone(),
        backlog_max: Some(there.backlog_max),
        proof: None,
        ..source.clone()
    }
}

/// The destination's report of one that it never took over.
fn abandoned(phase: &str, message: &str, there: &DestinationReport) -> DestinationReport {
    DestinationReport {
        failure: Some(Failure { phase: phase.to_owned(), message: message.to_owned() }),
        prepare: there.prepare,
        usage: there.usage.clone(),
        ..DestinationReport::default()
    }
}

impl SimulatedRun<'_> {
    const fn cell(&self) -> &Cell {
        &self.spec.cell
    }

    fn factor(&self, stage: FactorTarget) -> f64 {
        self.simulation.factor(self.cell(), stage)
    }

    /// A factor of this run's own.
    fn noise(&mut self) -> f64 {
        self.draws.factor(self.simulation.noise)
    }

    /// The steady windows, and when the migration starts.
    fn begin(&self) -> (Moments, u64) {
        let steady_end = BEGIN + ns(2.0 * self.cell().windows.steady.0);
        let start = steady_end + ns(self.spec.start_jitter) + 1_000_000;
        (Moments { steady: BEGIN, start, ..Moments::default() }, steady_end)
    }

    fn guest(&mut self, at: Moments, tracked: bool, asleep: f64) -> SimulatedGuest {
        let (speed, during, latency) = (self.noise(), self.factor(FactorTarget::Throughput), self.noise());
        let latency = latency * self.factor(FactorTarget::Latency);
        SimulatedGuest::new(self.cell(), at, tracked, ns(asleep), speed, during, latency)
    }

    fn migrated(&mut self, course: &Course) -> (SourceReport, DestinationReport) {
        let (mut at, steady_end) = self.begin();
        let sending = sending(course, self.cell(), at.start);
        at.paused = sending.paused;
        at.entered = sending.ready + ns(course.resume);
        let running = sending.running;
        at.end = running + ns(self.cell().windows.after.0).max(TAIL) + MARGIN;
        let guest = self.guest(at, true, course.asleep.unwrap_or(0.0));
        let gap = at.entered - at.paused + whole(guest.service);
        let histograms = guest.histograms(self.cell(), at, Some(gap));
        let stalled = self.stalled(course, &sending, at, gap, &guest);
        let vcpus = self.cell().vcpus as usize;
        let stall_ticks = precopy_stalls(&stalled, guest.service * THRESHOLD);
        let (usage, there) = self.usage(course, &sending);
        let source = SourceReport {
            handed_over: true,
            steady: Some(self.steady(at, steady_end, &guest)),
            huge_page_share: self.cell().backing.is_huge().then_some(1.0),
            precopy: Some(progress(&guest, at.start, sending.pause_ordered, stall_ticks)),
            proof: (self.spec.verify || self.cell().proof == Proof::Every).then_some(MemoryProof::Equal),
            usage,
            samples: ProgressSamples { operations: guest.samples(at.steady, at.paused) },
            tsc_khz: TSC_KHZ,
            stalled: self.cell().timing.then_some(stalled.clone()),
            sending: Some(sending),
            ..SourceReport::default()
        };
        let destination = DestinationReport {
            took_over: true,
            guest_runs: true,
            prepare: course.prepare,
            entered: at.entered,
            caught_up: Some(guest.caught_up.max(running)).filter(|&time| time < at.end),
            end: at.end,
            decode: course.decode,
            last_page: last_page(course, at.start),
            gap_ticks: self.cell().timing.then_some(gap),
            clocks: if self.cell().timing { vec![Some(CLOCK); vcpus] } else { Vec::new() },
            ring: stalled.ring,
            backlog_max: guest.backlog(at.entered - at.paused),
            traffic: ANSWERS,
            checked: Some(Checked { passed: true, message: None }),
            histograms,
            usage: there,
            samples: ProgressSamples { operations: guest.samples(running, at.end) },
            ..DestinationReport::default()
        };
        (source, destination)
    }

    fn steady(&self, at: Moments, end: u64, guest: &SimulatedGuest) -> Steady {
        let timed = self.cell().timing;
        Steady {
            settled: true,
            start: at.steady,
            end,
            stall: timed.then_some(2e-4),
            stall_threshold: timed.then_some(guest.service * THRESHOLD),
            page_write_rate: guest.write_rate(),
        }
    }

    /// CPU and memory of both nodes.
    fn usage(&mut self, course: &Course, sending: &Sending) -> (Usage, Usage) {
        let total = float(sending.running - sending.start) / 1e9;
        let encode: f64 = course.legs.iter().map(|leg| leg.times.encode + leg.times.harvest).sum();
        let carried = float(sending.traffic.iter().sum()) / 2e9;
        let full: u64 = course.legs.iter().take(1).map(|leg| leg.round.pages_full).sum();
        let shadow = if self.cell().codec == migbench_scenarios::cell::Codec::None { 0 } else { full * 4096 };
        let (cpu, memory) = (self.factor(FactorTarget::Cpu), self.factor(FactorTarget::Memory));
        // Memory is what it is, nearly.
        let node = |own: f64, draws: &mut Draws, noise: f64| own * memory * draws.factor(noise / 20.0);
        let noise = self.simulation.noise;
        let source = Usage {
            cpu: (0.01 + encode + carried) * cpu * self.noise(),
            cpu_vcpu: total * f64::from(self.cell().vcpus) * 0.9,
            vcpu_run_delay: 2e-4 * self.noise(),
            engine_run_delay: 5e-3 * self.noise(),
            memory: whole(node(NODE + float(shadow), &mut self.draws, noise)),
            steal: Some(self.simulation.steal * total * f64::from(self.simulation.cores) * 4.0),
        };
        let destination = Usage {
            cpu: (0.01 + course.decode + carried) * cpu * self.noise(),
            cpu_vcpu: 1e-3,
            vcpu_run_delay: 1e-4 * self.noise(),
            engine_run_delay: 1e-3 * self.noise(),
            memory: whole(node(NODE, &mut self.draws, noise)),
            steal: None,
        };
        (source, destination)
    }

    /// One stall for arming, one for each harvest, one of no known cause, and one for each vCPU that was paused.
    fn stalled(
        &self,
        course: &Course,
        sending: &Sending,
        at: Moments,
        gap: u64,
        guest: &SimulatedGuest,
    ) -> Stalled {
        let operation = operation(self.cell());
        let raw = |vcpu, start: u64, ticks, phase| RawStall {
            vcpu,
            start: start - CLOCK.lag,
            ticks,
            phase,
            operation,
        };
        let event =
            |cause, start, lasts: f64| events::Event { start, end: start + ns(lasts), cause, vcpu: None };
        let over = whole(guest.service * THRESHOLD) + 1;
        let mut events = vec![event(Cause::Arm, at.start, course.arm)];
        let mut kept = vec![raw(0, at.start, ns(course.arm).max(over), abi::PHASE_PRECOPY)];
        for leg in course.legs.iter().skip(1).filter(|leg| !leg.round.paused) {
            let start = at.start + ns(leg.round.start);
            events.push(event(Cause::Harvest, start, leg.times.harvest));
            kept.push(raw(0, start, ns(leg.times.harvest).max(over), abi::PHASE_PRECOPY));
        }
        kept.push(raw(0, at.start + ns(course.arm) + 2_000_000, over + over / 4, abi::PHASE_PRECOPY));
        events.push(events::Event {
            start: sending.pause_ordered,
            end: at.entered,
            cause: Cause::Switchover,
            vcpu: None,
        });
        for vcpu in 0..self.cell().vcpus {
            kept.push(raw(vcpu, at.paused, gap, abi::PHASE_SWITCHOVER));
        }
        kept.retain(|stall| stall.phase != abi::PHASE_PRECOPY || stall.start + CLOCK.lag < at.paused);
        let before = 20;
        Stalled {
            start: at.start,
            before,
            clocks: vec![Some(CLOCK); self.cell().vcpus as usize],
            events,
            full_since: None,
            ring: StallRing { counted: before + kept.len() as u64, kept },
        }
    }

    /// `none` and `track-only`: the timeline of a migration without one.
    fn control(&mut self, fails: bool, dies: bool) -> Halves {
        let (mut at, steady_end) = self.begin();
        at.paused = at.start + ns(self.cell().windows.control.0);
        at.entered = at.paused;
        at.end = at.paused + ns(self.cell().windows.after.0).max(TAIL) + MARGIN;
        let tracked = self.cell().engine == Engine::TrackOnly;
        let guest = self.guest(at, tracked, 0.0);
        let operations = guest.between(at.start, at.paused);
        let rounds = if tracked { self.harvests(&guest) } else { Vec::new() };
        let harvested: f64 = rounds.iter().filter_map(|round| round.harvest_time).sum();
        let armed = ns(2e-3 * self.factor(FactorTarget::Arm) * self.noise());
        let kept = StallRing { counted: 20, kept: Vec::new() };
        let stalled = Stalled {
            start: at.start,
            before: 20,
            clocks: vec![Some(CLOCK); self.cell().vcpus as usize],
            ring: kept,
            ..Stalled::default()
        };
        let length = self.cell().windows.control.0;
        let mut source = SourceReport {
            guest_runs: true,
            steady: Some(self.steady(at, steady_end, &guest)),
            huge_page_share: self.cell().backing.is_huge().then_some(1.0),
            control: Some((at.start, at.paused)),
            armed: tracked.then_some(at.start + armed),
            precopy: Some(progress(&guest, at.start, at.paused, 0)),
            checked: Some(Checked { passed: true, message: None }),
            histograms: guest.histograms(self.cell(), at, None),
            usage: Usage {
                cpu: (0.002 + harvested) * self.factor(FactorTarget::Cpu) * self.noise(),
                cpu_vcpu: length * f64::from(self.cell().vcpus) * 0.9,
                memory: whole(NODE * self.factor(FactorTarget::Memory)),
                steal: Some(0.0),
                ..Usage::default()
            },
            samples: ProgressSamples { operations: guest.samples(at.steady, at.end) },
            backlog_max: Some(guest.backlog(1_000_000)),
            tsc_khz: TSC_KHZ,
            stalled: self.cell().timing.then_some(stalled),
            rounds,
            ..SourceReport::default()
        };
        debug_assert!(operations > 0 || guest.write_rate() == 0.0);
        if fails {
            let message = "the simulation was asked to fail here".to_owned();
            source.failure = Some(Failure { phase: "precopy".to_owned(), message });
        }
        let mut script = VecDeque::new();
        if !dies {
            script.push_back(NodeEvent::Said(Box::new(Message::Source(Box::new(source)))));
        }
        script.push_back(NodeEvent::Closed(Role::Source));
        let died = dies.then(|| "was killed by signal 9".to_owned());
        Halves { script, died, lasted: Duration::from_nanos(at.end - BEGIN) }
    }

    /// Harvests of `track-only`.
    fn harvests(&mut self, guest: &SimulatedGuest) -> Vec<Round> {
        let count = whole(self.cell().windows.control.0 / PACE);
        let set = float(self.cell().settings.working_set.0 / 4096);
        let written = guest.write_rate() * self.factor(FactorTarget::Dirty);
        let dirty = set * (1.0 - (-written * PACE / set).exp());
        let noise = self.draws.factor(self.simulation.noise) * self.factor(FactorTarget::Harvest);
        let harvest = (3e-6 + 6e-8 * dirty) * noise;
        let round = |round| Round {
            round,
            dirty_pages: whole(dirty),
            duration: PACE + harvest,
            harvest_time: Some(harvest),
            ..Round::default()
        };
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(round).collect()
    }
}

/// The number of the operation that writes.
fn operation(cell: &Cell) -> u32 {
    let program = cell.settings.program;
    let index = program.operations().iter().position(|name| *name == program.writing());
    index.and_then(|index| u32::try_from(index).ok()).unwrap_or(0)
}

fn progress(guest: &SimulatedGuest, from: u64, to: u64, stall_ticks: u64) -> PhaseWork {
    let operations = guest.between(from, to);
    PhaseWork { operations, page_writes: guest.writes(operations), stall_ticks, nanoseconds: to - from }
}

/// Ticks over the threshold, in pre-copy.
fn precopy_stalls(stalled: &Stalled, threshold: f64) -> u64 {
    let precopy = stalled.ring.kept.iter().filter(|stall| stall.phase == abi::PHASE_PRECOPY);
    precopy.map(|stall| stall.ticks.saturating_sub(whole(threshold))).sum()
}

/// The source's times and counts.
fn sending(course: &Course, cell: &Cell, start: u64) -> Sending {
    let mut traffic = course.traffic;
    traffic[3] = STATE * u64::from(cell.vcpus);
    traffic[4] += 400;
    let paused_leg = course.legs.last().cloned().unwrap_or_default();
    // Backwards and forwards from the paused round, so that the parts of the downtime add up to the nanosecond.
    let paused = start + ns(paused_leg.round.start);
    let pause_ordered = paused - ns(course.pause);
    let harvested = paused + ns(paused_leg.times.harvest);
    let ready = last_page(course, start) + ns(course.state);
    let entered = ready + ns(course.resume);
    let deltas: u64 = course.legs.iter().map(|leg| leg.round.pages_delta).sum();
    Sending {
        start,
        set_up: start + ns(course.arm + course.connect),
        pause_ordered,
        paused,
        harvested,
        ready,
        committed: ready + ns(course.resume) / 4,
        running: entered + ns(course.word),
        capped: course.capped,
        rounds: course.legs.iter().map(|leg| leg.round.clone()).collect(),
        delta_bytes: deltas * course.delta,
        choices: Vec::new(),
        cache: (cell.cache != Cache::None).then(|| {
            let again = course.legs.iter().skip(1).map(|leg| leg.round.dirty_pages).sum();
            CacheCounts { hits: again, bytes: cell.cache.memory(cell.memory).0, ..CacheCounts::default() }
        }),
        traffic,
        rate_achieved: cell.link.rate.map(|_| 0.998),
        queue: cell.link.modelled_rate().map(|_| cell.link.queue().0),
        deciding_harvest: course.decided,
        throttled: course.asleep.map_or_else(Vec::new, |asleep| vec![ns(asleep); cell.vcpus as usize]),
    }
}

/// When the last page of the paused round was at the destination.
fn last_page(course: &Course, start: u64) -> u64 {
    let paused = course.legs.last().cloned().unwrap_or_default();
    start + ns(paused.round.start) + ns(paused.times.harvest) + ns(paused.times.encode + paused.times.send)
}

//! One round: the pages that are dirty leave in batches, each read, encoded and sent. Every moment of a round belongs to a
//! stage, and what comes out is plain data; whoever wants a record makes one of it.

use std::ops::AddAssign;

use migbench_reports::record::Decision;

use super::planted_cost::{CostStage, Planter};
use super::policy::PagePolicy;
use super::staging::Staging;
use super::stop::Probe;
use super::{EngineError, PageCounts};
use crate::dirty::{DirtyTracker, TrackerError};
use crate::host::noise::RunDelay;
use crate::sys::clock;
use crate::sys::memory::NoMemory;
use crate::sys::ram::{Ram, RamError};
use crate::vm::page_set::PageSet;
use crate::wire::frame::FrameKind;
use crate::wire::link::Sender;
use crate::wire::modelled::wire_time;

/// A look at the tracker, or two with a wait for the link's queue between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Harvest {
    /// [`clock::now`].
    pub start: u64,
    /// Nanoseconds of looking.
    pub took: u64,
    /// Of these, those of the last look.
    pub last: u64,
    /// Nanoseconds of waiting.
    pub waited: u64,
}

impl Harvest {
    /// [`clock::now`] when it was done.
    const fn end(&self) -> u64 {
        self.start + self.took + self.waited
    }
}

/// Nanoseconds by stage. They add up to the round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// The look at the tracker and what is decided on it, and re-arming pages before they are read.
    pub harvest: u64,
    /// The policy and the codec: reading pages, which is copying them where that is done, and encoding.
    pub encode: u64,
    /// Writing to the link.
    pub send: u64,
    /// Waiting for room in the queue of the link.
    pub wait: u64,
}

/// What a round's sending says about the speed of the next.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stretch {
    /// Seconds until the round's bytes had left the link, without those spent on zero pages: they cost next to nothing, pages
    /// that are written are seldom zero, and counted they would promise a speed that no later round has.
    pub seconds: f64,
    /// Of these the engine's, which did not wait: in the policy, the codec and the socket.
    pub engine: f64,
    /// Pages looked at, without zero pages.
    pub pages: u64,
    /// Bytes.
    pub bytes: u64,
    /// Whether it was the first round, in which every page is sent for the first time.
    pub first: bool,
}

impl AddAssign for Stretch {
    fn add_assign(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.engine += other.engine;
        self.pages += other.pages;
        self.bytes += other.bytes;
        self.first |= other.first;
    }
}

/// A round that was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct SentRound {
    /// Counted from 0.
    pub number: u32,
    /// [`clock::now`] at the start of its harvest.
    pub start: u64,
    /// When its last byte was written.
    pub end: u64,
    /// Pages that were dirty at its start.
    pub dirty_pages: u64,
    /// Bytes written to the link.
    pub traffic: u64,
    /// Where its time went.
    pub stages: StageTimes,
    /// Nanoseconds in which the wire had nothing to send although pages were left, and those of them in which the sender waited
    /// for a CPU, where that is known. None without a modelled wire.
    pub wire_idle: Option<(u64, Option<u64>)>,
    /// Pages by outcome.
    pub tally: PageCounts,
    /// Its speed.
    pub stretch: Stretch,
    /// What was decided after it, of a round with the guest running.
    pub decision: Option<Decision>,
    /// Whether the guest was paused.
    pub paused: bool,
}

/// Pages of a probe, and how many of them follow each other, as they do in a round.
const PROBED: usize = 64;
const NEIGHBOURS: u64 = 16;

/// What every round of a migration works with.
pub struct Rounds<'a> {
    ram: &'a Ram,
    tracker: &'a mut dyn DirtyTracker,
    link: &'a mut Sender,
    policy: &'a mut dyn PagePolicy,
    planter: Planter,
    staging: Staging,
    dirty: PageSet,
    run_delay: Option<RunDelay>,
    number: u32,
}

impl<'a> Rounds<'a> {
    /// The rounds of a guest with memory `ram`, of which every page is still to be sent. `tracker` is armed already, `link`
    /// connected; `planter` spends what tests plant.
    ///
    /// # Errors
    /// When there is no memory to work in.
    #[expect(clippy::cast_precision_loss, reason = "a rate stays under 2^53")]
    pub fn new(
        ram: &'a Ram,
        tracker: &'a mut dyn DirtyTracker,
        link: &'a mut Sender,
        policy: &'a mut dyn PagePolicy,
        planter: Planter,
    ) -> Result<Self, NoMemory> {
        let mut dirty = PageSet::new(ram.pages())?;
        dirty.fill();
        if let Some(rate) = link.rate() {
            policy.link_speed(rate.0 as f64);
        }
        let run_delay = link.wire().and_then(|_| RunDelay::of_this_thread().ok());
        let staging = Staging::new()?;
        Ok(Self { ram, tracker, link, policy, planter, staging, dirty, run_delay, number: 0 })
    }

    /// Pages that are still to be sent.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.dirty.len()
    }

    /// The link.
    #[must_use]
    pub const fn link(&self) -> &Sender {
        self.link
    }

    /// Number of the next round.
    #[must_use]
    pub const fn next(&self) -> u32 {
        self.number
    }

    /// Adds newly dirty pages to those that are still to be sent.
    ///
    /// # Errors
    /// See [`TrackerError`].
    pub fn harvest(&mut self) -> Result<Harvest, TrackerError> {
        let start = clock::now();
        self.tracker.harvest(&mut self.dirty)?;
        self.planter.spend(CostStage::Harvest, start, 1);
        let took = clock::now() - start;
        Ok(Harvest { start, took, last: took, waited: 0 })
    }

    /// Waits until at most `left` nanoseconds of bytes are queued, and adds what became dirty since `first`.
    ///
    /// # Errors
    /// See [`TrackerError`].
    pub fn harvest_after_queue(&mut self, first: Harvest, left: u64) -> Result<Harvest, TrackerError> {
        self.link.drain(left);
        let Harvest { start, took, .. } = self.harvest()?;
        Ok(Harvest { took: first.took + took, last: took, waited: start - first.end(), ..first })
    }

    /// Encodes some of the pages that are left, from all over the guest, and throws that away; none where what is remembered of pages does not
    /// bear it.
    ///
    /// # Errors
    /// [`RamError::Range`].
    pub fn probe(&mut self) -> Result<Option<Probe>, RamError> {
        let (mut start, mut pages) = (clock::now(), [0; PROBED]);
        let count = self.dirty.spread(&mut pages, NEIGHBOURS);
        let mut bytes = 0;
        for (number, &page) in pages[..count].iter().enumerate() {
            if number == count / 4 {
                // By now the codec's code is in the caches, as it is in a round.
                start = clock::now();
            }
            match self.policy.probe(page, self.ram.live(page)?, self.staging.slot()) {
                Some(of_page) => bytes += of_page as u64,
                None => return Ok(None),
            }
        }
        let (pages, timed) = (count as u64, (count - count / 4) as u64);
        let nanoseconds = (clock::now() - start) * pages / timed.max(1);
        Ok((count > 0).then_some(Probe { pages, bytes, seconds: clock::seconds(0, nanoseconds) }))
    }

    /// Sends what is dirty since `harvest`. At `until` (by [`clock::now`]) it stops between two batches, and the rest stays for
    /// the next round. A paused round sends everything: nothing is written any more, and no harvest follows.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn send(&mut self, harvest: Harvest, until: Option<u64>) -> Result<SentRound, EngineError> {
        let paused = until.is_none();
        let (dirty_pages, sent_before) = (self.dirty.len(), self.link.traffic().total());
        let waited_before = self.link.waited();
        let wire_from = self.link.empty_at();
        let rearms = !paused && self.tracker.re_arms_lazily();
        let mut stages = StageTimes { harvest: harvest.took, ..StageTimes::default() };
        let mut tally = PageCounts::default();
        // Nothing of /proc is read while the guest waits, so nobody knows whose doing it is then.
        let (mut zero_time, mut idle_in_host) = (0, (!paused).then_some(0));
        if let Some(wire) = self.link.wire() {
            wire.round_starts(harvest.start);
        }
        self.policy.round_starts(paused);
        let mut idle_before = 0;
        // Pages of zeros fill no batch: several looks at the dirty set may leave in one.
        let mut left = 0;
        let mut watch = Stopwatch(harvest.end());
        // Probing and deciding belong to the look that they followed, and are no part of what pages take.
        stages.harvest += watch.lap();
        loop {
            self.staging.take_runs(|room| self.dirty.take_run(room));
            if rearms {
                for &(first, count) in self.staging.runs() {
                    self.tracker.before_read(first, count)?;
                }
                self.planter.spend(CostStage::Harvest, watch.0, 0);
                stages.harvest += watch.lap();
            }
            if self.staging.runs().is_empty() {
                break;
            }
            let looked = (watch.0, tally);
            self.staging.add(self.ram, self.policy, &mut tally)?;
            self.planter.spend(CostStage::Encode, watch.0, tally.pages() - looked.1.pages());
            stages.encode += watch.lap();
            zero_time +=
                share(watch.0 - looked.0, tally.zero - looked.1.zero, tally.pages() - looked.1.pages());
            if self.staging.must_leave() {
                let sent = self.link.traffic().total();
                self.staging.send(self.link, self.ram)?;
                self.planter.spend(CostStage::Send, watch.0, tally.pages() - left);
                left = tally.pages();
                if let (Some(sum), Some(wire)) = (&mut idle_in_host, self.link.wire()) {
                    let idle = wire.idle() - idle_before;
                    idle_before += idle;
                    match self.run_delay.as_mut().and_then(RunDelay::since_last) {
                        Some(delayed) => *sum += idle.min(delayed),
                        None => idle_in_host = None,
                    }
                }
                let took = watch.lap();
                stages.send += took;
                if self.link.rate().is_none() {
                    self.policy.link_speed(speed(self.link.traffic().total() - sent, took));
                }
            }
            if until.is_some_and(|until| watch.0 >= until) {
                break;
            }
        }
        self.staging.send(self.link, self.ram)?;
        self.link.send(FrameKind::RoundEnd, &[&self.number.to_le_bytes()])?;
        self.planter.spend(CostStage::Send, watch.0, tally.pages() - left);
        stages.send += watch.lap();
        stages.wait = self.link.waited() - waited_before;
        stages.send = stages.send.saturating_sub(stages.wait);
        stages.wait += harvest.waited;
        let wire_idle = self.link.wire().map(|wire| (wire.round_ends(), idle_in_host));
        let traffic = self.link.traffic().total() - sent_before;
        let stretch = Stretch {
            engine: clock::seconds(0, (stages.encode + stages.send).saturating_sub(zero_time)),
            first: self.number == 0,
            ..self.stretch(wire_from.max(harvest.end()), zero_time, traffic, tally)
        };
        let (number, start, end) = (self.number, harvest.start, watch.0);
        self.number += 1;
        Ok(SentRound {
            number,
            start,
            end,
            dirty_pages,
            traffic,
            stages,
            wire_idle,
            tally,
            stretch,
            decision: None,
            paused,
        })
    }

    /// The speed of a round whose first byte could leave at `from`.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a round stay under 2^53")]
    fn stretch(&self, from: u64, zero_time: u64, bytes: u64, tally: PageCounts) -> Stretch {
        let took = self.link.empty_at().saturating_sub(from);
        let least = self.link.rate().map_or(0, |rate| wire_time(bytes, rate));
        let nanoseconds = took.saturating_sub(zero_time).max(least);
        let seconds = nanoseconds as f64 / 1e9;
        Stretch { seconds, pages: tally.pages() - tally.zero, bytes, ..Stretch::default() }
    }
}

/// Bytes per second.
#[expect(clippy::cast_precision_loss, reason = "bytes and nanoseconds of a batch stay under 2^53")]
fn speed(bytes: u64, nanoseconds: u64) -> f64 {
    bytes as f64 * 1e9 / nanoseconds.max(1) as f64
}

/// `part / whole` of `time`.
fn share(time: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(time) * u128::from(part) / u128::from(whole.max(1))).unwrap_or(time)
}

/// The end of the last stage, by [`clock::now`].
struct Stopwatch(u64);

impl Stopwatch {
    /// Ends a stage: the nanoseconds since the last one ended.
    fn lap(&mut self) -> u64 {
        let now = clock::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

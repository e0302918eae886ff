//! The pre-copy loop (Clark et al., "Live Migration of Virtual Machines", NSDI 2005), generic over the page policy.
//!
//! In come a guest, a tracker and a link that is already connected; out go page frames, and at the end the guest
//! is paused with nothing dirty left. Handing it over is the node's business.

use migbench_reports::record::Round;

use super::Tally;
use super::policy::PagePolicy;
use super::stop::{Decision, Stop};
use crate::dirty::{DirtyTracker, TrackerError};
use crate::engine::planted_cost::{CostStage, Planter};
use crate::sys::clock;
use crate::sys::ram::{Ram, RamError};
use crate::vm::page_set::PageSet;
use crate::vm::vcpu::VcpuError;
use crate::wire::frame::FrameKind;
use crate::wire::link::{LinkError, Sender};
use crate::wire::pages::PageBatch;

/// Why a migration stopped on the source's side.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The tracker.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// Guest memory.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// A vCPU.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
}

/// What the loop tells while it runs. Nothing is told between pause and resume.
pub trait Observer {
    /// A round is about to send its pages.
    fn round_starts(&mut self, _round: u32) {}
    /// A round with the guest running is over.
    fn round_ends(&mut self, _round: &Round) {}
    /// The guest is about to be paused.
    fn pausing(&mut self) {}
}

/// What the loop works with.
pub struct Precopy<'a, P: ?Sized> {
    /// Guest memory.
    pub ram: &'a Ram,
    /// Armed already.
    pub tracker: &'a mut dyn DirtyTracker,
    /// Pauses the guest and saves its state.
    pub pause: &'a mut dyn FnMut() -> Result<(), VcpuError>,
    /// Where frames go.
    pub link: &'a mut Sender,
    /// What is sent of a page. It belongs to the caller, who lets go of its memory when no guest waits for that.
    pub policy: &'a mut P,
    /// When to stop.
    pub stop: Stop,
    /// [`clock::now`] when the migration started.
    pub start: u64,
    /// Who wants to know.
    pub observer: &'a mut dyn Observer,
    /// What stages are to cost beside their work: nothing, but in tests of the judge.
    pub planter: Planter,
}

/// How the loop ended. The guest is paused.
#[derive(Debug)]
pub struct Sent {
    /// In order, the paused one last.
    pub rounds: Vec<Round>,
    /// Whether a limit forced the switchover.
    pub capped: bool,
    /// Pages by outcome, all rounds.
    pub tally: Tally,
    /// [`clock::now`] when the pause was ordered.
    pub pause_ordered: u64,
    /// When every vCPU was paused.
    pub paused: u64,
    /// When the last harvest was done.
    pub harvested: u64,
    /// When the last page was in the socket.
    pub sent: u64,
}

impl<P: PagePolicy + ?Sized> Precopy<'_, P> {
    /// Rounds with the guest running until the stop rule decides, then the paused round.
    ///
    /// # Errors
    /// See [`EngineError`]. The guest may be paused then; the caller resumes it.
    pub fn run(mut self) -> Result<Sent, EngineError> {
        let mut batch = PageBatch::new(PageBatch::PAGES);
        let mut dirty = PageSet::new(self.ram.pages());
        let mut rounds = Vec::with_capacity(64);
        let mut total = Tally::default();
        dirty.fill();
        let mut harvest = (clock::now(), 0.0);
        let mut round = 0;
        let capped = loop {
            let (sent, tally) = self.send_round(round, harvest, &mut dirty, &mut batch, false)?;
            total += tally;
            // Zero marks cost next to nothing, and pages that are written are seldom zero: counted as pages they
            // would promise a speed that the paused round cannot have.
            self.stop.observe(sent.duration - sent.harvest_time, tally.pages() - tally.zero, sent.traffic);
            rounds.push(sent);
            round += 1;
            harvest = self.harvest(&mut dirty)?;
            let remaining = dirty.len();
            if let Some(last) = rounds.last_mut() {
                last.estimate = self.stop.estimate(remaining);
                self.observer.round_ends(last);
            }
            match self.stop.decide(remaining, round, clock::seconds(self.start, clock::now())) {
                Decision::Continue => {}
                Decision::SwitchOver => break false,
                Decision::Capped => break true,
            }
        };
        self.switch_over(rounds, capped, total, round, harvest.1, &mut dirty, &mut batch)
    }

    /// The control `stop-and-copy`: everything in the paused round.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub fn stop_and_copy(self) -> Result<Sent, EngineError> {
        let mut batch = PageBatch::new(PageBatch::PAGES);
        let mut dirty = PageSet::new(self.ram.pages());
        let rounds = Vec::with_capacity(1);
        dirty.fill();
        self.switch_over(rounds, false, Tally::default(), 0, 0.0, &mut dirty, &mut batch)
    }

    /// Pauses the guest and sends what is left. `harvested_before` are the seconds of the harvest that led to the
    /// decision; they count as the paused round's too.
    #[expect(clippy::too_many_arguments, reason = "the loop's own state, handed over once")]
    fn switch_over(
        mut self,
        mut rounds: Vec<Round>,
        capped: bool,
        mut tally: Tally,
        round: u32,
        harvested_before: f64,
        dirty: &mut PageSet,
        batch: &mut PageBatch,
    ) -> Result<Sent, EngineError> {
        self.observer.pausing();
        let pause_ordered = clock::now();
        (self.pause)()?;
        let paused = clock::now();
        let (start, last_harvest) = self.harvest(dirty)?;
        let harvest = (start, last_harvest + harvested_before);
        let harvested = clock::now();
        let (last, of_last) = self.send_round(round, harvest, dirty, batch, true)?;
        let sent = clock::now();
        tally += of_last;
        rounds.push(last);
        Ok(Sent { rounds, capped, tally, pause_ordered, paused, harvested, sent })
    }

    /// Adds newly dirty pages. Gives when it started and how long it took.
    fn harvest(&mut self, dirty: &mut PageSet) -> Result<(u64, f64), TrackerError> {
        let start = clock::now();
        self.tracker.harvest(dirty)?;
        self.planter.spend(CostStage::Harvest, start, 1);
        Ok((start, clock::seconds(start, clock::now())))
    }

    /// Sends the pages of `dirty` and takes them out. When the migration has lasted for its longest time, pages
    /// stay in it for the paused round.
    fn send_round(
        &mut self,
        round: u32,
        harvest: (u64, f64),
        dirty: &mut PageSet,
        batch: &mut PageBatch,
        paused: bool,
    ) -> Result<(Round, Tally), EngineError> {
        if !paused {
            self.observer.round_starts(round);
        }
        let dirty_pages = dirty.len();
        let before = self.link.traffic().total();
        let mut tally = Tally::default();
        let (mut rearm, mut encode, mut send) = (0, 0, 0);
        batch.clear();
        // Nothing is written any more in the paused round, and no harvest follows it.
        let lazy = !paused && self.tracker.re_arms_lazily();
        while let Some((first, count)) = dirty.take_run(batch.room() as u64) {
            if lazy {
                let asked = clock::now();
                self.tracker.before_read(first, count)?;
                self.planter.spend(CostStage::Harvest, asked, 0);
                rearm += clock::now() - asked;
            }
            let staged = batch.stage(usize::try_from(count).unwrap_or(usize::MAX));
            self.ram.read(first, staged.as_flattened_mut())?;
            let read = clock::now();
            for page in first..first + count {
                self.policy.settle(page, batch, &mut tally);
            }
            self.planter.spend(CostStage::Encode, read, count);
            let encoded = clock::now();
            encode += encoded - read;
            if batch.room() == 0 {
                self.link.send_pages(batch)?;
                self.planter.spend(CostStage::Send, encoded, batch.pages());
                batch.clear();
                let sent = clock::now();
                send += sent - encoded;
                if !paused && clock::seconds(self.start, sent) >= self.stop.max_time() {
                    break;
                }
            }
        }
        let last = clock::now();
        self.link.send_pages(batch)?;
        self.link.send(FrameKind::RoundEnd, &[&round.to_le_bytes()])?;
        self.planter.spend(CostStage::Send, last, batch.pages());
        let end = clock::now();
        send += end - last;
        let sent = Round {
            round,
            start: clock::seconds(self.start, harvest.0),
            dirty_pages,
            traffic: self.link.traffic().total() - before,
            duration: clock::seconds(harvest.0, end),
            harvest_time: harvest.1 + clock::seconds(0, rearm),
            encode_time: clock::seconds(0, encode),
            send_time: clock::seconds(0, send),
            pages_full: tally.full,
            pages_zero: tally.zero,
            pages_delta: tally.delta,
            pages_unchanged: tally.unchanged,
            pages_overflow: tally.overflow,
            estimate: None,
            paused,
        };
        Ok((sent, tally))
    }
}

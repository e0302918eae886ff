//! The pre-copy loop (Clark et al., "Live Migration of Virtual Machines", NSDI 2005), the same for every page policy.
//!
//! In come rounds that know guest, tracker and link; out go page frames, and at the end the guest is paused with nothing dirty
//! left. Handing it over is the node's business.

use migbench_reports::record::Decided;
use migbench_workloads::units::PAGE_SIZE;

use super::EngineError;
use super::round::{Harvest, Rounds, SentRound};
use super::stop::{Left, Stop};
use super::throttle::Throttler;
use crate::guest::GuestError;
use crate::sys::clock;
use crate::sys::memory::reserve;

/// Nanoseconds of bytes that may be queued when the pause is ordered: what is queued by then is waited for in the pause.
const QUEUED_AT_PAUSE: u64 = 100_000;

/// Who hears of rounds while the guest runs. Nothing is reported between the harvest that decides and the pause.
pub trait Observer {
    /// A round was sent; nothing was decided yet.
    fn sent(&mut self, round: &SentRound);
    /// Another round follows.
    fn continues(&mut self, last: &SentRound);
}

/// A migration, up to the pause and the last page.
pub struct Precopy<'a> {
    /// What is sent and how.
    pub rounds: Rounds<'a>,
    /// When to stop.
    pub stop: Stop,
    /// What slows a guest that writes too fast, where anything does.
    pub throttler: Option<&'a Throttler>,
    /// Pauses the guest and saves its state.
    pub pause: &'a mut dyn FnMut() -> Result<(), GuestError>,
    /// [`clock::now`] when the migration started.
    pub start: u64,
    /// Who wants to know.
    pub observer: &'a mut dyn Observer,
}

/// How the loop ended. The guest is paused.
#[derive(Debug)]
pub struct Sent {
    /// In order, the paused one last.
    pub rounds: Vec<SentRound>,
    /// Whether a limit forced the switchover.
    pub capped: bool,
    /// The harvest that led to the decision; it is no round's.
    pub decided: Harvest,
    /// [`clock::now`] when the pause was ordered.
    pub pause_ordered: u64,
    /// When every vCPU was paused.
    pub paused: u64,
    /// When the last harvest was done.
    pub harvested: u64,
}

impl Precopy<'_> {
    /// Rounds with the guest running until the stop rule decides, then the paused round.
    ///
    /// # Errors
    /// See [`EngineError`]. The guest may be paused then; the caller resumes it.
    pub fn run(mut self) -> Result<Sent, EngineError> {
        let mut rounds = Vec::with_capacity(64);
        let until = self.start.saturating_add(self.stop.max_time());
        let mut harvest = Harvest { start: clock::now(), ..Harvest::default() };
        let capped = loop {
            // For this round and the paused one, for which nothing is allocated any more.
            reserve(&mut rounds, 2, "the record of rounds")?;
            let mut sent = self.rounds.send(harvest, Some(until))?;
            self.observer.sent(&sent);
            self.stop.observe(&sent.stretch);
            harvest = self.rounds.harvest()?;
            if self.stop.wants_probe()
                && let Some(probe) = self.rounds.probe()?
            {
                self.stop.probed(probe);
            }
            if let Some(throttler) = self.throttler {
                throttler.round(sent.traffic, self.rounds.remaining() * PAGE_SIZE);
            }
            let next = self.rounds.next();
            let left = self.left(harvest);
            if left.queued > clock::seconds(0, QUEUED_AT_PAUSE)
                && self.stop.ends(Left { queued: 0.0, ..left }, next, clock::now() >= until)
            {
                // What is queued is no part of the pause: it leaves first, while the guest goes on writing, and then the rule is asked.
                harvest = self.rounds.harvest_after_queue(harvest, QUEUED_AT_PAUSE)?;
            }
            let decision = self.stop.decide(self.left(harvest), next, clock::now() >= until);
            let decided = decision.decided;
            sent.decision = Some(decision);
            if decided == Decided::Continue {
                self.observer.continues(&sent);
            }
            rounds.push(sent);
            match decided {
                Decided::Continue => {}
                Decided::SwitchOver => break false,
                Decided::Capped => break true,
            }
        };
        self.switch_over(rounds, capped, harvest)
    }

    /// What is left after a harvest.
    fn left(&self, harvest: Harvest) -> Left {
        let queued = clock::seconds(clock::now(), self.rounds.link().empty_at());
        Left { pages: self.rounds.remaining(), queued, harvest: clock::seconds(0, harvest.last) }
    }

    /// The control `stop-and-copy`: everything in the paused round.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub fn stop_and_copy(self) -> Result<Sent, EngineError> {
        self.switch_over(Vec::with_capacity(1), false, Harvest::default())
    }

    /// Pauses the guest and sends what is left.
    fn switch_over(
        mut self,
        mut rounds: Vec<SentRound>,
        capped: bool,
        decided: Harvest,
    ) -> Result<Sent, EngineError> {
        if let Some(throttler) = self.throttler {
            throttler.end();
        }
        let pause_ordered = clock::now();
        (self.pause)()?;
        let paused = clock::now();
        let harvest = self.rounds.harvest()?;
        let harvested = clock::now();
        rounds.push(self.rounds.send(harvest, None)?);
        Ok(Sent { rounds, capped, decided, pause_ordered, paused, harvested })
    }
}

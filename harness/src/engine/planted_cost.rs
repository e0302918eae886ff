//! Planted costs: busy work added to one stage of a migration, to prove that a judge finds what is there. For tests only,
//! hidden from the command line's help; records and manifest name what was planted, so that nobody takes such runs for a
//! build's own.
//!
//! Without one, a stage tests a field that never changes, once for each run of pages and once a round: nothing beside the clock
//! that is read there anyway. With one, nothing is allocated and no call is made but reading the clock, also in the paused window.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use migbench_scenarios::cell::{Cell, Side};
use serde::{Deserialize, Serialize};

use crate::sys::clock;

/// Where a cost is planted: in the very place that is measured under this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CostStage {
    /// `encode_time`: the policy and the codec; counted in pages.
    Encode,
    /// `harvest_time` and `downtime_harvest`: reading the dirty tracker; counted in harvests.
    Harvest,
    /// `send_time`: the link; counted in pages.
    Send,
    /// `downtime_resume`: between commit and the guest's first step at the destination; counted in resumes.
    Resume,
}

const STAGES: [(&str, CostStage); 4] = [
    ("encode", CostStage::Encode),
    ("harvest", CostStage::Harvest),
    ("send", CostStage::Send),
    ("resume", CostStage::Resume),
];

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Amount {
    /// Share of the time that the stage takes by itself.
    Share(f64),
    /// Nanoseconds for each page, harvest or resume.
    Each(u64),
}

/// One planted cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlantedCost {
    /// Where.
    pub stage: CostStage,
    /// How much.
    pub amount: Amount,
}

impl FromStr for PlantedCost {
    type Err = String;

    /// `encode+10%` or `resume+200us`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no cost; write it like encode+10% or resume+200us");
        let (stage, amount) = text.split_once('+').ok_or_else(wrong)?;
        let stage = STAGES.iter().find(|(name, _)| *name == stage).ok_or_else(wrong)?.1;
        let amount = if let Some(percent) = amount.strip_suffix('%') {
            let share = percent.parse::<f64>().map_err(|_| wrong())? / 100.0;
            if !(0.0..=100.0).contains(&share) {
                return Err(wrong());
            }
            Amount::Share(share)
        } else {
            let time: humantime::Duration = amount.parse().map_err(|_| wrong())?;
            if *time > Duration::from_secs(1) {
                return Err(format!("`{text}`: at most 1s"));
            }
            Amount::Each(u64::try_from(time.as_nanos()).map_err(|_| wrong())?)
        };
        Ok(Self { stage, amount })
    }
}

impl fmt::Display for PlantedCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = STAGES.iter().find(|(_, stage)| *stage == self.stage).map_or("?", |(name, _)| name);
        match self.amount {
            // As typed: 0.07 * 100 is a little more than 7.
            Amount::Share(share) => write!(f, "{stage}+{}%", (share * 1e8).round() / 1e6),
            Amount::Each(ns) => write!(f, "{stage}+{}", humantime::format_duration(Duration::from_nanos(ns))),
        }
    }
}

/// A cost on one side of `migbench ab`, or on every run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planted {
    /// The side; none for both.
    pub side: Option<Side>,
    /// What.
    pub cost: PlantedCost,
}

impl Planted {
    /// What the runs of `cell` carry; nothing is planted into another VMM.
    #[must_use]
    pub fn on(planted: Option<Self>, cell: &Cell) -> Option<PlantedCost> {
        planted
            .filter(|_| !cell.engine.is_peer())
            .filter(|planted| planted.side.is_none() || planted.side == cell.side)
            .map(|planted| planted.cost)
    }
}

impl FromStr for Planted {
    type Err = String;

    /// `new:encode+10%`, or a cost alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((side, cost)) = text.split_once(':') else {
            return Ok(Self { side: None, cost: text.parse()? });
        };
        let side = Side::ALL.iter().find(|(word, _)| *word == side).map(|(_, side)| *side);
        let side = side.ok_or_else(|| format!("`{text}`: a side is base or new, as in new:encode+10%"))?;
        Ok(Self { side: Some(side), cost: cost.parse()? })
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Some(side) => write!(f, "{side}:{}", self.cost),
            None => self.cost.fmt(f),
        }
    }
}

/// Spends what is planted, where it is planted.
#[derive(Debug, Default)]
pub struct Planter {
    cost: Option<PlantedCost>,
    /// Nanoseconds that are due. What was spent too long is a credit: pages are encoded in less time than it takes to look
    /// at a clock.
    due: f64,
}

impl Planter {
    /// The shortest time that is spent at once, in ns.
    const LEAST: f64 = 2_000.0;

    /// Of what is planted, or of nothing.
    #[must_use]
    pub fn new(cost: Option<PlantedCost>) -> Self {
        Self { cost, due: 0.0 }
    }

    /// The stage has worked since `since` ([`clock::now`]), on `times` pages, harvests or resumes. Comes back later, if that is
    /// what was planted.
    #[inline]
    pub fn spend(&mut self, stage: CostStage, since: u64, times: u64) {
        if let Some(cost) = self.cost
            && cost.stage == stage
        {
            self.spin(cost.amount, since, times);
        }
    }

    #[cold]
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a stage")]
    fn spin(&mut self, amount: Amount, since: u64, times: u64) {
        let start = clock::now();
        self.due += match amount {
            Amount::Share(share) => share * (start - since) as f64,
            Amount::Each(ns) => (ns * times) as f64,
        };
        if self.due < Self::LEAST {
            return;
        }
        let mut now = start;
        while ((now - start) as f64) < self.due {
            std::hint::spin_loop();
            now = clock::now();
        }
        // The loop may have lost its CPU for long: that was no work of its own.
        self.due = (self.due - (now - start) as f64).max(-Self::LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows() {
        for text in
            ["encode+10%", "send+7%", "harvest+2.5%", "resume+200us", "new:encode+300ns", "base:harvest+1ms"]
        {
            assert_eq!(text.parse::<Planted>().unwrap().to_string(), text);
        }
        for text in
            ["encode", "encode+", "encode+10", "decode+10%", "encode+-5%", "moon:encode+5%", "resume+2s"]
        {
            assert!(text.parse::<Planted>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cost_is_paid_in_its_stage_only_and_in_full() {
        let mut planter = Planter::new(Some("encode+300ns".parse().unwrap()));
        let start = clock::now();
        for _ in 0..1000 {
            planter.spend(CostStage::Encode, clock::now(), 10);
        }
        let spent = clock::now() - start;
        // At least what is due, less what is too short to be spent: no busy host makes that shorter.
        assert!(spent >= 3_000_000 - 2_000, "{spent}");
        assert!(planter.due < Planter::LEAST, "{}", planter.due);
        planter.due = 1e18;
        planter.spend(CostStage::Send, start, 10);
        Planter::default().spend(CostStage::Encode, 0, u64::MAX);
    }

    #[test]
    fn a_share_is_of_the_time_that_the_stage_took() {
        let mut planter = Planter::new(Some("send+50%".parse().unwrap()));
        let start = clock::now();
        planter.spend(CostStage::Send, start.saturating_sub(4_000_000), 1);
        assert!(clock::now() - start >= 2_000_000);
    }

    #[test]
    fn one_side_carries_it() {
        let plan = migbench_scenarios::Suite::find("quick").unwrap().sides(&[], &[]).unwrap();
        let [base, new] = [0, 1].map(|row| &plan.comparisons[0].cells[row].cell);
        let planted: Planted = "new:encode+10%".parse().unwrap();
        assert_eq!(Planted::on(Some(planted), base), None);
        assert_eq!(Planted::on(Some(planted), new), Some(planted.cost));
        let all = Planted { side: None, ..planted };
        assert_eq!(Planted::on(Some(all), base), Some(planted.cost));
        assert_eq!(Planted::on(None, new), None);
    }
}

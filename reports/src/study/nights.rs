//! How far nights can be trusted: histories of nights, drawn from real or simulated runs of one build, each judged as
//! `migbench nightly` judges it. A history has builds that are known to be slower from some night on, or to get slower each night.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{BlockPool, Shift, StudyError};
use crate::judge::nights::{self, Course, NightSamples, Said};
use crate::judge::{Accepted, Verdict, judge};

/// A kind of history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scenario {
    /// Nights that are measured.
    pub nights: usize,
    /// Blocks of each cell in a night.
    pub blocks: usize,
    /// From that night on, counted from 1, builds are slower by that share.
    pub planted: Option<(usize, f64)>,
    /// By what share each build is slower than the one before it.
    pub creep: f64,
    /// Every so many nights are measured against the pinned build, which is the first one, too; 0 for never.
    pub pinned_every: usize,
}

impl Scenario {
    /// What the build of that night takes over the first build.
    fn build(&self, night: usize) -> f64 {
        let crept = (1.0 + self.creep).powi(i32::try_from(night).unwrap_or(i32::MAX));
        crept * self.planted.filter(|(from, _)| night >= *from).map_or(1.0, |(_, share)| 1.0 + share)
    }
}

/// What became of histories. A history ends with an alarm of what was planted, or once that is absorbed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Histories.
    pub histories: usize,
    /// In which the first alarm of what was planted came within five nights, the night it came included.
    pub alarmed_within_five: usize,
    /// In which it came at all.
    pub alarmed: usize,
    /// In which a build with what was planted became a base before that.
    pub absorbed: usize,
    /// In which a build passed within the first five nights.
    pub passed_within_five: usize,
    /// Nights of builds that were no slower than their base.
    pub clean_nights: usize,
    /// Alarms of these.
    pub false_alarms: usize,
    /// Histories with an alarm against the pinned build.
    pub found_by_pinned: usize,
    /// The sum, over these, of the night of the first such alarm.
    pub found_in: usize,
}

impl Outcomes {
    fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.alarmed_within_five += other.alarmed_within_five;
        self.alarmed += other.alarmed;
        self.absorbed += other.absorbed;
        self.passed_within_five += other.passed_within_five;
        self.clean_nights += other.clean_nights;
        self.false_alarms += other.false_alarms;
        self.found_by_pinned += other.found_by_pinned;
        self.found_in += other.found_in;
    }
}

impl BlockPool {
    /// `times` histories of a kind, on all CPUs. History number n is the same for the same seed, however many there are.
    ///
    /// # Errors
    /// [`StudyError`]
    pub fn histories(&self, scenario: &Scenario, times: usize, seed: u64) -> Result<Outcomes, StudyError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let part = |first: usize| {
            let mut outcomes = Outcomes::default();
            for number in (first..times).step_by(threads) {
                let offset = u64::try_from(number).unwrap_or_default();
                outcomes.add(&self.history(scenario, seed.wrapping_mul(1_000_003).wrapping_add(offset))?);
            }
            Ok::<_, StudyError>(outcomes)
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
            let mut all = Outcomes::default();
            for part in parts {
                all.add(&part.join().map_err(|_| StudyError::Nothing)??);
            }
            Ok(all)
        })
    }

    fn history(&self, scenario: &Scenario, seed: u64) -> Result<Outcomes, StudyError> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut outcomes = Outcomes { histories: 1, ..Outcomes::default() };
        let (mut base, mut pinned) = (Course::default(), Course::default());
        // The nights of the builds at hand; 0 is the one before all of them.
        let (mut good, mut candidate) = (0, 0);
        let planted = scenario.planted.map_or(usize::MAX, |(night, _)| night);
        for night in 1..=scenario.nights {
            if base.looks == 0 {
                candidate = night;
            }
            let change = scenario.build(night) / scenario.build(good);
            let clean = change <= 1.0;
            let said = self.night(&mut base, change, scenario.blocks, true, &mut random)?;
            outcomes.clean_nights += usize::from(clean);
            match said {
                Said::Alarm if clean => outcomes.false_alarms += 1,
                Said::Alarm if night >= planted => {
                    outcomes.alarmed += 1;
                    outcomes.alarmed_within_five += usize::from(night < planted + 5);
                    break;
                }
                Said::Pass => {
                    good = candidate;
                    if night <= 5 {
                        outcomes.passed_within_five = 1;
                    }
                    if good >= planted {
                        outcomes.absorbed += 1;
                        break;
                    }
                }
                Said::Alarm | Said::Open => {}
            }
            let due = scenario.pinned_every > 0 && night % scenario.pinned_every == 0;
            if due && said != Said::Alarm {
                let change = scenario.build(night) / scenario.build(0);
                let said = self.night(&mut pinned, change, scenario.blocks, false, &mut random)?;
                if said == Said::Alarm && change > 1.0 {
                    outcomes.found_by_pinned += 1;
                    outcomes.found_in += night;
                    break;
                }
                outcomes.clean_nights += usize::from(change <= 1.0 && !clean);
                outcomes.false_alarms += usize::from(said == Said::Alarm);
            }
        }
        Ok(outcomes)
    }

    /// One measurement, judged with those before it, as a night is: an alarm of its own is put to fresh samples.
    fn night(
        &self,
        course: &mut Course<Option<NightSamples>>,
        change: f64,
        blocks: usize,
        advances: bool,
        random: &mut Xoshiro256PlusPlus,
    ) -> Result<Said, StudyError> {
        let shifts: Vec<Shift> =
            self.metrics().into_iter().map(|metric| Shift { metric, factor: change }).collect();
        let accepted = Accepted::default();
        let drawn = self.draw(blocks, true, &shifts, random)?;
        let first = self.measured(&drawn)?;
        let evidence = NightSamples::of(&first, &self.gates, &accepted);
        let mut alone = Verdict::NotEnough;
        if nights::suspicious(&evidence, &self.gates) {
            alone = judge(&first, None, &accepted)?.verdict;
        }
        if alone == Verdict::Unconfirmed && advances {
            let drawn = self.draw(blocks, true, &shifts, random)?;
            alone = judge(&first, Some(&self.measured(&drawn)?), &accepted)?.verdict;
        }
        course.add(Some(evidence));
        let said = nights::said(course, &self.gates, advances).with(alone);
        course.conclude(said);
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::gate_tests::{ab, gate, noise};

    /// Runs that vary by 11 %: four cells of one build.
    fn pool() -> BlockPool {
        let noise = noise(11.0, 7);
        BlockPool::of(&[ab(400, |_, _| noise())], &[gate("total_time", 0.0)]).unwrap()
    }

    fn scenario(planted: Option<(usize, f64)>) -> Scenario {
        Scenario { nights: 8, blocks: 10, planted, creep: 0.0, pinned_every: 0 }
    }

    /// What `gate-study --nights` shows of a thousand histories, of so few that it takes no time. A share of 0.9 falls so far by
    /// chance less often than once in a hundred thousand, and the seeds are fixed.
    #[test]
    fn histories_of_nights_keep_what_is_promised() {
        let pool = pool();
        for from in [1, 4] {
            let slower = pool.histories(&scenario(Some((from, 0.05))), 20, 1).unwrap();
            assert_eq!(slower.histories, 20);
            assert!(slower.alarmed_within_five >= 10 && slower.absorbed <= 7, "{slower:?}");
        }
        let same = pool.histories(&scenario(None), 20, 2).unwrap();
        assert_eq!((same.clean_nights, same.alarmed), (160, 0));
        assert!(same.passed_within_five >= 10 && same.false_alarms <= 10, "{same:?}");
    }

    #[test]
    fn what_creeps_in_is_found_against_the_pinned_build() {
        let creeping = Scenario { nights: 15, creep: 0.005, pinned_every: 2, ..scenario(None) };
        let found = pool().histories(&creeping, 12, 3).unwrap();
        assert!(found.found_by_pinned >= 4, "{found:?}");
    }

    #[test]
    fn the_seed_decides() {
        let of = |seed| pool().histories(&scenario(Some((1, 0.05))), 3, seed).unwrap();
        assert_eq!(of(5), of(5));
    }
}

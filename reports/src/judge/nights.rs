//! Nights as strata of one test. A night alone can't tell a small regression from noise, and whoever tests each night anew gives it
//! a new chance each night. So nights are tested together, by two rules whose errors are bounded over all looks:
//!
//! - **The base advances by alpha spending** (Lan and DeMets 1983, the increments summed, so that nothing is assumed of how looks
//!   depend on each other). The build of the first night against a base is its *candidate*. It becomes the next base once all
//!   nights against that base together exclude a change of [`EXCLUDED`] in the mean and of [`EXCLUDED_IN_CELL`] in each cell, at
//!   the level that this look may spend ([`level`]); all looks of a test together spend [`ALPHA`]. A regression that was there
//!   in the candidate is in the builds after it too, until it is mended: no later night dilutes it. One that came after the candidate
//!   is met by a later test, whose base does not have it.
//! - **An alarm is a rate**: each night the last 1, 2, 3, 5 and 8 nights are tested in one joint permutation test of all windows, gates,
//!   means and cells ([`ALARM`] for all together). Its hypothesis is that none of these nights' builds is worse than what it was measured
//!   against, so that nights stay in it when the base advances. After an alarm windows and test begin anew.
//!
//! Blocks are the units: swapping the sides of a block is a relabelling within its night, so a night is a stratum by itself. Each
//! night of each cell counts once, however many blocks it has.

use std::fmt::Write as _;

use migbench_scenarios::cell::Cell;
use migbench_scenarios::gate::Gate;

use super::accepted::Accepted;
use super::gate::{self, EXCLUDED, EXCLUDED_IN_CELL, GateSamples, RELEVANT};
use super::measurement::Measurement;
use super::samples::Units;
use super::{Judgement, Verdict};
use crate::manifest::Manifest;
use crate::quantity::{count, difference};
use crate::stats::{ALPHA, Against, Family, Labels, Stratified, Values, real};
use crate::store::RunData;

/// So many last nights are tested together, side by side.
pub const WINDOWS: [usize; 5] = [1, 2, 3, 5, 8];
/// How often a night without any regression may raise an alarm by its windows.
pub const ALARM: f64 = 0.005;
/// From this look on a test spends what is left over ever more looks.
const LATE: usize = 6;
/// The level of a test is halved with each alarm before it, so often at most.
const HALVINGS: usize = 3;
/// Standard errors that an alarm is away from none at least, and an excluded change from the estimate: at the levels of nights what is
/// nearer need not be tested.
const LEAST_ERRORS: f64 = 2.0;
/// Standard errors that a night of its own is away from none, for an alarm at [`ALPHA`].
const SUSPICIOUS: f64 = 1.4;
/// Seed of the permutations.
const SEED: u64 = 1;

/// The level of one look of a test: so often a change that is to be excluded may pass at this look. A night sees little at
/// first, hence the looks up to the fifth get 1, 2, 3, 4 and 5 twentieths of [`ALPHA`], and all after them a quarter together.
/// A test after an alarm gets half of that, and no test less than an eighth.
#[must_use]
pub fn level(look: usize, alarms: usize) -> f64 {
    let share =
        if look < LATE { real(look) / 20.0 } else { 0.25 * real(LATE) / (real(look) * real(look + 1)) };
    ALPHA * share / real(1 << alarms.min(HALVINGS))
}

/// What is remembered from night to night, of nights of any kind: the last of `recent` is the latest one.
#[derive(Debug, Clone, PartialEq)]
pub struct Course<T> {
    /// Nights since the last alarm, against whichever base.
    pub recent: Vec<T>,
    /// How many of the last of them are of the test against the base at hand: as many looks it had.
    pub looks: usize,
    /// Alarms since the base at hand was kept.
    pub alarms: usize,
}

impl<T> Default for Course<T> {
    fn default() -> Self {
        Self { recent: Vec::new(), looks: 0, alarms: 0 }
    }
}

impl<T> Course<T> {
    /// A night was measured; the first one against a base is that of its candidate.
    pub fn add(&mut self, night: T) {
        self.recent.push(night);
        self.looks += 1;
        let needed = self.looks.max(WINDOWS[WINDOWS.len() - 1]);
        self.recent.drain(..self.recent.len().saturating_sub(needed));
    }

    /// And this was said of it.
    pub fn conclude(&mut self, said: Said) {
        match said {
            Said::Alarm => {
                self.recent.clear();
                self.looks = 0;
                self.alarms += 1;
            }
            Said::Pass => (self.looks, self.alarms) = (0, 0),
            Said::Open => {}
        }
    }

    /// Nights of the test at hand, that of the candidate first.
    #[must_use]
    pub fn test(&self) -> &[T] {
        &self.recent[self.recent.len().saturating_sub(self.looks)..]
    }
}

/// What is said of a night, with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Something became worse.
    Alarm,
    /// The candidate did not; it is the next base.
    Pass,
    /// Neither can be said yet.
    Open,
}

impl Said {
    /// The same with what the measurement of tonight says alone.
    #[must_use]
    pub(crate) const fn with(self, tonight: Verdict) -> Self {
        match (tonight, self) {
            (Verdict::Regression, _) => Self::Alarm,
            (Verdict::Unconfirmed, Self::Pass) => Self::Open,
            (_, said) => said,
        }
    }
}

/// The samples of one night: what is judged, and no more.
#[derive(Debug, Clone, PartialEq)]
pub struct NightSamples {
    blocks: usize,
    gates: Vec<GateSamples>,
}

impl NightSamples {
    /// Of a measurement whose sides ran side by side, for `gates`.
    #[must_use]
    pub fn of(measurement: &Measurement<'_>, gates: &[Gate], accepted: &Accepted) -> Self {
        let units = Units::of(&measurement.cells);
        let blocks = match units.labels {
            Labels::Swaps(blocks) => blocks,
            Labels::Groups { base, new } => base + new,
        };
        let of = |gate| gate::samples(measurement, &units, gate, accepted);
        Self { blocks, gates: gates.iter().map(of).collect() }
    }
}

/// The samples of a night that was measured before, where they are a stratum beside tonight's: of the same cells, sound, and of a host
/// that was not disturbed.
#[must_use]
pub fn stratum(
    data: &RunData,
    tonight: &Manifest,
    gates: &[Gate],
    accepted: &Accepted,
) -> Option<NightSamples> {
    let cells = |manifest: &Manifest| -> Vec<(String, Cell)> {
        let cells = manifest.comparisons.iter().flat_map(|comparison| &comparison.cells);
        // Each night's builds lie in a directory of its own.
        cells.map(|planned| (planned.id.clone(), Cell { binary: None, ..planned.cell.clone() })).collect()
    };
    let measurement = Measurement::of_one(data).ok()?;
    let sound = measurement.unsound.is_empty() && measurement.host.is_empty();
    (sound && cells(&data.manifest) == cells(tonight))
        .then(|| NightSamples::of(&measurement, gates, accepted))
}

/// The change of a metric over some nights, for the worse where it is positive, in the mean or in a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct NightsChange {
    /// Id of the cell; `None` of the mean over cells.
    pub cell: Option<String>,
    /// New over base where larger is worse, and base over new where it is better.
    pub ratio: f64,
    /// The largest such ratio that is not excluded at the level of the look.
    pub open: Option<f64>,
    /// Whether a change that counts is excluded.
    pub excluded: bool,
}

/// One gate over the nights of a test.
#[derive(Debug, Clone, PartialEq)]
pub struct GateNights {
    /// Its metric.
    pub metric: String,
    /// The mean, then each cell.
    pub changes: Vec<NightsChange>,
    /// Whether a limit forced runs of tonight's build to switch over, and not those of the base.
    pub diverged: bool,
}

impl GateNights {
    fn passes(&self) -> bool {
        !self.diverged && !self.changes.is_empty() && self.changes.iter().all(|change| change.excluded)
    }
}

/// What became worse, over the last nights together.
#[derive(Debug, Clone, PartialEq)]
pub struct NightsAlarm {
    /// The metric.
    pub metric: String,
    /// Id of the cell; `None` of the mean over cells.
    pub cell: Option<String>,
    /// Over so many last nights.
    pub nights: usize,
    /// As of [`NightsChange`].
    pub ratio: f64,
    /// Adjusted for all windows, gates, means and cells.
    pub p: f64,
}

/// The nights, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct NightsJudgement {
    /// What is said by them alone.
    pub said: Said,
    /// Each gate over the nights of the test; empty where there is no test (a pinned base does not advance).
    pub gates: Vec<GateNights>,
    /// What raises an alarm, the surest first.
    pub alarms: Vec<NightsAlarm>,
    /// Nights of the test.
    pub looks: usize,
    /// The level of its look.
    pub level: f64,
}

/// Judges the nights of a course, the last of which is tonight's; `None` where the samples of a night are gone, whose look counts
/// all the same. `advances`: whether the base may.
#[must_use]
pub fn judge(course: &Course<Option<NightSamples>>, gates: &[Gate], advances: bool) -> NightsJudgement {
    let alarms = alarms(&course.recent.iter().flatten().collect::<Vec<_>>(), gates);
    let level = level(course.looks, course.alarms);
    let test: Vec<&NightSamples> = course.test().iter().flatten().collect();
    let over = |(index, gate): (usize, &Gate)| over_nights(&test, index, gate, level);
    let tested: Vec<GateNights> =
        if advances { gates.iter().enumerate().map(over).collect() } else { Vec::new() };
    let said = if !alarms.is_empty() {
        Said::Alarm
    } else if !tested.is_empty() && tested.iter().all(GateNights::passes) {
        Said::Pass
    } else {
        Said::Open
    };
    NightsJudgement { said, gates: tested, alarms, looks: course.looks, level }
}

impl NightsJudgement {
    /// With what the measurement of tonight says alone: an alarm that fresh samples confirm stands, and where one was not confirmed
    /// nothing passes.
    #[must_use]
    pub fn with(&self, tonight: &Judgement) -> Said {
        self.said.with(tonight.verdict)
    }

    /// For people, at most 100 columns. `candidate` names the build under test.
    #[must_use]
    pub fn text(&self, candidate: &str) -> String {
        let mut text = String::new();
        if !self.gates.is_empty() {
            let _ = writeln!(
                text,
                "{} against this base, look {} at a level of {:.3} %; under test is {candidate}",
                count(self.looks, "night"),
                self.looks,
                self.level * 100.0
            );
        }
        for gate in &self.gates {
            let word = if gate.passes() { "fine" } else { "can't tell" };
            let _ = write!(text, "{word:<10} {}", gate.metric);
            let open = |change: &NightsChange| change.open.map_or_else(|| "anything".to_owned(), difference);
            if let Some(mean) = gate.changes.first() {
                let _ = write!(text, ": {}, at most {} in the mean", difference(mean.ratio), open(mean));
            }
            let widest = |change: &&NightsChange| change.open.unwrap_or(f64::INFINITY);
            let cells = gate.changes.iter().filter(|change| change.cell.is_some());
            if let Some(worst) = cells.max_by(|a, b| widest(a).total_cmp(&widest(b))) {
                let id = worst.cell.as_deref().unwrap_or_default();
                let _ = write!(text, "\n{:11}at most {} in the worst cell, {id}", "", open(worst));
            }
            text.push('\n');
            if gate.diverged {
                let _ = writeln!(text, "{:11}runs of the new build did not converge", "");
            }
        }
        if !self.gates.is_empty() {
            text.push_str("+ is worse; what is accepted is taken out\n");
        }
        for alarm in &self.alarms {
            let place = alarm.cell.as_ref().map_or_else(|| "in the mean".to_owned(), |id| format!("in {id}"));
            let nights = if alarm.nights == 1 {
                "this night".to_owned()
            } else {
                format!("the last {} nights", alarm.nights)
            };
            let _ = writeln!(
                text,
                "ALARM      {}: {} for the worse {place}, over {nights}, p = {:.4}",
                alarm.metric,
                difference(alarm.ratio),
                alarm.p
            );
        }
        text
    }
}

/// One cell of one night in a test over several.
struct Stratum<'a> {
    night: usize,
    cell: &'a str,
    logs: Values,
    differences: Values,
}

/// The strata of a gate, whose units are numbered through all `nights`; and how many units there are.
fn strata<'a>(nights: &[&'a NightSamples], gate: usize) -> (Vec<Stratum<'a>>, usize) {
    let (mut strata, mut offset) = (Vec::new(), 0);
    for (night, of_night) in nights.iter().enumerate() {
        let moved =
            |values: &Values| -> Values { values.iter().map(|(unit, v)| (unit + offset, *v)).collect() };
        for cell in of_night.gates.get(gate).into_iter().flat_map(|gate| &gate.cells) {
            let (logs, differences) = (moved(&cell.logs), moved(&cell.differences));
            strata.push(Stratum { night, cell: &cell.id, logs, differences });
        }
        offset += of_night.blocks;
    }
    (strata, offset)
}

/// Ids of all cells, in the order in which they appear.
fn ids<'a>(strata: &[Stratum<'a>]) -> Vec<&'a str> {
    let mut ids = Vec::new();
    for stratum in strata {
        if !ids.contains(&stratum.cell) {
            ids.push(stratum.cell);
        }
    }
    ids
}

fn mean(values: &Values) -> f64 {
    values.iter().map(|(_, value)| value).sum::<f64>() / real(values.len().max(1))
}

fn mean_over<'a>(of: impl Iterator<Item = &'a Values>) -> f64 {
    let means: Vec<f64> = of.map(mean).collect();
    means.iter().sum::<f64>() / real(means.len().max(1))
}

/// The standard error of such a mean, from the scatter within strata.
fn error_of<'a>(of: impl Iterator<Item = &'a Values>) -> f64 {
    let squared = |values: &Values| {
        let (mean, n) = (mean(values), real(values.len()));
        values.iter().map(|(_, value)| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n.max(1.0)
    };
    let all: Vec<f64> = of.map(squared).collect();
    all.iter().sum::<f64>().sqrt() / real(all.len().max(1))
}

/// All windows that there are nights for, in one joint test.
fn alarms(recent: &[&NightSamples], gates: &[Gate]) -> Vec<NightsAlarm> {
    let recent = &recent[recent.len().saturating_sub(WINDOWS[WINDOWS.len() - 1])..];
    let (mut family, mut asked) = (
        Family {
            labels: Labels::Swaps(0),
            values: Vec::new(),
            hypotheses: Vec::new(),
            against: Against::NotGreater,
        },
        Vec::new(),
    );
    for (index, gate) in gates.iter().enumerate() {
        let (strata, units) = strata(recent, index);
        family.labels = Labels::Swaps(units);
        let first = family.values.len();
        family.values.extend(strata.iter().map(|stratum| stratum.logs.clone()));
        let ids = ids(&strata);
        for window in WINDOWS.into_iter().filter(|window| *window <= recent.len()) {
            let mut ask = |cell: Option<&str>| {
                let within = |stratum: &Stratum<'_>| {
                    stratum.night + window >= recent.len() && cell.is_none_or(|id| stratum.cell == id)
                };
                let members: Vec<usize> = (0..strata.len()).filter(|place| within(&strata[*place])).collect();
                if members.is_empty() {
                    return;
                }
                let log = mean_over(members.iter().map(|place| &strata[*place].logs));
                let worse_by = mean_over(members.iter().map(|place| &strata[*place].differences));
                let error = error_of(members.iter().map(|place| &strata[*place].logs));
                let relevant =
                    log >= RELEVANT.ln_1p() && worse_by >= gate.floor && log >= LEAST_ERRORS * error;
                family.hypotheses.push(members.into_iter().map(|place| first + place).collect());
                let (metric, cell) = (gate.metric.clone(), cell.map(str::to_owned));
                asked
                    .push((relevant, NightsAlarm { metric, cell, nights: window, ratio: log.exp(), p: 1.0 }));
            };
            ask(None);
            // The mean over one cell is that cell.
            if ids.len() > 1 {
                ids.iter().for_each(|id| ask(Some(id)));
            }
        }
    }
    if !asked.iter().any(|(relevant, _)| *relevant) {
        return Vec::new();
    }
    let tested = family.test(ALARM, SEED);
    let tested =
        asked.into_iter().zip(tested).filter(|((relevant, _), found)| *relevant && found.adjusted <= ALARM);
    let mut alarms: Vec<NightsAlarm> =
        tested.map(|((_, alarm), found)| NightsAlarm { p: found.adjusted, ..alarm }).collect();
    alarms.sort_by(|a, b| a.p.total_cmp(&b.p).then(b.nights.cmp(&a.nights)));
    alarms
}

/// A gate over the nights of a test.
fn over_nights(test: &[&NightSamples], index: usize, gate: &Gate, level: f64) -> GateNights {
    let (strata, units) = strata(test, index);
    let change = |cell: Option<&str>, exclude: f64| {
        let over = Over { strata: &strata, labels: Labels::Swaps(units), cell, gate, level };
        let logs = over.test(|stratum| &stratum.logs)?;
        Some(NightsChange {
            cell: cell.map(str::to_owned),
            ratio: logs.estimate.exp(),
            open: logs.upper(level).map(f64::exp),
            excluded: over.excludes(exclude, || Some(logs.clone())),
        })
    };
    let cells = ids(&strata);
    let each = cells.iter().filter_map(|id| change(Some(id), EXCLUDED_IN_CELL));
    let changes = change(None, EXCLUDED).into_iter().chain(each).collect();
    GateNights { metric: gate.metric.clone(), changes, diverged: diverged(test, index) }
}

fn diverged(test: &[&NightSamples], index: usize) -> bool {
    test.last().and_then(|night| night.gates.get(index)).is_some_and(|gate| gate.diverged)
}

/// The mean over strata, or over those of a cell.
struct Over<'a, 'b> {
    strata: &'b [Stratum<'a>],
    labels: Labels,
    cell: Option<&'b str>,
    gate: &'b Gate,
    level: f64,
}

impl Over<'_, '_> {
    fn values<'c>(&'c self, of: impl Fn(&'c Stratum<'c>) -> &'c Values) -> impl Iterator<Item = &'c Values> {
        let wanted = |stratum: &&Stratum<'_>| self.cell.is_none_or(|id| stratum.cell == id);
        self.strata.iter().filter(wanted).map(of)
    }

    fn test<'c>(&'c self, of: impl Fn(&'c Stratum<'c>) -> &'c Values) -> Option<Stratified> {
        Stratified::of(self.labels, &self.values(of).cloned().collect::<Vec<_>>(), SEED)
    }

    /// Whether a change of `exclude` is excluded, or all that is not is under the floor.
    fn excludes(&self, exclude: f64, logs: impl FnOnce() -> Option<Stratified>) -> bool {
        let log = mean_over(self.values(|stratum| &stratum.logs));
        let error = error_of(self.values(|stratum| &stratum.logs));
        let far = exclude.ln_1p() - log >= LEAST_ERRORS * error;
        let excluded = far && logs().is_some_and(|logs| logs.p_less(exclude.ln_1p()) <= self.level);
        excluded || self.under_floor()
    }

    fn under_floor(&self) -> bool {
        // A bound is no nearer than the estimate.
        mean_over(self.values(|stratum| &stratum.differences)) < self.gate.floor
            && self
                .test(|stratum| &stratum.differences)
                .and_then(|differences| differences.upper(self.level))
                .is_some_and(|open| open < self.gate.floor)
    }
}

/// What [`judge`] says of the nights alone, and no more: for thousands of histories.
#[must_use]
pub(crate) fn said(course: &Course<Option<NightSamples>>, gates: &[Gate], advances: bool) -> Said {
    if !alarms(&course.recent.iter().flatten().collect::<Vec<_>>(), gates).is_empty() {
        return Said::Alarm;
    }
    let level = level(course.looks, course.alarms);
    let test: Vec<&NightSamples> = course.test().iter().flatten().collect();
    let passes = |(index, gate): (usize, &Gate)| {
        let (strata, units) = strata(&test, index);
        let excludes = |cell: Option<&str>, exclude: f64| {
            let over = Over { strata: &strata, labels: Labels::Swaps(units), cell, gate, level };
            over.excludes(exclude, || over.test(|stratum| &stratum.logs))
        };
        !strata.is_empty()
            && !diverged(&test, index)
            && excludes(None, EXCLUDED)
            && ids(&strata).into_iter().all(|id| excludes(Some(id), EXCLUDED_IN_CELL))
    };
    let pass = advances && !gates.is_empty() && gates.iter().enumerate().all(passes);
    if pass { Said::Pass } else { Said::Open }
}

/// Whether a night may raise an alarm by the gate's rule: that takes a relevant change so many standard errors away, and more.
#[must_use]
pub(crate) fn suspicious(night: &NightSamples, gates: &[Gate]) -> bool {
    gates.iter().enumerate().any(|(index, gate)| {
        let (strata, units) = strata(&[night], index);
        let cells = ids(&strata).into_iter().map(Some);
        std::iter::once(None).chain(cells).any(|cell| {
            let over = Over { strata: &strata, labels: Labels::Swaps(units), cell, gate, level: ALPHA };
            let log = mean_over(over.values(|stratum| &stratum.logs));
            log >= RELEVANT.ln_1p() && log >= SUSPICIOUS * error_of(over.values(|stratum| &stratum.logs))
        })
    })
}

#[cfg(test)]
#[path = "nights_tests.rs"]
mod tests;

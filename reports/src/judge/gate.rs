//! The decision: did a gated metric become worse, in the mean over its cells or in one of them?
//!
//! One joint permutation test has every gate's mean over cells and every cell of it, each adjusted for all others, one-sided.
//! It is an **alarm** where a change for the worse is significant, relevant ([`RELEVANT`]) and not below the gate's floor:
//! of the mean, or of a cell, for which gains elsewhere do not pay. It is **fine** where a change of [`EXCLUDED`] in the mean
//! and of [`EXCLUDED_IN_CELL`] in every cell can be excluded, or all that can't is below the floor. Anything else is **not
//! enough evidence**: a noisy host must not pass for a good commit.
//!
//! An alarm stands only if fresh samples alone confirm it. Samples are never added to those that raised it: whoever adds
//! until something turns significant will find something. Two directories that were measured at two times raise no alarm that
//! could stand: what the host did between them is in each of their differences.

use migbench_scenarios::gate::Gate;
use migbench_scenarios::words;

use super::accepted::Accepted;
use super::host::HostChange;
use super::measurement::{CellPair, JudgeError, Measurement};
use super::samples::{Samples, Units};
use super::stage::{self, Moved};
use crate::metric::{self, Better, MetricKey};
use crate::shell;
use crate::stats::{self, ALPHA, Against, Family, Labels, Stratified, Values, fisher, median, power};

/// A change smaller than this is no regression, however surely it is there.
pub const RELEVANT: f64 = 0.025;
/// The change of the mean that must be excluded before "not worse" is said.
pub const EXCLUDED: f64 = 0.05;
/// The change of any one cell that must be excluded before "not worse" is said.
pub const EXCLUDED_IN_CELL: f64 = 0.10;
/// Seed of the permutations.
const SEED: u64 = 1;

/// The change of a gated metric, in the mean over cells or in one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// New over base: of geometric means, and over cells their geometric mean.
    pub ratio: f64,
    /// The bounds of the ratio, each by itself missed at most once in twenty times; absent where samples allow none.
    pub bounds: (Option<f64>, Option<f64>),
    /// How likely a change for the worse as large would be by chance, adjusted for all that is judged with it.
    pub p: f64,
    /// In the metric's unit; positive is worse.
    pub worse_by: f64,
    /// The change for the worse that is accepted and not judged, as a share: the rest is what counts.
    pub accepted: f64,
    /// Whether it became worse, as far as these samples say.
    pub alarm: bool,
    /// Whether a change that would count is excluded.
    pub excluded: bool,
}

/// One cell of a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedCell {
    /// Its id.
    pub id: String,
    /// Median of the base, in the metric's unit.
    pub base: f64,
    /// How many samples of each side.
    pub samples: (usize, usize),
    /// What became of it.
    pub change: Change,
}

/// What is said of one gate.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It did not become worse by [`EXCLUDED`] or more in the mean, nor by [`EXCLUDED_IN_CELL`] in a cell.
    Fine,
    /// It became worse, as far as these samples say; they need to be confirmed.
    Alarm,
    /// It became worse, and fresh samples confirm it.
    Regression,
    /// Nothing can be said.
    NotEnough {
        /// Timed runs of each cell that would be needed, where that can be estimated.
        runs: Option<usize>,
    },
}

/// One gate, judged by one measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct GateResult {
    /// The gate.
    pub gate: Gate,
    /// What was said.
    pub outcome: Outcome,
    /// The mean over cells; absent where no cell could be judged.
    pub mean: Option<Change>,
    /// The change of the mean that a test of these samples finds nine times in ten, as a share.
    pub detectable: Option<f64>,
    /// Each cell that was judged.
    pub cells: Vec<JudgedCell>,
    /// Cells that could not be judged, with the reason.
    pub left_out: Vec<(String, String)>,
    /// Of an alarm, the stages that moved, the largest first.
    pub stages: Vec<Moved>,
}

impl GateResult {
    /// The cell of which least is excluded: with the largest bound for the worse, or none.
    #[must_use]
    pub fn worst(&self) -> Option<&JudgedCell> {
        let larger =
            MetricKey::find(&self.gate.metric).is_some_and(|key| key.definition().better == Better::Larger);
        let open = |cell: &&JudgedCell| {
            let (low, high) = cell.change.bounds;
            if larger { low.map(|low| -low.ln()) } else { high.map(f64::ln) }.unwrap_or(f64::INFINITY)
        };
        self.cells.iter().max_by(|a, b| open(a).total_cmp(&open(b)))
    }

    /// Whether anything was judged of which no change is accepted.
    fn judges_unaccepted(&self) -> bool {
        self.cells.iter().any(|cell| cell.change.accepted <= 0.0)
    }

    /// What raised the alarm: the mean (`None`) and ids of cells.
    fn alarmed(&self) -> Vec<Option<&str>> {
        let mean = self.mean.iter().filter(|mean| mean.alarm).map(|_| None);
        let cells = self.cells.iter().filter(|cell| cell.change.alarm).map(|cell| Some(cell.id.as_str()));
        mean.chain(cells).collect()
    }
}

words! {
    /// What is said of the whole.
    Verdict {
        /// No gated metric became worse.
        Fine = "pass",
        /// One did, and fresh samples confirmed it.
        Regression = "regression",
        /// One seems to have; measure again.
        Unconfirmed = "not confirmed",
        /// Nothing can be said.
        NotEnough = "not enough evidence",
        /// All that could be judged is accepted, up to its size.
        NothingJudged = "nothing judged",
        /// The host was another one for the two sides.
        HostChanged = "host changed",
        /// The host took time from runs.
        HostDisturbed = "host disturbed",
        /// Guests were not steady when their migrations began.
        NotSteady = "not steady",
        /// The new side failed runs or proofs: that is not a matter of speed.
        Unsound = "not sound",
    }
}

impl Verdict {
    /// The exit status.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Unsound => 1,
            Self::Unconfirmed
            | Self::NotEnough
            | Self::NothingJudged
            | Self::HostChanged
            | Self::HostDisturbed
            | Self::NotSteady => 3,
            Self::Regression => 4,
        }
    }

    /// Of what the hosts of a measurement did; `None` of quiet ones.
    fn of_host(changes: &[HostChange]) -> Option<Self> {
        let changed = |change: &HostChange| matches!(change, HostChange::Canary { .. });
        match changes {
            [] => None,
            some if some.iter().any(changed) => Some(Self::HostChanged),
            some if some.iter().all(HostChange::is_unsteady) => Some(Self::NotSteady),
            _ => Some(Self::HostDisturbed),
        }
    }
}

/// All gates, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What is said of the whole.
    pub verdict: Verdict,
    /// One per gate, in the order of the suite. Those that the first measurement alarmed are as fresh samples have it.
    pub gates: Vec<GateResult>,
    /// Of gates that the first measurement alarmed, what it said.
    pub first_alarms: Vec<GateResult>,
}

impl Judgement {
    /// What is said of one gate: that of the whole, where that is about all of them.
    #[must_use]
    pub const fn verdict_of(&self, result: &GateResult) -> Verdict {
        match (self.verdict, &result.outcome) {
            (
                whole @ (Verdict::Unsound
                | Verdict::NothingJudged
                | Verdict::HostChanged
                | Verdict::HostDisturbed
                | Verdict::NotSteady),
                _,
            ) => whole,
            (_, Outcome::Fine) => Verdict::Fine,
            (_, Outcome::Alarm) => Verdict::Unconfirmed,
            (_, Outcome::Regression) => Verdict::Regression,
            (_, Outcome::NotEnough { .. }) => Verdict::NotEnough,
        }
    }

    /// Timed runs of each cell and side that would do, where evidence is lacking and that can be estimated.
    #[must_use]
    pub fn runs_wanted(&self) -> Option<usize> {
        let wanted = |result: &GateResult| match result.outcome {
            Outcome::NotEnough { runs } => runs,
            _ => None,
        };
        self.gates.iter().filter_map(wanted).max().filter(|_| self.verdict == Verdict::NotEnough)
    }

    /// Gates that stand as alarms or regressions.
    pub fn alarms(&self) -> impl Iterator<Item = &GateResult> {
        self.gates.iter().filter(|result| matches!(result.outcome, Outcome::Alarm | Outcome::Regression))
    }
}

/// Judges `first`; where it raises an alarm and there are `fresh` samples, those alone decide on it.
///
/// That they are fresh, [`super::fresh::require`] says.
///
/// # Errors
/// [`JudgeError::NoGates`], and [`JudgeError::Same`] for two directories of one measurement.
pub fn judge(
    first: &Measurement<'_>,
    fresh: Option<&Measurement<'_>>,
    accepted: &Accepted,
) -> Result<Judgement, JudgeError> {
    if first.gates.is_empty() {
        let (base, new) = (shell::path(&first.base.path), shell::path(&first.new.path));
        let reading = first.base.reading.map_or_else(String::new, |flag| format!(" {flag}"));
        let look = match first.interleaved {
            true => format!("migbench report {base}{reading}"),
            false => format!("migbench compare {base} {new}{reading}"),
        };
        return Err(JudgeError::NoGates { suite: first.suite.clone(), look });
    }
    if first.is_of_itself() {
        let (base, new) = (first.base.path.clone(), first.new.path.clone());
        return Err(JudgeError::Same { base, new });
    }
    // What was measured at two times is never sure enough for fresh samples to make it so.
    let fresh = fresh.filter(|_| first.interleaved);
    let everything: Vec<Asked<'_>> = first.gates.iter().map(|gate| Asked { gate, only: None }).collect();
    let mut gates = results(first, &everything, accepted);
    let is_alarm = |result: &GateResult| result.outcome == Outcome::Alarm;
    let mut first_alarms = Vec::new();
    if let Some(fresh) = fresh {
        first_alarms = gates.iter().filter(|result| is_alarm(result)).cloned().collect();
        let asked: Vec<Asked<'_>> = first_alarms
            .iter()
            .map(|alarm: &GateResult| Asked { gate: &alarm.gate, only: Some(alarm.alarmed()) })
            .collect();
        let again = results(fresh, &asked, accepted);
        for (result, mut confirmed) in gates.iter_mut().filter(|result| is_alarm(result)).zip(again) {
            let judged = |id: &str| confirmed.cells.iter().any(|cell| cell.id == id);
            let lost = result.alarmed().into_iter().flatten().any(|id| !judged(id));
            match confirmed.outcome {
                Outcome::Alarm => confirmed.outcome = Outcome::Regression,
                // What raised the alarm could not be looked at again.
                Outcome::Fine if lost => confirmed.outcome = Outcome::NotEnough { runs: None },
                _ => {}
            }
            *result = confirmed;
        }
    }
    // Fresh samples count only where something was to be confirmed.
    let used = [Some(first), fresh.filter(|_| !first_alarms.is_empty())];
    let used = || used.iter().flatten();
    let any = |outcome: fn(&Outcome) -> bool| gates.iter().any(|result| outcome(&result.outcome));
    let hosts: Vec<HostChange> = used().flat_map(|measurement| measurement.host.clone()).collect();
    let verdict = if used().any(|measurement| !measurement.unsound.is_empty()) {
        Verdict::Unsound
    } else if let Some(verdict) = Verdict::of_host(&hosts) {
        verdict
    } else if any(|outcome| *outcome == Outcome::Regression) {
        Verdict::Regression
    } else if any(|outcome| *outcome == Outcome::Alarm) {
        Verdict::Unconfirmed
    } else if any(|outcome| matches!(outcome, Outcome::NotEnough { .. })) {
        Verdict::NotEnough
    } else if gates.iter().any(GateResult::judges_unaccepted) {
        Verdict::Fine
    } else {
        Verdict::NothingJudged
    };
    Ok(Judgement { verdict, gates, first_alarms })
}

/// A gate, and what of it may raise an alarm: all of it, or what did before.
struct Asked<'a> {
    gate: &'a Gate,
    only: Option<Vec<Option<&'a str>>>,
}

impl Asked<'_> {
    fn about(&self, cell: Option<&str>) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&cell))
    }
}

/// Each gate by one measurement, in one joint test.
fn results(measurement: &Measurement<'_>, asked: &[Asked<'_>], accepted: &Accepted) -> Vec<GateResult> {
    let units = Units::of(&measurement.cells);
    let tests: Vec<_> = asked.iter().map(|asked| Test::of(measurement, &units, asked, accepted)).collect();
    let mut family = Family {
        labels: units.labels,
        values: Vec::new(),
        hypotheses: Vec::new(),
        against: Against::NotGreater,
    };
    // For each test where its hypotheses are: the mean's, then those of its cells.
    let mut places: Vec<Vec<Option<usize>>> = Vec::new();
    for (test, asked) in tests.iter().zip(asked) {
        let first = family.values.len();
        family.values.extend(test.cells.iter().map(|cell| cell.logs.clone()));
        let all: Vec<usize> = (first..family.values.len()).collect();
        let mut ask = |cell: Option<&str>, members: Vec<usize>| {
            (!members.is_empty() && asked.about(cell)).then(|| {
                family.hypotheses.push(members);
                family.hypotheses.len() - 1
            })
        };
        let mean = ask(None, all.clone());
        // The mean over one cell is that cell.
        let cell = |(cell, index): (&TestedCell<'_, '_>, &usize)| match all.len() {
            1 => mean,
            _ => ask(Some(&cell.pair.id), vec![*index]),
        };
        places.push(std::iter::once(mean).chain(test.cells.iter().zip(&all).map(cell)).collect());
    }
    let evidence = family.test(ALPHA, SEED);
    let level = ALPHA / stats::real(family.hypotheses.len().max(1));
    tests
        .into_iter()
        .zip(places)
        .map(|(test, places)| {
            // What is not asked raises no alarm.
            let p: Vec<f64> =
                places.iter().map(|place| place.map_or(1.0, |i| evidence[i].adjusted)).collect();
            test.result(measurement, units.labels, &p, level)
        })
        .collect()
}

/// A cell of a gate, in which larger values are worse, and what is accepted is taken out of the new side.
struct TestedCell<'m, 'a> {
    pair: &'m CellPair<'a>,
    base: f64,
    samples: (usize, usize),
    /// Logarithm of what is accepted; zero where nothing is.
    accepted: f64,
    logs: Values,
    differences: Values,
}

/// A gate's cells, in which a larger value is a worse one.
struct Test<'m, 'a> {
    gate: Gate,
    key: Option<MetricKey>,
    cells: Vec<TestedCell<'m, 'a>>,
    left_out: Vec<(String, String)>,
    /// Whether a limit forced runs of the new side to switch over, which is worse in a way that no time tells.
    diverged: bool,
}

impl<'m, 'a> Test<'m, 'a> {
    fn of(measurement: &'m Measurement<'a>, units: &Units, asked: &Asked<'_>, accepted: &Accepted) -> Self {
        let gate = asked.gate.clone();
        let key = MetricKey::find(&gate.metric);
        let mut test = Self { gate, key, cells: Vec::new(), left_out: Vec::new(), diverged: false };
        let Some(key) = key else { return test };
        for (index, cell) in measurement.cells.iter().enumerate() {
            if !cell.cell.engine.migrates() || !test.gate.covers(&cell.id) {
                continue;
            }
            test.diverged |= diverged(cell);
            match tested(units, index, cell, key, accepted) {
                Ok(cell) => test.cells.push(cell),
                Err(why) => test.left_out.push((cell.id.clone(), why)),
            }
        }
        test
    }

    /// `p` of the mean, then of each cell.
    fn result(self, measurement: &Measurement<'_>, labels: Labels, p: &[f64], level: f64) -> GateResult {
        let nothing = Outcome::NotEnough { runs: None };
        let mut result = GateResult {
            gate: self.gate,
            outcome: nothing.clone(),
            mean: None,
            detectable: None,
            cells: Vec::new(),
            left_out: self.left_out,
            stages: Vec::new(),
        };
        let floor = result.gate.floor;
        let sign = self.key.map_or(1.0, worse);
        let judged = |cells: &[TestedCell<'_, '_>], p: f64, exclude: f64| -> Option<(Change, Stratified)> {
            let of = |values: Vec<Values>| Stratified::of(labels, &values, SEED);
            let logs = of(cells.iter().map(|cell| cell.logs.clone()).collect())?;
            let differences = of(cells.iter().map(|cell| cell.differences.clone()).collect())?;
            let accepted = cells.iter().map(|cell| cell.accepted).sum::<f64>() / stats::real(cells.len());
            let ratio = |log: f64| (sign * (log + accepted)).exp();
            let bounds = (logs.lower(ALPHA).map(ratio), logs.upper(ALPHA).map(ratio));
            let relevant = logs.estimate >= RELEVANT.ln_1p() && differences.estimate >= floor;
            // In the metric's own unit, whatever sizes the cells have.
            let under_floor = differences.upper(ALPHA).is_some_and(|open| open < floor);
            let change = Change {
                ratio: ratio(logs.estimate),
                bounds: if sign > 0.0 { bounds } else { (bounds.1, bounds.0) },
                p,
                worse_by: differences.estimate,
                accepted: sign * (sign * accepted).exp_m1(),
                alarm: p <= ALPHA && relevant,
                excluded: logs.p_less(exclude.ln_1p()) <= ALPHA || under_floor,
            };
            Some((change, logs))
        };
        let Some((mean, logs)) = judged(&self.cells, p[0], EXCLUDED) else { return result };
        let mut runs = Vec::new();
        let repetitions = measurement.repetitions();
        if !mean.excluded {
            runs.push(needed(repetitions, &logs, level, EXCLUDED));
        }
        for (cell, p) in self.cells.iter().zip(&p[1..]) {
            let one = std::slice::from_ref(cell);
            let Some((change, logs)) = judged(one, *p, EXCLUDED_IN_CELL) else { return result };
            if !change.excluded {
                runs.push(needed(repetitions, &logs, level, EXCLUDED_IN_CELL));
            }
            let (id, base, samples) = (cell.pair.id.clone(), cell.base, cell.samples);
            result.cells.push(JudgedCell { id, base, samples, change });
        }
        result.detectable =
            logs.error.map(|error| power::minimum_detectable(error, level, power::POWER).exp_m1());
        let alarmed: Vec<&CellPair<'_>> = self
            .cells
            .iter()
            .zip(&result.cells)
            .filter(|(_, judged)| mean.alarm || judged.change.alarm)
            .map(|(cell, _)| cell.pair)
            .collect();
        result.outcome = match (self.key, runs.into_iter().max()) {
            (Some(key), _) if !alarmed.is_empty() => {
                result.stages = stage::moved(&alarmed, key);
                Outcome::Alarm
            }
            _ if self.diverged => nothing,
            (_, Some(runs)) => Outcome::NotEnough { runs: Some(runs) },
            _ => Outcome::Fine,
        };
        result.mean = Some(mean);
        result
    }
}

/// The samples of one cell of a gate, in which larger values are worse, and what is accepted is taken out of the new side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CellSamples {
    pub(super) id: String,
    pub(super) logs: Values,
    pub(super) differences: Values,
}

/// Those of a gate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GateSamples {
    pub(super) cells: Vec<CellSamples>,
    /// Whether a limit forced runs of the new side to switch over.
    pub(super) diverged: bool,
}

/// What gates judge of a measurement, for a test over several of them.
pub(super) fn samples(
    measurement: &Measurement<'_>,
    units: &Units,
    gate: &Gate,
    accepted: &Accepted,
) -> GateSamples {
    let Test { cells, diverged, .. } = Test::of(measurement, units, &Asked { gate, only: None }, accepted);
    let of = |TestedCell { pair, logs, differences, .. }: TestedCell<'_, '_>| CellSamples {
        id: pair.id.clone(),
        logs,
        differences,
    };
    GateSamples { cells: cells.into_iter().map(of).collect(), diverged }
}

/// By what the logarithm of a ratio is multiplied for a larger one to be worse.
fn worse(key: MetricKey) -> f64 {
    if key.definition().better == Better::Larger { -1.0 } else { 1.0 }
}

/// How many runs of each cell would find a change of `change` nine times in ten: never fewer than half as many again.
fn needed(runs: usize, test: &Stratified, level: f64, change: f64) -> usize {
    let times =
        test.error.map_or(2.0, |error| power::times_as_many(error, level, power::POWER, change.ln_1p()));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "brought into range")]
    let wanted = (stats::real(runs.max(1)) * times.max(1.5)).ceil().clamp(1.0, 100_000.0) as usize;
    wanted.max(stats::LEAST_FOR_INTERVAL)
}

/// Whether a limit forced runs of the new side to switch over and none of the base, or so many more that chance does not
/// explain it.
fn diverged(cell: &CellPair<'_>) -> bool {
    let (base, new) = cell.capped;
    let (base_ok, new_ok) = cell.ok;
    new > 0 && (base == 0 || fisher::more_in_second((base, base_ok), (new, new_ok)) <= ALPHA)
}

/// The samples of a cell, or why there are none.
fn tested<'m, 'a>(
    units: &Units,
    index: usize,
    pair: &'m CellPair<'a>,
    key: MetricKey,
    accepted: &Accepted,
) -> Result<TestedCell<'m, 'a>, String> {
    let (base, new) = pair.capped;
    if base + new > 0 {
        return Err(format!("did not converge in {base} runs of base and {new} of new"));
    }
    let samples = Samples::of(units, index, pair, |run| metric::value(&run.metrics, key));
    let (all, (base, new)) = (pair.runs.count(), samples.count());
    if base == 0 || new == 0 {
        return Err(format!("has {} in no run of a side", key.name()));
    }
    if 4 * base < 3 * all.0 || 4 * new < 3 * all.1 {
        return Err(format!(
            "lacks {} in some runs: {base} and {new} of {} and {} have it",
            key.name(),
            all.0,
            all.1
        ));
    }
    let sign = worse(key);
    let accepted = accepted.size(key.name(), &pair.id).map_or(0.0, |size| sign * (sign * size).ln_1p());
    let judged = samples.scaled((-sign * accepted).exp());
    let oriented = |values: Values| values.into_iter().map(|(unit, value)| (unit, sign * value)).collect();
    let not_positive = || format!("has values of {} that are not positive", key.name());
    Ok(TestedCell {
        pair,
        base: median(&samples.sides().0).unwrap_or_default(),
        samples: samples.count(),
        accepted,
        logs: oriented(judged.logs().ok_or_else(not_positive)?),
        differences: oriented(judged.differences()),
    })
}

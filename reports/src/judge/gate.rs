//! The decision: did a gated metric become worse?
//!
//! One stratified permutation test joins all cells of a gate. It is an **alarm** where the mean change over cells is
//! significant (one-sided, Holm-adjusted over gates), relevant ([`RELEVANT`]) and not below the gate's floor. It is **fine**
//! where a change of [`EXCLUDED`] or more can be excluded at the same level, or all that can't is below the floor. Anything
//! else is **not enough evidence**: a noisy host must not pass for a good commit.
//!
//! An alarm stands only if fresh samples alone confirm it. Samples are never added to those that raised it: whoever adds
//! until something turns significant will find something.

use migbench_scenarios::gate::Gate;

use super::accepted::Accepted;
use super::measurement::{CellPair, JudgeError, Measurement, same_schema};
use super::stage::{self, Moved};
use crate::metric::{self, Better, MetricKey};
use crate::stats::{self, ALPHA, Stratified, Stratum, holm, median, power};

/// A mean change smaller than this is no regression, however surely it is there.
pub const RELEVANT: f64 = 0.025;
/// The change that must be excluded before "not worse" is said.
pub const EXCLUDED: f64 = 0.05;
/// Seed of the permutations.
const SEED: u64 = 1;

/// What became of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct CellChange {
    /// Its id.
    pub id: String,
    /// New over base.
    pub ratio: f64,
    /// Median of the base, in the metric's unit.
    pub base: f64,
    /// How many samples of each side.
    pub samples: (usize, usize),
}

/// What is said of one gate.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It did not become worse by [`EXCLUDED`] or more.
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
    /// The change is known and accepted, as a whole.
    Accepted,
}

/// One gate, judged by one measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct GateResult {
    /// The gate.
    pub gate: Gate,
    /// What was said.
    pub outcome: Outcome,
    /// The geometric mean over cells of new over base.
    pub ratio: f64,
    /// The bounds of the ratio, each by itself missed at most once in twenty times; absent where samples allow none.
    pub bounds: (Option<f64>, Option<f64>),
    /// How likely the change for the worse would be by chance, adjusted for the number of gates.
    pub p: f64,
    /// The mean change over cells in the metric's unit; positive is worse.
    pub worse_by: f64,
    /// The change that a test of these samples finds nine times in ten, as a share.
    pub detectable: Option<f64>,
    /// Each cell that was judged.
    pub cells: Vec<CellChange>,
    /// Cells that could not be judged, or are accepted, with the reason.
    pub left_out: Vec<(String, String)>,
    /// Of an alarm, the stages that moved, the largest first.
    pub stages: Vec<Moved>,
}

/// What is said of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No gated metric became worse.
    Fine,
    /// One did, and fresh samples confirmed it.
    Regression,
    /// One seems to have; measure again.
    Unconfirmed,
    /// Nothing can be said.
    NotEnough,
    /// The host was another one, or disturbed.
    HostChanged,
    /// The new side failed runs or proofs: that is not a matter of speed.
    Unsound,
}

impl Verdict {
    /// The exit status.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Unsound => 1,
            Self::Unconfirmed | Self::NotEnough | Self::HostChanged => 3,
            Self::Regression => 4,
        }
    }
}

/// All gates, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What is said of the whole.
    pub verdict: Verdict,
    /// One per gate, in the order of the suite. Those that the first measurement alarmed are told as fresh samples have it.
    pub gates: Vec<GateResult>,
    /// Of gates that the first measurement alarmed, what it said.
    pub first_alarms: Vec<GateResult>,
}

impl Judgement {
    /// Gates that stand as alarms or regressions.
    pub fn alarms(&self) -> impl Iterator<Item = &GateResult> {
        self.gates.iter().filter(|result| matches!(result.outcome, Outcome::Alarm | Outcome::Regression))
    }
}

/// Judges `first`; where it raises an alarm and there are `fresh` samples, those alone decide on it.
///
/// # Errors
/// [`JudgeError::NoGates`].
pub fn judge(
    first: &Measurement<'_>,
    fresh: Option<&Measurement<'_>>,
    accepted: &Accepted,
) -> Result<Judgement, JudgeError> {
    if first.gates.is_empty() {
        return Err(JudgeError::NoGates { suite: first.suite.clone() });
    }
    if let Some(fresh) = fresh {
        let of = |measurement: &Measurement<'_>| (measurement.base.path.clone(), measurement.base.schema);
        let ((path, schema), (fresh, is)) = (of(first), of(fresh));
        same_schema((&path, schema), (&fresh, is))?;
    }
    let mut gates = results(first, &first.gates, accepted);
    let is_alarm = |result: &GateResult| result.outcome == Outcome::Alarm;
    let mut first_alarms = Vec::new();
    if let Some(fresh) = fresh {
        let alarmed: Vec<Gate> = gates.iter().filter(|r| is_alarm(r)).map(|r| r.gate.clone()).collect();
        let mut again = results(fresh, &alarmed, accepted).into_iter();
        for result in gates.iter_mut().filter(|result| is_alarm(result)) {
            let Some(mut confirmed) = again.next() else { break };
            if is_alarm(&confirmed) {
                confirmed.outcome = Outcome::Regression;
            }
            first_alarms.push(std::mem::replace(result, confirmed));
        }
    }
    // Fresh samples count only where something was to be confirmed.
    let used = [Some(first), fresh.filter(|_| !first_alarms.is_empty())];
    let used = || used.iter().flatten();
    let any = |outcome: fn(&Outcome) -> bool| gates.iter().any(|result| outcome(&result.outcome));
    let verdict = if used().any(|measurement| !measurement.unsound.is_empty()) {
        Verdict::Unsound
    } else if used().any(|measurement| !measurement.host.is_empty()) {
        Verdict::HostChanged
    } else if any(|outcome| *outcome == Outcome::Regression) {
        Verdict::Regression
    } else if any(|outcome| *outcome == Outcome::Alarm) {
        Verdict::Unconfirmed
    } else if any(|outcome| matches!(outcome, Outcome::NotEnough { .. })) {
        Verdict::NotEnough
    } else {
        Verdict::Fine
    };
    Ok(Judgement { verdict, gates, first_alarms })
}

/// Each gate by one measurement, Holm-adjusted over them.
fn results(measurement: &Measurement<'_>, gates: &[Gate], accepted: &Accepted) -> Vec<GateResult> {
    let tests: Vec<_> = gates.iter().map(|gate| Test::of(measurement, gate, accepted)).collect();
    // A gate without a test is none among those that are adjusted for.
    let p: Vec<f64> =
        tests.iter().filter_map(|test| test.test.as_ref()).map(|test| test.p_greater(0.0)).collect();
    let mut adjusted = holm::adjusted(&p).into_iter();
    let count = p.len().max(1);
    tests
        .into_iter()
        .map(|test| {
            let p = if test.test.is_some() { adjusted.next().unwrap_or(1.0) } else { 1.0 };
            test.result(measurement, p, ALPHA / stats::real(count))
        })
        .collect()
}

/// A gate's cells and their test, in which a larger value is a worse one.
struct Test<'m, 'a> {
    gate: Gate,
    key: Option<MetricKey>,
    cells: Vec<(&'m CellPair<'a>, Stratum)>,
    left_out: Vec<(String, String)>,
    accepted: bool,
    /// Whether a limit forced more runs of the new side than of the base: worse, in a way that no time tells.
    diverged: bool,
    test: Option<Stratified>,
}

impl<'m, 'a> Test<'m, 'a> {
    fn of(measurement: &'m Measurement<'a>, gate: &Gate, accepted: &Accepted) -> Self {
        let key = MetricKey::find(&gate.metric);
        let whole = accepted.covers(&gate.metric, None);
        let mut test = Self {
            gate: gate.clone(),
            key,
            cells: Vec::new(),
            left_out: Vec::new(),
            accepted: whole,
            diverged: false,
            test: None,
        };
        let Some(key) = key.filter(|_| !whole) else { return test };
        let covered = |cell: &&'m CellPair<'a>| cell.cell.engine.migrates() && gate.covers(&cell.id);
        for cell in measurement.cells.iter().filter(covered) {
            test.diverged |= cell.capped.1 > cell.capped.0 && !accepted.covers(&gate.metric, Some(&cell.id));
            match stratum(cell, key, accepted) {
                Ok(stratum) => test.cells.push((cell, stratum)),
                Err(why) => test.left_out.push((cell.id.clone(), why)),
            }
        }
        let strata: Vec<Stratum> = test.cells.iter().map(|(_, stratum)| oriented(stratum, key)).collect();
        test.test = Stratified::of(&strata, SEED);
        test
    }

    fn result(self, measurement: &Measurement<'_>, p: f64, level: f64) -> GateResult {
        let mut result = GateResult {
            gate: self.gate,
            outcome: if self.accepted { Outcome::Accepted } else { Outcome::NotEnough { runs: None } },
            ratio: 1.0,
            bounds: (None, None),
            p,
            worse_by: 0.0,
            detectable: None,
            cells: Vec::new(),
            left_out: self.left_out,
            stages: Vec::new(),
        };
        let (Some(test), Some(key)) = (self.test, self.key) else { return result };
        let sign = if key.definition().better == Better::Larger { -1.0 } else { 1.0 };
        for ((cell, stratum), worse) in self.cells.iter().zip(&test.cells) {
            let (base, samples) = base_of(stratum);
            result.cells.push(CellChange { id: cell.id.clone(), ratio: (sign * worse).exp(), base, samples });
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / stats::real(values.len().max(1));
        let bases: Vec<f64> = result.cells.iter().map(|cell| cell.base).collect();
        let changes: Vec<f64> =
            result.cells.iter().map(|cell| sign * cell.base * (cell.ratio - 1.0)).collect();
        result.worse_by = mean(&changes);
        result.ratio = (sign * test.estimate).exp();
        let (lower, upper) = (test.lower(ALPHA), test.upper(ALPHA));
        let ratio = |log: Option<f64>| log.map(|log| (sign * log).exp());
        result.bounds = if sign > 0.0 { (ratio(lower), ratio(upper)) } else { (ratio(upper), ratio(lower)) };
        result.detectable =
            test.error.map(|error| power::minimum_detectable(error, level, power::POWER).exp_m1());

        let relevant = test.estimate >= RELEVANT.ln_1p() && result.worse_by >= result.gate.floor;
        // The most that these samples leave open, in the metric's own unit.
        let open = upper.map(|upper| mean(&bases) * upper.exp_m1());
        result.outcome = if p <= ALPHA && relevant {
            result.stages = stage::moved(&self.cells.iter().map(|(cell, _)| *cell).collect::<Vec<_>>(), key);
            Outcome::Alarm
        } else if self.diverged {
            Outcome::NotEnough { runs: None }
        } else if test.p_less(EXCLUDED.ln_1p()) <= ALPHA || open.is_some_and(|open| open < result.gate.floor)
        {
            Outcome::Fine
        } else {
            Outcome::NotEnough { runs: Some(needed(measurement.repetitions(), &test, level)) }
        };
        result
    }
}

/// How many runs of each cell would find [`EXCLUDED`] nine times in ten: never fewer than half as many again.
fn needed(runs: usize, test: &Stratified, level: f64) -> usize {
    let times =
        test.error.map_or(2.0, |error| power::times_as_many(error, level, power::POWER, EXCLUDED.ln_1p()));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "brought into range")]
    let wanted = (stats::real(runs.max(1)) * times.max(1.5)).ceil().clamp(1.0, 100_000.0) as usize;
    wanted.max(stats::LEAST_FOR_INTERVAL)
}

/// The samples of a cell, or why there are none.
fn stratum(cell: &CellPair<'_>, key: MetricKey, accepted: &Accepted) -> Result<Stratum, String> {
    if accepted.covers(key.name(), Some(&cell.id)) {
        return Err("accepted".to_owned());
    }
    let (base, new) = cell.capped;
    if base + new > 0 {
        return Err(format!("did not converge in {base} runs of base and {new} of new"));
    }
    let stratum = cell.runs.stratum(|run| metric::value(&run.metrics, key));
    let (all, (base, new)) = (cell.runs.count(), base_of(&stratum).1);
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
    if Stratified::of(std::slice::from_ref(&stratum), SEED).is_none() {
        return Err(format!("has values of {} that are not positive", key.name()));
    }
    Ok(stratum)
}

/// Median of the base and how many samples of each side.
fn base_of(stratum: &Stratum) -> (f64, (usize, usize)) {
    match stratum {
        Stratum::Pairs(pairs) => {
            let base: Vec<f64> = pairs.iter().map(|(base, _)| *base).collect();
            (median(&base).unwrap_or_default(), (pairs.len(), pairs.len()))
        }
        Stratum::Samples { base, new } => (median(base).unwrap_or_default(), (base.len(), new.len())),
    }
}

/// With sides swapped where larger is better, so that a larger ratio is always the worse one.
fn oriented(stratum: &Stratum, key: MetricKey) -> Stratum {
    if key.definition().better != Better::Larger {
        return stratum.clone();
    }
    match stratum {
        Stratum::Pairs(pairs) => Stratum::Pairs(pairs.iter().map(|(base, new)| (*new, *base)).collect()),
        Stratum::Samples { base, new } => Stratum::Samples { base: new.clone(), new: base.clone() },
    }
}

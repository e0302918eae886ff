//! Which stage of a migration moved: the first question after an alarm.

use super::measurement::{CellPair, Runs};
use crate::metric::{self, MetricKey};
use crate::record::{Record, Round};
use crate::stats::real;

/// A stage that takes longer than before.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// Its name.
    pub stage: &'static str,
    /// Seconds more in a migration, the mean over cells.
    pub seconds: f64,
    /// New over base, of the means; absent where the base had none of it.
    pub ratio: Option<f64>,
    /// How many standard errors that is.
    pub errors: f64,
}

type Stage = (&'static str, fn(&Record) -> Option<f64>);

/// Of a whole migration. They do not overlap, but for what waits for another: over a limited link time spent on encoding is
/// taken from waiting for the link (in schema 1, from sending).
const WHOLE: &[Stage] = &[
    ("arm", |run| metric::value(&run.metrics, MetricKey::SetupTime)),
    ("harvest", |run| rounds(run, |_| true, |round| round.harvest_time)),
    ("copy", |run| rounds(run, |_| true, |round| round.copy_time)),
    ("encode", |run| rounds(run, |_| true, |round| round.encode_time)),
    ("send", |run| rounds(run, |_| true, |round| round.send_time)),
    ("wait for the link", |run| rounds(run, |_| true, |round| round.wait_time)),
    ("decode", |run| metric::value(&run.metrics, MetricKey::DecodeTime)),
    ("pause", |run| metric::value(&run.metrics, MetricKey::DowntimePause)),
    ("state", |run| metric::value(&run.metrics, MetricKey::DowntimeState)),
    ("resume", |run| metric::value(&run.metrics, MetricKey::DowntimeResume)),
];

/// Of the downtime.
const PAUSED: &[Stage] = &[
    ("pause", |run| metric::value(&run.metrics, MetricKey::DowntimePause)),
    ("last harvest", |run| metric::value(&run.metrics, MetricKey::DowntimeHarvest)),
    ("copy in the last round", |run| rounds(run, |round| round.paused, |round| round.copy_time)),
    ("encode in the last round", |run| rounds(run, |round| round.paused, |round| round.encode_time)),
    ("send in the last round", |run| rounds(run, |round| round.paused, |round| round.send_time)),
    ("wait for the link in the last round", |run| rounds(run, |round| round.paused, |round| round.wait_time)),
    ("state", |run| metric::value(&run.metrics, MetricKey::DowntimeState)),
    ("resume", |run| metric::value(&run.metrics, MetricKey::DowntimeResume)),
];

/// Absent for a run that has no such stage in any of these rounds.
fn rounds(run: &Record, wanted: fn(&Round) -> bool, part: fn(&Round) -> Option<f64>) -> Option<f64> {
    run.rounds.iter().filter(|round| wanted(round)).filter_map(part).reduce(|sum, time| sum + time)
}

/// Fewer standard errors than this are no movement.
const LEAST_ERRORS: f64 = 3.0;

/// The stages that take longer, the largest movement first. A description of an alarm that stands already, and no test.
#[must_use]
pub fn moved(cells: &[&CellPair<'_>], key: MetricKey) -> Vec<Moved> {
    let stages = if matches!(key, MetricKey::Downtime | MetricKey::Blackout) { PAUSED } else { WHOLE };
    let mut moved: Vec<_> = stages.iter().filter_map(|stage| change(cells, stage)).collect();
    moved.retain(|stage| stage.seconds > 0.0 && stage.errors >= LEAST_ERRORS);
    moved.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    moved
}

fn change(cells: &[&CellPair<'_>], (stage, part): &Stage) -> Option<Moved> {
    let (mut base_sum, mut new_sum, mut squares, mut count) = (0.0, 0.0, 0.0, 0);
    for cell in cells {
        let (base, new, squared_error) = match &cell.runs {
            Runs::Blocks(blocks) => {
                let both: Vec<_> = blocks.iter().filter_map(|(b, n)| Some((part(b)?, part(n)?))).collect();
                let differences: Vec<f64> = both.iter().map(|(base, new)| new - base).collect();
                let error = variance(&differences)? / real(differences.len());
                let (base, new): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
                (mean(&base), mean(&new), error)
            }
            Runs::Apart { base, new } => {
                let of = |runs: &[&Record]| runs.iter().filter_map(|run| part(run)).collect::<Vec<_>>();
                let (base, new) = (of(base), of(new));
                let error = variance(&base)? / real(base.len()) + variance(&new)? / real(new.len());
                (mean(&base), mean(&new), error)
            }
        };
        base_sum += base;
        new_sum += new;
        squares += squared_error;
        count += 1;
    }
    if count == 0 {
        return None;
    }
    let seconds = (new_sum - base_sum) / real(count);
    // Times that never vary are steps of a clock; anything beside them is far away.
    let error = (squares.sqrt() / real(count)).max(1e-9);
    let ratio = (base_sum > 0.0).then_some(new_sum / base_sum);
    Some(Moved { stage, seconds, ratio, errors: seconds / error })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / real(values.len())
}

fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let freedom = values.len().checked_sub(1).filter(|freedom| *freedom > 0)?;
    Some(values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / real(freedom))
}

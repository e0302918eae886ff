//! What a comparison comes to, in a sentence of plain words for each cell that is compared.

use migbench_scenarios::cell::Engine;

use super::{ends, partner};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::{Difference, MEMORY, Measure};
use crate::metric::{MetricKey, Unit};
use crate::quantity::{self, Scale};
use crate::stats::Spread;

const TIME: Measure = Measure::Metric(MetricKey::TotalTime);
const DOWNTIME: Measure = Measure::Metric(MetricKey::Downtime);
const BROWNOUT: Measure = Measure::Metric(MetricKey::Brownout);

/// A pause of at least this share of the limit was stopped by the limit, and not by how little was left.
const AT_THE_LIMIT: f64 = 0.5;
/// Memory under this is not spoken of.
const LEAST_MEMORY: f64 = 1_048_576.0;

/// Of a comparison; none where its baseline was capped, or nothing of both was measured.
#[must_use]
pub fn all(comparison: &ComparisonRuns<'_>) -> Vec<String> {
    let Some(baseline) = partner(comparison) else { return Vec::new() };
    comparison.compared().filter_map(|cell| sentence(&comparison.plan.compare, baseline, cell)).collect()
}

fn sentence(axis: &str, baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Option<String> {
    // A value of other axes is no name: 64 of what?
    let named = ["engine", "tracker", "side"].contains(&axis);
    let name =
        |cell: &CellRuns<'_>| if named { cell.label.clone() } else { format!("{axis} {}", cell.label) };
    let (base, new) = (name(baseline), name(cell));
    let time = TIME.difference(baseline, cell)?;
    let few = if too_few(time) { "too few runs to tell from chance: " } else { "" };
    let mut parts = vec![if significant(time) || too_few(time) {
        format!("{few}{new} takes {}{} of {base}'s time", quantity::digits(time.ratio), interval("", time))
    } else {
        format!("{new} takes as long as {base}, as far as can be told{}", interval("ratio ", time))
    }];
    if let Some(pause) = DOWNTIME.difference(baseline, cell) {
        let few = if too_few(pause) && !too_few(time) { " (too few runs to tell from chance)" } else { "" };
        parts.push(if significant(pause) || too_few(pause) {
            format!("pauses {}{few}{}", instead(DOWNTIME, baseline, cell)?, the_limits(baseline))
        } else {
            format!("pauses for as long, as far as can be told{}", interval("ratio ", pause))
        });
    }
    parts.extend(slowed(baseline, cell, &base));
    parts.extend(memory(baseline, cell));
    Some(parts.join(", "))
}

/// After the pause a guest works off what waited meanwhile: a long tail beside a short blackout is that.
fn slowed(baseline: &CellRuns<'_>, cell: &CellRuns<'_>, name: &str) -> Option<String> {
    let (base, new) = (BROWNOUT.summary(&baseline.ok)?.median, BROWNOUT.summary(&cell.ok)?.median);
    if base <= 0.0 && new <= 0.0 {
        return None;
    }
    let instead = || instead(BROWNOUT, baseline, cell);
    Some(match BROWNOUT.difference(baseline, cell) {
        Some(difference) if significant(difference) => format!("slows the guest for {} besides", instead()?),
        Some(difference) if too_few(difference) => {
            format!("slows the guest for {} besides (which may be chance)", instead()?)
        }
        Some(_) => format!(
            "slows the guest for {} besides, not told from {name}'s {}",
            quantity::show(Unit::Seconds, new),
            quantity::show(Unit::Seconds, base)
        ),
        // Zeros have no ratio.
        None => format!("slows the guest for {} besides (not tested)", instead()?),
    })
}

const fn significant(difference: Difference) -> bool {
    matches!(difference.significant, Some(true))
}

/// Whether no difference whatever could have been told from chance.
const fn too_few(difference: Difference) -> bool {
    !matches!(difference.spread, Some(Spread::Interval { .. }))
}

/// Of a ratio, behind `what` it is.
fn interval(what: &str, difference: Difference) -> String {
    let Some(spread) = difference.spread else { return String::new() };
    let kind = if matches!(spread, Spread::Range { .. }) { "range " } else { "" };
    format!(" ({what}{kind}{})", ends(spread, quantity::digits))
}

/// `4.9 ms instead of 85.5 ms`, the unit once where it is one.
fn instead(measure: Measure, baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Option<String> {
    let (base, new) = (measure.summary(&baseline.ok)?.median, measure.summary(&cell.ok)?.median);
    let (of_base, of_new) = (Scale::suiting(measure.unit(), base), Scale::suiting(measure.unit(), new));
    let new = if of_base == of_new { of_new.number(new) } else { of_new.show(new) };
    Some(format!("{new} instead of {}", of_base.show(base)))
}

/// A baseline that pauses for as long as it may shows the limit, and no merit of the other.
fn the_limits(baseline: &CellRuns<'_>) -> String {
    // It heeds no limit.
    if baseline.cell.engine == Engine::StopAndCopy {
        return String::new();
    }
    let limit = baseline.cell.stop.downtime_limit.0;
    match DOWNTIME.summary(&baseline.ok) {
        Some(pause) if limit > 0.0 && pause.median >= AT_THE_LIMIT * limit => {
            let word = if pause.median > limit { "is over" } else { "takes most of" };
            format!(" ({}'s {word} the limit of {})", baseline.label, quantity::time(limit))
        }
        _ => String::new(),
    }
}

fn memory(baseline: &CellRuns<'_>, cell: &CellRuns<'_>) -> Option<String> {
    let difference = MEMORY.difference(baseline, cell)?;
    if !significant(difference) && !too_few(difference) {
        return None;
    }
    let more = MEMORY.more(baseline, cell)?.median;
    let guest = cell.cell.memory.0;
    let share = more.abs() / guest as f64;
    let verb = if more > 0.0 { "costs" } else { "saves" };
    (more.abs() >= LEAST_MEMORY).then(|| {
        format!(
            "{verb} {} of memory ({:.0} % of the guest)",
            quantity::show(Unit::Bytes, more.abs()),
            share * 100.0
        )
    })
}

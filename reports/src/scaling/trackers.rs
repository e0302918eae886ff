//! What a tracker costs as guest memory and dirty set grow: a plane through the cells of all comparisons that compare
//! trackers. In go medians of cells, out come seconds per harvest, per GiB tracked and per dirty page, each with the
//! margin in which it lies.

use std::collections::BTreeMap;
use std::fmt;

use migbench_scenarios::cell::Tracker;

use super::fit::{Fit, Point, fit};
use crate::cells::ComparisonRuns;
use crate::measure::Measure;
use crate::metric::MetricKey;
use crate::quantity;
use crate::stats::median;

/// One cell: 1, GiB of guest memory, and pages that a harvest found, the median over rounds and runs; and seconds.
type TrackerPoint = Point<3>;

/// Why there is no plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unfit {
    /// That many points.
    Few(usize),
    /// What all points have alike.
    Alike(&'static str),
    /// Memory and dirty set grow in step.
    Together,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Few(1) => f.write_str("too few points: 1 size, and at least 4 are needed"),
            Self::Few(points) => write!(f, "too few points: {points} sizes, and at least 4 are needed"),
            Self::Alike(what) => write!(f, "all points have the same {what}"),
            Self::Together => f.write_str("memory and dirty set grow in step, so that their costs are one"),
        }
    }
}

/// The plane through the points whose time is not zero, and how many they are.
fn plane(points: &[TrackerPoint]) -> Result<(Fit<3>, usize), Unfit> {
    let points: Vec<TrackerPoint> = points.iter().copied().filter(|(_, time)| *time > 0.0).collect();
    let varies = |n: usize| points.iter().any(|(sizes, _)| (sizes[n] / points[0].0[n] - 1.0).abs() > 0.01);
    if points.len() < 4 {
        return Err(Unfit::Few(points.len()));
    }
    if !varies(1) {
        return Err(Unfit::Alike("guest memory"));
    }
    if !varies(2) {
        return Err(Unfit::Alike("dirty set"));
    }
    Ok((fit(&points).ok_or(Unfit::Together)?, points.len()))
}

/// A cost of trackers that may grow with size.
const COSTS: [(&str, Measure); 3] = [
    ("harvest", Measure::HarvestPerRound),
    ("arm", Measure::Metric(MetricKey::ArmTime)),
    ("re-arm", Measure::Metric(MetricKey::RearmTime)),
];

/// Points by cost and tracker.
type Points = BTreeMap<(usize, &'static str), Vec<TrackerPoint>>;

/// How to read them, and a sentence for each tracker and cost; none for a plan of one size.
#[must_use]
pub fn sentences(comparisons: &[ComparisonRuns<'_>]) -> Vec<String> {
    let compared = || comparisons.iter().filter(|c| c.plan.compare == "tracker").flat_map(|c| &c.cells);
    let size = |cell: &crate::cells::CellRuns<'_>| (cell.cell.memory, cell.cell.settings.working_set);
    let first = compared().next().map(size);
    if compared().all(|cell| Some(size(cell)) == first) {
        return Vec::new();
    }
    let (mut fits, mut unfit) = (Vec::new(), BTreeMap::<Unfit, Vec<String>>::new());
    for ((cost, tracker), points) in points(comparisons) {
        let name = format!("{} {tracker}", COSTS[cost].0);
        match plane(&points) {
            Ok((Fit { coefficients: [fixed, per_gib, per_page], deviation }, points)) => fits.push(format!(
                "{name}: {fixed}, {per_gib} per GiB tracked, {per_page} per dirty page ({points} sizes, off by at most {})",
                quantity::percent(deviation)
            )),
            Err(reason) => unfit.entry(reason).or_default().push(name),
        }
    }
    if !fits.is_empty() {
        fits.insert(
            0,
            "cost as fixed, per GiB and per page, which add up: least squares of relative deviations, \u{b1} for the 95 % interval; what is smaller than its \
             \u{b1} is not distinguishable from zero"
                .to_owned(),
        );
    }
    fits.extend(unfit.into_iter().map(|(reason, names)| format!("no fit of {}: {reason}", names.join(", "))));
    fits
}

fn points(comparisons: &[ComparisonRuns<'_>]) -> Points {
    let mut points = Points::new();
    for cell in comparisons.iter().filter(|c| c.plan.compare == "tracker").flat_map(|c| &c.cells) {
        let dirty: Vec<f64> = cell
            .ok
            .iter()
            .flat_map(|run| {
                run.rounds.iter().filter(|round| round.harvest_time.is_some_and(|time| time > 0.0))
            })
            .map(|round| round.dirty_pages as f64)
            .collect();
        let Some(dirty) = median(&dirty) else { continue };
        for (cost, (_, measure)) in COSTS.iter().enumerate() {
            // The others have nothing left to arm, and what would be fitted is the clock.
            let lazy = cell.cell.tracker == Tracker::KvmManual;
            if *measure == Measure::Metric(MetricKey::RearmTime) && !lazy {
                continue;
            }
            // One run shows no trend.
            if let Some(summary) = measure.summary(&cell.ok).filter(|of| of.samples > 1) {
                let point = ([1.0, super::gib(cell.cell), dirty], summary.median);
                points.entry((cost, cell.cell.tracker.word())).or_default().push(point);
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_fitted_to_what_does_not_vary() {
        let of = |sizes: &[(f64, f64)]| {
            let points = sizes.iter().map(|&(memory, dirty)| ([1.0, memory, dirty], 1e-3 * memory));
            plane(&points.collect::<Vec<_>>()).unwrap_err()
        };
        assert_eq!(of(&[]), Unfit::Few(0));
        assert_eq!(of(&[(0.25, 1e4), (1.0, 1e4), (4.0, 1e4)]), Unfit::Few(3));
        assert_eq!(of(&[(0.25, 1e4), (1.0, 1e4), (4.0, 1e4), (8.0, 1e4)]), Unfit::Alike("dirty set"));
        assert_eq!(of(&[(0.5, 1e3), (0.5, 1e4), (0.5, 6e4), (0.5, 1e5)]), Unfit::Alike("guest memory"));
        // A dirty set that is always the same share of memory says nothing of either alone.
        assert_eq!(of(&[1.0, 2.0, 4.0, 8.0].map(|memory| (memory, memory * 1e4))), Unfit::Together);
        assert_eq!(Unfit::Few(3).to_string(), "too few points: 3 sizes, and at least 4 are needed");
    }

    #[test]
    fn a_suite_of_one_size_says_nothing_and_one_of_three_says_why() {
        use crate::cells;
        use crate::manifest::ManifestCell;
        use crate::record::Round;
        use crate::sample::{self, Sample};
        let mut manifest = sample::manifest();
        manifest.comparisons.truncate(1);
        let plan = &mut manifest.comparisons[0];
        plan.compare = "tracker".to_owned();
        plan.cells.truncate(1);
        let mut records = Vec::new();
        let first = plan.cells[0].clone();
        let mut say = |memory: Option<u64>| {
            if let Some(memory) = memory {
                let mut planned = ManifestCell { id: memory.to_string(), ..first.clone() };
                planned.cell.memory.0 = memory;
                let sample = Sample::new("read-heavy", "full").with(|record| {
                    record.cell = planned.cell.clone();
                    record.rounds =
                        vec![Round { dirty_pages: 100, harvest_time: Some(1e-3), ..Round::default() }];
                });
                let record = sample.build();
                records.extend([record.clone(), record]);
                manifest.comparisons[0].cells.push(planned);
            }
            sentences(&cells::sort(&manifest, &records).0)
        };
        assert_eq!(say(None), Vec::<String>::new());
        let said = say(Some(1 << 30));
        assert_eq!(said, ["no fit of harvest kvm-bitmap: too few points: 1 size, and at least 4 are needed"]);
    }
}

//! What a tracker costs as guest memory and dirty set grow: a plane through the cells of all comparisons that compare
//! trackers. In go medians of cells, out come seconds per harvest, per GiB tracked and per dirty page, each with the
//! margin in which it lies.

use std::collections::BTreeMap;
use std::fmt;

use migbench_scenarios::cell::Tracker;

use crate::cells::ComparisonRuns;
use crate::measure::Measure;
use crate::metric::{MetricKey, Unit};
use crate::quantity::{self, Scale};
use crate::stats::median;

/// One cell: GiB of guest memory, dirty pages a round, and seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackerPoint {
    /// Guest memory in GiB.
    pub memory: f64,
    /// Pages that a harvest found, the median over rounds and runs.
    pub dirty: f64,
    /// Seconds.
    pub time: f64,
}

/// Seconds, and half of their 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficient {
    /// As fitted. May be negative where the truth is near zero.
    pub value: f64,
    /// The truth is at most this far away, with 95 % confidence if deviations of points are independent, normal and of
    /// one relative size.
    pub margin: f64,
}

impl fmt::Display for Coefficient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = Scale::suiting(Unit::Seconds, self.value.abs().max(self.margin));
        write!(f, "{} \u{b1} {}", scale.show(self.value), scale.show(self.margin))
    }
}

/// A fitted plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Seconds whatever the size.
    pub fixed: Coefficient,
    /// Seconds per GiB of guest memory.
    pub per_gib: Coefficient,
    /// Seconds per dirty page.
    pub per_page: Coefficient,
    /// The largest deviation of a point from the plane, as a share of the point.
    pub deviation: f64,
    /// Points behind it.
    pub points: usize,
}

/// Why there is no plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
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

/// The 97.5 % quantile of Student's t by degrees of freedom, from 1 on; the last for all beyond. A margin of few points
/// must be wide.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Least squares of relative deviations, since times span decades.
///
/// # Errors
/// See [`Unfit`].
pub fn fit(points: &[TrackerPoint]) -> Result<Fit, Unfit> {
    let points: Vec<&TrackerPoint> = points.iter().filter(|point| point.time > 0.0).collect();
    let varies =
        |f: fn(&TrackerPoint) -> f64| points.iter().any(|p| (f(p) / f(points[0]) - 1.0).abs() > 0.01);
    if points.len() < 4 {
        return Err(Unfit::Few(points.len()));
    }
    if !varies(|p| p.memory) {
        return Err(Unfit::Alike("guest memory"));
    }
    if !varies(|p| p.dirty) {
        return Err(Unfit::Alike("dirty set"));
    }
    // Columns of length one, so that pivots can be judged.
    let row = |p: &TrackerPoint| [1.0 / p.time, p.memory / p.time, p.dirty / p.time];
    let mut length = [0.0_f64; 3];
    for p in &points {
        length = std::array::from_fn(|n| length[n] + row(p)[n].powi(2));
    }
    let length = length.map(f64::sqrt);
    let (mut normal, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
    for p in &points {
        let row: [f64; 3] = std::array::from_fn(|n| row(p)[n] / length[n]);
        for (a, left) in row.iter().enumerate() {
            for (b, other) in row.iter().enumerate() {
                normal[a][b] += left * other;
            }
            right[a] += left;
        }
    }
    let inverse = inverse(normal).ok_or(Unfit::Together)?;
    let product = |row: &[f64; 3]| row.iter().zip(right).map(|(a, b)| a * b).sum::<f64>();
    let values: [f64; 3] = std::array::from_fn(|n| product(&inverse[n]) / length[n]);
    let residual =
        |p: &TrackerPoint| row(p).iter().zip(values).map(|(of_row, value)| of_row * value).sum::<f64>() - 1.0;
    let deviation = points.iter().map(|p| residual(p).abs()).fold(0.0, f64::max);
    let squares: f64 = points.iter().map(|p| residual(p).powi(2)).sum();
    let freedom = points.len() - 3;
    #[expect(clippy::cast_precision_loss, reason = "a number of cells")]
    let variance = squares / freedom as f64;
    let student = STUDENT[freedom.min(STUDENT.len()) - 1];
    let [fixed, per_gib, per_page] = std::array::from_fn(|n| Coefficient {
        value: values[n],
        margin: student * (variance * inverse[n][n]).sqrt() / length[n],
    });
    Ok(Fit { fixed, per_gib, per_page, deviation, points: points.len() })
}

/// Of a matrix whose columns are about as large as each other, by elimination with the largest pivot.
fn inverse(matrix: [[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    /// Under this a pivot is what rounding left of nothing.
    const NOTHING: f64 = 1e-9;
    let mut rows: [[f64; 6]; 3] = std::array::from_fn(|r| {
        std::array::from_fn(|c| if c < 3 { matrix[r][c] } else { f64::from(u8::from(c - 3 == r)) })
    });
    for column in 0..3 {
        let pivot = (column..3).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        let lead = rows[column];
        if lead[column].abs() < NOTHING {
            return None;
        }
        for (number, row) in rows.iter_mut().enumerate() {
            let factor = if number == column { 1.0 - 1.0 / lead[column] } else { row[column] / lead[column] };
            for (value, of_lead) in row.iter_mut().zip(lead) {
                *value -= factor * of_lead;
            }
        }
    }
    Some(rows.map(|row| [row[3], row[4], row[5]]))
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
        match fit(&points) {
            Ok(fit) => fits.push(format!(
                "{name}: {}, {} per GiB tracked, {} per dirty page ({} sizes, off by at most {})",
                fit.fixed,
                fit.per_gib,
                fit.per_page,
                fit.points,
                quantity::percent(fit.deviation)
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
        #[expect(clippy::cast_precision_loss, reason = "sizes and counts of one run")]
        let dirty: Vec<f64> = cell
            .ok
            .iter()
            .flat_map(|run| {
                run.rounds.iter().filter(|round| round.harvest_time.is_some_and(|time| time > 0.0))
            })
            .map(|round| round.dirty_pages as f64)
            .collect();
        let Some(dirty) = median(&dirty) else { continue };
        #[expect(clippy::cast_precision_loss, reason = "sizes and counts of one run")]
        let memory = cell.cell.memory.0 as f64 / 1_073_741_824.0;
        for (cost, (_, measure)) in COSTS.iter().enumerate() {
            // The others have nothing left to arm, and what would be fitted is the clock.
            let lazy = cell.cell.tracker == Tracker::KvmManual;
            if *measure == Measure::Metric(MetricKey::RearmTime) && !lazy {
                continue;
            }
            // One run shows no trend.
            if let Some(summary) = measure.summary(&cell.ok).filter(|of| of.samples > 1) {
                let point = TrackerPoint { memory, dirty, time: summary.median };
                points.entry((cost, cell.cell.tracker.word())).or_default().push(point);
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [(f64, f64); 8] = [
        (0.25, 16384.0),
        (1.0, 16384.0),
        (4.0, 16384.0),
        (8.0, 16384.0),
        (0.5, 1280.0),
        (0.5, 12800.0),
        (0.5, 64000.0),
        (0.5, 128_000.0),
    ];
    const TRUTH: [f64; 3] = [5e-6, 2e-4, 25e-9];

    /// Points of a plane, each off by what `noise` says, as a share.
    fn plane(mut noise: impl FnMut() -> f64) -> Vec<TrackerPoint> {
        let time = |memory, dirty| TRUTH[0] + TRUTH[1] * memory + TRUTH[2] * dirty;
        SIZES
            .map(|(memory, dirty)| TrackerPoint {
                memory,
                dirty,
                time: time(memory, dirty) * (1.0 + noise()),
            })
            .to_vec()
    }

    /// Nearly normal, of that deviation: a sum of twelve uniform numbers (SplitMix), less its mean.
    fn normal(state: &mut u64, deviation: f64) -> f64 {
        let mut uniform = || {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()) / f64::from(u32::MAX)
        };
        deviation * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0)
    }

    fn coefficients(fit: &Fit) -> [Coefficient; 3] {
        [fit.fixed, fit.per_gib, fit.per_page]
    }

    #[test]
    fn finds_the_plane_that_made_the_points() {
        let fit = fit(&plane(|| 0.0)).unwrap();
        for (found, truth) in coefficients(&fit).iter().zip(TRUTH) {
            assert!((found.value / truth - 1.0).abs() < 1e-6 && found.margin < truth * 1e-6, "{fit:?}");
        }
        assert!(fit.deviation < 1e-6 && fit.points == 8);
    }

    #[test]
    fn says_how_far_off_it_is() {
        let mut points = plane(|| 0.0);
        points[2].time *= 1.5;
        let fit = fit(&points).unwrap();
        assert!(fit.deviation > 0.1 && fit.per_gib.margin > TRUTH[1] * 0.1, "{fit:?}");
    }

    /// The claim of the margins: of many noisy measurements, 95 % have the truth within.
    #[test]
    fn margins_hold_what_they_promise() {
        let (mut state, mut within) = (1, [0; 3]);
        for _ in 0..1000 {
            let fit = fit(&plane(|| normal(&mut state, 0.03))).unwrap();
            for (count, (found, truth)) in within.iter_mut().zip(coefficients(&fit).iter().zip(TRUTH)) {
                *count += u32::from((found.value - truth).abs() <= found.margin);
            }
        }
        assert!(within.iter().all(|count| (925..=975).contains(count)), "{within:?} of 1000");
    }

    #[test]
    fn nothing_is_fitted_to_what_does_not_vary() {
        let of = |sizes: &[(f64, f64)]| -> Vec<TrackerPoint> {
            sizes.iter().map(|&(memory, dirty)| TrackerPoint { memory, dirty, time: 1e-3 * memory }).collect()
        };
        assert_eq!(fit(&[]), Err(Unfit::Few(0)));
        assert_eq!(fit(&of(&SIZES[..3])), Err(Unfit::Few(3)));
        assert_eq!(fit(&of(&SIZES[..4])), Err(Unfit::Alike("dirty set")));
        assert_eq!(fit(&of(&SIZES[4..])), Err(Unfit::Alike("guest memory")));
        // A dirty set that is always the same share of memory says nothing of either alone.
        let share: Vec<_> = [1.0, 2.0, 4.0, 8.0].map(|memory| (memory, memory * 1e4)).to_vec();
        assert_eq!(fit(&of(&share)), Err(Unfit::Together));
        assert_eq!(Unfit::Few(3).to_string(), "too few points: 3 sizes, and at least 4 are needed");
    }

    #[test]
    fn a_coefficient_and_its_margin_share_a_unit() {
        let shown = |value, margin| Coefficient { value, margin }.to_string();
        assert_eq!(shown(2e-4, 3e-6), "200 us \u{b1} 3.00 us");
        assert_eq!(shown(-3e-9, 2e-6), "-0.00300 us \u{b1} 2.00 us");
    }

    #[test]
    fn a_suite_of_one_size_says_nothing_and_one_of_three_says_why() {
        use crate::cells;
        use crate::manifest::ManifestCell;
        use crate::sample;
        let mut manifest = sample::manifest();
        manifest.comparisons.truncate(1);
        let plan = &mut manifest.comparisons[0];
        plan.compare = "tracker".to_owned();
        plan.cells.truncate(1);
        let mut records = Vec::new();
        let mut say = |memory: Option<u64>| {
            if let Some(memory) = memory {
                let mut planned = plan_cell(&manifest);
                planned.cell.memory.0 = memory;
                planned.id = memory.to_string();
                records.extend([tracked(&planned), tracked(&planned)]);
                manifest.comparisons[0].cells.push(planned);
            }
            sentences(&cells::sort(&manifest, &records).0)
        };
        fn plan_cell(manifest: &crate::manifest::Manifest) -> ManifestCell {
            manifest.comparisons[0].cells[0].clone()
        }
        fn tracked(planned: &ManifestCell) -> crate::record::Record {
            let sample = crate::sample::Sample::new("read-heavy", "full");
            sample
                .with(|record| {
                    record.cell = planned.cell.clone();
                    let round = crate::record::Round {
                        dirty_pages: 100,
                        harvest_time: Some(1e-3),
                        ..Default::default()
                    };
                    record.rounds = vec![round];
                })
                .build()
        }
        assert_eq!(say(None), Vec::<String>::new());
        let said = say(Some(1 << 30));
        assert_eq!(said, ["no fit of harvest kvm-bitmap: too few points: 1 size, and at least 4 are needed"]);
    }
}

//! What a tracker costs as guest memory and dirty set grow: a plane through the cells of all comparisons that compare
//! trackers. In go medians of cells, out come seconds per harvest, per GiB tracked and per dirty page.

use std::collections::BTreeMap;

use crate::cells::ComparisonRuns;
use crate::measure::Measure;
use crate::metric::{MetricKey, Unit};
use crate::quantity::{self, Scale};
use crate::stats::median;

/// One cell: GiB of guest memory, dirty pages a round, and seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Guest memory in GiB.
    pub memory: f64,
    /// Pages that a harvest found, the median over rounds and runs.
    pub dirty: f64,
    /// Seconds.
    pub time: f64,
}

/// A fitted plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Seconds whatever the size.
    pub fixed: f64,
    /// Seconds per GiB of guest memory.
    pub per_gib: f64,
    /// Seconds per dirty page.
    pub per_page: f64,
    /// The largest deviation of a point from the plane, as a share of the point.
    pub deviation: f64,
    /// Points behind it.
    pub points: usize,
}

/// Least squares of relative deviations, since times span decades. `None` unless memory and dirty set both vary and
/// there are more points than unknowns.
#[must_use]
pub fn fit(points: &[Point]) -> Option<Fit> {
    let varies = |f: fn(&Point) -> f64| points.iter().any(|p| (f(p) / f(&points[0]) - 1.0).abs() > 0.01);
    if points.len() < 4
        || !varies(|p| p.memory)
        || !varies(|p| p.dirty)
        || points.iter().any(|p| p.time <= 0.0)
    {
        return None;
    }
    let mut system = [[0.0; 4]; 3];
    for p in points {
        let row = [1.0 / p.time, p.memory / p.time, p.dirty / p.time];
        for (equation, left) in system.iter_mut().zip(row) {
            for (coefficient, right) in equation.iter_mut().zip(row) {
                *coefficient += left * right;
            }
            equation[3] += left;
        }
    }
    let [fixed, per_gib, per_page] = solve(system)?;
    let deviation = points
        .iter()
        .map(|p| ((fixed + per_gib * p.memory + per_page * p.dirty) / p.time - 1.0).abs())
        .fold(0.0, f64::max);
    Some(Fit { fixed, per_gib, per_page, deviation, points: points.len() })
}

/// Three linear equations by elimination with the largest pivot.
fn solve(mut system: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot =
            (column..3).max_by(|&a, &b| system[a][column].abs().total_cmp(&system[b][column].abs()))?;
        system.swap(column, pivot);
        let lead = system[column];
        if lead[column].abs() < f64::MIN_POSITIVE {
            return None;
        }
        for (row, equation) in system.iter_mut().enumerate() {
            if row != column {
                let factor = equation[column] / lead[column];
                for (value, of_lead) in equation.iter_mut().zip(lead) {
                    *value -= factor * of_lead;
                }
            }
        }
    }
    Some([0, 1, 2].map(|n| system[n][3] / system[n][n])).filter(|x| x.iter().all(|v| v.is_finite()))
}

/// A sentence for each tracker that can be fitted.
#[must_use]
pub fn sentences(comparisons: &[ComparisonRuns<'_>]) -> Vec<String> {
    let costs: [(&str, Measure); 3] = [
        ("harvest", Measure::HarvestPerRound),
        ("arm", Measure::Metric(MetricKey::ArmTime)),
        ("re-arm", Measure::Metric(MetricKey::RearmTime)),
    ];
    let mut points: BTreeMap<(usize, &str), Vec<Point>> = BTreeMap::new();
    for comparison in comparisons.iter().filter(|c| c.plan.compare == "tracker") {
        for cell in &comparison.cells {
            #[expect(clippy::cast_precision_loss, reason = "sizes and counts of one run")]
            let dirty: Vec<f64> = cell
                .ok
                .iter()
                .flat_map(|run| run.rounds.iter().filter(|round| round.harvest_time > 0.0))
                .map(|round| round.dirty_pages as f64)
                .collect();
            let Some(dirty) = median(&dirty) else { continue };
            #[expect(clippy::cast_precision_loss, reason = "sizes and counts of one run")]
            let memory = cell.cell.memory.0 as f64 / 1_073_741_824.0;
            for (n, (_, measure)) in costs.iter().enumerate() {
                if let Some(summary) = measure.summary(&cell.ok) {
                    let point = Point { memory, dirty, time: summary.median };
                    points.entry((n, cell.cell.tracker.word())).or_default().push(point);
                }
            }
        }
    }
    let time = |seconds: f64| Scale::suiting(Unit::Seconds, seconds.abs()).show(seconds);
    points
        .iter()
        .filter_map(|((n, tracker), points)| {
            let fit = fit(points)?;
            Some(format!(
                "{} {tracker}: {} + {} per GiB tracked + {} per dirty page ({} points, off by at most {})",
                costs[*n].0,
                time(fit.fixed),
                time(fit.per_gib),
                time(fit.per_page),
                fit.points,
                quantity::percent(fit.deviation)
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(fixed: f64, per_gib: f64, per_page: f64) -> Vec<Point> {
        [(0.25, 1e4), (1.0, 1e4), (8.0, 1e4), (4.0, 1e3), (4.0, 1e5), (4.0, 1e6)]
            .map(|(memory, dirty)| Point { memory, dirty, time: fixed + per_gib * memory + per_page * dirty })
            .to_vec()
    }

    #[test]
    fn finds_the_plane_that_made_the_points() {
        let fit = fit(&plane(5e-6, 2e-4, 25e-9)).unwrap();
        assert!((fit.fixed / 5e-6 - 1.0).abs() < 1e-6, "{fit:?}");
        assert!((fit.per_gib / 2e-4 - 1.0).abs() < 1e-6, "{fit:?}");
        assert!((fit.per_page / 25e-9 - 1.0).abs() < 1e-6, "{fit:?}");
        assert!(fit.deviation < 1e-6 && fit.points == 6);
    }

    #[test]
    fn says_how_far_off_it_is() {
        let mut points = plane(5e-6, 2e-4, 25e-9);
        points[2].time *= 1.5;
        assert!(fit(&points).unwrap().deviation > 0.1);
    }

    #[test]
    fn nothing_is_fitted_to_what_does_not_vary() {
        let same = Point { memory: 1.0, dirty: 1e4, time: 1e-3 };
        assert_eq!(fit(&[same; 6]), None);
        assert_eq!(fit(&plane(1e-6, 1e-4, 1e-8)[..3]), None);
        assert_eq!(fit(&[]), None);
    }
}

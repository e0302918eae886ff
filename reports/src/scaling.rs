//! What size costs. For trackers, as guest memory and dirty set grow: a plane through the cells of all comparisons that
//! compare trackers. In go medians of cells, out come seconds per harvest, per GiB tracked and per dirty page. For
//! engines, as guest memory alone grows: a line through all cells that differ in nothing but memory.

use std::collections::{BTreeMap, BTreeSet};

use migbench_workloads::units::Bytes;

use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::Measure;
use crate::metric::{MetricKey, Unit};
use crate::quantity::{self, Scale};
use crate::settings::{self, Flat};
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

/// A fitted line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Seconds whatever the size.
    pub fixed: f64,
    /// Seconds per GiB of guest memory.
    pub per_gib: f64,
    /// The largest deviation of a point from the line, as a share of the point.
    pub deviation: f64,
}

/// As [`fit`] for pairs of GiB and seconds. `None` with fewer than three sizes: two always lie on a line.
#[must_use]
pub fn line(points: &[(f64, f64)]) -> Option<Line> {
    let sizes: BTreeSet<u64> = points.iter().map(|(memory, _)| memory.to_bits()).collect();
    if sizes.len() < 3 || points.iter().any(|(_, time)| *time <= 0.0) {
        return None;
    }
    let sum = |term: fn(f64, f64) -> f64| points.iter().map(|&(m, t)| term(m, t) / (t * t)).sum::<f64>();
    let (ones, sizes, squares) = (sum(|_, _| 1.0), sum(|m, _| m), sum(|m, _| m * m));
    let (times, products) = (sum(|_, t| t), sum(|m, t| m * t));
    let determinant = ones * squares - sizes * sizes;
    let fixed = (times * squares - products * sizes) / determinant;
    let per_gib = (products * ones - times * sizes) / determinant;
    let deviation = points.iter().map(|(m, t)| ((fixed + per_gib * m) / t - 1.0).abs()).fold(0.0, f64::max);
    (fixed.is_finite() && per_gib.is_finite()).then_some(Line { fixed, per_gib, deviation })
}

/// A sentence for each cost that can be fitted: of trackers, and of engines.
#[must_use]
pub fn sentences(comparisons: &[ComparisonRuns<'_>]) -> Vec<String> {
    [trackers(comparisons), engines(comparisons)].concat()
}

/// Total time and downtime of each engine by guest memory.
fn engines(comparisons: &[ComparisonRuns<'_>]) -> Vec<String> {
    const COSTS: [MetricKey; 2] = [MetricKey::TotalTime, MetricKey::Downtime];
    // Cells that are equal but for their memory.
    let mut families: BTreeMap<Flat, Vec<&CellRuns<'_>>> = BTreeMap::new();
    for cell in comparisons.iter().flat_map(|c| &c.cells).filter(|cell| cell.cell.engine.migrates()) {
        let mut family = settings::flat(cell.cell);
        family.remove("memory");
        families.entry(family).or_default().push(cell);
    }
    let mut fitted = Vec::new();
    for key in COSTS {
        for (family, cells) in &families {
            let points: Vec<_> = cells
                .iter()
                .filter_map(|cell| {
                    Some((gib(cell.cell.memory), Measure::Metric(key).summary(&cell.ok)?.median))
                })
                .collect();
            fitted.extend(line(&points).map(|line| (key, family, line, points.len())));
        }
    }
    let differs = |path: &str| fitted.iter().any(|(_, family, ..)| family.get(path) != fitted[0].1.get(path));
    let label = |family: &Flat| {
        // Codec and cache follow the engine but where a suite says otherwise.
        let engine = family.get("engine").cloned().unwrap_or_default();
        let others = family
            .iter()
            .filter(|(path, _)| !["engine", "codec", "cache"].contains(&path.as_str()) && differs(path));
        others.fold(engine, |label, (path, value)| format!("{label}, {path} {value}"))
    };
    fitted
        .iter()
        .map(|(key, family, line, points)| {
            format!(
                "{} {}: {} {} {} per GiB of guest memory ({points} sizes, off by at most {})",
                key.definition().label,
                label(family),
                time(line.fixed),
                if line.per_gib < 0.0 { '-' } else { '+' },
                time(line.per_gib.abs()),
                quantity::percent(line.deviation)
            )
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "sizes of guests")]
fn gib(memory: Bytes) -> f64 {
    memory.0 as f64 / 1_073_741_824.0
}

fn time(seconds: f64) -> String {
    Scale::suiting(Unit::Seconds, seconds.abs()).show(seconds)
}

fn trackers(comparisons: &[ComparisonRuns<'_>]) -> Vec<String> {
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
            let memory = gib(cell.cell.memory);
            for (n, (_, measure)) in costs.iter().enumerate() {
                if let Some(summary) = measure.summary(&cell.ok) {
                    let point = Point { memory, dirty, time: summary.median };
                    points.entry((n, cell.cell.tracker.word())).or_default().push(point);
                }
            }
        }
    }
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
    use crate::sample::{self, Sample};

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
    fn finds_the_line_that_made_the_points() {
        let points = [0.25, 1.0, 4.0, 8.0].map(|memory| (memory, 0.1 + 0.5 * memory));
        let found = line(&points).unwrap();
        assert!((found.fixed - 0.1).abs() < 1e-9 && (found.per_gib - 0.5).abs() < 1e-9, "{found:?}");
        assert!(found.deviation < 1e-9, "{found:?}");
        let mut bent = points;
        bent[3].1 *= 1.5;
        assert!(line(&bent).unwrap().deviation > 0.05);
        assert_eq!(line(&[points[0], points[1], points[0], points[1]]), None, "two sizes");
        assert_eq!(line(&[]), None);
    }

    #[test]
    fn engines_are_fitted_over_cells_that_differ_in_memory_alone() {
        let mut manifest = sample::manifest();
        let mut records = Vec::new();
        manifest.comparisons.truncate(1);
        let plan = &mut manifest.comparisons[0];
        plan.cells.clear();
        for engine in ["full", "delta"] {
            for (n, vcpus) in [(1_u32, 1), (2, 1), (4, 1), (8, 1), (2, 2)] {
                let time = 0.5 + f64::from(n) * if engine == "full" { 0.25 } else { 1.5 };
                let built = Sample::new("write-heavy", engine).with(|record| {
                    record.comparison.clone_from(&plan.name);
                    (record.cell.memory, record.cell.vcpus) = (Bytes(u64::from(n) << 30), vcpus);
                    let mut metrics = crate::metric::Metrics::new();
                    metrics.set(MetricKey::TotalTime, time).unwrap();
                    metrics.set(MetricKey::Downtime, time / 100.0).unwrap();
                    record.metrics = metrics.into();
                });
                let record = built.build();
                let id = format!("{engine} {n} {vcpus}");
                plan.cells.push(crate::manifest::PlannedCell { id, cell: record.cell.clone() });
                records.push(record);
            }
        }
        let (sorted, strangers) = crate::cells::sort(&manifest, &records);
        assert_eq!(strangers, 0);
        assert_eq!(
            engines(&sorted),
            [
                "total time full: 500 ms + 250 ms per GiB of guest memory (4 sizes, off by at most 0.0 %)",
                "total time delta: 500 ms + 1.50 s per GiB of guest memory (4 sizes, off by at most 0.0 %)",
                "downtime full: 5.00 ms + 2.50 ms per GiB of guest memory (4 sizes, off by at most 0.0 %)",
                "downtime delta: 5.00 ms + 15.0 ms per GiB of guest memory (4 sizes, off by at most 0.0 %)",
            ]
        );
    }

    #[test]
    fn nothing_is_fitted_to_what_does_not_vary() {
        let same = Point { memory: 1.0, dirty: 1e4, time: 1e-3 };
        assert_eq!(fit(&[same; 6]), None);
        assert_eq!(fit(&plane(1e-6, 1e-4, 1e-8)[..3]), None);
        assert_eq!(fit(&[]), None);
    }
}

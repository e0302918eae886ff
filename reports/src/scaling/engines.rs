//! What guest memory costs an engine: a line through all cells that differ in nothing but memory.

use std::collections::{BTreeMap, BTreeSet};

use super::fit::{Fit, fit};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::Measure;
use crate::metric::{MetricKey, Unit};
use crate::quantity::{self, Scale};
use crate::settings::{self, Flat};

/// A line through points of GiB and seconds. `None` with fewer than three sizes: two always lie on a line.
fn line(points: &[(f64, f64)]) -> Option<Fit<2>> {
    let sizes: BTreeSet<u64> = points.iter().map(|(memory, _)| memory.to_bits()).collect();
    let fits = sizes.len() > 2 && points.iter().all(|(_, time)| *time > 0.0);
    let points: Vec<_> = points.iter().map(|(memory, time)| ([1.0, *memory], *time)).collect();
    fits.then(|| fit(&points)).flatten()
}

/// Total time and downtime of each engine by guest memory.
#[must_use]
pub fn sentences(comparisons: &[ComparisonRuns<'_>]) -> Vec<String> {
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
                    // One run shows no trend.
                    let summary = Measure::Metric(key).summary(&cell.ok).filter(|of| of.samples > 1)?;
                    Some((super::gib(cell.cell), summary.median))
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
            let [fixed, per_gib] = line.coefficients.map(|coefficient| coefficient.value);
            format!(
                "{} {}: {} {} {} per GiB of guest memory ({points} sizes, off by at most {})",
                key.definition().label,
                label(family),
                time(fixed),
                if per_gib < 0.0 { '-' } else { '+' },
                time(per_gib.abs()),
                quantity::percent(line.deviation)
            )
        })
        .collect()
}

fn time(seconds: f64) -> String {
    Scale::suiting(Unit::Seconds, seconds.abs()).show(seconds)
}

#[cfg(test)]
mod tests {
    use migbench_workloads::units::Bytes;

    use super::*;
    use crate::sample::{self, Sample};

    #[test]
    fn finds_the_line_that_made_the_points() {
        let points = [0.25, 1.0, 4.0, 8.0].map(|memory| (memory, 0.1 + 0.5 * memory));
        let found = line(&points).unwrap();
        let [fixed, per_gib] = found.coefficients.map(|coefficient| coefficient.value);
        assert!((fixed - 0.1).abs() < 1e-9 && (per_gib - 0.5).abs() < 1e-9, "{found:?}");
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
                });
                let built =
                    built.metric(MetricKey::TotalTime, time).metric(MetricKey::Downtime, time / 100.0);
                let record = built.build();
                let id = format!("{engine} {n} {vcpus}");
                plan.cells.push(crate::manifest::ManifestCell { id, cell: record.cell.clone() });
                records.extend([record.clone(), record]);
            }
        }
        let (sorted, strangers) = crate::cells::sort(&manifest, &records);
        assert_eq!(strangers, 0);
        assert_eq!(
            sentences(&sorted),
            [
                "total time full: 500 ms + 250 ms per GiB of guest memory (4 sizes, off by at most 0.0 %)",
                "total time delta: 500 ms + 1.50 s per GiB of guest memory (4 sizes, off by at most 0.0 %)",
                "downtime full: 5.00 ms + 2.50 ms per GiB of guest memory (4 sizes, off by at most 0.0 %)",
                "downtime delta: 5.00 ms + 15.0 ms per GiB of guest memory (4 sizes, off by at most 0.0 %)",
            ]
        );
        // One run of each size shows no trend.
        let singles: Vec<_> = records.into_iter().step_by(2).collect();
        assert_eq!(sentences(&crate::cells::sort(&manifest, &singles).0), Vec::<String>::new());
    }
}

//! The break-even map: at which size of a change, over which link, what is compared pays against the baseline, and at what CPU.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, Numbers, PrintedFigure, Row, RowKind, Subject, Table, ends, partner};
use crate::cells::{ComparisonRuns, short_key};
use crate::measure::{CPU, Difference, Measure};
use crate::metric::{MetricKey, Unit};
use crate::quantity;
use crate::settings::{self, Flat};

/// What the tables are, in a sentence.
pub const ABOUT: &str = "the difference to the baseline, with its interval or range, by how many bytes of a page one write changes; a row \
                         pays where it is less and can be told from chance";

/// The axis.
const PATH: &str = "settings.change.bytes";

/// Of fewer sizes there is no map.
const LEAST: usize = 3;

/// What it may pay in.
const MEASURES: [Measure; 3] =
    [Measure::Metric(MetricKey::TotalTime), Measure::Metric(MetricKey::Traffic), CPU];

/// A row of the map: what it is called, what tells it from others, and the difference at each size of a change.
struct Family {
    label: String,
    around: Flat,
    points: BTreeMap<u32, (Difference, u64)>,
}

/// A table for each measure; none where sizes of changes were not varied.
#[must_use]
pub fn tables(comparisons: &[ComparisonRuns<'_>]) -> Vec<Table> {
    MEASURES.into_iter().filter_map(|measure| table(measure, comparisons)).collect()
}

fn table(measure: Measure, comparisons: &[ComparisonRuns<'_>]) -> Option<Table> {
    let families = families(measure, comparisons);
    let sizes: BTreeSet<u32> = families.iter().flat_map(|family| family.points.keys().copied()).collect();
    if families.is_empty() {
        return None;
    }
    let rows = families.iter().map(|family| row(family, &sizes)).collect();
    let notes = families.iter().map(|family| format!("{}: {}", family.label, verdict(&family.points)));
    let name = |size: &u32| format!("{}_at_{size}", measure.name());
    Some(Table {
        comparison: String::new(),
        title: format!("{} by bytes changed of a page", measure.label()),
        head: "over the baseline".to_owned(),
        columns: sizes.iter().map(|size| Column::new(name(size), bytes(*size), Unit::Ratio)).collect(),
        rows,
        notes: notes.collect(),
        analysis: String::new(),
    })
}

/// Cells that differ in nothing but the size of a change, each with its baseline.
fn families(measure: Measure, comparisons: &[ComparisonRuns<'_>]) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for comparison in comparisons {
        let Some(baseline) = partner(comparison) else { continue };
        for cell in comparison.compared() {
            let Some(difference) = measure.difference(baseline, cell) else { continue };
            let pairs = super::count(measure.pairs(baseline, cell).len());
            let mut around = settings::flat(baseline.cell);
            around.remove(PATH);
            let size = cell.cell.settings.change.bytes;
            let at = families.iter().position(|family| family.label == cell.label && family.around == around);
            let family = at.unwrap_or_else(|| {
                families.push(Family { label: cell.label.clone(), around, points: BTreeMap::new() });
                families.len() - 1
            });
            families[family].points.entry(size).or_insert((difference, pairs));
        }
    }
    families.retain(|family| family.points.len() >= LEAST);
    let first = families.first().map(|family| family.around.clone()).unwrap_or_default();
    let differing: BTreeSet<String> = families
        .iter()
        .flat_map(|family| &family.around)
        .filter(|(path, value)| first.get(*path) != Some(*value))
        .map(|(path, _)| path.clone())
        .collect();
    let paths: BTreeSet<&str> = differing.iter().map(String::as_str).collect();
    for family in &mut families {
        for path in &paths {
            if let Some(value) = family.around.get(*path) {
                family.label += &format!(", {} {value}", short_key(path, &paths));
            }
        }
    }
    families.sort_by(|a, b| a.around.cmp(&b.around));
    families
}

fn row(family: &Family, sizes: &BTreeSet<u32>) -> Row {
    let figure = |size: &u32| {
        let &(difference, samples) = family.points.get(size)?;
        Some(PrintedFigure {
            value: difference.show(),
            difference: None,
            difference_spread: None,
            spread: difference.spread.map(|spread| ends(spread, quantity::difference)),
            numbers: Numbers {
                samples,
                value: difference.ratio,
                spread: difference.spread,
                difference: Some(difference),
            },
        })
    };
    Row {
        kind: RowKind::Compared,
        label: family.label.clone(),
        subject: Subject { cell: family.label.clone(), ..Subject::default() },
        converged: None,
        samples: None,
        figures: sizes.iter().map(figure).collect(),
        text: None,
    }
}

/// Where it pays and where it costs.
fn verdict(points: &BTreeMap<u32, (Difference, u64)>) -> String {
    let told = |better: bool| -> Vec<u32> {
        let told = points.iter().filter(|(_, (difference, _))| {
            difference.significant == Some(true) && (difference.ratio < 1.0) == better
        });
        told.map(|(size, _)| *size).collect()
    };
    let all: Vec<u32> = points.keys().copied().collect();
    let list = |sizes: &[u32]| sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let parts = [(told(true), "pays"), (told(false), "costs")].map(|(sizes, verb)| {
        let [.., last] = sizes[..] else { return None };
        Some(if sizes == all {
            format!("{verb} at every size")
        } else if all.starts_with(&sizes) {
            format!("{verb} up to {}", bytes(last))
        } else if all.ends_with(&sizes) {
            format!("{verb} from {} on", bytes(sizes[0]))
        } else {
            format!("{verb} at {} bytes", list(&sizes))
        })
    });
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "not told from the baseline at any size".to_owned() } else { parts.join(", ") }
}

fn bytes(size: u32) -> String {
    if size == 1 { "1 byte".to_owned() } else { format!("{size} bytes") }
}

#[cfg(test)]
mod tests {
    use migbench_workloads::units::Rate;

    use super::*;
    use crate::cells;
    use crate::manifest::{Manifest, ManifestCell, ManifestComparison};
    use crate::record::Record;
    use crate::sample::{self, Sample};

    /// Two links and four sizes: on the slow one delta takes `slow` of full's time, on the fast one `fast`.
    fn varied(repetitions: u32, slow: [f64; 4], fast: [f64; 4]) -> (Manifest, Vec<Record>) {
        let (mut manifest, mut records) = (sample::manifest(), Vec::new());
        manifest.comparisons.clear();
        for (rate, ratios) in [(125_000_000, slow), (1_250_000_000, fast)] {
            for (size, ratio) in [1, 64, 1024, 4080].into_iter().zip(ratios) {
                let name = format!("{size} {rate}");
                let mut cells = Vec::new();
                for (engine, ratio) in [("full", 1.0), ("delta", ratio)] {
                    for repetition in 1..=repetitions {
                        let noise = 1.0 + 0.001 * f64::from(repetition % 3);
                        let built =
                            Sample::new("write-heavy", engine).repetition(repetition).with(|record| {
                                record.comparison.clone_from(&name);
                                record.cell.settings.change.bytes = size;
                                record.cell.settings.change.pieces = 1;
                                record.cell.link.rate = Some(Rate(rate));
                            });
                        records.push(built.metric(MetricKey::TotalTime, ratio * noise).build());
                    }
                    let cell = records[records.len() - 1].cell.clone();
                    cells.push(ManifestCell { id: format!("{name}/{engine}"), cell });
                }
                let (compare, baseline) = ("engine".to_owned(), format!("{name}/full"));
                let analysis = String::new();
                manifest.comparisons.push(ManifestComparison { name, compare, baseline, analysis, cells });
            }
        }
        (manifest, records)
    }

    fn notes(repetitions: u32, slow: [f64; 4], fast: [f64; 4]) -> Vec<String> {
        let (manifest, records) = varied(repetitions, slow, fast);
        let (sorted, strangers) = cells::sort(&manifest, &records);
        assert_eq!(strangers, 0);
        let tables = tables(&sorted);
        let total = tables.iter().find(|table| table.title.starts_with("total time")).unwrap();
        assert_eq!(total.columns.len(), 4);
        assert_eq!(total.columns[1].name, "total_time_at_64");
        assert!(total.rows.iter().all(|row| row.figures.iter().all(Option::is_some)));
        total.notes.clone()
    }

    #[test]
    fn it_says_up_to_where_deltas_pay_on_each_link() {
        assert_eq!(
            notes(8, [0.4, 0.5, 0.8, 1.2], [0.5, 1.2, 1.3, 1.4]),
            [
                "delta, rate 1 Gbit/s: pays up to 1024 bytes, costs from 4080 bytes on",
                "delta, rate 10 Gbit/s: pays up to 1 byte, costs from 64 bytes on",
            ]
        );
        assert_eq!(
            notes(8, [0.4; 4], [0.5, 1.2, 0.5, 1.2]),
            [
                "delta, rate 1 Gbit/s: pays at every size",
                "delta, rate 10 Gbit/s: pays at 1, 1024 bytes, costs at 64, 4080 bytes",
            ]
        );
    }

    #[test]
    fn what_cannot_be_told_from_chance_pays_nowhere() {
        let told = notes(3, [0.4; 4], [0.5; 4]);
        assert!(told.iter().all(|note| note.ends_with("not told from the baseline at any size")), "{told:?}");
    }

    #[test]
    fn two_sizes_are_no_map() {
        let (mut manifest, records) = varied(6, [0.5; 4], [0.5; 4]);
        manifest.comparisons.truncate(2);
        assert_eq!(tables(&cells::sort(&manifest, &records).0), []);
    }
}

//! The break-even map: at which size of a change, over which link, what is compared pays against the baseline, and at what CPU.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, Numbers, PrintedFigure, Row, RowKind, Subject, Table, ends};
use crate::cells::{ComparisonRuns, short_key};
use crate::measure::{CPU, Difference, Measure};
use crate::metric::{MetricKey, Unit};
use crate::quantity;
use crate::settings::{self, Flat};

/// What the tables are, in a sentence.
pub const ABOUT: &str = "the difference to the baseline, with its interval or range, by how many bytes of a page one write changes; a row \
                         pays where it is less and can be told from chance, each figure by itself: of twenty that differ in nothing one is \
                         told apart";

/// The axis.
const PATH: &str = "settings.change.bytes";

/// Of fewer sizes there is no map.
const LEAST: usize = 3;

/// What it may pay in.
const MEASURES: [Measure; 3] =
    [Measure::Metric(MetricKey::TotalTime), Measure::Metric(MetricKey::Traffic), CPU];

/// A difference with the pairs of runs behind it; none where runs were capped or are missing.
type Point = Option<(Difference, u64)>;

/// A row of the map: what it is called, what tells it from others, and the difference at each size of a change.
struct Family {
    label: String,
    around: Flat,
    points: BTreeMap<u32, Point>,
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
        let Some(baseline) = comparison.baseline() else { continue };
        for cell in comparison.compared() {
            let point = measure
                .difference(baseline, cell)
                .map(|difference| (difference, super::count(measure.pairs(baseline, cell).len())));
            let label = &cell.label;
            let mut around = settings::flat(baseline.cell);
            around.remove(PATH);
            let size = cell.cell.settings.change.bytes;
            let at = families.iter().position(|family| family.label == *label && family.around == around);
            let family = at.unwrap_or_else(|| {
                families.push(Family { label: label.clone(), around, points: BTreeMap::new() });
                families.len() - 1
            });
            families[family].points.entry(size).or_insert(point);
        }
    }
    families.retain(|family| family.points.len() >= LEAST && family.points.values().any(Option::is_some));
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
        let &(difference, samples) = family.points.get(size)?.as_ref()?;
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
    let pairs: BTreeSet<u64> = family.points.values().flatten().map(|(_, pairs)| *pairs).collect();
    let pairs = pairs.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
    Row {
        kind: RowKind::Compared,
        label: family.label.clone(),
        subject: Subject { cell: family.label.clone(), ..Subject::default() },
        converged: None,
        samples: Some(format!("pairs: {pairs}")),
        figures: sizes.iter().map(figure).collect(),
        text: None,
    }
}

/// Where it pays and where it costs.
fn verdict(points: &BTreeMap<u32, Point>) -> String {
    /// Of fewer pairs nothing can be told: two of 2^n signs are as extreme as the most extreme.
    const PAIRS: u64 = 6;
    let such = |wanted: &dyn Fn(&Point) -> bool| -> Vec<u32> {
        points.iter().filter(|(_, point)| wanted(point)).map(|(size, _)| *size).collect()
    };
    let told = |better: bool| {
        such(&|point| {
            let difference = point.map(|(difference, _)| difference);
            difference.is_some_and(|it| it.significant == Some(true) && (it.ratio < 1.0) == better)
        })
    };
    let all: Vec<u32> = points.keys().copied().collect();
    let list = |sizes: &[u32]| sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let part = |(sizes, verb): (Vec<u32>, &str)| {
        let (first, last) = (*sizes.first()?, *sizes.last()?);
        Some(if sizes == all {
            format!("{verb} at every size")
        } else if all.starts_with(&sizes) {
            format!("{verb} up to {}", bytes(last))
        } else if all.ends_with(&sizes) {
            format!("{verb} from {} on", bytes(first))
        } else {
            format!("{verb} at {} bytes", list(&sizes))
        })
    };
    let missing = such(&Option::is_none);
    let few = such(&|point| point.is_some_and(|(_, pairs)| pairs < PAIRS));
    let said = [
        (told(true), "pays"),
        (told(false), "costs"),
        (few, "has too few pairs of runs to tell"),
        (missing, "has no difference (runs were capped or are missing)"),
    ];
    let parts: Vec<_> = said.into_iter().filter_map(part).collect();
    if parts.is_empty() { "not told from the baseline at any size".to_owned() } else { parts.join(", ") }
}

fn bytes(size: u32) -> String {
    if size == 1 { "1 byte".to_owned() } else { format!("{size} bytes") }
}

#[cfg(test)]
mod tests {
    use migbench_scenarios::cell::Codec;
    use migbench_workloads::units::Rate;

    use super::*;
    use crate::cells;
    use crate::manifest::{Manifest, ManifestCell, ManifestComparison};
    use crate::record::{Record, Status};
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
        assert_eq!(
            notes(3, [0.4; 4], [0.5; 4]),
            [
                "delta, rate 1 Gbit/s: has too few pairs of runs to tell at every size",
                "delta, rate 10 Gbit/s: has too few pairs of runs to tell at every size",
            ]
        );
        let alike = notes(8, [1.0; 4], [1.0; 4]);
        assert!(
            alike.iter().all(|note| note.ends_with("not told from the baseline at any size")),
            "{alike:?}"
        );
    }

    /// The suite that asks for the map gets one, with a row for each codec and link, also where a codec never comes to an end.
    #[test]
    fn the_shipped_suite_has_a_row_for_each_codec_and_link() {
        let plan = migbench_scenarios::Suite::find("delta").unwrap().expand().unwrap();
        let mut manifest = sample::manifest();
        manifest.comparisons = plan
            .comparisons
            .iter()
            .map(|planned| ManifestComparison {
                name: planned.name.clone(),
                compare: planned.compare.clone(),
                baseline: planned.cells[planned.baseline.unwrap_or(0)].id.clone(),
                analysis: String::new(),
                cells: planned
                    .cells
                    .iter()
                    .map(|planned| ManifestCell { id: planned.id.clone(), cell: planned.cell.clone() })
                    .collect(),
            })
            .collect();
        let mut records = Vec::new();
        for comparison in &manifest.comparisons {
            for planned in &comparison.cells {
                for repetition in 1..=6 {
                    let built = Sample::new("write-heavy", planned.cell.engine.word()).repetition(repetition);
                    let cell = planned.cell.clone();
                    let never = cell.codec == Codec::Zstd && cell.settings.change.bytes == 4080;
                    let built = built.with(|record| {
                        record.comparison.clone_from(&comparison.name);
                        record.cell = cell;
                        if never {
                            record.status = Status::Capped;
                        }
                    });
                    records
                        .push(built.metric(MetricKey::TotalTime, 1.0 + f64::from(repetition) / 1e3).build());
                }
            }
        }
        let (sorted, strangers) = cells::sort(&manifest, &records);
        assert_eq!(strangers, 0);
        let tables = tables(&sorted);
        let total = tables.iter().find(|table| table.title.starts_with("total time")).unwrap();
        assert_eq!((total.columns.len(), total.rows.len()), (7, 15));
        let notes: Vec<_> = total.notes.iter().filter(|note| note.starts_with("delta codec=zstd")).collect();
        assert_eq!(notes.len(), 3);
        let missing = "has no difference (runs were capped or are missing) from 4080 bytes on";
        assert!(notes.iter().all(|note| note.ends_with(missing)), "{notes:?}");
    }

    #[test]
    fn two_sizes_are_no_map() {
        let (mut manifest, records) = varied(6, [0.5; 4], [0.5; 4]);
        manifest.comparisons.truncate(2);
        assert_eq!(tables(&cells::sort(&manifest, &records).0), []);
    }
}

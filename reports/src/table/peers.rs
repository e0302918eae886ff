//! What other VMMs say of their migrations, beside what was measured of them from outside.

use std::collections::BTreeSet;

use super::{RowKind, Table};
use crate::cells::{CellRuns, ComparisonRuns};
use crate::measure::Measure;
use crate::metric::MetricKey;
use crate::record::Record;

/// What the tables are, in a sentence.
pub const ABOUT: &str = "what another VMM says of its migration beside what was measured from outside, where the two differ by more than the \
                         millisecond in which it counts: it may begin its count later, and end it before the guest runs";

/// What it says, and what was measured.
const BOTH: [(MetricKey, MetricKey); 2] =
    [(MetricKey::TotalTime, MetricKey::PeerTotalTime), (MetricKey::Downtime, MetricKey::PeerDowntime)];

/// The clock of what it says.
const RESOLUTION: f64 = 1e-3;

/// Of one comparison; none where no other VMM is in it, or all say what was measured. Which VMMs they are stands below.
#[must_use]
pub fn table(comparison: &ComparisonRuns<'_>) -> Option<Table> {
    let columns = BOTH.map(|(ours, its)| [Measure::Metric(ours), Measure::Metric(its)]).concat();
    let mut table = Table::of_measures(comparison, &columns);
    let labels: BTreeSet<&str> =
        comparison.cells.iter().filter(|cell| differs(cell)).map(|cell| &cell.label[..]).collect();
    table.rows.retain(|row| labels.contains(&row.subject.cell[..]) && row.kind != RowKind::Skipped);
    let seen = comparison.cells.iter().flat_map(|cell| runs(cell)).filter_map(|record| record.peer.as_ref());
    let builds: BTreeSet<String> = seen
        .map(|peer| format!("{} {}, {} (BLAKE3 {:.12})", peer.name, peer.version, peer.binary, peer.hash))
        .collect();
    table.notes = builds.into_iter().collect();
    if comparison
        .cells
        .iter()
        .flat_map(|cell| runs(cell))
        .any(|record| record.peer.as_ref().is_some_and(|peer| peer.paced_by_itself))
    {
        table.notes.push(
            "the rate of the link is the VMM's own to keep: it lifts it in its paused round, so that its downtime and blackout are absent"
                .to_owned(),
        );
    }
    (!table.rows.is_empty()).then_some(table)
}

fn runs<'a>(cell: &'a CellRuns<'_>) -> impl Iterator<Item = &'a Record> {
    cell.ok.iter().chain(&cell.capped).copied()
}

/// Whether it says anything else than what was measured.
fn differs(cell: &CellRuns<'_>) -> bool {
    let value = |key| Measure::Metric(key).summary(&cell.ok).map(|summary| summary.median);
    BOTH.iter().any(|(ours, its)| match (value(*ours), value(*its)) {
        (Some(ours), Some(its)) => (ours - its).abs() > RESOLUTION,
        (None, Some(_)) => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells;
    use crate::manifest::ManifestCell;
    use crate::metric::Metrics;
    use crate::record::PeerRun;
    use crate::sample::{self, Sample};

    fn records(its: f64, paced: bool) -> Vec<Record> {
        let run = |repetition| {
            Sample::new("write-heavy", "qemu").repetition(repetition).with(|record| {
                let mut metrics = Metrics::new();
                metrics.set(MetricKey::TotalTime, 0.25).unwrap();
                metrics.set(MetricKey::PeerTotalTime, its).unwrap();
                record.metrics = metrics.into();
                record.peer = Some(PeerRun {
                    name: "QEMU".to_owned(),
                    version: "10.0.2".to_owned(),
                    binary: "/usr/bin/qemu".to_owned(),
                    hash: "0123456789abcdef".to_owned(),
                    source_arguments: Vec::new(),
                    destination_arguments: Vec::new(),
                    paced_by_itself: paced,
                    said: serde_json::Value::Null,
                });
            })
        };
        (1..=3).map(|repetition| run(repetition).build()).collect()
    }

    fn found(records: &[Record]) -> Option<Table> {
        let mut manifest = sample::manifest();
        let cell = sample::cell("write-heavy", "qemu");
        manifest.comparisons[1].cells.push(ManifestCell { id: "qemu".to_owned(), cell });
        let (sorted, strangers) = cells::sort(&manifest, records);
        assert_eq!(strangers, 0);
        table(&sorted[1])
    }

    #[test]
    fn both_figures_stand_there_where_they_differ_by_more_than_its_clock() {
        let shown = found(&records(0.24, false)).unwrap();
        assert_eq!(shown.rows.len(), 1);
        let texts: Vec<_> =
            shown.rows[0].figures.iter().map(|figure| figure.as_ref().map(|f| &f.value[..])).collect();
        assert_eq!(texts[..2], [Some("250 ms"), Some("240 ms")]);
        assert_eq!(texts[3], None, "it says nothing of its downtime");
        assert_eq!(shown.notes, ["QEMU 10.0.2, /usr/bin/qemu (BLAKE3 0123456789ab)"]);
        assert_eq!(found(&records(0.2505, false)), None);
    }

    #[test]
    fn a_vmm_that_keeps_to_the_rate_by_itself_is_told() {
        let shown = found(&records(0.24, true)).unwrap();
        assert!(
            shown.notes[1].starts_with("the rate of the link is the VMM's own to keep"),
            "{:?}",
            shown.notes
        );
    }
}

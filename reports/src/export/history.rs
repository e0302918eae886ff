//! A CSV with a line per commit and metric, for tools that look for the point where a series changed. Lines are added to
//! what the file holds; a run directory that is in it already is not added twice. Besides metrics there are `runs_failed`,
//! `runs_capped` and `runs_missing` of each cell, and `gate_status` of each gate, which stands where the cell does.

use std::path::Path;

use migbench_scenarios::cell::Side;

use super::{ExportError, ExportedCell, GATE_STATUS, Source};
use crate::manifest::Manifest;
use crate::metric::Better;

pub(super) const FILE: &str = "history.csv";

/// The last ones are younger than files that lack them.
const COLUMNS: [&str; 15] = [
    "started",
    "commit",
    "dirty",
    "host",
    "suite",
    "comparison",
    "cell",
    "metric",
    "unit",
    "better",
    "samples",
    "median",
    "low",
    "high",
    "side",
];
/// The columns of before there was a side.
const WITHOUT_SIDE: usize = 14;

/// A line of one directory.
struct Line<'a> {
    cell: ExportedCell<'a>,
    metric: &'a str,
    unit: &'a str,
    better: &'a str,
    samples: usize,
    value: f64,
    ends: Option<(f64, f64)>,
}

impl<'a> Line<'a> {
    fn of(cell: ExportedCell<'a>, metric: &'a str, samples: usize, value: f64) -> Self {
        Self { cell, metric, unit: "", better: Better::Smaller.word(), samples, value, ends: None }
    }

    fn fields(&self, manifest: &Manifest) -> [String; COLUMNS.len()] {
        let end = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        [
            manifest.started.clone(),
            self.cell.commit.unwrap_or_default().to_owned(),
            self.cell.dirty.map_or_else(String::new, |dirty| dirty.to_string()),
            manifest.host.hostname.clone().unwrap_or_default(),
            manifest.suite.clone(),
            self.cell.comparison.to_owned(),
            self.cell.cell.to_owned(),
            self.metric.to_owned(),
            self.unit.to_owned(),
            self.better.to_owned(),
            self.samples.to_string(),
            self.value.to_string(),
            end(self.ends.map(|ends| ends.0)),
            end(self.ends.map(|ends| ends.1)),
            self.cell.side.map(Side::word).unwrap_or_default().to_owned(),
        ]
    }
}

pub(super) fn text(source: &Source<'_>, before: &str, path: &Path) -> Result<String, ExportError> {
    let foreign = |why: String| ExportError::Foreign { path: path.to_owned(), why };
    let manifest = source.manifest;
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| foreign(error.to_string());
    writer.write_record(COLUMNS).map_err(failed)?;
    if !before.is_empty() {
        let mut reader = csv::Reader::from_reader(before.as_bytes());
        let columns = reader.headers().map_err(failed)?;
        if columns != COLUMNS[..] && columns != COLUMNS[..WITHOUT_SIDE] {
            return Err(foreign(format!(
                "its columns are {}",
                columns.iter().collect::<Vec<_>>().join(", ")
            )));
        }
        for line in reader.records() {
            let line = line.map_err(failed)?;
            // Two hosts may start in one second, as the tasks of an array do.
            let host = manifest.host.hostname.as_deref().unwrap_or_default();
            let key = [manifest.started.as_str(), host, manifest.suite.as_str()];
            let same = [0, 3, 4].map(|column| line.get(column).unwrap_or_default()) == key;
            if !same {
                let filled = line.iter().chain(std::iter::repeat("")).take(COLUMNS.len());
                writer.write_record(filled).map_err(failed)?;
            }
        }
    }
    let mut add = |line: &Line<'_>| writer.write_record(line.fields(manifest)).map_err(failed);
    for figure in &source.figures {
        let definition = figure.key.definition();
        add(&Line {
            unit: definition.unit.symbol(),
            better: definition.better.word(),
            ends: figure.ends(),
            ..Line::of(figure.subject, definition.name, figure.summary.samples, figure.summary.median)
        })?;
    }
    for lost in &source.lost {
        for (name, runs) in lost.counts() {
            add(&Line::of(lost.subject, name, lost.planned, crate::stats::real(runs)))?;
        }
    }
    let new = source.lost.iter().map(|lost| lost.subject).find(|subject| subject.side == Some(Side::New));
    for (result, verdict) in source.gates() {
        let Some(new) = new else { break };
        let gate = result.gate.to_string();
        let subject = ExportedCell { comparison: "", cell: &gate, ..new };
        let samples = result.cells.iter().map(|cell| cell.samples.1).min().unwrap_or(0);
        add(&Line::of(subject, GATE_STATUS, samples, f64::from(verdict.status())))?;
    }
    let bytes = writer.into_inner().map_err(|error| foreign(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| foreign(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_later_run_is_added_and_an_equal_one_is_not() {
        let (mut manifest, records) = (sample::manifest(), super::super::tests::records());
        let path = Path::new("history.csv");
        let first = text(&Source::new(&manifest, &records, None), "", path).unwrap();
        let again = text(&Source::new(&manifest, &records, None), &first, path).unwrap();
        assert_eq!(first, again);
        manifest.host.hostname = Some("another".to_owned());
        let both = text(&Source::new(&manifest, &records, None), &first, path).unwrap();
        assert_eq!(both.lines().count(), 2 * first.lines().count() - 1, "of another host in the same second");
        manifest.started = "2031-02-03T04:05:06Z".to_owned();
        let both = text(&Source::new(&manifest, &records, None), &first, path).unwrap();
        let lines =
            |text: &str| csv::Reader::from_reader(text.as_bytes()).records().map(Result::unwrap).count();
        assert_eq!(lines(&both), 2 * lines(&first));
        assert!(both.starts_with(&first), "what was there stays as it was");
    }

    #[test]
    fn a_file_of_before_there_were_sides_goes_on() {
        let (mut manifest, records) = (sample::manifest(), super::super::tests::records());
        let before = text(&Source::new(&manifest, &records, None), "", Path::new("h")).unwrap();
        let old: String =
            before.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned() + "\n").collect();
        manifest.started = "2031-02-03T04:05:06Z".to_owned();
        let both = text(&Source::new(&manifest, &records, None), &old, Path::new("h")).unwrap();
        assert!(both.starts_with(&before), "what was there stays, with a column more");
    }

    #[test]
    fn a_file_of_other_columns_is_not_overwritten() {
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        let error = text(&Source::new(&manifest, &records, None), "a,b\n1,2\n", Path::new("x/history.csv"))
            .unwrap_err();
        assert!(error.to_string().starts_with("x/history.csv is no history"), "{error}");
    }

    #[test]
    fn every_line_has_every_column_and_numbers_are_numbers() {
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        let text = text(&Source::new(&manifest, &records, None), "", Path::new("h")).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        for line in reader.records() {
            let line = line.unwrap();
            assert_eq!(line.len(), COLUMNS.len());
            assert!(line[11].parse::<f64>().unwrap().is_finite());
        }
    }
}

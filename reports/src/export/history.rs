//! A CSV with a line per commit and metric, for tools that look for the point where a series changed. Lines are added to
//! what the file holds; a run directory that is in it already is not added twice.

use std::path::Path;

use super::{ExportError, Source};

pub(super) const FILE: &str = "history.csv";

const COLUMNS: [&str; 14] = [
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
];

pub(super) fn text(source: &Source<'_>, before: &str, path: &Path) -> Result<String, ExportError> {
    let foreign = |why: String| ExportError::Foreign { path: path.to_owned(), why };
    let manifest = source.manifest;
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| foreign(error.to_string());
    writer.write_record(COLUMNS).map_err(failed)?;
    if !before.is_empty() {
        let mut reader = csv::Reader::from_reader(before.as_bytes());
        let columns = reader.headers().map_err(failed)?;
        if columns != COLUMNS[..] {
            return Err(foreign(format!(
                "its columns are {}",
                columns.iter().collect::<Vec<_>>().join(", ")
            )));
        }
        for line in reader.records() {
            let line = line.map_err(failed)?;
            let same = line.get(0) == Some(&manifest.started) && line.get(4) == Some(&manifest.suite);
            if !same {
                writer.write_record(&line).map_err(failed)?;
            }
        }
    }
    for figure in &source.figures {
        let tool = manifest.tool_of(figure.binary);
        let definition = figure.key.definition();
        let ends = figure.ends();
        let end = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let line = [
            manifest.started.clone(),
            tool.commit.clone().unwrap_or_default(),
            tool.dirty.map_or_else(String::new, |dirty| dirty.to_string()),
            manifest.host.hostname.clone().unwrap_or_default(),
            manifest.suite.clone(),
            figure.comparison.to_owned(),
            figure.cell.to_owned(),
            definition.name.to_owned(),
            definition.unit.symbol().to_owned(),
            definition.better.word().to_owned(),
            figure.summary.samples.to_string(),
            figure.summary.median.to_string(),
            end(ends.map(|ends| ends.0)),
            end(ends.map(|ends| ends.1)),
        ];
        writer.write_record(line).map_err(failed)?;
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
        let first = text(&Source::new(&manifest, &records), "", path).unwrap();
        let again = text(&Source::new(&manifest, &records), &first, path).unwrap();
        assert_eq!(first, again);
        manifest.started = "2031-02-03T04:05:06Z".to_owned();
        let both = text(&Source::new(&manifest, &records), &first, path).unwrap();
        let lines =
            |text: &str| csv::Reader::from_reader(text.as_bytes()).records().map(Result::unwrap).count();
        assert_eq!(lines(&both), 2 * lines(&first));
        assert!(both.starts_with(&first), "what was there stays as it was");
    }

    #[test]
    fn a_file_of_other_columns_is_not_overwritten() {
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        let error =
            text(&Source::new(&manifest, &records), "a,b\n1,2\n", Path::new("x/history.csv")).unwrap_err();
        assert!(error.to_string().starts_with("x/history.csv is no history"), "{error}");
    }

    #[test]
    fn every_line_has_every_column_and_numbers_are_numbers() {
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        let text = text(&Source::new(&manifest, &records), "", Path::new("h")).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        for line in reader.records() {
            let line = line.unwrap();
            assert_eq!(line.len(), COLUMNS.len());
            assert!(line[11].parse::<f64>().unwrap().is_finite());
        }
    }
}

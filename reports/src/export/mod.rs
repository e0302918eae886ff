//! Records as other programs want them: a format a file. Each takes the same flat list of figures, one for each metric
//! of each cell, and gives files by name; nobody but a machine reads them. What was capped or failed is no figure here
//! either.

mod bmf;
mod github;
mod hdr;
mod history;
mod junit;
mod openmetrics;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cells;
use crate::manifest::Manifest;
use crate::measure::Measure;
use crate::metric::{Better, MetricKey};
use crate::record::Record;
use crate::stats::Summary;

/// Name of the file of the history, to which every run directory adds its lines.
pub const HISTORY: &str = history::FILE;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Two files for `github-action-benchmark`: one where smaller is better, one where bigger is.
    GithubActionBenchmark,
    /// Bencher Metric Format.
    Bmf,
    /// `OpenMetrics` text.
    Openmetrics,
    /// A line per commit and metric, added to what the file holds.
    HistoryCsv,
    /// `JUnit` XML: a test case per run.
    Junit,
    /// `HdrHistogram` interval logs: a file for each operation and phase of each cell.
    Hlog,
    /// `HdrHistogram` percentile files, as many.
    Hgrm,
}

impl Format {
    /// Every format with its name.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("github-action-benchmark", Self::GithubActionBenchmark),
        ("bmf", Self::Bmf),
        ("openmetrics", Self::Openmetrics),
        ("history-csv", Self::HistoryCsv),
        ("junit", Self::Junit),
        ("hlog", Self::Hlog),
        ("hgrm", Self::Hgrm),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One metric of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure<'a> {
    /// Name of the comparison.
    pub comparison: &'a str,
    /// Id of the cell in it.
    pub cell: &'a str,
    /// What the guest does.
    pub workload: &'a str,
    /// What moves it.
    pub engine: &'static str,
    /// The program whose nodes ran, where it is not the one that ran the suite.
    pub binary: Option<&'a str>,
    /// The metric.
    pub key: MetricKey,
    /// Over the cell's timed runs.
    pub summary: Summary,
}

impl Figure<'_> {
    /// `suite/comparison/cell/metric`, which stays the same from night to night.
    #[must_use]
    pub fn name(&self, suite: &str) -> String {
        format!("{suite}/{}/{}/{}", self.comparison, self.cell, self.key.name())
    }

    /// Both ends of what stands beside the median.
    #[must_use]
    pub fn ends(&self) -> Option<(f64, f64)> {
        self.summary.spread.map(crate::stats::Spread::ends)
    }

    fn better(&self) -> Better {
        self.key.definition().better
    }
}

/// A run directory, as exporters see it.
#[derive(Debug)]
pub struct Source<'a> {
    /// The directory's manifest.
    pub manifest: &'a Manifest,
    /// All of its records.
    pub records: &'a [Record],
    /// One for each metric of each cell that has samples.
    pub figures: Vec<Figure<'a>>,
}

impl<'a> Source<'a> {
    /// Summarises records by the plan of their manifest.
    #[must_use]
    pub fn new(manifest: &'a Manifest, records: &'a [Record]) -> Self {
        let (sorted, _) = cells::sort(manifest, records);
        let mut figures = Vec::new();
        for comparison in &sorted {
            for runs in &comparison.cells {
                let Some(planned) = comparison.plan.cells.iter().find(|planned| planned.cell == *runs.cell)
                else {
                    continue;
                };
                for &key in MetricKey::ALL {
                    let Some(summary) = Measure::Metric(key).summary(&runs.ok) else { continue };
                    figures.push(Figure {
                        comparison: &comparison.plan.name,
                        cell: &planned.id,
                        workload: &planned.cell.workload,
                        engine: planned.cell.engine.word(),
                        binary: planned.cell.binary.as_deref(),
                        key,
                        summary,
                    });
                }
            }
        }
        Self { manifest, records, figures }
    }
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file can't be written.
    #[error("can't write {}: {source}; name another directory with -o", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The history has other columns.
    #[error("{} is no history of this version: {why}; move it away or name another directory with -o", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A format's own library refused.
    #[error("can't make {format}: {why}")]
    Format {
        /// The format.
        format: Format,
        /// What it said.
        why: String,
    },
}

/// Writes the files of `format` into `directory`, which is made if need be. Gives their paths.
///
/// # Errors
/// See [`ExportError`].
pub fn export(source: &Source<'_>, format: Format, directory: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::Unwritable { path, source }
    };
    fs::create_dir_all(directory).map_err(unwritable(directory))?;
    let one = |name: &str, text: String| vec![(name.to_owned(), text)];
    let files: Vec<(String, String)> = match format {
        Format::GithubActionBenchmark => {
            github::files(source)?.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
        }
        Format::Bmf => one("bmf.json", bmf::text(source)?),
        Format::Openmetrics => one("openmetrics.txt", openmetrics::text(source)),
        Format::HistoryCsv => {
            let path = directory.join(history::FILE);
            let before = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(error) => return Err(unwritable(&path)(error)),
            };
            one(history::FILE, history::text(source, &before, &path)?)
        }
        Format::Junit => one("junit.xml", junit::text(source)?),
        Format::Hlog => hdr::logs(source)?,
        Format::Hgrm => hdr::percentiles(source),
    };
    let write = |(name, text): (String, String)| {
        let path = directory.join(&name);
        // Whole or not at all: a dashboard may read while we write.
        let half = directory.join(format!(".{name}.part"));
        fs::write(&half, text).and_then(|()| fs::rename(&half, &path)).map_err(unwritable(&path))?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, Sample};

    pub(super) fn records() -> Vec<Record> {
        let mut records = vec![Sample::new("write-heavy", "full").verification(Some(true)).build()];
        for repetition in 1..=3 {
            for engine in ["full", "delta"] {
                records.push(Sample::new("write-heavy", engine).repetition(repetition).build());
            }
        }
        records.push(Sample::new("read-heavy", "full").repetition(1).capped().build());
        records
            .push(Sample::new("read-heavy", "delta").repetition(1).failed("precopy", "link <gone>").build());
        records
    }

    #[test]
    fn capped_and_failed_runs_are_no_figures() {
        let (manifest, records) = (sample::manifest(), records());
        let source = Source::new(&manifest, &records);
        assert!(source.figures.iter().all(|figure| figure.comparison == "write-heavy"));
        let total =
            source.figures.iter().find(|f| f.key == MetricKey::TotalTime && f.engine == "delta").unwrap();
        assert_eq!(total.summary.samples, 3);
        assert_eq!(total.name("quick"), format!("quick/write-heavy/{}/total_time", total.cell));
    }

    #[test]
    fn every_format_writes_its_files_twice_alike() {
        let (manifest, records) = (sample::manifest(), records());
        let source = Source::new(&manifest, &records);
        let directory = tempfile::tempdir().unwrap();
        for (name, format) in Format::ALL {
            let into = directory.path().join(name);
            let first: Vec<_> = export(&source, *format, &into)
                .unwrap()
                .into_iter()
                .map(|path| (fs::read_to_string(&path).unwrap(), path))
                .collect();
            for (text, path) in first {
                assert!(!text.is_empty(), "{}", path.display());
                export(&source, *format, &into).unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), text, "{}", path.display());
            }
            assert!(
                fs::read_dir(&into)
                    .unwrap()
                    .flatten()
                    .all(|f| !f.file_name().to_string_lossy().ends_with(".part"))
            );
        }
    }
}

//! Records as other programs want them: a format a file. Each takes the same flat lists: figures, one for each metric of each
//! cell; how many runs of each cell are none, since they failed, were capped or are missing; and what is said of each gate.
//! Nobody but a machine reads the files.

mod bmf;
mod github;
mod hdr;
mod history;
mod junit;
mod openmetrics;

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use migbench_scenarios::cell::Side;

use crate::cells::{self, CellRuns};
use crate::format::Format;
use crate::judge::{GateResult, Judgement, Verdict};
use crate::manifest::Manifest;
use crate::measure::Measure;
use crate::metric::{Better, MetricKey};
use crate::record::{Record, Status};
use crate::replace::replace;
use crate::stats::Summary;

use self::openmetrics::Dialect;

/// Name of the file of the history, to which every run directory adds its lines.
pub const HISTORY: &str = history::FILE;

/// What a figure is of: a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportedCell<'a> {
    /// Name of the comparison.
    pub comparison: &'a str,
    /// Id of the cell in it.
    pub cell: &'a str,
    /// What the guest does.
    pub workload: &'a str,
    /// What moves it.
    pub engine: &'static str,
    /// The side that it is on, in a directory of `migbench ab`.
    pub side: Option<Side>,
    /// The commit of the build whose nodes ran.
    pub commit: Option<&'a str>,
    /// Whether that build had changes that no commit holds.
    pub dirty: Option<bool>,
}

impl ExportedCell<'_> {
    /// `suite/comparison/cell/name`, which stays the same from night to night.
    #[must_use]
    pub fn name(&self, suite: &str, what: &str) -> String {
        format!("{suite}/{}/{}/{what}", self.comparison, self.cell)
    }
}

/// Of the runs of a cell that are planned, those that are no samples. Verification runs count too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost<'a> {
    /// The cell.
    pub subject: ExportedCell<'a>,
    /// Runs that were planned.
    pub planned: usize,
    /// Runs that failed.
    pub failed: usize,
    /// Timed runs that a limit forced to switch over.
    pub capped: usize,
    /// Runs that were planned and are not there.
    pub missing: usize,
}

impl Lost<'_> {
    /// Each count with the name that every format gives it.
    #[must_use]
    pub const fn counts(&self) -> [(&'static str, usize); 3] {
        [("runs_failed", self.failed), ("runs_capped", self.capped), ("runs_missing", self.missing)]
    }
}

/// What is said of a gate, as every format calls it.
pub const GATE_STATUS: &str = "gate_status";

/// What the counts and the status mean, for formats that explain themselves.
fn definition(name: &str) -> &'static str {
    match name {
        "runs_failed" => "Runs of the cell that failed, verification runs included.",
        "runs_capped" => "Timed runs of the cell that a limit forced to switch over: they are no samples.",
        "runs_missing" => "Runs of the cell that were planned and are not there.",
        _ => {
            "What is said of the gate, as the exit status of migbench compare --gate: 0 not worse, 1 runs or proofs failed, 3 not enough \
             evidence, 4 a confirmed regression."
        }
    }
}

/// One metric of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure<'a> {
    /// The cell.
    pub subject: ExportedCell<'a>,
    /// The metric.
    pub key: MetricKey,
    /// Over the cell's timed runs.
    pub summary: Summary,
}

impl Figure<'_> {
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
    /// One for each cell that this machine could run.
    pub lost: Vec<Lost<'a>>,
    /// What is said of the whole, where there are two sides and gates.
    pub judgement: Option<&'a Judgement>,
    /// The planned runs of each cell, by repetition: 0 verifies, where that is planned.
    pub repetitions: RangeInclusive<u32>,
}

impl<'a> Source<'a> {
    /// Summarises records by the plan of their manifest.
    #[must_use]
    pub fn new(manifest: &'a Manifest, records: &'a [Record], judgement: Option<&'a Judgement>) -> Self {
        let (sorted, _) = cells::sort(manifest, records);
        let (mut figures, mut all_lost) = (Vec::new(), Vec::new());
        let repetitions = repetitions(manifest);
        for comparison in &sorted {
            for runs in &comparison.cells {
                let Some(planned) = comparison.plan.cells.iter().find(|planned| planned.cell == *runs.cell)
                else {
                    continue;
                };
                let tool = manifest.tool_of(planned.cell.binary.as_deref());
                let subject = ExportedCell {
                    comparison: &comparison.plan.name,
                    cell: &planned.id,
                    workload: &planned.cell.workload,
                    engine: planned.cell.engine.word(),
                    side: planned.cell.side,
                    commit: tool.commit.as_deref(),
                    dirty: tool.dirty,
                };
                for &key in MetricKey::ALL {
                    let Some(summary) = Measure::Metric(key).summary(&runs.ok) else { continue };
                    figures.push(Figure { subject, key, summary });
                }
                if runs.skipped.is_none() {
                    all_lost.push(lost(repetitions.clone().count(), subject, runs));
                }
            }
        }
        Self { manifest, records, figures, lost: all_lost, judgement, repetitions }
    }

    /// Each gate that was judged, with what is said of it.
    pub fn gates(&self) -> impl Iterator<Item = (&'a GateResult, Verdict)> + use<'a> {
        let judgement = self.judgement;
        judgement
            .into_iter()
            .flat_map(|judgement| judgement.gates.iter().map(|result| (result, judgement.verdict_of(result))))
    }

    /// The commits of base and new, of what has sides.
    fn commits(&self) -> [Option<&'a str>; 2] {
        [Side::Base, Side::New].map(|side| {
            let of_side = self.lost.iter().find(|lost| lost.subject.side == Some(side));
            of_side.and_then(|lost| lost.subject.commit)
        })
    }
}

fn repetitions(manifest: &Manifest) -> RangeInclusive<u32> {
    let plan = serde_json::from_value::<migbench_scenarios::Plan>(manifest.plan.clone());
    let timed_alone =
        plan.is_ok_and(|plan| !plan.order.is_empty() && plan.order.iter().all(|run| run.repetition > 0));
    u32::from(timed_alone)..=manifest.repetitions
}

fn lost<'a>(planned: usize, subject: ExportedCell<'a>, runs: &CellRuns<'_>) -> Lost<'a> {
    let all = || [&runs.ok, &runs.capped, &runs.failed, &runs.verification].into_iter().flatten();
    Lost {
        subject,
        planned,
        failed: all().filter(|run| run.status == Status::Failed).count(),
        capped: runs.capped.len(),
        missing: planned.saturating_sub(all().count()),
    }
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum ExportError {
    #[error("can't write {}: {source}; name another directory with -o", .path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("{} is no history of this version: {why}; move it away or name another directory with -o", .path.display())]
    Foreign { path: PathBuf, why: String },
    #[error("can't make {format}: {why}")]
    Format { format: Format, why: String },
}

/// Writes the files of each of `formats` into `directory`, which is made if need be. Gives their paths.
///
/// # Errors
/// See [`ExportError`].
pub fn export(
    source: &Source<'_>,
    formats: &[Format],
    directory: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::Unwritable { path, source }
    };
    fs::create_dir_all(directory).map_err(unwritable(directory))?;
    // What is added to a history is read, and written with what was added; another export does so after this one. Not every
    // file system knows locks.
    let _alone = File::open(directory).and_then(|file| file.lock().map(|()| file));
    let mut paths = Vec::new();
    for format in formats {
        for (name, text) in files(source, *format, directory)? {
            let path = directory.join(&name);
            // A dashboard may read while we write.
            replace(&path, text.as_bytes()).map_err(unwritable(&path))?;
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Strings and finite numbers can always be written.
fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The files of a format by name, as they are to stand in `directory`; none of a format that is one text of reports.
fn files(
    source: &Source<'_>,
    format: Format,
    directory: &Path,
) -> Result<Vec<(String, String)>, ExportError> {
    let one = |name: &str, text: String| vec![(name.to_owned(), text)];
    Ok(match format {
        Format::GithubActionBenchmark => {
            github::files(source).into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
        }
        Format::Bmf => one("bmf.json", bmf::text(source)),
        Format::Openmetrics => one("openmetrics.txt", openmetrics::text(source, Dialect::OpenMetrics)),
        Format::Prometheus => {
            one(&openmetrics::file(&source.manifest.suite), openmetrics::text(source, Dialect::Prometheus))
        }
        Format::HistoryCsv => {
            let path = directory.join(history::FILE);
            let before = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(source) => return Err(ExportError::Unwritable { path, source }),
            };
            one(history::FILE, history::text(source, &before, &path)?)
        }
        Format::Junit => one("junit.xml", junit::text(source)?),
        Format::Hlog => hdr::logs(source)?,
        Format::Hgrm => hdr::percentiles(source),
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Accepted, Measurement, gate_tests, judge};
    use crate::sample::{self, Sample};
    use crate::store::RunData;

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
        let source = Source::new(&manifest, &records, None);
        assert!(source.figures.iter().all(|figure| figure.subject.comparison == "write-heavy"));
        let of_delta = |f: &&Figure<'_>| f.key == MetricKey::TotalTime && f.subject.engine == "delta";
        let total = source.figures.iter().find(of_delta).unwrap();
        assert_eq!(total.summary.samples, 3);
        let name = total.subject.name("quick", "total_time");
        assert_eq!(name, format!("quick/write-heavy/{}/total_time", total.subject.cell));
    }

    /// Of five timed runs and a verification run each.
    #[test]
    fn runs_that_are_no_samples_are_counted() {
        let (manifest, records) = (sample::manifest(), records());
        let source = Source::new(&manifest, &records, None);
        let counts = |comparison: &str, engine: &str| {
            let of =
                |lost: &&Lost<'_>| (lost.subject.comparison, lost.subject.engine) == (comparison, engine);
            source.lost.iter().find(of).unwrap().counts().map(|(_, runs)| runs)
        };
        assert_eq!(counts("write-heavy", "full"), [0, 0, 2]);
        assert_eq!(counts("read-heavy", "full"), [0, 1, 5]);
        assert_eq!(counts("read-heavy", "delta"), [1, 0, 5]);
        // Names that formats explain.
        let names: Vec<_> = source.lost[0].counts().map(|(name, _)| definition(name)).to_vec();
        assert!(!names.contains(&definition(GATE_STATUS)) && names[0] != names[1] && names[1] != names[2]);
    }

    /// A regression that fresh samples have confirmed, as every format has it; and one that nobody has looked at again.
    #[test]
    fn every_format_says_what_was_confirmed() {
        let (first, fresh) = (gate_tests::slower(1.1, 1), gate_tests::again(gate_tests::slower(1.1, 2)));
        let exported = |fresh: Option<&RunData>, format: Format| {
            let measured = Measurement::of_one(&first).unwrap();
            let fresh = fresh.map(|fresh| Measurement::of_one(fresh).unwrap());
            let judgement = judge(&measured, fresh.as_ref(), &Accepted::default()).unwrap();
            let source = Source::new(&first.manifest, &first.records, Some(&judgement));
            let into = tempfile::tempdir().unwrap();
            let files = export(&source, &[format], into.path()).unwrap();
            files.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>()
        };
        let gate = "gate=\"total_time\",side=\"new\",commit=\"0123abc\",base_commit=\"0fedcba\"";
        for (format, said) in [
            (Format::Junit, ["type=\"regression\"", "<skipped message=\"not confirmed"]),
            (Format::Openmetrics, [&*format!("{gate}}} 4\n"), &*format!("{gate}}} 3\n")]),
            (Format::Prometheus, [&*format!("{gate}}} 4\n"), &*format!("{gate}}} 3\n")]),
            (
                Format::HistoryCsv,
                ["total_time,gate_status,,smaller,10,4,,,new", "total_time,gate_status,,smaller,10,3,,,new"],
            ),
            (
                Format::Bmf,
                ["\"gate_status\": {\n      \"value\": 4", "\"gate_status\": {\n      \"value\": 3"],
            ),
            (Format::GithubActionBenchmark, ["\"extra\": \"regression\"", "\"extra\": \"not confirmed\""]),
        ] {
            let (confirmed, alone) = (exported(Some(&fresh), format), exported(None, format));
            assert!(confirmed.contains(said[0]) && !confirmed.contains(said[1]), "{format}: {confirmed}");
            assert!(alone.contains(said[1]) && !alone.contains(said[0]), "{format}: {alone}");
        }
    }

    #[test]
    fn every_format_writes_its_files_twice_alike() {
        let (manifest, records) = (sample::manifest(), records());
        let source = Source::new(&manifest, &records, None);
        let directory = tempfile::tempdir().unwrap();
        for (name, format) in Format::ALL.iter().filter(|(_, format)| format.file().is_none()) {
            let into = directory.path().join(name);
            let first: Vec<_> = export(&source, &[*format], &into)
                .unwrap()
                .into_iter()
                .map(|path| (fs::read_to_string(&path).unwrap(), path))
                .collect();
            for (text, path) in first {
                assert!(!text.is_empty(), "{}", path.display());
                export(&source, &[*format], &into).unwrap();
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

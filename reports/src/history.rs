//! The history of a nightly job: a line per night beside the CSV of its figures, and what drifts from night to night. A
//! single night's test asks whether a commit made things slower; this asks what the nights look like beside each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::export;
use crate::manifest::{Build, Manifest};
use crate::quantity::{count, difference, percent};
use crate::record::SCHEMA;
use crate::stats::quantile;
use crate::store::OtherSchema;

/// Name of the file of nights in a history directory.
pub const NIGHTS: &str = "nights.jsonl";
/// Nights behind a threshold, at least: of fewer, quartiles mean nothing.
pub const LEAST: usize = 10;

/// What a night's test said, as its exit status has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing became slower: the build is the next night's base.
    Good,
    /// A confirmed regression.
    Alarm,
    /// Not enough evidence, or another host.
    Unsure,
    /// Builds that could not be compared: nothing was measured, and the history begins anew with this one as the base.
    Unlike,
    /// The night failed.
    Failed,
}

impl Verdict {
    /// Of an exit status of `migbench ab`.
    #[must_use]
    pub const fn of(status: u8) -> Self {
        match status {
            0 => Self::Good,
            3 => Self::Unsure,
            4 => Self::Alarm,
            5 => Self::Unlike,
            _ => Self::Failed,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Alarm => "alarm",
            Self::Unsure => "unsure",
            Self::Unlike => "unlike",
            Self::Failed => "failed",
        }
    }
}

/// One line of [`NIGHTS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Night {
    /// The schema of its records; nights of before this field have 1.
    #[serde(default = "one")]
    pub schema: u32,
    /// When its suite started, as in the manifest and in the CSV.
    pub started: String,
    /// The suite.
    pub suite: String,
    /// What its test said.
    pub verdict: Verdict,
    /// The exit status.
    pub status: u8,
    /// What it was compared with: the last good build, or a pinned one.
    pub against: String,
    /// The builds: base first. A base that could not say what it is, is left out.
    pub builds: Vec<Build>,
    /// The run directory; absent where nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

const fn one() -> u32 {
    1
}

/// Why a history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file.
    #[error("can't use {}: {source}; is it the directory that scripts/nightly keeps?", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of a file.
    #[error("{}:{line}: {why}", .path.display())]
    Line {
        /// Which.
        path: PathBuf,
        /// From one.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Nights of different schemas, without a new beginning between them.
    #[error(transparent)]
    Schemas(#[from] OtherSchema),
}

impl HistoryError {
    /// Whether nights were put together that do not go together.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        matches!(self, Self::Schemas(_))
    }
}

impl Night {
    /// Of a run directory's manifest.
    #[must_use]
    pub fn of(manifest: &Manifest, directory: &Path, status: u8, against: &str) -> Self {
        Self {
            schema: manifest.schema,
            started: manifest.started.clone(),
            suite: manifest.suite.clone(),
            verdict: Verdict::of(status),
            status,
            against: against.to_owned(),
            builds: manifest.builds.clone(),
            directory: Some(directory.to_owned()),
        }
    }

    /// Of a night that measured nothing, because the last good build can't run beside this one: the history begins anew.
    #[must_use]
    pub fn anew(suite: &str, started: String, builds: Vec<Build>) -> Self {
        Self {
            schema: SCHEMA,
            started,
            suite: suite.to_owned(),
            verdict: Verdict::Unlike,
            status: 0,
            against: "last good".to_owned(),
            builds,
            directory: None,
        }
    }

    /// Of a new beginning, why.
    fn beginning(&self) -> String {
        match &self.builds[..] {
            _ if self.verdict != Verdict::Unlike => String::new(),
            [base, new] => format!(
                ": begins anew, the last good build spoke protocol {} and this one speaks {}",
                base.protocol, new.protocol
            ),
            _ => ": begins anew, the last good build could not run beside this one".to_owned(),
        }
    }

    /// Whether nothing was measured.
    const fn is_empty(&self) -> bool {
        self.directory.is_none()
    }

    /// Adds its line, unless what was measured is there already.
    ///
    /// # Errors
    /// [`HistoryError`], also where the nights since the history began have another schema.
    pub fn append(&self, history: &Path) -> Result<(), HistoryError> {
        let path = history.join(NIGHTS);
        let file = |source| HistoryError::File { path: path.clone(), source };
        let same = |night: &Self| {
            !self.is_empty() && (&night.started, &night.directory) == (&self.started, &self.directory)
        };
        if path.exists() {
            let mut nights = nights(history)?;
            if nights.iter().any(same) {
                return Ok(());
            }
            nights.push(self.clone());
            one_schema(&nights, history)?;
        }
        fs::create_dir_all(history).map_err(file)?;
        let mut line = serde_json::to_string(self).map_err(|error| file(error.into()))?;
        line.push('\n');
        let mut kept = OpenOptions::new().create(true).append(true).open(&path).map_err(file)?;
        kept.write_all(line.as_bytes()).and_then(|()| kept.sync_data()).map_err(file)
    }
}

/// The nights of a history, in the order in which they were added.
///
/// # Errors
/// [`HistoryError`]
pub fn nights(history: &Path) -> Result<Vec<Night>, HistoryError> {
    let path = history.join(NIGHTS);
    let text =
        fs::read_to_string(&path).map_err(|source| HistoryError::File { path: path.clone(), source })?;
    let parsed = text.lines().enumerate().map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| HistoryError::Line {
            path: path.clone(),
            line: index + 1,
            why: error.to_string(),
        })
    });
    parsed.collect()
}

/// The nights from the last beginning on.
fn since_beginning(nights: &[Night]) -> &[Night] {
    let begin = nights.iter().rposition(|night| night.verdict == Verdict::Unlike).unwrap_or(0);
    &nights[begin..]
}

/// Refuses nights of different schemas that would be laid beside each other.
fn one_schema(nights: &[Night], history: &Path) -> Result<(), HistoryError> {
    let [first, others @ ..] = since_beginning(nights) else { return Ok(()) };
    let Some(other) = others.iter().find(|night| night.schema != first.schema) else { return Ok(()) };
    let directory = other.directory.as_deref().unwrap_or(history);
    let remedy = "keep them in a history directory of their own (scripts/nightly begins anew by itself when it meets a build of \
                  another protocol)";
    Ok(OtherSchema::refuse((history, first.schema), (directory, other.schema), remedy)?)
}

/// One metric of one cell over the nights.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// `comparison/cell metric`.
    pub name: String,
    /// The last night's change to the good night before it, as a ratio.
    pub last: f64,
    /// The last night against the first good one, as a ratio.
    pub since_first: f64,
    /// The absolute relative change beyond which a night stands out; `None` before [`LEAST`] nights.
    pub threshold: Option<f64>,
}

impl Series {
    /// Whether the last night stands out from what nights differ by.
    #[must_use]
    pub fn stands_out(&self) -> bool {
        self.threshold.is_some_and(|threshold| (self.last - 1.0).abs() > threshold)
    }
}

/// What a history shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// All nights.
    pub nights: Vec<Night>,
    /// Good ones before the last.
    pub baseline: usize,
    /// Every series that the last night has a value of.
    pub series: Vec<Series>,
}

/// Reads a history directory.
///
/// # Errors
/// [`HistoryError`]
pub fn drift(history: &Path) -> Result<Drift, HistoryError> {
    let path = history.join(export::HISTORY);
    let nights: Vec<Night> = nights(history)?.into_iter().filter(|night| night.against != PINNED).collect();
    one_schema(&nights, history)?;
    let text = match fs::read_to_string(&path) {
        // Nothing was measured yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound && nights.iter().all(Night::is_empty) => {
            return Ok(of(nights, &[]));
        }
        other => other.map_err(|source| HistoryError::File { path: path.clone(), source })?,
    };
    let lines = lines(&text, &path)?;
    Ok(of(nights, &lines))
}

/// What a night is called that was compared with a pinned build: its figures are of the same commit a second time.
pub const PINNED: &str = "pinned";

/// Of one line of the CSV: night, series, value.
struct Line {
    started: String,
    suite: String,
    series: String,
    value: f64,
}

fn lines(text: &str, path: &Path) -> Result<Vec<Line>, HistoryError> {
    let failed = |line: usize, why: String| HistoryError::Line { path: path.to_owned(), line, why };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().map_err(|error| failed(1, error.to_string()))?.clone();
    let place = |name: &str| {
        columns.iter().position(|column| column == name).ok_or_else(|| failed(1, format!("no column {name}")))
    };
    let [started, suite, comparison, cell, metric, better, median] =
        ["started", "suite", "comparison", "cell", "metric", "better", "median"].map(place);
    let (started, suite, comparison, cell) = (started?, suite?, comparison?, cell?);
    let (metric, better, median) = (metric?, better?, median?);
    let mut lines = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| failed(index + 2, error.to_string()))?;
        let field = |place: usize| record.get(place).unwrap_or_default();
        // The base's figures are those of an earlier commit, measured again. And what is neither better nor worse explains
        // others.
        if field(cell).ends_with("/base") || field(better) == "neither" {
            continue;
        }
        let value =
            field(median).parse().map_err(|_| failed(index + 2, "a median that is no number".to_owned()))?;
        lines.push(Line {
            started: field(started).to_owned(),
            suite: field(suite).to_owned(),
            series: format!("{} {}", field(cell).trim_end_matches("/new"), field(metric)),
            value,
        });
        // The cell's id begins with its comparison.
        debug_assert!(field(cell).starts_with(field(comparison)));
    }
    Ok(lines)
}

fn of(nights: Vec<Night>, lines: &[Line]) -> Drift {
    let mut by_series: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    let suite = nights.last().map_or("", |night| night.suite.as_str());
    for line in lines.iter().filter(|line| line.suite == suite) {
        by_series.entry(&line.series).or_default().insert(&line.started, line.value);
    }
    let Some((last, before)) = nights.split_last() else {
        return Drift { nights, baseline: 0, series: Vec::new() };
    };
    // An alarmed night is no baseline, nor is one of which nobody knows. Neither is anything before a new beginning.
    let counts = |night: &&Night| night.verdict == Verdict::Good && night.suite == suite;
    let before = if last.verdict == Verdict::Unlike { &[] } else { since_beginning(before) };
    let baseline: Vec<&Night> = before.iter().filter(counts).collect();
    let series = by_series.iter().filter_map(|(name, values)| {
        let now = *values.get(last.started.as_str())?;
        let past: Vec<f64> =
            baseline.iter().filter_map(|night| values.get(night.started.as_str()).copied()).collect();
        let (first, latest) = (*past.first()?, *past.last()?);
        let usable = [now, first, latest].iter().all(|value| *value > 0.0);
        let changes: Vec<f64> = past
            .windows(2)
            .filter(|pair| pair[0] > 0.0)
            .map(|pair| (pair[1] / pair[0] - 1.0).abs())
            .collect();
        usable.then(|| Series {
            name: (*name).to_owned(),
            last: now / latest,
            since_first: now / first,
            threshold: (past.len() >= LEAST).then(|| threshold(&changes)).flatten(),
        })
    });
    let series = series.collect();
    Drift { baseline: baseline.len(), series, nights }
}

/// Q3 + 3 x IQR of past relative changes, as rustc-perf has it.
fn threshold(changes: &[f64]) -> Option<f64> {
    let (q1, q3) = (quantile(changes, 0.25)?, quantile(changes, 0.75)?);
    Some(q3 + 3.0 * (q3 - q1))
}

impl Drift {
    /// For people: the nights in short, and every series that stands out.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for night in self.nights.iter().rev().take(LEAST).rev() {
            let commit = night.builds.last().and_then(|build| build.tool.commit.as_deref()).unwrap_or("-");
            let commit = &commit[..commit.len().min(12)];
            let _ = writeln!(
                text,
                "{}  {:<7} {commit:<12} {}{}",
                night.started,
                night.verdict.word(),
                night.suite,
                night.beginning()
            );
        }
        let nights = count(self.baseline, "good night");
        let known = self.series.iter().filter(|series| series.threshold.is_some()).count();
        if known == 0 {
            let _ = writeln!(
                text,
                "drift: {nights} before the last one; from {LEAST} on it is known by how much nights differ"
            );
            return text;
        }
        let out: Vec<_> = self.series.iter().filter(|series| series.stands_out()).collect();
        let _ = writeln!(
            text,
            "drift: {} of {} changed by more than Q3 + 3 x IQR of the changes of {nights}",
            out.len(),
            count(known, "figure"),
        );
        for series in out {
            let _ = writeln!(
                text,
                "  {}: {} to the good night before, beyond {}; {} since the first",
                series.name,
                difference(series.last),
                percent(series.threshold.unwrap_or_default()),
                difference(series.since_first),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn night(day: usize, verdict: Verdict) -> Night {
        Night {
            schema: SCHEMA,
            started: format!("2031-01-{day:02}T00:00:00Z"),
            suite: "nightly".to_owned(),
            verdict,
            status: 0,
            against: "last good".to_owned(),
            builds: Vec::new(),
            directory: Some(PathBuf::from("nights")),
        }
    }

    fn line(day: usize, value: f64) -> Line {
        Line {
            started: format!("2031-01-{day:02}T00:00:00Z"),
            suite: "nightly".to_owned(),
            series: "w/full total_time".to_owned(),
            value,
        }
    }

    /// Days that go up and down by 1 % and 2 %, and a last one.
    fn days(count: usize, last: f64) -> (Vec<Night>, Vec<Line>) {
        let value = |day: usize| [1.0, 1.01, 1.0, 1.02][day % 4];
        let mut lines: Vec<_> = (1..=count).map(|day| line(day, value(day))).collect();
        lines.push(line(count + 1, last));
        ((1..=count + 1).map(|day| night(day, Verdict::Good)).collect(), lines)
    }

    #[test]
    fn from_ten_nights_on_a_jump_stands_out() {
        let (nights, lines) = days(12, 1.2);
        let drift = of(nights, &lines);
        assert_eq!(drift.baseline, 12);
        assert!(drift.series[0].stands_out(), "{:?}", drift.series);
        assert!(drift.text().contains("1 of 1 figure changed by more"), "{}", drift.text());
        let (nights, lines) = days(12, 1.01);
        assert!(!of(nights, &lines).series[0].stands_out());
        let (nights, lines) = days(9, 1.2);
        let drift = of(nights, &lines);
        assert_eq!(drift.series[0].threshold, None);
        assert!(drift.text().contains("9 good nights before the last one"), "{}", drift.text());
    }

    #[test]
    fn an_alarmed_night_is_no_baseline() {
        let (mut nights, mut lines) = days(12, 1.2);
        // The night before had the same jump: had it counted, tonight would look like it.
        nights[11].verdict = Verdict::Alarm;
        lines[11].value = 1.2;
        let drift = of(nights, &lines);
        assert_eq!(drift.baseline, 11);
        assert!((drift.series[0].last - 1.2 / 1.02).abs() < 1e-9, "{:?}", drift.series);
        assert!(drift.series[0].stands_out());
    }

    #[test]
    fn the_threshold_is_of_quartiles() {
        let changes = [0.01, 0.02, 0.03, 0.04, 0.05];
        assert!((threshold(&changes).unwrap() - (0.04 + 3.0 * 0.02)).abs() < 1e-12);
        assert_eq!(threshold(&[]), None);
    }

    #[test]
    fn a_night_is_added_once_and_read_back() {
        let scratch = tempfile::tempdir().unwrap();
        let history = scratch.path().join("history");
        let manifest = crate::sample::manifest();
        let one = Night::of(&manifest, Path::new("nights/1"), 4, "last good");
        assert_eq!(one.verdict, Verdict::Alarm);
        one.append(&history).unwrap();
        one.append(&history).unwrap();
        assert_eq!(nights(&history).unwrap(), [one]);
        let error = nights(scratch.path()).unwrap_err().to_string();
        assert!(error.contains("nights.jsonl"), "{error}");
    }

    #[test]
    fn nights_of_another_schema_are_refused_unless_the_history_began_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let history = scratch.path().join("history");
        let mut old = crate::sample::manifest();
        (old.schema, old.started) = (1, "2030-12-01T00:00:00Z".to_owned());
        Night::of(&old, Path::new("nights/old"), 0, "last good").append(&history).unwrap();
        // As it was written before nights had a schema.
        let path = history.join(NIGHTS);
        let text = fs::read_to_string(&path).unwrap().replace("\"schema\":1,", "");
        fs::write(&path, text).unwrap();
        let new = Night::of(&crate::sample::manifest(), Path::new("nights/new"), 0, "last good");
        let error = new.append(&history).unwrap_err();
        assert!(error.is_incomparable(), "{error}");
        let error = error.to_string();
        assert!(error.contains("history holds records of schema 1 and nights/new of schema 2"), "{error}");
        assert_eq!(nights(&history).unwrap().len(), 1, "nothing was added");

        let build = |protocol| Build { protocol, ..Build::default() };
        let began = Night::anew("quick", "2031-01-02T00:00:00Z".to_owned(), vec![build(1), build(2)]);
        // Twice within a second, which nothing measured makes the same night.
        began.append(&history).unwrap();
        began.append(&history).unwrap();
        new.append(&history).unwrap();
        let nights = nights(&history).unwrap();
        assert_eq!(nights.len(), 4);
        one_schema(&nights, &history).unwrap();
        let text = of(nights, &[]).text();
        assert!(
            text.contains("begins anew, the last good build spoke protocol 1 and this one speaks 2"),
            "{text}"
        );
        assert!(text.contains("0 good nights before the last one"), "{text}");
    }

    #[test]
    fn what_was_before_a_new_beginning_is_no_baseline() {
        let (mut nights, lines) = days(24, 1.2);
        nights[11].verdict = Verdict::Unlike;
        nights[11].directory = None;
        assert_eq!(of(nights.clone(), &lines).baseline, 12);
        // Nor for the night that begins itself.
        nights[24].verdict = Verdict::Unlike;
        assert_eq!(of(nights, &lines).baseline, 0);
    }
}

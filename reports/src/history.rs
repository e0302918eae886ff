//! The history of a nightly job: a line per night beside the CSV of its figures, and what drifts from night to night. A
//! single night's test asks whether a commit made things slower; this asks what the nights look like beside each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use migbench_scenarios::frozen::short;
use migbench_scenarios::words;
use serde::{Deserialize, Serialize};

use crate::export;
use crate::judge::nights::{Course, Said};
use crate::manifest::{Build, Manifest};
use crate::quantity::{count, difference, percent};
use crate::record::SCHEMA;
use crate::replace::{append, replace};
use crate::stats::quantile;
use crate::store::OtherSchema;

/// Name of the file of nights in a history directory.
pub const NIGHTS: &str = "nights.jsonl";
/// Name of the directory of the last good build in a history directory.
pub const GOOD: &str = "good";
/// Nights behind a threshold, at least: of fewer, quartiles mean nothing.
pub const LEAST: usize = 10;

words! {
    /// What a night's test said, as its exit status has it.
    Ended {
        /// Nothing became slower, over the nights against this base: the build under test is the next base.
        Good = "good",
        /// A confirmed regression.
        Alarm = "alarm",
        /// Not enough evidence, or another host.
        Unsure = "unsure",
        /// Builds that could not be compared: nothing was measured, and the history begins anew with this one as the base.
        Unlike = "unlike",
        /// The night failed.
        Failed = "failed",
        /// The night was interrupted, or its process was killed.
        Interrupted = "interrupted",
    }
}

impl Ended {
    /// Of an exit status of `migbench nightly`.
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

    /// Of a night that was measured, what it said with those before it.
    const fn said(self) -> Option<Said> {
        match self {
            Self::Good => Some(Said::Pass),
            Self::Alarm => Some(Said::Alarm),
            Self::Unsure => Some(Said::Open),
            Self::Unlike | Self::Failed | Self::Interrupted => None,
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
    pub verdict: Ended,
    /// The exit status.
    pub status: u8,
    /// What it was compared with: the last good build, or a pinned one.
    pub against: String,
    /// The builds: base first. A base that could not say what it is, is left out.
    pub builds: Vec<Build>,
    /// The run directory; absent where nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Whether its samples are a stratum of the test of nights: a disturbed host's are not.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub counts: bool,
    /// Seconds that its runs took over those that were estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<f64>,
    /// What else a reader of the list must know: why it failed, that a build was lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
const fn is_yes(value: &bool) -> bool {
    *value
}

/// Why a history cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum HistoryError {
    #[error("can't use {}: {source}; is it the directory that scripts/nightly keeps?", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {why}", .path.display())]
    Line { path: PathBuf, line: usize, why: String },
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
            verdict: Ended::of(status),
            status,
            against: against.to_owned(),
            builds: manifest.builds.clone(),
            directory: Some(directory.to_owned()),
            counts: true,
            pace: None,
            notes: Vec::new(),
        }
    }

    /// Of a night that measured nothing, because the last good build can't run beside this one: the history begins anew.
    #[must_use]
    pub fn anew(suite: &str, started: String, builds: Vec<Build>) -> Self {
        Self {
            schema: SCHEMA,
            started,
            suite: suite.to_owned(),
            verdict: Ended::Unlike,
            status: 0,
            against: "last good".to_owned(),
            builds,
            directory: None,
            counts: false,
            pace: None,
            notes: Vec::new(),
        }
    }

    /// Of a night that came to no end, with the reason; what it had measured by then is no evidence.
    #[must_use]
    pub fn broken(suite: &str, started: String, verdict: Ended, why: String) -> Self {
        Self { verdict, status: 1, notes: vec![why], ..Self::anew(suite, started, Vec::new()) }
    }

    /// Of a new beginning, why.
    fn beginning(&self) -> String {
        match &self.builds[..] {
            _ if self.verdict != Ended::Unlike || !self.notes.is_empty() => String::new(),
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
        let mut before = "";
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(file)?;
            // Cut off right before the end of the line: the next one must not follow on its line.
            before = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            let mut nights = nights(history)?;
            if nights.iter().any(same) {
                return Ok(());
            }
            nights.push(self.clone());
            one_schema(&nights, history)?;
        }
        fs::create_dir_all(history).map_err(file)?;
        let line = serde_json::to_string(self).map_err(|error| file(error.into()))?;
        let line = format!("{before}{line}\n");
        let mut kept = OpenOptions::new().create(true).append(true).open(&path).map_err(file)?;
        append(&mut kept, line.as_bytes()).and_then(|()| kept.sync_data()).map_err(file)
    }
}

/// The nights of a history, in the order in which they were added; none where it has no file of them yet. A line that is no JSON
/// was torn by a crash, and is left out.
///
/// # Errors
/// [`HistoryError`]
pub fn nights(history: &Path) -> Result<Vec<Night>, HistoryError> {
    let path = history.join(NIGHTS);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && history.is_dir() => String::new(),
        other => other.map_err(|source| HistoryError::File { path: path.clone(), source })?,
    };
    let whole = text.lines().enumerate().filter(|(_, line)| !is_torn(line));
    let parsed = whole.map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| HistoryError::Line {
            path: path.clone(),
            line: index + 1,
            why: error.to_string(),
        })
    });
    parsed.collect()
}

/// A line of another version is JSON all the same.
fn is_torn(line: &str) -> bool {
    !serde_json::from_str::<serde_json::Value>(line).is_ok_and(|value| value.is_object())
}

/// Takes what a crash tore out of the files of a history, and keeps it beside them (`nights.jsonl.torn`, `history.csv.torn`). Gives
/// a sentence for each file.
///
/// # Errors
/// [`HistoryError::File`]
pub fn mend(history: &Path) -> Result<Vec<String>, HistoryError> {
    // The CSV is read line by line by others too; of its last line alone it is known that it may be half.
    let half = |text: &str| -> Vec<usize> {
        let last = text.lines().count().saturating_sub(1);
        if text.is_empty() || text.ends_with('\n') { Vec::new() } else { vec![last] }
    };
    let torn = |text: &str| -> Vec<usize> {
        text.lines().enumerate().filter(|(_, line)| is_torn(line)).map(|(index, _)| index).collect()
    };
    let mut notes = Vec::new();
    for (name, found) in [(NIGHTS, &torn as &dyn Fn(&str) -> Vec<usize>), (export::HISTORY, &half)] {
        let path = history.join(name);
        let file = |source| HistoryError::File { path: path.clone(), source };
        // A cut may fall inside a character.
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => String::from_utf8_lossy(&other.map_err(file)?).into_owned(),
        };
        let places = found(&text);
        if places.is_empty() {
            continue;
        }
        let (mut kept, mut aside) = (String::new(), String::new());
        for (index, line) in text.lines().enumerate() {
            let into = if places.contains(&index) { &mut aside } else { &mut kept };
            into.push_str(line);
            into.push('\n');
        }
        let beside = history.join(format!("{name}.torn"));
        let write = || {
            let mut torn = OpenOptions::new().create(true).append(true).open(&beside)?;
            torn.write_all(aside.as_bytes())?;
            torn.sync_data()?;
            replace(&path, kept.as_bytes())
        };
        write().map_err(file)?;
        notes.push(format!(
            "{} of {} was torn, as by a crash, and is kept in {}",
            count(places.len(), "line"),
            path.display(),
            beside.display()
        ));
    }
    Ok(notes)
}

/// The nights against `against` that are tested together, where the base at hand has the BLAKE3 `base` and the build under test has
/// `candidate`. A pinned build does not advance, and nights against another one are none of these.
#[must_use]
pub fn course(nights: &[Night], against: &str, base: &str, candidate: Option<&str>) -> Course<Night> {
    let mut course = Course::default();
    let is =
        |night: &Night, side: usize, hash: &str| night.builds.get(side).is_some_and(|b| b.blake3 == hash);
    for night in since_beginning(nights).iter().filter(|night| night.against == against && night.counts) {
        if let Some(said) = night.verdict.said().filter(|_| against != PINNED || is(night, 0, base)) {
            course.add(night.clone());
            course.conclude(said);
        }
    }
    // A test is against one base, and of the build that stood in its first night.
    let test = course.test();
    let first = candidate.and_then(|candidate| test.iter().position(|night| is(night, 1, candidate)));
    course.looks = match first {
        Some(first) if test.iter().all(|night| is(night, 0, base)) => test.len() - first,
        _ => 0,
    };
    course
}

/// The nights from the last beginning on.
fn since_beginning(nights: &[Night]) -> &[Night] {
    let begin = nights.iter().rposition(|night| night.verdict == Ended::Unlike).unwrap_or(0);
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
    /// The last night's change to the good night before it, as a ratio; `None` before the first good one.
    pub last: Option<f64>,
    /// The last night against the first one that was measured, as a ratio.
    pub since_first: f64,
    /// The absolute relative change beyond which a night stands out; `None` before [`LEAST`] good nights.
    pub threshold: Option<f64>,
}

impl Series {
    /// Whether the last night stands out from what nights differ by.
    #[must_use]
    pub fn stands_out(&self) -> bool {
        self.last.zip(self.threshold).is_some_and(|(last, threshold)| (last - 1.0).abs() > threshold)
    }
}

/// What a history shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// All nights, those against a pinned build too.
    pub nights: Vec<Night>,
    /// Nights that were measured before the last one, since the history began.
    pub measured: usize,
    /// Good ones among them.
    pub baseline: usize,
    /// Every series that the last measured night and the first one have a value of.
    pub series: Vec<Series>,
}

/// Reads a history directory.
///
/// # Errors
/// [`HistoryError`]
pub fn drift(history: &Path) -> Result<Drift, HistoryError> {
    let path = history.join(export::HISTORY);
    let nights = nights(history)?;
    if nights.is_empty() && !history.join(GOOD).exists() {
        let (path, source) = (history.join(NIGHTS), io::ErrorKind::NotFound.into());
        return Err(HistoryError::File { path, source });
    }
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
struct HistoryValue {
    started: String,
    suite: String,
    series: String,
    value: f64,
}

fn lines(text: &str, path: &Path) -> Result<Vec<HistoryValue>, HistoryError> {
    let failed = |line: usize, why: String| HistoryError::Line { path: path.to_owned(), line, why };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().map_err(|error| failed(1, error.to_string()))?.clone();
    let place = |name: &str| {
        columns.iter().position(|column| column == name).ok_or_else(|| failed(1, format!("no column {name}")))
    };
    let [started, suite, cell, metric, better, median] =
        ["started", "suite", "cell", "metric", "better", "median"].map(place);
    let (started, suite, cell, metric, better, median) = (started?, suite?, cell?, metric?, better?, median?);
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
        lines.push(HistoryValue {
            started: field(started).to_owned(),
            suite: field(suite).to_owned(),
            series: format!("{} {}", field(cell).trim_end_matches("/new"), field(metric)),
            value,
        });
    }
    Ok(lines)
}

fn of(nights: Vec<Night>, lines: &[HistoryValue]) -> Drift {
    let mut by_series: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    // What nights against a pinned build measured is of the same commits a second time; and nothing before a new beginning counts.
    let measured: Vec<&Night> = since_beginning(&nights)
        .iter()
        .filter(|night| night.against != PINNED && night.verdict.said().is_some())
        .collect();
    let Some((last, before)) = measured.split_last() else {
        return Drift { nights, measured: 0, baseline: 0, series: Vec::new() };
    };
    for line in lines.iter().filter(|line| line.suite == last.suite) {
        by_series.entry(&line.series).or_default().insert(&line.started, line.value);
    }
    let before: Vec<&Night> = before.iter().copied().filter(|night| night.suite == last.suite).collect();
    // An alarmed night is no baseline, nor is one of which nobody knows.
    let baseline: Vec<&Night> = before.iter().copied().filter(|night| night.verdict == Ended::Good).collect();
    let series = by_series.iter().filter_map(|(name, values)| {
        let of = |nights: &[&Night]| -> Vec<f64> {
            nights.iter().filter_map(|night| values.get(night.started.as_str()).copied()).collect()
        };
        let now = *values.get(last.started.as_str())?;
        let (first, past) = (*of(&before).first()?, of(&baseline));
        let changes: Vec<f64> = past
            .windows(2)
            .filter(|pair| pair[0] > 0.0)
            .map(|pair| (pair[1] / pair[0] - 1.0).abs())
            .collect();
        (now > 0.0 && first > 0.0).then(|| Series {
            name: (*name).to_owned(),
            last: past.last().filter(|latest| **latest > 0.0).map(|latest| now / latest),
            since_first: now / first,
            threshold: (past.len() >= LEAST).then(|| threshold(&changes)).flatten(),
        })
    });
    let series = series.collect();
    Drift { measured: before.len(), baseline: baseline.len(), series, nights }
}

/// Q3 + 3 x IQR of past relative changes, as rustc-perf has it.
fn threshold(changes: &[f64]) -> Option<f64> {
    let (q1, q3) = (quantile(changes, 0.25)?, quantile(changes, 0.75)?);
    Some(q3 + 3.0 * (q3 - q1))
}

/// So many figures that moved most are shown.
const SHOWN: usize = 5;

impl Drift {
    /// For people: the nights in short, what moved most since the first one, and every series that stands out.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for night in self.nights.iter().rev().take(LEAST).rev() {
            let commit = night.builds.last().and_then(|build| build.tool.commit.as_deref()).unwrap_or("-");
            let commit = short(commit);
            let _ = write!(
                text,
                "{}  {:<11} {commit:<12} {}{}",
                night.started,
                night.verdict.word(),
                night.suite,
                night.beginning()
            );
            let pinned = (night.against == PINNED).then(|| "against the pinned build".to_owned());
            let notes: Vec<String> = pinned.into_iter().chain(night.notes.iter().cloned()).collect();
            let _ = writeln!(text, "{}{}", if notes.is_empty() { "" } else { ": " }, notes.join("; "));
        }
        if self.series.is_empty() {
            let _ = writeln!(
                text,
                "drift: no measured night before the last one to compare with{}",
                if self.nights.is_empty() { "; the first night only keeps its build" } else { "" }
            );
            return text;
        }
        self.since_first(&mut text);
        let nights = count(self.baseline, "good night");
        let known = self.series.iter().filter(|series| series.threshold.is_some()).count();
        if known == 0 {
            let _ = writeln!(
                text,
                "outliers: {nights} before the last one; from {LEAST} on it is known by how much nights differ"
            );
            return text;
        }
        let out: Vec<_> = self.series.iter().filter(|series| series.stands_out()).collect();
        let _ = writeln!(
            text,
            "outliers: {} of {} changed by more than Q3 + 3 x IQR of the changes of {nights}",
            out.len(),
            count(known, "figure"),
        );
        for series in out {
            let _ = writeln!(
                text,
                "  {}: {} to the good night before, beyond {}; {} since the first",
                series.name,
                difference(series.last.unwrap_or(1.0)),
                percent(series.threshold.unwrap_or_default()),
                difference(series.since_first),
            );
        }
        text
    }

    fn since_first(&self, text: &mut String) {
        let far = |series: &Series| series.since_first.ln().abs();
        // As it is shown, less is nothing.
        let mut moved: Vec<&Series> = self.series.iter().filter(|series| far(series) >= 0.0005).collect();
        moved.sort_by(|a, b| far(b).total_cmp(&far(a)));
        let _ = writeln!(
            text,
            "drift: since the first of {}, {} of {} moved{}",
            count(self.measured + 1, "measured night"),
            moved.len(),
            count(self.series.len(), "figure"),
            if moved.is_empty() { "" } else { ", these most (a description, and no test)" }
        );
        for series in moved.into_iter().take(SHOWN) {
            let _ = writeln!(text, "  {}: {}", series.name, difference(series.since_first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn night(day: usize, verdict: Ended) -> Night {
        Night {
            schema: SCHEMA,
            started: format!("2031-01-{day:02}T00:00:00Z"),
            suite: "nightly".to_owned(),
            verdict,
            status: 0,
            against: "last good".to_owned(),
            builds: Vec::new(),
            directory: Some(PathBuf::from("nights")),
            counts: true,
            pace: None,
            notes: Vec::new(),
        }
    }

    fn line(day: usize, value: f64) -> HistoryValue {
        HistoryValue {
            started: format!("2031-01-{day:02}T00:00:00Z"),
            suite: "nightly".to_owned(),
            series: "w/full total_time".to_owned(),
            value,
        }
    }

    /// Days that go up and down by 1 % and 2 %, and a last one.
    fn days(count: usize, last: f64) -> (Vec<Night>, Vec<HistoryValue>) {
        let value = |day: usize| [1.0, 1.01, 1.0, 1.02][day % 4];
        let mut lines: Vec<_> = (1..=count).map(|day| line(day, value(day))).collect();
        lines.push(line(count + 1, last));
        ((1..=count + 1).map(|day| night(day, Ended::Good)).collect(), lines)
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
        nights[11].verdict = Ended::Alarm;
        lines[11].value = 1.2;
        let drift = of(nights, &lines);
        assert_eq!(drift.baseline, 11);
        assert!((drift.series[0].last.unwrap() - 1.2 / 1.02).abs() < 1e-9, "{:?}", drift.series);
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
        assert_eq!(one.verdict, Ended::Alarm);
        one.append(&history).unwrap();
        one.append(&history).unwrap();
        assert_eq!(nights(&history).unwrap(), [one]);
        assert_eq!(nights(scratch.path()).unwrap(), [], "none yet");
        let error = nights(&scratch.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nights.jsonl"), "{error}");
    }

    #[test]
    fn a_torn_line_is_kept_aside_and_stops_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let history = scratch.path();
        let line = |day: usize| serde_json::to_string(&night(day, Ended::Good)).unwrap();
        let torn = &line(2)[..40];
        // One in the middle, as a crash leaves it where the next night goes on, and one at the end.
        for text in [
            format!("{}\n{torn}\n{}\n", line(1), line(3)),
            format!("{}\n{}\n{torn}", line(1), line(3)),
            format!("{}\n{}\n{torn}{}\n", line(1), line(3), line(4)),
        ] {
            fs::write(history.join(NIGHTS), &text).unwrap();
            assert_eq!(nights(history).unwrap(), [night(1, Ended::Good), night(3, Ended::Good)]);
            let notes = mend(history).unwrap();
            assert!(notes.len() == 1 && notes[0].contains("nights.jsonl.torn"), "{notes:?}");
            assert_eq!(mend(history).unwrap(), [""; 0], "once");
            let kept = fs::read_to_string(history.join("nights.jsonl.torn")).unwrap();
            assert!(kept.lines().last().unwrap().starts_with(torn), "{kept}");
            night(5, Ended::Unsure).append(history).unwrap();
            assert_eq!(nights(history).unwrap().len(), 3);
        }
        // Whole but for the end of the line.
        fs::write(history.join(NIGHTS), line(1)).unwrap();
        night(5, Ended::Unsure).append(history).unwrap();
        assert_eq!(nights(history).unwrap().len(), 2);
        fs::write(history.join(export::HISTORY), "a,b\n1,2\n3").unwrap();
        assert!(mend(history).unwrap()[0].contains("history.csv.torn"));
        assert_eq!(fs::read_to_string(history.join(export::HISTORY)).unwrap(), "a,b\n1,2\n");
    }

    /// Lines of nights: verdict, base, new, whatever they were against.
    fn builds(night: Night, base: &str, new: &str) -> Night {
        let of = |hash: &str| Build { blake3: hash.to_owned(), ..Build::default() };
        Night { builds: vec![of(base), of(new)], ..night }
    }

    #[test]
    fn a_test_is_of_one_base_and_of_the_build_of_its_first_night() {
        use Ended::{Alarm, Failed, Good, Unsure};
        let all = [(Good, "a", "b"), (Unsure, "b", "c"), (Failed, "b", "x"), (Unsure, "b", "d")];
        let nights: Vec<Night> = (1..)
            .zip(all)
            .map(|(day, (verdict, base, new))| builds(night(day, verdict), base, new))
            .collect();
        let of = |base, candidate| {
            let course = course(&nights, "last good", base, candidate);
            (course.recent.len(), course.looks, course.alarms)
        };
        assert_eq!(of("b", Some("c")), (3, 2, 0), "the failed night is none");
        assert_eq!(of("b", Some("d")), (3, 1, 0), "the candidate was lost, and replaced by a later build");
        assert_eq!(of("b", None), (3, 0, 0));
        assert_eq!(of("z", Some("c")), (3, 0, 0), "somebody has replaced the base");
        let mut nights = nights;
        nights.push(builds(night(5, Alarm), "b", "e"));
        nights.push(Night { counts: false, ..builds(night(6, Unsure), "b", "f") });
        let course = course(&nights, "last good", "b", Some("f"));
        assert_eq!((course.recent.len(), course.looks, course.alarms), (0, 0, 1));
    }

    #[test]
    fn nights_against_another_pinned_build_are_not_tested_together() {
        let pinned = |day: usize, base: &str| Night {
            against: PINNED.to_owned(),
            ..builds(night(day, Ended::Unsure), base, "n")
        };
        let nights = [pinned(1, "old"), pinned(2, "new"), pinned(3, "new")];
        assert_eq!(course(&nights, PINNED, "new", None).recent.len(), 2);
    }

    #[test]
    fn drift_is_shown_from_the_second_measured_night_on() {
        let (mut nights, lines) = days(1, 1.2);
        nights[0].verdict = Ended::Unsure;
        let drift = of(nights.clone(), &lines);
        assert_eq!((drift.measured, drift.baseline, drift.series.len()), (1, 0, 1));
        let text = drift.text();
        assert!(
            text.contains("since the first of 2 measured nights") && text.contains("total_time: +18.8 %"),
            "{text}"
        );
        // Nights that came to no end are in the list and hide nothing.
        nights.push(Night::broken(
            "nightly",
            "2031-01-03T00:00:00Z".into(),
            Ended::Interrupted,
            "killed".into(),
        ));
        let text = of(nights, &lines).text();
        assert!(
            text.contains("interrupted") && text.contains(": killed") && text.contains("+18.8 %"),
            "{text}"
        );
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
        assert!(text.contains("no measured night before the last one"), "{text}");
    }

    #[test]
    fn what_was_before_a_new_beginning_is_no_baseline() {
        let (mut nights, lines) = days(24, 1.2);
        nights[11].verdict = Ended::Unlike;
        nights[11].directory = None;
        assert_eq!(of(nights.clone(), &lines).baseline, 12);
        // Nor for the night that begins itself.
        nights[24].verdict = Ended::Unlike;
        assert_eq!(of(nights, &lines).baseline, 0);
    }
}

//! Changes that are known and wanted: `accepted.toml`, a few lines that a person wrote with a reason and a date. While one
//! lasts, its metric (or one cell of it) is left out of the gate, and every run says so.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One accepted change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// The metric.
    pub metric: String,
    /// The id of the cell; all cells without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// Why it is wanted.
    pub reason: String,
    /// The last day on which it holds, as `2031-02-28`.
    pub until: String,
}

impl std::fmt::Display for Acceptance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { metric, cell, reason, until } = self;
        let cell = cell.as_ref().map_or_else(String::new, |cell| format!(" of {cell}"));
        write!(f, "{metric}{cell} until {until}: {reason}")
    }
}

/// All of them, on some day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Those that hold.
    pub current: Vec<Acceptance>,
    /// Those that have ended, and are ignored.
    pub expired: Vec<Acceptance>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accepted: Vec<Acceptance>,
}

/// Why accepted changes could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The file can't be read or written.
    #[error("can't use {}: {source}; name another file with --accepted", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what `migbench gate accept` writes.
    #[error("{}: {what}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Not a day.
    #[error("`{0}` is no day: write it as 2031-02-28")]
    Day(String),
    /// A day that has passed.
    #[error("{until} has passed (today is {today}): nothing would be accepted")]
    Past {
        /// The day.
        until: String,
        /// Today.
        today: String,
    },
    /// No metric that a suite can gate.
    #[error("`{metric}` is not a metric that a suite can gate; those are {known}")]
    Metric {
        /// As named.
        metric: String,
        /// All of them.
        known: String,
    },
    /// No reason.
    #[error("--reason is empty: whoever reads it each night must know why")]
    Reason,
}

impl Accepted {
    /// Reads the file; none is no accepted change. `today` is a day such as `2031-02-28`.
    ///
    /// # Errors
    /// [`AcceptError::Io`], [`AcceptError::Malformed`].
    pub fn load(path: &Path, today: &str) -> Result<Self, AcceptError> {
        let (current, expired) =
            read(path)?.accepted.into_iter().partition(|acceptance| *acceptance.until >= *today);
        Ok(Self { current, expired })
    }

    /// Adds one to the file, in place of an earlier one of the same metric and cell.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub fn add(path: &Path, acceptance: Acceptance, today: &str) -> Result<(), AcceptError> {
        use migbench_scenarios::gate::METRICS;
        if !METRICS.iter().any(|(name, _)| *name == acceptance.metric) {
            let known = METRICS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            return Err(AcceptError::Metric { metric: acceptance.metric, known });
        }
        if !is_day(&acceptance.until) {
            return Err(AcceptError::Day(acceptance.until));
        }
        if *acceptance.until < *today {
            return Err(AcceptError::Past { until: acceptance.until, today: today.to_owned() });
        }
        if acceptance.reason.trim().is_empty() {
            return Err(AcceptError::Reason);
        }
        let mut file = read(path)?;
        file.accepted.retain(|other| (&other.metric, &other.cell) != (&acceptance.metric, &acceptance.cell));
        file.accepted.push(acceptance);
        let text = toml::to_string(&file)
            .map_err(|error| AcceptError::Malformed { path: path.to_owned(), what: error.to_string() })?;
        let failed = |source| AcceptError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let partial = path.with_extension("partial");
        std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path)).map_err(failed)
    }

    /// Whether the metric is accepted as a whole, or in this cell.
    #[must_use]
    pub fn covers(&self, metric: &str, cell: Option<&str>) -> bool {
        self.current
            .iter()
            .any(|acceptance| acceptance.metric == metric && acceptance.cell.as_deref() == cell)
    }
}

fn read(path: &Path) -> Result<File, AcceptError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        Err(source) => return Err(AcceptError::Io { path: path.to_owned(), source }),
    };
    let malformed = |what| AcceptError::Malformed { path: path.to_owned(), what };
    let file: File = toml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    match file.accepted.iter().find(|acceptance| !is_day(&acceptance.until)) {
        Some(wrong) => Err(malformed(AcceptError::Day(wrong.until.clone()).to_string())),
        None => Ok(file),
    }
}

/// `2031-02-28`: such days sort as text. That February has no 30th is nobody's harm here.
fn is_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |part: &str, digits: usize| {
        (part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<u32>().ok())
            .flatten()
    };
    matches!(parts[..], [year, month, day]
        if number(year, 4).is_some()
            && number(month, 2).is_some_and(|month| (1..=12).contains(&month))
            && number(day, 2).is_some_and(|day| (1..=31).contains(&day)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acceptance(metric: &str, cell: Option<&str>, until: &str) -> Acceptance {
        Acceptance {
            metric: metric.to_owned(),
            cell: cell.map(str::to_owned),
            reason: "the price of checksums".to_owned(),
            until: until.to_owned(),
        }
    }

    #[test]
    fn holds_until_its_day_has_passed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history/accepted.toml");
        assert_eq!(Accepted::load(&path, "2031-01-01").unwrap(), Accepted::default());
        Accepted::add(&path, acceptance("total_time", None, "2031-01-31"), "2031-01-01").unwrap();
        Accepted::add(&path, acceptance("downtime", Some("idle/full"), "2031-03-31"), "2031-01-01").unwrap();
        let last = Accepted::load(&path, "2031-01-31").unwrap();
        assert!(last.covers("total_time", None) && last.covers("downtime", Some("idle/full")));
        assert!(!last.covers("downtime", None) && !last.covers("downtime", Some("idle/delta")));
        let after = Accepted::load(&path, "2031-02-01").unwrap();
        assert!(!after.covers("total_time", None));
        assert_eq!(after.expired[0].to_string(), "total_time until 2031-01-31: the price of checksums");
    }

    #[test]
    fn a_later_one_takes_the_place_of_an_earlier_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accepted.toml");
        for until in ["2031-01-31", "2031-02-28"] {
            Accepted::add(&path, acceptance("traffic", None, until), "2031-01-01").unwrap();
        }
        let accepted = Accepted::load(&path, "2031-01-01").unwrap();
        assert_eq!(accepted.current, [acceptance("traffic", None, "2031-02-28")]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accepted.toml");
        let refused = |acceptance| Accepted::add(&path, acceptance, "2031-01-01").unwrap_err().to_string();
        assert!(refused(acceptance("total_tme", None, "2031-01-31")).contains("those are total_time"));
        assert_eq!(
            refused(acceptance("traffic", None, "tomorrow")),
            "`tomorrow` is no day: write it as 2031-02-28"
        );
        assert!(refused(acceptance("traffic", None, "2031-13-01")).contains("is no day"));
        assert!(refused(acceptance("traffic", None, "2030-12-31")).contains("has passed"));
        let silent = Acceptance { reason: " ".to_owned(), ..acceptance("traffic", None, "2031-01-31") };
        assert!(refused(silent).contains("--reason is empty"));
        std::fs::write(&path, "[[accepted]]\nmetric = 5\n").unwrap();
        assert!(Accepted::load(&path, "2031-01-01").is_err());
    }
}

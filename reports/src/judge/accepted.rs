//! Changes that are known and wanted: `accepted.toml`, a few lines that a person wrote with a size, a reason and a date. While
//! one lasts, its metric (or one cell of it) may be worse by so much, and every run says so; what is beyond it is judged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::metric::{Better, MetricKey};
use crate::replace::replace;

/// One accepted change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// The metric.
    pub metric: String,
    /// The id of the cell; all cells without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// By how much it may be worse.
    pub size: Size,
    /// Why it is wanted.
    pub reason: String,
    /// The last day on which it holds, as `2031-02-28`.
    pub until: String,
}

impl Acceptance {
    /// Refuses a day that is none, and a size that leaves nothing.
    fn possible(&self) -> Result<(), AcceptError> {
        let key = MetricKey::find(&self.metric);
        let larger = key.is_some_and(|key| key.definition().better == Better::Larger);
        if larger && self.size.share() >= 1.0 {
            return Err(AcceptError::All { size: self.size, metric: self.metric.clone() });
        }
        if is_day(&self.until) { Ok(()) } else { Err(AcceptError::Day(self.until.clone())) }
    }
}

impl std::fmt::Display for Acceptance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { metric, cell, size, reason, until } = self;
        let cell = cell.as_ref().map_or_else(String::new, |cell| format!(" of {cell}"));
        write!(f, "{metric}{cell} may be worse by {size} until {until}: {reason}")
    }
}

/// A share of the base, written in percent: `10 %`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(f64);

impl Size {
    /// As a share.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.0
    }
}

impl std::str::FromStr for Size {
    type Err = AcceptError;

    fn from_str(text: &str) -> Result<Self, AcceptError> {
        let percent =
            text.trim().strip_suffix('%').map(str::trim_end).and_then(|text| text.parse::<f64>().ok());
        percent
            .filter(|percent| *percent > 0.0 && *percent <= 1000.0)
            .map(|percent| Self(percent / 100.0))
            .ok_or_else(|| AcceptError::Size(text.to_owned()))
    }
}

impl TryFrom<String> for Size {
    type Error = AcceptError;

    fn try_from(text: String) -> Result<Self, AcceptError> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Rounded, since 0.07 is not 7 %.
        write!(f, "{} %", (self.0 * 1e8).round() / 1e6)
    }
}

/// All of them, on some day.
#[derive(Debug, Clone, Default, PartialEq)]
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
#[expect(missing_docs, reason = "the messages say what each is about")]
pub enum AcceptError {
    #[error("can't use {}: {source}; name another file with --accepted", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {what}", .path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("`{0}` is no day: write it as 2031-02-28")]
    Day(String),
    #[error("`{0}` is no size of a change: write it in percent, such as 10%")]
    Size(String),
    #[error(
        "{size} less of `{metric}` is all of it or more: more is better of this metric, and a size under 100 % leaves some"
    )]
    All { size: Size, metric: String },
    #[error("{until} has passed (today is {today}): nothing would be accepted")]
    Past { until: String, today: String },
    #[error("`{metric}` is not a metric that a suite can gate; those are {known}")]
    Metric { metric: String, known: String },
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
        acceptance.possible()?;
        if *acceptance.until < *today {
            return Err(AcceptError::Past { until: acceptance.until, today: today.to_owned() });
        }
        if acceptance.reason.trim().is_empty() {
            return Err(AcceptError::Reason);
        }
        let failed = |source| AcceptError::Io { path: path.to_owned(), source };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(failed)?;
        // Two that add at once would each write the file without the other's. Not every file system knows locks.
        let _alone = fs::File::open(directory).and_then(|file| file.lock().map(|()| file));
        let mut file = read(path)?;
        file.accepted.retain(|other| (&other.metric, &other.cell) != (&acceptance.metric, &acceptance.cell));
        file.accepted.push(acceptance);
        let text = toml::to_string(&file)
            .map_err(|error| AcceptError::Malformed { path: path.to_owned(), what: error.to_string() })?;
        replace(path, text.as_bytes()).map_err(failed)
    }

    /// By how much the metric may be worse in this cell, as a share; what is accepted of the cell goes before what is of all.
    #[must_use]
    pub fn size(&self, metric: &str, cell: &str) -> Option<f64> {
        let of = |wanted: Option<&str>| {
            let mut all = self.current.iter();
            all.find(|acceptance| acceptance.metric == metric && acceptance.cell.as_deref() == wanted)
        };
        of(Some(cell)).or_else(|| of(None)).map(|acceptance| acceptance.size.share())
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
    file.accepted
        .iter()
        .try_for_each(Acceptance::possible)
        .map_err(|error| malformed(error.to_string()))
        .map(|()| file)
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
            size: "12.5%".parse().unwrap(),
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
        let size = |accepted: &Accepted, metric, cell| accepted.size(metric, cell);
        assert_eq!(size(&last, "total_time", "any"), Some(0.125));
        assert_eq!(size(&last, "downtime", "idle/full"), Some(0.125));
        assert_eq!(size(&last, "downtime", "idle/delta"), None);
        let after = Accepted::load(&path, "2031-02-01").unwrap();
        assert_eq!(size(&after, "total_time", "any"), None);
        assert_eq!(
            after.expired[0].to_string(),
            "total_time may be worse by 12.5 % until 2031-01-31: the price of checksums"
        );
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
    fn nothing_is_lost_of_what_is_added_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accepted.toml");
        std::thread::scope(|scope| {
            for number in 0..16 {
                let path = &path;
                let add = move || {
                    let cell = format!("idle/full {number}");
                    Accepted::add(path, acceptance("traffic", Some(&cell), "2031-01-31"), "2031-01-01")
                        .unwrap();
                };
                scope.spawn(add);
            }
        });
        assert_eq!(Accepted::load(&path, "2031-01-01").unwrap().current.len(), 16);
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
        let most = Acceptance {
            size: "100%".parse().unwrap(),
            ..acceptance("throughput_after", None, "2031-01-31")
        };
        assert!(refused(most).contains("is all of it or more"));
        let silent = Acceptance { reason: " ".to_owned(), ..acceptance("traffic", None, "2031-01-31") };
        assert!(refused(silent).contains("--reason is empty"));
        for text in ["10", "-5%", "0 %", "all", "10 %%"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("write it in percent, such as 10%"), "{error}");
        }
        let whole = "metric = \"traffic\"\nreason = \"r\"\nuntil = \"2031-01-31\"\n";
        for wrong in ["metric = 5\n", whole, &format!("{whole}size = \"much\"\n")] {
            std::fs::write(&path, format!("[[accepted]]\n{wrong}")).unwrap();
            let error = Accepted::load(&path, "2031-01-01").unwrap_err().to_string();
            assert!(error.contains("accepted.toml") && error.contains("line"), "{error}");
        }
    }
}

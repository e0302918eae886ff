//! Why a suite was refused: a place and a problem, in words that end in a remedy. Nothing is guessed and nothing
//! ignored, because a misspelt key would be a measurement of something else.

use std::fmt;

use migbench_workloads::units::UnitError;

use crate::place::Place;

/// A refused suite, argument or cell.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteError(Box<(Place, Problem)>);

/// What is wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The text is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// A key that means nothing here.
    #[error("unknown key `{key}` in {table}{}", hint(nearest.as_deref()))]
    UnknownKey {
        /// As written.
        key: String,
        /// The table, or what else was being read.
        table: String,
        /// The nearest key that exists there.
        nearest: Option<String>,
    },
    /// A key that must be there is not.
    #[error("{table} has no `{key}`: {about}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// Where it belongs.
        table: String,
        /// What it is for.
        about: &'static str,
    },
    /// A value of another kind than the key takes.
    #[error("`{key}` takes {expected}, not {found}")]
    WrongType {
        /// The key.
        key: String,
        /// What it takes, with an example.
        expected: String,
        /// What stood there.
        found: String,
    },
    /// A quantity without its unit, or with a wrong one.
    #[error("`{key}`: {source}")]
    Unit {
        /// The key.
        key: String,
        /// What is wrong with the quantity.
        source: UnitError,
    },
    /// A word that is not one of the few that the key takes.
    #[error("`{word}` is not a value of `{key}`{}; known are {known}", hint(nearest.as_deref()))]
    UnknownWord {
        /// The key.
        key: String,
        /// As written.
        word: String,
        /// The nearest right word.
        nearest: Option<String>,
        /// All of them.
        known: String,
    },
    /// A number outside of what the key takes.
    #[error("`{key}` is {value}; {allowed}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is allowed and why.
        allowed: String,
    },
    /// Values that are right one by one and exclude each other.
    #[error("{cell}{what}")]
    Contradiction {
        /// Which cell, with `: ` behind it, or nothing.
        cell: String,
        /// What excludes what, and the remedy.
        what: String,
    },
    /// An axis without values, or a comparison without axes or cells.
    #[error("{0}")]
    Empty(String),
    /// The same axis value, cell or name twice.
    #[error("{0}")]
    Duplicate(String),
    /// An `include`, `exclude`, `optional` or `--filter` without effect.
    #[error("{0}")]
    NoMatch(String),
    /// The compared axis or the baseline does not exist.
    #[error("{what}{}", hint(nearest.as_deref()))]
    Baseline {
        /// What does not exist.
        what: String,
        /// The nearest name that does.
        nearest: Option<String>,
    },
    /// No shipped suite of that name.
    #[error("no suite `{name}`{}; shipped are {known}; a path to a suite of your own ends in .toml", hint(nearest.as_deref()))]
    UnknownSuite {
        /// As asked for.
        name: String,
        /// The nearest name.
        nearest: Option<String>,
        /// All shipped suites.
        known: String,
    },
    /// No claims of that name.
    #[error("no paper `{name}`{}; shipped are {known}; a path to claims of your own ends in .toml", hint(nearest.as_deref()))]
    UnknownPaper {
        /// As asked for.
        name: String,
        /// The nearest name.
        nearest: Option<String>,
        /// All shipped claims.
        known: String,
    },
    /// Not `key=value`.
    #[error("write it as key=value, for example memory=256MiB")]
    NoAssignment,
    /// A filter that is not a regular expression.
    #[error("not a regular expression: {0}")]
    Regex(String),
}

impl SuiteError {
    /// A problem at a place.
    #[must_use]
    pub fn new(place: &Place, problem: Problem) -> Self {
        Self(Box::new((place.clone(), problem)))
    }

    /// Where.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.0
    }

    /// What.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0.1
    }

    pub(crate) fn duplicate(place: &Place, what: String) -> Self {
        Self::new(place, Problem::Duplicate(what))
    }

    /// Nothing would run; `what` says why and what to do.
    #[must_use]
    pub fn empty(place: &Place, what: String) -> Self {
        Self::new(place, Problem::Empty(what))
    }

    pub(crate) fn no_match(place: &Place, what: String) -> Self {
        Self::new(place, Problem::NoMatch(what))
    }
}

impl fmt::Display for SuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.problem())?;
        match self.place().excerpt() {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SuiteError {}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |word| format!(" (did you mean `{word}`?)"))
}

/// The known word nearest to what was typed, if one is near enough to be meant. A word whose end was typed
/// alone (`rate` for `link.rate`) is near too.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // The end of a word counts for slightly less than the whole of it.
    let ends = |word: &'a str| word.match_indices('.').map(move |(dot, _)| &word[dot + 1..]);
    known
        .into_iter()
        .map(|word| {
            let whole = strsim::jaro_winkler(typed, word);
            let end = |best: f64, end| best.max(strsim::jaro_winkler(typed, end) - 0.02);
            (ends(word).fold(whole, end), word)
        })
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word.to_owned())
}

/// Words as an enumeration for a message.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_or_none() {
        let keys = ["memory", "link.rate", "vcpus", "stop.max_rounds"];
        assert_eq!(nearest("memry", keys).as_deref(), Some("memory"));
        assert_eq!(nearest("rate", keys).as_deref(), Some("link.rate"));
        assert_eq!(nearest("max_round", keys).as_deref(), Some("stop.max_rounds"));
        assert_eq!(nearest("colour", keys), None);
    }
}

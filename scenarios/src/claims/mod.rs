//! What a publication claims, as a TOML file beside its suite: each figure, where it stands, and the command that tests it;
//! what the publication does not state, what was chosen instead, and why. `papers/FORMAT.md` documents the files. Text
//! goes in; [`Claims`] come out, with the plan of every suite that they name, so that a comparison or a row that does not
//! exist is refused here and not after a measurement.

mod command;
mod published;
mod read;
pub mod schema;

use std::path::Path;

pub use command::SuiteCommand;
pub use published::{Dimension, Published};

use crate::error::{Problem, SuiteError, listed, nearest};
use crate::place::Place;
use crate::plan::Plan;

/// A key of a table of the format: its name, whether it must be there, and what it takes.
pub type TableKey = (&'static str, bool, &'static str);

/// Keys of the file itself.
pub const CLAIMS_KEYS: &[TableKey] = &[
    ("name", true, "a word by which `migbench reproduce` calls it"),
    ("description", true, "a line for lists"),
    ("time", true, "text: about how long all of its claims take"),
    ("disk", true, "text: about how much their records take"),
    ("caution", false, "text: what a reader must know before quoting the published figures"),
    ("choice", true, "text: how settings were chosen that the publication does not state"),
    ("reference", true, "table: the publication"),
    ("unknown", true, "tables: what the publication does not state"),
    ("claim", true, "tables: its figures"),
    ("sensitivity", false, "table: the suite that varies what is not stated"),
];

/// Keys of `[reference]`.
pub const REFERENCE_KEYS: &[TableKey] = &[
    ("authors", true, "their names"),
    ("title", true, "the title"),
    ("published", true, "where and when"),
    ("doi", false, "the DOI, without an address before it"),
    ("url", false, "an address"),
];

/// Keys of `[[unknown]]`.
pub const UNKNOWN_KEYS: &[TableKey] = &[
    ("what", true, "text: what is not stated"),
    ("chosen", true, "text: what was chosen"),
    ("why", true, "text: the reason"),
    ("keys", false, "list of the keys of a cell that say it"),
];

/// Keys of `[[claim]]`.
pub const CLAIM_KEYS: &[TableKey] = &[
    ("id", true, "a word, unique in the file"),
    ("text", true, "a sentence"),
    ("where", true, "where in the publication it stands"),
    ("kind", true, "reduction, value or convergence"),
    ("metric", false, "a metric of records; not of kind convergence"),
    (
        "published",
        true,
        "the figure with its unit, as \"51.37 %\", \"3.5 s\" or \"165 ms to 210 ms\"; of kind convergence \"converges\" or \"does not converge\"",
    ),
    ("comparison", true, "the name of a comparison of the suite"),
    ("row", false, "the row of that comparison; a value may leave it out and means all rows"),
    (
        "capped",
        false,
        "boolean, of a value: runs that a limit cut off count, since those of the publication were cut off too",
    ),
    ("command", true, "the command that tests it: migbench run SUITE, with --filter and --repeat at most"),
    ("time", true, "text: about how long that takes"),
    ("disk", true, "text: about how much its records take"),
    ("note", false, "text: what else a reader must know"),
];

/// Keys of `[sensitivity]`.
pub const SENSITIVITY_KEYS: &[TableKey] = &[
    ("command", true, "the command that makes its records"),
    ("base", true, "the name of the comparison from which the others differ"),
    ("row", true, "the row that reductions are taken of"),
    ("time", true, "text: about how long that takes"),
    ("disk", true, "text: about how much its records take"),
];

/// A file of claims.
#[derive(Debug, Clone)]
pub struct Claims {
    /// What it is called.
    pub name: String,
    /// A line for lists.
    pub description: String,
    /// About how long all claims take.
    pub time: String,
    /// About how much their records take.
    pub disk: String,
    /// What a reader must know before quoting published figures; empty where nothing.
    pub caution: String,
    /// How settings were chosen.
    pub choice: String,
    /// The publication.
    pub reference: Publication,
    /// What it does not state.
    pub unknowns: Vec<Unknown>,
    /// Its figures.
    pub claims: Vec<Claim>,
    /// What varies the unknowns.
    pub sensitivity: Option<SensitivitySuite>,
    /// The suites that the commands name, each once.
    pub suites: Vec<ClaimedSuite>,
    /// The file as it was read.
    pub text: String,
}

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Their names.
    pub authors: String,
    /// The title.
    pub title: String,
    /// Where and when.
    pub published: String,
    /// The DOI.
    pub doi: Option<String>,
    /// An address.
    pub url: Option<String>,
}

/// Something that a publication does not state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// What.
    pub what: String,
    /// What was chosen.
    pub chosen: String,
    /// The reason.
    pub why: String,
    /// Keys of a cell that say it.
    pub keys: Vec<String>,
}

/// A figure, and how it is tested.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Unique in the file.
    pub id: String,
    /// A sentence.
    pub text: String,
    /// Where it stands.
    pub source: String,
    /// What is claimed.
    pub test: ClaimTest,
    /// Name of the comparison that tests it.
    pub comparison: String,
    /// Its row; none means all rows.
    pub row: Option<String>,
    /// The command that tests it.
    pub command: SuiteCommand,
    /// About how long that takes.
    pub time: String,
    /// About how much its records take.
    pub disk: String,
    /// What else a reader must know; empty where nothing.
    pub note: String,
}

/// What is claimed.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimTest {
    /// A row needs that much less of a metric than the baseline.
    Reduction {
        /// The metric.
        metric: String,
        /// A share.
        published: Published,
    },
    /// A metric has that value.
    Value {
        /// The metric.
        metric: String,
        /// In the metric's unit.
        published: Published,
        /// Whether runs that a limit cut off count.
        capped: bool,
    },
    /// Migrations end by themselves, or do not.
    Convergence {
        /// Whether they do.
        published: bool,
    },
}

/// A suite that varies what is not stated, one setting at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct SensitivitySuite {
    /// The command that makes its records.
    pub command: SuiteCommand,
    /// The comparison from which the others differ.
    pub base: String,
    /// The row that reductions are taken of.
    pub row: String,
    /// About how long that takes.
    pub time: String,
    /// About how much its records take.
    pub disk: String,
}

/// A suite that commands name.
#[derive(Debug, Clone)]
pub struct ClaimedSuite {
    /// As a command line would name it from where the program runs: a shipped suite, or a path.
    pub reference: String,
    /// As the file names it.
    pub named: String,
    /// Its text.
    pub text: String,
    /// What it expands to.
    pub plan: Plan,
}

impl Claims {
    /// Reads a file of claims. `origin` names it in messages, `directory` is what paths of suites are relative to, and
    /// `metrics` are the names of metrics with their units as records write them, which this crate does not know.
    ///
    /// # Errors
    /// When anything in it is not understood, with the place; also of the suites that it names.
    pub fn parse(
        text: &str,
        origin: &str,
        directory: &Path,
        metrics: &[(&str, &str)],
    ) -> Result<Self, SuiteError> {
        read::claims(text, origin, directory, metrics)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Those of [`Claims::parse`], and when it cannot be read.
    pub fn load(path: &Path, metrics: &[(&str, &str)]) -> Result<Self, SuiteError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            SuiteError::new(&Place::file(&origin, ""), Problem::Unreadable(error.to_string()))
        })?;
        Self::parse(&text, &origin, path.parent().unwrap_or(Path::new("")), metrics)
    }

    /// The claims of that name that come with the program, or the file of that path where the name ends in `.toml` or
    /// has a `/` in it.
    ///
    /// # Errors
    /// When there are none, or they cannot be read or understood.
    pub fn find(name_or_path: &str, metrics: &[(&str, &str)]) -> Result<Self, SuiteError> {
        if name_or_path.ends_with(".toml") || name_or_path.contains('/') {
            return Self::load(Path::new(name_or_path), metrics);
        }
        let names = PAPERS.iter().map(|(name, _)| *name);
        let Some((name, text)) = PAPERS.iter().find(|(name, _)| *name == name_or_path) else {
            let problem = Problem::UnknownPaper {
                name: name_or_path.to_owned(),
                nearest: nearest(name_or_path, names.clone()),
                known: listed(names),
            };
            return Err(SuiteError::new(&Place::argument("reproduce"), problem));
        };
        Self::parse(text, &format!("{name}/claims.toml"), Path::new(""), metrics)
    }

    /// The suite that a command names.
    #[must_use]
    pub fn suite(&self, command: &SuiteCommand) -> Option<&ClaimedSuite> {
        self.suites.iter().find(|suite| suite.reference == command.suite)
    }

    /// The suites that its claims name, without the one that varies the unknowns.
    pub fn claimed(&self) -> impl Iterator<Item = &ClaimedSuite> {
        let named =
            |suite: &&ClaimedSuite| self.claims.iter().any(|claim| claim.command.suite == suite.reference);
        self.suites.iter().filter(named)
    }
}

/// Name and text of the claims that come with the program, in the order in which they are listed.
pub const PAPERS: &[(&str, &str)] = &[
    ("bhardwaj2019", include_str!("../../papers/bhardwaj2019/claims.toml")),
    ("clark2005", include_str!("../../papers/clark2005/claims.toml")),
    ("xbzrle-doc", include_str!("../../papers/xbzrle-doc/claims.toml")),
];

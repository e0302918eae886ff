//! Values from the command line: `--set key=value` over a suite, and the flags of a single migration. They are read by
//! the keys that suite files use, so that the two cannot differ.

use crate::cell::{Cell, Engine};
use crate::document::{Data, PlacedValue};
use crate::error::{Problem, SuiteError};
use crate::key::{self, KEYS};
use crate::layer::{Entry, Layer, Workloads, group_error};
use crate::place::Place;

/// `key=value` as typed on the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    key: String,
    value: String,
    place: Place,
}

impl Assignment {
    /// From the argument of `--set`.
    ///
    /// # Errors
    /// When there is no `=` in it.
    pub fn parse(text: &str) -> Result<Self, SuiteError> {
        Self::after("--set", text)
    }

    /// From the argument of another flag that takes `key=value`.
    ///
    /// # Errors
    /// When there is no `=` in it.
    pub fn after(flag: &str, text: &str) -> Result<Self, SuiteError> {
        let place = Place::argument(&format!("{flag} {text}"));
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self { key: key.trim().to_owned(), value: value.trim().to_owned(), place })
            }
            _ => Err(SuiteError::new(&place, Problem::NoAssignment)),
        }
    }

    /// From a flag of its own, such as `--memory 256MiB`, which sets the key `memory`.
    #[must_use]
    pub fn flag(flag: &str, key: &str, value: &str) -> Self {
        let place = Place::argument(&format!("{flag} {value}"));
        Self { key: key.to_owned(), value: value.to_owned(), place }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The values: what stands between commas, except where a comma belongs to the value.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, SuiteError> {
        let index = key::find(&self.key).ok_or_else(|| self.unknown())?;
        let values: Vec<&str> = match KEYS[index].kind {
            "CPUs" => vec![&self.value],
            _ => self.value.split(',').map(str::trim).collect(),
        };
        let entry = |value: &&str| {
            let node = PlacedValue { place: self.place.clone(), data: Data::Bare((*value).to_owned()) };
            Entry { index, shown: self.key.clone(), key_place: self.place.clone(), node }
        };
        let entries: Vec<Entry> = values.iter().map(entry).collect();
        entries.iter().try_for_each(Entry::check)?;
        Ok(entries)
    }

    fn unknown(&self) -> SuiteError {
        if key::is_group(&self.key) {
            return group_error(&self.key, &self.place);
        }
        let problem = Problem::UnknownKey {
            key: self.key.clone(),
            table: "a cell".to_owned(),
            nearest: key::nearest_key(&self.key, "", &[]),
        };
        SuiteError::new(&self.place, problem)
    }
}

/// A cell in the making, for one migration without a suite.
#[derive(Debug, Clone, Default)]
pub struct Draft(Layer);

impl Draft {
    /// Nothing but defaults; `workload` and `engine` must be set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one key, by the rules of suite files.
    ///
    /// # Errors
    /// When there is no such key, when its value is not one that it takes, or when there are several.
    pub fn set(&mut self, assignment: &Assignment) -> Result<(), SuiteError> {
        let mut entries = assignment.entries()?;
        match (entries.pop(), entries.is_empty()) {
            (Some(entry), true) => self.0.set(entry),
            _ => {
                let what = format!("`{}` takes one value here, not a list", assignment.key);
                return Err(SuiteError::duplicate(&assignment.place, what));
            }
        }
        Ok(())
    }

    /// The cell.
    ///
    /// # Errors
    /// When `workload` or `engine` is not set, when values contradict each other, and for settings that the workload's program
    /// does not read.
    pub fn build(&self) -> Result<Cell, SuiteError> {
        let cell = self.0.valid_cell(&Workloads::default(), &Place::argument("migrate"), "")?;
        self.0.all_read(&cell)?;
        Ok(cell)
    }
}

impl Cell {
    /// A cell with every default, of an engine and a workload of the catalogue.
    ///
    /// # Errors
    /// When the catalogue has no such workload.
    pub fn default_for(engine: Engine, workload: &str) -> Result<Self, SuiteError> {
        let mut draft = Draft::new();
        draft.set(&Assignment::flag("--engine", "engine", engine.word()))?;
        draft.set(&Assignment::flag("--workload", "workload", workload))?;
        draft.build()
    }
}

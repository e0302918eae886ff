//! A suite: what a TOML file says, read and checked, before its matrices are expanded. Text goes in; a [`Plan`] comes
//! out of [`Suite::expand`], after the command line has had its say through [`Suite::apply`].

use std::path::Path;

use migbench_workloads::catalogue;
use regex::Regex;

use crate::comparison::ComparisonSpec;
use crate::document::{self, Data, Field, PlacedValue};
use crate::draft::Assignment;
use crate::error::{Problem, SuiteError, listed, nearest};
use crate::gate::{self, Gate};
use crate::layer::{self, Entry, Layer, Workloads};
use crate::place::Place;
use crate::plan::Plan;
use crate::value::Reader;

/// Keys of a suite file, with what they take.
pub const SUITE_KEYS: &[(&str, &str)] = &[
    ("name", "text, required"),
    ("description", "text, required: a line for lists"),
    ("analysis", "Markdown that reports print above all tables"),
    ("repetitions", "whole number, 5 by default: timed runs per cell"),
    ("seed", "whole number, 1 by default: of the order and of the guests"),
    ("time_budget", "text: about how long it takes"),
    ("defaults", "table: values for every cell"),
    ("workload", "tables: workloads of the suite's own"),
    ("comparison", "tables: what is compared"),
    ("gate", "tables, at most six: which metrics decide whether something became worse"),
];

/// Keys of a `[workload.<name>]` beside the workload settings, with what they take.
pub const WORKLOAD_KEYS: &[(&str, &str)] = &[
    ("base", "required: the name of the catalogue's workload on which it stands"),
    ("about", "text: what it models"),
];

/// A suite as read.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    pub description: String,
    /// Markdown for reports: what its tables mean.
    pub analysis: String,
    /// About how long it takes, in words.
    pub time_budget: String,
    /// Timed runs of each cell; a run that verifies memory comes besides.
    pub repetitions: u32,
    /// The seed of the order and of the guests.
    pub seed: u64,
    pub(crate) own: Workloads,
    pub(crate) defaults: Layer,
    pub(crate) specs: Vec<ComparisonSpec>,
    pub(crate) gates: Vec<(Place, Gate)>,
    pub(crate) filter: Option<(Place, Regex)>,
    /// Keys that the command line set; where there are any, parts of the file may be without effect.
    pub(crate) set: Vec<usize>,
    /// Whether cells whose programs do not read what was set are refused, or left as they are.
    pub(crate) refuse_unread: bool,
}

/// The most timed runs of a cell: a plan holds each of them.
const MOST_REPETITIONS: u32 = 100_000;

/// What the command line changes of a suite.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Each `--set key=value`, or `key=value,value` for an axis.
    pub set: Vec<Assignment>,
    /// `--repeat N`: timed repetitions.
    pub repeat: Option<u32>,
    /// `--seed N`.
    pub seed: Option<u64>,
    /// `--filter REGEX` over the ids of cells, such as `write-heavy/delta`.
    pub filter: Option<String>,
}

impl Suite {
    /// Reads a suite. `origin` names the text in messages.
    ///
    /// # Errors
    /// When anything in it is not understood, with the place.
    pub fn parse(text: &str, origin: &str) -> Result<Self, SuiteError> {
        let place = Place::file(origin, text);
        let fields = document::read(text, &place)?;
        let names = SUITE_KEYS.iter().map(|(name, _)| *name);
        for field in &fields {
            if !names.clone().any(|name| name == field.key) {
                let nearest = nearest(&field.key, names.clone());
                let table = "the suite; keys of cells stand in [defaults] or [[comparison]]".to_owned();
                let problem = Problem::UnknownKey { key: field.key.clone(), table, nearest };
                return Err(SuiteError::new(&field.place, problem));
            }
        }
        let get = |name: &str| fields.iter().find(|field| field.key == name);
        let text = |name: &str| get(name).map(|field| field.node.text(name, "text")).transpose();
        let required = |key: &'static str, about| {
            let problem = Problem::MissingKey { key, table: "the suite".to_owned(), about };
            text(key)?.ok_or_else(|| SuiteError::new(&place, problem))
        };

        let name = required("name", "a word by which it is called")?.to_owned();
        // Run directories and files in artifacts are called by it.
        if name.is_empty() || name.starts_with('.') || name.contains(|c: char| c == '/' || c.is_control()) {
            let at = get("name").map_or(&place, |field| &field.node.place);
            let what = format!(
                "a suite called {name:?}: files are named after it, so that it may neither hold a slash nor begin with a dot"
            );
            return Err(SuiteError::empty(at, what));
        }
        let description = required("description", "a line that says what it is for")?.to_owned();
        let own = get("workload").map_or(Ok(Workloads::default()), workloads)?;
        let defaults = match get("defaults") {
            Some(field) => layer::read(
                field.node.table("defaults", "a table, written [defaults]")?,
                "",
                &[],
                "[defaults]",
            )?,
            None => Layer::default(),
        };
        defaults.get("workload").map_or(Ok(()), |entry| own.check(entry))?;
        let specs = match get("comparison") {
            Some(field) => {
                let list = field.node.list("comparison", "tables, written [[comparison]]")?;
                list.iter().map(|node| ComparisonSpec::read(node, &own)).collect::<Result<Vec<_>, _>>()?
            }
            None => Vec::new(),
        };
        if specs.is_empty() {
            return Err(SuiteError::empty(
                &place,
                "a suite without a [[comparison]] measures nothing".to_owned(),
            ));
        }
        let repetitions = get("repetitions").map_or(Ok(5), |field| {
            Reader { key: "repetitions", node: &field.node }.integer(
                1,
                MOST_REPETITIONS,
                "1 to 100000 timed runs can be planned",
            )
        })?;
        Ok(Self {
            name,
            description,
            analysis: text("analysis")?.unwrap_or_default().to_owned(),
            time_budget: text("time_budget")?.unwrap_or_default().to_owned(),
            repetitions,
            seed: get("seed").map_or(Ok(1), seed)?,
            own,
            defaults,
            specs,
            gates: get("gate").map_or(Ok(Vec::new()), |field| {
                gate::read(field.node.list("gate", "tables, written [[gate]]")?)
            })?,
            filter: None,
            set: Vec::new(),
            refuse_unread: true,
        })
    }

    /// Reads a suite file.
    ///
    /// # Errors
    /// When it cannot be read, or not understood.
    pub fn load(path: &Path) -> Result<Self, SuiteError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            SuiteError::new(&Place::file(&origin, ""), Problem::Unreadable(error.to_string()))
        })?;
        Self::parse(&text, &origin)
    }

    /// The suite of that name, or the file of that path where the name ends in `.toml` or has a `/` in it.
    ///
    /// # Errors
    /// When there is none, or it cannot be read or understood.
    pub fn find(name_or_path: &str) -> Result<Self, SuiteError> {
        if name_or_path.ends_with(".toml") || name_or_path.contains('/') {
            return Self::load(Path::new(name_or_path));
        }
        let (name, text) = crate::shipped::find(name_or_path)?;
        Self::parse(text, &format!("{name}.toml"))
    }

    /// Lays what the command line says over the file.
    ///
    /// # Errors
    /// When a value is not understood, or the baseline of a comparison is lost.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), SuiteError> {
        for assignment in &overrides.set {
            let entries = assignment.entries()?;
            self.set(assignment, &entries)?;
        }
        if let Some(repeat) = overrides.repeat {
            if repeat == 0 {
                let place = Place::argument("--repeat 0");
                let what = "at least one timed run is needed; --dry-run runs nothing".to_owned();
                return Err(SuiteError::empty(&place, what));
            }
            if repeat > MOST_REPETITIONS {
                let place = Place::argument(&format!("--repeat {repeat}"));
                let what = format!("at most {MOST_REPETITIONS} timed runs of a cell can be planned");
                return Err(SuiteError::empty(&place, what));
            }
            self.repetitions = repeat;
        }
        self.seed = overrides.seed.unwrap_or(self.seed);
        if let Some(filter) = &overrides.filter {
            let place = Place::argument(&format!("--filter {filter}"));
            let regex = Regex::new(filter).map_err(|error| {
                // The last line says what is wrong; those before draw the place.
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                SuiteError::new(&place, Problem::Regex(last.to_owned()))
            })?;
            self.filter = Some((place, regex));
        }
        Ok(())
    }

    fn set(&mut self, assignment: &Assignment, entries: &[Entry]) -> Result<(), SuiteError> {
        let mut labels = Vec::new();
        for entry in entries {
            if entry.key().name == "workload" {
                self.own.check(entry)?;
            }
            if labels.contains(&entry.label()) {
                let what = format!("the value {} stands twice", entry.label());
                return Err(SuiteError::duplicate(assignment.place(), what));
            }
            labels.push(entry.label());
        }
        for spec in &mut self.specs {
            if entries.first().is_some_and(|entry| entry.index == spec.compare) {
                let baseline = spec.baseline.label();
                if !labels.contains(&baseline) {
                    let what = format!(
                        "the baseline {baseline} would be lost; name it too, or pick cells with --filter instead"
                    );
                    return Err(SuiteError::new(
                        assignment.place(),
                        Problem::Baseline { what, nearest: None },
                    ));
                }
            }
            spec.set(entries);
        }
        self.set.extend(entries.first().map(|entry| entry.index));
        Ok(())
    }

    /// Whether the command line set anything.
    pub(crate) fn overridden(&self) -> bool {
        !self.set.is_empty()
    }

    /// Expands every matrix, checks every cell, and puts the runs in order.
    ///
    /// # Errors
    /// When cells contradict themselves, stand twice, or a part of the suite has no effect.
    pub fn expand(&self) -> Result<Plan, SuiteError> {
        Plan::of(self)
    }
}

fn seed(field: &Field) -> Result<u64, SuiteError> {
    match field.node.data {
        Data::Integer(seed) => u64::try_from(seed).map_err(|_| {
            Reader { key: "seed", node: &field.node }.out_of_range(seed, "it must not be negative")
        }),
        _ => Err(field.node.wrong_type("seed", "a whole number")),
    }
}

fn workloads(field: &Field) -> Result<Workloads, SuiteError> {
    let mut own = Workloads::default();
    for field in field.node.table("workload", "tables, written [workload.<name>]")? {
        own.0.insert(field.key.clone(), workload(&field.key, &field.place, &field.node)?);
    }
    Ok(own)
}

fn workload(name: &str, place: &Place, node: &PlacedValue) -> Result<Layer, SuiteError> {
    let table = format!("[workload.{name}]");
    if catalogue::lookup(name).is_some() {
        let what = format!("{table}: the catalogue has a workload {name}; give yours a name of its own");
        return Err(SuiteError::duplicate(place, what));
    }
    let fields = node.table(&format!("workload.{name}"), "a table")?;
    let others: Vec<&str> = WORKLOAD_KEYS.iter().map(|(name, _)| *name).collect();
    let mut layer = layer::read(fields, "settings.", &others, &table)?;
    if let Some(about) = fields.iter().find(|field| field.key == "about") {
        about.node.text("about", "text")?;
    }
    let Some(base) = fields.iter().find(|field| field.key == "base") else {
        let about = "the workload of the catalogue on which it stands";
        return Err(SuiteError::new(place, Problem::MissingKey { key: "base", table, about }));
    };
    let entry = Entry {
        index: crate::key::find("workload").unwrap_or_default(),
        shown: "base".to_owned(),
        key_place: base.place.clone(),
        node: base.node.clone(),
    };
    entry.check()?;
    Workloads::default().check(&entry)?;
    layer.set(entry);
    let mut cell = Layer::default();
    cell.lay(&layer);
    let engine = Assignment::flag("--engine", "engine", "full").entries()?;
    engine.into_iter().for_each(|entry| cell.set(entry));
    let (cell, _) = cell.cell(&Workloads::default(), place)?;
    layer.all_read(&cell)?;
    Ok(layer)
}

/// Names of the catalogue's workloads, for help texts.
#[must_use]
pub fn workload_names() -> String {
    listed(catalogue::ALL.iter().map(|named| named.name))
}

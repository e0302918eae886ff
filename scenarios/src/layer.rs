//! Layers of values: `[defaults]`, a comparison's own values, one point of its matrix, what the command line sets.
//! Each is a map from keys to values with their places; laid over one another they give a cell.

use std::collections::BTreeMap;

use migbench_workloads::catalogue;
use migbench_workloads::settings::ProgramName;

use crate::cell::{Cell, Engine};
use crate::check;
use crate::document::{Data, Field, PlacedValue};
use crate::error::{Problem, SuiteError, listed, nearest};
use crate::key::{self, KEYS, Key};
use crate::place::Place;
use crate::value::Reader;

/// What a table takes: its keys, without `prefix`.
fn group_expected(group: &str, prefix: &str) -> String {
    let inside = |key: &&Key| key.name.strip_prefix(group).is_some_and(|rest| rest.starts_with('.'));
    let keys = KEYS.iter().filter(inside).filter_map(|key| key.name.strip_prefix(prefix));
    format!("a table of {}", listed(keys))
}

/// A whole table was named where one of its keys is needed.
pub(crate) fn group_error(group: &str, place: &Place) -> SuiteError {
    let expected = group_expected(group, "");
    SuiteError::new(
        place,
        Problem::WrongType { key: group.to_owned(), expected, found: "a single value".to_owned() },
    )
}

/// A key with a value of the right kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// In [`KEYS`].
    pub index: usize,
    /// The key as its writer wrote it.
    pub shown: String,
    pub key_place: Place,
    pub node: PlacedValue,
}

impl Entry {
    pub fn key(&self) -> &'static Key {
        &KEYS[self.index]
    }

    /// Why this value means nothing to the cell, if its program or its engine does not read it.
    pub fn unread(&self, cell: &Cell, id: &str) -> Option<SuiteError> {
        let (program, engine) = (cell.settings.program, cell.engine);
        if self.is_read(program, engine) {
            return None;
        }
        if !engine.reads(self.key().name) {
            let what = format!(
                "{}: engine {engine} does not read it, so that nothing would change",
                self.key().name
            );
            return Some(self.contradiction(id, what));
        }
        let read = match program.particular() {
            [] => "nothing".to_owned(),
            some => listed(some.iter().copied()),
        };
        let what = format!(
            "{}: the program of {} ({}) does not read it, so that nothing would change; of what only some programs \
             read it reads {read}",
            self.key().name,
            cell.workload,
            program.word()
        );
        Some(self.contradiction(id, what))
    }

    fn contradiction(&self, id: &str, what: String) -> SuiteError {
        let cell = if id.is_empty() { String::new() } else { format!("{id}: ") };
        SuiteError::new(&self.key_place, Problem::Contradiction { cell, what })
    }

    /// Whether the program and the engine have a use for this key.
    pub fn is_read(&self, program: ProgramName, engine: Engine) -> bool {
        let name = self.key().name;
        engine.reads(name) && name.strip_prefix("settings.").is_none_or(|setting| program.reads(setting))
    }

    fn read_into(&self, cell: &mut Cell) -> Result<(), SuiteError> {
        (self.key().read)(cell, &Reader { key: &self.shown, node: &self.node })
    }

    /// Whether the value is one that the key takes.
    pub fn check(&self) -> Result<(), SuiteError> {
        self.read_into(&mut key::blank())
    }

    /// The value in its one canonical form, which names of cells use and by which values are equal.
    pub fn label(&self) -> String {
        let mut cell = key::blank();
        // Entries are checked when they are made.
        let _ = self.read_into(&mut cell);
        (self.key().show)(&cell)
    }

    /// Whether the cell has this value.
    pub fn matches(&self, cell: &Cell) -> bool {
        (self.key().show)(cell) == self.label()
    }
}

/// Values of some keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Layer(BTreeMap<usize, Entry>);

impl Layer {
    /// Lays one value over what is there. `pinning = "none"` covers the lists, and a list covers `none`.
    pub fn set(&mut self, entry: Entry) {
        let name = entry.key().name;
        if let Some(pinning) = key::find("pinning") {
            if name == "pinning" {
                self.0.retain(|index, _| !KEYS[*index].name.starts_with("pinning."));
            } else if name.starts_with("pinning.") {
                self.0.remove(&pinning);
            }
        }
        self.0.insert(entry.index, entry);
    }

    /// Lays all values of another layer over this one.
    pub fn lay(&mut self, over: &Layer) {
        over.0.values().for_each(|entry| self.set(entry.clone()));
    }

    pub fn remove(&mut self, index: usize) {
        self.0.remove(&index);
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.0.get(&key::find(name)?)
    }

    pub fn has(&self, index: usize) -> bool {
        self.0.contains_key(&index)
    }

    /// The cell that these values make, without a look at what contradicts what. `around` is the place to name
    /// when a value that must be there is not. Settings that its program does not read stay the workload's own, and what its
    /// engine does not read has its default, so that no two cells differ in them alone.
    pub fn cell(&self, own: &Workloads, around: &Place) -> Result<(Cell, Layer), SuiteError> {
        for (name, about) in
            [("workload", "the name of what the guest does"), ("engine", "the name of what moves it")]
        {
            if self.get(name).is_none() {
                let problem = Problem::MissingKey { key: name, table: "the cell".to_owned(), about };
                return Err(SuiteError::new(around, problem));
            }
        }
        let mut full = Layer::default();
        let mut cell = key::blank();
        if let Some(workload) = self.get("workload") {
            let name = workload.label();
            own.check(workload)?;
            if let Some(settings) = own.0.get(&name) {
                full.lay(settings);
            }
            full.lay(self);
            let program = full.program(own, &name)?;
            let mut moved = key::blank();
            self.get("engine").map_or(Ok(()), |entry| entry.read_into(&mut moved))?;
            full.0.retain(|_, entry| entry.is_read(program, moved.engine));
            for entry in full.entries() {
                // The base of the suite's own workload was laid down as `workload`; its settings stay and its
                // name gives way.
                entry.read_into(&mut cell)?;
                if entry.index == workload.index
                    && let Some(base) = own.base(&name)
                {
                    cell.settings = base.settings.clone();
                }
            }
        }
        Ok((cell, full))
    }

    /// What the guest runs.
    fn program(&self, own: &Workloads, workload: &str) -> Result<ProgramName, SuiteError> {
        let base = own.base(workload).or_else(|| catalogue::lookup(workload));
        let mut cell = key::blank();
        cell.settings.program = base.map_or_else(ProgramName::default, |named| named.settings.program);
        self.get("settings.program").map_or(Ok(()), |entry| entry.read_into(&mut cell))?;
        Ok(cell.settings.program)
    }

    /// Refuses values that the cell's program does not read.
    pub fn all_read(&self, cell: &Cell) -> Result<(), SuiteError> {
        self.entries().find_map(|entry| entry.unread(cell, "")).map_or(Ok(()), Err)
    }

    /// The cell that these values make, refused where they exclude each other.
    pub fn valid_cell(&self, own: &Workloads, around: &Place, id: &str) -> Result<Cell, SuiteError> {
        let (cell, full) = self.cell(own, around)?;
        check::cell(&cell, &full, around, id)?;
        Ok(cell)
    }
}

/// Workloads that a suite defines: values laid over a named setting of the catalogue.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Workloads(pub BTreeMap<String, Layer>);

impl Workloads {
    /// The catalogue's setting on which a workload of the suite stands.
    fn base(&self, name: &str) -> Option<&'static catalogue::NamedWorkload> {
        catalogue::lookup(&self.0.get(name)?.get("workload")?.label())
    }

    /// Refuses a name that neither the catalogue nor the suite knows.
    pub fn check(&self, entry: &Entry) -> Result<(), SuiteError> {
        let name = entry.label();
        if catalogue::lookup(&name).is_some() || self.0.contains_key(&name) {
            return Ok(());
        }
        let known: Vec<&str> =
            catalogue::ALL.iter().map(|named| named.name).chain(self.0.keys().map(String::as_str)).collect();
        Err(Reader { key: &entry.shown, node: &entry.node }.unknown(&name, known))
    }
}

/// Reads fields of a table as values of a layer. Fields that `others` names are left out: they are the table's own.
/// In the text of the suite the keys stand without `prefix`; `table` names the table in messages.
pub(crate) fn read(
    fields: &[Field],
    prefix: &str,
    others: &[&str],
    table: &str,
) -> Result<Layer, SuiteError> {
    let mut layer = Layer::default();
    leaves(fields, "", others, &mut |path, field| {
        let entry = entry(path, field, prefix, others, table)?;
        entry.check()?;
        layer.set(entry);
        Ok(())
    })?;
    Ok(layer)
}

/// A key of a table as an entry that is not checked yet.
pub(crate) fn entry(
    path: &str,
    field: &Field,
    prefix: &str,
    others: &[&str],
    table: &str,
) -> Result<Entry, SuiteError> {
    let full = format!("{prefix}{path}");
    if let Some(index) = key::find(&full) {
        let (key_place, node) = (field.place.clone(), field.node.clone());
        return Ok(Entry { index, shown: path.to_owned(), key_place, node });
    }
    if key::is_group(&full) {
        return Err(field.node.wrong_type(path, &group_expected(&full, prefix)));
    }
    let problem = Problem::UnknownKey {
        key: path.to_owned(),
        table: table.to_owned(),
        nearest: key::nearest_key(path, prefix, others),
    };
    Err(SuiteError::new(&field.place, problem))
}

/// Calls `each` with every field that is not a table, and its path with dots.
pub(crate) fn leaves(
    fields: &[Field],
    path: &str,
    others: &[&str],
    each: &mut dyn FnMut(&str, &Field) -> Result<(), SuiteError>,
) -> Result<(), SuiteError> {
    for field in fields {
        if path.is_empty() && others.contains(&field.key.as_str()) {
            continue;
        }
        let path = if path.is_empty() { field.key.clone() } else { format!("{path}.{}", field.key) };
        match &field.node.data {
            // An unknown table is refused by its own name rather than by that of its first key.
            Data::Table(inner) if inside_known(&path) => {
                leaves(inner, &path, others, each)?;
            }
            _ => each(&path, field)?,
        }
    }
    Ok(())
}

fn inside_known(path: &str) -> bool {
    key::is_group(path) || key::is_group(&format!("settings.{path}"))
}

/// The nearest of some names.
pub(crate) fn nearest_name(typed: &str, names: &[String]) -> Option<String> {
    nearest(typed, names.iter().map(String::as_str))
}

//! One `[[comparison]]` of a suite file as it stands there: fixed values, axes, what is added to and taken from their
//! product, which axis is compared, and against which of its values.

use crate::document::{Data, Field, PlacedValue};
use crate::error::{Problem, SuiteError, nearest};
use crate::key::{self, KEYS};
use crate::layer::{self, Entry, Layer, Workloads, group_error};
use crate::place::Place;

/// Keys of a `[[comparison]]` beside those of a cell, with what they take.
pub const COMPARISON_KEYS: &[(&str, &str)] = &[
    ("name", "text; {key} stands for the value of that key"),
    ("analysis", "Markdown that reports print above the table"),
    ("axes", "table of lists: each key of a cell with the values that it takes in turn"),
    ("include", "list of tables: further cells"),
    ("exclude", "list of tables: cells of the product that are left out"),
    ("compare", "the axis whose values are the rows"),
    ("baseline", "its value that the others are compared with"),
    ("optional", "true, or a list of tables: cells that the host may be unable to run"),
];

/// An axis: a key and its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ComparisonAxis {
    pub index: usize,
    pub place: Place,
    pub values: Vec<Entry>,
}

/// Values of an `include`, `exclude` or `optional` entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pick {
    pub place: Place,
    pub layer: Layer,
    pub optional: bool,
}

/// Which cells of a comparison are optional.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Optional {
    All(bool),
    Picks(Vec<Pick>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ComparisonSpec {
    pub place: Place,
    pub name: Option<(Place, String)>,
    pub analysis: String,
    pub fixed: Layer,
    pub axes: Vec<ComparisonAxis>,
    pub include: Vec<Pick>,
    pub exclude: Vec<Pick>,
    /// In [`KEYS`].
    pub compare: usize,
    pub baseline: Entry,
    pub optional: Optional,
}

impl ComparisonSpec {
    pub fn read(node: &PlacedValue, own: &Workloads) -> Result<Self, SuiteError> {
        const TABLE: &str = "[[comparison]]";
        let fields = node.table("comparison", "a table, written [[comparison]]")?;
        let others: Vec<&str> = COMPARISON_KEYS.iter().map(|(name, _)| *name).collect();
        let fixed = layer::read(fields, "", &others, TABLE)?;
        fixed.get("workload").map_or(Ok(()), |entry| own.check(entry))?;
        let get = |name: &str| fields.iter().find(|field| field.key == name);
        let text = |name: &str| get(name).map(|field| field.node.text(name, "text")).transpose();

        let axes = get("axes").ok_or_else(|| {
            let about = "a table of lists such as axes = { engine = [\"full\", \"delta\"] }";
            SuiteError::new(
                &node.place,
                Problem::MissingKey { key: "axes", table: "[[comparison]]".to_owned(), about },
            )
        })?;
        let axes = read_axes(axes, own)?;
        for axis in &axes {
            if fixed.has(axis.index) {
                let name = KEYS[axis.index].name;
                let what = format!("`{name}` is an axis and has a fixed value too; keep one of them");
                return Err(SuiteError::duplicate(&axis.place, what));
            }
        }
        let compare = compare(get("compare"), &axes, &node.place)?;
        let picks = |name: &str| get(name).map_or(Ok(Vec::new()), |field| read_picks(name, field, own));
        let (include, exclude) = (picks("include")?, picks("exclude")?);
        let optional = match get("optional") {
            None => Optional::All(false),
            Some(field) => match field.node.data {
                Data::Boolean(all) => Optional::All(all),
                _ => Optional::Picks(read_picks("optional", field, own)?),
            },
        };
        let baseline = baseline(get("baseline"), compare, &axes, &include, &node.place)?;
        let name =
            text("name")?.zip(get("name")).map(|(name, field)| (field.node.place.clone(), name.to_owned()));
        let analysis = text("analysis")?.unwrap_or_default().to_owned();
        let place = node.place.clone();
        Ok(Self { place, name, analysis, fixed, axes, include, exclude, compare, baseline, optional })
    }

    /// What the command line sets wins everywhere: one value replaces what stood there; several become an axis.
    pub fn set(&mut self, entries: &[Entry]) {
        let [first, ..] = entries else { return };
        let index = first.index;
        for pick in &mut self.include {
            pick.layer.remove(index);
        }
        if let Some(axis) = self.axes.iter_mut().find(|axis| axis.index == index) {
            axis.values = entries.to_vec();
        } else if entries.len() > 1 {
            self.fixed.remove(index);
            self.axes.push(ComparisonAxis {
                index,
                place: first.key_place.clone(),
                values: entries.to_vec(),
            });
        } else {
            self.fixed.set(first.clone());
        }
    }
}

fn read_axes(field: &Field, own: &Workloads) -> Result<Vec<ComparisonAxis>, SuiteError> {
    let fields = field.node.table("axes", "a table of lists, such as { engine = [\"full\", \"delta\"] }")?;
    let mut axes: Vec<ComparisonAxis> = Vec::new();
    layer::leaves(fields, "", &[], &mut |path, field| {
        let shape = layer::entry(path, field, "", &[], "axes")?;
        let list = field.node.list(path, "a list of values, because it is an axis")?;
        if list.is_empty() {
            let what = format!("axis `{path}` has no values; give it some, or leave it out");
            return Err(SuiteError::empty(&field.node.place, what));
        }
        let mut values: Vec<Entry> = Vec::new();
        for node in list {
            let entry = Entry { node: node.clone(), ..shape.clone() };
            entry.check()?;
            if entry.key().name == "workload" {
                own.check(&entry)?;
            }
            let label = entry.label();
            if values.iter().any(|other| other.label() == label) {
                let what = format!("axis `{path}` has the value {label} twice");
                return Err(SuiteError::duplicate(&node.place, what));
            }
            values.push(entry);
        }
        if axes.iter().any(|axis| axis.index == shape.index) {
            return Err(SuiteError::duplicate(&field.place, format!("axis `{path}` stands twice")));
        }
        axes.push(ComparisonAxis { index: shape.index, place: field.place.clone(), values });
        Ok(())
    })?;
    if axes.is_empty() {
        let what = "`axes` is empty: nothing varies, so there is nothing to compare".to_owned();
        return Err(SuiteError::empty(&field.place, what));
    }
    Ok(axes)
}

fn compare(field: Option<&Field>, axes: &[ComparisonAxis], place: &Place) -> Result<usize, SuiteError> {
    let (name, place) = match field {
        Some(field) => (field.node.text("compare", "the name of an axis")?, &field.node.place),
        None => ("engine", place),
    };
    let names: Vec<&str> = axes.iter().map(|axis| KEYS[axis.index].name).collect();
    if let Some(axis) = axes.iter().find(|axis| KEYS[axis.index].name == name) {
        return Ok(axis.index);
    }
    if key::is_group(name) && key::find(name).is_none() {
        return Err(group_error(name, place));
    }
    let what = match field {
        Some(_) => format!("`compare` is {name}, which is not among the axes {}", names.join(", ")),
        None => format!(
            "`engine` is compared by default and not among the axes {}; set `compare`",
            names.join(", ")
        ),
    };
    Err(SuiteError::new(place, Problem::Baseline { what, nearest: nearest(name, names) }))
}

/// The baseline as written, or `full` among engines, or the first value of the axis.
fn baseline(
    field: Option<&Field>,
    compare: usize,
    axes: &[ComparisonAxis],
    include: &[Pick],
    place: &Place,
) -> Result<Entry, SuiteError> {
    let axis = axes.iter().find(|axis| axis.index == compare).map_or(&[][..], |axis| &axis.values);
    let included = include.iter().filter_map(|pick| pick.layer.get(KEYS[compare].name));
    let candidates: Vec<&Entry> = axis.iter().chain(included).collect();
    if let Some(field) = field {
        let name = KEYS[compare].name;
        let entry = Entry {
            index: compare,
            shown: name.to_owned(),
            key_place: field.place.clone(),
            node: field.node.clone(),
        };
        entry.check()?;
        let (label, labels) =
            (entry.label(), candidates.iter().map(|entry| entry.label()).collect::<Vec<_>>());
        if labels.contains(&label) {
            return Ok(entry);
        }
        let what = format!(
            "`baseline` is {label}, which is not among the values of `{name}`: {}",
            labels.join(", ")
        );
        let problem = Problem::Baseline { what, nearest: layer::nearest_name(&label, &labels) };
        return Err(SuiteError::new(&field.node.place, problem));
    }
    let full = candidates.iter().find(|entry| KEYS[compare].name == "engine" && entry.label() == "full");
    let chosen = full.or(candidates.first()).map(|entry| (*entry).clone());
    chosen.ok_or_else(|| SuiteError::empty(place, "nothing is compared".to_owned()))
}

fn read_picks(name: &str, field: &Field, own: &Workloads) -> Result<Vec<Pick>, SuiteError> {
    let others: &[&str] = if name == "include" { &["optional"] } else { &[] };
    let list = field.node.list(name, "a list of tables, such as [{ engine = \"delta\" }]")?;
    let mut picks = Vec::new();
    for node in list {
        let fields = node.table(name, "a list of tables, such as [{ engine = \"delta\" }]")?;
        let layer = layer::read(fields, "", others, &format!("`{name}`"))?;
        layer.get("workload").map_or(Ok(()), |entry| own.check(entry))?;
        if layer.entries().next().is_none() {
            return Err(SuiteError::empty(
                &node.place,
                format!("an entry of `{name}` without any key of a cell"),
            ));
        }
        let optional = match fields.iter().find(|field| others.contains(&field.key.as_str())) {
            Some(field) => field.node.boolean(&field.key)?,
            None => false,
        };
        picks.push(Pick { place: node.place.clone(), layer, optional });
    }
    Ok(picks)
}

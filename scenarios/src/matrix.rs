//! The expansion of one `[[comparison]]`: the product of its axes, less what is excluded, plus what is included, cut
//! into comparisons whose rows are the values of the compared axis.

use crate::cell::Cell;
use crate::comparison::{ComparisonAxis, ComparisonSpec, Optional, Pick};
use crate::error::{Problem, SuiteError};
use crate::key::{self, KEYS};
use crate::layer::{Entry, Layer};
use crate::place::Place;
use crate::plan::{Comparison, PlannedCell};
use crate::suite::Suite;

/// One point of a matrix.
struct MatrixPoint<'a> {
    /// The value of each axis, in the order of the axes.
    on_axes: Vec<&'a Entry>,
    /// Values beside the axes, from an `include`.
    beside: Vec<&'a Entry>,
    /// Whether the values beside belong to the row (the `include` named a value of the compared axis) or to the
    /// comparison.
    of_row: bool,
    optional: bool,
    place: &'a Place,
}

/// A comparison in the making.
struct Group {
    key: Vec<String>,
    /// Key and value of what may vary between groups.
    parts: Vec<(usize, String)>,
    /// What an `include` added to the name.
    beside: String,
    rows: Vec<MatrixRow>,
}

struct MatrixRow {
    label: String,
    plain: bool,
    layer: Layer,
    cell: Cell,
    optional: bool,
    place: Place,
    /// What was varied or set by hand that the cell's program does not read.
    unread: Option<Entry>,
}

/// A comparison, and which of its cells would not be what they are called, by id, with the key in question and the reason.
pub(crate) struct Expanded {
    pub comparison: Comparison,
    pub unread: Vec<(String, usize, SuiteError)>,
}

/// The comparisons of one `[[comparison]]`, each with its cells.
pub(crate) fn expand(suite: &Suite, spec: &ComparisonSpec) -> Result<Vec<Expanded>, SuiteError> {
    let mut used = vec![false; spec.exclude.len()];
    let mut groups: Vec<Group> = Vec::new();
    for point in product(spec, None) {
        let row = row(suite, spec, &point)?;
        let mut excluded = false;
        for (pick, used) in spec.exclude.iter().zip(&mut used) {
            if matches(pick, &row.cell) {
                (excluded, *used) = (true, true);
            }
        }
        if !excluded {
            add(&mut groups, spec, &point, row);
        }
    }
    no_effect(suite, spec.exclude.iter().zip(&used), "excludes no cell")?;
    for pick in &spec.include {
        include(suite, spec, pick, &mut groups)?;
    }
    optional(suite, spec, &mut groups)?;
    if groups.is_empty() {
        let what = "nothing is left of this comparison: every cell is excluded".to_owned();
        return Err(SuiteError::empty(&spec.place, what));
    }
    name(suite, spec, groups)
}

/// The product of the axes; with an `include`, its values in place of those of their axes.
fn product<'a>(spec: &'a ComparisonSpec, include: Option<&'a Pick>) -> Vec<MatrixPoint<'a>> {
    let on_axis = |index: usize| spec.axes.iter().any(|axis| axis.index == index);
    let layer = include.map(|pick| &pick.layer);
    let beside: Vec<&Entry> =
        layer.into_iter().flat_map(Layer::entries).filter(|entry| !on_axis(entry.index)).collect();
    let place = include.map_or(&spec.place, |pick| &pick.place);
    let first = MatrixPoint {
        on_axes: Vec::new(),
        beside,
        of_row: layer.is_some_and(|layer| layer.has(spec.compare)),
        optional: include.is_some_and(|pick| pick.optional),
        place,
    };
    let mut points = vec![first];
    for axis in &spec.axes {
        let values: Vec<&Entry> = match layer.and_then(|layer| layer.get(KEYS[axis.index].name)) {
            Some(entry) => vec![entry],
            None => axis.values.iter().collect(),
        };
        points = points.iter().flat_map(|point| values.iter().map(|value| point.with(value))).collect();
    }
    points
}

impl<'a> MatrixPoint<'a> {
    fn with(&self, value: &'a Entry) -> Self {
        let mut on_axes = self.on_axes.clone();
        on_axes.push(value);
        Self { on_axes, beside: self.beside.clone(), ..*self }
    }
}

fn row(suite: &Suite, spec: &ComparisonSpec, point: &MatrixPoint<'_>) -> Result<MatrixRow, SuiteError> {
    let mut layer = suite.defaults.clone();
    layer.lay(&spec.fixed);
    point.on_axes.iter().chain(&point.beside).for_each(|entry| layer.set((*entry).clone()));
    let (cell, _) = layer.cell(&suite.own, point.place)?;
    let mut label = (KEYS[spec.compare].show)(&cell);
    if point.of_row {
        label.push_str(&beside(&point.beside));
    }
    let plain = !point.of_row || point.beside.is_empty();
    let set = spec.fixed.entries().filter(|entry| suite.set.contains(&entry.index));
    let named = point.on_axes.iter().chain(&point.beside).copied().chain(set);
    let unread = named.into_iter().find(|entry| !entry.is_read(cell.settings.program, cell.engine)).cloned();
    Ok(MatrixRow { label, plain, layer, cell, optional: point.optional, place: point.place.clone(), unread })
}

/// ` key=value` for each.
fn beside(entries: &[&Entry]) -> String {
    entries.iter().map(|entry| format!(" {}={}", entry.key().name, entry.label())).collect()
}

fn matches(pick: &Pick, cell: &Cell) -> bool {
    pick.layer.entries().all(|entry| entry.matches(cell))
}

/// Puts a row into its group, unless the same cell is there already; whether it did.
fn add(groups: &mut Vec<Group>, spec: &ComparisonSpec, point: &MatrixPoint<'_>, row: MatrixRow) -> bool {
    let others = |axis: &&ComparisonAxis| axis.index != spec.compare;
    let parts: Vec<(usize, String)> = spec
        .axes
        .iter()
        .filter(others)
        .map(|axis| (axis.index, (KEYS[axis.index].show)(&row.cell)))
        .collect();
    // Names begin with the workload, which therefore is not among what is added.
    let workload = key::find("workload").filter(|index| *index != spec.compare);
    let of_group = |entry: &&&Entry| !point.of_row && Some(entry.index) != workload;
    let beside = beside(&point.beside.iter().filter(of_group).copied().collect::<Vec<_>>());
    let mut key: Vec<String> = parts.iter().map(|(_, label)| label.clone()).collect();
    key.push(beside.clone());
    key.extend(workload.map(|_| row.cell.workload.clone()));
    let at = groups.iter().position(|group| group.key == key).unwrap_or_else(|| {
        groups.push(Group { key, parts, beside, rows: Vec::new() });
        groups.len() - 1
    });
    let rows = &mut groups[at].rows;
    let new = rows.iter().all(|other| other.label != row.label);
    if new {
        rows.push(row);
    }
    new
}

fn include(
    suite: &Suite,
    spec: &ComparisonSpec,
    pick: &Pick,
    groups: &mut Vec<Group>,
) -> Result<(), SuiteError> {
    let mut added = false;
    // What is excluded stays so, except where this entry names one of the keys in question itself.
    let named = |entry: &Entry| pick.layer.has(entry.index);
    let excludes: Vec<&Pick> =
        spec.exclude.iter().filter(|exclude| !exclude.layer.entries().any(named)).collect();
    for point in product(spec, Some(pick)) {
        let row = row(suite, spec, &point)?;
        if !excludes.iter().any(|exclude| matches(exclude, &row.cell)) {
            added |= add(groups, spec, &point, row);
        }
    }
    no_effect(suite, [(pick, &added)].into_iter(), "includes no cell that the axes do not give already")
}

fn optional(suite: &Suite, spec: &ComparisonSpec, groups: &mut [Group]) -> Result<(), SuiteError> {
    let rows = groups.iter_mut().flat_map(|group| &mut group.rows);
    match &spec.optional {
        Optional::All(all) => rows.for_each(|row| row.optional |= all),
        Optional::Picks(picks) => {
            let mut used = vec![false; picks.len()];
            for row in rows {
                for (pick, used) in picks.iter().zip(&mut used) {
                    if matches(pick, &row.cell) {
                        (row.optional, *used) = (true, true);
                    }
                }
            }
            no_effect(suite, picks.iter().zip(&used), "names no cell of this comparison")?;
        }
    }
    Ok(())
}

/// Refuses entries that changed nothing; after `--set` they may.
fn no_effect<'a>(
    suite: &Suite,
    mut used: impl Iterator<Item = (&'a Pick, &'a bool)>,
    what: &str,
) -> Result<(), SuiteError> {
    match used.find(|(_, used)| !**used) {
        Some((pick, _)) if !suite.overridden() => {
            Err(SuiteError::no_match(&pick.place, format!("this entry {what}")))
        }
        _ => Ok(()),
    }
}

/// Names the groups, finds their baselines and checks their cells.
fn name(suite: &Suite, spec: &ComparisonSpec, groups: Vec<Group>) -> Result<Vec<Expanded>, SuiteError> {
    let varies: Vec<usize> = (spec.axes.iter().map(|axis| axis.index))
        .filter(|index| *index != spec.compare)
        .filter(|index| {
            let of = |group: &Group| group.parts.iter().find(|part| part.0 == *index).cloned();
            groups.iter().any(|group| of(group) != of(&groups[0]))
        })
        .collect();
    let mut comparisons: Vec<Expanded> = Vec::new();
    for group in groups {
        let name = match &spec.name {
            Some((place, template)) => fill(template, place, &group.rows[0].cell)?,
            None => derived_name(suite, spec, &group, &varies),
        };
        if comparisons.iter().any(|other| other.comparison.name == name) {
            let place = spec.name.as_ref().map_or(&spec.place, |(place, _)| place);
            let what = format!(
                "two comparisons are called {name}; put the keys that vary into `name`, such as {{memory}}"
            );
            return Err(SuiteError::duplicate(place, what));
        }
        comparisons.push(comparison(suite, spec, name, group)?);
    }
    Ok(comparisons)
}

fn derived_name(suite: &Suite, spec: &ComparisonSpec, group: &Group, varies: &[usize]) -> String {
    let workload = key::find("workload");
    let mut name = match workload {
        Some(index) if index != spec.compare => group.rows[0].cell.workload.clone(),
        _ => suite.name.clone(),
    };
    for (index, label) in &group.parts {
        if varies.contains(index) && Some(*index) != workload {
            name.push_str(&format!(" {}={label}", KEYS[*index].name));
        }
    }
    name + &group.beside
}

/// A name with each `{key}` replaced by the cell's value.
fn fill(template: &str, place: &Place, cell: &Cell) -> Result<String, SuiteError> {
    let mut name = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (key, after) = after.split_once('}').unwrap_or((after, ""));
        let index = key::find(key).ok_or_else(|| {
            let nearest = key::nearest_key(key, "", &[]);
            let problem = Problem::UnknownKey { key: key.to_owned(), table: "`name`".to_owned(), nearest };
            SuiteError::new(place, problem)
        })?;
        name.push_str(before);
        name.push_str(&(KEYS[index].show)(cell));
        rest = after;
    }
    Ok(name + rest)
}

fn comparison(
    suite: &Suite,
    spec: &ComparisonSpec,
    name: String,
    group: Group,
) -> Result<Expanded, SuiteError> {
    let baseline = spec.baseline.label();
    let compare = KEYS[spec.compare].name;
    let index = group.rows.iter().position(|row| row.plain && row.label == baseline);
    if index.is_none() {
        let what = format!("comparison {name} has no cell with {compare} = {baseline}, its baseline");
        return Err(SuiteError::new(&group.rows[0].place, Problem::Baseline { what, nearest: None }));
    }
    let mut cells: Vec<PlannedCell> = Vec::new();
    let mut unread = Vec::new();
    for row in group.rows {
        let id = format!("{name}/{}", row.label);
        let cell = row.layer.valid_cell(&suite.own, &row.place, &id)?;
        let error = row.unread.and_then(|entry| Some((entry.index, entry.unread(&cell, &id)?)));
        if let Some((key, error)) = error {
            unread.push((id.clone(), key, error));
        } else if let Some(same) = cells.iter().find(|other| other.cell == cell) {
            let what = format!("{id} and {} are the same cell", same.id);
            return Err(SuiteError::duplicate(&row.place, what));
        }
        cells.push(PlannedCell { id, label: row.label, cell, optional: row.optional });
    }
    let (compare, analysis) = (compare.to_owned(), spec.analysis.clone());
    Ok(Expanded { comparison: Comparison { name, compare, baseline: index, analysis, cells }, unread })
}

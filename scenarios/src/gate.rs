//! The `[[gate]]` tables of a suite: which metrics decide whether a change made things worse. Few on purpose: every further
//! test makes each of them weaker.

use migbench_workloads::units::{Bytes, Seconds};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cell::Side;
use crate::document::{Data, PlacedValue};
use crate::error::{Problem, SuiteError, nearest};
use crate::place::Place;
use crate::plan::{Comparison, PlannedCell};
use crate::value::Reader;

/// Keys of a `[[gate]]`, with what they take.
pub const GATE_KEYS: &[(&str, &str)] = &[
    ("metric", "required: the name of a metric; its definition says which direction is worse"),
    (
        "floor",
        "required: the change, of the mean over cells or of one cell, below which nothing counts, with its unit (or a bare number)",
    ),
    ("cells", "regular expression over ids of cells; all cells without it"),
];

/// The most gates of a suite.
pub const MOST: usize = 6;

/// What a floor is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloorUnit {
    /// `"5ms"`.
    Time,
    /// `"1MiB"`.
    Size,
    /// `0.05`.
    Number,
}

/// The metrics that may be gated: those of which one direction is worse, which every run of an engine has, and which are
/// never zero, since a ratio is asked for. `migbench-reports` defines them.
pub const METRICS: &[(&str, FloorUnit)] = &[
    ("total_time", FloorUnit::Time),
    ("setup_time", FloorUnit::Time),
    ("destination_prepare_time", FloorUnit::Time),
    ("downtime", FloorUnit::Time),
    ("blackout", FloorUnit::Time),
    ("traffic", FloorUnit::Size),
    ("amplification", FloorUnit::Number),
    ("encode_time", FloorUnit::Time),
    ("decode_time", FloorUnit::Time),
    ("harvest_time", FloorUnit::Time),
    ("cpu_source", FloorUnit::Time),
    ("cpu_destination", FloorUnit::Time),
    ("memory_source", FloorUnit::Size),
    ("memory_destination", FloorUnit::Size),
    ("throughput_steady", FloorUnit::Number),
    ("throughput_precopy", FloorUnit::Number),
    ("throughput_after", FloorUnit::Number),
];

/// A gated metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// Its name.
    pub metric: String,
    /// The change, of the mean over cells or of one cell, below which nothing counts, in the unit of the metric.
    pub floor: f64,
    /// A regular expression over ids of cells; all cells without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<String>,
}

impl Gate {
    pub(crate) fn read(node: &PlacedValue) -> Result<(Place, Self), SuiteError> {
        const TABLE: &str = "[[gate]]";
        let fields = node.table("gate", "a table, written [[gate]]")?;
        let names = GATE_KEYS.iter().map(|(name, _)| *name);
        for field in fields {
            if !names.clone().any(|name| name == field.key) {
                let nearest = nearest(&field.key, names.clone());
                let problem =
                    Problem::UnknownKey { key: field.key.clone(), table: TABLE.to_owned(), nearest };
                return Err(SuiteError::new(&field.place, problem));
            }
        }
        let get = |name: &str| fields.iter().find(|field| field.key == name).map(|field| &field.node);
        let required = |key: &'static str, about| {
            let problem = Problem::MissingKey { key, table: TABLE.to_owned(), about };
            get(key).ok_or_else(|| SuiteError::new(&node.place, problem))
        };
        let metric =
            Reader { key: "metric", node: required("metric", "the name of a metric, such as total_time")? }
                .word(&METRICS.iter().map(|(name, unit)| (*name, (*name, *unit))).collect::<Vec<_>>())?;
        let floor =
            Reader { key: "floor", node: required("floor", "the change below which nothing counts")? };
        let floor = match metric.1 {
            FloorUnit::Time => floor.time_or_zero().map(|Seconds(seconds)| seconds)?,
            #[expect(
                clippy::cast_precision_loss,
                reason = "nobody tells floors of petabytes apart by the byte"
            )]
            FloorUnit::Size => floor.size().map(|Bytes(bytes)| bytes as f64)?,
            FloorUnit::Number => number(&floor)?,
        };
        let cells = get("cells").map(|node| regex(node).map(str::to_owned)).transpose()?;
        Ok((node.place.clone(), Self { metric: metric.0.to_owned(), floor, cells }))
    }

    /// Whether it looks at a cell of that id. A side's word at the end of an id under `migbench ab` does not count.
    #[must_use]
    pub fn covers(&self, id: &str) -> bool {
        let id = [Side::Base, Side::New]
            .iter()
            .find_map(|side| id.strip_suffix(side.word())?.strip_suffix('/'))
            .unwrap_or(id);
        // It was a regular expression when the suite was read.
        self.cells.as_ref().is_none_or(|cells| Regex::new(cells).is_ok_and(|regex| regex.is_match(id)))
    }

    /// Whether it looks at this cell: one that migrates a guest, with such an id.
    #[must_use]
    pub fn judges(&self, planned: &PlannedCell) -> bool {
        planned.cell.engine.migrates() && self.covers(&planned.id)
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.metric)?;
        self.cells.as_ref().map_or(Ok(()), |cells| write!(f, " of {cells}"))
    }
}

fn number(reader: &Reader<'_>) -> Result<f64, SuiteError> {
    let number = match reader.node.data {
        #[expect(clippy::cast_precision_loss, reason = "a floor")]
        Data::Integer(number) => number as f64,
        Data::Float(number) => number,
        _ => {
            return Err(reader
                .node
                .wrong_type("floor", "a number, since this metric has no unit that is written"));
        }
    };
    if number >= 0.0 { Ok(number) } else { Err(reader.out_of_range(number, "a floor is not negative")) }
}

fn regex(node: &PlacedValue) -> Result<&str, SuiteError> {
    let text = node.text("cells", "a regular expression over ids of cells, as text")?;
    Regex::new(text).map(|_| text).map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        SuiteError::new(&node.place, Problem::Regex(last.to_owned()))
    })
}

/// All gates of a suite.
pub(crate) fn read(list: &[PlacedValue]) -> Result<Vec<(Place, Gate)>, SuiteError> {
    if let Some(node) = list.get(MOST) {
        let what = format!(
            "{} gates; a suite has at most {MOST}, since each further test weakens all the others",
            list.len()
        );
        return Err(SuiteError::new(&node.place, Problem::Contradiction { cell: String::new(), what }));
    }
    let mut gates: Vec<(Place, Gate)> = Vec::new();
    for node in list {
        let (place, gate) = Gate::read(node)?;
        if gates.iter().any(|(_, other)| other.metric == gate.metric && other.cells == gate.cells) {
            return Err(SuiteError::duplicate(&place, format!("a second gate for {gate}")));
        }
        gates.push((place, gate));
    }
    Ok(gates)
}

/// Refuses a gate that looks at no cell.
pub(crate) fn check(gates: &[(Place, Gate)], comparisons: &[Comparison]) -> Result<(), SuiteError> {
    let cells = || comparisons.iter().flat_map(|comparison| &comparison.cells);
    match gates.iter().find(|(_, gate)| !cells().any(|cell| gate.judges(cell))) {
        None => Ok(()),
        Some((place, gate)) => {
            let what = format!("the gate for {gate} looks at no cell that migrates a guest");
            Err(SuiteError::no_match(place, what))
        }
    }
}

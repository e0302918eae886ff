//! Parameters of cells as a flat list of names and readable values, split into what all cells share and what
//! tells them apart.

use std::collections::BTreeMap;

use migbench_scenarios::cell::Cell;
use serde::Serialize;
use serde_json::Value;

use crate::manifest::{CanaryMedians, Host, ManifestComparison, MergedPart};
use crate::metric::Unit;
use crate::quantity;

/// Parameters by path, such as `link.rate`, in alphabetical order.
pub type Flat = BTreeMap<String, String>;

/// All parameters of a cell.
#[must_use]
pub fn flat(cell: &Cell) -> Flat {
    leaves(cell, ".").map(|(path, value)| (path.clone(), show(&path, &value))).collect()
}

/// The same for programs: numbers in base units as they stand in records, texts without quotes, and nothing where null stands.
#[must_use]
pub fn raw(cell: &Cell) -> Flat {
    let bare = |value: Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    leaves(cell, ".").map(|(path, value)| (path, bare(value))).collect()
}

/// Parameters that are numbers, in base units.
pub(crate) fn numbers(cell: &Cell) -> impl Iterator<Item = (String, f64)> {
    leaves(cell, ".").filter_map(|(path, value)| Some((path, value.as_f64()?)))
}

/// What is no object, by path.
fn leaves(whole: &impl Serialize, separator: &str) -> impl Iterator<Item = (String, Value)> {
    let (mut leaves, mut rest) =
        (Vec::new(), vec![(String::new(), serde_json::to_value(whole).unwrap_or_default())]);
    while let Some((path, value)) = rest.pop() {
        match value {
            Value::Object(fields) => rest.extend(fields.into_iter().map(|(name, value)| {
                (if path.is_empty() { name } else { format!("{path}{separator}{name}") }, value)
            })),
            value => leaves.push((path, value)),
        }
    }
    leaves.into_iter()
}

/// A parameter for people: sizes, rates and times with their unit, and null as what it means.
#[must_use]
pub fn show(path: &str, value: &Value) -> String {
    match (path, value) {
        (
            "memory"
            | "settings.working_set"
            | "tracker_settings.clear_chunk"
            | "tracker_settings.fault_block",
            Value::Number(number),
        ) => number.as_u64().map_or_else(|| number.to_string(), quantity::size),
        ("link.rate" | "throttle_settings.dirty_rate", Value::Number(number)) => {
            number.as_u64().map_or_else(|| number.to_string(), quantity::rate)
        }
        ("link.rate", Value::Null) => "unlimited".to_owned(),
        (
            "stop.downtime_limit" | "stop.max_time" | "stop.ceiling" | "throttle_settings.slice",
            Value::Number(number),
        ) => seconds(number),
        (path, Value::Number(number)) if path.starts_with("windows.") => seconds(number),
        (_, Value::Bool(on)) => if *on { "yes" } else { "no" }.to_owned(),
        (_, Value::Null) => "none".to_owned(),
        (_, Value::String(word)) => word.clone(),
        (_, value) => value.to_string(),
    }
}

fn seconds(number: &serde_json::Number) -> String {
    number.as_f64().map_or_else(|| number.to_string(), quantity::time)
}

/// What all cells share.
#[must_use]
pub fn shared<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Flat {
    let mut cells = cells.into_iter();
    let mut shared = cells.next().map(flat).unwrap_or_default();
    for other in cells.map(flat) {
        shared.retain(|path, value| other.get(path) == Some(value));
    }
    shared
}

/// What a comparison does not share with `everywhere`, and what its cells differ in, each with its id.
#[must_use]
pub fn own<'a>(plan: &'a ManifestComparison, everywhere: &Flat) -> (Flat, Vec<(&'a str, Flat)>) {
    let mut shared = shared(plan.cells.iter().map(|planned| &planned.cell));
    let cells = plan.cells.iter().map(|planned| {
        let mut own = flat(&planned.cell);
        own.retain(|path, _| !shared.contains_key(path));
        (planned.id.as_str(), own)
    });
    let cells = cells.collect();
    shared.retain(|path, _| !everywhere.contains_key(path));
    (shared, cells)
}

/// All that is known of a host, by name.
#[must_use]
pub fn host(host: &Host) -> Flat {
    let text = |name: &str, value: &Value| match (name, value.as_u64()) {
        ("memory_free", Some(bytes)) => quantity::size(bytes),
        _ => show(name, value),
    };
    leaves(host, ": ").map(|(name, value)| (name.clone(), text(&name, &value))).collect()
}

/// What a table of parts is of, where a report was merged.
pub const PARTS: &str = "The table above has what is true of all hosts. The parts of the plan:";
/// What [`part`] gives.
pub const PART: [&str; 6] = ["slice", "host", "records", "canary copies", "canary sends", "started"];

/// Which machine brought what.
#[must_use]
pub fn part(part: &MergedPart) -> [String; 6] {
    let reached = |of: fn(&CanaryMedians) -> f64| {
        let speed = |canary| quantity::show(Unit::BytesPerSecond, of(canary));
        part.canary.as_ref().map_or_else(|| "-".to_owned(), speed)
    };
    [
        part.slice.slice.to_string(),
        part.host.hostname.clone().unwrap_or_else(|| "unknown".to_owned()),
        part.records.to_string(),
        reached(|canary| canary.copy),
        reached(|canary| canary.socket),
        part.started.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::cell;

    #[test]
    fn values_have_units() {
        let flat = flat(&cell("write-heavy", "delta"));
        let of = |path: &str| flat[path].as_str();
        assert_eq!([of("memory"), of("link.rate"), of("stop.max_time")], ["128 MiB", "1 Gbit/s", "300 s"]);
        assert_eq!([of("prefault"), of("pinning"), of("settings.load.pressure")], ["yes", "none", "0.7"]);
    }

    #[test]
    fn shared_is_what_no_cell_has_differently() {
        let cells = [cell("write-heavy", "full"), cell("write-heavy", "delta")];
        let shared = shared(&cells);
        assert!(shared.contains_key("memory"));
        assert!(!["engine", "codec", "cache"].iter().any(|path| shared.contains_key(*path)));
        assert_eq!(flat(&cells[0]).len() - shared.len(), 3);
    }
}

//! The JSON schema of suites, made from the table of keys, for editors and for programs that write suites. It knows
//! names, kinds and words; what excludes what only the reader of suites knows.

use serde_json::{Map, Value, json};

use crate::cell::{
    Backing, Checksum, Codec, Engine, Estimate, Proof, Rule, Throttle, Tracker, Transport, Wait,
};
use crate::comparison::COMPARISON_KEYS;
use crate::gate::{GATE_KEYS, METRICS, MOST};
use crate::key::{KEYS, Key};
use crate::qemu::{QemuAccel, QemuMode};
use crate::suite::{SUITE_KEYS, WORKLOAD_KEYS};
use migbench_workloads::settings::{Content, ProgramName, Sharing};

/// The schema of a suite file, as JSON of what its TOML says.
#[must_use]
pub fn suite() -> Value {
    let about = |keys: &[(&str, &str)], name: &str| {
        keys.iter().find(|(key, _)| *key == name).map_or("", |(_, about)| *about).to_owned()
    };
    let text = |about: String| json!({ "type": "string", "description": about });
    let count = |about: String| json!({ "type": "integer", "minimum": 0, "description": about });
    let suite = |name: &str| about(SUITE_KEYS, name);
    let one = |key: &Key| value(key);
    let list = |key: &Key| json!({ "type": "array", "items": value(key), "description": key.about });
    let cell = json!({ "$ref": "#/$defs/cell" });
    let cells = |about: String| json!({ "type": "array", "items": cell, "description": about });

    let mut comparison = nested("", &one);
    let mut own_workload = nested("settings.", &one);
    for (name, about) in WORKLOAD_KEYS {
        own_workload.insert((*name).to_owned(), text((*about).to_owned()));
    }
    for (name, about) in COMPARISON_KEYS {
        let about = (*about).to_owned();
        let schema = match *name {
            "axes" => table(nested("", &list)),
            "include" | "exclude" => cells(about),
            // A value of whatever is compared.
            "baseline" => json!({ "type": ["string", "number", "boolean"], "description": about }),
            "optional" => json!({ "anyOf": [{ "type": "boolean" }, cells(about)] }),
            _ => text(about),
        };
        comparison.insert((*name).to_owned(), schema);
    }
    let gate = |name: &str| about(GATE_KEYS, name);
    let metrics: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
    let mut gates = Map::new();
    gates.insert("metric".to_owned(), json!({ "enum": metrics, "description": gate("metric") }));
    let floor = json!({ "anyOf": [{ "type": "string" }, { "type": "number", "minimum": 0 }], "description": gate("floor") });
    gates.insert("floor".to_owned(), floor);
    gates.insert("cells".to_owned(), text(gate("cells")));
    let mut gates = table(gates);
    gates["required"] = json!(["metric", "floor"]);
    let mut own_workload = table(own_workload);
    own_workload["required"] = json!(["base"]);
    let properties = json!({
        "name": text(suite("name")),
        "description": text(suite("description")),
        "analysis": text(suite("analysis")),
        "repetitions": count(suite("repetitions")),
        "seed": count(suite("seed")),
        "time_budget": text(suite("time_budget")),
        "defaults": cell,
        "workload": { "type": "object", "additionalProperties": own_workload },
        "comparison": { "type": "array", "items": table(comparison), "minItems": 1 },
        "gate": { "type": "array", "items": gates, "maxItems": MOST, "description": suite("gate") },
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A suite of migbench",
        "type": "object",
        "properties": properties,
        "required": ["name", "description", "comparison"],
        "additionalProperties": false,
        "$defs": { "cell": table(nested("", &one)) },
    })
}

fn table(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// Keys that begin with `prefix`, as tables within tables; `leaf` makes the schema of a key.
fn nested(prefix: &str, leaf: &dyn Fn(&Key) -> Value) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in KEYS {
        let Some(rest) = key.name.strip_prefix(prefix) else { continue };
        let (first, inner) = rest.split_once('.').map_or((rest, None), |(first, inner)| (first, Some(inner)));
        let schema = match inner {
            None if is_group(prefix, first) => {
                let group = table(nested(&format!("{prefix}{first}."), leaf));
                json!({ "anyOf": [leaf(key), group] })
            }
            None => leaf(key),
            Some(_) if properties.contains_key(first) => continue,
            Some(_) => table(nested(&format!("{prefix}{first}."), leaf)),
        };
        properties.insert(first.to_owned(), schema);
    }
    properties
}

fn is_group(prefix: &str, name: &str) -> bool {
    let group = format!("{prefix}{name}.");
    KEYS.iter().any(|key| key.name.starts_with(&group))
}

/// What a key takes.
fn value(key: &Key) -> Value {
    const NUMBER: &str = r"^[0-9]+(\.[0-9]+)? ?";
    let mut schema = match key.kind {
        "boolean" => json!({ "type": "boolean" }),
        "whole number" => json!({ "type": "integer", "minimum": 0 }),
        "share" => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        "size" => json!({ "type": "string", "pattern": format!("{NUMBER}([KMGT]i)?B$|{NUMBER}[kMG]B$") }),
        "rate" => json!({
            "type": "string",
            "pattern": format!("^unlimited$|{NUMBER}[kMG]?bit/s$|{NUMBER}([kMG]|[KMG]i)?B/s$"),
        }),
        "time" => json!({ "type": "string", "pattern": format!("{NUMBER}(ns|us|ms|s|min|h)$") }),
        "CPUs" => json!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "integer", "minimum": 0 } }],
        }),
        _ => match words(key.name) {
            Some(words) => json!({ "enum": words }),
            None => json!({ "type": "string" }),
        },
    };
    schema["description"] = json!(format!("{}; default {}", key.about, key.default));
    schema
}

/// The words that a key takes, where they are a closed list.
fn words(name: &str) -> Option<Vec<&'static str>> {
    fn of<T>(all: &[(&'static str, T)]) -> Option<Vec<&'static str>> {
        Some(all.iter().map(|(word, _)| *word).collect())
    }
    match name {
        "engine" => of(Engine::ALL),
        "codec" => of(Codec::ALL),
        "qemu.mode" => of(QemuMode::ALL),
        "qemu.accel" => of(QemuAccel::ALL),
        "tracker" => of(Tracker::ALL),
        "link.transport" => of(Transport::ALL),
        "link.checksum" => of(Checksum::ALL),
        "wait" => of(Wait::ALL),
        "backing" => of(Backing::ALL),
        "stop.estimate" => of(Estimate::ALL),
        "stop.rule" => of(Rule::ALL),
        "throttle" => of(Throttle::ALL),
        "proof" => of(Proof::ALL),
        "pinning" => Some(vec!["none"]),
        "settings.program" => of(ProgramName::ALL),
        "settings.sharing" => of(Sharing::ALL),
        "settings.content" => of(Content::ALL),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::shipped::SHIPPED;

    pub(crate) fn json_of(text: &str) -> Value {
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        from_table(document.as_table())
    }

    fn from_table(table: &dyn toml_edit::TableLike) -> Value {
        Value::Object(table.iter().map(|(key, item)| (key.to_owned(), from_item(item))).collect())
    }

    fn from_item(item: &toml_edit::Item) -> Value {
        match item {
            toml_edit::Item::Table(table) => from_table(table),
            toml_edit::Item::ArrayOfTables(tables) => {
                Value::Array(tables.iter().map(|table| from_table(table)).collect())
            }
            toml_edit::Item::Value(value) => from_value(value),
            toml_edit::Item::None => Value::Null,
        }
    }

    fn from_value(value: &toml_edit::Value) -> Value {
        match value {
            toml_edit::Value::String(text) => json!(text.value()),
            toml_edit::Value::Integer(number) => json!(number.value()),
            toml_edit::Value::Float(number) => json!(number.value()),
            toml_edit::Value::Boolean(truth) => json!(truth.value()),
            toml_edit::Value::Datetime(date) => json!(date.to_string()),
            toml_edit::Value::Array(array) => Value::Array(array.iter().map(from_value).collect()),
            toml_edit::Value::InlineTable(table) => from_table(table),
        }
    }

    #[test]
    fn the_checked_in_schema_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suite.schema.json");
        let generated = serde_json::to_string_pretty(&suite()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, generated).unwrap();
        } else {
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                kept, generated,
                "run the tests once with UPDATE_SCHEMA=1 and commit suite.schema.json"
            );
        }
    }

    #[test]
    fn shipped_suites_and_the_examples_of_the_format_have_its_shape() {
        let validator = jsonschema::validator_for(&suite()).unwrap();
        for (name, text) in SHIPPED {
            let value = json_of(text);
            if let Err(error) = validator.validate(&value) {
                panic!("{name}: {error} at {}", error.instance_path());
            }
        }
    }

    #[test]
    fn mistakes_have_not() {
        let validator = jsonschema::validator_for(&suite()).unwrap();
        let good = "name = \"a\"\ndescription = \"b\"\n[[comparison]]\nworkload = \"idle\"\naxes.engine = [\"full\"]\n";
        assert!(validator.is_valid(&json_of(good)));
        for bad in [
            good.replace("name", "nam"),
            good.replace("[\"full\"]", "[\"fulll\"]"),
            good.replace("[\"full\"]", "\"full\""),
            format!("{good}memory = 5\n"),
            format!("{good}link.rate = \"1G\"\n"),
            format!("{good}settings.reads = 1.5\n"),
            format!("{good}stop.max_rouns = 5\n"),
        ] {
            assert!(!validator.is_valid(&json_of(&bad)), "{bad}");
        }
    }

    /// A word is in the schema exactly when a suite may say it.
    #[test]
    fn words_are_those_that_keys_take() {
        for key in KEYS.iter().filter(|key| key.kind.starts_with("word") && key.name != "workload") {
            let words = words(key.name).unwrap_or_else(|| panic!("{} has no words here", key.name));
            for word in words {
                let mut draft = crate::Draft::new();
                draft.set(&crate::Assignment::flag("--set", key.name, word)).unwrap();
            }
        }
    }
}

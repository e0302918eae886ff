//! The JSON schemas of both files of a run directory, of plan files and of reports in JSON, generated from the types and
//! checked in under `schema/` for those who read records without this crate.

use migbench_scenarios::frozen::FrozenPlan;

use crate::manifest::Manifest;
use crate::record::Record;
use crate::render::json::Document;

/// The schema of one line of `runs.jsonl`.
#[must_use]
pub fn record() -> serde_json::Value {
    schemars::schema_for!(Record).to_value()
}

/// The schema of `manifest.json`.
#[must_use]
pub fn manifest() -> serde_json::Value {
    schemars::schema_for!(Manifest).to_value()
}

/// The schema of a plan file.
#[must_use]
pub fn plan() -> serde_json::Value {
    schemars::schema_for!(FrozenPlan).to_value()
}

/// The schema of what `migbench report --format json` writes.
#[must_use]
pub fn report() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::sample;

    fn drift(name: &str, schema: &Value) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(name);
        let generated = serde_json::to_string_pretty(schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, generated).unwrap();
        } else {
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(kept, generated, "run the tests once with UPDATE_SCHEMA=1 and commit {name}");
        }
    }

    #[test]
    fn the_checked_in_schemas_are_current() {
        drift("record.schema.json", &record());
        drift("manifest.schema.json", &manifest());
        drift("plan.schema.json", &plan());
        drift("report.schema.json", &report());
    }

    fn validate_record(value: &Value) -> Result<(), String> {
        let schema = jsonschema::validator_for(&record()).unwrap();
        schema.validate(value).map_err(|error| error.to_string())
    }

    #[test]
    fn sample_records_validate() {
        let failed = sample::Sample::new("write-heavy", "full").failed("precopy", "the link closed").build();
        for record in sample::records().iter().chain([&failed]) {
            validate_record(&serde_json::to_value(record).unwrap()).unwrap();
        }
        let schema = jsonschema::validator_for(&manifest()).unwrap();
        assert!(schema.is_valid(&serde_json::to_value(sample::manifest()).unwrap()));
    }

    #[test]
    fn other_shapes_do_not_validate() {
        let good = serde_json::to_value(sample::Sample::new("write-heavy", "full").build()).unwrap();
        for (pointer, bad) in
            [("/status", json!("fine")), ("/metrics/traffic", json!(3)), ("/cell/engine", json!("warp"))]
        {
            let mut value = good.clone();
            *value.pointer_mut(pointer).unwrap() = bad;
            assert!(validate_record(&value).is_err(), "{pointer}");
        }
    }
}

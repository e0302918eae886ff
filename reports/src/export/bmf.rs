//! Bencher Metric Format: benchmark, then measure, then `value` with `lower_value` and `upper_value`
//! (<https://bencher.dev/docs/reference/bencher-metric-format/>). A benchmark is a cell, a measure a metric.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ExportError, Format, Source};

pub(super) fn text(source: &Source<'_>) -> Result<String, ExportError> {
    let mut all: BTreeMap<String, BTreeMap<&str, Value>> = BTreeMap::new();
    for figure in &source.figures {
        let mut metric = json!({ "value": figure.summary.median });
        if let Some((low, high)) = figure.ends() {
            metric["lower_value"] = json!(low);
            metric["upper_value"] = json!(high);
        }
        let benchmark = format!("{}/{}/{}", source.manifest.suite, figure.comparison, figure.cell);
        all.entry(benchmark).or_default().insert(figure.key.name(), metric);
    }
    serde_json::to_string_pretty(&all)
        .map_err(|error| ExportError::Format { format: Format::Bmf, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// The format's published schema.
    #[test]
    fn bencher_can_read_it() {
        let number = json!({ "type": "number" });
        let schema = json!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": "object",
                    "required": ["value"],
                    "properties": { "value": number, "lower_value": number, "upper_value": number },
                    "additionalProperties": false,
                },
            },
        });
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        let text = text(&Source::new(&manifest, &records)).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        jsonschema::validate(&schema, &value).unwrap();
        for measures in value.as_object().unwrap().values() {
            let total = &measures["total_time"];
            let [value, low, high] =
                ["value", "lower_value", "upper_value"].map(|name| total[name].as_f64().unwrap());
            assert!(low <= value && value <= high);
        }
    }
}

//! Bencher Metric Format: benchmark, then measure, then `value` with `lower_value` and `upper_value`
//! (<https://bencher.dev/docs/reference/bencher-metric-format/>). A benchmark is a cell, a measure a metric or how many runs are
//! none; or it is a gate, whose measure is its status. The format holds numbers alone: no commit, no side but in the name of
//! a cell, and of a verdict no word.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{GATE_STATUS, Source};

pub(super) fn text(source: &Source<'_>) -> String {
    let mut all: BTreeMap<String, BTreeMap<&str, Value>> = BTreeMap::new();
    let suite = &source.manifest.suite;
    for figure in &source.figures {
        let mut metric = json!({ "value": figure.summary.median });
        if let Some((low, high)) = figure.ends() {
            metric["lower_value"] = json!(low);
            metric["upper_value"] = json!(high);
        }
        let benchmark = format!("{suite}/{}/{}", figure.subject.comparison, figure.subject.cell);
        all.entry(benchmark).or_default().insert(figure.key.name(), metric);
    }
    for lost in &source.lost {
        let benchmark = format!("{suite}/{}/{}", lost.subject.comparison, lost.subject.cell);
        let measures = all.entry(benchmark).or_default();
        measures.extend(lost.counts().map(|(name, runs)| (name, json!({ "value": runs }))));
    }
    for (result, verdict) in source.gates() {
        let measures = all.entry(format!("{suite}/gates/{}", result.gate)).or_default();
        measures.insert(GATE_STATUS, json!({ "value": verdict.status() }));
    }
    super::pretty(&json!(all))
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
        let text = text(&Source::new(&manifest, &records, None));
        let value: Value = serde_json::from_str(&text).unwrap();
        jsonschema::validate(&schema, &value).unwrap();
        let capped =
            value.as_object().unwrap().values().map(|measures| measures["runs_capped"]["value"].as_u64());
        assert_eq!(capped.map(Option::unwrap).sum::<u64>(), 1, "a cell without figures is there too");
        for measures in value.as_object().unwrap().values() {
            let total = &measures["total_time"];
            if total.is_null() {
                continue;
            }
            let [value, low, high] =
                ["value", "lower_value", "upper_value"].map(|name| total[name].as_f64().unwrap());
            assert!(low <= value && value <= high);
        }
    }
}

//! For the GitHub action `benchmark-action/github-action-benchmark`: its tools `customSmallerIsBetter` and
//! `customBiggerIsBetter` each read one JSON array of objects with `name`, `unit`, `value`, and as text `range` and `extra`.
//! Metrics that are neither good nor bad are left out. How many runs are no samples and the status of each gate stand among what
//! is better when it is smaller, with the verdict's words as `extra`; commit and side have no place but in names.

use serde_json::{Value, json};

use super::{Figure, GATE_STATUS, Source};
use crate::metric::Better;

pub(super) fn files(source: &Source<'_>) -> [(&'static str, String); 2] {
    let of = |better: Better| {
        let figures = source.figures.iter().filter(|figure| figure.better() == better);
        let mut array: Vec<Value> = figures.map(|figure| entry(source, figure)).collect();
        if better == Better::Smaller {
            array.extend(counted(source));
        }
        super::pretty(&Value::Array(array))
    };
    [("smaller-is-better.json", of(Better::Smaller)), ("bigger-is-better.json", of(Better::Larger))]
}

/// What is no metric.
fn counted(source: &Source<'_>) -> Vec<Value> {
    let suite = &source.manifest.suite;
    let mut all = Vec::new();
    for lost in &source.lost {
        all.extend(lost.counts().map(|(name, runs)| {
            let extra = format!("of {} planned runs", lost.planned);
            json!({ "name": lost.subject.name(suite, name), "unit": "runs", "value": runs, "extra": extra })
        }));
    }
    all.extend(source.gates().map(|(result, verdict)| {
        let name = format!("{suite}/gates/{}/{GATE_STATUS}", result.gate);
        json!({ "name": name, "unit": "exit status", "value": verdict.status(), "extra": verdict.word() })
    }));
    all
}

fn entry(source: &Source<'_>, figure: &Figure<'_>) -> Value {
    let mut entry = json!({
        "name": figure.subject.name(&source.manifest.suite, figure.key.name()),
        "unit": figure.key.definition().unit.symbol(),
        "value": figure.summary.median,
        "extra": format!("median of {} runs", figure.summary.samples),
    });
    if let Some((low, high)) = figure.ends() {
        entry["range"] = json!(format!("{low} to {high}"));
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// What the action's `extract.ts` requires of a custom benchmark.
    #[test]
    fn the_action_can_read_it() {
        let schema = json!({
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "unit", "value"],
                "properties": {
                    "name": { "type": "string", "minLength": 1 },
                    "unit": { "type": "string", "minLength": 1 },
                    "value": { "type": "number" },
                    "range": { "type": "string" },
                    "extra": { "type": "string" },
                },
                "additionalProperties": false,
            },
        });
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        for (name, text) in files(&Source::new(&manifest, &records, None)) {
            let value: Value = serde_json::from_str(&text).unwrap();
            jsonschema::validate(&schema, &value).unwrap_or_else(|error| panic!("{name}: {error}"));
            let names: std::collections::BTreeSet<_> =
                value.as_array().unwrap().iter().map(|entry| entry["name"].to_string()).collect();
            assert_eq!(names.len(), value.as_array().unwrap().len(), "the action takes a name for a series");
        }
    }

    #[test]
    fn throughput_is_better_when_it_is_bigger() {
        let (manifest, records) = (sample::manifest(), super::super::tests::records());
        let files = files(&Source::new(&manifest, &records, None));
        assert!(files[0].1.contains("/total_time\"") && !files[0].1.contains("/throughput_steady\""));
        assert!(files[1].1.contains("/throughput_steady\"") && !files[1].1.contains("/total_time\""));
    }
}

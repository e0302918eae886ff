//! The JSON schema of claims, made from the tables of keys, for editors and for programs that write claims.

use serde_json::{Map, Value, json};

use super::{CLAIM_KEYS, CLAIMS_KEYS, REFERENCE_KEYS, SENSITIVITY_KEYS, TableKey, UNKNOWN_KEYS};

/// The schema of a file of claims, as JSON of what its TOML says.
#[must_use]
pub fn claims() -> Value {
    let mut schema = table(CLAIMS_KEYS, |name| match name {
        "reference" => Some(table(REFERENCE_KEYS, |_| None)),
        "sensitivity" => Some(table(SENSITIVITY_KEYS, |_| None)),
        "unknown" => Some(list(table(UNKNOWN_KEYS, |name| {
            (name == "keys").then(|| json!({ "type": "array", "items": { "type": "string" } }))
        }))),
        "claim" => Some(list(table(CLAIM_KEYS, |name| match name {
            "kind" => Some(json!({ "enum": ["reduction", "value", "convergence"] })),
            "capped" => Some(json!({ "type": "boolean" })),
            "command" => Some(json!({ "type": "string", "pattern": "^migbench run " })),
            _ => None,
        }))),
        _ => None,
    });
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Claims of a publication, for migbench reproduce");
    schema
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1 })
}

/// Of a table of keys: text, but for what `other` knows.
fn table(keys: &[TableKey], other: impl Fn(&str) -> Option<Value>) -> Value {
    let mut properties = Map::new();
    for (name, _, about) in keys {
        let mut schema = other(name).unwrap_or_else(|| json!({ "type": "string" }));
        schema["description"] = json!(about);
        properties.insert((*name).to_owned(), schema);
    }
    let required: Vec<_> = keys.iter().filter(|(_, required, _)| *required).map(|(name, ..)| name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::PAPERS;
    use super::*;
    use crate::schema::tests::json_of;

    #[test]
    fn the_checked_in_schema_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("papers/claims.schema.json");
        let generated = serde_json::to_string_pretty(&claims()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, generated).unwrap();
        } else {
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                kept, generated,
                "run the tests once with UPDATE_SCHEMA=1 and commit claims.schema.json"
            );
        }
    }

    #[test]
    fn shipped_claims_have_its_shape_and_mistakes_have_not() {
        let validator = jsonschema::validator_for(&claims()).unwrap();
        for (name, text) in PAPERS {
            if let Err(error) = validator.validate(&json_of(text)) {
                panic!("{name}: {error} at {}", error.instance_path());
            }
        }
        let text = PAPERS[0].1;
        for (right, wrong) in [
            ("[reference]", "[refrence]"),
            ("kind = \"reduction\"", "kind = \"less\""),
            ("where = ", "wher = "),
            ("command = \"migbench run", "command = \"bash -c"),
        ] {
            assert!(!validator.is_valid(&json_of(&text.replacen(right, wrong, 1))), "{wrong}");
        }
    }
}

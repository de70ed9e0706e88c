//! A JSON Schema of the reference, and what a value has against it.

use jsonschema::Validator;
use serde_json::Value;

pub struct JsonSchema(Validator);

impl JsonSchema {
    /// Panics when the text is no JSON Schema.
    pub fn new(text: &str) -> Self {
        let schema = serde_json::from_str(text).unwrap();
        Self(jsonschema::validator_for(&schema).unwrap())
    }

    /// What is wrong with a value, each with its place; empty when nothing is.
    pub fn violations(&self, value: &Value) -> Vec<String> {
        let errors = self.0.iter_errors(value);
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }
}

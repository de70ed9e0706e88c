//! Audit lines become what their JSON Schema in the reference has against them. Of JSON Schema only what that file uses is understood.

use serde_json::{Map, Value};

/// The audit lines of one event in a log, such as `oidc.callback.success`.
pub fn lines(log: &str, event: &str) -> Vec<Value> {
    let name = format!("devplane.audit.{event}");
    json_lines(log)
        .filter(|line| line["devplane.event"] == name.as_str())
        .collect()
}

fn json_lines(log: &str) -> impl Iterator<Item = Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// Every audit line of a log must be one.
pub fn check(log: &str) {
    for line in json_lines(log).filter(|line: &Value| line["target"] == "devplane_audit") {
        let violations = violations(line.as_object().unwrap());
        assert_eq!(violations, Vec::<String>::new(), "{line}");
    }
}

/// What is wrong with a line; empty when nothing is.
fn violations(line: &Map<String, Value>) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("../../docs/reference/audit.schema.json")).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let required = schema["required"].as_array().unwrap().iter();
    let missing = required.filter_map(|key| key.as_str().filter(|key| !line.contains_key(*key)));
    let mut wrong: Vec<String> = missing.map(|key| format!("{key} is missing")).collect();
    for (key, value) in line {
        let Some(property) = properties.get(key) else {
            wrong.push(format!("{key} is not in the schema"));
            continue;
        };
        assert_eq!(property["type"], "string", "every property is a string");
        let allowed = property.get("enum").and_then(Value::as_array);
        if !value.is_string() || allowed.is_some_and(|allowed| !allowed.contains(value)) {
            wrong.push(format!("{key} is {value}"));
        }
    }
    wrong
}

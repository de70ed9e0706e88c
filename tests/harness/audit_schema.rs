//! Audit lines of a log, each as its JSON Schema in the reference says.

#[path = "json_schema.rs"]
mod json_schema;

use json_schema::JsonSchema;
use serde_json::Value;
use std::sync::LazyLock;

const TEXT: &str = include_str!("../../docs/reference/audit.schema.json");
static SCHEMA: LazyLock<JsonSchema> = LazyLock::new(|| JsonSchema::new(TEXT));

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
        assert_eq!(SCHEMA.violations(&line), Vec::<String>::new(), "{line}");
    }
}

#[test]
fn a_line_without_what_its_event_must_have_is_refused() {
    let mut line = serde_json::json!({
        "timestamp": "2026-01-02T03:04:05Z",
        "level": "INFO",
        "target": "devplane_audit",
        "devplane.audit.schema_version": "1",
        "devplane.component": "gateway",
        "devplane.event": "devplane.audit.ws.session.end",
        "outcome": "success",
        "devplane.request_id": "r",
        "actor.subject": "s",
        "userId": "u",
        "namespace": "n",
        "workspace": "w",
        "reason": "client_closed",
    });
    assert_eq!(SCHEMA.violations(&line), Vec::<String>::new());
    for key in ["workspace", "reason", "outcome"] {
        let mut less = line.clone();
        less.as_object_mut().unwrap().remove(key);
        assert!(
            SCHEMA.violations(&less).iter().any(|wrong| wrong.contains(key)),
            "{key}"
        );
    }
    let mut more = line.clone();
    more["token"] = "t".into();
    assert!(SCHEMA.violations(&more).iter().any(|wrong| wrong.contains("token")));
    line["devplane.component"] = "workspace-controller".into();
    assert_eq!(SCHEMA.violations(&line).len(), 1);
}

#[test]
fn each_event_has_a_rule_of_its_own() {
    let schema: Value = serde_json::from_str(TEXT).unwrap();
    let rules = schema["allOf"].as_array().unwrap().iter();
    let of_rules: Vec<_> = rules
        .map(|rule| rule["if"]["properties"]["devplane.event"]["const"].clone())
        .collect();
    assert_eq!(schema["properties"]["devplane.event"]["enum"], Value::from(of_rules));
}

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
    let wrong = |line: &Value| violations(line.as_object().unwrap());
    assert_eq!(wrong(&line), Vec::<String>::new());
    for key in ["workspace", "reason", "outcome"] {
        let mut less = line.clone();
        less.as_object_mut().unwrap().remove(key);
        assert!(wrong(&less).iter().any(|wrong| wrong.starts_with(key)), "{key}");
    }
    line["devplane.component"] = "workspace-controller".into();
    assert_eq!(wrong(&line).len(), 1);
}

/// What is wrong with a line; empty when nothing is.
fn violations(line: &Map<String, Value>) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("../../docs/reference/audit.schema.json")).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let required = schema["required"].as_array().unwrap().iter();
    let missing = required.filter_map(|key| key.as_str().filter(|key| !line.contains_key(*key)));
    let mut wrong: Vec<String> = missing.map(|key| format!("{key} is missing")).collect();
    // What one event must have besides.
    let of_event = schema["allOf"].as_array().unwrap();
    let events = properties["devplane.event"]["enum"].as_array().unwrap();
    let event_of = |rule: &Value| rule["if"]["properties"]["devplane.event"]["const"].clone();
    assert_eq!(
        &of_event.iter().map(event_of).collect::<Vec<_>>(),
        events,
        "a rule for each event"
    );
    if let Some(rule) = of_event
        .iter()
        .find(|rule| line.get("devplane.event") == Some(&event_of(rule)))
    {
        let required = rule["then"]["required"].as_array().unwrap().iter();
        let missing = required.filter_map(|key| key.as_str().filter(|key| !line.contains_key(*key)));
        wrong.extend(missing.map(|key| format!("{key} is missing in this event")));
        let component = &rule["then"]["properties"]["devplane.component"]["const"];
        if !component.is_null() && line.get("devplane.component") != Some(component) {
            wrong.push(format!("the component is not {component}"));
        }
    }
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

//! What `devplane doctor -o json` prints becomes a report that is as its published schema says.

#[path = "json_schema.rs"]
mod json_schema;

use json_schema::JsonSchema;
use serde_json::Value;
use std::sync::LazyLock;

static SCHEMA: LazyLock<JsonSchema> =
    LazyLock::new(|| JsonSchema::new(include_str!("../../docs/reference/doctor.schema.json")));

/// Panics when it is none.
pub fn read(printed: &[u8]) -> Value {
    let report = serde_json::from_slice(printed)
        .unwrap_or_else(|error| panic!("no report: {error}: {}", String::from_utf8_lossy(printed)));
    assert_eq!(SCHEMA.violations(&report), Vec::<String>::new(), "{report:#}");
    report
}

#[test]
fn a_report_that_is_none_is_refused() {
    let finding = serde_json::json!({
        "code": "DP0101", "title": "t", "group": "g", "severity": "error", "status": "failed", "seconds": 0.5,
        "failure": {"problem": "p", "found": "f", "expected": "e", "fix": {"kind": "words", "text": "w"}},
    });
    let summary = serde_json::json!({"ok": 0, "failed": 1, "warnings": 0, "skipped": 0});
    let report = serde_json::json!({"schemaVersion": 1, "version": "1", "findings": [finding], "summary": summary});
    assert_eq!(SCHEMA.violations(&report), Vec::<String>::new());
    for (place, value) in [
        ("/schemaVersion", serde_json::json!("1")),
        ("/findings/0/status", serde_json::json!("warned")),
        ("/findings/0/failure/fix", serde_json::json!({"kind": "words"})),
        ("/summary", serde_json::json!({"ok": 0})),
    ] {
        let mut wrong = report.clone();
        *wrong.pointer_mut(place).unwrap() = value;
        assert!(!SCHEMA.violations(&wrong).is_empty(), "{place}");
    }
}

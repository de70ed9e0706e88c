//! The chart becomes its objects, as helm renders them.

use crate::apiserver::ApiServer;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What the chart makes of a set of values of its own tests, in a release's namespace of this test.
pub fn rendered(server: &ApiServer, values: &str, system: &str, workspaces: &str) -> Vec<Value> {
    rendered_with(server, values, system, workspaces, &[])
}

/// The same with other values, each as `key=value`.
pub fn rendered_with(server: &ApiServer, values: &str, system: &str, workspaces: &str, others: &[&str]) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(server.binary("helm"))
        .args(["template", "devplane"])
        .arg(root.join("chart/devplane"))
        .args(["-n", system, "--kube-version", "1.36.0", "--set"])
        .arg(format!("gateway.workspaceNamespace={workspaces}"))
        .arg("-f")
        .arg(root.join(format!("tests/chart/values/{values}.yaml")))
        .args(others.iter().flat_map(|other| ["--set", *other]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}

/// The documents of a YAML text that hold something.
pub fn documents(text: &str) -> Vec<Value> {
    let parts = text.split("\n---\n");
    let parsed = parts.map(|part| serde_saphyr::from_str::<Value>(part.trim_start_matches("---\n")).unwrap());
    parsed.filter(|document| !document.is_null()).collect()
}

/// Those of the given kinds, as a list for kubectl.
pub fn of_kinds(objects: &[Value], kinds: &[&str]) -> Value {
    let chosen = objects
        .iter()
        .filter(|object| kinds.iter().any(|kind| object["kind"] == *kind));
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": chosen.collect::<Vec<_>>()})
}

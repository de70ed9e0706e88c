//! Cilium's own definition of its policies, out of its Go module.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A CustomResourceDefinition in YAML.
pub fn definition() -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/cilium");
    let module = "github.com/cilium/cilium";
    let required = std::fs::read_to_string(directory.join("go.mod")).unwrap();
    let version = required
        .lines()
        .find_map(|line| line.strip_prefix(&format!("require {module} ")))
        .unwrap();
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .current_dir(&directory)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_str(&told).unwrap();
    let root = Path::new(told["Dir"].as_str().unwrap());
    std::fs::read_to_string(root.join("pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml")).unwrap()
}

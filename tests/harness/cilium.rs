//! Cilium's own definition of its policies, out of the Go module that `tests/cilium-oracle` is made of.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A CustomResourceDefinition in YAML.
pub fn definition() -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cilium-oracle");
    let module = "github.com/cilium/cilium";
    let required = std::fs::read_to_string(directory.join("go.mod")).unwrap();
    let version = required
        .lines()
        .find_map(|line| {
            line.trim_start_matches("require")
                .trim()
                .strip_prefix(module)?
                .strip_prefix(' ')
        })
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

//! What an administrator does where no operator is left, as the documentation says it.

use crate::eventually::eventually;
use crate::operator::{Site, spec};
use devplane::labels::FINALIZER;
use serde_json::json;
use std::process::Command;

const DOCUMENTATION: &str = include_str!("../../docs/topics/workspace.md");

/// The command of the documentation, for another namespace than `workspaces`.
fn documented(begins: &str, namespace: &str) -> String {
    let line = DOCUMENTATION.lines().find(|line| line.trim_start().starts_with(begins));
    line.expect("a command")
        .trim()
        .replace("-n workspaces", &format!("-n {namespace}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_an_operator_goes_by_the_documented_command() {
    let namespace = "no-operator";
    let site = Site::new(namespace).await;
    site.server.collect_garbage();
    for index in 0..3 {
        let id = format!("dev{index}");
        site.create(&id, &spec(&id)).await;
        // As the gateway makes it.
        site.patch(&id, &json!({"metadata": {"finalizers": [FINALIZER]}})).await;
    }
    site.server
        .kubectl_ok(&["delete", "namespace", namespace, "--wait=false"], None);
    let is_there = || {
        site.server
            .kubectl(&["get", "namespace", namespace], None)
            .status
            .success()
    };
    // Kubernetes begins some seconds later; until then it is not known whether it stays.
    let deleted = eventually(async || {
        let times = site.kubectl(&[
            "get",
            "workspaces",
            "-o",
            "jsonpath={.items[*].metadata.deletionTimestamp}",
        ]);
        times.split_whitespace().count() == 3
    });
    assert!(deleted.await && is_there(), "nothing takes the finalizers off");

    let command = documented("kubectl -n workspaces get workspaces -o name |", namespace);
    let kubectl = site.server.binary("kubectl");
    let with_kubectl = format!("PATH=\"{}:$PATH\"; {command}", kubectl.parent().unwrap().display());
    let output = Command::new("sh")
        .args(["-c", &with_kubectl])
        .env("KUBECONFIG", site.server.kubeconfig("admin"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let gone = async || !is_there();
    assert!(eventually(gone).await || eventually(gone).await, "{namespace} stays");
}

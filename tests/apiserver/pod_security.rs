//! Pod Security's level `restricted` as the API server enforces it: our pods are let in, and what would weaken them is not.

use crate::chart;
use crate::eventually::eventually;
use crate::operator::Site;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use std::path::Path;

/// A namespace that enforces it.
async fn restricted(namespace: &str) -> (Site, Api<Pod>) {
    let site = Site::new(namespace).await;
    let level = "pod-security.kubernetes.io/enforce=restricted";
    site.server.kubectl_ok(&["label", "namespace", namespace, level], None);
    let pods = site.pods();
    // The API server's admission hears of labels from a watch.
    let unrestricted = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert!(eventually(async || try_out(&pods, unrestricted.clone()).await.is_err()).await);
    (site, pods)
}

/// Whether the API server would take it, without making it.
async fn try_out(pods: &Api<Pod>, mut pod: Value) -> Result<(), String> {
    pod["metadata"] = json!({"name": "try"});
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod).map_err(|error| error.to_string())?;
    pods.create(&parameters, &pod)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Every pod of the golden files, with the file's name.
fn golden_pods() -> Vec<(String, Value)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/snapshots");
    let mut pods = Vec::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let (_, body) = text.trim_start_matches("---\n").split_once("\n---\n").unwrap();
        let name = file.file_name().into_string().unwrap();
        let of_file = chart::documents(body)
            .into_iter()
            .filter(|object| object["kind"] == "Pod");
        pods.extend(of_file.map(|pod| (name.clone(), pod)));
    }
    assert!(pods.len() >= 3, "{} pods", pods.len());
    pods
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_of_ours_is_let_in() {
    let (site, pods) = restricted("pod-security-ours").await;
    // What pods of the golden files refer to.
    let classes = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "workspaces"}, "value": 1},
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"},
    ]});
    site.server
        .kubectl_ok(&["apply", "-f", "-"], Some(&classes.to_string()));
    // And of classes.
    let elsewhere = Api::<Pod>::namespaced(site.client.clone(), "default");
    let of_class = json!({"spec": {"priorityClassName": "workspaces", "containers": [{"name": "c", "image": "i"}]}});
    assert!(eventually(async || try_out(&elsewhere, of_class.clone()).await.is_ok()).await);
    for (file, pod) in golden_pods() {
        assert_eq!(try_out(&pods, pod).await, Ok(()), "{file}");
    }
    for values in ["minimal", "full", "existing-secret", "operator-only"] {
        let objects = chart::rendered(site.server, values, "elsewhere", "workspaces");
        let templates = objects
            .iter()
            .filter_map(|object| object["spec"].get("template").map(|template| (object, template)));
        let mut seen = 0;
        for (object, template) in templates {
            let mut pod = template.clone();
            // Neither is there, and neither is of Pod Security.
            pod["spec"]
                .as_object_mut()
                .unwrap()
                .retain(|field, _| field != "priorityClassName" && field != "serviceAccountName");
            assert_eq!(
                try_out(&pods, pod).await,
                Ok(()),
                "{values}: {}",
                object["metadata"]["name"]
            );
            seen += 1;
        }
        assert!(seen > 0, "{values} runs nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_weaken_a_workspace_s_pod_is_refused() {
    let (site, pods) = restricted("pod-security-weak").await;
    let (_, plain) = golden_pods()
        .into_iter()
        .find(|(file, _)| file.contains("plain"))
        .unwrap();
    let in_container = |change: Value| {
        let mut pod = plain.clone();
        merge(&mut pod["spec"]["containers"][0], change);
        pod
    };
    let in_spec = |change: Value| {
        let mut pod = plain.clone();
        merge(&mut pod["spec"], change);
        pod
    };
    let with_volume = |volume: Value| {
        let mut pod = plain.clone();
        pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
        pod
    };
    let open = Api::<Pod>::namespaced(site.client.clone(), "default");
    for (what, pod, told) in [
        (
            "a directory of the node",
            with_volume(json!({"name": "v", "hostPath": {"path": "/"}})),
            "hostPath",
        ),
        (
            "a volume over the network",
            with_volume(json!({"name": "v", "nfs": {"server": "192.0.2.1", "path": "/"}})),
            "restricted volume types",
        ),
        (
            "all of the node",
            in_container(json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": null}})),
            "privileged",
        ),
        (
            "a way to more",
            in_container(json!({"securityContext": {"allowPrivilegeEscalation": true}})),
            "allowPrivilegeEscalation",
        ),
        (
            "unsaid ways to more",
            in_container(json!({"securityContext": {"allowPrivilegeEscalation": null}})),
            "allowPrivilegeEscalation",
        ),
        (
            "a capability",
            in_container(json!({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}})),
            "capabilities",
        ),
        (
            "capabilities that are not dropped",
            in_container(json!({"securityContext": {"capabilities": null}})),
            "capabilities",
        ),
        (
            "a port of the node",
            in_container(json!({"ports": [{"containerPort": 7681, "hostPort": 7681}]})),
            "hostPort",
        ),
        (
            "root in the container",
            in_container(json!({"securityContext": {"runAsUser": 0}})),
            "runAsUser=0",
        ),
        (
            "root",
            in_spec(json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": true}})),
            "runAsUser=0",
        ),
        (
            "maybe root",
            in_container(json!({"securityContext": {"runAsNonRoot": false}})),
            "runAsNonRoot",
        ),
        (
            "every system call",
            in_spec(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
            "seccompProfile",
        ),
        (
            "no seccomp profile",
            in_spec(json!({"securityContext": {"seccompProfile": null}})),
            "seccompProfile",
        ),
        (
            "a system setting",
            in_spec(json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}})),
            "sysctl",
        ),
        (
            "the node's network",
            in_spec(json!({"hostNetwork": true})),
            "host namespaces",
        ),
        (
            "the node's processes",
            in_spec(json!({"hostPID": true})),
            "host namespaces",
        ),
        (
            "the node's shared memory",
            in_spec(json!({"hostIPC": true})),
            "host namespaces",
        ),
        (
            "a weak second container",
            in_spec(json!({"initContainers": [{"name": "weak", "image": "i"}]})),
            "container \"weak\"",
        ),
    ] {
        let refused = try_out(&pods, pod.clone()).await.expect_err(what);
        assert!(
            refused.contains("violates PodSecurity \"restricted:latest\"") && refused.contains(told),
            "{what}: {refused}"
        );
        // What refuses it is the level, not a fault of the pod's.
        let elsewhere = try_out(&open, pod).await;
        assert_eq!(elsewhere, Ok(()), "{what}");
    }
    assert_eq!(try_out(&pods, plain).await, Ok(()));
}

/// RFC 7396.
fn merge(into: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *into = change;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let fields = into.as_object_mut().unwrap();
    for (key, value) in change {
        if value.is_null() {
            fields.remove(&key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), value);
        }
    }
}

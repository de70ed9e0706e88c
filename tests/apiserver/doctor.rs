//! The doctor against a real API server: as an administrator, under the operator's own rights, and with faults made on purpose.

use crate::chart;
use crate::eventually::eventually;
use crate::operator::Site;
use crate::proxy::Proxy;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn doctor(site: &Site, user: &str) -> Output {
    command(site, user).args(["--only", "DP01,DP02"]).output().unwrap()
}

fn command(site: &Site, user: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_devplane"));
    command
        .arg("doctor")
        .env_clear()
        .env("KUBECONFIG", site.server.kubeconfig(user))
        .env("NAMESPACE", &site.namespace)
        .env("POD_NAMESPACE", &site.namespace)
        .env("CLUSTER_CIDRS", "10.96.0.0/16")
        .env("WORKSPACE_IMAGE", "registry.test/devplane-workspace:1");
    command
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_installation_passes() {
    let site = Site::new("doctor-sound").await;
    let output = doctor(&site, "admin");
    assert!(
        output.status.success() && text(&output).contains("ok   DP0202"),
        "{}",
        text(&output)
    );

    // The operator's own rights do not reach as far as CustomResourceDefinitions; what it may not know is skipped.
    let output = doctor(&site, "operator");
    assert!(
        output.status.success() && text(&output).contains("skip DP0202"),
        "{}",
        text(&output)
    );
    assert!(text(&output).contains("ok   DP0203"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named() {
    let site = Site::new("doctor-rights").await;
    site.forbids();
    site.server
        .kubectl_ok(&["delete", "rolebinding", "operator", "-n", "doctor-rights"], None);
    site.wait_until_operator_may("create", "pods", false);
    let output = doctor(&site, "operator");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("create pods in doctor-rights"),
        "{}",
        text(&output)
    );
}

/// What the probe's pods are labelled with.
const PROBE: &str = "workspace.devplane.io/doctor-probe";

/// A namespace as the chart makes it, with an operator's Deployment, which nobody runs.
async fn installed(namespace: &str) -> Site {
    let site = Site::new(namespace).await;
    let level = "pod-security.kubernetes.io/enforce=restricted";
    site.server.kubectl_ok(&["label", "namespace", namespace, level], None);
    site.create_objects(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "workspace-operator"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "operator", "image": "registry.test/devplane:1", "imagePullPolicy": "Never"}]},
        }},
    }));
    site
}

fn probing(site: &Site) -> Child {
    probe(command(site, "admin"))
}

fn probe(mut doctor: Command) -> Child {
    let doctor = doctor.args(["--probe", "--only", "DP0810"]);
    let doctor = doctor.stdout(Stdio::piped()).stderr(Stdio::piped());
    doctor.spawn().unwrap()
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

async fn output_of(child: Child) -> Output {
    let waiting = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    waiting.await.unwrap()
}

async fn probe_pod(site: &Site, what: &str) -> Pod {
    let mut found = None;
    let is_there = eventually(async || {
        let pods = site
            .pods()
            .list(&ListParams::default().labels(PROBE))
            .await
            .unwrap()
            .items;
        found = pods
            .into_iter()
            .find(|pod| pod.name_any().starts_with(&format!("devplane-doctor-{what}-")));
        found.is_some()
    });
    assert!(is_there.await, "{what}");
    found.unwrap()
}

fn left(site: &Site) -> String {
    site.kubectl(&["get", "pods,networkpolicies", "-l", PROBE, "-o", "name"])
}

/// What a node and the pods would do, and then the doctor's answer.
async fn probed(site: &Site, saw: &Value) -> (Option<i32>, String) {
    let child = probing(site);
    for (what, addresses) in [
        ("neighbour", ["192.0.2.6", "2001:db8::6"]),
        ("canary", ["192.0.2.7", "2001:db8::7"]),
    ] {
        let pod = probe_pod(site, what).await;
        let spec = pod.spec.unwrap();
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Never"));
        assert_eq!(
            spec.service_account_name.as_deref(),
            Some("workspace-canary"),
            "whom alone its image is allowed"
        );
        let ready = json!({
            "phase": "Running", "hostIP": "192.168.7.11", "podIP": addresses[0], "podIPs": addresses.map(|address| json!({"ip": address})),
            "conditions": [{"type": "Ready", "status": "True"}],
        });
        site.set_pod_status(pod.metadata.name.as_deref().unwrap(), &ready)
            .await
            .unwrap();
    }
    let asker = probe_pod(site, "asker").await;
    let arguments = asker.spec.unwrap().containers[0].args.clone().unwrap();
    assert_eq!(
        arguments,
        [
            "canary",
            "--result=/dev/termination-log",
            "--ask=192.0.2.7",
            "--ask=2001:db8::7",
            "--place=another workspace's terminal port=192.0.2.6:7681",
            "--place=another workspace's terminal port=[2001:db8::6]:7681",
            "--place=a node's kubelet=192.168.7.11:10250",
            "--place=the metadata service=169.254.169.254:80",
        ]
    );
    assert_eq!(left(site).matches("networkpolicy").count(), 4);
    let terminated = json!({"exitCode": 0, "message": saw.to_string()});
    let ended = json!({
        "phase": "Succeeded",
        "containerStatuses": [{"name": "probe", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated}}],
    });
    site.set_pod_status(asker.metadata.name.as_deref().unwrap(), &ended)
        .await
        .unwrap();
    let output = output_of(child).await;
    (output.status.code(), text(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tells_what_its_pods_saw_and_leaves_nothing() {
    let site = installed("doctor-probe").await;
    // The chart's account and policy of images. A policy takes effect some moments after it was made.
    let values = [
        "image=registry.test/devplane:1",
        "workspace.allowedImages={registry.test/workspace:1}",
    ];
    let mut chart = chart::rendered_with(site.server, "minimal", "elsewhere", &site.namespace, &values);
    chart.retain(|object| object["metadata"]["namespace"] != "elsewhere");
    let kinds = [
        "ServiceAccount",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    let objects = chart::of_kinds(&chart, &kinds).to_string();
    site.server.kubectl_ok(&["apply", "-f", "-"], Some(&objects));
    let stranger = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "a", "image": "registry.test/devplane:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let refuses = eventually(async || {
        let said = site.server.kubectl(
            &["create", "--dry-run=server", "-n", &site.namespace, "-f", "-"],
            Some(&stranger.to_string()),
        );
        String::from_utf8_lossy(&said.stderr).contains("workspace.allowedImages")
    });
    assert!(refuses.await, "nobody but the canary has that image");
    let saw = |verdict: Value| json!({"verdict": verdict, "lines": [{"name": "the canary to a node's kubelet", "observed": "refused"}], "notShown": ["the metadata service"], "refusedTooMuch": []});
    let mut refused = saw(json!({"unknown": {"why": "no names"}}));
    refused["refusedTooMuch"] = json!(["the canary to the cluster's DNS"]);
    for (saw, code, told) in [
        (
            saw(json!("enforced")),
            0,
            "refused: the canary to a node's kubelet; not shown, as nobody answers there: the metadata service",
        ),
        (
            saw(json!({"notEnforced": {"passed": ["another pod to the canary's terminal port"]}})),
            1,
            "another pod to the canary's terminal port",
        ),
        (saw(json!({"unknown": {"why": "the way is broken"}})), 0, "skip DP0810"),
        (refused, 1, "what NetworkPolicies allow is refused"),
        (json!("an older image"), 0, "skip DP0810"),
    ] {
        let (exit, output) = probed(&site, &saw).await;
        assert!(exit == Some(code) && output.contains(told), "{exit:?} {output}");
        assert_eq!(left(&site), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_probe_leaves_nothing() {
    let site = installed("doctor-interrupted").await;
    let child = probing(&site);
    probe_pod(&site, "neighbour").await;
    interrupt(&child);
    let output = output_of(child).await;
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert_eq!(left(&site), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_is_not_answered_yet_is_waited_for_and_removed() {
    let site = installed("doctor-in-flight").await;
    let proxy = Proxy::start_as(site.server, "admin").await;
    proxy.cut_after(Some(1));
    let mut command = command(&site, "admin");
    command.env("KUBECONFIG", proxy.kubeconfig());
    let child = probe(command);
    proxy.is_cut().await;
    assert_ne!(left(&site), "", "it is made, and the doctor has not heard of it");
    interrupt(&child);
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.mend();
    let output = output_of(child).await;
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert_eq!(left(&site), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_probe_can_t_remove_is_told_with_the_command() {
    let site = installed("doctor-left").await;
    site.server.kubectl_ok(&["create", "-f", "-"], Some(MAY_NOT_DELETE));
    let may = ["auth", "can-i", "create", "pods", "--as=someone-who-may-not-delete"];
    assert!(eventually(async || site.server.kubectl(&may, None).status.success()).await);
    let admin = std::fs::read_to_string(site.server.kubeconfig("admin")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let account = "\"user\":{\"as\":\"someone-who-may-not-delete\",";
    std::fs::write(&kubeconfig, admin.replace("\"user\":{", account)).unwrap();
    let mut command = command(&site, "admin");
    command.env("KUBECONFIG", kubeconfig);
    let child = probe(command);
    probe_pod(&site, "neighbour").await;
    interrupt(&child);
    let output = output_of(child).await;
    let said = String::from_utf8(output.stderr).unwrap();
    let commands: Vec<_> = said
        .lines()
        .filter_map(|line| Some(line.split_once("; by hand: kubectl ")?.1))
        .collect();
    assert!(commands.len() > 4, "pods and policies: {said}");
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        site.server.kubectl_ok(&words, None);
    }
    assert_eq!(left(&site), "");
}

const MAY_NOT_DELETE: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: may-not-delete}
rules:
- {apiGroups: ['*'], resources: ['*'], verbs: [get, list, watch, create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: may-not-delete}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: may-not-delete}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: someone-who-may-not-delete}]
";

//! What goes wrong is told of with a hint, and clears by itself once its cause is gone. Nobody edits the Workspace.

use crate::eventually::eventually;
use crate::operator::{Site, phase, reason, spec};
use base64::prelude::{BASE64_STANDARD, Engine};
use devplane::api::{Phase, Reason, hint};
use kube::ResourceExt;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The status and an Event say the reason and what to check.
pub async fn is_told(site: &Site, name: &str, expected: Reason) {
    let told = site
        .until(name, expected.as_str(), |w| reason(w) == expected.as_str())
        .await;
    let status = told.status.unwrap();
    let hint = hint::remediation(expected);
    assert_eq!(status.remediation_hint, hint);
    let starting = matches!(expected, Reason::Unschedulable | Reason::PodNotReadyToStartContainers);
    assert_eq!(
        status.phase,
        Some(if starting { Phase::Creating } else { Phase::Failed })
    );
    let has_event = eventually(async || {
        let events: Value =
            serde_json::from_str(&site.kubectl(&["get", "events.events.k8s.io", "-o", "json"])).unwrap();
        let events = events["items"].as_array().unwrap();
        events.iter().any(|event| {
            event["type"] == "Warning"
                && event["regarding"]["name"] == name
                && event["reason"] == expected.as_str()
                && event["note"].as_str().is_some_and(|note| note.contains(hint))
        })
    });
    assert!(has_event.await, "no Event for {name} says {expected}");
}

pub async fn recovers(site: &Site, name: &str) {
    let pod = format!("{}-workspace-pod", name);
    site.until(name, "well", |w| {
        phase(w) == Some(Phase::Creating) && reason(w) == "Progressing"
    })
    .await;
    assert!(eventually(async || site.pods().get_opt(&pod).await.unwrap().is_some()).await);
}

/// A quota whose use no controller counts in this tier.
fn quota(site: &Site, resource: &str) {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": resource}, "spec": {"hard": {resource: "0"}},
    });
    site.create_objects(&quota);
    let status = json!({"status": {"hard": {resource: "0"}, "used": {resource: "0"}}}).to_string();
    site.kubectl(&[
        "patch",
        "resourcequota",
        resource,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ]);
}

/// Only for the objects of this namespace and user.
fn selectors(site: &Site, user: &str) -> Value {
    json!({
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.namespace}},
        "objectSelector": {"matchLabels": {"user": user}},
    })
}

fn admission_policy(site: &Site, user: &str) {
    let name = format!("{}-{user}", site.namespace);
    site.create_objects(&json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
         "spec": {"matchConstraints": selectors(site, user), "validations": [{"expression": "false", "message": "not today"}]}},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
         "spec": {"policyName": name, "validationActions": ["Deny"]}},
    ]}));
    wait_until_denied(site, user);
}

pub fn webhook(site: &Site, user: &str, port: u16, timeout: u8, certificate: Option<&str>) {
    let mut hook = selectors(site, user);
    hook["rules"] = hook["resourceRules"].take();
    hook.as_object_mut().unwrap().remove("resourceRules");
    hook["name"] = json!("hook.devplane.test");
    hook["clientConfig"] = json!({"url": format!("https://127.0.0.1:{port}/")});
    if let Some(certificate) = certificate {
        hook["clientConfig"]["caBundle"] = json!(BASE64_STANDARD.encode(certificate));
    }
    hook["timeoutSeconds"] = json!(timeout);
    hook["failurePolicy"] = json!("Fail");
    hook["sideEffects"] = json!("None");
    hook["admissionReviewVersions"] = json!(["v1"]);
    site.create_objects(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("{}-{user}", site.namespace)}, "webhooks": [hook],
    }));
    wait_until_denied(site, user);
}

/// The API server learns of such objects a moment after they are there.
fn wait_until_denied(site: &Site, user: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asked", "labels": {"user": user}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let arguments = [
        "create",
        "-n",
        &site.namespace,
        "--dry-run=server",
        "--request-timeout=1s",
        "-f",
        "-",
    ];
    while site.server.kubectl(&arguments, Some(&pod.to_string())).status.success() {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn a_port_that_is_closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Fault {
    id: &'static str,
    reason: Reason,
    make: fn(&Site, &str),
    mend: fn(&Site, &str),
}

const FAULTS: &[Fault] = &[
    Fault {
        id: "quota-pods",
        reason: Reason::QuotaExceeded,
        make: |site, _| quota(site, "pods"),
        mend: |site, _| drop(site.kubectl(&["delete", "resourcequota", "pods"])),
    },
    Fault {
        id: "quota-claims",
        reason: Reason::QuotaExceeded,
        make: |site, _| quota(site, "persistentvolumeclaims"),
        mend: |site, _| drop(site.kubectl(&["delete", "resourcequota", "persistentvolumeclaims"])),
    },
    Fault {
        id: "forbidden",
        reason: Reason::Forbidden,
        make: |site, _| site.let_operator("create", "pods", false),
        mend: |site, _| site.let_operator("create", "pods", true),
    },
    Fault {
        id: "policy",
        reason: Reason::AdmissionWebhook,
        make: admission_policy,
        mend: |site, id| {
            let name = format!("{}-{id}", site.namespace);
            site.kubectl(&[
                "delete",
                "validatingadmissionpolicybinding,validatingadmissionpolicy",
                &name,
            ]);
        },
    },
    Fault {
        id: "webhook",
        reason: Reason::AdmissionWebhook,
        make: |site, id| webhook(site, id, a_port_that_is_closed(), 1, None),
        mend: remove_webhook,
    },
];

pub fn remove_webhook(site: &Site, id: &str) {
    let name = format!("{}-{id}", site.namespace);
    site.kubectl(&["delete", "validatingwebhookconfiguration", &name]);
}

/// Somebody takes our label off an object, so that no watch of ours tells of it any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_has_lost_its_label_gets_it_again() {
    let site = Site::new("label").await;
    let operator = site.operator(&[]);
    site.create("dev1", &spec("dev1")).await;
    site.runs("dev1").await;
    for object in [
        "networkpolicy/dev1-workspace-egress",
        "service/dev1-workspace-svc",
        "pod/dev1-workspace-pod",
    ] {
        site.kubectl(&["label", object, "managed-by-"]);
        let labelled = async || {
            let found = site.kubectl(&[
                "get",
                object.split('/').next().unwrap(),
                "-l",
                "managed-by=devplane",
                "-o",
                "name",
            ]);
            found.contains(object.split('/').nth(1).unwrap())
        };
        assert!(eventually(labelled).await, "{object}: {}", operator.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_refuses_is_tried_until_it_does_not() {
    let site = Site::new("refused").await;
    site.forbids();
    let _operator = site.operator(&[]);
    for fault in FAULTS {
        (fault.make)(&site, fault.id);
        site.create(fault.id, &spec(fault.id)).await;
        is_told(&site, fault.id, fault.reason).await;
        (fault.mend)(&site, fault.id);
        recovers(&site, fault.id).await;
    }
}

/// A TLS server that reads and says nothing; its port and certificate.
pub async fn silent_webhook() -> (u16, String, JoinHandle<()>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            open.push(acceptor.accept(stream).await);
        }
    });
    (port, made.cert.pem(), serving)
}

/// The API server would wait for longer than a pass may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_never_answers_is_told_of() {
    let site = Site::new("silent").await;
    let _operator = site.operator(&[]);
    let (port, certificate, silent) = silent_webhook().await;
    webhook(&site, "dev1", port, 30, Some(&certificate));
    site.create("dev1", &spec("dev1")).await;
    is_told(&site, "dev1", Reason::Timeout).await;
    remove_webhook(&site, "dev1");
    silent.abort();
    recovers(&site, "dev1").await;
}

/// The API server's message names the port that it came from, another one each time: each is a new status, and no reason to hurry.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_worded_differently_each_time_is_not_tried_without_pause() {
    let site = Site::new("reworded").await;
    let operator = site.operator(&[]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let resetting = tokio::spawn(async move {
        loop {
            // Dropped so, it is reset (RFC 9293, section 3.6.1).
            let (stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            stream.set_zero_linger().unwrap();
            drop(stream);
        }
    });
    webhook(&site, "dev1", port, 1, None);
    let began = Instant::now();
    site.create("dev1", &spec("dev1")).await;
    is_told(&site, "dev1", Reason::AdmissionWebhook).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let log = operator.log();
    let seconds = began.elapsed().as_secs();
    let failed = log.lines().filter(|line| line.contains("a pass failed"));
    let messages: std::collections::HashSet<&str> =
        failed.clone().filter_map(|line| line.split(" tcp ").nth(1)).collect();
    assert!(messages.len() > 1, "the messages are all alike: {log}");
    // At once, and after pauses of 1, 2, 4 s and so on.
    let most = seconds.ilog2() as usize + 2;
    assert!(failed.count() <= most, "more than {most} in {seconds} s: {log}");
    resetting.abort();
    remove_webhook(&site, "dev1");
    recovers(&site, "dev1").await;
}

fn waiting(reason: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}], "containerStatuses": [{
        "name": "workspace", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": "why"}},
    }]})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pod_overcomes_the_workspace_does() {
    let site = Site::new("troubled").await;
    let _operator = site.operator(&[]);
    site.create("dev1", &spec("dev1")).await;
    recovers(&site, "dev1").await;
    let unschedulable = json!({"phase": "Pending", "containerStatuses": [], "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let not_set_up = json!({"phase": "Pending", "conditions": [
        condition("PodScheduled", "True"), condition("PodReadyToStartContainers", "False")]});
    for (status, reason) in [
        (unschedulable, Reason::Unschedulable),
        (waiting("ErrImagePull"), Reason::ErrImagePull),
        (waiting("ImagePullBackOff"), Reason::ImagePullBackOff),
        (waiting("InvalidImageName"), Reason::InvalidImageName),
        (waiting("CrashLoopBackOff"), Reason::CrashLoopBackOff),
        (waiting("CreateContainerConfigError"), Reason::CreateContainerError),
        (not_set_up, Reason::PodNotReadyToStartContainers),
        (json!({"phase": "Unknown"}), Reason::PodUnknown),
    ] {
        site.set_pod_status("dev1-workspace-pod", &status).await.unwrap();
        is_told(&site, "dev1", reason).await;
        site.make_ready("dev1-workspace-pod").await;
        site.until("dev1", "Running", |w| phase(w) == Some(Phase::Running))
            .await;
    }
}

/// The count of pods that end outlives the operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ends_again_and_again_is_replaced_later_and_later() {
    let site = Site::new("ended").await;
    let operator = site.operator(&[]);
    site.create("dev1", &spec("dev1")).await;
    recovers(&site, "dev1").await;
    let uid = async || {
        let pod = site.pods().get_opt("dev1-workspace-pod").await.unwrap();
        pod.and_then(|pod| pod.uid())
    };
    let first = uid().await;
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    site.set_pod_status("dev1-workspace-pod", &evicted).await.unwrap();
    is_told(&site, "dev1", Reason::PodFailed).await;
    drop(operator);
    let _operator = site.operator(&[]);
    assert!(eventually(async || uid().await.is_some_and(|uid| Some(uid) != first)).await);
    recovers(&site, "dev1").await;
    site.set_pod_status("dev1-workspace-pod", &evicted).await.unwrap();
    site.until("dev1", "ended twice", |w| {
        reason(w) == "PodFailed" && w.status.as_ref().is_some_and(|status| status.pod_failures == 2)
    })
    .await;
}

/// An object of each kind that has the name of one of the Workspace `id`.
fn foreign(id: &str, kind: &str) -> Value {
    let (version, suffix, rest) = match kind {
        "Pod" => (
            "v1",
            "-pod",
            json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        ),
        "PersistentVolumeClaim" => (
            "v1",
            "-pvc",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        "Service" => ("v1", "-svc", json!({"spec": {"ports": [{"port": 80}]}})),
        "NetworkPolicy" => ("networking.k8s.io/v1", "-egress", json!({"spec": {"podSelector": {}}})),
        "ServiceAccount" => ("v1", "", json!({})),
        "Role" => ("rbac.authorization.k8s.io/v1", "", json!({"rules": []})),
        _ => (
            "rbac.authorization.k8s.io/v1",
            "",
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}}),
        ),
    };
    let mut object = rest;
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": format!("{id}-workspace{suffix}"), "labels": {"foreign": "true"}});
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_left_alone_until_it_is_free() {
    const KINDS: [&str; 7] = [
        "Pod",
        "PersistentVolumeClaim",
        "Service",
        "NetworkPolicy",
        "ServiceAccount",
        "Role",
        "RoleBinding",
    ];
    let site = Site::new("taken").await;
    // Without its controller a claim is never let go.
    site.server.collect_garbage();
    let _operator = site.operator(&[]);
    let mut objects = Vec::new();
    let mut taken = Vec::new();
    for kind in KINDS {
        // The watches show what has our labels, and nothing else.
        for ours in [true, false] {
            let id = format!(
                "{}-{}",
                kind.to_lowercase().replace("persistentvolume", ""),
                if ours { "seen" } else { "unseen" }
            );
            let mut object = foreign(&id, kind);
            if ours {
                object["metadata"]["labels"]["app"] = json!("workspace");
                object["metadata"]["labels"]["managed-by"] = json!("devplane");
            }
            taken.push((id, format!("{kind} {}", object["metadata"]["name"].as_str().unwrap())));
            objects.push(object);
        }
    }
    site.create_objects(&json!({"apiVersion": "v1", "kind": "List", "items": objects}));
    let kinds = KINDS.join(",").to_lowercase();
    let versions = || {
        let columns = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid} {.metadata.resourceVersion}{\"\\n\"}{end}";
        site.kubectl(&["get", &kinds, "-l", "foreign=true", "-o", columns])
    };
    let before = versions();
    for (id, _) in &taken {
        site.create(id, &spec(id)).await;
    }
    for (id, object) in &taken {
        is_told(&site, id, Reason::NameConflict).await;
        let status = site.workspaces().get(id).await.unwrap().status.unwrap();
        assert!(status.message.contains(object), "{id}: {}", status.message);
    }
    assert_eq!(versions(), before);
    site.kubectl(&["delete", &kinds, "-l", "foreign=true", "--grace-period=0", "--force"]);
    for (id, _) in &taken {
        recovers(&site, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_is_not_there_is_waited_for_and_its_image_must_be_allowed() {
    let site = Site::new("classes").await;
    let operator = site.operator(&[]);
    let mut given = spec("dev1");
    given["className"] = json!("large");
    site.create("dev1", &given).await;
    is_told(&site, "dev1", Reason::ValidationFailed).await;
    assert_eq!(operator.stop(), Some(0));

    let classes = r#"[{"name": "large", "image": "registry.test/large:1"}]"#;
    let allowed = ("WORKSPACE_ALLOWED_IMAGES", "registry.test/devplane-workspace:*");
    let mut refused = site.operator(&[("WORKSPACE_CLASSES", classes), allowed]);
    assert!(eventually(async || refused.has_exited()).await);
    let log = refused.log();
    assert!(log.contains("registry.test/large:1") && log.contains("large"), "{log}");

    let _operator = site.operator(&[("WORKSPACE_CLASSES", classes)]);
    recovers(&site, "dev1").await;
    let pod = site.pods().get("dev1-workspace-pod").await.unwrap();
    assert_eq!(
        pod.spec.unwrap().containers[0].image.as_deref(),
        Some("registry.test/large:1")
    );
}

//! What somebody else changes, deletes or owns, and what an earlier Workspace of the same name has left.

use crate::eventually::eventually;
use crate::operator::{Site, message, phase, reason, spec};
use devplane::api::{Phase, Workspace};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn what_someone_changed_or_deleted_is_put_right() {
    let site = Site::new("drift").await;
    let _operator = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    site.until("dev1", "made", |w| {
        w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    })
    .await;
    let open = r#"{"spec":{"policyTypes":["Ingress"],"ingress":[{}],"podSelector":{"matchLabels":{"no":"pod"}}}}"#;
    site.server.kubectl_ok(
        &[
            "patch",
            "networkpolicy",
            "dev1-workspace-deny-all",
            "-n",
            "drift",
            "--type=merge",
            "-p",
            open,
        ],
        None,
    );
    site.server
        .kubectl_ok(&["delete", "service", "dev1-workspace-svc", "-n", "drift"], None);
    assert!(
        eventually(async || {
            let policy = site.server.kubectl_ok(
                &[
                    "get",
                    "networkpolicy",
                    "dev1-workspace-deny-all",
                    "-n",
                    "drift",
                    "-o",
                    "json",
                ],
                None,
            );
            let policy: Value = serde_json::from_str(&policy).unwrap();
            let closed = policy["spec"]["ingress"].is_null()
                && policy["spec"]["policyTypes"] == json!(["Ingress", "Egress"])
                && policy["spec"]["podSelector"]["matchLabels"]["no"].is_null();
            closed
                && site
                    .server
                    .kubectl(&["get", "service", "dev1-workspace-svc", "-n", "drift"], None)
                    .status
                    .success()
        })
        .await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_someone_else_is_left_alone() {
    let site = Site::new("conflict").await;
    let foreign = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"dev1-workspace-pod","namespace":"conflict","labels":{"app":"workspace","managed-by":"devplane"}},
        "spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    site.server.kubectl_ok(&["create", "-f", "-"], Some(foreign));
    let before = site.pods().get("dev1-workspace-pod").await.unwrap();
    let _operator = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    let failed = site.until("dev1", "Failed", |w| reason(w) == "NameConflict").await;
    assert!(message(&failed).contains("Pod dev1-workspace-pod"));
    let after = site.pods().get("dev1-workspace-pod").await.unwrap();
    assert_eq!(before.resource_version(), after.resource_version());

    site.pods()
        .delete("dev1-workspace-pod", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    // It is looked at again after a minute; an administrator who touches the Workspace need not wait.
    site.server
        .kubectl_ok(&["annotate", "workspace", "dev1", "-n", "conflict", "touched=1"], None);
    site.until("dev1", "Creating", |w| phase(w) == Some(Phase::Creating))
        .await;

    // Without our labels no watch shows it.
    let foreign = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"dev2-workspace-svc","namespace":"conflict"},
        "spec":{"ports":[{"port":80}]}}"#;
    site.server.kubectl_ok(&["create", "-f", "-"], Some(foreign));
    let version = || {
        let arguments = [
            "get",
            "service",
            "dev2-workspace-svc",
            "-n",
            "conflict",
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ];
        site.server.kubectl_ok(&arguments, None)
    };
    let before = version();
    site.apply("dev2", &spec("dev2"));
    let failed = site.until("dev2", "Failed", |w| reason(w) == "NameConflict").await;
    assert!(message(&failed).contains("Service dev2-workspace-svc"));
    assert_eq!(version(), before);
    site.server
        .kubectl_ok(&["delete", "service", "dev2-workspace-svc", "-n", "conflict"], None);
    site.until("dev2", "Creating", |w| phase(w) == Some(Phase::Creating))
        .await;
}

/// Its pod is still ending, as a node takes its time.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_made_anew_waits_for_the_pod_of_the_earlier_one() {
    let site = Site::new("anew").await;
    site.server.collect_garbage();
    let operator = site.operator(&[]);
    site.create("dev1", &spec("dev1")).await;
    site.runs("dev1").await;
    let pod = "dev1-workspace-pod";
    let slow = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let hold = slow(json!(["test.example/node"]));
    site.pods().patch(pod, &PatchParams::default(), &hold).await.unwrap();
    site.workspaces()
        .delete("dev1", &DeleteParams::default())
        .await
        .unwrap();
    let gone = eventually(async || site.workspaces().get_opt("dev1").await.unwrap().is_none()).await;
    assert!(gone, "{}", operator.log());
    site.create("dev1", &spec("dev1")).await;
    let message = |workspace: &Workspace| workspace.status.as_ref().map(|status| status.message.clone());
    let waits = site
        .until("dev1", "waiting", |w| {
            message(w).is_some_and(|message| message.contains("pod of an earlier Workspace of this name to end"))
        })
        .await;
    assert_eq!(
        (phase(&waits), reason(&waits)),
        (Some(Phase::Creating), "Progressing".into())
    );
    assert_eq!(waits.status.unwrap().pod_name, "", "it is another one's");
    site.pods()
        .patch(pod, &PatchParams::default(), &slow(json!(null)))
        .await
        .unwrap();
    site.runs("dev1").await;
    let events = site.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]);
    assert!(!events.contains("NameConflict"), "{events}");
    assert!(!operator.log().contains("NameConflict"), "{}", operator.log());
}

/// No watch of ours tells of Secrets, nor of what has lost its labels: the API server says that the name is taken.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_made_anew_waits_for_what_no_watch_shows() {
    let site = Site::new("anew-unseen").await;
    site.server.collect_garbage();
    let operator = site.operator(&[]);
    for held in ["secret/dev1-workspace-tls", "service/dev1-workspace-svc"] {
        site.create("dev1", &spec("dev1")).await;
        site.runs("dev1").await;
        let change = |metadata: Value| {
            let patch = json!({ "metadata": metadata }).to_string();
            site.kubectl(&["patch", held, "--type=merge", "-p", &patch])
        };
        change(json!({"labels": null, "finalizers": ["test.example/slow"]}));
        let workspaces = site.workspaces();
        workspaces.delete("dev1", &DeleteParams::default()).await.unwrap();
        let gone = eventually(async || {
            let pod = site.pods().get_opt("dev1-workspace-pod").await.unwrap();
            workspaces.get_opt("dev1").await.unwrap().is_none() && pod.is_none()
        });
        assert!(gone.await, "{}", operator.log());
        site.create("dev1", &spec("dev1")).await;
        let waits = site
            .until("dev1", "waiting", |w| phase(w) == Some(Phase::Creating))
            .await;
        assert_eq!(reason(&waits), "Progressing", "{held}");
        let pod = site.pods().get_opt("dev1-workspace-pod").await.unwrap();
        assert!(pod.is_none(), "made beside {held} of an earlier one");
        change(json!({"finalizers": null}));
        site.runs("dev1").await;
        workspaces.delete("dev1", &DeleteParams::default()).await.unwrap();
        let left = || site.kubectl(&["get", "pods,secrets,services", "-l", "user=dev1", "-o", "name"]);
        assert!(eventually(async || left().is_empty()).await, "{}", left());
    }
    assert!(!operator.log().contains("NameConflict"), "{}", operator.log());
}

//! The life of Workspaces under a real operator process.

use crate::eventually::eventually;
use crate::openmetrics;
use crate::operator::{Site, phase, reason, spec};
use devplane::api::status::{ConditionType, StopReason};
use devplane::api::{Phase, Workspace};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

const OWNED: &str = "serviceaccounts,roles,rolebindings,networkpolicies,services,persistentvolumeclaims,pods";

/// `kind/name resourceVersion` of everything of one user, and of the Workspaces.
pub fn versions(site: &Site) -> String {
    let kinds = format!("{OWNED},workspaces");
    site.server.kubectl_ok(
        &[
            "get",
            &kinds,
            "-n",
            &site.namespace,
            "-o",
            "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}",
        ],
        None,
    )
}

/// Waits for so long a time in which nothing is written: what came before may still be told of.
pub async fn until_nothing_is_written(site: &Site, time: Duration) {
    let rests = eventually(async || {
        let before = versions(site);
        tokio::time::sleep(time).await;
        versions(site) == before
    });
    assert!(rests.await, "it is written again and again: {}", versions(site));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_made_runs_stops_and_wakes() {
    let site = Site::new("life").await;
    let operator = site.operator(&[("IDLE_TIMEOUT", "15s")]);
    site.apply("dev1", &spec("dev1"));
    let made = site.until("dev1", "Creating with a pod", |w| {
        phase(w) == Some(Phase::Creating) && w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    });
    let made = made.await;
    assert_eq!(
        made.status.as_ref().unwrap().service_endpoint,
        "dev1-workspace-svc.life.svc.cluster.local"
    );
    assert!(made.status.as_ref().unwrap().last_accessed.is_some(), "seeded");
    let versions = versions(&site);
    let names = versions
        .lines()
        .filter(|line| line.contains("/dev1"))
        .map(|line| line.split(' ').next().unwrap());
    let mut names: Vec<&str> = names.collect();
    names.sort();
    insta::assert_snapshot!(names.join("\n"), @r"
    NetworkPolicy/dev1-workspace-deny-all
    NetworkPolicy/dev1-workspace-egress
    NetworkPolicy/dev1-workspace-ingress-gateway
    PersistentVolumeClaim/dev1-workspace-pvc
    Pod/dev1-workspace-pod
    Role/dev1-workspace
    RoleBinding/dev1-workspace
    Service/dev1-workspace-svc
    ServiceAccount/dev1-workspace
    Workspace/dev1
    ");
    site.make_ready("dev1-workspace-pod").await;
    let address = |w: &Workspace| w.status.as_ref().map(|status| status.pod_ip.clone());
    site.until("dev1", "Running at its address", |w| {
        phase(w) == Some(Phase::Running) && address(w).as_deref() == Some("192.0.2.7")
    })
    .await;

    let stopped = site
        .until("dev1", "Stopped", |w| phase(w) == Some(Phase::Stopped))
        .await;
    assert_eq!(address(&stopped).as_deref(), Some(""), "told before the pod is gone");
    assert!(eventually(async || site.pods().get_opt("dev1-workspace-pod").await.unwrap().is_none()).await);

    let stopped_at = site
        .workspaces()
        .get("dev1")
        .await
        .unwrap()
        .status
        .unwrap()
        .stopped_at
        .unwrap()
        .0;
    let wake = json!({"metadata": {"annotations": {"workspace.devplane.io/wake-requested-at": (stopped_at + Duration::from_secs(1)).to_string()}}});
    site.workspaces()
        .patch("dev1", &PatchParams::default(), &Patch::Merge(wake))
        .await
        .unwrap();
    site.until("dev1", "Creating", |w| phase(w) == Some(Phase::Creating))
        .await;
    assert!(eventually(async || site.pods().get_opt("dev1-workspace-pod").await.unwrap().is_some()).await);

    let metrics = operator.metrics();
    assert!(
        metrics.contains(r#"devplane_workspace_phase_transitions_total{from_phase="Running",to_phase="Stopped"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains("devplane_workspace_create_to_running_seconds_count 1\n"),
        "{metrics}"
    );
    openmetrics::assert_as_documented(&metrics, "The operator");
    assert!(
        operator
            .log()
            .contains(r#""devplane.event":"devplane.audit.workspace.phase_transition""#),
        "{}",
        operator.log()
    );

    site.workspaces()
        .delete("dev1", &DeleteParams::default())
        .await
        .unwrap();
    assert!(
        eventually(async || site.workspaces().get_opt("dev1").await.unwrap().is_none()).await,
        "the finalizer stays"
    );
    assert!(
        eventually(async || operator.metrics().contains("devplane_operator_queue_depth 0\n")).await,
        "what is gone still waits: {}",
        operator.metrics()
    );
    assert_eq!(operator.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_operator_finds_nothing_to_write() {
    let site = Site::new("steady").await;
    let first = site.operator(&[]);
    for id in ["dev1", "dev2", "dev3"] {
        site.apply(id, &spec(id));
        site.until(id, "made", |w| {
            w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
        })
        .await;
        site.make_ready(&format!("{id}-workspace-pod")).await;
        site.until(id, "Running", |w| phase(w) == Some(Phase::Running)).await;
    }
    assert_eq!(first.stop(), Some(0));
    let before = versions(&site);

    let second = site.operator(&[]);
    // It has been through all of them once it has made a fourth, which comes behind them in its queue.
    site.apply("dev4", &spec("dev4"));
    site.until("dev4", "made", |w| {
        w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    })
    .await;
    let after: Vec<String> = versions(&site)
        .lines()
        .filter(|line| !line.contains("dev4"))
        .map(str::to_owned)
        .collect();
    assert_eq!(after.join("\n"), before.trim_end());
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_spec_is_told_of_and_mended() {
    let site = Site::new("invalid").await;
    let _operator = site.operator(&[]);
    let mut wrong = spec("dev1");
    wrong["resources"]["memory"] = json!("plenty");
    site.apply("dev1", &wrong);
    let failed = site.until("dev1", "Failed", |w| phase(w) == Some(Phase::Failed)).await;
    let status = failed.status.as_ref().unwrap();
    assert_eq!(reason(&failed), "ValidationFailed");
    assert!(
        status.message.contains("spec.resources.memory is \"plenty\""),
        "{}",
        status.message
    );
    assert!(!status.remediation_hint.is_empty());
    assert!(
        eventually(async || {
            let events = site
                .server
                .kubectl_ok(&["get", "events.events.k8s.io", "-n", "invalid", "-o", "json"], None);
            events.contains("\"Warning\"") && events.contains("ValidationFailed")
        })
        .await
    );
    site.apply("empty", &json!({"user": {"id": ""}}));
    site.until("empty", "Failed", |w| reason(w) == "ValidationFailed").await;

    site.apply("dev1", &spec("dev1"));
    site.until("dev1", "Creating", |w| phase(w) == Some(Phase::Creating))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_image_replaces_the_pod_and_keeps_the_volume() {
    let site = Site::new("image").await;
    let first = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    site.until("dev1", "made", |w| {
        w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    })
    .await;
    let claim = site.server.kubectl_ok(
        &["get", "pvc", "-n", "image", "-o", "jsonpath={.items[*].metadata.uid}"],
        None,
    );
    assert_eq!(first.stop(), Some(0));
    let _second = site.operator(&[("WORKSPACE_IMAGE", "registry.test/devplane-workspace:2")]);
    assert!(
        eventually(async || {
            let pod = site.pods().get_opt("dev1-workspace-pod").await.unwrap();
            let image = pod.and_then(|pod| pod.spec?.containers.into_iter().next()?.image);
            image.as_deref() == Some("registry.test/devplane-workspace:2")
        })
        .await
    );
    let kept = site.server.kubectl_ok(
        &["get", "pvc", "-n", "image", "-o", "jsonpath={.items[*].metadata.uid}"],
        None,
    );
    assert_eq!(claim, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replaces_the_pod_once_and_a_suspension_stops_it() {
    let site = Site::new("restart").await;
    let operator = site.operator(&[]);
    site.apply("dev1", &spec("dev1"));
    let uid = async || {
        site.pods()
            .get_opt("dev1-workspace-pod")
            .await
            .unwrap()
            .and_then(|pod| pod.uid())
    };
    site.until("dev1", "Creating", |w| phase(w) == Some(Phase::Creating))
        .await;
    assert!(eventually(async || uid().await.is_some()).await);
    site.make_ready("dev1-workspace-pod").await;
    let running = site
        .until("dev1", "Running", |w| phase(w) == Some(Phase::Running))
        .await;
    assert_eq!(
        running.status.unwrap().stops_at,
        None,
        "nothing sets an idle time-out here"
    );
    let first = uid().await;

    let pending = |w: &Workspace| {
        let condition = w
            .status
            .as_ref()
            .and_then(|s| s.condition(ConditionType::UpdatePending));
        condition.is_some_and(|condition| condition.status == "True" && condition.message.contains("resources"))
    };
    let mut larger = spec("dev1");
    larger["resources"]["cpu"] = json!("2");
    site.apply("dev1", &larger);
    let waiting = site.until("dev1", "waiting for a restart", pending).await;
    assert_eq!((phase(&waiting), uid().await), (Some(Phase::Running), first.clone()));

    let annotate = |text: &str| {
        let annotation = format!("workspace.devplane.io/restart-requested-at={text}");
        site.server.kubectl_ok(
            &[
                "annotate",
                "-n",
                "restart",
                "workspace",
                "dev1",
                "--overwrite",
                &annotation,
            ],
            None,
        );
    };
    // Of which the status keeps the seconds.
    annotate("2026-01-01T00:00:00.639472Z");
    assert!(eventually(async || uid().await.is_some_and(|uid| Some(&uid) != first.as_ref())).await);
    let noted = |w: &Workspace| w.status.as_ref().is_some_and(|s| s.restarted_at.is_some());
    let noted = site.until("dev1", "restarted", noted).await;
    assert!(noted_at(&noted, "2026-01-01T00:00:00Z"));
    assert_eq!(noted.status.unwrap().stop_reason, Some(StopReason::Restart));
    site.until("dev1", "up to date", |w| !pending(w)).await;
    let second = uid().await;
    // An earlier request, and one that makes no sense, change nothing; and neither does a new operator.
    annotate("2025-01-01T00:00:00Z");
    annotate("yesterday");
    operator.stop();
    let _operator = site.operator(&[]);
    site.make_ready("dev1-workspace-pod").await;
    let running = site
        .until("dev1", "Running", |w| phase(w) == Some(Phase::Running))
        .await;
    assert_eq!(running.status.unwrap().stop_reason, None, "the next pod runs");
    assert_eq!(uid().await, second);

    let suspend = |suspended: bool| {
        let patch = json!({"spec": {"suspended": suspended}}).to_string();
        let arguments = [
            "patch",
            "-n",
            "restart",
            "workspace",
            "dev1",
            "--type",
            "merge",
            "-p",
            &patch,
        ];
        site.server.kubectl_ok(&arguments, None);
    };
    suspend(true);
    let stopped = site.until("dev1", "suspended", |w| reason(w) == "Suspended").await;
    assert_eq!(phase(&stopped), Some(Phase::Stopped));
    assert!(eventually(async || uid().await.is_none()).await);
    annotate("2026-02-01T00:00:00Z");
    site.until("dev1", "suspended still", |w| {
        noted_at(w, "2026-02-01T00:00:00Z") && reason(w) == "Suspended"
    })
    .await;
    assert_eq!(uid().await, None);
    suspend(false);
    site.until("dev1", "Stopped", |w| reason(w) == "Stopped").await;
    assert_eq!(uid().await, None, "it waits for a visit");
}

fn noted_at(workspace: &Workspace, time: &str) -> bool {
    let restarted = workspace
        .status
        .as_ref()
        .and_then(|status| status.restarted_at.as_ref());
    restarted.is_some_and(|at| at.0.to_string() == time)
}

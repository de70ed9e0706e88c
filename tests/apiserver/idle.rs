//! Whoever is at a terminal keeps its workspace: gateways say so in `status.sessions`, and the operator waits.

use crate::eventually::eventually;
use crate::operator::{Site, phase, spec};
use devplane::api::status::ConditionType;
use devplane::api::{Phase, Workspace};
use devplane::clock::{Clock, SystemClock};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

/// The pod of a gateway, without which nobody can be connected.
fn gateway(site: &Site) {
    site.create_objects(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gateway-1", "labels": {"app": "workspace-gateway"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }));
}

/// What that gateway would write.
async fn connected(site: &Site, name: &str, is_connected: bool) {
    let session = json!({"id": "t1", "since": SystemClock.now(), "gateway": "gateway-1"});
    let sessions: Vec<Value> = is_connected.then_some(session).into_iter().collect();
    let patch = Patch::Merge(json!({"status": {"sessions": sessions}}));
    site.workspaces()
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

fn update_is_pending(workspace: &Workspace) -> bool {
    let status = workspace.status.as_ref();
    status.is_some_and(|status| {
        status
            .condition(ConditionType::UpdatePending)
            .is_some_and(|pending| pending.status == "True" && pending.message.contains("resources"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_waits_until_nobody_is_connected() {
    let site = Site::new("update-when-idle").await;
    gateway(&site);
    let _operator = site.operator(&[("UPDATE_WHEN_IDLE_FOR", "2s")]);
    site.create("dev1", &spec("dev1")).await;
    site.runs("dev1").await;
    connected(&site, "dev1", true).await;
    let uid = async || {
        let pod = site.pods().get_opt("dev1-workspace-pod").await.unwrap();
        pod.and_then(|pod| pod.uid())
    };
    let first = uid().await;
    site.patch("dev1", &json!({"spec": {"resources": {"cpu": "2"}}})).await;
    site.until("dev1", "told that an update is pending", update_is_pending)
        .await;
    // Longer than it would wait for without a terminal.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(uid().await, first, "replaced under its user's hands");
    assert!(update_is_pending(&site.workspaces().get("dev1").await.unwrap()));
    connected(&site, "dev1", false).await;
    assert!(eventually(async || uid().await.is_some_and(|uid| Some(uid) != first)).await);
    let pod = site.pods().get("dev1-workspace-pod").await.unwrap().spec.unwrap();
    let limits = pod.containers[0].resources.clone().unwrap().limits.unwrap();
    assert_eq!(limits["cpu"].0, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_asks_for_it_stays_while_a_terminal_is_open() {
    let site = Site::new("keep-connected").await;
    gateway(&site);
    let _operator = site.operator(&[]);
    let mut given = spec("dev1");
    given["lifecycle"] = json!({"keepAlive": "connected"});
    site.create("dev1", &given).await;
    site.runs("dev1").await;
    connected(&site, "dev1", true).await;
    site.patch("dev1", &json!({"spec": {"lifecycle": {"idleTimeout": "2s"}}}))
        .await;
    let stays = |w: &Workspace| {
        let never = w.status.as_ref().is_some_and(|status| status.stops_at.is_none());
        phase(w) == Some(Phase::Running) && never
    };
    site.until("dev1", "to stay", stays).await;
    // Longer than it would stay without a terminal.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(stays(&site.workspaces().get("dev1").await.unwrap()));
    connected(&site, "dev1", false).await;
    let stopped = site
        .until("dev1", "Stopped", |w| phase(w) == Some(Phase::Stopped))
        .await;
    let message = stopped.status.unwrap().message;
    assert!(
        message.contains("no terminal is open and nobody has typed"),
        "{message}"
    );
}

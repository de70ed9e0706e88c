//! Times that lie ahead of the operator's clock, which a hand or a wrong clock has written down.

use crate::eventually::eventually;
use crate::operator::{Site, phase, spec};
use devplane::api::status::ConditionType;
use devplane::api::{Phase, Workspace};
use devplane::clock::{Clock, SystemClock};
use devplane::config::gateway::NewWorkspace;
use devplane::config::session::SessionRules;
use devplane::gateway::workspaces::Workspaces;
use devplane::units::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const WAKE: &str = "workspace.devplane.io/wake-requested-at";
const RESTART: &str = "workspace.devplane.io/restart-requested-at";
const AHEAD: &str = "2100-01-01T00:00:00Z";

async fn ask(site: &Site, annotations: Value) {
    site.patch("dev1", &json!({"metadata": {"annotations": annotations}}))
        .await;
}

/// Status and message of what is said of its requests.
fn told(workspace: &Workspace) -> Option<(&str, &str)> {
    let condition = workspace.status.as_ref()?.condition(ConditionType::RequestsAccepted)?;
    Some((&condition.status, &condition.message))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_from_the_future_neither_keeps_a_workspace_running_nor_stops_later_ones() {
    let site = Site::new("clocks").await;
    let operator = site.operator(&[("IDLE_TIMEOUT", "15s")]);
    site.apply("dev1", &spec("dev1"));
    site.runs("dev1").await;
    ask(&site, json!({WAKE: AHEAD, RESTART: AHEAD})).await;
    let passed_over = site.until("dev1", "told of its requests", |w| told(w).is_some()).await;
    let (status, message) = told(&passed_over).unwrap();
    assert_eq!(status, "False");
    assert!(
        message.contains(&format!("{WAKE} is dated {AHEAD}")) && message.contains(RESTART),
        "{message}"
    );
    let stopped = site
        .until("dev1", "Stopped", |w| phase(w) == Some(Phase::Stopped))
        .await;
    assert_eq!(stopped.status.unwrap().restarted_at, None, "{}", operator.log());

    // It waits for its time, and comes about by itself.
    ask(
        &site,
        json!({RESTART: null, WAKE: SystemClock.now() + SignedDuration::from_secs(72)}),
    )
    .await;
    site.until("dev1", "told of its request", |w| {
        told(w).is_some_and(|(_, message)| !message.contains(RESTART))
    })
    .await;
    site.runs("dev1").await;
    site.until("dev1", "told no more", |w| told(w).is_none()).await;
    ask(&site, json!({WAKE: null})).await;
    site.until("dev1", "Stopped again", |w| phase(w) == Some(Phase::Stopped))
        .await;

    // What an operator with a wrong clock has left.
    let status = json!({"status": {"stoppedAt": AHEAD, "restartedAt": AHEAD, "lastAccessed": AHEAD}});
    site.workspaces()
        .patch_status("dev1", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let is_past = |workspace: &Workspace| {
        let status = workspace.status.as_ref();
        let times = status.map(|status| [&status.stopped_at, &status.restarted_at, &status.last_accessed]);
        let latest = SystemClock.now() + SignedDuration::from_secs(5);
        times.is_some_and(|times| {
            times
                .iter()
                .all(|time| time.as_ref().is_some_and(|time| time.0 < latest))
        })
    };
    site.until("dev1", "what can be", is_past).await;
    ask(
        &site,
        json!({RESTART: SystemClock.now() + SignedDuration::from_secs(1)}),
    )
    .await;
    site.runs("dev1").await;
}

/// A gateway whose clock is fast dates by the API server's, so that nobody waits for the difference.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_with_a_fast_clock_asks_for_is_done_at_once() {
    let site = Site::new("fast-gateway").await;
    let operator = site.operator(&[("IDLE_TIMEOUT", "0")]);
    site.apply("dev1", &spec("dev1"));
    site.runs("dev1").await;
    let gateway = Arc::new(gateway(&site));
    let watched = Arc::clone(&gateway);
    let watch = tokio::spawn(async move { watched.watch().await });
    assert!(eventually(async || gateway.is_watched()).await);
    for ahead in [600, 0] {
        let before = site.pods().get("dev1-workspace-pod").await.unwrap().uid();
        let now = SystemClock.now() + SignedDuration::from_secs(ahead);
        gateway.request_restart("dev1", "r1", now).await.unwrap();
        let is_another = eventually(async || {
            let pod = site.pods().get_opt("dev1-workspace-pod").await.unwrap();
            pod.is_some_and(|pod| pod.uid() != before && pod.metadata.deletion_timestamp.is_none())
        });
        assert!(is_another.await, "{ahead}: {}", operator.log());
        let running = site.runs("dev1").await;
        assert_eq!(told(&running), None);
        let requested: Timestamp = running.annotations()[RESTART].parse().unwrap();
        assert!(
            requested <= SystemClock.now() + SignedDuration::from_secs(1),
            "{requested}"
        );
    }
    watch.abort();
}

fn gateway(site: &Site) -> Workspaces {
    let one: Quantity = "1Gi".parse().unwrap();
    let new = NewWorkspace {
        providers: vec![],
        cpu: one.clone(),
        memory: one.clone(),
        storage: one,
        storage_class: None,
        classes: vec![],
    };
    let minute = Duration::from_secs(60);
    let rules = SessionRules {
        lifetime: minute,
        idle_lifetime: None,
        refresh_every: minute,
        refresh_grace: minute,
        watch_loss: minute,
    };
    Workspaces::new(
        site.client.clone(),
        site.namespace.clone(),
        "gateway-0".to_owned(),
        new,
        rules,
        Arc::new(SystemClock),
    )
}

//! Times that lie ahead of the operator's clock, which a hand or a wrong clock has written down.

use crate::operator::{Site, phase, spec};
use devplane::api::status::ConditionType;
use devplane::api::{Phase, Workspace};
use devplane::clock::{Clock, SystemClock};
use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

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
    let operator = site.operator(&[("IDLE_TIMEOUT", "4s")]);
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
        json!({RESTART: null, WAKE: SystemClock.now() + SignedDuration::from_secs(63)}),
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
    operator.assert_never_forbidden();
}

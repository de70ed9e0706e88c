//! What a real operator tells Prometheus changes as its Workspaces do (docs/reference/metrics.md).

use crate::eventually::eventually;
use crate::openmetrics;
use crate::operator::{Operator, Site, phase, spec};
use crate::recovery::{recovers, remove_webhook, silent_webhook, webhook};
use devplane::api::Phase;
use devplane::clock::{Clock, SystemClock};
use serde_json::json;

/// The value of a sample, by its name with labels; 0 where it is not there yet.
fn value(metrics: &str, sample: &str) -> f64 {
    let told = metrics
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    told.map_or(0.0, |text| text.parse().unwrap())
}

async fn until(operator: &Operator, sample: &str, holds: impl Fn(f64) -> bool) {
    let told = eventually(async || holds(value(&operator.metrics(), sample))).await;
    assert!(told, "{sample}: {}\n{}", operator.metrics(), operator.log());
}

#[expect(clippy::float_cmp, reason = "what is counted is whole")]
async fn is(operator: &Operator, sample: &str, expected: f64) {
    until(operator, sample, |value| value == expected).await;
}

async fn in_phase(operator: &Operator, phase: Phase, expected: f64) {
    is(operator, &format!("devplane_workspaces{{phase=\"{phase}\"}}"), expected).await;
}

async fn stopped(operator: &Operator, reason: &str) {
    is(
        operator,
        &format!("devplane_workspace_stops_total{{reason=\"{reason}\"}}"),
        1.0,
    )
    .await;
}

async fn moved(operator: &Operator, from: &str, to: &str, times: f64) {
    let sample = format!("devplane_workspace_phase_transitions_total{{from_phase=\"{from}\",to_phase=\"{to}\"}}");
    is(operator, &sample, times).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_phases_and_starts_are_counted_as_they_happen() {
    let site = Site::new("counted").await;
    let operator = site.operator(&[]);
    let ids = ["ended", "restarted", "updated", "suspended", "idle"];
    for id in ids {
        let mut given = spec(id);
        given["lifecycle"] = json!({"idleTimeout": "0", "updatePolicy": "Immediate"});
        site.create(id, &given).await;
    }
    in_phase(&operator, Phase::Creating, 5.0).await;
    for id in ids {
        site.runs(id).await;
    }
    in_phase(&operator, Phase::Running, 5.0).await;
    in_phase(&operator, Phase::Creating, 0.0).await;
    moved(&operator, "None", "Creating", 5.0).await;
    moved(&operator, "Creating", "Running", 5.0).await;
    let start = |part: &str| format!("devplane_workspace_create_to_running_seconds_{part}");
    is(&operator, &start("count"), 5.0).await;
    is(&operator, &start("bucket{le=\"+Inf\"}"), 5.0).await;
    until(&operator, &start("sum"), |seconds| seconds > 0.0 && seconds < 300.0).await;

    // The one that ends by itself is waited for while the others are stopped.
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    site.set_pod_status("ended-workspace-pod", &evicted).await.unwrap();
    in_phase(&operator, Phase::Failed, 1.0).await;
    moved(&operator, "Running", "Failed", 1.0).await;

    let restart = json!({"workspace.devplane.io/restart-requested-at": SystemClock.now()});
    site.patch("restarted", &json!({"metadata": {"annotations": restart}}))
        .await;
    stopped(&operator, "restart").await;
    site.patch("updated", &json!({"spec": {"resources": {"cpu": "2"}}}))
        .await;
    stopped(&operator, "update").await;
    site.patch("suspended", &json!({"spec": {"suspended": true}})).await;
    stopped(&operator, "suspended").await;
    in_phase(&operator, Phase::Stopped, 1.0).await;
    site.patch("idle", &json!({"spec": {"lifecycle": {"idleTimeout": "1s"}}}))
        .await;
    stopped(&operator, "idle").await;
    in_phase(&operator, Phase::Stopped, 2.0).await;
    moved(&operator, "Running", "Stopped", 2.0).await;
    stopped(&operator, "ended").await;

    // Each has another pod, which is another start.
    for id in ["restarted", "ended"] {
        recovers(&site, id).await;
        site.runs(id).await;
    }
    is(&operator, &start("count"), 7.0).await;
    for stage in ["finalizer", "plan", "apply", "status"] {
        let sample = format!("devplane_operator_reconcile_duration_seconds_count{{stage=\"{stage}\"}}");
        until(&operator, &sample, |passes| passes >= 5.0).await;
    }
    is(&operator, "devplane_operator_queue_depth", 0.0).await;
    openmetrics::assert_as_documented(&operator.metrics(), "The operator");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_counted_by_stage_and_the_queue_by_what_waits() {
    let site = Site::new("errors").await;
    site.forbids();
    let operator = site.operator(&[]);
    is(&operator, "devplane_operator_leader", 1.0).await;
    let errors = |stage: &str| format!("devplane_operator_reconcile_errors_total{{stage=\"{stage}\"}}");
    for (stage, resource, verb) in [
        ("apply", "pods", "create"),
        ("status", "workspaces/status", "patch"),
        ("finalizer", "workspaces", "patch"),
    ] {
        is(&operator, &errors(stage), 0.0).await;
        site.let_operator(verb, resource, false);
        site.create(stage, &spec(stage)).await;
        until(&operator, &errors(stage), |count| count >= 1.0).await;
        site.let_operator(verb, resource, true);
        recovers(&site, stage).await;
    }
    until(&operator, "devplane_workspace_status_patch_failures_total", |count| {
        count >= 1.0
    })
    .await;

    is(&operator, "devplane_operator_queue_depth", 0.0).await;
    let (port, certificate, silent) = silent_webhook().await;
    webhook(&site, "waiting", port, 30, Some(&certificate));
    site.create("waiting", &spec("waiting")).await;
    is(&operator, "devplane_operator_queue_depth", 1.0).await;
    remove_webhook(&site, "waiting");
    silent.abort();
    recovers(&site, "waiting").await;
    is(&operator, "devplane_operator_queue_depth", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_alone_says_that_it_leads_and_counts_workspaces() {
    let site = Site::new("leads").await;
    let candidate = |name| site.operator(&[("LEADER_ELECT", "true"), ("POD_NAME", name)]);
    let first = candidate("first");
    is(&first, "devplane_operator_leader", 1.0).await;
    let second = candidate("second");
    site.create("dev1", &spec("dev1")).await;
    let running = site.runs("dev1").await;
    assert_eq!(phase(&running), Some(Phase::Running));
    in_phase(&first, Phase::Running, 1.0).await;
    let standing_by = eventually(async || second.metrics().contains("devplane_operator_leader 0\n")).await;
    assert!(standing_by, "{}", second.metrics());
    assert!(
        !second.metrics().contains("devplane_workspaces{"),
        "{}",
        second.metrics()
    );
    assert_eq!(first.stop(), Some(0));
    is(&second, "devplane_operator_leader", 1.0).await;
    in_phase(&second, Phase::Running, 1.0).await;
}

//! What the operator asks of an API server while nothing happens: counts, by the API server's own metrics. The server is this
//! test's alone, so that every request is the operator's, the test's or the server's own.

use crate::apiserver::ApiServer;
use crate::eventually::eventually;
use crate::operator::{Operator, Site};
use crate::requests::{Counts, counts, since};
use devplane::api::Phase;
use kube::api::ListParams;
use serde_json::json;
use std::time::Duration;

const WORKSPACES: usize = 20;

/// Everything that the operator reads or writes, but for its Lease.
const KINDS: &[&str] = &[
    "configmaps",
    "events",
    "networkpolicies",
    "persistentvolumeclaims",
    "pods",
    "rolebindings",
    "roles",
    "serviceaccounts",
    "services",
    "workspaces",
];

fn of_our_kinds(counts: &Counts) -> Vec<String> {
    let ours = counts.iter().filter(|((_, resource), _)| {
        let kind = resource.split('/').next().unwrap_or_default();
        KINDS.contains(&kind)
    });
    ours.map(|((verb, resource), count)| format!("{count} x {verb} {resource}"))
        .collect()
}

/// Waits until no pass has been made for two seconds, and at least one for each Workspace.
async fn quiet(operator: &Operator) {
    let passes = || {
        let metrics = operator.metrics();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("devplane_operator_reconcile_duration_seconds_count{stage=\"plan\"} "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0usize)
    };
    let done = eventually(async || {
        let before = passes();
        tokio::time::sleep(Duration::from_secs(2)).await;
        before >= WORKSPACES && passes() == before
    });
    assert!(done.await, "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workspaces_cost_no_request_and_a_restart_no_write() {
    let server: &'static ApiServer = Box::leak(Box::new(ApiServer::start()));
    let site = Site::at(server, "cost").await;
    let settings = [("LEADER_ELECT", "true"), ("IDLE_TIMEOUT", "8h")];
    let operator = site.operator(&settings);
    for index in 0..WORKSPACES {
        let id = format!("dev{index}");
        site.apply(
            &id,
            &json!({
                "user": {"id": id, "email": format!("{id}@example.test"), "issuer": "https://idp.test", "subject": id},
                "resources": {"cpu": "1", "memory": "1Gi", "storage": "1Gi"},
            }),
        );
    }
    for index in 0..WORKSPACES {
        let id = format!("dev{index}");
        site.until(&id, "Creating", |workspace| {
            workspace
                .status
                .as_ref()
                .is_some_and(|status| !status.pod_name.is_empty())
        })
        .await;
        site.make_ready(&format!("{id}-workspace-pod")).await;
    }
    let all_run = eventually(async || {
        let workspaces = site.workspaces().list(&ListParams::default()).await.unwrap();
        workspaces
            .iter()
            .all(|workspace| workspace.status.as_ref().and_then(|status| status.phase) == Some(Phase::Running))
    });
    assert!(all_run.await, "{}", operator.log());
    quiet(&operator).await;

    let before = counts(&site.client).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let idle = since(&before, &counts(&site.client).await);
    let others: Vec<String> = of_our_kinds(&idle)
        .into_iter()
        .filter(|what| !what.contains(" WATCH "))
        .collect();
    assert_eq!(others, Vec::<String>::new(), "while nothing happens");
    let renewals = |counts: &Counts| counts.get(&("PUT".to_owned(), "leases".to_owned())).copied();
    assert!(renewals(&idle).is_some(), "the counting counts: {idle:?}");

    let before = counts(&site.client).await;
    assert_eq!(operator.stop(), Some(0));
    let operator = site.operator(&settings);
    quiet(&operator).await;
    let restarted = since(&before, &counts(&site.client).await);
    let reads = [" WATCH ", " LIST ", " GET "];
    let writes: Vec<String> = of_our_kinds(&restarted)
        .into_iter()
        .filter(|what| !reads.iter().any(|read| what.contains(read)))
        .collect();
    assert_eq!(writes, Vec::<String>::new(), "by a restarted operator");
    let listed = restarted.get(&("LIST".to_owned(), "pods".to_owned())).copied();
    assert!(listed.is_some(), "the new one has read: {restarted:?}");
    operator.assert_never_forbidden();
}

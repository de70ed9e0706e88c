//! What the operator asks of an API server while nothing happens: counts, by the API server's own metrics. The server is this
//! test's alone, so that every request is the operator's, the test's or the server's own.

use crate::apiserver::ApiServer;
use crate::eventually::eventually;
use crate::operator::{Operator, Site, spec};
use crate::requests::{Counts, counts, since};
use devplane::api::{Phase, Workspace};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const WORKSPACES: usize = 20;
/// Of which a central change concerns every other one.
const POLICED: usize = 200;

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

fn writes(counts: &Counts) -> Vec<String> {
    let reads = [" WATCH ", " LIST ", " GET "];
    let ours = of_our_kinds(counts).into_iter();
    ours.filter(|what| !reads.iter().any(|read| what.contains(read)))
        .collect()
}

/// Waits until nothing waits for a pass, none has been made for two seconds, and at least one for each of so many Workspaces.
async fn quiet(operator: &Operator, workspaces: usize) {
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
        let is_idle = operator.metrics().contains("devplane_operator_queue_depth 0\n");
        before >= workspaces && is_idle && passes() == before
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
    quiet(&operator, WORKSPACES).await;

    let before = counts(&site.client).await;
    // The cluster's ranges are set (CLUSTER_CIDRS): of a node that joins the operator does not even hear.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "joins"}, "spec": {"podCIDRs": ["10.244.7.0/24"]}});
    site.server.kubectl_ok(&["create", "-f", "-"], Some(&node.to_string()));
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
    quiet(&operator, WORKSPACES).await;
    let restarted = since(&before, &counts(&site.client).await);
    assert_eq!(writes(&restarted), Vec::<String>::new(), "by a restarted operator");
    let listed = restarted.get(&("LIST".to_owned(), "pods".to_owned())).copied();
    assert!(listed.is_some(), "the new one has read: {restarted:?}");
}

/// A change of the settings costs one write for each Workspace that it makes a difference to, and none for the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_central_change_of_policies_is_one_write_for_each_that_differs_and_no_pod_is_restarted() {
    let server: &'static ApiServer = Box::leak(Box::new(ApiServer::start()));
    let site = Site::at(server, "cost-policies").await;
    let first = site.operator(&[("EGRESS_PORTS", "443")]);
    for index in 0..POLICED {
        let id = format!("dev{index}");
        let mut spec = spec(&id);
        if index % 2 == 1 {
            spec["aiConfig"]["egressPorts"] = json!([22]);
        }
        site.create(&id, &spec).await;
    }
    let pods = async || {
        let all = site.pods().list(&ListParams::default()).await.unwrap();
        all.iter().filter_map(ResourceExt::uid).collect::<BTreeSet<_>>()
    };
    let pods_made = async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let counts = counts(&site.client).await;
        counts
            .get(&("POST".to_owned(), "pods".to_owned()))
            .copied()
            .unwrap_or_default()
    };
    // On a machine that is busy with others it takes more than a minute.
    let made = eventually(async || pods_made().await >= POLICED as u64);
    let made = made.await || eventually(async || pods_made().await >= POLICED as u64).await;
    assert!(made, "{} pods are made", pods_made().await);
    // No pod gets ready here, and what only goes on is told later, the later the more there is.
    let all_told = eventually(async || {
        let workspaces = site.workspaces().list(&ListParams::default()).await.unwrap();
        let is_told = |workspace: &Workspace| {
            workspace
                .status
                .as_ref()
                .is_some_and(|status| !status.pod_name.is_empty())
        };
        workspaces.iter().all(is_told)
    });
    assert!(all_told.await, "{}", first.log());
    quiet(&first, POLICED).await;
    assert_eq!(first.stop(), Some(0));
    let pods_before = pods().await;
    assert_eq!(pods_before.len(), POLICED);

    let before = counts(&site.client).await;
    let second = site.operator(&[("EGRESS_PORTS", "8443")]);
    quiet(&second, POLICED).await;
    let changed = since(&before, &counts(&site.client).await);
    assert_eq!(
        writes(&changed),
        [format!("{} x APPLY networkpolicies", POLICED / 2)],
        "{}",
        second.log()
    );
    assert_eq!(pods().await, pods_before, "no pod is restarted");
}

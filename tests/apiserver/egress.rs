//! What workspaces may reach, and how a change of it gets to those that run.

use crate::chart;
use crate::eventually::eventually;
use crate::operator::{Operator, Site, spec};
use crate::workspaces::versions;
use devplane::api::Workspace;
use devplane::api::status::ConditionType;
use devplane::clock::{Clock, SystemClock};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

async fn egress(site: &Site, id: &str) -> Value {
    let policies: Api<NetworkPolicy> = Api::namespaced(site.client.clone(), &site.namespace);
    let policy = policies.get(&format!("{id}-workspace-egress")).await.unwrap();
    serde_json::to_value(policy.spec.unwrap().egress).unwrap()
}

/// The rule for addresses outside the cluster; the one for a cache of names is another.
async fn outside(site: &Site, id: &str) -> Option<Value> {
    let rules = egress(site, id).await;
    let mut rules = rules.as_array().unwrap().iter();
    rules
        .find(|rule| rule["to"][0].get("ipBlock").is_some() && rule["ports"][0]["port"] != 53)
        .cloned()
}

/// What of the IPv4 addresses is closed.
async fn closed(site: &Site, id: &str) -> Vec<String> {
    let rule = outside(site, id).await.unwrap_or_default();
    let except = rule["to"][0]["ipBlock"]["except"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    except.iter().map(|range| range.as_str().unwrap().to_owned()).collect()
}

/// Status, reason and message.
fn condition(workspace: &Workspace, kind: ConditionType) -> (String, String, String) {
    let condition = workspace.status.as_ref().and_then(|status| status.condition(kind));
    let told = condition.map(|told| (told.status.clone(), told.reason.clone(), told.message.clone()));
    told.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_central_change_reaches_running_workspaces_and_writes_only_what_differs() {
    let site = Site::new("egress-change").await;
    let before = site.operator(&[("EGRESS_PORTS", "443")]);
    site.apply("dev1", &spec("dev1"));
    let mut own = spec("dev2");
    own["aiConfig"]["egressPorts"] = json!([22]);
    site.apply("dev2", &own);
    for id in ["dev1", "dev2"] {
        site.runs(id).await;
    }
    assert_eq!(outside(&site, "dev1").await.unwrap()["ports"][0]["port"], 443);
    assert_eq!(before.stop(), Some(0));
    let versions_before: BTreeSet<String> = versions(&site).lines().map(str::to_owned).collect();

    let after = site.operator(&[("EGRESS_PORTS", "8443")]);
    let changed = eventually(async || {
        outside(&site, "dev1")
            .await
            .is_some_and(|rule| rule["ports"][0]["port"] == 8443)
    });
    assert!(changed.await, "{}", after.log());
    // It has been through all of them once it has made a third, which comes behind them in its queue.
    site.apply("dev3", &spec("dev3"));
    site.until("dev3", "made", |w| {
        w.status.as_ref().is_some_and(|s| !s.pod_name.is_empty())
    })
    .await;
    let versions_after: BTreeSet<String> = versions(&site)
        .lines()
        .filter(|line| !line.contains("dev3"))
        .map(str::to_owned)
        .collect();
    let written: Vec<&str> = versions_after
        .difference(&versions_before)
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(written, ["NetworkPolicy/dev1-workspace-egress"], "and the pods go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_can_narrow_what_is_allowed_and_is_told_what_it_can_t_have() {
    let site = Site::new("egress-ceiling").await;
    let _operator = site.operator(&[
        ("LLM_NAMESPACES", r#"["ai-system", {"name": "git", "ports": [443], "podLabels": {"app": "gitea"}}]"#),
        ("WORKSPACE_CEILINGS", r#"{"egressNamespaces": ["ai-system", {"name": "git", "ports": [443, 22], "podLabels": {"app": "gitea"}}], "egressPorts": [22, 443]}"#),
        ("EGRESS_CIDRS", "198.51.100.0/24,2001:db8::/32"),
        ("DNS_NODE_LOCAL", "169.254.20.10"),
    ]);
    let mut asks = spec("dev1");
    asks["aiConfig"]["egressNamespaces"] = json!(["git", "production"]);
    asks["aiConfig"]["egressPorts"] = json!([22, 5432]);
    asks["aiConfig"]["egressCIDRs"] = json!(["198.51.100.7/32", "0.0.0.0/0"]);
    site.apply("dev1", &asks);
    let limited = site
        .until("dev1", "limited", |w| {
            condition(w, ConditionType::WithinCeilings).0 == "False"
        })
        .await;
    let (_, reason, message) = condition(&limited, ConditionType::WithinCeilings);
    assert_eq!(reason, "Limited");
    for told in [
        "egressNamespaces asks for production, and the setting workspace.ceilings.egressNamespaces allows ai-system, git",
        "egressPorts asks for 5432, and the setting workspace.ceilings.egressPorts allows 22, 443",
        "egressCIDRs asks for 0.0.0.0/0, and the setting workspace.egressCIDRs allows 198.51.100.0/24, 2001:db8::/32",
    ] {
        assert!(message.contains(told), "{message}");
    }
    let rules = egress(&site, "dev1").await;
    let rules = rules.as_array().unwrap();
    assert_eq!(rules.len(), 4, "{rules:#?}");
    assert_eq!(rules[1]["to"], json!([{"ipBlock": {"cidr": "169.254.20.10/32"}}]));
    assert_eq!(rules[2]["to"][0]["podSelector"]["matchLabels"], json!({"app": "gitea"}));
    assert_eq!(
        rules[2]["ports"],
        json!([{"port": 22, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}])
    );
    assert_eq!(rules[3]["to"], json!([{"ipBlock": {"cidr": "198.51.100.0/24"}}]));

    asks["aiConfig"] = json!({"egressNamespaces": ["ai-system"], "egressPorts": [443], "egressCIDRs": []});
    site.apply("dev1", &asks);
    let within = |w: &Workspace| condition(w, ConditionType::WithinCeilings).0 == "True";
    site.until("dev1", "within its ceilings", within).await;
    assert!(
        eventually(async || outside(&site, "dev1").await.is_none()).await,
        "[] is none"
    );
}

/// The chart's rights to read the cluster's ranges, for the operator of this tier.
fn allow_reading_ranges(site: &Site) {
    let mut objects = chart::rendered(site.server, "minimal", &site.namespace, "elsewhere");
    objects.retain(|object| {
        object["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("devplane-cluster-ranges.")
    });
    assert_eq!(objects.len(), 4);
    for object in objects.iter_mut().filter(|object| object.get("subjects").is_some()) {
        object["subjects"] = json!([{"kind": "User", "name": "operator", "apiGroup": "rbac.authorization.k8s.io"}]);
    }
    let all = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    site.server.kubectl_ok(&["apply", "-f", "-"], Some(&all.to_string()));
}

fn node(site: &Site, name: &str, pods: &str, address: &str) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": pods, "podCIDRs": [pods]}});
    site.server.kubectl_ok(&["create", "-f", "-"], Some(&node.to_string()));
    heartbeat(site, name, address);
}

fn heartbeat(site: &Site, name: &str, address: &str) {
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": SystemClock.now().to_string()}],
    }});
    site.server.kubectl_ok(
        &[
            "patch",
            "node",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ],
        None,
    );
}

fn passes(operator: &Operator) -> String {
    let metrics = operator.metrics();
    let mut lines = metrics.lines();
    let line =
        lines.find(|line| line.starts_with("devplane_operator_reconcile_duration_seconds_count{stage=\"plan\"}"));
    line.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_s_own_ranges_are_found_and_followed_and_never_guessed() {
    let site = Site::new("egress-ranges").await;
    let operator = site.operator(&[("CLUSTER_CIDRS", "")]);
    site.apply("dev1", &spec("dev1"));
    let unknown = |w: &Workspace| condition(w, ConditionType::EgressAsConfigured).1 == "ClusterRangesUnknown";
    let told = site.until("dev1", "without known ranges", unknown).await;
    let (_, _, message) = condition(&told, ConditionType::EgressAsConfigured);
    assert!(
        message.contains("can't be read") && message.contains("CLUSTER_CIDRS"),
        "{message}"
    );
    assert_eq!(outside(&site, "dev1").await, None);
    assert!(
        operator
            .metrics()
            .contains("devplane_operator_cluster_ranges_known 0\n")
    );
    assert!(
        operator.log().contains("workspaces reach nothing outside the cluster"),
        "{}",
        operator.log()
    );

    // The API server of this tier keeps no endpoint of its own.
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [{"addresses": ["192.168.7.2"]}],
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
    });
    site.server.kubectl_ok(&["apply", "-f", "-"], Some(&slice.to_string()));
    node(&site, "ranges-a", "10.244.0.0/24", "192.168.7.11");
    allow_reading_ranges(&site);
    let known = |w: &Workspace| condition(w, ConditionType::EgressAsConfigured).0 == "True";
    site.until("dev1", "with known ranges", known).await;
    let ranges = closed(&site, "dev1").await;
    for own in ["10.96.0.0/16", "10.244.0.0/24", "192.168.7.2/32", "192.168.7.11/32"] {
        assert!(ranges.iter().any(|range| range == own), "{own}: {ranges:?}");
    }
    assert!(
        operator
            .metrics()
            .contains("devplane_operator_cluster_ranges_known 1\n")
    );

    node(&site, "ranges-b", "10.244.1.0/24", "192.168.7.12");
    let follows = eventually(async || {
        let ranges = closed(&site, "dev1").await;
        ["10.244.0.0/23", "192.168.7.12/32"]
            .iter()
            .all(|new| ranges.iter().any(|range| range == new))
    });
    assert!(follows.await, "{:?}", closed(&site, "dev1").await);

    // The policy that was written just now is told of, too.
    let mut before = passes(&operator);
    let quiet = eventually(async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = passes(&operator);
        std::mem::replace(&mut before, now.clone()) == now
    });
    assert!(quiet.await, "{}", operator.log());
    let before = passes(&operator);
    for _ in 0..3 {
        heartbeat(&site, "ranges-b", "192.168.7.12");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(passes(&operator), before, "a heartbeat costs no pass");

    // No kubelet gave this pod its address, and its Node does not say that it has it.
    let place = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "dev1-workspace-pod"}, "target": {"kind": "Node", "name": "ranges-a"}});
    let binding = "/api/v1/namespaces/egress-ranges/pods/dev1-workspace-pod/binding";
    site.server
        .kubectl_ok(&["create", "--raw", binding, "-f", "-"], Some(&place.to_string()));
    site.make_ready("dev1-workspace-pod").await;
    let contradicted = site.until("dev1", "without known ranges again", unknown).await;
    let (_, _, message) = condition(&contradicted, ConditionType::EgressAsConfigured);
    assert!(message.contains("a pod has the address 192.0.2.7"), "{message}");
    assert!(eventually(async || outside(&site, "dev1").await.is_none()).await);
    assert_eq!(contradicted.name_any(), "dev1");
    site.server
        .kubectl_ok(&["delete", "node", "ranges-a", "ranges-b"], None);
}

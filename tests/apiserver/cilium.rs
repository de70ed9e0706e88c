//! The backend of Cilium against an API server that first does not know its kind, and then knows it by Cilium's own definition.

use crate::apiserver::ApiServer;
use crate::cilium_definition::definition;
use crate::eventually::eventually;
use crate::operator::{Site, phase, reason, spec};
use crate::workspaces::until_nothing_is_written;
use devplane::api::status::ConditionType;
use devplane::api::{Phase, Workspace};
use devplane::policy::cilium::CiliumNetworkPolicy;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;

fn allow(site: &Site, verbs: &[&str]) {
    let role = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "cilium", "namespace": site.namespace},
         "rules": [{"apiGroups": ["cilium.io"], "resources": ["ciliumnetworkpolicies"], "verbs": verbs}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "cilium", "namespace": site.namespace},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "cilium"},
         "subjects": [{"kind": "User", "name": "operator", "apiGroup": "rbac.authorization.k8s.io"}]},
    ]});
    site.server.kubectl_ok(&["apply", "-f", "-"], Some(&role.to_string()));
    // An operator that begins without a right does not ask for it again.
    for verb in ["create", "delete", "get", "list", "patch", "watch"] {
        site.wait_until_operator_may(verb, "ciliumnetworkpolicies", verbs.contains(&verb));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_policed_by_cilium_and_nothing_starts_where_it_is_not_there() {
    let server: &'static ApiServer = Box::leak(Box::new(ApiServer::start()));
    let site = Site::at(server, "cilium").await;
    allow(&site, &["create", "get", "list", "patch", "watch"]);
    let operator = site.operator(&[
        ("NETWORK_POLICY_BACKEND", "cilium"),
        ("EGRESS_CIDRS", ","),
        ("EGRESS_PORTS", "443"),
        ("EGRESS_FQDNS", "git.corp.example,*.nexus.corp.example"),
        ("DNS_NODE_LOCAL", "169.254.20.10"),
    ]);
    let mut narrowed = spec("dev1");
    narrowed["aiConfig"]["egressFQDNs"] = json!(["git.corp.example", "elsewhere.example"]);
    site.apply("dev1", &narrowed);
    let failed = site
        .until("dev1", "refused", |w| reason(w) == "NetworkPolicyReconcileFailed")
        .await;
    let status = failed.status.as_ref().unwrap();
    assert!(
        status
            .message
            .contains("the cluster does not know the kind (cilium.io/v2)"),
        "{}",
        status.message
    );
    assert_eq!(site.pods().list(&ListParams::default()).await.unwrap().items.len(), 0);

    server.kubectl_ok(&["create", "-f", "-"], Some(&definition()));
    let running = site.runs("dev1").await;
    assert_eq!(phase(&running), Some(Phase::Running));
    let limited = running
        .status
        .as_ref()
        .unwrap()
        .condition(ConditionType::WithinCeilings)
        .unwrap();
    assert!(
        limited.message.contains("egressFQDNs asks for elsewhere.example"),
        "{}",
        limited.message
    );
    let policies: Api<CiliumNetworkPolicy> = Api::namespaced(site.client.clone(), &site.namespace);
    let policy = policies.get("dev1-workspace-egress").await.unwrap();
    let by_name: Vec<Value> = policy
        .spec
        .egress
        .iter()
        .filter(|rule| !rule.to_fqdns.is_empty())
        .map(|rule| serde_json::to_value(rule).unwrap())
        .collect();
    assert_eq!(
        by_name,
        [
            json!({"toFQDNs": [{"matchName": "git.corp.example"}], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]})
        ]
    );
    assert_eq!(policy.spec.egress_deny.len(), 1);
    let kubernetes: Api<NetworkPolicy> = Api::namespaced(site.client.clone(), &site.namespace);
    let emptied = kubernetes.get("dev1-workspace-egress").await.unwrap().spec.unwrap();
    assert_eq!(emptied.egress.unwrap_or_default(), []);

    // What is as it should be is not written again; what somebody took away is.
    let version = |policy: &CiliumNetworkPolicy| policy.metadata.resource_version.clone();
    until_nothing_is_written(&site, Duration::from_secs(2)).await;
    assert_eq!(
        version(&policies.get("dev1-workspace-egress").await.unwrap()),
        version(&policy)
    );
    policies
        .delete("dev1-workspace-egress", &DeleteParams::default())
        .await
        .unwrap();
    let back = eventually(async || {
        policies
            .get_opt("dev1-workspace-egress")
            .await
            .unwrap()
            .is_some_and(|there| there.spec == policy.spec)
    });
    assert!(back.await, "{}", operator.log());
}

/// As an earlier operator has made it, or somebody else.
fn left(name: &str, app: &str, owner: Option<(&str, &str, &str)>) -> Value {
    let (version, owners) = match owner {
        Some(("ServiceAccount", ..)) => ("v1", owner),
        _ => ("workspace.devplane.io/v1alpha1", owner),
    };
    let owners: Vec<Value> = owners
        .iter()
        .map(|(kind, name, uid)| json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}))
        .collect();
    json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "labels": {"app": app, "managed-by": "devplane"}, "ownerReferences": owners},
        "spec": {"endpointSelector": {"matchLabels": {"k8s:app": app}}, "egress": [{"toEntities": ["world"]}]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cilium_s_backend_has_left_goes_and_what_is_others_stays() {
    let server: &'static ApiServer = Box::leak(Box::new(ApiServer::start()));
    server.kubectl_ok(&["create", "-f", "-"], Some(&definition()));
    let site = Site::at(server, "cilium-left").await;
    allow(&site, &["create", "get", "list", "patch", "watch"]);
    let before = site.operator(&[
        ("NETWORK_POLICY_BACKEND", "cilium"),
        ("EGRESS_FQDNS", "git.corp.example"),
    ]);
    site.apply("dev1", &spec("dev1"));
    let dev1 = site.runs("dev1").await;
    let pod = site.pods().get("dev1-workspace-pod").await.unwrap().uid();
    assert_eq!(before.stop(), Some(0));
    let policies: Api<CiliumNetworkPolicy> = Api::namespaced(site.client.clone(), &site.namespace);
    let names = async || {
        let all = policies.list(&ListParams::default()).await.unwrap();
        all.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    let ours = "dev1-workspace-egress";
    assert_eq!(names().await, [ours]);
    let uid = dev1.uid().unwrap();
    let others = json!({"apiVersion": "v1", "kind": "List", "items": [
        left("workspace-canary-egress", "workspace-canary", Some(("ServiceAccount", "workspace-canary", "1"))),
        left("of-nobody", "workspace-canary", None),
        left("of-another", "workspace", Some(("Workspace", "dev1", &uid))),
        left("dev2-workspace-egress", "workspace", None),
        left("dev3-workspace-egress", "workspace", Some(("Workspace", "dev3", "another"))),
    ]});
    site.create_objects(&others);

    // Without the right nothing is taken away, and that is told.
    site.forbids();
    allow(&site, &["get"]);
    let unable = site.operator(&[]);
    site.apply("dev2", &spec("dev2"));
    let dev2 = site.runs("dev2").await;
    assert_eq!(phase(&dev2), Some(Phase::Running), "a policy of others is no conflict");
    assert!(unable.log().contains("DP0811"), "{}", unable.log());
    assert_eq!(names().await.len(), 6);
    assert_eq!(unable.stop(), Some(0));

    allow(&site, &["delete", "list", "watch"]);
    let operator = site.operator(&[]);
    let gone = eventually(async || {
        names().await
            == [
                "dev2-workspace-egress",
                "dev3-workspace-egress",
                "of-another",
                "of-nobody",
            ]
    });
    assert!(gone.await, "{:?}\n{}", names().await, operator.log());
    let kubernetes: Api<NetworkPolicy> = Api::namespaced(site.client.clone(), &site.namespace);
    let filled = kubernetes.get(ours).await.unwrap().spec.unwrap();
    assert!(
        !filled.egress.unwrap_or_default().is_empty(),
        "what takes its place is there"
    );
    let deletions = || {
        let mut told = operator.audited("workspace.policy_changed");
        told.retain(|line| line["action"] == "delete");
        told
    };
    // It is told of when the API server has answered.
    assert!(eventually(async || !deletions().is_empty()).await, "{}", operator.log());
    let deletions = deletions();
    assert_eq!(deletions.len(), 1, "{deletions:?}");
    assert!(deletions[0]["policy"] == ours && deletions[0].get("newHash").is_none());

    // An operator that ends late writes it once more.
    site.create_objects(&left(ours, "workspace", Some(("Workspace", "dev1", &uid))));
    let gone = eventually(async || policies.get_opt(ours).await.unwrap().is_none());
    assert!(gone.await, "{}", operator.log());
    assert_eq!(
        site.pods().get("dev1-workspace-pod").await.unwrap().uid(),
        pod,
        "no pod is restarted"
    );
    let is_running = |workspace: &Workspace| phase(workspace) == Some(Phase::Running);
    site.until("dev1", "Running", is_running).await;
}

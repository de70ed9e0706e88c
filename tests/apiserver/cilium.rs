//! The backend of Cilium against an API server that first does not know its kind, and then knows it by Cilium's own definition.

use crate::apiserver::ApiServer;
use crate::operator::{Site, phase, reason, spec};
use crate::workspaces::versions;
use devplane::api::Phase;
use devplane::api::status::ConditionType;
use devplane::policy::cilium::CiliumNetworkPolicy;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Cilium's definition, out of its own module.
fn definition() -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/cilium");
    let module = "github.com/cilium/cilium";
    let required = std::fs::read_to_string(directory.join("go.mod")).unwrap();
    let version = required
        .lines()
        .find_map(|line| line.strip_prefix(&format!("require {module} ")))
        .unwrap();
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .current_dir(&directory)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_str(&told).unwrap();
    let root = Path::new(told["Dir"].as_str().unwrap());
    std::fs::read_to_string(root.join("pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml")).unwrap()
}

fn allow(site: &Site) {
    let role = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "cilium", "namespace": site.namespace},
         "rules": [{"apiGroups": ["cilium.io"], "resources": ["ciliumnetworkpolicies"], "verbs": ["create", "get", "list", "patch", "watch"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "cilium", "namespace": site.namespace},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "cilium"},
         "subjects": [{"kind": "User", "name": "operator", "apiGroup": "rbac.authorization.k8s.io"}]},
    ]});
    site.server.kubectl_ok(&["apply", "-f", "-"], Some(&role.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_policed_by_cilium_and_nothing_starts_where_it_is_not_there() {
    let server: &'static ApiServer = Box::leak(Box::new(ApiServer::start()));
    let site = Site::at(server, "cilium").await;
    allow(&site);
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
    let before = versions(&site);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(versions(&site), before);
    assert_eq!(
        version(&policies.get("dev1-workspace-egress").await.unwrap()),
        version(&policy)
    );
    policies
        .delete("dev1-workspace-egress", &DeleteParams::default())
        .await
        .unwrap();
    let back = crate::eventually::eventually(async || {
        policies
            .get_opt("dev1-workspace-egress")
            .await
            .unwrap()
            .is_some_and(|there| there.spec == policy.spec)
    });
    assert!(back.await, "{}", operator.log());
    operator.assert_never_forbidden();
}

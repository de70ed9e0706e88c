//! What polices a workspace that asks for nothing becomes what polices the canary, by the same rules, and its report is opened.

use super::valid::CanaryPlace;
use crate::api::egress::PolicyBackend;
use crate::names::CANARY;
use crate::policy::cilium::{self, CiliumNetworkPolicy};
use crate::{labels, policy};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The three policies of a workspace, and one that lets the operator ask.
pub fn canary_policies(place: &CanaryPlace) -> ([NetworkPolicy; 4], Option<CiliumNetworkPolicy>) {
    let CanaryPlace {
        namespace: _,
        account_uid: _,
        egress,
        policy_backend,
        gateway_namespace,
        operator_namespace,
    } = place;
    let pods = labels::of_canary();
    let (egress, cilium_policy) = match policy_backend {
        PolicyBackend::Kubernetes => (policy::egress(&pods, egress), None),
        PolicyBackend::Cilium => {
            let policy = CiliumNetworkPolicy {
                metadata: metadata(place, "egress"),
                spec: cilium::egress(&pods, egress),
            };
            (policy::no_egress(&pods), Some(policy))
        }
    };
    let policies = [
        policy(place, "deny-all", policy::deny_all(&pods)),
        policy(place, "egress", egress),
        policy(
            place,
            "ingress-gateway",
            policy::ingress_gateway(&pods, gateway_namespace),
        ),
        policy(
            place,
            "ingress-report",
            policy::ingress_report(&pods, operator_namespace, labels::APP_OPERATOR),
        ),
    ];
    (policies, cilium_policy)
}

fn policy(place: &CanaryPlace, name: &str, spec: NetworkPolicySpec) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(place, name),
        spec: Some(spec),
    }
}

/// Owned by the ServiceAccount that the chart makes for the canary: what the chart takes away, garbage collection takes with it.
fn metadata(place: &CanaryPlace, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(format!("{CANARY}-{name}")),
        namespace: Some(place.namespace.clone()),
        labels: Some(labels::of_canary()),
        owner_references: Some(vec![OwnerReference {
            api_version: ServiceAccount::api_version(&()).into_owned(),
            kind: ServiceAccount::kind(&()).into_owned(),
            name: CANARY.to_owned(),
            uid: place.account_uid.clone(),
            controller: None,
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

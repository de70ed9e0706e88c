//! What polices a workspace that asks for nothing becomes what polices the canary, by the same rules, and its report is opened.

use super::valid::CanaryPlace;
use crate::names::CANARY;
use crate::{labels, policy};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The three policies of a workspace, and one that lets the operator ask.
pub fn canary_policies(place: &CanaryPlace) -> [NetworkPolicy; 4] {
    let CanaryPlace {
        namespace: _,
        account_uid: _,
        egress,
        gateway_namespace,
        operator_namespace,
    } = place;
    let pods = labels::of_canary();
    [
        policy(place, "deny-all", policy::deny_all(&pods)),
        policy(place, "egress", policy::egress(&pods, egress)),
        policy(
            place,
            "ingress-gateway",
            policy::ingress_gateway(&pods, gateway_namespace),
        ),
        policy(
            place,
            "ingress-report",
            policy::ingress_report(&pods, operator_namespace),
        ),
    ]
}

/// Owned by the ServiceAccount that the chart makes for the canary: what the chart takes away, garbage collection takes with it.
fn policy(place: &CanaryPlace, name: &str, spec: NetworkPolicySpec) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
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
        },
        spec: Some(spec),
    }
}

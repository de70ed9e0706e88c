//! What a workspace may reach, and who may reach it, becomes NetworkPolicies. Everything that they do not allow is refused.
//!
//! Semantics: Kubernetes `networking.k8s.io/v1` NetworkPolicy. Policies add up; a pod that some policy selects for a
//! direction can do in that direction only what some rule allows. An empty `ports` list would mean every port, so no rule
//! of ours for addresses outside the cluster ever has one.

#[cfg(test)]
mod evaluator;

use crate::labels;
use crate::names::TERMINAL_PORT;
use crate::units::cidr;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::num::NonZeroU16;

/// The pods of the cluster's DNS carry this label in every common distribution (CoreDNS keeps kube-dns' one).
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
const DNS_NAMESPACE: &str = "kube-system";
const DNS_PORT: i32 = 53;

/// What a workspace may reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Egress {
    /// Namespaces of which every pod may be reached on every port.
    pub namespaces: Vec<String>,
    /// TCP ports of addresses outside the cluster.
    pub ports: Vec<NonZeroU16>,
    /// The cluster's own ranges: pods, Services, nodes. Empty means unknown, and then nothing outside may be reached.
    pub cluster_cidrs: Vec<IpNet>,
}

/// Never a destination outside the cluster, whatever the settings say: the host itself, link-local addresses with the
/// cloud metadata services on them, multicast and the reserved rest (RFC 6890, RFC 4291), and IPv4 in other clothes: mapped
/// and translated addresses (`::/8`; RFC 4291, RFC 6052), Teredo (RFC 4380) and 6to4 (RFC 3056) would lead around the IPv4
/// ranges. Kubernetes refuses a mapped range by itself, so the reserved block around it stands here.
const NEVER: &[&str] = &[
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/8",
    "2001::/32",
    "2002::/16",
    "fd00:ec2::254/128",
    "fe80::/10",
    "ff00::/8",
];

/// Selects the pod of one workspace, for both directions, and allows nothing.
pub fn deny_all(pod: &BTreeMap<String, String>) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector(pod.clone())),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        // Said, not left out: an apply takes away what someone added.
        ingress: Some(vec![]),
        egress: Some(vec![]),
    }
}

/// DNS, the listed namespaces, and the listed ports outside the cluster.
pub fn egress(pod: &BTreeMap<String, String>, egress: &Egress) -> NetworkPolicySpec {
    let Egress {
        namespaces,
        ports,
        cluster_cidrs,
    } = egress;
    let mut rules = vec![dns()];
    if !namespaces.is_empty() {
        rules.push(NetworkPolicyEgressRule {
            to: Some(
                namespaces
                    .iter()
                    .map(|name| NetworkPolicyPeer {
                        namespace_selector: Some(namespace(name)),
                        ..NetworkPolicyPeer::default()
                    })
                    .collect(),
            ),
            ports: None,
        });
    }
    rules.extend(external(ports, cluster_cidrs));
    NetworkPolicySpec {
        pod_selector: Some(selector(pod.clone())),
        policy_types: Some(vec!["Egress".to_owned()]),
        egress: Some(rules),
        ..NetworkPolicySpec::default()
    }
}

/// The terminal's port, for the gateway's pods in the gateway's namespace only.
pub fn ingress_gateway(pod: &BTreeMap<String, String>, gateway_namespace: &str) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector(pod.clone())),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![NetworkPolicyIngressRule {
            from: Some(vec![NetworkPolicyPeer {
                namespace_selector: Some(namespace(gateway_namespace)),
                pod_selector: Some(selector(
                    [(labels::APP.to_owned(), labels::APP_GATEWAY.to_owned())].into(),
                )),
                ..NetworkPolicyPeer::default()
            }]),
            ports: Some(vec![port("TCP", TERMINAL_PORT.into())]),
        }]),
        ..NetworkPolicySpec::default()
    }
}

fn dns() -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(namespace(DNS_NAMESPACE)),
            pod_selector: Some(selector([(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())].into())),
            ..NetworkPolicyPeer::default()
        }]),
        ports: Some(vec![port("UDP", DNS_PORT), port("TCP", DNS_PORT)]),
    }
}

/// One rule for both address families, or none when the cluster's ranges are unknown or leave nothing.
fn external(ports: &[NonZeroU16], cluster_cidrs: &[IpNet]) -> Option<NetworkPolicyEgressRule> {
    if ports.is_empty() || cluster_cidrs.is_empty() {
        return None;
    }
    let carve: Vec<IpNet> = NEVER
        .iter()
        .filter_map(|net| net.parse().ok())
        .chain(cluster_cidrs.iter().copied())
        .collect();
    let mut blocks = Vec::new();
    for all in ["0.0.0.0/0", "::/0"].iter().filter_map(|net| net.parse::<IpNet>().ok()) {
        let except = cidr::except(all, carve.iter().copied());
        // Ranges that together are everything leave nothing to allow.
        if carve.contains(&all) || except.contains(&all) {
            continue;
        }
        blocks.push(NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: all.to_string(),
                except: Some(except.iter().map(ToString::to_string).collect()),
            }),
            ..NetworkPolicyPeer::default()
        });
    }
    if blocks.is_empty() {
        return None;
    }
    Some(NetworkPolicyEgressRule {
        to: Some(blocks),
        ports: Some(ports.iter().map(|number| port("TCP", number.get().into())).collect()),
    })
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    }
}

fn namespace(name: &str) -> LabelSelector {
    selector([(labels::NAMESPACE_NAME.to_owned(), name.to_owned())].into())
}

fn selector(match_labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(match_labels),
        match_expressions: None,
    }
}

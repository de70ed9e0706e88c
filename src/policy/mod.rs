//! What a workspace may reach, and who may reach it, becomes NetworkPolicies. Everything that they do not allow is refused.
//!
//! Semantics: Kubernetes `networking.k8s.io/v1` NetworkPolicy. Policies add up; a pod that some policy selects for a
//! direction can do in that direction only what some rule allows. An empty `ports` list would mean every port, so no rule
//! of ours for addresses outside the cluster ever has one.

pub mod cilium;
pub mod ranges;

use crate::api::egress::{Dns, EgressNamespace, Fqdn};
use crate::labels;
use crate::names::{CANARY_REPORT_PORT, TERMINAL_PORT};
use crate::units::cidr::{self, METADATA};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

/// Of NodeLocal DNSCache, which is no pod behind a Service.
const DNS_PORT: u16 = 53;

/// What a workspace may reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Egress {
    pub dns: Dns,
    /// Namespaces, or parts of them, that may be reached.
    pub namespaces: Vec<EgressNamespace>,
    /// TCP ports of addresses outside the cluster.
    pub ports: Vec<NonZeroU16>,
    /// Addresses outside the cluster. Of these, `cluster_cidrs` are never meant.
    pub cidrs: Vec<IpNet>,
    /// Names outside the cluster, on the same ports. A NetworkPolicy knows none.
    pub fqdns: Vec<Fqdn>,
    /// The cluster's own ranges: pods, Services, nodes. Empty means unknown, and then nothing outside may be reached.
    pub cluster_cidrs: Arc<[IpNet]>,
}

impl Egress {
    /// Whether anything outside the cluster is to be reached.
    pub fn wants_outside(&self) -> bool {
        let names_something = !self.cidrs.is_empty() || !self.fqdns.is_empty();
        names_something && !self.ports.is_empty()
    }
}

/// Never a destination outside the cluster, whatever the settings say: what stands in [`METADATA`], the host itself, link-local
/// addresses, multicast and the reserved rest (RFC 6890, RFC 4291), and IPv4 in other clothes: mapped
/// and translated addresses (`::/8`; RFC 4291, RFC 6052), Teredo (RFC 4380) and 6to4 (RFC 3056) would lead around the IPv4
/// ranges. Kubernetes refuses a mapped range by itself, so the reserved block around it stands here.
pub fn never() -> impl Iterator<Item = IpNet> {
    METADATA.iter().chain(NEVER).filter_map(|range| range.parse().ok())
}

const NEVER: &[&str] = &[
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/8",
    "2001::/32",
    "2002::/16",
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
        dns,
        namespaces,
        ports,
        cidrs,
        fqdns: _,
        cluster_cidrs,
    } = egress;
    let mut rules = resolving(dns);
    rules.extend(inside(namespaces));
    rules.extend(external(ports, cidrs, cluster_cidrs));
    NetworkPolicySpec {
        pod_selector: Some(selector(pod.clone())),
        policy_types: Some(vec!["Egress".to_owned()]),
        egress: Some(rules),
        ..NetworkPolicySpec::default()
    }
}

/// No destination at all: what may be reached is said elsewhere, where other words are known.
pub fn no_egress(pod: &BTreeMap<String, String>) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector(pod.clone())),
        policy_types: Some(vec!["Egress".to_owned()]),
        egress: Some(vec![]),
        ..NetworkPolicySpec::default()
    }
}

/// The terminal's port, for the gateway's pods in the gateway's namespace only.
pub fn ingress_gateway(pod: &BTreeMap<String, String>, gateway_namespace: &str) -> NetworkPolicySpec {
    ingress_of(pod, gateway_namespace, labels::APP_GATEWAY, TERMINAL_PORT)
}

/// A canary's report, for the pods of one app in one namespace only. Of a canary alone, besides what a workspace has.
pub fn ingress_report(canary: &BTreeMap<String, String>, namespace: &str, app: &str) -> NetworkPolicySpec {
    ingress_of(canary, namespace, app, CANARY_REPORT_PORT)
}

/// One port of `pod`, for the pods of one app in one namespace.
fn ingress_of(pod: &BTreeMap<String, String>, from_namespace: &str, from_app: &str, to: u16) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector(pod.clone())),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![NetworkPolicyIngressRule {
            from: Some(vec![NetworkPolicyPeer {
                namespace_selector: Some(namespace(from_namespace)),
                pod_selector: Some(selector([(labels::APP.to_owned(), from_app.to_owned())].into())),
                ..NetworkPolicyPeer::default()
            }]),
            ports: Some(vec![port("TCP", to.into())]),
        }]),
        ..NetworkPolicySpec::default()
    }
}

/// The cluster's DNS pods, and the cache of each node where there is one. Nothing when pods are not told apart: a selector without labels
/// would be every pod of that namespace.
fn resolving(dns: &Dns) -> Vec<NetworkPolicyEgressRule> {
    let Dns {
        namespace: name,
        pod_labels,
        port: number,
        node_local,
    } = dns;
    let both = |number: i32| Some(vec![port("UDP", number), port("TCP", number)]);
    let mut rules = Vec::new();
    if !pod_labels.is_empty() {
        rules.push(NetworkPolicyEgressRule {
            to: Some(vec![NetworkPolicyPeer {
                namespace_selector: Some(namespace(name)),
                pod_selector: Some(selector(pod_labels.clone())),
                ..NetworkPolicyPeer::default()
            }]),
            ports: both(number.get().into()),
        });
    }
    if !node_local.is_empty() {
        let caches = node_local.iter().map(|address| block(IpNet::from(*address), &[]));
        rules.push(NetworkPolicyEgressRule {
            to: Some(caches.collect()),
            ports: both(DNS_PORT.into()),
        });
    }
    rules
}

/// One rule for all that may be reached on every port, and one for each list of ports.
fn inside(namespaces: &[EgressNamespace]) -> Vec<NetworkPolicyEgressRule> {
    let mut rules: Vec<NetworkPolicyEgressRule> = Vec::new();
    for EgressNamespace {
        name,
        ports,
        pod_labels,
    } in namespaces
    {
        let peer = NetworkPolicyPeer {
            namespace_selector: Some(namespace(name)),
            pod_selector: (!pod_labels.is_empty()).then(|| selector(pod_labels.clone())),
            ..NetworkPolicyPeer::default()
        };
        let ports = match ports {
            None => None,
            // An empty list would mean every port.
            Some(ports) if ports.is_empty() => continue,
            Some(ports) => Some(ports.iter().map(|number| port("TCP", number.get().into())).collect()),
        };
        match rules.iter_mut().find(|rule| rule.ports == ports) {
            Some(rule) => rule.to.get_or_insert_default().push(peer),
            None => rules.push(NetworkPolicyEgressRule {
                to: Some(vec![peer]),
                ports,
            }),
        }
    }
    rules
}

/// One rule for both address families, or none when the cluster's ranges are unknown or leave nothing.
fn external(ports: &[NonZeroU16], cidrs: &[IpNet], cluster_cidrs: &[IpNet]) -> Option<NetworkPolicyEgressRule> {
    if ports.is_empty() || cluster_cidrs.is_empty() {
        return None;
    }
    let blocks: Vec<NetworkPolicyPeer> = carved(cidrs, cluster_cidrs)
        .into_iter()
        .map(|(range, except)| block(range, &except))
        .collect();
    if blocks.is_empty() {
        return None;
    }
    Some(NetworkPolicyEgressRule {
        to: Some(blocks),
        ports: Some(ports.iter().map(|number| port("TCP", number.get().into())).collect()),
    })
}

/// Whether a TCP connection to an address outside the cluster is among what [`egress`] allows.
pub fn lets_out(egress: &Egress, address: IpAddr, port: NonZeroU16) -> bool {
    let Egress {
        ports,
        cidrs,
        cluster_cidrs,
        ..
    } = egress;
    let is_in = |(range, except): &(IpNet, Vec<IpNet>)| {
        range.contains(&address) && !except.iter().any(|net| net.contains(&address))
    };
    ports.contains(&port) && !cluster_cidrs.is_empty() && carved(cidrs, cluster_cidrs).iter().any(is_in)
}

/// Ranges outside the cluster, each with what is never meant of it.
fn carved(cidrs: &[IpNet], cluster_cidrs: &[IpNet]) -> Vec<(IpNet, Vec<IpNet>)> {
    let carve: Vec<IpNet> = never().chain(cluster_cidrs.iter().copied()).collect();
    let ranges = IpNet::aggregate(&cidrs.to_vec()).into_iter().filter_map(|range| {
        let except = cidr::except(range, carve.iter().copied());
        // Ranges that together are all of it leave nothing to allow.
        let nothing = carve.iter().any(|net| net.contains(&range)) || except.contains(&range);
        (!nothing).then_some((range, except))
    });
    ranges.collect()
}

fn block(range: IpNet, except: &[IpNet]) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: range.to_string(),
            except: (!except.is_empty()).then(|| except.iter().map(ToString::to_string).collect()),
        }),
        ..NetworkPolicyPeer::default()
    }
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

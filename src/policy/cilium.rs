//! What a workspace may reach becomes a CiliumNetworkPolicy (`cilium.io/v2`), which can say names where a NetworkPolicy knows addresses alone.
//!
//! Cilium adds its own policies and Kubernetes' up: this one takes the place of the egress policy, whose rules are then none, beside deny-all and
//! ingress, which stay as they are. `toFQDNs` lets packets to the addresses that the workspace has been told for a name, by the DNS proxy that the rule for DNS puts
//! between. Whoever answers for an allowed name could answer with the cluster's own addresses or the host's: `egressDeny` wins over every rule (Cilium: "deny
//! policies always take precedence").

use super::{DNS_PORT, Egress, carved, never};
use crate::api::egress::{Dns, EgressNamespace, Fqdn};
use crate::units::cidr;
use ipnet::IpNet;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU16;

/// The part of the kind that is used here.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumNetworkPolicy",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct CiliumNetworkPolicySpec {
    pub endpoint_selector: Selector,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_deny: Vec<EgressRule>,
}

/// Pods by their labels; each key has its source before it, here always `k8s:`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    pub match_labels: BTreeMap<String, String>,
}

/// Destinations of one sort, and their ports; no ports is every port.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressRule {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_endpoints: Vec<Selector>,
    #[serde(rename = "toCIDRSet", default, skip_serializing_if = "Vec::is_empty")]
    pub to_cidr_set: Vec<Range>,
    #[serde(rename = "toFQDNs", default, skip_serializing_if = "Vec::is_empty")]
    pub to_fqdns: Vec<Name>,
    /// What Cilium knows by itself, such as `host`: the pod's own node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_entities: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_ports: Vec<Ports>,
}

/// A range of addresses without some of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Range {
    pub cidr: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// One name, or all that fit a pattern.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Name {
    MatchName(String),
    MatchPattern(String),
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Ports {
    pub ports: Vec<Port>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Rules>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Port {
    pub port: String,
    pub protocol: String,
}

/// What the DNS proxy lets through.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Rules {
    pub dns: Vec<Name>,
}

/// The namespace of a pod, as Cilium labels it.
pub const POD_NAMESPACE: &str = "k8s:io.kubernetes.pod.namespace";

/// DNS, the listed namespaces, and the listed ports of the listed addresses and names outside the cluster.
pub fn egress(pod: &BTreeMap<String, String>, egress: &Egress) -> CiliumNetworkPolicySpec {
    let Egress {
        dns,
        namespaces,
        ports,
        cidrs,
        fqdns,
        cluster_cidrs,
    } = egress;
    let mut rules = resolving(dns);
    rules.extend(namespaces.iter().filter_map(inside));
    let mut denied = Vec::new();
    // Of a name nobody knows beforehand where it leads.
    if !ports.is_empty() && !cluster_cidrs.is_empty() {
        let blocks = carved(cidrs, cluster_cidrs);
        rules.extend((!blocks.is_empty()).then(|| {
            EgressRule {
                to_cidr_set: blocks
                    .iter()
                    .map(|(range, except)| self::range(*range, except))
                    .collect(),
                to_ports: vec![tcp(ports)],
                ..EgressRule::default()
            }
        }));
        if !fqdns.is_empty() {
            rules.push(EgressRule {
                to_fqdns: fqdns.iter().map(name).collect(),
                to_ports: vec![tcp(ports)],
                ..EgressRule::default()
            });
            denied.push(closed(dns, cluster_cidrs));
        }
    }
    CiliumNetworkPolicySpec {
        endpoint_selector: pods(None, pod),
        egress: rules,
        egress_deny: denied,
    }
}

/// As [`super::egress`] has it, and every question goes through the DNS proxy.
fn resolving(dns: &Dns) -> Vec<EgressRule> {
    let Dns {
        namespace,
        pod_labels,
        port,
        node_local,
    } = dns;
    let both = |number: u16| {
        vec![Ports {
            ports: ["UDP", "TCP"]
                .map(|protocol| Port {
                    port: number.to_string(),
                    protocol: protocol.to_owned(),
                })
                .into(),
            rules: Some(Rules {
                dns: vec![Name::MatchPattern("*".to_owned())],
            }),
        }]
    };
    let mut rules = Vec::new();
    if !pod_labels.is_empty() {
        rules.push(EgressRule {
            to_endpoints: vec![pods(Some(namespace), pod_labels)],
            to_ports: both(port.get()),
            ..EgressRule::default()
        });
    }
    if !node_local.is_empty() {
        let caches = node_local.iter().map(|address| range(IpNet::from(*address), &[]));
        rules.push(EgressRule {
            to_cidr_set: caches.collect(),
            to_ports: both(DNS_PORT),
            ..EgressRule::default()
        });
        // An address that an interface of the node has is the node to Cilium, and no range means it ("CIDR rules do not apply to traffic
        // where both sides of the connection are either managed by Cilium or use an IP belonging to a node in the cluster").
        rules.push(EgressRule {
            to_entities: vec!["host".to_owned()],
            to_ports: both(DNS_PORT),
            ..EgressRule::default()
        });
    }
    rules
}

fn inside(namespace: &EgressNamespace) -> Option<EgressRule> {
    let EgressNamespace {
        name,
        ports,
        pod_labels,
    } = namespace;
    // An empty list would mean every port.
    if ports.as_ref().is_some_and(|ports| ports.is_empty()) {
        return None;
    }
    Some(EgressRule {
        to_endpoints: vec![pods(Some(name), pod_labels)],
        to_ports: ports.iter().map(tcp).collect(),
        ..EgressRule::default()
    })
}

/// The host's, the cluster's and the clouds' own addresses; a cache of names on the node stays.
fn closed(dns: &Dns, cluster_cidrs: &[IpNet]) -> EgressRule {
    let closed: Vec<IpNet> = never().chain(cluster_cidrs.iter().copied()).collect();
    let caches = || dns.node_local.iter().map(|address| IpNet::from(*address));
    EgressRule {
        to_cidr_set: IpNet::aggregate(&closed)
            .into_iter()
            .filter(|net| !caches().any(|cache| cache == *net))
            .map(|net| range(net, &cidr::except(net, caches())))
            .collect(),
        ..EgressRule::default()
    }
}

fn pods(namespace: Option<&str>, labels: &BTreeMap<String, String>) -> Selector {
    let labels = labels.iter().map(|(key, value)| (format!("k8s:{key}"), value.clone()));
    let namespace = namespace.map(|name| (POD_NAMESPACE.to_owned(), name.to_owned()));
    Selector {
        match_labels: labels.chain(namespace).collect(),
    }
}

fn range(cidr: IpNet, except: &[IpNet]) -> Range {
    Range {
        cidr: cidr.to_string(),
        except: except.iter().map(ToString::to_string).collect(),
    }
}

fn name(fqdn: &Fqdn) -> Name {
    if fqdn.is_pattern() {
        Name::MatchPattern(fqdn.to_string())
    } else {
        Name::MatchName(fqdn.to_string())
    }
}

fn tcp<'a>(ports: impl IntoIterator<Item = &'a NonZeroU16>) -> Ports {
    let port = |number: &NonZeroU16| Port {
        port: number.to_string(),
        protocol: "TCP".to_owned(),
    };
    Ports {
        ports: ports.into_iter().map(port).collect(),
        rules: None,
    }
}

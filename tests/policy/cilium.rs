//! A CiliumNetworkPolicy says what the NetworkPolicy in whose place it stands says, and of names no more than their ports outside the cluster.

use crate::evaluator::{Labels, Traffic, allows};
use crate::site::*;
use devplane::api::egress::{Fqdn, PolicyBackend};
use devplane::labels::NAMESPACE_NAME;
use devplane::policy::cilium::{CiliumNetworkPolicySpec, EgressRule, POD_NAMESPACE, Selector};
use devplane::policy::{Egress, never};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use std::net::IpAddr;

/// The words of `cilium.io/v2` in those of `networking.k8s.io/v1`, which has all but names, denials and what the DNS proxy sees.
fn translated(spec: &CiliumNetworkPolicySpec) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector(labels(&spec.endpoint_selector).1)),
        policy_types: Some(vec!["Egress".to_owned()]),
        egress: Some(
            spec.egress
                .iter()
                // What is the node to Cilium is a range to others: the rule for the cache's address stands beside.
                .filter(|rule| rule.to_fqdns.is_empty() && rule.to_entities.is_empty())
                .map(rule)
                .collect(),
        ),
        ..NetworkPolicySpec::default()
    }
}

fn rule(rule: &EgressRule) -> NetworkPolicyEgressRule {
    let pods = rule.to_endpoints.iter().map(|endpoints| {
        let (namespace, pods) = labels(endpoints);
        NetworkPolicyPeer {
            namespace_selector: Some(selector([(NAMESPACE_NAME.to_owned(), namespace.unwrap())].into())),
            pod_selector: Some(selector(pods)),
            ..NetworkPolicyPeer::default()
        }
    });
    let ranges = rule.to_cidr_set.iter().map(|range| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: range.cidr.clone(),
            except: Some(range.except.clone()),
        }),
        ..NetworkPolicyPeer::default()
    });
    let ports = rule.to_ports.iter().flat_map(|ports| &ports.ports);
    let ports: Vec<_> = ports
        .map(|port| NetworkPolicyPort {
            protocol: Some(port.protocol.clone()),
            port: Some(IntOrString::Int(port.port.parse().unwrap())),
            end_port: None,
        })
        .collect();
    NetworkPolicyEgressRule {
        to: Some(pods.chain(ranges).collect()),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

/// The namespace, if it names one, and the labels of pods.
fn labels(selector: &Selector) -> (Option<String>, Labels) {
    let mut labels = selector.match_labels.clone();
    let namespace = labels.remove(POD_NAMESPACE);
    let labels = labels
        .into_iter()
        .map(|(key, value)| (key.strip_prefix("k8s:").unwrap().to_owned(), value));
    (namespace, labels.collect())
}

fn selector(match_labels: Labels) -> LabelSelector {
    LabelSelector {
        match_labels: Some(match_labels),
        match_expressions: None,
    }
}

fn by_cilium(settings: &Egress) -> CiliumNetworkPolicySpec {
    workspace("dev1", settings, PolicyBackend::Cilium)
        .cilium_policy
        .unwrap()
        .spec
}

/// All that polices dev1 by Cilium's backend, in the words of `networking.k8s.io/v1`.
fn policies_by_cilium(settings: &Egress) -> Vec<NetworkPolicy> {
    let rendered = workspace("dev1", settings, PolicyBackend::Cilium);
    let cilium = rendered.cilium_policy.unwrap();
    let translated = NetworkPolicy {
        metadata: cilium.metadata.clone(),
        spec: Some(translated(&cilium.spec)),
    };
    rendered.policies.into_iter().chain([translated]).collect()
}

fn named(settings: Egress) -> Egress {
    let name = |name: &str| -> Fqdn { name.parse().unwrap() };
    Egress {
        fqdns: vec![name("git.corp.example"), name("*.corp.example")],
        ..settings
    }
}

/// Whether a packet to an address that stands for a name is let through.
fn reached_by_name(spec: &CiliumNetworkPolicySpec, address: IpAddr, port: u16) -> bool {
    let denied = spec.egress_deny.iter().flat_map(|rule| &rule.to_cidr_set).any(|range| {
        net(&range.cidr).contains(&address) && !range.except.iter().any(|except| net(except).contains(&address))
    });
    let mut named = spec.egress.iter().filter(|rule| !rule.to_fqdns.is_empty());
    let allowed = named.any(|rule| {
        let mut ports = rule.to_ports.iter().flat_map(|ports| &ports.ports);
        ports.any(|listed| listed.port == port.to_string() && listed.protocol == "TCP")
    });
    allowed && !denied
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_backends_let_the_same_through(
        (settings, address) in any_egress().prop_flat_map(|egress| (Just(egress.clone()), any_address(egress))),
        namespaces in any_namespaces(),
        port in 1u16..,
        udp in any::<bool>(),
    ) {
        let kubernetes = workspace("dev1", &settings, PolicyBackend::Kubernetes).policies;
        let cilium = policies_by_cilium(&settings);
        let same = |traffic: Traffic| {
            prop_assert_eq!(allows(&kubernetes, &traffic), allows(&cilium, &traffic), "{:?}", traffic);
            Ok(())
        };
        let protocol = if udp { "UDP" } else { "TCP" };
        let ports = || settings.ports.iter().map(|port| port.get()).chain([port, 53, settings.dns.port.get()]);
        for port in ports() {
            same(to(outside(address), port, protocol))?;
            let dns = pod(&settings.dns.namespace, settings.dns.pod_labels.clone(), "10.244.0.9");
            same(to(dns, port, protocol))?;
        }
        for part in settings.namespaces.iter().chain(&namespaces) {
            for port in part.ports.iter().flatten().map(|port| port.get()).chain(ports()) {
                same(to(pod(&part.name, part.pod_labels.clone(), "10.244.0.9"), port, protocol))?;
            }
        }
    }

    #[test]
    fn no_name_leads_into_the_cluster_or_to_the_host(
        settings in any_egress(),
        pick in any::<prop::sample::Index>(),
        host in any::<u128>(),
        port in 1u16..,
    ) {
        let settings = named(settings);
        let spec = by_cilium(&settings);
        let closed: Vec<IpNet> = settings.cluster_cidrs.iter().copied().chain(never()).collect();
        let address = within(*pick.get(&closed), host);
        let is_cache = settings.dns.node_local.contains(&address);
        for port in settings.ports.iter().map(|port| port.get()).chain([port]) {
            prop_assert!(!reached_by_name(&spec, address, port) || is_cache, "{address}:{port}");
        }
        // Where it is not known what the cluster is, nobody knows what a name leads to.
        prop_assert!(!settings.cluster_cidrs.is_empty() || spec.egress.iter().all(|rule| rule.to_fqdns.is_empty()));
    }

    #[test]
    fn of_the_node_a_cache_of_names_is_reached_and_nothing_else(settings in any_egress()) {
        let spec = by_cilium(&named(settings.clone()));
        let entities: Vec<&EgressRule> = spec.egress.iter().filter(|rule| !rule.to_entities.is_empty()).collect();
        prop_assert_eq!(entities.len(), usize::from(!settings.dns.node_local.is_empty()));
        for rule in entities {
            prop_assert_eq!(&rule.to_entities, &["host"]);
            prop_assert!(rule.to_endpoints.is_empty() && rule.to_cidr_set.is_empty() && rule.to_fqdns.is_empty());
            prop_assert_eq!(rule.to_ports.len(), 1);
            prop_assert!(rule.to_ports[0].ports.iter().all(|port| port.port == "53") && rule.to_ports[0].rules.is_some());
        }
    }

    #[test]
    fn a_name_opens_the_listed_ports_alone(settings in any_egress(), port in 1u16..) {
        let settings = named(settings);
        let spec = by_cilium(&settings);
        let outside: IpAddr = "203.0.113.9".parse().unwrap();
        let closed = settings.cluster_cidrs.iter().any(|range| range.contains(&outside)) || settings.cluster_cidrs.is_empty();
        for port in settings.ports.iter().map(|port| port.get()).chain([port]) {
            let listed = settings.ports.iter().any(|listed| listed.get() == port);
            prop_assert_eq!(reached_by_name(&spec, outside, port), listed && !closed, "{}", port);
        }
        // A rule without ports, or for DNS without the proxy, would mean more.
        for rule in spec.egress.iter().filter(|rule| !rule.to_fqdns.is_empty()) {
            prop_assert!(rule.to_ports.iter().all(|ports| !ports.ports.is_empty()) && !rule.to_ports.is_empty());
            prop_assert!(rule.to_endpoints.is_empty() && rule.to_cidr_set.is_empty(), "destinations of one rule must be of one sort");
        }
    }
}

//! Rendered policies and a destination become allowed or refused, by the NetworkPolicy rules of the Kubernetes API: an
//! independent reading of what the builders write, for property tests.

use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

/// A place that a workspace might try to reach.
struct Destination<'a> {
    address: IpAddr,
    /// Namespace and labels, when the address is a pod's.
    pod: Option<(&'a str, &'a [(&'a str, &'a str)])>,
    port: u16,
    protocol: &'a str,
}

fn allows(policies: &[NetworkPolicySpec], to: &Destination<'_>) -> bool {
    policies
        .iter()
        .flat_map(|policy| policy.egress.iter().flatten())
        .any(|rule| {
            let peers = rule.to.as_deref().unwrap_or_default();
            let ports = rule.ports.as_deref().unwrap_or_default();
            (peers.is_empty() || peers.iter().any(|peer| peer_matches(peer, to)))
                && (ports.is_empty() || ports.iter().any(|port| port_matches(port, to)))
        })
}

fn peer_matches(peer: &NetworkPolicyPeer, to: &Destination<'_>) -> bool {
    if let Some(block) = &peer.ip_block {
        let inside = |net: &String| net.parse::<IpNet>().unwrap().contains(&to.address);
        return inside(&block.cidr) && !block.except.iter().flatten().any(inside);
    }
    let Some((namespace, pod_labels)) = to.pod else {
        return false;
    };
    let wants = |selector: &Option<LabelSelector>, has: &[(&str, &str)]| match selector {
        None => true,
        Some(selector) => {
            assert!(
                selector.match_expressions.is_none(),
                "the evaluator knows only matchLabels"
            );
            selector
                .match_labels
                .iter()
                .flatten()
                .all(|(k, v)| has.contains(&(k.as_str(), v.as_str())))
        }
    };
    wants(&peer.namespace_selector, &[(labels::NAMESPACE_NAME, namespace)]) && wants(&peer.pod_selector, pod_labels)
}

fn port_matches(port: &NetworkPolicyPort, to: &Destination<'_>) -> bool {
    port.protocol.as_deref().unwrap_or("TCP") == to.protocol
        && port
            .port
            .as_ref()
            .is_none_or(|number| *number == IntOrString::Int(to.port.into()))
}

fn net(text: &str) -> IpNet {
    text.parse().expect(text)
}

fn pod() -> BTreeMap<String, String> {
    labels::of(&"dev1".parse().unwrap())
}

fn rendered(settings: &Egress) -> Vec<NetworkPolicySpec> {
    vec![
        deny_all(&pod()),
        egress(&pod(), settings),
        ingress_gateway(&pod(), "workspace-operator-system"),
    ]
}

fn closed_cluster() -> Egress {
    Egress {
        namespaces: vec!["ai-system".into()],
        ports: [22, 443, 8080].map(|port| NonZeroU16::new(port).unwrap()).into(),
        cluster_cidrs: vec![net("10.244.0.0/16"), net("10.96.0.0/16"), net("fd00:10::/32")],
    }
}

fn reaches(settings: &Egress, address: &str, port: u16) -> bool {
    allows(
        &rendered(settings),
        &Destination {
            address: address.parse().unwrap(),
            pod: None,
            port,
            protocol: "TCP",
        },
    )
}

#[test]
fn the_open_world_without_the_cluster_is_reached_on_the_listed_ports() {
    let settings = closed_cluster();
    assert!(reaches(&settings, "198.51.100.1", 443));
    assert!(reaches(&settings, "2001:db8::1", 443));
    assert!(!reaches(&settings, "198.51.100.1", 25));
    assert!(!reaches(&settings, "10.96.0.1", 443), "a Service");
    assert!(!reaches(&settings, "10.244.3.4", 8080), "another user's dev server");
    assert!(!reaches(&settings, "169.254.169.254", 80), "cloud metadata");
    assert!(!reaches(&settings, "fd00:ec2::254", 443), "cloud metadata over IPv6");
    assert!(!reaches(&settings, "::ffff:10.96.0.1", 443), "a mapped Service address");
}

#[test]
fn an_unknown_cluster_opens_nothing_outside() {
    let settings = Egress {
        cluster_cidrs: vec![],
        ..closed_cluster()
    };
    assert!(!reaches(&settings, "198.51.100.1", 443));
    let everything = Egress {
        cluster_cidrs: vec![net("0.0.0.0/1"), net("128.0.0.0/1"), net("::/0")],
        ..closed_cluster()
    };
    assert!(!reaches(&everything, "198.51.100.1", 443));
    assert!(!reaches(&everything, "2001:db8::1", 443));
}

#[test]
fn in_the_cluster_only_dns_and_the_listed_namespaces_are_reached() {
    let policies = rendered(&closed_cluster());
    let to = |namespace, pod_labels, port, protocol| {
        allows(
            &policies,
            &Destination {
                address: "10.244.9.9".parse().unwrap(),
                pod: Some((namespace, pod_labels)),
                port,
                protocol,
            },
        )
    };
    let dns: &[(&str, &str)] = &[("k8s-app", "kube-dns")];
    assert!(to("kube-system", dns, 53, "UDP") && to("kube-system", dns, 53, "TCP"));
    assert!(!to("kube-system", dns, 443, "TCP") && !to("kube-system", &[], 53, "UDP"));
    assert!(to("ai-system", &[], 8000, "TCP") && to("ai-system", &[], 11434, "TCP"));
    assert!(!to("workspaces", &[("app", "workspace")], TERMINAL_PORT, "TCP"));
}

prop_compose! {
    fn any_egress()(
        namespaces in prop::collection::vec("[a-z]{1,8}", 0..3),
        ports in prop::collection::vec(1u16.., 0..5),
        nets in prop::collection::vec((any::<IpAddr>(), 0u8..=128), 0..6),
    ) -> Egress {
        Egress {
            namespaces,
            ports: ports.into_iter().filter_map(NonZeroU16::new).collect(),
            cluster_cidrs: nets
                .into_iter()
                .map(|(address, length)| {
                    let most = if address.is_ipv4() { 32 } else { 128 };
                    IpNet::new(address, length.min(most)).unwrap().trunc()
                })
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn no_setting_opens_the_cluster_or_the_host(settings in any_egress(), pick in any::<prop::sample::Index>(), host in any::<u128>(), port in 1u16..) {
        let never = NEVER.iter().map(|text| net(text));
        let closed: Vec<IpNet> = settings.cluster_cidrs.iter().copied().chain(never).collect();
        let target = pick.get(&closed);
        let address = match target {
            IpNet::V4(net) => IpAddr::from((u32::from(net.network()) | (host as u32 & u32::from(net.hostmask()))).to_be_bytes()),
            IpNet::V6(net) => IpAddr::from((u128::from(net.network()) | (host & u128::from(net.hostmask()))).to_be_bytes()),
        };
        prop_assert!(target.contains(&address));
        let reached = allows(&rendered(&settings), &Destination { address, pod: None, port, protocol: "TCP" });
        prop_assert!(!reached, "{address}:{port}");
    }

    #[test]
    fn no_rule_means_every_port_or_every_peer(settings in any_egress()) {
        for rule in rendered(&settings).iter().flat_map(|policy| policy.egress.iter().flatten()) {
            prop_assert!(rule.to.as_ref().is_some_and(|to| !to.is_empty()));
            let to_addresses = rule.to.iter().flatten().any(|peer| peer.ip_block.is_some());
            prop_assert!(rule.ports.as_ref().is_none_or(|ports| !ports.is_empty()));
            prop_assert!(!to_addresses || rule.ports.is_some());
            for block in rule.to.iter().flatten().filter_map(|peer| peer.ip_block.as_ref()) {
                for except in block.except.iter().flatten() {
                    prop_assert!(net(&block.cidr).contains(&net(except)) && net(&block.cidr) != net(except));
                }
            }
        }
    }
}

//! What no setting may open, and what ceilings mean, for random settings and random destinations.

use crate::central::{any_central, any_traffic};
use crate::evaluator::{Traffic, allows};
use crate::site::*;
use devplane::api::egress::{Dns, EgressNamespace};
use devplane::labels;
use devplane::names::TERMINAL_PORT;
use devplane::policy::{Egress, never};
use ipnet::IpNet;
use proptest::prelude::*;
use std::net::IpAddr;
use std::num::NonZeroU16;

fn closed_cluster() -> Egress {
    Egress {
        dns: Dns::default(),
        namespaces: vec![EgressNamespace::whole("ai-system")],
        ports: [22, 443, 8080].map(|port| NonZeroU16::new(port).unwrap()).into(),
        cidrs: ["0.0.0.0/0", "::/0"].map(net).into(),
        fqdns: vec![],
        cluster_cidrs: ["10.244.0.0/16", "10.96.0.0/16", "fd00:10::/32"].map(net).into(),
    }
}

fn reaches(settings: &Egress, address: &str, port: u16) -> bool {
    allows(&policies(settings), &to(outside(address.parse().unwrap()), port, "TCP"))
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
fn of_listed_addresses_alone_the_cluster_s_are_not_reached_either() {
    let settings = Egress {
        cidrs: ["10.0.0.0/8", "198.51.100.7/32", "169.254.0.0/16"].map(net).into(),
        ..closed_cluster()
    };
    assert!(reaches(&settings, "10.1.2.3", 443) && reaches(&settings, "198.51.100.7", 443));
    assert!(!reaches(&settings, "198.51.100.8", 443) && !reaches(&settings, "2001:db8::1", 443));
    assert!(!reaches(&settings, "10.96.0.1", 443) && !reaches(&settings, "169.254.169.254", 80));
}

#[test]
fn an_unknown_cluster_and_an_empty_list_open_nothing_outside() {
    let unknown = Egress {
        cluster_cidrs: [].into(),
        ..closed_cluster()
    };
    let none = Egress {
        cidrs: vec![],
        ..closed_cluster()
    };
    let everything = Egress {
        cluster_cidrs: ["0.0.0.0/1", "128.0.0.0/1", "::/0"].map(net).into(),
        ..closed_cluster()
    };
    for settings in [unknown, none, everything] {
        assert!(!reaches(&settings, "198.51.100.1", 443));
        assert!(!reaches(&settings, "2001:db8::1", 443));
    }
}

#[test]
fn in_the_cluster_only_dns_and_the_listed_namespaces_are_reached() {
    let settings = closed_cluster();
    let reaches = |namespace, pod_labels: &[(&str, &str)], port, protocol| {
        let destination = pod(namespace, labels_of(pod_labels), "10.244.9.9");
        allows(&policies(&settings), &to(destination, port, protocol))
    };
    let dns: &[(&str, &str)] = &[("k8s-app", "kube-dns")];
    assert!(reaches("kube-system", dns, 53, "UDP") && reaches("kube-system", dns, 53, "TCP"));
    assert!(!reaches("kube-system", dns, 443, "TCP") && !reaches("kube-system", &[], 53, "UDP"));
    assert!(reaches("ai-system", &[], 8000, "TCP") && reaches("ai-system", &[], 11434, "TCP"));
    assert!(!reaches("production", &[], 443, "TCP"));
    assert!(!allows(&policies(&settings), &to(dev("dev2"), TERMINAL_PORT, "TCP")));
}

#[test]
fn a_part_of_a_namespace_is_its_pods_and_ports() {
    let part = EgressNamespace {
        name: "git".into(),
        ports: Some([NonZeroU16::new(443).unwrap()].into()),
        pod_labels: labels_of(&[("app", "gitea")]),
    };
    let settings = Egress {
        namespaces: vec![part],
        ..closed_cluster()
    };
    let reaches = |app, port| {
        let destination = pod("git", labels_of(&[("app", app)]), "10.244.9.9");
        allows(&policies(&settings), &to(destination, port, "TCP"))
    };
    assert!(reaches("gitea", 443));
    assert!(!reaches("gitea", 22) && !reaches("postgres", 443));
}

#[test]
fn a_cache_of_names_on_the_node_answers_on_port_53_alone() {
    let settings = Egress {
        dns: Dns {
            namespace: "openshift-dns".into(),
            pod_labels: labels_of(&[("dns.operator.openshift.io/daemonset-dns", "default")]),
            port: NonZeroU16::new(5353).unwrap(),
            node_local: vec!["169.254.20.10".parse().unwrap()],
        },
        ..closed_cluster()
    };
    let policies = policies(&settings);
    let cache = || outside("169.254.20.10".parse().unwrap());
    for protocol in ["UDP", "TCP"] {
        assert!(allows(&policies, &to(cache(), 53, protocol)));
        let pods = pod("openshift-dns", settings.dns.pod_labels.clone(), "10.244.9.9");
        assert!(allows(&policies, &to(pods, 5353, protocol)));
    }
    assert!(!allows(&policies, &to(cache(), 443, "TCP")));
    let old = pod("kube-system", labels_of(&[("k8s-app", "kube-dns")]), "10.244.9.9");
    assert!(!allows(&policies, &to(old, 53, "UDP")), "another cluster's DNS");
}

#[test]
fn a_terminal_is_reached_by_the_gateway_s_pods_alone() {
    let policies = policies(&closed_cluster());
    let from = |source, port| {
        let traffic = Traffic {
            source,
            destination: dev("dev1"),
            resolved_port: port,
            protocol: "TCP",
        };
        allows(&policies, &traffic)
    };
    let gateway = labels_of(&[(labels::APP, labels::APP_GATEWAY)]);
    assert!(from(pod(SYSTEM, gateway.clone(), "10.244.0.3"), TERMINAL_PORT));
    assert!(
        !from(pod(SYSTEM, gateway.clone(), "10.244.0.3"), 8080),
        "what its user serves"
    );
    assert!(!from(
        pod(SYSTEM, labels_of(&[(labels::APP, "workspace-operator")]), "10.244.0.4"),
        TERMINAL_PORT
    ));
    assert!(
        !from(pod("production", gateway, "10.244.0.5"), TERMINAL_PORT),
        "the label alone is not enough"
    );
    assert!(!from(dev("dev2"), TERMINAL_PORT));
    assert!(!from(outside("198.51.100.1".parse().unwrap()), TERMINAL_PORT));
}

/// Whether what is reached there is a cache of names, which is the one thing that may lie in a closed range.
fn is_cache(settings: &Egress, address: IpAddr, port: u16) -> bool {
    port == 53 && settings.dns.node_local.contains(&address)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_setting_opens_the_cluster_or_the_host(settings in any_egress(), pick in any::<prop::sample::Index>(), host in any::<u128>(), port in 1u16.., udp in any::<bool>()) {
        let closed: Vec<IpNet> = settings.cluster_cidrs.iter().copied().chain(never()).collect();
        let address = within(*pick.get(&closed), host);
        let reached = allows(&policies(&settings), &to(outside(address), port, if udp { "UDP" } else { "TCP" }));
        prop_assert!(!reached || is_cache(&settings, address, port), "{address}:{port}");
    }

    #[test]
    fn no_setting_opens_what_is_outside_the_listed_addresses_and_ports(
        (settings, address) in any_egress().prop_flat_map(|egress| (Just(egress.clone()), any_address(egress))),
        port in 1u16..,
    ) {
        let listed = settings.cidrs.iter().any(|range| range.contains(&address)) && settings.ports.iter().any(|listed| listed.get() == port);
        let reached = allows(&policies(&settings), &to(outside(address), port, "TCP"));
        prop_assert!(!reached || listed || is_cache(&settings, address, port), "{address}:{port}");
        prop_assert!(!reached || !settings.cluster_cidrs.is_empty() || is_cache(&settings, address, port));
    }

    #[test]
    fn no_rule_means_every_address_or_every_port_outside(settings in any_egress()) {
        let policies = policies(&settings);
        let specs = policies.iter().filter_map(|policy| policy.spec.as_ref());
        for rule in specs.flat_map(|spec| spec.egress.iter().flatten()) {
            prop_assert!(rule.to.as_ref().is_some_and(|to| !to.is_empty()));
            let to_addresses = rule.to.iter().flatten().any(|peer| peer.ip_block.is_some());
            prop_assert!(rule.ports.as_ref().is_none_or(|ports| !ports.is_empty()));
            prop_assert!(!to_addresses || rule.ports.is_some());
            for peer in rule.to.iter().flatten() {
                let named = peer.namespace_selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
                prop_assert!(peer.ip_block.is_some() || named.is_some_and(|labels| labels.contains_key(labels::NAMESPACE_NAME)));
            }
            // The API server refuses an exception that is not strictly inside its range.
            for block in rule.to.iter().flatten().filter_map(|peer| peer.ip_block.as_ref()) {
                for except in block.except.iter().flatten() {
                    prop_assert!(net(&block.cidr).contains(&net(except)) && net(&block.cidr) != net(except));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// With every word that a platform team has: what is set for all and for a class, ceilings of both, and what the spec asks for.
    #[test]
    fn a_ceiling_allows_what_both_allow_and_nothing_else(
        (central, traffic) in any_central().prop_flat_map(|central| {
            let traffic = prop::collection::vec(any_traffic(&central), 20);
            (Just(central), traffic)
        }),
    ) {
        let policies = central.policies();
        for traffic in traffic {
            let leaves = Traffic { source: dev("dev1"), ..traffic };
            // Who else is a workspace lets nobody in but gateways.
            let is_workspace = leaves.destination == dev("dev1") || leaves.destination == dev("dev2");
            let expected = !is_workspace && central.lets(&leaves.destination, leaves.resolved_port, leaves.protocol);
            prop_assert_eq!(allows(&policies, &leaves), expected, "{:?}", leaves);
        }
    }
}

//! Two users' policies in one namespace, as the operator renders them, and random settings and traffic for them.

use crate::central::{configured, rendered};
use crate::evaluator::{End, Labels, Pod, Traffic};
use devplane::api::egress::{Dns, EgressNamespace, PolicyBackend};
use devplane::config::operator::{WorkspaceDefaults, WorkspaceSettings};
use devplane::labels;
use devplane::policy::{Egress, never};
use devplane::render::Desired;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::LazyLock;

pub const WORKSPACES: &str = "workspaces";
pub const SYSTEM: &str = "workspace-operator-system";

pub fn net(text: &str) -> IpNet {
    text.parse().expect(text)
}

pub fn workspace_labels(user: &str) -> Labels {
    labels::of(&user.parse().unwrap())
}

pub fn labels_of(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

pub fn pod(namespace: &str, pod_labels: Labels, ip: &str) -> End {
    End {
        internal: Some(Pod {
            namespace: namespace.to_owned(),
            namespace_labels: labels_of(&[(labels::NAMESPACE_NAME, namespace)]),
            pod_labels,
        }),
        ip: ip.parse().unwrap(),
    }
}

pub fn outside(ip: IpAddr) -> End {
    End { internal: None, ip }
}

pub fn dev(user: &str) -> End {
    pod(WORKSPACES, workspace_labels(user), "10.244.0.7")
}

/// Every object of a workspace that asks for nothing, where the settings of all are `egress`.
pub fn workspace(user: &str, egress: &Egress, policy_backend: PolicyBackend) -> Desired {
    static DEFAULTS: LazyLock<WorkspaceDefaults> = LazyLock::new(|| configured(&[]).workspace.common);
    let Egress {
        dns,
        namespaces,
        ports,
        cidrs,
        fqdns,
        cluster_cidrs,
    } = egress.clone();
    let common = WorkspaceDefaults {
        dns,
        egress_namespaces: namespaces,
        egress_ports: ports,
        egress_cidrs: cidrs,
        egress_fqdns: fqdns,
        policy_backend,
        ..DEFAULTS.clone()
    };
    let settings = WorkspaceSettings {
        common,
        classes: vec![],
    };
    rendered(user, &settings, "", &json!({}), &cluster_cidrs)
}

/// The policies of dev1, who may reach what `egress` says, and of dev2, who may reach nothing.
pub fn policies(egress: &Egress) -> Vec<NetworkPolicy> {
    let of = |user, egress| workspace(user, egress, PolicyBackend::Kubernetes).policies;
    let nothing = Egress {
        namespaces: vec![],
        ports: vec![],
        ..egress.clone()
    };
    [of("dev1", egress), of("dev2", &nothing)].concat()
}

pub fn to(destination: End, port: u16, protocol: &'static str) -> Traffic {
    Traffic {
        source: dev("dev1"),
        destination,
        resolved_port: port,
        protocol,
    }
}

fn any_net() -> impl Strategy<Value = IpNet> {
    let random = (any::<IpAddr>(), 0u8..=128).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length.min(most)).unwrap().trunc()
    });
    let usual = select(vec![
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/8",
        "10.244.0.0/16",
        "10.96.0.0/16",
        "192.168.7.0/24",
        "192.168.7.11/32",
        "198.51.100.0/24",
        "fd00:10::/32",
        "2001:db8::/32",
    ]);
    prop_oneof![random, usual.prop_map(net)]
}

fn any_port() -> impl Strategy<Value = NonZeroU16> {
    let usual = select(vec![22u16, 53, 80, 443, 5353, 7681, 8000]);
    prop_oneof![usual, 1u16..].prop_map(|port| NonZeroU16::new(port).unwrap())
}

fn any_name() -> impl Strategy<Value = String> {
    select(vec![
        "ai-system",
        "git",
        "production",
        "kube-system",
        WORKSPACES,
        SYSTEM,
    ])
    .prop_map(str::to_owned)
}

fn any_labels(size: std::ops::Range<usize>) -> impl Strategy<Value = Labels> {
    let key = select(vec!["app", "tier", "k8s-app"]).prop_map(str::to_owned);
    let value = select(vec!["a", "b", "kube-dns", labels::APP_GATEWAY]).prop_map(str::to_owned);
    btree_map(key, value, size)
}

pub fn any_namespaces() -> impl Strategy<Value = Vec<EgressNamespace>> {
    let one = (any_name(), option::of(btree_set(any_port(), 1..3)), any_labels(0..3));
    vec(
        one.prop_map(|(name, ports, pod_labels)| EgressNamespace {
            name,
            ports,
            pod_labels,
        }),
        0..4,
    )
}

pub fn any_ports() -> impl Strategy<Value = Vec<NonZeroU16>> {
    vec(any_port(), 0..5)
}

pub fn any_ranges() -> impl Strategy<Value = Vec<IpNet>> {
    vec(any_net(), 0..5)
}

prop_compose! {
    fn any_dns()(
        usual in any::<bool>(),
        namespace in any_name(),
        pod_labels in any_labels(1..3),
        port in any_port(),
        node_local in vec(select(vec!["169.254.20.10", "fd00::10", "10.96.0.10"]), 0..2),
    ) -> Dns {
        let node_local = node_local.iter().map(|address| address.parse().unwrap()).collect();
        if usual { Dns { node_local, ..Dns::default() } } else { Dns { namespace, pod_labels, port, node_local } }
    }
}

prop_compose! {
    pub fn any_egress()(
        dns in any_dns(),
        namespaces in any_namespaces(),
        ports in any_ports(),
        open in any::<bool>(),
        cidrs in any_ranges(),
        cluster in vec(any_net(), 0..6),
    ) -> Egress {
        let cidrs = if open { vec![net("0.0.0.0/0"), net("::/0")] } else { cidrs };
        Egress { dns, namespaces, ports, cidrs, fqdns: vec![], cluster_cidrs: cluster.into() }
    }
}

/// An address of one of the ranges.
pub fn within(range: IpNet, host: u128) -> IpAddr {
    match range {
        IpNet::V4(net) => {
            IpAddr::from((u32::from(net.network()) | (host as u32 & u32::from(net.hostmask()))).to_be_bytes())
        }
        IpNet::V6(net) => IpAddr::from((u128::from(net.network()) | (host & u128::from(net.hostmask()))).to_be_bytes()),
    }
}

/// Where a range that `egress` speaks of begins, ends, or any place.
pub fn any_address(egress: Egress) -> impl Strategy<Value = IpAddr> {
    let dns = egress.dns.node_local.iter().copied().map(IpNet::from);
    let ranges: Vec<IpNet> = egress
        .cidrs
        .iter()
        .chain(egress.cluster_cidrs.iter())
        .copied()
        .chain(never())
        .chain(dns)
        .collect();
    let host = prop_oneof![Just(0), Just(u128::MAX), any::<u128>()];
    let inside = (any::<Index>(), host).prop_map(move |(index, host)| within(*index.get(&ranges), host));
    prop_oneof![3 => inside, 1 => any::<IpAddr>()]
}

/// Anyone in the cluster or outside.
fn any_end(egress: Egress) -> impl Strategy<Value = End> {
    let address = any_address(egress).boxed();
    let some_pod = (any_name(), any_labels(0..3), address.clone()).prop_map(|(namespace, labels, ip)| End {
        ip,
        ..pod(&namespace, labels, "10.244.0.9")
    });
    prop_oneof![
        3 => select(vec!["dev1", "dev2"]).prop_map(dev),
        1 => Just(pod("kube-system", labels_of(&[("k8s-app", "kube-dns")]), "10.244.0.2")),
        1 => Just(pod(SYSTEM, labels_of(&[(labels::APP, labels::APP_GATEWAY)]), "10.244.0.3")),
        3 => some_pod,
        4 => address.prop_map(outside),
    ]
}

/// From one to another, on ports that `egress` speaks of and others.
pub fn any_traffic(egress: &Egress) -> impl Strategy<Value = Traffic> + use<> {
    let mut ports: Vec<u16> = egress.ports.iter().map(|port| port.get()).collect();
    let inside = egress
        .namespaces
        .iter()
        .flat_map(|namespace| namespace.ports.iter().flatten());
    ports.extend(inside.map(|port| port.get()).chain([53, 7681, egress.dns.port.get()]));
    let port = prop_oneof![4 => select(ports), 1 => 1u16..];
    let source = prop_oneof![2 => Just(dev("dev1")), 1 => any_end(egress.clone())];
    (
        source,
        any_end(egress.clone()),
        port,
        select(vec!["TCP", "UDP", "SCTP"]),
    )
        .prop_map(|(source, destination, resolved_port, protocol)| Traffic {
            source,
            destination,
            resolved_port,
            protocol,
        })
}

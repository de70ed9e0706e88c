//! NetworkPolicies and traffic become allowed or refused, by the rules of the Kubernetes API (`networking.k8s.io/v1`): an
//! independent reading of what the builders write.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub type Labels = BTreeMap<String, String>;

/// One end of a connection. Serialized as the analyser takes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct End {
    /// `None` is outside the cluster, or a node.
    pub internal: Option<Pod>,
    #[serde(rename = "IP")]
    pub ip: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pod {
    pub namespace: String,
    pub namespace_labels: Labels,
    pub pod_labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Traffic {
    pub source: End,
    pub destination: End,
    pub resolved_port: u16,
    pub protocol: &'static str,
}

/// Whether it may leave its source and come in at its destination.
pub fn allows(policies: &[NetworkPolicy], traffic: &Traffic) -> bool {
    let Traffic {
        source, destination, ..
    } = traffic;
    let leaves = judged(policies, "Egress", source, |spec| {
        spec.egress
            .iter()
            .flatten()
            .any(|rule| rule_matches(rule.to.as_deref(), rule.ports.as_deref(), destination, traffic))
    });
    let comes_in = judged(policies, "Ingress", destination, |spec| {
        spec.ingress
            .iter()
            .flatten()
            .any(|rule| rule_matches(rule.from.as_deref(), rule.ports.as_deref(), source, traffic))
    });
    leaves && comes_in
}

/// What no policy selects may do everything; else one that selects it must allow it.
fn judged(
    policies: &[NetworkPolicy],
    direction: &str,
    end: &End,
    allows: impl Fn(&k8s_openapi::api::networking::v1::NetworkPolicySpec) -> bool,
) -> bool {
    let Some(pod) = &end.internal else { return true };
    let mut selecting = policies
        .iter()
        .filter(|policy| policy.metadata.namespace.as_ref() == Some(&pod.namespace))
        .filter_map(|policy| policy.spec.as_ref())
        .filter(|spec| spec.policy_types.iter().flatten().any(|kind| kind == direction))
        .filter(|spec| selects(spec.pod_selector.as_ref(), &pod.pod_labels))
        .peekable();
    selecting.peek().is_none() || selecting.any(allows)
}

fn rule_matches(
    peers: Option<&[NetworkPolicyPeer]>,
    ports: Option<&[NetworkPolicyPort]>,
    far: &End,
    traffic: &Traffic,
) -> bool {
    let (peers, ports) = (peers.unwrap_or_default(), ports.unwrap_or_default());
    (peers.is_empty() || peers.iter().any(|peer| peer_matches(peer, far)))
        && (ports.is_empty() || ports.iter().any(|port| port_matches(port, traffic)))
}

fn peer_matches(peer: &NetworkPolicyPeer, far: &End) -> bool {
    if let Some(block) = &peer.ip_block {
        let inside = |net: &String| net.parse::<IpNet>().unwrap().contains(&far.ip);
        return inside(&block.cidr) && !block.except.iter().flatten().any(inside);
    }
    let Some(pod) = &far.internal else { return false };
    // Without a namespace selector the policy's own namespace is meant; none of ours is so.
    peer.namespace_selector.is_some()
        && selects(peer.namespace_selector.as_ref(), &pod.namespace_labels)
        && selects(peer.pod_selector.as_ref(), &pod.pod_labels)
}

fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return true };
    assert!(
        selector.match_expressions.is_none(),
        "the evaluator knows only matchLabels"
    );
    let mut wanted = selector.match_labels.iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

fn port_matches(port: &NetworkPolicyPort, traffic: &Traffic) -> bool {
    assert!(port.end_port.is_none(), "the evaluator knows no ranges of ports");
    let number = IntOrString::Int(traffic.resolved_port.into());
    port.protocol.as_deref().unwrap_or("TCP") == traffic.protocol
        && port.port.as_ref().is_none_or(|port| *port == number)
}

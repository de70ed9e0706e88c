//! What Nodes, ServiceCIDRs and the API server's endpoint say becomes the cluster's own address ranges, or why they are not known.
//!
//! Nothing is guessed: a range that is missing here would be open to every workspace. The operator follows these objects, and the doctor
//! looks at them once; both decide by the rules of this module.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::core::Object;
use serde::Deserialize;
use std::net::IpAddr;
use std::str::FromStr;

/// The namespace and name of the EndpointSlice in which the API server keeps the addresses of itself and its siblings.
pub const API_SERVER_ENDPOINTS: (&str, &str) = ("default", "kubernetes");

/// What is read of a Node: the rest is some ten kilobytes, mostly the names of images.
pub type SlimNode = Object<NodeSpec, NodeStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    addresses: Vec<NodeAddress>,
    conditions: Vec<NodeCondition>,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// What matters of a Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    pub pods: Vec<IpNet>,
    pub addresses: Vec<IpAddr>,
    /// It runs pods, and does not say which addresses they have.
    pub hides_pods: bool,
}

impl NodeFacts {
    pub fn of(node: &SlimNode) -> Self {
        let pods = parsed::<IpNet>(&node.spec.pod_cidrs);
        let status = node.status.clone().unwrap_or_default();
        let is_ready = |condition: &NodeCondition| condition.kind == "Ready" && condition.status == "True";
        Self {
            // A node gets them some moments after it has joined, and is not ready before.
            hides_pods: pods.is_empty() && status.conditions.iter().any(is_ready),
            pods,
            // The others are names.
            addresses: status
                .addresses
                .iter()
                .filter(|address| matches!(address.kind.as_str(), "InternalIP" | "ExternalIP"))
                .filter_map(|address| address.address.parse().ok())
                .collect(),
        }
    }
}

/// The ranges of Services.
pub fn of_services(object: &ServiceCIDR) -> Vec<IpNet> {
    let spec = object.spec.as_ref();
    parsed(spec.and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default())
}

/// The addresses of the API server, of the slice that [`API_SERVER_ENDPOINTS`] names.
pub fn of_api_server(slice: &EndpointSlice) -> Vec<IpAddr> {
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).collect()
}

fn parsed<T: FromStr>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// What the cluster says of itself; an error is why one of the kinds can't be read.
#[derive(Debug)]
pub struct Statements<'a> {
    /// By name.
    pub nodes: Result<Vec<(&'a str, &'a NodeFacts)>, &'a str>,
    pub services: Result<Vec<IpNet>, &'a str>,
    pub api_server: Result<Vec<IpAddr>, &'a str>,
    /// Ranges of pods of Nodes that are gone. Their pods may outlive them for a while.
    pub departed: Vec<IpNet>,
    /// Addresses that pods have, each with its Node's name, of any number of pods.
    pub pods: Vec<(&'a str, IpAddr)>,
}

/// The ranges of pods, and those of Services, nodes and the API server.
#[derive(Debug, PartialEq)]
pub struct Found {
    pub pods: Vec<IpNet>,
    pub others: Vec<IpNet>,
}

impl Found {
    /// All of them, put together.
    pub fn all(&self) -> Vec<IpNet> {
        IpNet::aggregate(&self.pods.iter().chain(&self.others).copied().collect())
    }
}

impl Statements<'_> {
    /// Every range and address that is spoken of, whether or not it is all.
    pub fn told(&self) -> Vec<IpNet> {
        let nodes = self.nodes.iter().flatten();
        let nodes = nodes.flat_map(|(_, node)| {
            node.pods
                .iter()
                .copied()
                .chain(node.addresses.iter().copied().map(IpNet::from))
        });
        let services = self.services.iter().flatten().copied();
        let api_server = self.api_server.iter().flatten().copied().map(IpNet::from);
        nodes.chain(services).chain(api_server).collect()
    }

    /// The cluster's own ranges.
    ///
    /// # Errors
    /// Why they are not known: something can't be read, is not said, or is contradicted.
    pub fn found(&self) -> Result<Found, String> {
        let read = |what: &str, why: &&str| format!("{what} can't be read: {why}");
        let nodes = self.nodes.as_ref().map_err(|why| read("Nodes", why))?;
        let services = self.services.as_ref().map_err(|why| read("ServiceCIDRs", why))?;
        let api_server = self.api_server.as_ref();
        let api_server = api_server.map_err(|why| read("the API server's EndpointSlice", why))?;
        if let Some((name, _)) = nodes.iter().find(|(_, node)| node.hides_pods) {
            return Err(format!(
                "Node {name} has no podCIDRs: its pods' addresses come from elsewhere"
            ));
        }
        let pods: Vec<IpNet> = nodes.iter().flat_map(|(_, node)| &node.pods).copied().collect();
        for (nothing, what) in [
            (pods.is_empty(), "no Node has podCIDRs"),
            (services.is_empty(), "there is no ServiceCIDR"),
            (
                api_server.is_empty(),
                "the API server's EndpointSlice default/kubernetes has no address",
            ),
        ] {
            if nothing {
                return Err(what.to_owned());
            }
        }
        let pods: Vec<IpNet> = pods.into_iter().chain(self.departed.iter().copied()).collect();
        let pods = IpNet::aggregate(&pods);
        // What a pod on a node that is gone has is no witness: the network plugin had it from that node.
        let is_there = |name: &str| nodes.iter().any(|(node, _)| *node == name);
        let elsewhere = |(node, address): &&(&str, IpAddr)| !holds(&pods, *address) && is_there(node);
        if let Some((_, address)) = self.pods.iter().find(elsewhere) {
            return Err(format!(
                "a pod has the address {address}, which is in no Node's podCIDRs: the network plugin gives addresses of its own"
            ));
        }
        let addresses = nodes.iter().flat_map(|(_, node)| &node.addresses);
        let addresses = addresses.chain(api_server).copied().map(IpNet::from);
        let unspoken = unspoken(&pods);
        Ok(Found {
            pods,
            others: services.iter().copied().chain(addresses).chain(unspoken).collect(),
        })
    }
}

/// The families of addresses of which there is none in `pods`, each as the whole of it: the network plugin may give pods some by itself,
/// and then all of it may be theirs.
pub fn unspoken(pods: &[IpNet]) -> Vec<IpNet> {
    let families: [IpNet; 2] = [Ipv4Net::default().into(), Ipv6Net::default().into()];
    let is_spoken_of = |family: &IpNet| pods.iter().any(|range| family.contains(range));
    families.into_iter().filter(|family| !is_spoken_of(family)).collect()
}

pub fn holds(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_node_no_more_is_read_than_its_ranges_and_addresses() {
        let node = |spec, ready| {
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "spec": spec,
                "status": {
                    "addresses": [{"type": "InternalIP", "address": "192.168.7.11"}, {"type": "Hostname", "address": "10.9.9.9"}],
                    "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2030-01-01T00:00:00Z"}],
                    "images": [{"names": ["a"], "sizeBytes": 1}], "nodeInfo": {"kubeletVersion": "v1"},
                },
            });
            NodeFacts::of(&serde_json::from_value(node).unwrap())
        };
        let facts = node(
            json!({"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00::/64"], "providerID": "x"}),
            "True",
        );
        assert_eq!(
            facts.pods,
            ["10.244.0.0/24", "fd00::/64"].map(|range| range.parse().unwrap())
        );
        assert_eq!(facts.addresses, ["192.168.7.11".parse::<IpAddr>().unwrap()]);
        assert!(!facts.hides_pods);
        assert!(node(json!({}), "True").hides_pods && !node(json!({}), "False").hides_pods);
    }
}

//! Three pods that try what a workspace may not, and what they found: a canary that is policed like a workspace, a neighbour that nobody polices, and one
//! that asks the canary.

use super::super::super::context::Context;
use super::super::pods::{Pods, READY_WITHIN, Ready, ended, labels, ready};
use crate::api::egress::Dns;
use crate::config::OperatorConfig;
use crate::connectivity::{Outcome, Place};
use crate::names::TERMINAL_PORT;
use crate::policy::{self, Egress};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use kube::Client;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const ASKED_WITHIN: Duration = Duration::from_secs(90);

/// Kubernetes: the kubelet's API on every node.
const KUBELET_PORT: u16 = 10250;
/// The metadata services of Amazon, Google, Microsoft and others.
const METADATA: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 169, 254), 80);

/// What they are made with.
pub struct ProbePods<'a> {
    pods: Pods<'a>,
    namespace: &'a str,
    operator: &'a OperatorConfig,
    /// A port of a DNS pod that is not for names, or why there is none to try.
    beside_names: Result<Place, String>,
}

impl<'a> ProbePods<'a> {
    /// # Errors
    /// Why nothing can be tried.
    pub async fn new(context: &'a Context, client: &'a Client, operator: &'a OperatorConfig) -> Result<Self, String> {
        Ok(Self {
            pods: Pods::new(context, client, operator).await?,
            namespace: &context.installation.workspaces,
            operator,
            beside_names: beside_names(context, &operator.workspace.common.dns).await,
        })
    }

    /// What they found, and which lines are missing, each with its reason.
    ///
    /// # Errors
    /// Why nothing could be tried.
    pub async fn outcome(&self) -> Result<(Outcome, Vec<String>), String> {
        let [neighbour, canary, asker] = ["neighbour", "canary", "asker"].map(|what| self.pods.name(what));
        self.policies(&canary, &asker).await?;
        let pods = &self.pods;
        let listens = json!({"tcpSocket": {"port": TERMINAL_PORT}, "periodSeconds": 1});
        let serve = vec!["canary".to_owned()];
        pods.create(&pods.pod(&neighbour, &serve, Some(&listens))).await?;
        let neighbour = pods.until(&neighbour, READY_WITHIN, ready).await?;
        let (beside_names, not_tried) = match &self.beside_names {
            Ok(place) => (Some(place.clone()), vec![]),
            Err(why) => (None, vec![why.clone()]),
        };
        let places = places(&neighbour).into_iter().chain(beside_names);
        let places: Vec<String> = places.map(|place| format!("--place={}", String::from(place))).collect();
        let serve = [serve, places.clone()].concat();
        pods.create(&pods.pod(&canary, &serve, Some(&listens))).await?;
        let canary = pods.until(&canary, READY_WITHIN, ready).await?;
        let mut ask = vec!["canary".to_owned(), "--result=/dev/termination-log".to_owned()];
        ask.extend(canary.addresses.iter().map(|address| format!("--ask={address}")));
        ask.extend(places);
        pods.create(&pods.pod(&asker, &ask, None)).await?;
        let result = pods.until(&asker, ASKED_WITHIN, ended).await?;
        let outcome = serde_json::from_str(&result)
            .map_err(|_| format!("the pod {asker} has not told what it saw, but: {result}"))?;
        Ok((outcome, not_tried))
    }

    /// Those of a workspace that may ask for names alone, and one that lets the other pod ask.
    async fn policies(&self, canary: &str, asker: &str) -> Result<(), String> {
        let common = &self.operator.workspace.common;
        let pods = labels(canary);
        let names_alone = Egress {
            dns: common.dns.clone(),
            namespaces: vec![],
            ports: vec![],
            cidrs: vec![],
            fqdns: vec![],
            cluster_cidrs: Arc::default(),
        };
        let policies: [(&str, NetworkPolicySpec); 4] = [
            ("deny-all", policy::deny_all(&pods)),
            ("egress", policy::egress(&pods, &names_alone)),
            ("gateway", policy::ingress_gateway(&pods, &common.gateway_namespace)),
            ("report", policy::ingress_report(&pods, self.namespace, asker)),
        ];
        for (name, spec) in policies {
            let policy = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": self.pods.name(name)}, "spec": spec,
            });
            self.pods.create(&policy).await?;
        }
        Ok(())
    }
}

/// Where no workspace may get, besides the API server and what the canary itself is.
fn places(neighbour: &Ready) -> Vec<Place> {
    let place = |name: &str, address: IpAddr, port: u16| Place {
        name: name.to_owned(),
        address: (address, port).into(),
    };
    let Ready { addresses, node } = neighbour;
    let terminals = addresses
        .iter()
        .map(|address| place("another workspace's terminal port", *address, TERMINAL_PORT));
    let kubelet = node.map(|address| place("a node's kubelet", address, KUBELET_PORT));
    // Who has no address of its family gets nowhere anyway.
    let has_ipv4 = addresses.iter().any(IpAddr::is_ipv4);
    let metadata = has_ipv4.then(|| place("the metadata service", METADATA.0.into(), METADATA.1));
    terminals.chain(kubelet).chain(metadata).collect()
}

async fn beside_names(context: &Context, dns: &Dns) -> Result<Place, String> {
    let what = "another port of the DNS pods";
    let labels: Vec<String> = dns
        .pod_labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pods: Vec<Pod> = match context.list(&dns.namespace, &labels.join(",")).await {
        Ok(pods) => pods,
        Err(_) => return Err(format!("{what}, as they can't be listed in {}", dns.namespace)),
    };
    let address = pods.iter().find_map(|pod| {
        let address = *ready(pod)?.addresses.first()?;
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
        let other = ports.find(|port| {
            let is_for_names = port.container_port == i32::from(dns.port.get());
            !is_for_names && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
        })?;
        Some((address, u16::try_from(other.container_port).ok()?))
    });
    let place = address.map(|address| Place {
        name: what.to_owned(),
        address: address.into(),
    });
    place.ok_or_else(|| format!("{what}, as none that is ready names one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who reaches what on a real node with real packets.
    const MATRIX: &str = include_str!("../../../../tests/cluster/connectivity/matrix.txt");

    #[test]
    fn what_is_tried_is_refused_in_the_matrix_of_the_cluster_s_tests() {
        let neighbour = Ready {
            addresses: vec!["10.244.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            node: Some("192.168.7.11".parse().unwrap()),
        };
        let refused: Vec<Vec<&str>> = MATRIX.lines().map(|line| line.split_whitespace().collect()).collect();
        let places = places(&neighbour);
        assert_eq!(places.len(), 4);
        for place in places {
            let to = match place.address.port() {
                TERMINAL_PORT => "dev2",
                KUBELET_PORT => "kubelet",
                _ => "metadata",
            };
            let port = format!("tcp/{}", place.address.port());
            assert!(refused.contains(&vec!["dev1", to, &port, "refused"]), "{place}");
        }
    }
}

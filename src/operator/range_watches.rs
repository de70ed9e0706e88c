//! Watches of Nodes, ServiceCIDRs and the API server's endpoint become the cluster's own ranges, followed for as long as the process runs.

use super::ranges::{Change, Facts, Known, NodeFacts, Told, holds};
use super::{backoff, watches};
use crate::config::operator::CLUSTER_CIDRS;
use crate::telemetry::metrics::OperatorMetrics;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, future};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ApiResource;
use kube::core::Object;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

/// Changes that come so close together are one: of a group of nodes that join, and of a pod that is heard of before its node.
const GATHER_FOR: Duration = Duration::from_secs(1);

/// A Node is some ten kilobytes, mostly the names of images, which are not read into memory; a page of them is small enough.
const PAGE: u32 = 50;

/// What is known of the ranges, as it changes; clones follow the same.
#[derive(Clone)]
pub struct Ranges {
    /// `None` while the first answers are still to come.
    known: watch::Receiver<Option<Arc<Known>>>,
    witness: Option<mpsc::Sender<IpAddr>>,
}

impl Ranges {
    /// As they were set, once and for all.
    pub fn fixed(ranges: &[IpNet]) -> Self {
        let known = Known {
            all: ranges.into(),
            ..Known::default()
        };
        Self {
            known: watch::channel(Some(Arc::new(known))).1,
            witness: None,
        }
    }

    /// Found from the API.
    pub fn follow(client: &Client, metrics: Arc<OperatorMetrics>) -> Self {
        let (publish, known) = watch::channel(None);
        let (witness, witnessed) = mpsc::channel(1);
        let witnessed = stream::unfold(witnessed, |mut witnessed| async {
            let address = witnessed.recv().await?;
            Some((Change::Pod(address), witnessed))
        });
        let changes = stream::select_all([
            nodes(client),
            service_ranges(client),
            api_server(client),
            witnessed.boxed(),
        ]);
        tokio::spawn(follow(changes, publish, metrics));
        Self {
            known,
            witness: Some(witness),
        }
    }

    pub fn now(&self) -> Arc<Known> {
        self.known.borrow().clone().unwrap_or_default()
    }

    /// Waits until there is an answer, one way or the other.
    ///
    /// # Errors
    /// When the process stops.
    pub async fn answered(&self) -> Result<(), RecvError> {
        self.known.clone().wait_for(Option::is_some).await.map(drop)
    }

    /// An item for each change.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        watches::changes(&self.known)
    }

    /// Tells of the address of a pod of ours: it shows whether the Nodes tell the truth about pods' addresses.
    pub fn seen(&self, pod_address: &str) {
        let Some(witness) = &self.witness else { return };
        let Ok(address) = pod_address.parse() else { return };
        let known = self.now();
        if known.unknown.is_none() && !holds(&known.pods, address) {
            // One that is waiting already says the same.
            let _ = witness.try_send(address);
        }
    }
}

async fn follow(
    mut changes: impl Stream<Item = Change> + Unpin,
    publish: watch::Sender<Option<Arc<Known>>>,
    metrics: Arc<OperatorMetrics>,
) {
    let mut facts = Facts::default();
    while let Some(change) = changes.next().await {
        if !facts.take(change) {
            continue;
        }
        let last = publish.borrow().clone();
        // The first answer is waited for.
        let until = Instant::now() + if last.is_some() { GATHER_FOR } else { Duration::ZERO };
        while let Ok(Some(change)) = timeout_at(until, changes.next()).await {
            facts.take(change);
        }
        let before = last.as_deref().cloned().unwrap_or_default();
        let Some(known) = facts.known(&before) else { continue };
        if last.is_some() && known == before {
            continue;
        }
        metrics.cluster_ranges_known.set(known.unknown.is_none().into());
        match &known.unknown {
            None => tracing::info!(ranges = known.all.len(), "the cluster's own address ranges are known"),
            Some(why) => tracing::warn!(
                %why,
                "the cluster's own address ranges are not known, so workspaces reach nothing outside the cluster: set {} (clusterCIDRs in the chart) to those of pods, Services and nodes",
                CLUSTER_CIDRS.env
            ),
        }
        publish.send_replace(Some(Arc::new(known)));
    }
}

/// What is read of a Node.
type SlimNode = Object<NodeSpec, NodeStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSpec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
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

fn nodes(client: &Client) -> BoxStream<'static, Change> {
    let api: Api<SlimNode> = Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()));
    told(api, watcher::Config::default(), "Node", node_facts, Change::Node)
}

fn node_facts(node: &SlimNode) -> NodeFacts {
    let pods = parsed::<IpNet>(&node.spec.pod_cidrs);
    let status = node.status.clone().unwrap_or_default();
    let is_ready = |condition: &NodeCondition| condition.kind == "Ready" && condition.status == "True";
    NodeFacts {
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

fn service_ranges(client: &Client) -> BoxStream<'static, Change> {
    let ranges = |object: &ServiceCIDR| {
        let spec = object.spec.as_ref();
        parsed(spec.and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default())
    };
    told(
        Api::all(client.clone()),
        watcher::Config::default(),
        "ServiceCIDR",
        ranges,
        Change::Services,
    )
}

/// The API server keeps the addresses of itself and its siblings in `default/kubernetes`.
fn api_server(client: &Client) -> BoxStream<'static, Change> {
    let config = watcher::Config::default().fields("metadata.name=kubernetes");
    let addresses = |slice: &EndpointSlice| {
        let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        addresses.filter_map(|address| address.parse().ok()).collect()
    };
    told(
        Api::namespaced(client.clone(), "default"),
        config,
        "EndpointSlice",
        addresses,
        Change::ApiServer,
    )
}

fn parsed<T: FromStr>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Of each object, what `keep` makes of it.
fn told<K, V>(
    api: Api<K>,
    config: watcher::Config,
    kind: &'static str,
    keep: impl Fn(&K) -> V + Send + 'static,
    change: fn(Told<V>) -> Change,
) -> BoxStream<'static, Change>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    V: Send + 'static,
{
    let events = watch_objects(api, config.page_size(PAGE)).backoff(backoff::of_watch(kind));
    let told = events.filter_map(move |event| {
        let told = match event {
            Ok(Event::Init) => Some(Told::ListBegins),
            Ok(Event::InitApply(object)) => Some(Told::Listed(object.name_any(), keep(&object))),
            Ok(Event::InitDone) => Some(Told::ListEnds),
            Ok(Event::Apply(object)) => Some(Told::Set(object.name_any(), keep(&object))),
            Ok(Event::Delete(object)) => Some(Told::Gone(object.name_any())),
            Err(error) => refusal(&error).map(Told::Refused).or_else(|| {
                tracing::warn!(kind, %error, "a watch failed and is started again");
                None
            }),
        };
        future::ready(told.map(change))
    });
    told.boxed()
}

/// What no attempt will mend: no right to read it, or an API server that does not know the kind.
fn refusal(error: &watcher::Error) -> Option<String> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            Some(status.message.clone())
        }
        _ => None,
    }
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
            node_facts(&serde_json::from_value(node).unwrap())
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

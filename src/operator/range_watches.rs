//! Watches of Nodes, ServiceCIDRs and the API server's endpoint become the cluster's own ranges, followed for as long as the process runs.

use super::known_ranges::{Change, Facts, Known, Told};
use super::{backoff, watches};
use crate::config::operator::CLUSTER_CIDRS;
use crate::policy::ranges::{self, API_SERVER_ENDPOINTS, NodeFacts, SlimNode, holds, unspoken};
use crate::telemetry::metrics::OperatorMetrics;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, future};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::ApiResource;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

/// Changes that come so close together are one: of a group of nodes that join, and of a pod that is heard of before its node.
const GATHER_FOR: Duration = Duration::from_secs(1);

/// A Node is some ten kilobytes, most of which is not read into memory; a page of them is small enough.
const PAGE: u32 = 50;

/// What is known of the ranges, as it changes; clones follow the same.
#[derive(Clone)]
pub struct Ranges {
    /// `None` while the first answers are still to come.
    known: watch::Receiver<Option<Arc<Known>>>,
    witness: Option<mpsc::Sender<(String, IpAddr)>>,
}

impl Ranges {
    /// As they were set, once and for all.
    pub fn fixed(ranges: &[IpNet]) -> Self {
        let all: Vec<IpNet> = ranges.iter().copied().chain(unspoken(ranges)).collect();
        let known = Known {
            all: all.into(),
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
            let (node, address) = witnessed.recv().await?;
            Some((Change::Pod(node, address), witnessed))
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

    /// Tells of the address of a pod of ours, and its node: it shows whether the Nodes tell the truth about pods' addresses.
    pub fn seen(&self, node: &str, pod_address: &str) {
        let Some(witness) = &self.witness else { return };
        let Ok(address) = pod_address.parse() else { return };
        let known = self.now();
        if known.unknown.is_none() && !holds(&known.pods, address) {
            // One that is waiting already says the same.
            let _ = witness.try_send((node.to_owned(), address));
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

fn nodes(client: &Client) -> BoxStream<'static, Change> {
    let api: Api<SlimNode> = Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()));
    told(api, watcher::Config::default(), "Node", NodeFacts::of, Change::Node)
}

fn service_ranges(client: &Client) -> BoxStream<'static, Change> {
    told(
        Api::all(client.clone()),
        watcher::Config::default(),
        "ServiceCIDR",
        ranges::of_services,
        Change::Services,
    )
}

fn api_server(client: &Client) -> BoxStream<'static, Change> {
    let (namespace, name) = API_SERVER_ENDPOINTS;
    told(
        Api::namespaced(client.clone(), namespace),
        watcher::Config::default().fields(&format!("metadata.name={name}")),
        "EndpointSlice",
        ranges::of_api_server,
        Change::ApiServer,
    )
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

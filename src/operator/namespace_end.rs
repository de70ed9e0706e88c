//! The namespace of the Workspaces becomes whether it is being deleted.
//!
//! Kubernetes deletes what is in it in no order that could be relied on, some seconds after it was told to: our own Role may be gone before
//! the Workspaces. Nobody could take our finalizer off them then, and the namespace would never end. So it is taken off as soon as the
//! namespace says so.

use super::backoff;
use super::watches;
use futures::{Stream, TryStreamExt};
use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::WatchEvent;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// After a watch that failed: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(800);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whether it is being deleted, which is never undone; clones follow the same.
#[derive(Clone)]
pub struct NamespaceEnd(Arc<watch::Sender<bool>>);

impl NamespaceEnd {
    /// Follows it for as long as the process runs.
    pub fn follow(client: &Client, namespace: &str) -> Self {
        let end = Self(Arc::new(watch::Sender::new(false)));
        tokio::spawn(follow(client.clone(), namespace.to_owned(), end.clone()));
        end
    }

    pub fn is_there(&self) -> bool {
        *self.0.borrow()
    }

    /// The API server has said so.
    pub fn tell(&self) {
        if !self.0.send_replace(true) {
            tracing::info!("the namespace is being deleted: nothing more is made in it");
        }
    }

    /// An item when it begins.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        watches::changes(&self.0.subscribe())
    }
}

async fn follow(client: Client, namespace: String, end: NamespaceEnd) {
    let mut failures = 0;
    while !end.is_there() {
        match look(&client, &namespace, &end).await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(namespace, %error, "whether the namespace is being deleted is not known, and asked again");
                }
                sleep(backoff::delay(FIRST_PAUSE, LONGEST_PAUSE, failures, &namespace)).await;
            }
        }
    }
}

/// As it is now, and until a watch of it ends, which the API server brings about every few minutes.
async fn look(client: &Client, namespace: &str, end: &NamespaceEnd) -> Result<(), kube::Error> {
    let now = Api::<Namespace>::all(client.clone()).get_metadata(namespace).await?;
    if told(&now, end) {
        return Ok(());
    }
    let watch = request(namespace, now.resource_version().as_deref().unwrap_or_default())?;
    let events = client.request_events::<PartialObjectMeta<Namespace>>(watch).await?;
    let mut events = pin!(events);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(now) | WatchEvent::Modified(now) | WatchEvent::Deleted(now) if told(&now, end) => break,
            // Such as a version that is too old: it is looked at anew.
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            _ => {}
        }
    }
    Ok(())
}

fn told(now: &PartialObjectMeta<Namespace>, end: &NamespaceEnd) -> bool {
    let ends = now.metadata.deletion_timestamp.is_some();
    if ends {
        end.tell();
    }
    ends
}

/// The watch of one object by its path. A list that is narrowed down to one namespace is a request to all of them, which takes a ClusterRole;
/// this is a request within it, and so a Role of the namespace allows it (Kubernetes API reference: "watch changes to an object of kind
/// Namespace", deprecated and served for as long as `v1` is).
fn request(namespace: &str, version: &str) -> Result<Request<Vec<u8>>, kube::Error> {
    let path = format!("/api/v1/watch/namespaces/{namespace}?resourceVersion={version}");
    let request = Request::get(path).body(Vec::new());
    request.map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))
}

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

/// After a watch that failed: at first, and at most, which is less than Kubernetes takes from the word to the deed.
const FIRST_PAUSE: Duration = Duration::from_millis(800);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// How long a watch is asked for.
const WATCHED_FOR: Duration = Duration::from_secs(290);

/// Whether it is being deleted. That is never undone, but another one may be made under its name; clones follow the same.
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

    /// There is one that is not being deleted.
    fn tell_not(&self) {
        if self.0.send_replace(false) {
            tracing::info!("the namespace was made anew");
        }
    }

    /// An item when it begins, and when there is another namespace.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        watches::changes(&self.0.subscribe())
    }
}

async fn follow(client: Client, namespace: String, end: NamespaceEnd) {
    let mut failures = 0;
    loop {
        match look(&client, &namespace, &end, &mut failures).await {
            Ok(()) => sleep(FIRST_PAUSE).await,
            Err(error) => {
                failures += 1;
                if failures == 1 && !end.is_there() {
                    tracing::warn!(namespace, %error, "whether the namespace is being deleted is not known, and asked again");
                }
                sleep(backoff::delay(FIRST_PAUSE, LONGEST_PAUSE, failures, &namespace)).await;
            }
        }
    }
}

/// As it is now, and until a watch of it ends, which the API server brings about every few minutes.
async fn look(client: &Client, namespace: &str, end: &NamespaceEnd, failures: &mut u32) -> Result<(), kube::Error> {
    let now = Api::<Namespace>::all(client.clone()).get_metadata(namespace).await?;
    *failures = 0;
    told(&now, end);
    let watch = request(namespace, now.resource_version().as_deref().unwrap_or_default())?;
    let events = client.request_events::<PartialObjectMeta<Namespace>>(watch).await?;
    let mut events = pin!(events);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(now) | WatchEvent::Modified(now) => told(&now, end),
            // Such as a version that is too old: it is looked at anew.
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            _ => {}
        }
    }
    Ok(())
}

fn told(now: &PartialObjectMeta<Namespace>, end: &NamespaceEnd) {
    if now.metadata.deletion_timestamp.is_some() {
        end.tell();
    } else {
        end.tell_not();
    }
}

/// The watch of one object by its path. A list that is narrowed down to one namespace is a request to all of them, which takes a ClusterRole;
/// this is a request within it, and so a Role of the namespace allows it (Kubernetes API reference: "watch changes to an object of kind
/// Namespace", deprecated and served for as long as `v1` is).
fn request(namespace: &str, version: &str) -> Result<Request<Vec<u8>>, kube::Error> {
    let seconds = WATCHED_FOR.as_secs();
    let path = format!("/api/v1/watch/namespaces/{namespace}?resourceVersion={version}&timeoutSeconds={seconds}");
    let request = Request::get(path).body(Vec::new());
    request.map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))
}

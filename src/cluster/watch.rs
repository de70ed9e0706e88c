//! The objects of one kind become a list, its changes, and signs of life while nothing changes.
//!
//! kube's own `watcher` tells of changes alone: a watch that is quiet and one that is dead look the same to its caller. Here the
//! API server ends each watch after a short while, and whoever hears nothing for a little longer knows that it is cut off.

use futures::TryStreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long the API server keeps a watch: the longest silence of one that is well.
const WATCH_FOR: Duration = Duration::from_secs(10);
/// For an answer, and beyond [`WATCH_FOR`] for the end of a watch.
const ANSWER: Duration = Duration::from_secs(5);
/// After a failure: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const PAGE: u32 = 500;

/// What became known.
pub enum Change<K> {
    /// All that there are: at the start, and whenever the changes can't be had one by one.
    All(Vec<K>),
    Applied(K),
    Deleted(K),
    /// Nothing has changed.
    Alive,
}

/// Tells `told` of every change. Never ends.
pub async fn follow<K>(api: &Api<K>, mut told: impl FnMut(Change<K>))
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut version: Option<String> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        match next(api, version.take(), &mut told).await {
            Ok(after) => {
                version = after;
                pause = FIRST_PAUSE;
            }
            Err((error, after)) => {
                tracing::warn!(error, "the watch failed and is started again");
                version = after;
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// One list, when there is no version to go on from, or one watch. Gives the version to go on from.
async fn next<K>(
    api: &Api<K>,
    version: Option<String>,
    told: &mut impl FnMut(Change<K>),
) -> Result<Option<String>, (String, Option<String>)>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let Some(mut version) = version else {
        let (all, version) = list(api).await.map_err(|error| (error, None))?;
        told(Change::All(all));
        return Ok(Some(version));
    };
    let parameters = WatchParams::default().timeout(u32::try_from(WATCH_FOR.as_secs()).unwrap_or(u32::MAX));
    let watch = match timeout(ANSWER, api.watch(&parameters, &version)).await {
        Ok(Ok(watch)) => watch,
        Ok(Err(kube::Error::Api(status))) if status.code == 410 => return Ok(None),
        Ok(Err(error)) => return Err((error.to_string(), Some(version))),
        Err(_) => return Err(("no answer in time".to_owned(), Some(version))),
    };
    told(Change::Alive);
    let mut watch = pin!(watch);
    loop {
        let event = match timeout(WATCH_FOR + ANSWER, watch.try_next()).await {
            Ok(Ok(Some(event))) => event,
            Ok(Ok(None)) => {
                told(Change::Alive);
                return Ok(Some(version));
            }
            Ok(Err(error)) => return Err((error.to_string(), Some(version))),
            Err(_) => return Err(("the API server is silent".to_owned(), Some(version))),
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                version = object.meta().resource_version.clone().unwrap_or(version);
                told(Change::Applied(object));
            }
            WatchEvent::Deleted(object) => {
                version = object.meta().resource_version.clone().unwrap_or(version);
                told(Change::Deleted(object));
            }
            WatchEvent::Bookmark(bookmark) => {
                version = bookmark.metadata.resource_version;
                told(Change::Alive);
            }
            // The changes since then are no longer kept (410): all is listed again.
            WatchEvent::Error(status) if status.code == 410 => return Ok(None),
            WatchEvent::Error(status) => return Err((status.message, None)),
        }
    }
}

/// All objects, page by page, and the version that they are of.
async fn list<K>(api: &Api<K>) -> Result<(Vec<K>, String), String>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut all = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = timeout(ANSWER, api.list(&parameters)).await;
        let page = page.map_err(|_| "no answer in time".to_owned())?;
        let page = page.map_err(|error| error.to_string())?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok((all, page.metadata.resource_version.unwrap_or_default())),
        }
    }
}

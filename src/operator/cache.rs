//! What a watch tells of the objects of one kind becomes a map from their names to what a pass reads of them.
//!
//! Thousands of objects of Kubernetes' own types are large, mostly in fields that nobody here reads.

use super::backoff;
use crate::cluster::lean::Lean;
use futures::{Stream, StreamExt, future};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;

/// Objects in one answer to a list.
pub const PAGE: u32 = 50;

/// The objects of one kind in one namespace; clones are of the same cache.
pub struct Cache<V> {
    objects: Arc<RwLock<HashMap<Box<str>, V>>>,
    filled: watch::Receiver<bool>,
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            objects: Arc::clone(&self.objects),
            filled: self.filled.clone(),
        }
    }
}

impl<V> Cache<V> {
    /// Whether there was a complete list.
    pub fn is_filled(&self) -> bool {
        *self.filled.borrow()
    }
}

impl<V: Clone> Cache<V> {
    pub fn get(&self, name: &str) -> Option<V> {
        self.objects().get(name).cloned()
    }

    pub fn all(&self) -> Vec<V> {
        self.objects().values().cloned().collect()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.objects().contains_key(name)
    }

    /// Waits for the first complete list.
    ///
    /// # Errors
    /// When the watch has ended for good, which is so only while the process stops.
    pub async fn filled(&self) -> Result<(), RecvError> {
        self.filled.clone().wait_for(|filled| *filled).await.map(drop)
    }

    fn objects(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, V>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what the watch tells.
struct Writer<V> {
    cache: Cache<V>,
    /// A list that is not complete yet: until it is, what was there stays.
    listed: HashMap<Box<str>, V>,
    tell_filled: watch::Sender<bool>,
}

impl<V> Writer<V> {
    fn new() -> Self {
        let (tell_filled, filled) = watch::channel(false);
        Self {
            cache: Cache {
                objects: Arc::default(),
                filled,
            },
            listed: HashMap::new(),
            tell_filled,
        }
    }

    fn write<K: Resource<DynamicType = ()>>(&mut self, event: Event<Lean<K>>, keep: &impl Fn(K) -> Option<V>) {
        let write = |objects: &mut HashMap<Box<str>, V>, object: Lean<K>| {
            let name = object.name_any().into_boxed_str();
            if let Err(unreadable) = &object.object {
                tracing::warn!(kind = %K::kind(&()), name, error = unreadable.error, "an object can't be read and is left out");
            }
            match object.object.ok().and_then(keep) {
                Some(value) => objects.insert(name, value),
                None => objects.remove(&name),
            };
        };
        let mut objects = self.cache.objects.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => self.listed = HashMap::new(),
            Event::InitApply(object) => write(&mut self.listed, object),
            Event::InitDone => {
                *objects = std::mem::take(&mut self.listed);
                drop(objects);
                self.tell_filled.send_replace(true);
            }
            Event::Apply(object) => write(&mut objects, object),
            Event::Delete(object) => drop(objects.remove(object.name_any().as_str())),
        }
    }
}

/// What has happened to the objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// One has come, changed or gone.
    Changed(T),
    /// Any may have changed: the watch was lost, and the list is a new one.
    Relisted,
}

/// A cache of one kind, and a stream that has to be polled for it to be filled: of each object that has changed, what `tell` makes
/// of it. Of each object the cache has what `keep` makes of it, if anything.
pub fn watched<K, V, T>(
    client: &Client,
    namespace: &str,
    config: watcher::Config,
    keep: impl Fn(K) -> Option<V> + Send + 'static,
    tell: impl Fn(&K) -> T + Send + 'static,
) -> (Cache<V>, impl Stream<Item = Told<T>> + Send + 'static)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    V: Send + Sync + 'static,
    T: Send + 'static,
{
    let mut writer = Writer::new();
    let cache = writer.cache.clone();
    // A page is in memory as a whole, with everything that is not kept.
    let config = config.page_size(PAGE);
    let events = watch_objects(Api::<Lean<K>>::namespaced(client.clone(), namespace), config)
        .backoff(backoff::of_watch(&K::kind(&())));
    let told = events.filter_map(move |event| {
        let told = match event {
            Ok(event) => {
                let told = match &event {
                    Event::Apply(Lean { object: Ok(object), .. }) | Event::Delete(Lean { object: Ok(object), .. }) => {
                        Some(Told::Changed(tell(object)))
                    }
                    // Nothing is done before the first list is complete.
                    Event::InitDone => writer.cache.is_filled().then_some(Told::Relisted),
                    Event::Apply(_) | Event::Delete(_) | Event::Init | Event::InitApply(_) => None,
                };
                writer.write(event, &keep);
                told
            }
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "a watch failed and is started again");
                None
            }
        };
        future::ready(told)
    });
    (cache, told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn object(name: &str, kept: bool) -> Lean<ConfigMap> {
        let object = json!({"metadata": {"name": name}, "immutable": kept});
        serde_json::from_str(&object.to_string()).unwrap()
    }

    #[test]
    fn a_list_replaces_what_was_there_once_it_is_complete() {
        let mut writer = Writer::new();
        let keep = |object: ConfigMap| object.immutable.filter(|kept| *kept);
        let cache = writer.cache.clone();
        let names = || {
            let mut names: Vec<String> = cache.objects().keys().map(|name| name.to_string()).collect();
            names.sort();
            names
        };
        for event in [
            Event::Init,
            Event::InitApply(object("a", true)),
            Event::InitApply(object("b", true)),
        ] {
            writer.write(event, &keep);
        }
        assert!(names().is_empty() && !writer.cache.is_filled(), "not complete");
        writer.write(Event::InitDone, &keep);
        assert!(names() == ["a", "b"] && writer.cache.is_filled());

        writer.write(Event::Apply(object("c", true)), &keep);
        writer.write(Event::Apply(object("b", false)), &keep);
        assert_eq!(names(), ["a", "c"], "nothing is kept of b any more");
        writer.write(Event::Delete(object("a", true)), &keep);
        assert_eq!(names(), ["c"]);

        writer.write(Event::Init, &keep);
        writer.write(Event::InitApply(object("d", true)), &keep);
        assert_eq!(
            names(),
            ["c"],
            "the watch was lost, and what is known is better than nothing"
        );
        writer.write(Event::InitDone, &keep);
        assert_eq!(names(), ["d"]);
    }
}

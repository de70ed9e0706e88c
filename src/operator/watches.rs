//! Every kind that a workspace depends on is watched: a cache of each, and one stream of the Workspaces that a change concerns.

use super::Workspaces;
use super::cache::{self, Cache, Told};
use super::content::Decided;
use super::observe::Caches;
use super::other_backend::Cilium;
use super::seen::{self, Seen, SeenClaim, SeenPod};
use crate::api::Workspace;
use crate::cluster::lean::Lean;
use crate::config::OperatorConfig;
use crate::config::operator::WorkspaceSettings;
use crate::labels;
use crate::policy::cilium::CiliumNetworkPolicy;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::watch;

type WorkspaceRef = ObjectRef<Lean<Workspace>>;

/// Starts them all; the caches are filled while the stream is polled.
pub fn start(
    client: &Client,
    config: &OperatorConfig,
    workspaces: &Workspaces,
    cilium: Cilium,
) -> (Caches, impl Stream<Item = WorkspaceRef> + Send + 'static) {
    let mut watches = Watches {
        client,
        workspaces,
        changes: vec![],
    };
    let namespace = config.namespace.as_str();
    let cilium_policies = (cilium == Cilium::Followed).then(|| watches.late::<CiliumNetworkPolicy>(namespace));
    let settings = config.workspace.clone();
    let caches = Caches {
        service_accounts: watches.compared::<ServiceAccount>(namespace),
        roles: watches.compared::<Role>(namespace),
        role_bindings: watches.compared::<RoleBinding>(namespace),
        policies: watches.compared::<NetworkPolicy>(namespace),
        cilium_policies,
        services: watches.compared::<Service>(namespace),
        claims: watches.add(
            namespace,
            managed(),
            |claim| Some(Arc::new(SeenClaim::of(&claim))),
            |claim: &PersistentVolumeClaim, _| {
                // Its owner, or the one that has left it.
                let left_by = || {
                    let name = claim.annotations().get(labels::WORKSPACE_NAME)?;
                    Some(ObjectRef::new(name).within(&claim.namespace().unwrap_or_default()))
                };
                owner(claim).or_else(left_by).into_iter().collect()
            },
        ),
        pods: watches.add(
            namespace,
            managed(),
            |pod| Some(Arc::new(SeenPod::of(&pod))),
            |pod: &Pod, _| owner(pod).into_iter().collect(),
        ),
        config_maps: watches.add(
            namespace,
            watcher::Config::default(),
            |config_map| Some(seen::digest(&config_map).into()),
            move |config_map: &ConfigMap, workspaces| {
                let name = config_map.name_any();
                using(workspaces, |workspace| uses_ca_bundle(workspace, &name, &settings))
            },
        ),
        gateways: watches.add(
            &config.workspace.common.gateway_namespace,
            watcher::Config::default().labels(labels::GATEWAY_SELECTOR),
            |gateway| seen::is_alive(&gateway).then_some(()),
            |gateway: &Pod, workspaces| {
                let name = gateway.name_any();
                using(workspaces, |workspace| has_session_at(workspace, &name))
            },
        ),
    };
    (caches, stream::select_all(watches.changes))
}

fn managed() -> watcher::Config {
    watcher::Config::default().labels(labels::MANAGED_SELECTOR)
}

/// The watches so far.
struct Watches<'a> {
    client: &'a Client,
    workspaces: &'a Workspaces,
    changes: Vec<BoxStream<'static, WorkspaceRef>>,
}

impl Watches<'_> {
    /// Of each object the cache has what `keep` makes of it; `concerns` are the Workspaces that have to be looked at when it
    /// changes.
    fn add<K, V>(
        &mut self,
        namespace: &str,
        config: watcher::Config,
        keep: impl Fn(K) -> Option<V> + Send + 'static,
        concerns: impl Fn(&K, &Workspaces) -> Vec<WorkspaceRef> + Send + 'static,
    ) -> Cache<V>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
        V: Send + Sync + 'static,
    {
        let (workspaces, all) = (self.workspaces.clone(), self.workspaces.clone());
        let tell = move |object: &K| concerns(object, &workspaces);
        let (cache, told) = cache::watched(self.client, namespace, config, keep, tell);
        let changes = told.flat_map(move |told| {
            stream::iter(match told {
                Told::Changed(concerned) => concerned,
                Told::Relisted => self::all(&all),
            })
        });
        self.changes.push(changes.boxed());
        cache
    }

    /// A kind that is compared as a whole.
    fn compared<K>(&mut self, namespace: &str) -> Cache<Arc<Seen>>
    where
        K: Decided + Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        self.kept(namespace, Seen::of::<K>)
    }

    fn kept<K>(&mut self, namespace: &str, seen: fn(&K) -> Seen) -> Cache<Arc<Seen>>
    where
        K: Decided + Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let keep = move |object: K| Some(Arc::new(seen(&object)));
        self.add(namespace, managed(), keep, |object, _| {
            owner(object).into_iter().collect()
        })
    }
}

impl Watches<'_> {
    /// The same, of a kind that nobody waits for and that may have to go: when its first list comes, all Workspaces have to be looked at.
    fn late<K>(&mut self, namespace: &str) -> Cache<Arc<Seen>>
    where
        K: Decided + Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let cache = self.kept(namespace, Seen::deletable::<K>);
        let (filled, workspaces) = (cache.clone(), self.workspaces.clone());
        let first = stream::once(async move { filled.filled().await })
            .flat_map(move |filled| stream::iter(filled.map(|()| self::all(&workspaces)).unwrap_or_default()));
        self.changes.push(first.boxed());
        cache
    }
}

/// The Workspace that it belongs to, with its uid: when it is gone, that is what the operator has remembered it by.
fn owner<K: Resource>(object: &K) -> Option<WorkspaceRef> {
    let mut owners = object.owner_references().iter();
    let controller = owners.find(|owner| owner.controller == Some(true))?;
    ObjectRef::from_owner_ref(object.meta().namespace.as_deref(), controller, ())
}

/// An item for each change of what is known.
pub fn changes<T: Send + Sync + 'static>(known: &watch::Receiver<T>) -> impl Stream<Item = ()> + Send + use<T> {
    stream::unfold(known.clone(), |mut known| async {
        known.changed().await.ok()?;
        Some(((), known))
    })
}

/// Those that can't be read among them.
pub fn all(workspaces: &Workspaces) -> Vec<WorkspaceRef> {
    let workspaces = workspaces.state();
    let all = workspaces.iter().map(AsRef::as_ref);
    all.map(ObjectRef::from_obj).collect()
}

/// The Workspaces for which `holds` is true.
fn using(workspaces: &Workspaces, holds: impl Fn(&Workspace) -> bool) -> Vec<WorkspaceRef> {
    let workspaces = workspaces.state();
    let using = workspaces.iter().filter(|lean| lean.object.as_ref().is_ok_and(&holds));
    using.map(|lean| ObjectRef::from_obj(lean.as_ref())).collect()
}

fn uses_ca_bundle(workspace: &Workspace, name: &str, settings: &WorkspaceSettings) -> bool {
    match workspace.spec.tls.custom_ca_bundle.name.as_str() {
        "" => settings.common.ca_bundle_config_map.as_deref() == Some(name),
        own => own == name,
    }
}

fn has_session_at(workspace: &Workspace, gateway: &str) -> bool {
    let sessions = workspace.status.iter().flat_map(|status| &status.sessions);
    sessions.into_iter().any(|session| session.gateway == gateway)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_concerns_the_workspace_that_controls_the_object() {
        let referred = |kind: &str, controller: bool| {
            let pod = json!({"metadata": {"namespace": "workspaces", "ownerReferences": [
                {"apiVersion": "workspace.devplane.io/v1alpha1", "kind": kind, "name": "dev1", "uid": "u", "controller": controller}]}});
            owner::<Pod>(&serde_json::from_value(pod).unwrap())
        };
        let workspace = referred("Workspace", true).unwrap();
        assert_eq!(workspace, ObjectRef::new("dev1").within("workspaces"));
        assert_eq!(workspace.extra.uid.as_deref(), Some("u"));
        assert_eq!((referred("Workspace", false), referred("Other", true)), (None, None));
    }
}

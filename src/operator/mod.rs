//! Workspaces become pods, volumes, Services and policies, and stay as they should be.
//!
//! `Workspace -> observe -> validate -> desired -> plan(now) -> apply -> status`, driven by [`reconcile`]. Every module but
//! `observe`, `apply`, `report` and `reconcile` is pure. Watches bring every change; nothing is polled.

mod apply;
mod backoff;
mod drift;
mod ended;
mod failure;
mod memory;
mod observe;
mod plan;
mod pod_state;
mod queue;
mod reconcile;
mod report;
mod retain;
mod start;
mod status;
mod trim;
mod validate;
mod volume;

use crate::api::{Phase, Workspace};
use crate::clock::Clock;
use crate::cluster::lease::{self, Elector, LeaseError};
use crate::config::OperatorConfig;
use crate::config::operator::WorkspaceSettings;
use crate::labels;
use crate::serve::listener::ListenError;
use crate::serve::probes::{self, Page};
use crate::serve::shutdown;
use crate::telemetry::metrics::{self, OperatorMetrics};
use futures::{Stream, StreamExt, TryStreamExt, future};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::core::DeserializeGuard;
use kube::runtime::events::{self, Recorder};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use memory::Memory;
use observe::Caches;
use queue::Queue;
use reconcile::Context;
use report::Reporter;
use serde::de::DeserializeOwned;
use snafu::{ResultExt, Snafu};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Workspaces that are worked on at once. Most of a pass is waiting for the API server.
const CONCURRENT_PASSES: u16 = 64;

/// Of a Workspace; `None` is one that has no status yet.
const PHASES: [Option<Phase>; 6] = [
    None,
    Some(Phase::Pending),
    Some(Phase::Creating),
    Some(Phase::Running),
    Some(Phase::Failed),
    Some(Phase::Stopped),
];

/// Why the operator stopped without being told to.
#[derive(Debug, Snafu)]
pub enum OperatorError {
    #[snafu(display("{source}"))]
    Bind { source: ListenError },
    #[snafu(display("{source}"))]
    Lease { source: LeaseError },
    #[snafu(display("the watches ended"))]
    WatchesEnded,
}

/// Runs until SIGTERM or SIGINT, or until leadership is lost.
///
/// # Errors
/// When an address can't be bound, or leadership is lost: the process must end then, and be started again.
pub async fn run(config: OperatorConfig, client: Client, clock: Arc<dyn Clock>) -> Result<(), OperatorError> {
    let metrics = Arc::new(OperatorMetrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let pages = serve(&config, &metrics, &ready).await.context(BindSnafu)?;
    let stop = shutdown::signal();
    tokio::pin!(stop);

    let elector = config.leader_elect.then(|| {
        let settings = lease::Settings::new(&config.pod_namespace, "workspace-operator", &config.pod_name);
        Elector::new(client.clone(), settings, Arc::clone(&clock))
    });
    // A standby that waits for the Lease is as ready as it can be.
    ready.store(config.leader_elect, Ordering::Relaxed);
    let held = match elector {
        None => None,
        Some(elector) => tokio::select! {
            held = elector.acquire() => Some(held),
            () = &mut stop => return Ok(()),
        },
    };
    metrics.leader.set(1);
    // No standby any more: ready again once the watches have filled.
    ready.store(false, Ordering::Relaxed);
    if config.workspace.common.cluster_cidrs.is_empty() {
        tracing::warn!(
            "CLUSTER_CIDRS is not set: workspaces reach nothing outside the cluster; set it to the ranges of the cluster's pods, Services and nodes"
        );
    }
    tracing::info!(namespace = config.namespace, "the operator works");
    let work = work(config, client, clock, metrics, Arc::clone(&ready));
    let result = match held {
        None => tokio::select! {
            () = work => WatchesEndedSnafu.fail(),
            () = &mut stop => Ok(()),
        },
        Some(mut held) => {
            let result = tokio::select! {
                () = work => WatchesEndedSnafu.fail(),
                error = held.keep() => Err(error).context(LeaseSnafu),
                () = &mut stop => Ok(()),
            };
            if result.is_ok() {
                held.release().await;
            }
            result
        }
    };
    drop(pages);
    tracing::info!("the operator stops");
    result
}

/// The metrics and probe listeners; they end when the result is dropped.
async fn serve(
    config: &OperatorConfig,
    metrics: &Arc<OperatorMetrics>,
    ready: &Arc<AtomicBool>,
) -> Result<[probes::Server; 2], ListenError> {
    let (metrics, ready) = (Arc::clone(metrics), Arc::clone(ready));
    let metrics = probes::serve(config.metrics_address, move |path| {
        (path == "/metrics").then(|| Page::ok(metrics::CONTENT_TYPE, metrics.encode()))
    });
    let probes = probes::serve(config.probe_address, move |path| match path {
        "/healthz" => Some(Page::ok("text/plain", "ok\n".to_owned())),
        "/readyz" if ready.load(Ordering::Relaxed) => Some(Page::ok("text/plain", "ok\n".to_owned())),
        "/readyz" => Some(Page::unavailable("the watches have not filled yet\n".to_owned())),
        _ => None,
    });
    Ok([metrics.await?, probes.await?])
}

/// Watches and reconciles until the watches end.
async fn work(
    config: OperatorConfig,
    client: Client,
    clock: Arc<dyn Clock>,
    metrics: Arc<OperatorMetrics>,
    ready: Arc<AtomicBool>,
) {
    let namespace = config.namespace.as_str();
    let (workspaces, workspace_stream) =
        watched::<DeserializeGuard<Workspace>>(&client, namespace, watcher::Config::default(), |_| ());
    let managed = || watcher::Config::default().labels(labels::MANAGED_SELECTOR);
    let (service_accounts, service_account_stream) = watched(&client, namespace, managed(), |_| ());
    let (roles, role_stream) = watched(&client, namespace, managed(), |_| ());
    let (role_bindings, role_binding_stream) = watched(&client, namespace, managed(), |_| ());
    let (policies, policy_stream) = watched(&client, namespace, managed(), |_| ());
    let (services, service_stream) = watched(&client, namespace, managed(), trim::service);
    let (claims, claim_stream) = watched(&client, namespace, managed(), trim::claim);
    let (pods, pod_stream) = watched(&client, namespace, managed(), trim::pod);
    let (gateways, gateway_stream) = watched(
        &client,
        &config.workspace.common.gateway_namespace,
        watcher::Config::default().labels(labels::GATEWAY_SELECTOR),
        trim::gateway,
    );
    let (config_maps, config_map_stream) = watched(&client, namespace, watcher::Config::default(), observe::digest);
    let caches = Caches {
        service_accounts,
        roles,
        role_bindings,
        policies,
        services,
        claims,
        pods,
        config_maps,
        gateways,
    };
    let queue = Arc::new(Queue::new(metrics.queue_depth.clone()));
    let by_digest = {
        let (workspaces, settings) = (workspaces.clone(), config.workspace.clone());
        move |config_map: ConfigMap| {
            using(&workspaces, |workspace| {
                uses_ca_bundle(workspace, &config_map.name_any(), &settings)
            })
        }
    };
    let by_gateway = {
        let workspaces = workspaces.clone();
        move |gateway: Pod| using(&workspaces, |workspace| has_session_at(workspace, &gateway.name_any()))
    };

    let metrics_of_phases = Arc::clone(&metrics);
    // One waiter for the stores, many for this: two that wait for one store at once can miss its being filled.
    let (tell_filled, all_filled) = watch::channel(false);
    let reporter = events::Reporter {
        controller: "devplane-operator".to_owned(),
        instance: Some(config.pod_name),
    };
    let context = Arc::new(Context {
        client: client.clone(),
        clock,
        settings: config.workspace,
        workspaces: workspaces.clone(),
        caches: caches.clone(),
        filled: all_filled,
        memory: Memory::default(),
        queue: Arc::clone(&queue),
        reporter: Reporter {
            recorder: Recorder::new(client, reporter),
            metrics,
        },
    });
    let counted = workspaces.clone();
    metrics_of_phases.set_phases(move || {
        let mut counts = [0; PHASES.len()];
        for guarded in counted.state() {
            let phase = guarded
                .0
                .as_ref()
                .ok()
                .and_then(|workspace| workspace.status.as_ref()?.phase);
            counts[PHASES.iter().position(|known| *known == phase).unwrap_or_default()] += 1;
        }
        PHASES
            .iter()
            .map(|phase| phase.map_or("None", Phase::as_str))
            .zip(counts)
            .collect()
    });
    tokio::spawn(async move {
        if caches.filled().await.is_ok() {
            tell_filled.send_replace(true);
            ready.store(true, Ordering::Relaxed);
        }
    });
    let (owned, own, gone) = (Arc::clone(&queue), Arc::clone(&queue), queue);
    let workspace_stream = workspace_stream.inspect_ok(move |workspace| own.add(&workspace.name_any()));
    Controller::for_stream(workspace_stream, workspaces)
        .with_config(controller::Config::default().concurrency(CONCURRENT_PASSES))
        // Each watch waits by itself. A pause in common is one for each watch that fails, and holds up all the others: minutes
        // would go by before an API server that was away is noticed.
        .trigger_backoff(backoff::NoPause)
        .owns_stream(service_account_stream)
        .owns_stream(role_stream)
        .owns_stream(role_binding_stream)
        .owns_stream(policy_stream)
        .owns_stream(service_stream)
        .watches_stream(claim_stream, workspace_of_claim)
        .owns_stream(pod_stream.inspect_ok(move |pod| add_owner(&owned, pod)))
        .watches_stream(config_map_stream, by_digest)
        .watches_stream(gateway_stream, by_gateway)
        .run(reconcile::reconcile, reconcile::backoff, context)
        .for_each(|result| {
            match result {
                // A failed pass was logged by `backoff`.
                Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(controller::Error::ObjectNotFound(workspace)) => gone.forget(&workspace.name),
                Err(controller::Error::QueueError(error)) => {
                    tracing::warn!(%error, "a watch failed and is started again");
                }
                Err(error) => tracing::warn!(%error, "the controller has trouble"),
            }
            future::ready(())
        })
        .await;
}

/// Notes that something of the owner's has changed.
fn add_owner(queue: &Queue, object: &Pod) {
    let owners = object.owner_references().iter();
    for owner in owners.filter(|owner| owner.kind == Workspace::kind(&())) {
        queue.add(&owner.name);
    }
}

/// The Workspace that a claim belongs to, or was left by.
fn workspace_of_claim(claim: PersistentVolumeClaim) -> Option<ObjectRef<DeserializeGuard<Workspace>>> {
    let owner = claim
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    let left_by = || claim.annotations().get(labels::WORKSPACE_NAME).cloned();
    let name = owner.map(|owner| owner.name.clone()).or_else(left_by)?;
    Some(ObjectRef::new(&name).within(&claim.namespace()?))
}

/// The Workspaces for which `holds` is true.
fn using(
    workspaces: &Store<DeserializeGuard<Workspace>>,
    holds: impl Fn(&Workspace) -> bool,
) -> Vec<ObjectRef<DeserializeGuard<Workspace>>> {
    let workspaces = workspaces.state();
    let using = workspaces.iter().filter(|guarded| guarded.0.as_ref().is_ok_and(&holds));
    using.map(|guarded| ObjectRef::from_obj(guarded.as_ref())).collect()
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

/// A cache of one kind and the stream that fills it and tells of every change. Each object is changed by `trim` before it is
/// kept.
fn watched<K>(
    client: &Client,
    namespace: &str,
    config: watcher::Config,
    trim: impl Fn(&mut K) + Send + 'static,
) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send + 'static)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    // A page is in memory as a whole, with everything that is trimmed.
    let config = config.page_size(100);
    let stream = watcher(Api::<K>::namespaced(client.clone(), namespace), config)
        .backoff(backoff::of_watch(&K::kind(&())))
        .modify(move |object| {
            trim::metadata(object);
            trim(object);
        })
        .reflect(writer)
        .touched_objects();
    (store, stream.into_stream())
}

//! Workspaces become pods, volumes, Services and policies, and stay as they should be.
//!
//! `Workspace -> observe -> validate -> desired -> plan(now) -> apply -> status`, driven by [`reconcile`]. Every module but
//! `observe`, `apply`, `report` and `reconcile` is pure. Watches bring every change; nothing is polled.

mod apply;
mod drift;
mod failure;
mod memory;
mod observe;
mod plan;
mod pod_state;
mod reconcile;
mod report;
mod status;
mod validate;
mod volume;

use crate::api::Workspace;
use crate::clock::Clock;
use crate::cluster::lease::{self, Elector, LeaseError};
use crate::config::OperatorConfig;
use crate::labels;
use crate::serve::listener::ListenError;
use crate::serve::probes::{self, Page};
use crate::serve::shutdown;
use crate::telemetry::metrics::{self, OperatorMetrics};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::core::DeserializeGuard;
use kube::runtime::events::{self, Recorder};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use memory::Memory;
use observe::Caches;
use reconcile::Context;
use report::Reporter;
use serde::de::DeserializeOwned;
use snafu::{ResultExt, Snafu};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Workspaces that are worked on at once. Most of a pass is waiting for the API server.
const CONCURRENT_PASSES: u16 = 32;

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
    if config.workspace.cluster_cidrs.is_empty() {
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
        watched::<DeserializeGuard<Workspace>>(&client, namespace, watcher::Config::default());
    let managed = || watcher::Config::default().labels(labels::MANAGED_SELECTOR);
    let (service_accounts, service_account_stream) = watched(&client, namespace, managed());
    let (roles, role_stream) = watched(&client, namespace, managed());
    let (role_bindings, role_binding_stream) = watched(&client, namespace, managed());
    let (policies, policy_stream) = watched(&client, namespace, managed());
    let (services, service_stream) = watched(&client, namespace, managed());
    let (claims, claim_stream) = watched(&client, namespace, managed());
    let (pods, pod_stream) = watched(&client, namespace, managed());
    let caches = Caches {
        service_accounts,
        roles,
        role_bindings,
        policies,
        services,
        claims,
        pods,
    };

    // One waiter for the stores, many for this: two that wait for one store at once can miss its being filled.
    let (tell_filled, all_filled) = watch::channel(false);
    let reporter = events::Reporter {
        controller: "devplane-operator".to_owned(),
        instance: Some(config.pod_name),
    };
    let context = Arc::new(Context {
        client: client.clone(),
        clock,
        defaults: config.workspace,
        caches: caches.clone(),
        filled: all_filled,
        memory: Memory::default(),
        reporter: Reporter {
            recorder: Recorder::new(client, reporter),
            metrics,
        },
    });
    tokio::spawn(async move {
        if caches.filled().await.is_ok() {
            tell_filled.send_replace(true);
            ready.store(true, Ordering::Relaxed);
        }
    });
    Controller::for_stream(workspace_stream, workspaces)
        .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENT_PASSES))
        .owns_stream(service_account_stream)
        .owns_stream(role_stream)
        .owns_stream(role_binding_stream)
        .owns_stream(policy_stream)
        .owns_stream(service_stream)
        .owns_stream(claim_stream)
        .owns_stream(pod_stream)
        .run(reconcile::reconcile, reconcile::backoff, context)
        .for_each(|result| async move {
            // A failed pass was logged by `backoff`; an object that is gone needs no pass.
            if let Err(kube::runtime::controller::Error::QueueError(error)) = result {
                tracing::warn!(%error, "a watch failed and is started again");
            }
        })
        .await;
}

/// A cache of one kind and the stream that fills it and tells of every change.
fn watched<K>(
    client: &Client,
    namespace: &str,
    config: watcher::Config,
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
    let stream = watcher(Api::<K>::namespaced(client.clone(), namespace), config)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects();
    (store, stream.into_stream())
}

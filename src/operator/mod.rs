//! Workspaces become pods, volumes, Services and policies, and stay as they should be.
//!
//! `Workspace -> validate -> observe -> desired -> wanted -> plan(now) -> apply -> status`, driven by [`reconcile`]. Every module but
//! `observe`, `apply`, `report`, `reconcile`, `finalizer`, the watches, `administered`, `other_backend`, `terminal_authorities`, `namespace_end`, `canary` and `workspace_writes` is pure. Watches bring every change; nothing is polled, but for the canary.

mod administered;
mod apply;
mod backoff;
mod cache;
mod canary;
mod contain;
mod content;
mod differences;
mod drift;
mod egress;
mod ended;
mod enforcement;
mod failure;
mod finalizer;
mod known_ranges;
mod memory;
mod namespace_end;
mod observe;
mod other_backend;
mod owner;
mod plan;
mod pod_state;
mod queue;
mod range_watches;
mod reconcile;
mod report;
mod requests;
mod retain;
mod seen;
mod start;
mod state;
mod status;
mod terminal_authorities;
pub mod validate;
mod volume;
mod wanted;
mod watches;
mod workspace_writes;

use crate::api::{Phase, Workspace};
use crate::audit::{self, Component, Event};
use crate::clock::Clock;
use crate::cluster::lean::Lean;
use crate::cluster::lease::{self, Elector, LeaseError};
use crate::config::OperatorConfig;
use crate::config::operator::POD_NAME;
use crate::serve::listener::ListenError;
use crate::serve::probes::{self, Page};
use crate::serve::shutdown;
use crate::telemetry::metrics::{self, OperatorMetrics};
use administered::Administered;
use canary::Canary;
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use kube::runtime::events::{self, Recorder};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{Controller, WatchStreamExt, controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use memory::Memory;
use namespace_end::NamespaceEnd;
use other_backend::Cilium;
use queue::Queue;
use range_watches::Ranges;
use reconcile::Context;
use report::Reporter;
use snafu::{ResultExt, Snafu};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use terminal_authorities::TerminalAuthorities;
use tokio::sync::watch;

/// Workspaces that are worked on at once. Most of a pass is waiting for the API server.
const CONCURRENT_PASSES: u16 = 64;

/// The Workspaces that are there, those that can't be read among them.
type Workspaces = Store<Lean<Workspace>>;

/// Changes that come so close together are one pass: a pod that starts, or objects that were just made, tell of themselves several
/// times.
const GATHER_CHANGES_FOR: Duration = Duration::from_millis(20);

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
    audit::emit(&Event::ConfigLoaded {
        component: Component::Operator,
        config_hash: &config.digest,
        version: env!("CARGO_PKG_VERSION"),
    });
    let metrics = Arc::new(OperatorMetrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let pages = serve(&config, &metrics, &ready).await.context(BindSnafu)?;
    let stop = shutdown::signal();
    tokio::pin!(stop);

    let elector = config.leader_elect.then(|| {
        let settings = lease::Settings::new(
            &config.pod_namespace,
            "workspace-operator",
            &candidate(&config.pod_name),
        );
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

/// Two that were not told their names must not take each other's Lease for their own.
fn candidate(pod_name: &str) -> String {
    if Some(pod_name) == POD_NAME.default {
        return format!("{pod_name}-{:08x}", rand::random::<u32>());
    }
    pod_name.to_owned()
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
    let queue = Arc::new(Queue::new(metrics.queue_depth.clone()));
    let (workspaces, workspace_stream) =
        workspaces(&client, &config.namespace, Arc::clone(&queue), Administered::default());
    let cilium = Cilium::of(&client, &config).await;
    let (caches, changes) = watches::start(&client, &config, &workspaces, cilium);
    count_phases(&metrics, workspaces.clone());
    let ranges = if config.cluster_cidrs.is_empty() {
        Ranges::follow(&client, Arc::clone(&metrics))
    } else {
        metrics.cluster_ranges_known.set(1);
        Ranges::fixed(&config.cluster_cidrs)
    };
    let authorities = if config.terminal_tls {
        let (clock, metrics) = (Arc::clone(&clock), Arc::clone(&metrics));
        TerminalAuthorities::follow(&client, &config.pod_namespace, clock, metrics)
    } else {
        metrics.terminal_authorities_usable.set(1);
        TerminalAuthorities::off()
    };
    let reporter = events::Reporter {
        controller: "devplane-operator".to_owned(),
        instance: Some(config.pod_name.clone()),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let canary = match config.watching {
        None => Canary::off(),
        Some(watching) => {
            let (ranges, clock) = (ranges.clone(), Arc::clone(&clock));
            let (recorder, metrics) = (recorder.clone(), Arc::clone(&metrics));
            Canary::follow(&client, &config, watching, ranges, clock, recorder, metrics)
        }
    };
    let namespace_end = NamespaceEnd::follow(&client, &config.namespace);
    let all = workspaces.clone();
    let all_change = stream::select_all([
        ranges.changes().boxed(),
        authorities.changes().boxed(),
        canary.changes().boxed(),
        namespace_end.changes().boxed(),
    ])
    .flat_map(move |()| stream::iter(watches::all(&all)));
    // One waiter for the caches, many for this.
    let (tell_filled, all_filled) = watch::channel(false);
    let (filled, answered, made) = (caches.clone(), ranges.clone(), authorities.clone());
    tokio::spawn(async move {
        if filled.filled().await.is_ok() && answered.answered().await.is_ok() && made.answered().await.is_ok() {
            tell_filled.send_replace(true);
            ready.store(true, Ordering::Relaxed);
        }
    });
    let context = Arc::new(Context {
        client,
        clock,
        settings: config.workspace,
        caches,
        ranges,
        authorities,
        canary,
        namespace_end,
        filled: all_filled,
        memory: Memory::default(),
        queue: Arc::clone(&queue),
        reporter: Reporter { recorder, metrics },
    });
    let (changed, gone) = (queue, Arc::clone(&context));
    let changes = stream::select(changes, all_change).inspect(move |workspace| changed.add(&workspace.name));
    Controller::for_stream(workspace_stream, workspaces)
        .with_config(
            controller::Config::default()
                .concurrency(CONCURRENT_PASSES)
                .debounce(GATHER_CHANGES_FOR),
        )
        // Each watch waits by itself. A pause in common is one for each watch that fails, and holds up all the others: minutes
        // would go by before an API server that was away is noticed.
        .trigger_backoff(backoff::NoPause)
        .reconcile_on(changes)
        .run(reconcile::reconcile, reconcile::backoff, context)
        .for_each(|result| {
            match result {
                // A failed pass was logged by `backoff`.
                Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(controller::Error::ObjectNotFound(workspace)) => {
                    gone.queue.forget(&workspace.name);
                    // Where someone else took our finalizer off, no pass has forgotten it.
                    if let Some(uid) = &workspace.extra.uid {
                        gone.memory.forget(uid);
                    }
                }
                Err(controller::Error::QueueError(error)) => {
                    tracing::warn!(%error, "a watch failed and is started again");
                }
                Err(error) => tracing::warn!(%error, "the controller has trouble"),
            }
            future::ready(())
        })
        .await;
}

/// The Workspaces, and the stream that fills their cache and tells of every change.
fn workspaces(
    client: &Client,
    namespace: &str,
    queue: Arc<Queue>,
    mut administered: Administered,
) -> (
    Workspaces,
    impl Stream<Item = Result<Lean<Workspace>, watcher::Error>> + Send + 'static,
) {
    let (store, writer) = reflector::store();
    let api: Api<Lean<Workspace>> = Api::namespaced(client.clone(), namespace);
    let stream = watcher(api, watcher::Config::default().page_size(cache::PAGE))
        .backoff(backoff::of_watch(&Workspace::kind(&())))
        .inspect_ok(move |event| administered.watch(event))
        .modify(seen::workspace)
        .reflect(writer)
        .touched_objects()
        .inspect_ok(move |workspace| queue.add(&workspace.name_any()));
    (store, stream)
}

/// Workspaces by phase, counted whenever the metrics are asked for.
fn count_phases(metrics: &OperatorMetrics, workspaces: Workspaces) {
    metrics.set_phases(move || {
        let mut counts = [0; PHASES.len()];
        for lean in workspaces.state() {
            let workspace = lean.object.as_ref().ok();
            let phase = workspace.and_then(|workspace| workspace.status.as_ref()?.phase);
            counts[PHASES.iter().position(|known| *known == phase).unwrap_or_default()] += 1;
        }
        let names = PHASES.map(|phase| phase.map_or("None", Phase::as_str));
        names.into_iter().zip(counts).collect()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_without_names_are_two_candidates() {
        assert_eq!(candidate("operator-7d9"), "operator-7d9");
        let unnamed = POD_NAME.default.unwrap();
        assert_ne!(candidate(unnamed), candidate(unnamed));
    }
}

//! The driver: one Workspace goes through observe, validate, desired, plan, apply and status.

use super::apply::{Applied, FIELD_MANAGER, apply};
use super::failure::{Meaning, meaning};
use super::memory::Memory;
use super::observe::Caches;
use super::plan::{Plan, Requests, State, plan};
use super::report::Reporter;
use super::status::{self, Names};
use super::validate::validate;
use super::volume::{Refusal, Size};
use crate::api::{Phase, Reason, Workspace, WorkspaceStatus};
use crate::clock::{Clock, until};
use crate::config::operator::WorkspaceDefaults;
use crate::labels;
use crate::names::PodName;
use crate::render::desired;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use snafu::{ResultExt, Snafu};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;

/// Everything that a pass needs.
pub struct Context {
    pub client: Client,
    pub clock: Arc<dyn Clock>,
    pub defaults: WorkspaceDefaults,
    pub caches: Caches,
    /// True once every cache has had its first list: an unfilled one would look like missing objects.
    pub filled: watch::Receiver<bool>,
    pub memory: Memory,
    pub reporter: Reporter,
}

/// Why a pass did not get to its end. What went wrong with the user's objects is in the status instead.
#[derive(Debug, Snafu)]
pub enum ReconcileError {
    #[snafu(display("the watches have ended: {source}"))]
    Watches { source: RecvError },
    #[snafu(display("can't write the finalizers of Workspace {name}: {source}"))]
    Finalizer { name: String, source: kube::Error },
    #[snafu(display("can't write the status of Workspace {name}: {source}"))]
    Status { name: String, source: kube::Error },
    #[snafu(display("the API server has not answered for Workspace {name}"))]
    NoAnswer { name: String },
    #[snafu(display("Workspace {name} is {reason}: {message}"))]
    Apply {
        name: String,
        reason: Reason,
        message: String,
    },
}

/// A pass that takes longer has lost an answer; the next one sees what came of it.
const LONGEST_PASS: Duration = Duration::from_secs(20);

/// One pass over one Workspace.
///
/// # Errors
/// When it has to be tried again; [`backoff`] says when.
pub async fn reconcile(guarded: Arc<DeserializeGuard<Workspace>>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let mut filled = ctx.filled.clone();
    filled.wait_for(|filled| *filled).await.context(WatchesSnafu)?;
    match tokio::time::timeout(LONGEST_PASS, reconcile_one(&guarded, &ctx)).await {
        Ok(result) => result,
        Err(_) => NoAnswerSnafu {
            name: guarded.name_any(),
        }
        .fail(),
    }
}

async fn reconcile_one(guarded: &DeserializeGuard<Workspace>, ctx: &Context) -> Result<Action, ReconcileError> {
    let workspace = match &guarded.0 {
        Ok(workspace) => workspace,
        Err(invalid) => {
            tracing::warn!(workspace = invalid.metadata.name, error = %invalid, "a Workspace can't be read and is left alone");
            return Ok(Action::await_change());
        }
    };
    let uid = workspace.uid().unwrap_or_default();
    if ctx
        .memory
        .is_stale(&uid, workspace.metadata.resource_version.as_deref())
    {
        return Ok(Action::await_change());
    }
    if workspace.metadata.deletion_timestamp.is_some() {
        ctx.memory.forget(&uid);
        return set_finalizer(workspace, ctx, false).await;
    }
    if !workspace
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == labels::FINALIZER)
    {
        return set_finalizer(workspace, ctx, true).await;
    }
    let now = ctx.clock.now();
    let pass = pass(workspace, ctx, now).await;
    write_status(workspace, &pass, ctx, now).await?;
    match pass.failure {
        Some(Meaning::Failure { reason, message }) => ApplySnafu {
            name: workspace.name_any(),
            reason,
            message,
        }
        .fail(),
        // The watch will bring what was missing; this is for the case that it has done so already.
        Some(Meaning::Stale) => Ok(Action::requeue(Duration::from_secs(1))),
        None => {
            ctx.memory.succeeded(&uid);
            Ok(pass
                .look_again_at
                .map_or_else(Action::await_change, |at| Action::requeue(until(at, now))))
        }
    }
}

/// What one pass found and did.
struct Pass {
    state: State,
    names: Names,
    look_again_at: Option<Timestamp>,
    failure: Option<Meaning>,
}

async fn pass(workspace: &Workspace, ctx: &Context, now: Timestamp) -> Pass {
    let last = workspace.status.clone().unwrap_or_default();
    let valid = match validate(workspace, &ctx.defaults) {
        Ok(valid) => valid,
        Err(invalid) => return Pass::invalid(&last, invalid.to_string()),
    };
    let desired = desired(&valid);
    let observed = ctx.caches.observe(&valid);
    let Plan {
        steps,
        mut state,
        look_again_at,
    } = plan(
        &valid,
        &desired,
        &observed,
        &last,
        requests(workspace),
        ctx.memory.growth_refused(&valid.uid).as_ref(),
        now,
    );
    let applied = apply(&ctx.client, &valid.namespace, &desired, &observed, &steps).await;
    let failure = match applied {
        Ok(Applied { growth_refused: None }) => None,
        Ok(Applied {
            growth_refused: Some(message),
        }) => {
            state.volume_size = Size::Refused {
                message: message.clone(),
            };
            ctx.memory.refuse_growth(&valid.uid, Refusal { at: now, message });
            None
        }
        Err(error) => {
            // Not done yet: the next pass sees the request again.
            state.restarted_at = last.restarted_at.as_ref().map(|done| done.0);
            Some(meaning(error.step, &error.source))
        }
    };
    if let Some(Meaning::Failure { reason, message }) = &failure {
        state = State {
            phase: Phase::Failed,
            reason: *reason,
            message: message.clone(),
            ..state
        };
    }
    let has_pod = state.phase != Phase::Stopped && (state.has_pod || failure.is_none());
    let pod = if has_pod {
        PodName::of(&valid.user).to_string()
    } else {
        String::new()
    };
    Pass {
        state,
        names: Names {
            pod,
            endpoint: desired.endpoint,
        },
        look_again_at,
        failure,
    }
}

impl Pass {
    /// A spec that can't be built: what is there already is left as it is.
    fn invalid(last: &WorkspaceStatus, message: String) -> Self {
        Self {
            state: State {
                phase: Phase::Failed,
                reason: Reason::ValidationFailed,
                message,
                volume_bound: false,
                pod_scheduled: false,
                container_started: false,
                has_pod: false,
                stopped_at: last.stopped_at.as_ref().map(|at| at.0),
                stops_at: None,
                restarted_at: last.restarted_at.as_ref().map(|at| at.0),
                volume_size: Size::Unbound,
                outdated: vec![],
            },
            names: Names {
                pod: last.pod_name.clone(),
                endpoint: last.service_endpoint.clone(),
            },
            look_again_at: None,
            failure: None,
        }
    }
}

fn requests(workspace: &Workspace) -> Requests {
    let at = |key: &str| -> Option<Timestamp> {
        let text = workspace.annotations().get(key)?;
        let time = text.parse();
        if time.is_err() {
            tracing::warn!(
                workspace = workspace.name_any(),
                annotation = key,
                value = text,
                "the annotation is no RFC 3339 time such as 2026-01-31T12:00:00Z and is passed over"
            );
        }
        time.ok()
    };
    let restart_requested_at = at(labels::RESTART_REQUESTED_AT);
    Requests {
        wake_requested_at: at(labels::WAKE_REQUESTED_AT).max(restart_requested_at),
        restart_requested_at,
    }
}

async fn write_status(workspace: &Workspace, pass: &Pass, ctx: &Context, now: Timestamp) -> Result<(), ReconcileError> {
    let name = workspace.name_any();
    let new = status::status(workspace, &pass.state, pass.names.clone(), now);
    let Some(patch) = status::patch(workspace.status.as_ref(), &new) else {
        return Ok(());
    };
    match api(workspace, ctx)
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(written) => {
            ctx.memory.wrote(
                &workspace.uid().unwrap_or_default(),
                written.metadata.resource_version.as_deref(),
            );
            ctx.reporter.status_written(workspace, &new, pass.state.reason).await;
            Ok(())
        }
        // Deleted meanwhile: there is nothing to tell.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => {
            ctx.reporter.status_write_failed();
            Err(source).context(StatusSnafu { name })
        }
    }
}

/// Puts our finalizer on, or takes it off. The version in the patch keeps another one's finalizer from being lost.
async fn set_finalizer(workspace: &Workspace, ctx: &Context, wanted: bool) -> Result<Action, ReconcileError> {
    let mut finalizers: Vec<&str> = workspace.finalizers().iter().map(String::as_str).collect();
    let before = finalizers.len();
    finalizers.retain(|finalizer| *finalizer != labels::FINALIZER);
    if wanted {
        finalizers.push(labels::FINALIZER);
    }
    if finalizers.len() == before {
        return Ok(Action::await_change());
    }
    let name = workspace.name_any();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": workspace.metadata.resource_version}});
    match api(workspace, ctx)
        .patch(
            &name,
            &PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            },
            &Patch::Merge(patch),
        )
        .await
    {
        Ok(_) => Ok(Action::await_change()),
        // Gone or changed meanwhile: the watch brings the newer one.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Action::await_change()),
        Err(source) => Err(source).context(FinalizerSnafu { name }),
    }
}

fn api(workspace: &Workspace, ctx: &Context) -> Api<Workspace> {
    Api::namespaced(ctx.client.clone(), &workspace.namespace().unwrap_or_default())
}

/// When to try again after an error.
pub fn backoff(guarded: Arc<DeserializeGuard<Workspace>>, error: &ReconcileError, ctx: Arc<Context>) -> Action {
    let uid = guarded.uid().unwrap_or_default();
    let delay = ctx.memory.failed(&uid);
    tracing::warn!(workspace = guarded.name_any(), %error, retry_in_ms = delay.as_millis() as u64, "a pass failed");
    Action::requeue(delay)
}

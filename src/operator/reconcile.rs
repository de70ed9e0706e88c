//! The driver: one Workspace goes through validate, observe, desired, wanted, plan, apply and status.

use super::apply::{Applied, Voucher, WriteError, apply, creates};
use super::canary::Canary;
use super::contain::own_pod;
use super::enforcement::{Enforcement, Gate};
use super::failure::{Meaning, error_text, meaning};
use super::finalizer::{keep_volume, set_finalizer};
use super::memory::{Memory, WantedOf};
use super::namespace_end::NamespaceEnd;
use super::observe::Caches;
use super::plan::{Plan, Step, earlier, plan};
use super::queue::Queue;
use super::range_watches::Ranges;
use super::report::Reporter;
use super::requests::{self, Asked};
use super::start;
use super::state::State;
use super::status::{self, Names};
use super::terminal_authorities::{TerminalAuthorities, Vouching};
use super::validate::validate;
use super::volume::{Refusal, Size};
use super::wanted::Wanted;
use super::workspace_writes;
use crate::api::{Phase, Reason, Workspace, WorkspaceStatus};
use crate::clock::{Clock, until};
use crate::cluster::lean::Lean;
use crate::config::operator::WorkspaceSettings;
use crate::labels;
use crate::names::PodName;
use crate::render::{desired, endpoint};
use crate::telemetry::metrics::{ReconcileStage, TimedStage};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;
use kube::{Client, Resource, ResourceExt};
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
    pub settings: WorkspaceSettings,
    pub caches: Caches,
    pub ranges: Ranges,
    pub authorities: TerminalAuthorities,
    pub canary: Canary,
    pub namespace_end: NamespaceEnd,
    /// True once every cache has had its first list: an unfilled one would look like missing objects.
    pub filled: watch::Receiver<bool>,
    pub memory: Memory,
    pub queue: Arc<Queue>,
    pub reporter: Reporter,
}

/// Why a pass did not get to its end. What went wrong with the user's objects is in the status instead.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum ReconcileError {
    #[snafu(display("the watches have ended: {source}"))]
    Watches { source: RecvError },
    #[snafu(display("can't write the finalizers of Workspace {name}: {}", error_text(source)))]
    Finalizer { name: String, source: kube::Error },
    #[snafu(display("can't keep the volume of Workspace {name}: {source}"))]
    Release { name: String, source: WriteError },
    #[snafu(display("can't write the status of Workspace {name}: {}", error_text(source)))]
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

/// Between two passes that nothing but the time has brought about.
const SOONEST_AGAIN: Duration = Duration::from_secs(1);

/// Leaves time to tell of it: a webhook may keep the API server waiting for longer (Kubernetes: up to 30 s).
const LONGEST_APPLY: Duration = Duration::from_secs(15);

/// Between two looks at whether progress may be told.
const LONGEST_SILENCE: SignedDuration = SignedDuration::from_secs(30);

/// One pass over one Workspace.
///
/// # Errors
/// When it has to be tried again; [`backoff`] says when.
pub async fn reconcile(lean: Arc<Lean<Workspace>>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let mut filled = ctx.filled.clone();
    filled.wait_for(|filled| *filled).await.context(WatchesSnafu)?;
    // Before the pass: what comes meanwhile needs another one.
    let _taken = ctx.queue.take(&lean.name_any());
    match tokio::time::timeout(LONGEST_PASS, reconcile_one(&lean, &ctx)).await {
        Ok(result) => result,
        Err(_) => NoAnswerSnafu { name: lean.name_any() }.fail(),
    }
}

impl ReconcileError {
    /// Where the pass did not get on.
    fn stage(&self) -> ReconcileStage {
        match self {
            Self::Watches { .. } => ReconcileStage::Watch,
            Self::Finalizer { .. } | Self::Release { .. } => ReconcileStage::Finalizer,
            Self::Status { .. } => ReconcileStage::Status,
            Self::NoAnswer { .. } => ReconcileStage::Timeout,
            Self::Apply { .. } => ReconcileStage::Apply,
        }
    }
}

async fn reconcile_one(lean: &Lean<Workspace>, ctx: &Context) -> Result<Action, ReconcileError> {
    let uid = lean.uid().unwrap_or_default();
    let now = ctx.clock.now();
    if let Some(until) = ctx
        .memory
        .stale_until(&uid, lean.meta().resource_version.as_deref(), now)
    {
        return Ok(again(until, now));
    }
    if ctx.namespace_end.is_there() {
        // The volumes go with it, whatever was asked for.
        set_finalizer(ctx, lean, false).await?;
        ctx.memory.forget(&uid);
        return Ok(Action::await_change());
    }
    if lean.meta().deletion_timestamp.is_some() {
        let _timed = ctx.reporter.metrics.time(TimedStage::Finalizer);
        keep_volume(lean, ctx).await?;
        set_finalizer(ctx, lean, false).await?;
        ctx.memory.forget(&uid);
        return Ok(Action::await_change());
    }
    let marked;
    let has_finalizer = lean.finalizers().iter().any(|it| it == labels::FINALIZER);
    let lean = if has_finalizer || lean.object.is_err() {
        lean
    } else {
        let timed = ctx.reporter.metrics.time(TimedStage::Finalizer);
        let written = set_finalizer(ctx, lean, true).await?;
        drop(timed);
        match written {
            None => return Ok(Action::await_change()),
            Some(written) => {
                ctx.memory.wrote(&uid, written.meta().resource_version.as_deref(), now);
                marked = written;
                &marked
            }
        }
    };
    let workspace = match &lean.object {
        Ok(workspace) => workspace,
        Err(unreadable) => {
            tracing::warn!(
                workspace = unreadable.metadata.name,
                error = unreadable.error,
                "a Workspace can't be read and is left alone until it is deleted"
            );
            return Ok(Action::await_change());
        }
    };
    let version = workspace.metadata.resource_version.as_deref();
    if let Some(at) = ctx.memory.is_echo(&uid, version).filter(|at| *at > now) {
        return Ok(again(at, now));
    }
    let pass = match pass(workspace, ctx, now).await {
        Ok(pass) => pass,
        Err(Lag { until: at }) => return Ok(again(at, now)),
    };
    if pass.failure == Some(Meaning::NamespaceEnds) {
        // Another pass follows, over every Workspace.
        ctx.namespace_end.tell();
        return Ok(Action::await_change());
    }
    let tell_at = write_status(workspace, &pass, ctx, now).await?;
    match pass.failure {
        Some(Meaning::Failure { reason, message }) => ApplySnafu {
            name: workspace.name_any(),
            reason,
            message,
        }
        .fail(),
        // The watch will bring what was missing; this is for the case that it has done so already, and later and later when it has not.
        Some(Meaning::Stale | Meaning::NamespaceEnds) => Ok(again(ctx.memory.failed(&uid, now), now)),
        None => {
            ctx.memory.succeeded(&uid);
            let look_again_at = pass.look_again_at.into_iter().chain(tell_at).min();
            Ok(look_again_at.map_or_else(Action::await_change, |at| again(at, now)))
        }
    }
}

/// Another pass at that time, and never at once: a time that is past would have one pass follow the other without pause.
fn again(at: Timestamp, now: Timestamp) -> Action {
    Action::requeue(until(at, now).max(SOONEST_AGAIN))
}

/// What one pass found and did.
struct Pass {
    state: State,
    names: Names,
    /// When what the user waits for began.
    began_at: Option<Timestamp>,
    pod_made_at: Option<Timestamp>,
    look_again_at: Option<Timestamp>,
    failure: Option<Meaning>,
}

/// The caches do not show yet what the last pass has created or deleted. The watch that does so brings the next pass; after this time
/// it comes anyway.
struct Lag {
    until: Timestamp,
}

async fn pass(workspace: &Workspace, ctx: &Context, now: Timestamp) -> Result<Pass, Lag> {
    let planning = ctx.reporter.metrics.time(TimedStage::Plan);
    let last = requests::believed(workspace.status.clone().unwrap_or_default(), now);
    let Asked {
        requests,
        passed_over,
        look_again_at: asked_again_at,
    } = Asked::of(workspace, now);
    let (mut valid, invalid) = match validate(workspace, &ctx.settings) {
        Ok(valid) => (valid, None),
        Err(invalid) => {
            let message = invalid.to_string();
            match invalid.rest {
                Some(rest) => (*rest, Some(message)),
                None => return Ok(Pass::invalid(&last, ctx.canary.now().0, message)),
            }
        }
    };
    let ranges = ctx.ranges.now();
    valid.egress.cluster_cidrs = Arc::clone(&ranges.all);
    let mut observed = ctx.caches.observe(&valid, &last);
    (observed.enforcement, observed.gate) = ctx.canary.now();
    if let Some(pod) = observed.pod.as_deref() {
        if let Some(until) = ctx.memory.deletion_lag(&valid.uid, pod, now) {
            return Err(Lag { until });
        }
        if let (Some(node), Some(address)) = (&pod.node, &pod.address) {
            ctx.ranges.seen(node, address);
        }
    }
    let vouching = ctx.authorities.now();
    let authorities = vouching.authorities();
    let authority_of_pod = own_pod(&valid, &observed).and_then(|pod| pod.template.authority.clone());
    let authority_of_pod = authority_of_pod.as_deref();
    valid.terminal_authority = match authorities {
        Some(all) => Some(all.wanted(authority_of_pod, now).to_owned()),
        None if matches!(vouching, Vouching::Off) => None,
        None => {
            observed.gate = Gate::Uncertified;
            // Nothing is known that a pod should be of instead.
            authority_of_pod.map(str::to_owned)
        }
    };
    let of = WantedOf {
        generation: workspace.metadata.generation,
        ca_digest: observed.ca_digest.clone(),
        authority: valid.terminal_authority.clone(),
        ranges: ranges.revision,
    };
    let desired = || Wanted::of(&desired(&valid, observed.ca_digest.as_deref()));
    let wanted = ctx.memory.wanted(&valid.uid, of, desired);
    let Plan {
        steps,
        mut state,
        stop,
        look_again_at,
    } = plan(
        &valid,
        &wanted,
        &observed,
        &last,
        requests,
        ctx.memory.growth_refused(&valid.uid).as_ref(),
        invalid.as_deref(),
        now,
    );
    state.passed_over = passed_over;
    state.egress_refused = ranges.unknown.clone().filter(|_| valid.egress.wants_outside());
    drop(planning);
    let creations: Vec<Step> = steps.iter().copied().filter(|step| creates(*step, &observed)).collect();
    if let Some(until) = ctx.memory.creation_lag(&valid.uid, &creations, now) {
        return Err(Lag { until });
    }
    let applied = if steps.is_empty() {
        Ok(Ok(Applied::default()))
    } else {
        let _timed = ctx.reporter.metrics.time(TimedStage::Apply);
        let voucher = authorities.map(|authorities| Voucher { authorities, now });
        let apply = apply(&ctx.client, &valid, &observed, voucher, &steps);
        tokio::time::timeout(LONGEST_APPLY, apply).await
    };
    // Of one that was cut off nobody knows how far it came: the caches will tell.
    let failed = match &applied {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.step),
        Err(_) => steps.first().copied(),
    };
    let applied = match applied {
        Ok(applied) => applied.map_err(|error| meaning(error.step, &error.source)),
        Err(_) => Err(Meaning::no_answer(LONGEST_APPLY)),
    };
    let done = steps.iter().copied().take_while(|step| Some(*step) != failed);
    for step in done.clone() {
        ctx.reporter.written(workspace, step, &valid.user, &wanted, &observed);
    }
    if let Some(pod) = observed.pod.as_deref()
        && done.clone().any(|step| step == Step::DeletePod)
    {
        ctx.memory.deleted_pod(&valid.uid, pod, ctx.clock.now());
        if let Some(reason) = stop {
            ctx.reporter.pod_deleted(reason);
        }
    }
    let created = done.filter(|step| creates(*step, &observed));
    ctx.memory.created(&valid.uid, created, ctx.clock.now());
    let failure = match applied {
        Ok(Applied { growth_refused: None }) => None,
        Ok(Applied {
            growth_refused: Some(message),
        }) => {
            state.volume_size = Size::Refused {
                message: message.clone(),
            };
            let size = valid.storage.clone();
            ctx.memory.refuse_growth(&valid.uid, Refusal { at: now, size, message });
            None
        }
        Err(meaning) => {
            // Not done yet: the next pass sees the request again.
            state.restarted_at = last.restarted_at.as_ref().map(|done| done.0);
            Some(meaning)
        }
    };
    if let Some(Meaning::Failure { reason, message }) = &failure {
        state = state.after_failure(*reason, message.clone());
    }
    let is_made = failure.is_none() && steps.contains(&Step::CreatePod);
    let has_pod = state.phase != Phase::Stopped && (state.has_pod || is_made);
    let pod = if has_pod {
        PodName::of(&valid.user).to_string()
    } else {
        String::new()
    };
    // One that is being stopped is not to be connected to any more: another pod may have its address next. The reason is there before
    // the pod is deleted, and until the next one runs.
    let is_stopping = stop.is_some() || state.stop_reason.is_some() || state.phase == Phase::Stopped;
    let own = own_pod(&valid, &observed);
    let connected = own.filter(|_| !is_stopping);
    let pod_ip = connected.and_then(|pod| pod.address.as_deref());
    let container = connected.and_then(|pod| pod.container.as_deref());
    Ok(Pass {
        state,
        names: Names {
            pod,
            pod_ip: pod_ip.unwrap_or_default().to_owned(),
            container_id: container.unwrap_or_default().to_owned(),
            endpoint: endpoint(&valid),
            terminal_authority: authority_of_pod.unwrap_or_default().to_owned(),
        },
        began_at: own.and_then(|pod| start::began(workspace, requests, pod)),
        pod_made_at: own.and_then(|pod| pod.created_at),
        look_again_at: earlier(look_again_at, asked_again_at),
        failure,
    })
}

impl Pass {
    /// A spec that does not even say whose it is, so that nothing was ever made of it.
    fn invalid(last: &WorkspaceStatus, enforcement: Enforcement, message: String) -> Self {
        Self {
            state: State {
                phase: Phase::Failed,
                reason: Reason::ValidationFailed,
                message,
                volume_bound: false,
                pod_scheduled: false,
                image_pulled: false,
                container_started: false,
                has_pod: false,
                stopped_at: last.stopped_at.as_ref().map(|at| at.0),
                stop_reason: last.stop_reason,
                stops_at: None,
                restarted_at: last.restarted_at.as_ref().map(|at| at.0),
                pod_failures: last.pod_failures,
                volume_size: Size::Unbound,
                outdated: vec![],
                limited: vec![],
                egress_refused: None,
                not_applied: None,
                passed_over: None,
                enforcement,
                sessions: last.sessions.clone(),
                last_connected: last.last_connected.as_ref().map(|at| at.0),
            },
            names: Names {
                pod: last.pod_name.clone(),
                pod_ip: String::new(),
                container_id: String::new(),
                endpoint: last.service_endpoint.clone(),
                terminal_authority: last.terminal_authority.clone(),
            },
            began_at: None,
            pod_made_at: None,
            look_again_at: None,
            failure: None,
        }
    }
}

/// Gives the time at which it is to be written if not now.
async fn write_status(
    workspace: &Workspace,
    pass: &Pass,
    ctx: &Context,
    now: Timestamp,
) -> Result<Option<Timestamp>, ReconcileError> {
    let name = workspace.name_any();
    let uid = workspace.uid().unwrap_or_default();
    let new = status::status(workspace, &pass.state, pass.names.clone(), now);
    let on_its_way_since = ctx.memory.starts(&uid, new.phase == Some(Phase::Creating), now);
    let Some(mut patch) = status::patch(workspace.status.as_ref(), &new) else {
        return Ok(None);
    };
    if status::tells_of_a_start_alone(workspace.status.as_ref(), &new, &patch) {
        let last = pass
            .pod_made_at
            .or(on_its_way_since)
            .unwrap_or(now)
            .max(ctx.memory.told_at(&uid).unwrap_or_default());
        let busy = ctx.memory.starting() + ctx.queue.waiting();
        let tell_at = last + status::progress_after(busy);
        if now < tell_at {
            // Those that are waited for now may be done much sooner.
            return Ok(Some(tell_at.min(now + LONGEST_SILENCE)));
        }
    }
    let status = &patch["status"];
    let decides = ["stoppedAt", "stopReason"].iter().any(|field| !status[field].is_null());
    if decides || status.get("sessions").is_some() {
        // A gateway may be telling of a new terminal, or of its user's input: what this was made from must still be what is there.
        patch["metadata"] = json!({"resourceVersion": workspace.metadata.resource_version});
    }
    let writing = ctx.reporter.metrics.time(TimedStage::Status);
    let written = workspace_writes::patch_status(&ctx.client, workspace, patch).await;
    drop(writing);
    match written {
        Ok(version) => {
            ctx.memory.wrote(&uid, version.as_deref(), now);
            ctx.memory.told(&uid, now);
            if let Some(started) = started(workspace, pass) {
                ctx.reporter.started(until(now, started));
            }
            ctx.reporter.status_written(workspace, &new, pass.state.reason).await;
            Ok(None)
        }
        // Deleted meanwhile, so that there is nothing to tell; or changed, and the watch brings another pass.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(source) => {
            ctx.reporter.status_write_failed();
            Err(source).context(StatusSnafu { name })
        }
    }
}

/// When the wait began, if the terminal takes connections for the first time since.
fn started(workspace: &Workspace, pass: &Pass) -> Option<Timestamp> {
    let before = workspace.status.as_ref().and_then(|status| status.phase);
    let starts = pass.state.phase == Phase::Running && before != Some(Phase::Running);
    pass.began_at.filter(|_| starts)
}

/// When to try again after an error.
pub fn backoff(lean: Arc<Lean<Workspace>>, error: &ReconcileError, ctx: Arc<Context>) -> Action {
    let uid = lean.uid().unwrap_or_default();
    ctx.reporter.pass_failed(error.stage());
    let now = ctx.clock.now();
    let delay = until(ctx.memory.failed(&uid, now), now);
    tracing::warn!(workspace = lean.name_any(), %error, retry_in_ms = delay.as_millis() as u64, "a pass failed");
    Action::requeue(delay)
}

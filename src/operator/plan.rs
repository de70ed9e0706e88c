//! Wanted, observed, the last status and the time become steps to take and the state to report. Pure.
//!
//! Pods are immutable, so what is desired does not decide alone: idle stop, waking, a new image and recovery are
//! decisions made here. A decision to stop is written to the status first; the pod goes in the next pass, which sees the
//! decision. So an operator that dies in between, or a cache that lags, can't start again what was stopped, and whoever is
//! in the terminal is told why before it goes.

use super::contain::{contain, let_go_of_claim, own_pod};
use super::differences::{confining, missing_or_different};
use super::drift;
use super::ended::{Ended, ended};
use super::enforcement::Gate;
use super::observe::{Observed, OfOthers};
use super::pod_state::PodState;
use super::requests::Requests;
use super::seen::{ClaimPhase, SeenPod};
use super::state::{State, failed, stopped};
use super::volume::{self, Refusal, Size, SizePlan};
use super::wanted::Wanted;
use crate::api::status::StopReason;
use crate::api::workspace::{KeepAlive, UpdatePolicy};
use crate::api::{Phase, Reason, WorkspaceStatus};
use crate::render::ValidWorkspace;
use jiff::{SignedDuration, Timestamp};

/// Watches do not tell of objects that are not ours, so a conflict of names is looked at again after this long. It costs no request.
const LOOK_AT_CONFLICT_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// How long after the end of its grace period a pod may still be there.
const LOST_WHEN_OVERDUE_FOR: SignedDuration = SignedDuration::from_mins(1);

/// One write to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    ApplyPolicy(usize),
    ApplyCiliumPolicy,
    /// What another backend has left, and would go on to allow.
    DeleteCiliumPolicy,
    ApplyServiceAccount,
    ApplyRole,
    ApplyRoleBinding,
    ApplyService,
    CreateVolumeClaim,
    /// The claim gets or loses its owner.
    SetVolumeClaimOwner,
    /// The claim asks for the size that is desired now. A refusal is told, and stops nothing.
    GrowVolumeClaim,
    /// The terminal of the pod that is about to be made gets a certificate.
    IssueCertificate,
    CreatePod,
    DeletePod,
}

/// What to do, what to report, and when to look again without being told.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub state: State,
    /// Why the pod is deleted, when it is.
    pub stop: Option<StopReason>,
    pub look_again_at: Option<Timestamp>,
}

/// `invalid` is what is wrong with the spec; `workspace` is then what could be made of the rest of it.
#[expect(clippy::too_many_arguments, reason = "all that decides, and nothing else")]
pub fn plan(
    workspace: &ValidWorkspace,
    wanted: &Wanted,
    observed: &Observed,
    last: &WorkspaceStatus,
    requests: Requests,
    refusal: Option<&Refusal>,
    invalid: Option<&str>,
    now: Timestamp,
) -> Plan {
    let own = own_pod(workspace, observed);
    let container_runs = own.is_some_and(|pod| pod.started);
    let claim = observed.pvc.as_deref();
    let SizePlan {
        size,
        grow,
        look_again_at: size_again_at,
    } = volume::plan(workspace, claim, container_runs, refusal, now);
    let restart = requests
        .restart_requested_at
        .filter(|requested| last.restarted_at.as_ref().is_none_or(|done| *requested > done.0));
    let state = State {
        phase: Phase::Creating,
        reason: Reason::Progressing,
        message: String::new(),
        volume_bound: claim.is_some_and(|claim| volume::is_bound(claim, container_runs)),
        pod_scheduled: own.is_some_and(|pod| pod.scheduled),
        image_pulled: own.is_some_and(|pod| pod.image_pulled),
        container_started: container_runs,
        has_pod: own.is_some(),
        stopped_at: stopped_at(workspace, last, requests, now),
        stop_reason: last.stop_reason,
        stops_at: None,
        restarted_at: restart.or(last.restarted_at.as_ref().map(|done| done.0)),
        pod_failures: last.pod_failures,
        volume_size: size,
        outdated: vec![],
        limited: workspace.limited.clone(),
        egress_refused: None,
        not_applied: None,
        passed_over: None,
        enforcement: observed.enforcement.clone(),
        sessions: observed.sessions.clone(),
        last_connected: last_connected(observed, last, now),
    };
    let plan = |steps, state, look_again_at| Plan {
        steps,
        state,
        stop: None,
        look_again_at,
    };
    let contained = |steps, state: State, look_again_at| {
        // What was asked for is not done yet.
        let restarted_at = last.restarted_at.as_ref().map(|done| done.0);
        let state = State { restarted_at, ..state };
        contain(
            workspace,
            observed,
            last,
            requests,
            now,
            plan(steps, state, look_again_at),
        )
    };
    if let Some(message) = invalid {
        let state = State {
            volume_size: Size::Unbound,
            limited: vec![],
            ..failed(state, Reason::ValidationFailed, message.to_owned())
        };
        return contained(confining(workspace, wanted, observed), state, None);
    }
    let OfOthers { foreign, left } = observed.of_others(workspace);
    if !foreign.is_empty() {
        let message = format!("{} of this name does not belong to this Workspace", foreign.join(", "));
        let state = failed(state, Reason::NameConflict, message);
        let steps = confining(workspace, wanted, observed);
        return contained(steps, state, Some(now + LOOK_AT_CONFLICT_AFTER));
    }
    if !left.is_empty() {
        let (mut state, look_again_at) = await_earlier(observed, state, &left, now);
        if state.stopped_at.is_some() {
            state.stop_reason = Some(reason_to_be_stopped(workspace, last));
            state = stopped(workspace, last, state);
        }
        return contained(confining(workspace, wanted, observed), state, look_again_at);
    }
    if observed.policies_unreadable {
        let message = "CiliumNetworkPolicies can't be read, and NETWORK_POLICY_BACKEND is cilium: the cluster does not know the kind (cilium.io/v2), or the operator may not list it";
        let state = failed(state, Reason::NetworkPolicyReconcileFailed, message.to_owned());
        return contained(confining(workspace, wanted, observed), state, None);
    }
    let mut steps = missing_or_different(workspace, wanted, observed);
    if claim.is_some_and(|claim| claim.phase == ClaimPhase::Lost) {
        let message = "the volume behind the claim is gone".to_owned();
        let mut plan = contained(steps, failed(state, Reason::PVCLost, message), None);
        if claim.is_some_and(|claim| claim.is_being_deleted) && plan.state.stopped_at.is_none() {
            plan = let_go_of_claim(own, last, plan);
        }
        return plan;
    }
    if grow {
        steps.push(Step::GrowVolumeClaim);
    }
    let mut plan = plan(steps, state, size_again_at);
    if plan.state.stopped_at.is_some() {
        plan.state.stop_reason = Some(reason_to_be_stopped(workspace, last));
    }
    match observed.pod.as_deref() {
        None if plan.state.stopped_at.is_some() => stopped_without_pod(workspace, last, plan),
        None => start(workspace, observed, restart.is_some(), plan),
        Some(pod) if plan.state.stopped_at.is_some() => stop(workspace, pod, last, plan),
        Some(pod) => {
            let since = Since {
                active: last_activity(pod, last, requests, now),
                now,
                gate: observed.gate,
            };
            plan.state.outdated = drift::changed(&pod.template, &wanted.template);
            keep(workspace, pod, last, restart.is_some(), since, plan)
        }
    }
}

/// An earlier Workspace of this name has left objects, which Kubernetes deletes. The watches tell when they are gone.
fn await_earlier(observed: &Observed, mut state: State, left: &[String], now: Timestamp) -> (State, Option<Timestamp>) {
    let Some(PodState::Ending { due, node }) = observed.pod.as_deref().map(|pod| &pod.state) else {
        let left = left.join(", ");
        state.message = format!("Waiting for what an earlier Workspace of this name has left to be deleted: {left}");
        return (state, None);
    };
    let (state, look_again_at) = await_end(state, "the pod of an earlier Workspace of this name", *due, node, now);
    (state, Some(look_again_at).filter(|at| *at > now))
}

/// A pod of our name is being deleted. Gives the time from which it has taken too long.
fn await_end(mut state: State, what: &str, due: Timestamp, node: &str, now: Timestamp) -> (State, Timestamp) {
    let lost_at = due + LOST_WHEN_OVERDUE_FOR;
    if now < lost_at {
        state.message = format!("Waiting for {what} to end");
        return (state, lost_at);
    }
    let message = format!("{what} should have ended at {due}, and its node {node} has not said so");
    (failed(state, Reason::PodUnknown, message), lost_at)
}

/// It is stopped, and nothing runs.
fn stopped_without_pod(workspace: &ValidWorkspace, last: &WorkspaceStatus, mut plan: Plan) -> Plan {
    plan.state = stopped(workspace, last, plan.state);
    plan
}

/// It is stopped, and the pod has to go, once the status has told why.
pub(super) fn stop(workspace: &ValidWorkspace, pod: &SeenPod, last: &WorkspaceStatus, plan: Plan) -> Plan {
    let mut plan = stopped_without_pod(workspace, last, plan);
    let is_told = last.stopped_at.is_some() && last.stop_reason == plan.state.stop_reason;
    let ends = pod.state.is_ending();
    plan.stop = plan.state.stop_reason.filter(|_| is_told && !ends);
    // First: no refusal of something else keeps it running.
    plan.steps.splice(0..0, plan.stop.map(|_| Step::DeletePod));
    plan
}

/// It is to run, and there is no pod.
fn start(workspace: &ValidWorkspace, observed: &Observed, restart: bool, mut plan: Plan) -> Plan {
    if let (Some(name), None) = (&workspace.ca_bundle, &observed.ca_digest) {
        // Kubernetes would wait for it without a word to the user.
        let message = format!("the ConfigMap {name} with CA certificates is not there");
        plan.state = failed(plan.state, Reason::CABundleNotFound, message);
    } else if restart {
        // Told first: an operator that dies behind the making of the pod would have it replaced once more.
        "Making the pod: a restart was asked for".clone_into(&mut plan.state.message);
    } else {
        match observed.gate {
            Gate::Closed => {
                let message = "no workspace starts while it is not known that NetworkPolicies are enforced".to_owned();
                plan.state = failed(plan.state, Reason::PoliciesNotEnforced, message);
            }
            Gate::Uncertified => {
                plan.state = failed(plan.state, Reason::CertificatesUnavailable, UNCERTIFIED.to_owned());
            }
            Gate::Waits => "Waiting to hear whether NetworkPolicies are enforced".clone_into(&mut plan.state.message),
            Gate::Open => {
                plan.steps
                    .extend(workspace.terminal_authority.as_ref().map(|_| Step::IssueCertificate));
                plan.steps.push(Step::CreatePod);
                "Making the pod".clone_into(&mut plan.state.message);
            }
        }
    }
    plan
}

const UNCERTIFIED: &str = "no pod is made, as its terminal would have no certificate: the Secret workspace-terminal-authorities of the control plane can't be used, and the operator's log says why";

/// When someone was last there, the time that it is, and whether another pod could start.
#[derive(Clone, Copy)]
struct Since {
    active: Timestamp,
    now: Timestamp,
    gate: Gate,
}

/// It is to run, and there is a pod: it stays, or is replaced.
fn keep(
    workspace: &ValidWorkspace,
    pod: &SeenPod,
    last: &WorkspaceStatus,
    restart: bool,
    since: Since,
    mut plan: Plan,
) -> Plan {
    let pod_state = pod.state.clone();
    let state = &mut plan.state;
    if pod_state.is_ending() {
        state.outdated.clear();
    } else if state.container_started {
        // What was stopped is past.
        state.stop_reason = None;
    }
    // Behind a gate nothing is due; when it opens, all are looked at.
    let waits_for_idleness = workspace.update_policy == UpdatePolicy::WhenIdle && state.sessions.is_empty();
    if waits_for_idleness && !state.outdated.is_empty() && since.gate == Gate::Open {
        let due = update_due_at(workspace, state, since);
        plan.look_again_at = earlier(plan.look_again_at, due.filter(|due| *due > since.now));
    }
    let if_told = |reason| Some(reason).filter(|reason| last.stop_reason == Some(*reason));
    // What could not start again goes on.
    let waits = restart && since.gate != Gate::Open;
    if waits {
        state.restarted_at = last.restarted_at.as_ref().map(|done| done.0);
    }
    if since.gate == Gate::Uncertified && (waits || !state.outdated.is_empty()) {
        state.not_applied = Some((Reason::CertificatesUnavailable, UNCERTIFIED.to_owned()));
    }
    match pod_state {
        PodState::Ending { due, node } => {
            let (state, lost_at) = await_end(plan.state, "the last pod", due, &node, since.now);
            plan.state = state;
            plan.look_again_at = earlier(plan.look_again_at, Some(lost_at).filter(|at| *at > since.now));
        }
        _ if restart && !waits => {
            "Restarting: the user or an administrator asked for it".clone_into(&mut state.message);
            state.stop_reason = Some(StopReason::Restart);
            state.pod_failures = 0;
            plan.stop = if_told(StopReason::Restart);
            if plan.stop.is_none() {
                // Told of, and not done yet.
                state.restarted_at = last.restarted_at.as_ref().map(|done| done.0);
            }
        }
        _ if update_is_due(workspace, state, since) => {
            state.message = format!("Restarting with other settings: {}", state.outdated.join(", "));
            state.stop_reason = Some(StopReason::Update);
            state.pod_failures = 0;
            plan.stop = if_told(StopReason::Update);
        }
        PodState::Ended { message } => {
            let Ended {
                failures,
                replace_at,
                told,
            } = ended(last, pod, since.now);
            state.stop_reason = Some(StopReason::Ended);
            state.pod_failures = failures;
            if told && since.now >= replace_at {
                plan.stop = Some(StopReason::Ended);
            } else {
                plan.look_again_at = earlier(plan.look_again_at, Some(replace_at));
            }
            plan.state = failed(plan.state, Reason::PodFailed, message);
        }
        PodState::Troubled { reason, message } => plan.state = failed(plan.state, reason, message),
        PodState::Starting {
            overdue_at: Some(due), ..
        } if since.now >= due => {
            // Before Kubernetes 1.36 the node says so no sooner than the image is pulled, which may take as long as it takes.
            state.reason = Reason::PodNotReadyToStartContainers;
            "The node has not said that volumes and network are ready, nor pulled the image"
                .clone_into(&mut state.message);
        }
        PodState::Starting {
            reason,
            message,
            overdue_at,
        } => {
            state.reason = reason;
            state.message = message;
            plan.look_again_at = earlier(plan.look_again_at, overdue_at);
        }
        PodState::Ready => return run(workspace, last, since, plan),
    }
    if plan.stop.is_some() {
        plan.steps.push(Step::DeletePod);
    }
    plan
}

/// The terminal takes connections, until nobody has been there for long enough.
fn run(workspace: &ValidWorkspace, last: &WorkspaceStatus, since: Since, mut plan: Plan) -> Plan {
    let state = &mut plan.state;
    state.phase = Phase::Running;
    state.reason = Reason::Running;
    state.stop_reason = None;
    "The terminal takes connections".clone_into(&mut state.message);
    match idle_deadline(workspace, state, since.active) {
        Some(deadline) if since.now > deadline => {
            state.stopped_at = Some(since.now);
            state.stop_reason = Some(StopReason::Idle);
            plan.state = stopped(workspace, last, plan.state);
        }
        deadline => {
            state.stops_at = deadline;
            let after = deadline.map(|deadline| deadline + SignedDuration::from_secs(1));
            plan.look_again_at = earlier(plan.look_again_at, after);
        }
    }
    plan
}

/// Whether the pod is to be replaced now, because what it was made from has changed. A pod whose container does not run serves
/// nobody, and what has changed may be what keeps it from running. Between the telling and the deletion there may be minutes, where the
/// API server refuses or another operator takes over: who has come back meanwhile is waited for again.
fn update_is_due(workspace: &ValidWorkspace, state: &State, since: Since) -> bool {
    // One that could not be followed by another stays.
    if state.outdated.is_empty() || since.gate != Gate::Open {
        return false;
    }
    let is_quiet = || update_due_at(workspace, state, since).is_some_and(|due| since.now >= due);
    !state.container_started
        || match workspace.update_policy {
            UpdatePolicy::Immediate => true,
            UpdatePolicy::WhenIdle => state.sessions.is_empty() && is_quiet(),
            UpdatePolicy::Manual => false,
        }
}

/// From when on nobody has typed nor been connected for long enough. A terminal that was open a moment ago is open again in another. `None`: longer than
/// time goes.
fn update_due_at(workspace: &ValidWorkspace, state: &State, since: Since) -> Option<Timestamp> {
    let quiet_since = state.last_connected.map_or(since.active, |at| at.max(since.active));
    let quiet_for = SignedDuration::try_from(workspace.update_when_idle_for).ok()?;
    quiet_since.checked_add(quiet_for).ok()
}

/// The earlier of two times, either of which may be never.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// When the workspace was stopped, unless it has been woken since. While it is suspended no request wakes it, nor does one
/// that came meanwhile do so later.
fn stopped_at(
    workspace: &ValidWorkspace,
    last: &WorkspaceStatus,
    requests: Requests,
    now: Timestamp,
) -> Option<Timestamp> {
    let woken = requests.wake_requested_at;
    if workspace.suspended {
        let since = last.stopped_at.as_ref().map(|at| at.0);
        let since = since.filter(|since| woken.is_none_or(|woken| woken <= *since));
        return Some(since.unwrap_or_else(|| woken.map_or(now, |woken| woken.max(now))));
    }
    match (&last.stopped_at, last.phase) {
        (Some(at), _) => woken.is_none_or(|woken| woken <= at.0).then_some(at.0),
        // An object of 1.1 says only its phase.
        (None, Some(Phase::Stopped)) => woken.is_none().then_some(now),
        _ => None,
    }
}

/// When someone was last there, as far as is known.
pub(super) fn last_activity(pod: &SeenPod, last: &WorkspaceStatus, requests: Requests, now: Timestamp) -> Timestamp {
    // The time that is written for one that is missing, so that what is reckoned from it is written but once.
    let accessed = last.last_accessed.as_ref().map_or(now, |time| time.0);
    // A workspace that was just started is not idle, whenever its user was last there.
    let started = requests.wake_requested_at.max(pod.created_at);
    started.map_or(accessed, |started| started.max(accessed))
}

/// When the workspace stops unless the user types before. `None` is never.
pub(super) fn idle_deadline(workspace: &ValidWorkspace, state: &State, active: Timestamp) -> Option<Timestamp> {
    if workspace.keep_alive == KeepAlive::Connected && !state.sessions.is_empty() {
        return None;
    }
    let connected = state
        .last_connected
        .filter(|_| workspace.keep_alive == KeepAlive::Connected);
    let idle = SignedDuration::try_from(workspace.idle_timeout?).ok()?;
    connected.map_or(active, |at| at.max(active)).checked_add(idle).ok()
}

/// Gateways say so; those of one that has died are gone now.
fn last_connected(observed: &Observed, last: &WorkspaceStatus, now: Timestamp) -> Option<Timestamp> {
    if observed.sessions.is_empty() && !last.sessions.is_empty() {
        return Some(now);
    }
    last.last_connected.as_ref().map(|at| at.0)
}

/// Why a workspace that is meant to be stopped is: only idleness and a suspension keep one stopped.
pub(super) fn reason_to_be_stopped(workspace: &ValidWorkspace, last: &WorkspaceStatus) -> StopReason {
    match last.stop_reason {
        _ if workspace.suspended => StopReason::Suspended,
        // Allowed again, and not visited yet.
        Some(StopReason::Suspended) => StopReason::Suspended,
        _ => StopReason::Idle,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

//! What is decided of a pod that runs while nothing can be made: it stops when it is to stop. Pure.

use super::observe::Observed;
use super::owner::Controller;
use super::plan::{Plan, Step, earlier, idle_deadline, last_activity, reason_to_be_stopped, stop};
use super::pod_state::PodState;
use super::requests::Requests;
use super::seen::SeenPod;
use super::state::State;
use crate::api::WorkspaceStatus;
use crate::api::status::StopReason;
use crate::render::ValidWorkspace;
use jiff::{SignedDuration, Timestamp};

/// Nothing can be made, whatever the reason: what is suspended or idle stops all the same.
pub fn contain(
    workspace: &ValidWorkspace,
    observed: &Observed,
    last: &WorkspaceStatus,
    requests: Requests,
    now: Timestamp,
    mut plan: Plan,
) -> Plan {
    let Some(pod) = own_pod(workspace, observed) else {
        return plan;
    };
    let Plan { state, .. } = &mut plan;
    if state.stopped_at.is_none() && pod.state == PodState::Ready {
        match idle_deadline(workspace, state, last_activity(pod, last, requests, now)) {
            Some(deadline) if now > deadline => state.stopped_at = Some(now),
            deadline => {
                state.stops_at = deadline;
                let after = deadline.map(|deadline| deadline + SignedDuration::from_secs(1));
                plan.look_again_at = earlier(plan.look_again_at, after);
            }
        }
    }
    if plan.state.stopped_at.is_none() {
        return plan;
    }
    plan.state.stop_reason = Some(reason_to_be_stopped(workspace, last));
    let State {
        phase, reason, message, ..
    } = plan.state.clone();
    let mut plan = stop(workspace, pod, last, plan);
    // What is wrong goes on being told.
    plan.state = State {
        phase,
        reason,
        message,
        ..plan.state
    };
    plan
}

/// A claim that is being deleted stays while a pod uses it (Kubernetes: `kubernetes.io/pvc-protection`); the next pod gets another volume.
pub fn let_go_of_claim(pod: Option<&SeenPod>, last: &WorkspaceStatus, mut plan: Plan) -> Plan {
    if pod.is_some_and(|pod| !pod.state.is_ending()) {
        plan.state.stop_reason = Some(StopReason::Restart);
        plan.stop = plan
            .state
            .stop_reason
            .filter(|reason| last.stop_reason == Some(*reason));
        plan.steps.splice(0..0, plan.stop.map(|_| Step::DeletePod));
    }
    plan
}

/// The pod, if it is this Workspace's.
pub fn own_pod<'a>(workspace: &ValidWorkspace, observed: &'a Observed) -> Option<&'a SeenPod> {
    let pod = observed.pod.as_deref()?;
    Controller::is(pod.controller.as_ref(), &workspace.uid).then_some(pod)
}

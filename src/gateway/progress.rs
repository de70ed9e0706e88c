//! A Workspace becomes what its user is told: how far its start has come. Pure.

use crate::api::status::{ConditionType, StopReason};
use crate::api::{Phase, Workspace, WorkspaceStatus};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

/// What `/api/workspace` and its events say.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub name: String,
    pub namespace: String,
    pub user_id: String,
    pub email: String,
    /// Empty until the operator has seen the Workspace.
    pub phase: String,
    pub reason: String,
    pub message: String,
    /// Why the pod is being stopped, or was; empty when it is not.
    pub stop_reason: &'static str,
    pub remediation_hint: String,
    pub pod_name: String,
    pub service_endpoint: String,
    /// Whether the terminal takes connections.
    pub ttyd_ready: bool,
    /// What of the pod is not as the settings of now would have it; empty when nothing is. A restart mends it.
    pub update_pending: String,
    /// When it stops, if nobody uses it until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stops_at: Option<Timestamp>,
    pub steps: [Step; 5],
}

/// One step towards a running terminal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub id: &'static str,
    pub title: &'static str,
    pub state: StepState,
    /// Why it failed, or what it waits for. May be empty.
    pub detail: String,
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    Pending,
    Active,
    Done,
    Failed,
}

impl StepState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

const STEPS: [(&str, &str, ConditionType); 5] = [
    ("volume", "Attach your volume", ConditionType::VolumeBound),
    ("schedule", "Find a node", ConditionType::PodScheduled),
    ("image", "Pull the image", ConditionType::ImagePulled),
    ("start", "Start the container", ConditionType::ContainerStarted),
    ("ready", "Open the terminal", ConditionType::Ready),
];

impl View {
    pub fn of(workspace: &Workspace, namespace: &str) -> Self {
        let nothing = WorkspaceStatus::default();
        let status = workspace.status.as_ref().unwrap_or(&nothing);
        let ready = status.condition(ConditionType::Ready);
        Self {
            name: workspace.name_any(),
            namespace: namespace.to_owned(),
            user_id: workspace.spec.user.id.clone(),
            email: workspace.spec.user.email.clone(),
            phase: status.phase.map_or("", Phase::as_str).to_owned(),
            reason: ready.map(|condition| condition.reason.clone()).unwrap_or_default(),
            message: status.message.clone(),
            stop_reason: status.stop_reason.map_or("", StopReason::as_str),
            remediation_hint: status.remediation_hint.clone(),
            pod_name: status.pod_name.clone(),
            service_endpoint: status.service_endpoint.clone(),
            ttyd_ready: is_open(status),
            update_pending: status
                .condition(ConditionType::UpdatePending)
                .filter(|condition| condition.status == "True")
                .map(|condition| condition.message.clone())
                .unwrap_or_default(),
            stops_at: status.stops_at.as_ref().map(|time| time.0),
            steps: steps(status),
        }
    }

    pub fn has_failed(&self) -> bool {
        self.phase == Phase::Failed.as_str()
    }
}

/// Whether there is a terminal to connect to.
pub fn is_open(status: &WorkspaceStatus) -> bool {
    status.is_ready() && !status.service_endpoint.is_empty()
}

/// What is done is done; of the rest the first goes on, or has failed.
fn steps(status: &WorkspaceStatus) -> [Step; 5] {
    let under_way = match status.phase {
        Some(Phase::Failed) => StepState::Failed,
        Some(Phase::Stopped) => StepState::Pending,
        _ => StepState::Active,
    };
    let mut first = true;
    STEPS.map(|(id, title, kind)| {
        let met = |kind| status.condition(kind).filter(|condition| condition.status == "True");
        // A container that runs has its image, whatever an older operator does not say.
        let implied = (kind == ConditionType::ImagePulled).then_some(ConditionType::ContainerStarted);
        let condition = met(kind).or_else(|| implied.and_then(met));
        if let Some(condition) = condition {
            return Step {
                id,
                title,
                state: StepState::Done,
                detail: String::new(),
                at: Some(condition.last_transition_time.0),
            };
        }
        let state = if first { under_way } else { StepState::Pending };
        first = false;
        Step {
            id,
            title,
            state,
            detail: if state == StepState::Pending {
                String::new()
            } else {
                status.message.clone()
            },
            at: None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WorkspaceSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    fn view(phase: Phase, done: &[ConditionType]) -> View {
        let mut workspace = Workspace::new("dev1", WorkspaceSpec::default());
        let conditions = STEPS.map(|(_, _, kind)| Condition {
            type_: kind.as_str().into(),
            status: if done.contains(&kind) { "True" } else { "False" }.into(),
            reason: "Because".into(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        });
        workspace.status = Some(WorkspaceStatus {
            phase: Some(phase),
            message: "why".into(),
            service_endpoint: "dev1.svc".into(),
            conditions: conditions.to_vec(),
            ..WorkspaceStatus::default()
        });
        View::of(&workspace, "workspaces")
    }

    fn states(view: &View) -> [&'static str; 5] {
        view.steps.each_ref().map(|step| step.state.as_str())
    }

    #[test]
    fn the_first_step_that_is_not_done_goes_on() {
        let unseen = View::of(&Workspace::new("dev1", WorkspaceSpec::default()), "workspaces");
        assert_eq!(states(&unseen), ["active", "pending", "pending", "pending", "pending"]);
        assert_eq!((unseen.phase.as_str(), unseen.ttyd_ready), ("", false));
        let scheduled = view(
            Phase::Creating,
            &[ConditionType::VolumeBound, ConditionType::PodScheduled],
        );
        assert_eq!(states(&scheduled), ["done", "done", "active", "pending", "pending"]);
        assert_eq!(scheduled.steps[2].detail, "why");
        assert_eq!(scheduled.steps[3].detail, "");
    }

    #[test]
    fn failed_stopped_and_running() {
        let failed = view(Phase::Failed, &[ConditionType::VolumeBound]);
        assert_eq!(states(&failed), ["done", "failed", "pending", "pending", "pending"]);
        assert!(failed.has_failed() && !failed.ttyd_ready);
        let stopped = view(Phase::Stopped, &[ConditionType::VolumeBound]);
        assert_eq!(states(&stopped), ["done", "pending", "pending", "pending", "pending"]);
        let running = view(Phase::Running, &STEPS.map(|(_, _, kind)| kind));
        assert_eq!(states(&running), ["done"; 5]);
        assert!(running.ttyd_ready);
    }

    /// Programs rely on these names.
    #[test]
    fn the_names_of_the_api() {
        let json = serde_json::to_value(view(Phase::Running, &[])).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        for key in [
            "name",
            "namespace",
            "userId",
            "email",
            "phase",
            "serviceEndpoint",
            "podName",
            "message",
            "ttydReady",
        ] {
            assert!(keys.contains(&key), "{key} is not in {keys:?}");
        }
    }
}

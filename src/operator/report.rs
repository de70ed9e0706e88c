//! A status that was written becomes what others hear of it: an audit line, a metric, an Event, a log line.

use super::content::Content;
use super::failure::error_text;
use super::observe::Observed;
use super::plan::Step;
use super::requests;
use super::wanted::Wanted;
use crate::api::status::{ConditionType, StopReason};
use crate::api::{Phase, Reason, Workspace, WorkspaceStatus, hint};
use crate::audit;
use crate::identity::UserId;
use crate::render::policy_names;
use crate::telemetry::metrics::{OperatorMetrics, PhaseTransition, ReconcileError, ReconcileStage, Stop};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Resource, ResourceExt};
use std::sync::Arc;
use std::time::Duration;

pub struct Reporter {
    pub recorder: Recorder,
    pub metrics: Arc<OperatorMetrics>,
}

/// The API server takes no longer note (`events.k8s.io/v1`: 1 kB).
const LONGEST_NOTE: usize = 1000;

impl Reporter {
    pub fn pod_deleted(&self, reason: StopReason) {
        self.metrics.stops.get_or_create(&Stop { reason }).inc();
    }

    pub fn pass_failed(&self, stage: ReconcileStage) {
        self.metrics
            .reconcile_errors
            .get_or_create(&ReconcileError { stage })
            .inc();
    }

    /// A terminal takes connections, so long after it was asked for.
    pub fn started(&self, within: Duration) {
        self.metrics.create_to_running.observe(within.as_secs_f64());
    }

    pub fn status_write_failed(&self) {
        self.metrics.status_patch_failures.inc();
    }

    /// Tells of a change of phase, and of another trouble; everything else about a status is for those who read it. An Event is for
    /// what someone may ask about later: a start that goes as it should costs the API server none.
    pub async fn status_written(&self, workspace: &Workspace, new: &WorkspaceStatus, reason: Reason) {
        let last = workspace.status.as_ref();
        let from = last.and_then(|status| status.phase);
        let Some(to) = new.phase else { return };
        if Some(to) != from {
            self.phase_changed(workspace, new, from, to, reason);
        }
        let told = last
            .and_then(|status| status.condition(ConditionType::Ready))
            .map(|ready| ready.reason.as_str());
        self.not_applied(workspace, new).await;
        let other_trouble = !new.remediation_hint.is_empty() && told != Some(reason.as_str());
        if (Some(to) != from && !is_ordinary_start(from, to)) || other_trouble {
            self.record(workspace, new, reason).await;
        }
    }

    fn phase_changed(
        &self,
        workspace: &Workspace,
        new: &WorkspaceStatus,
        from: Option<Phase>,
        to: Phase,
        reason: Reason,
    ) {
        let name = workspace.name_any();
        let namespace = workspace.namespace().unwrap_or_default();
        let transition = PhaseTransition {
            from_phase: from.map_or("None", Phase::as_str),
            to_phase: to.as_str(),
        };
        self.metrics.phase_transitions.get_or_create(&transition).inc();
        audit::emit(&audit::Event::PhaseTransition {
            target: audit::Target {
                namespace: &namespace,
                workspace: &name,
            },
            user_id: &workspace.spec.user.id,
            request_id: if is_of_a_start(from, to) {
                requests::request_id(workspace)
            } else {
                ""
            },
            from,
            to,
            reason: reason.as_str(),
            pod: &new.pod_name,
            service_endpoint: &new.service_endpoint,
            message: &new.message,
        });
    }

    /// A step was done. After some of them, what a workspace may reach, or who may reach it, is another thing than before.
    pub fn written(&self, workspace: &Workspace, step: Step, user: &UserId, wanted: &Wanted, observed: &Observed) {
        let (index, there, new) = match step {
            Step::ApplyPolicy(index) => (index, &observed.policies[index], Some(wanted.policies[index])),
            Step::ApplyCiliumPolicy | Step::DeleteCiliumPolicy => (1, &observed.cilium_policy, wanted.cilium_policy),
            _ => return,
        };
        let old = there.as_ref().map(|seen| seen.content);
        let [old, new] = [old, new].map(|content| content.map(Content::text));
        audit::emit(&audit::Event::PolicyChanged {
            target: audit::Target {
                namespace: &workspace.namespace().unwrap_or_default(),
                workspace: &workspace.name_any(),
            },
            user_id: &workspace.spec.user.id,
            policy: &policy_names(user)[index],
            old: old.as_deref(),
            new: new.as_deref(),
        });
    }

    /// A write that was refused, while the terminal goes on.
    async fn not_applied(&self, workspace: &Workspace, new: &WorkspaceStatus) {
        let told = |status: &WorkspaceStatus| {
            let condition = status.condition(ConditionType::ObjectsApplied)?;
            let reason = Reason::ALL.iter().find(|reason| reason.as_str() == condition.reason)?;
            Some((*reason, condition.message.clone()))
        };
        let before = workspace.status.as_ref().and_then(told).map(|(reason, _)| reason);
        if let Some((reason, message)) = told(new).filter(|(reason, _)| before != Some(*reason)) {
            let note = format!("{message} {}", hint::remediation(reason));
            self.publish(workspace, EventType::Warning, reason, note).await;
        }
    }

    async fn record(&self, workspace: &Workspace, new: &WorkspaceStatus, reason: Reason) {
        let trouble = !new.remediation_hint.is_empty() && reason != Reason::Suspended;
        let note = if trouble {
            format!("{} {}", new.message, new.remediation_hint)
        } else {
            new.message.clone()
        };
        let type_ = if trouble { EventType::Warning } else { EventType::Normal };
        self.publish(workspace, type_, reason, note).await;
    }

    async fn publish(&self, workspace: &Workspace, type_: EventType, reason: Reason, mut note: String) {
        while note.len() > LONGEST_NOTE {
            note.pop();
        }
        let event = Event {
            type_,
            reason: reason.as_str().to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &workspace.object_ref(&())).await {
            let name = workspace.name_any();
            tracing::warn!(workspace = name, error = error_text(&error), "can't record an Event");
        }
    }
}

fn is_ordinary_start(from: Option<Phase>, to: Phase) -> bool {
    match to {
        Phase::Pending | Phase::Creating => matches!(from, None | Some(Phase::Pending | Phase::Stopped)),
        Phase::Running => matches!(from, None | Some(Phase::Pending | Phase::Creating)),
        Phase::Failed | Phase::Stopped => false,
    }
}

/// Whether a transition comes of somebody's having asked for a terminal.
fn is_of_a_start(from: Option<Phase>, to: Phase) -> bool {
    let starts = |phase| matches!(phase, Phase::Pending | Phase::Creating);
    starts(to) || (to != Phase::Stopped && from.is_none_or(starts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ordinary_start_goes_without_an_event() {
        use Phase::{Creating, Failed, Running, Stopped};
        for (from, to, ordinary) in [
            (None, Creating, true),
            (Some(Creating), Running, true),
            (None, Running, true),
            (Some(Stopped), Creating, true),
            (Some(Running), Creating, false),
            (Some(Running), Stopped, false),
            (Some(Failed), Running, false),
            (None, Failed, false),
        ] {
            assert_eq!(is_ordinary_start(from, to), ordinary, "{from:?} {to}");
        }
    }
}

//! The state of a workspace becomes its `status`, and the difference to the last one a patch. Pure.

use super::enforcement::Enforcement;
use super::requests;
use super::state::State;
use super::volume::Size;
use crate::api::status::ConditionType;
use crate::api::workspace::UpdatePolicy;
use crate::api::{Phase, Reason, Workspace, WorkspaceStatus, hint};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// While a pod starts, no more than one word each of this time, the first after it: every one costs a write, and everyone who watches
/// an event. A quick start goes without.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// With so many Workspaces on their way, progress is told half as often; with twice as many, a third as often. When hundreds start at
/// once, what is told of a start is paid for by every other one.
const BUSY_PER_PROGRESS: usize = 16;

/// How long after the last word on a start the next one may be told, with so many Workspaces on their way or waiting for a pass.
pub fn progress_after(busy: usize) -> Duration {
    PROGRESS_EVERY.mul_f64(1.0 + busy as f64 / BUSY_PER_PROGRESS as f64)
}

/// Names that the status tells; empty while they are not known.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub pod: String,
    pub pod_ip: String,
    pub container_id: String,
    pub endpoint: String,
    pub terminal_authority: String,
}

/// The whole new status. What the gateway writes is kept, or seeded when it was never written.
pub fn status(workspace: &Workspace, state: &State, names: Names, now: Timestamp) -> WorkspaceStatus {
    let last = requests::believed(workspace.status.clone().unwrap_or_default(), now);
    let generation = workspace.metadata.generation;
    let ready = state.phase == Phase::Running;
    let (size_reason, size_message) = state.volume_size.told();
    let when = match workspace.spec.lifecycle.update_policy {
        UpdatePolicy::WhenIdle => "it is replaced when nobody uses it, or by a restart",
        UpdatePolicy::Immediate | UpdatePolicy::Manual => "a restart brings it about",
    };
    let outdated = match state.outdated.as_slice() {
        [] => String::new(),
        changed => format!("changed since the pod was made: {}; {when}", changed.join(", ")),
    };
    let limited = state.limited.join("; ");
    let egress_refused = state.egress_refused.as_deref().map_or_else(String::new, |why| {
        format!("nothing outside the cluster is reached, as the cluster's own address ranges are not known ({why}): the setting CLUSTER_CIDRS says them")
    });
    let enforced = policy_enforced(&state.enforcement);
    let not_applied = state.not_applied.as_ref();
    let not_applied = not_applied.map(|(reason, message)| ("False", reason.as_str(), message.clone()));
    let passed_over = state.passed_over.as_ref();
    let passed_over = passed_over.map(|passed_over| ("False", passed_over.reason, passed_over.message.to_string()));
    let stands = last
        .condition(ConditionType::PolicyEnforced)
        .filter(|_| state.enforcement == Enforcement::Pending)
        .cloned();
    let conditions = [
        (
            ConditionType::Ready,
            ready,
            state.reason.as_str(),
            state.message.as_str(),
        ),
        (
            ConditionType::VolumeBound,
            state.volume_bound,
            if state.volume_bound { "Bound" } else { "Unbound" },
            "",
        ),
        (
            ConditionType::PodScheduled,
            state.pod_scheduled,
            if state.pod_scheduled {
                "Scheduled"
            } else {
                "Unscheduled"
            },
            "",
        ),
        (
            ConditionType::ImagePulled,
            state.image_pulled,
            if state.image_pulled { "Pulled" } else { "NotPulled" },
            "",
        ),
        (
            ConditionType::ContainerStarted,
            state.container_started,
            if state.container_started {
                "Started"
            } else {
                "NotStarted"
            },
            "",
        ),
        (
            ConditionType::VolumeSizeAsRequested,
            state.volume_size == Size::AsRequested,
            size_reason,
            size_message,
        ),
        (
            ConditionType::UpdatePending,
            !state.outdated.is_empty(),
            if state.outdated.is_empty() {
                "UpToDate"
            } else {
                "TemplateChanged"
            },
            &outdated,
        ),
        (
            ConditionType::WithinCeilings,
            state.limited.is_empty(),
            if state.limited.is_empty() {
                "AsRequested"
            } else {
                "Limited"
            },
            &limited,
        ),
        (
            ConditionType::EgressAsConfigured,
            state.egress_refused.is_none(),
            if state.egress_refused.is_none() {
                "AsConfigured"
            } else {
                "ClusterRangesUnknown"
            },
            &egress_refused,
        ),
    ];
    let conditions = conditions
        .into_iter()
        .map(|(kind, holds, reason, message)| (kind, if holds { "True" } else { "False" }, reason, message));
    WorkspaceStatus {
        phase: Some(state.phase),
        pod_name: names.pod,
        pod_ip: names.pod_ip,
        container_id: names.container_id,
        service_endpoint: names.endpoint,
        terminal_authority: names.terminal_authority,
        message: state.message.clone(),
        remediation_hint: hint::remediation(state.reason).to_owned(),
        conditions: conditions
            .chain(
                [
                    (ConditionType::PolicyEnforced, &enforced),
                    (ConditionType::ObjectsApplied, &not_applied),
                    (ConditionType::RequestsAccepted, &passed_over),
                ]
                .into_iter()
                .filter_map(|(kind, told)| {
                    let (status, reason, message) = told.as_ref()?;
                    Some((kind, *status, *reason, message.as_str()))
                }),
            )
            .map(|(kind, status, reason, message)| {
                let since = last.condition(kind).filter(|last| last.status == status);
                Condition {
                    type_: kind.as_str().to_owned(),
                    status: status.to_owned(),
                    reason: reason.to_owned(),
                    message: message.to_owned(),
                    // The time of the last change of `status`, not of the reason (Kubernetes API conventions).
                    last_transition_time: since.map_or(Time(now), |last| last.last_transition_time.clone()),
                    observed_generation: generation,
                }
            })
            .chain(stands)
            .collect(),
        last_accessed: last.last_accessed.or(Some(Time(now))),
        last_connected: state.last_connected.map(Time),
        stopped_at: state.stopped_at.map(Time),
        stop_reason: state.stop_reason,
        stops_at: state.stops_at.map(Time),
        restarted_at: state.restarted_at.map(Time),
        pod_failures: state.pod_failures,
        sessions: state.sessions.clone(),
        sign_ins: last.sign_ins,
        observed_generation: generation,
    }
}

/// Status, reason and message of the condition `PolicyEnforced`, if there is something to tell. The message has nothing in it that changes while the
/// status does not: every Workspace would be written each time.
fn policy_enforced(enforcement: &Enforcement) -> Option<(&'static str, &'static str, String)> {
    match enforcement {
        Enforcement::Unwatched | Enforcement::Pending => None,
        Enforcement::Enforced => Some(("True", "Enforced", String::new())),
        Enforcement::NotEnforced { passed } => {
            let hint = hint::remediation(Reason::PoliciesNotEnforced);
            let message = format!("what no workspace may reach got an answer: {passed}. {hint}");
            Some(("False", Reason::PoliciesNotEnforced.as_str(), message))
        }
        Enforcement::Unknown => {
            let message = "the canary shows neither that NetworkPolicies are enforced nor that they are not; the operator's log says why";
            Some(("Unknown", "NotKnown", message.to_owned()))
        }
    }
}

/// A JSON merge patch (RFC 7396) with just the fields that differ; `None` when none does.
pub fn patch(last: Option<&WorkspaceStatus>, new: &WorkspaceStatus) -> Option<Value> {
    if last == Some(new) {
        return None;
    }
    let fields = |status: &WorkspaceStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let last = last.map(fields).unwrap_or_default();
    let new = fields(new);
    let mut patch = Map::new();
    for (key, value) in &new {
        if last.get(key) != Some(value) {
            patch.insert(key.clone(), value.clone());
        }
    }
    for key in last.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    if patch.is_empty() {
        return None;
    }
    Some(json!({"status": patch}))
}

/// What is told while a pod starts, and nothing else: no decision that a later pass relies on.
const PROGRESS: &[&str] = &[
    "conditions",
    "containerID",
    "lastAccessed",
    "message",
    "observedGeneration",
    "phase",
    "podIP",
    "podName",
    "serviceEndpoint",
    "terminalAuthority",
];

/// Whether the patch says no more than that a workspace is on its way that was not there before.
pub fn tells_of_a_start_alone(last: Option<&WorkspaceStatus>, new: &WorkspaceStatus, patch: &Value) -> bool {
    let before = last.and_then(|last| last.phase);
    let fields = patch["status"].as_object();
    matches!(before, None | Some(Phase::Pending | Phase::Creating))
        && new.phase == Some(Phase::Creating)
        && fields.is_some_and(|fields| fields.keys().all(|field| PROGRESS.contains(&field.as_str())))
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn state(phase: Phase, reason: Reason) -> State {
        State {
            phase,
            reason,
            message: "m".into(),
            volume_bound: true,
            pod_scheduled: true,
            image_pulled: true,
            container_started: true,
            has_pod: true,
            stopped_at: None,
            stop_reason: None,
            stops_at: None,
            restarted_at: None,
            pod_failures: 0,
            volume_size: Size::AsRequested,
            outdated: vec![],
            limited: vec![],
            egress_refused: None,
            not_applied: None,
            passed_over: None,
            enforcement: Enforcement::Unwatched,
            sessions: vec![],
            last_connected: None,
        }
    }

    #[test]
    fn an_equal_status_is_no_write() {
        let mut workspace = given::workspace(given::spec());
        let running = state(Phase::Running, Reason::Running);
        let first = status(&workspace, &running, Names::default(), at(0));
        assert!(patch(None, &first).is_some());
        workspace.status = Some(first.clone());
        let second = status(&workspace, &running, Names::default(), at(60));
        assert_eq!(patch(Some(&first), &second), None);
    }

    #[test]
    fn times_change_only_with_the_status_of_a_condition() {
        let mut workspace = given::workspace(given::spec());
        workspace.status = Some(status(
            &workspace,
            &state(Phase::Creating, Reason::Progressing),
            Names::default(),
            at(0),
        ));
        let failed = status(
            &workspace,
            &state(Phase::Failed, Reason::Timeout),
            Names::default(),
            at(5),
        );
        assert_eq!(
            failed.condition(ConditionType::Ready).unwrap().last_transition_time,
            Time(at(0))
        );
        let running = status(
            &workspace,
            &state(Phase::Running, Reason::Running),
            Names::default(),
            at(9),
        );
        assert_eq!(
            running.condition(ConditionType::Ready).unwrap().last_transition_time,
            Time(at(9))
        );
    }

    #[test]
    fn what_the_canary_finds_is_a_condition_and_what_it_has_not_found_yet_changes_nothing() {
        let mut workspace = given::workspace(given::spec());
        let mut told = |enforcement: Enforcement, seconds| {
            let state = State {
                enforcement,
                ..state(Phase::Running, Reason::Running)
            };
            let new = status(&workspace, &state, Names::default(), at(seconds));
            let written = patch(workspace.status.as_ref(), &new).is_some();
            let condition = new.condition(ConditionType::PolicyEnforced);
            let told = condition.map(|it| (it.status.clone(), it.reason.clone(), it.last_transition_time.0));
            workspace.status = Some(new);
            (told, written)
        };
        let expected = |status: &str, reason: &str, seconds| Some((status.to_owned(), reason.to_owned(), at(seconds)));
        let passes = || Enforcement::NotEnforced { passed: "a".into() };
        assert_eq!(told(Enforcement::Unwatched, 0), (None, true));
        assert_eq!(told(Enforcement::Pending, 1), (None, false));
        assert_eq!(told(Enforcement::Enforced, 2), (expected("True", "Enforced", 2), true));
        assert_eq!(told(Enforcement::Enforced, 3), (expected("True", "Enforced", 2), false));
        assert_eq!(told(passes(), 4), (expected("False", "PoliciesNotEnforced", 4), true));
        // The operator was started anew.
        assert_eq!(
            told(Enforcement::Pending, 5),
            (expected("False", "PoliciesNotEnforced", 4), false)
        );
        assert_eq!(told(passes(), 6), (expected("False", "PoliciesNotEnforced", 4), false));
        assert_eq!(
            told(Enforcement::Unknown, 7),
            (expected("Unknown", "NotKnown", 7), true)
        );
        assert_eq!(told(Enforcement::Unwatched, 8), (None, true));
    }

    #[test]
    fn a_request_that_does_not_count_is_told_for_as_long_as_it_is_there() {
        let mut workspace = given::workspace(given::spec());
        let kind = ConditionType::RequestsAccepted;
        let passed_over = requests::PassedOver {
            reason: "DatedAhead",
            message: "m".into(),
        };
        let told = State {
            passed_over: Some(passed_over),
            ..state(Phase::Running, Reason::Running)
        };
        workspace.status = Some(status(&workspace, &told, Names::default(), at(0)));
        let condition = workspace.status.as_ref().unwrap().condition(kind).unwrap();
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            ("False", "DatedAhead")
        );
        let again = status(&workspace, &told, Names::default(), at(5));
        assert_eq!(patch(workspace.status.as_ref(), &again), None);
        let counts = state(Phase::Running, Reason::Running);
        assert_eq!(
            status(&workspace, &counts, Names::default(), at(9)).condition(kind),
            None
        );
    }

    #[test]
    fn use_that_is_dated_ahead_is_written_anew() {
        let mut workspace = given::workspace(given::spec());
        let running = state(Phase::Running, Reason::Running);
        let mut last = status(&workspace, &running, Names::default(), at(0));
        last.last_accessed = Some(Time(at(1_000_000)));
        workspace.status = Some(last.clone());
        let new = status(&workspace, &running, Names::default(), at(9));
        assert_eq!(
            patch(Some(&last), &new).unwrap()["status"]["lastAccessed"],
            at(9).to_string()
        );
    }

    #[test]
    fn the_gateway_s_field_is_left_alone_and_what_is_gone_is_cleared() {
        let mut workspace = given::workspace(given::spec());
        let mut last = status(
            &workspace,
            &state(Phase::Failed, Reason::Timeout),
            Names::default(),
            at(0),
        );
        last.last_accessed = Some(Time(at(7)));
        last.stopped_at = Some(Time(at(1)));
        workspace.status = Some(last.clone());
        let new = status(
            &workspace,
            &state(Phase::Running, Reason::Running),
            Names::default(),
            at(9),
        );
        let patch = patch(Some(&last), &new).unwrap();
        assert_eq!(patch["status"].get("lastAccessed"), None);
        assert_eq!(patch["status"]["stoppedAt"], Value::Null);
        assert_eq!(patch["status"]["remediationHint"], Value::Null);
    }

    #[test]
    fn progress_is_told_rarely_when_many_start() {
        assert_eq!(progress_after(0), Duration::from_secs(2));
        assert_eq!(progress_after(16), Duration::from_secs(4));
        assert_eq!(progress_after(500), Duration::from_millis(64_500));
    }

    #[test]
    fn only_a_start_may_wait() {
        let mut workspace = given::workspace(given::spec());
        let starting = state(Phase::Creating, Reason::Progressing);
        let mut last = None;
        let mut waits = |state: &State| {
            workspace.status.clone_from(&last);
            let names = Names {
                pod: "p".to_owned(),
                terminal_authority: "a".to_owned(),
                ..Names::default()
            };
            let new = status(&workspace, state, names, at(0));
            let patch = patch(last.as_ref(), &new).unwrap();
            let waits = tells_of_a_start_alone(last.as_ref(), &new, &patch);
            last = Some(new);
            waits
        };
        assert!(waits(&starting), "nothing was told before");
        let scheduled = State {
            pod_scheduled: false,
            ..starting.clone()
        };
        assert!(waits(&scheduled));
        let restarted = State {
            restarted_at: Some(at(0)),
            ..starting.clone()
        };
        assert!(!waits(&restarted), "a decision");
        assert!(!waits(&state(Phase::Failed, Reason::Timeout)));
        assert!(!waits(&restarted), "no longer Failed");
        assert!(!waits(&state(Phase::Running, Reason::Running)));
        assert!(!waits(&restarted), "no longer Running");
    }
}

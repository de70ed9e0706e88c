//! A pod's status becomes one of a few states that matter to a workspace.

use crate::api::Reason;
use crate::render::CONTAINER;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How the pod of a workspace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It is being deleted, and should be gone from `node` when it is `due`, which its grace period is part of (Kubernetes API:
    /// `metadata.deletionTimestamp`).
    Ending { due: Timestamp, node: Box<str> },
    /// It has ended and Kubernetes starts it no more.
    Ended { message: String },
    /// Something is wrong that Kubernetes goes on trying to overcome.
    Troubled { reason: Reason, message: String },
    /// It is on its way; the reason says if something is in it. From `overdue_at` on something must be wrong.
    Starting {
        reason: Reason,
        message: String,
        overdue_at: Option<Timestamp>,
    },
    /// The terminal takes connections.
    Ready,
}

impl PodState {
    pub fn is_ending(&self) -> bool {
        matches!(self, Self::Ending { .. })
    }
}

/// The pod's address, while it is the pod's: not of one that is ending or has ended.
pub fn address(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let has_ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let is_there = pod.metadata.deletion_timestamp.is_none() && !has_ended;
    status
        .pod_ip
        .as_deref()
        .filter(|address| is_there && !address.is_empty())
}

/// Messages of Kubernetes can hold whole stack traces.
const LONGEST_MESSAGE: usize = 500;

pub fn of(pod: &Pod) -> PodState {
    if let Some(Time(due)) = &pod.metadata.deletion_timestamp {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        return PodState::Ending {
            due: *due,
            node: node.unwrap_or_default().into(),
        };
    }
    let status = pod.status.as_ref();
    let told = |otherwise: &str| {
        let told = [
            status.and_then(|status| status.reason.as_deref()),
            status.and_then(|status| status.message.as_deref()),
        ];
        let told: Vec<&str> = told.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        shortened(&if told.is_empty() {
            otherwise.to_owned()
        } else {
            told.join(": ")
        })
    };
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Failed") => {
            return PodState::Ended {
                message: told("the pod has failed"),
            };
        }
        Some("Succeeded") => {
            return PodState::Ended {
                message: told("the pod has ended"),
            };
        }
        Some("Unknown") => {
            return PodState::Troubled {
                reason: Reason::PodUnknown,
                message: told("the pod's node can't be reached"),
            };
        }
        _ => {}
    }
    if let Some(trouble) = waiting_trouble(pod) {
        return trouble;
    }
    if condition(pod, "Ready").is_some_and(|ready| ready.status == "True") {
        return PodState::Ready;
    }
    PodState::Starting {
        reason: if is_unschedulable(pod) {
            Reason::Unschedulable
        } else {
            Reason::Progressing
        },
        message: starting_message(pod),
        overdue_at: not_set_up_since(pod).map(|since| since + SET_UP_WITHIN),
    }
}

/// A node mounts within seconds; to bring a volume from another node takes up to a minute or two.
const SET_UP_WITHIN: SignedDuration = SignedDuration::from_mins(3);

/// Since when the node has the pod, and has not said that its volumes and network are ready (Kubernetes API: the pod condition
/// `PodReadyToStartContainers`, which kubelets before 1.36 set when the image is pulled, too). The kubelet tells why in Events alone.
fn not_set_up_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "PodReadyToStartContainers").filter(|ready| ready.status == "False")?;
    let scheduled = condition(pod, "PodScheduled").filter(|scheduled| scheduled.status == "True")?;
    // The later one: a node that was started anew sets up a pod that it has had for days.
    let times = [ready, scheduled].map(|condition| condition.last_transition_time.as_ref().map(|time| time.0));
    times.into_iter().flatten().max()
}

/// Whether the scheduler has found a node.
pub fn is_scheduled(pod: &Pod) -> bool {
    condition(pod, "PodScheduled").is_some_and(|scheduled| scheduled.status == "True")
}

/// Whether the scheduler has looked at every node in vain. It goes on trying, and a new node may come.
fn is_unschedulable(pod: &Pod) -> bool {
    condition(pod, "PodScheduled")
        .is_some_and(|scheduled| scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable"))
}

/// Whether the image is on the node: the kubelet names it once it has made a container from it.
pub fn has_image(pod: &Pod) -> bool {
    container(pod).is_some_and(|container| !container.image_id.is_empty())
}

/// Whether the container runs.
pub fn is_started(pod: &Pod) -> bool {
    container(pod)
        .and_then(|container| container.state.as_ref())
        .is_some_and(|state| state.running.is_some())
}

/// The ID of the container that runs (Kubernetes API: `containerStatuses[].containerID`): another one for each start, in the same pod too.
pub fn container_id(pod: &Pod) -> Option<&str> {
    container(pod)
        .filter(|_| is_started(pod))
        .and_then(|container| container.container_id.as_deref())
}

/// Waiting reasons of the container that a person has to look into.
fn waiting_trouble(pod: &Pod) -> Option<PodState> {
    let container = container(pod)?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = match waiting.reason.as_deref()? {
        "CrashLoopBackOff" => Reason::CrashLoopBackOff,
        "ImagePullBackOff" => Reason::ImagePullBackOff,
        "ErrImagePull" | "ErrImageNeverPull" => Reason::ErrImagePull,
        "InvalidImageName" => Reason::InvalidImageName,
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Reason::CreateContainerError,
        _ => return None,
    };
    let mut message = waiting.message.clone().unwrap_or_else(|| reason.to_string());
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    if let Some(last) = last {
        message.push_str(&format!("; the last run ended with exit code {}", last.exit_code));
    }
    Some(PodState::Troubled {
        reason,
        message: shortened(&message),
    })
}

fn starting_message(pod: &Pod) -> String {
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|scheduled| scheduled.status == "False") {
        let why = scheduled.message.clone().unwrap_or_default();
        return shortened(&format!("Waiting for a node with room: {why}"));
    }
    if !is_scheduled(pod) {
        return "Waiting for a node".to_owned();
    }
    if is_started(pod) {
        return "Waiting for the terminal to answer".to_owned();
    }
    "Pulling the image and starting the container".to_owned()
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status
        .as_ref()?
        .container_statuses
        .as_ref()?
        .iter()
        .find(|container| container.name == CONTAINER)
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// At most [`LONGEST_MESSAGE`] characters.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(status: serde_json::Value) -> PodState {
        of(&serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap())
    }

    fn waiting(reason: &str) -> PodState {
        state(json!({"phase": "Pending", "containerStatuses": [{
            "name": "workspace", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": "why"}},
        }]}))
    }

    #[test]
    fn an_image_is_there_once_the_kubelet_names_it() {
        for (image, expected) in [("", false), ("sha256:0123", true)] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [{
                "name": "workspace", "image": "", "imageID": image, "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            }]}}))
            .unwrap();
            assert_eq!(has_image(&pod), expected, "{image}");
        }
    }

    #[test]
    fn a_container_has_its_id_while_it_runs() {
        for (state, expected) in [
            (json!({"running": {}}), Some("containerd://0123")),
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), None),
            (json!({"terminated": {"exitCode": 1}}), None),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [{
                "name": "workspace", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "containerID": "containerd://0123", "state": state,
            }]}}))
            .unwrap();
            assert_eq!(container_id(&pod), expected, "{state}");
        }
    }

    #[test]
    fn an_address_is_a_pod_s_while_it_is_there() {
        for (metadata, status, expected) in [
            (
                json!({}),
                json!({"phase": "Running", "podIP": "10.0.0.7"}),
                Some("10.0.0.7"),
            ),
            (
                json!({}),
                json!({"phase": "Running", "podIP": "fd00::7"}),
                Some("fd00::7"),
            ),
            (json!({}), json!({"phase": "Pending"}), None),
            (json!({}), json!({"phase": "Failed", "podIP": "10.0.0.7"}), None),
            (json!({}), json!({"phase": "Succeeded", "podIP": "10.0.0.7"}), None),
            (
                json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
                json!({"phase": "Running", "podIP": "10.0.0.7"}),
                None,
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
            assert_eq!(address(&pod), expected, "{status}");
        }
    }

    #[test]
    fn reads_what_kubernetes_writes() {
        assert_eq!(
            state(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})),
            PodState::Ready
        );
        assert_eq!(
            state(json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"})),
            PodState::Ended {
                message: "Evicted: low on memory".into()
            }
        );
        assert!(matches!(
            state(json!({"phase": "Unknown"})),
            PodState::Troubled {
                reason: Reason::PodUnknown,
                ..
            }
        ));
        for (text, reason) in [
            ("CrashLoopBackOff", Reason::CrashLoopBackOff),
            ("ImagePullBackOff", Reason::ImagePullBackOff),
            ("ErrImagePull", Reason::ErrImagePull),
            ("InvalidImageName", Reason::InvalidImageName),
            ("CreateContainerConfigError", Reason::CreateContainerError),
            ("CreateContainerError", Reason::CreateContainerError),
            ("RunContainerError", Reason::CreateContainerError),
        ] {
            assert_eq!(
                waiting(text),
                PodState::Troubled {
                    reason,
                    message: "why".into()
                }
            );
        }
        assert!(matches!(
            waiting("ContainerCreating"),
            PodState::Starting {
                reason: Reason::Progressing,
                ..
            }
        ));
        let unschedulable = state(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}));
        assert_eq!(
            unschedulable,
            PodState::Starting {
                reason: Reason::Unschedulable,
                message: "Waiting for a node with room: 0/3 nodes".into(),
                overdue_at: None,
            }
        );
    }

    #[test]
    fn a_pod_that_its_node_can_t_set_up_is_overdue_after_a_while() {
        let overdue_at = |scheduled_on: &str, ready: &str| {
            let condition = |kind: &str, status: &str, day: &str| json!({"type": kind, "status": status, "lastTransitionTime": format!("{day}T00:00:00Z")});
            let status = json!({"phase": "Pending", "conditions": [
                condition("PodScheduled", "True", scheduled_on), condition("PodReadyToStartContainers", ready, "2026-01-01")]});
            match state(status) {
                PodState::Starting { overdue_at, .. } => overdue_at,
                other => panic!("{other:?}"),
            }
        };
        for scheduled_on in ["2026-01-01", "2025-12-01"] {
            let expected = "2026-01-01T00:03:00Z".parse().unwrap();
            assert_eq!(overdue_at(scheduled_on, "False"), Some(expected), "{scheduled_on}");
        }
        assert_eq!(overdue_at("2026-01-01", "True"), None);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(shortened(&"ü".repeat(600)).chars().count(), LONGEST_MESSAGE + 1);
    }
}

//! A pod that has ended, and how many before it did, become the time at which it is replaced. Pure.
//!
//! Kubernetes starts such a pod no more: its node was drained, ran out of memory, or never took it. A pod that ends again and again
//! would be replaced without pause, so the count is kept in the status, where it outlives the operator.

use super::backoff;
use super::seen::SeenPod;
use crate::api::status::ConditionType;
use crate::api::{Reason, WorkspaceStatus};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How long an ended pod is left to be looked at before it is replaced: at first, and at most.
const FIRST_DELAY: Duration = Duration::from_secs(30);
const LONGEST_DELAY: Duration = Duration::from_secs(600);

/// A pod whose terminal took connections for so long ends as if it were the first.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// What to do about a pod that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Pods in a row that have ended, with this one.
    pub failures: u32,
    pub replace_at: Timestamp,
    /// Whether the status has told of this one. Only then may it be replaced.
    pub told: bool,
}

pub fn ended(last: &WorkspaceStatus, pod: &SeenPod, now: Timestamp) -> Ended {
    let since = since(last, pod);
    let failures = match since {
        Some(_) => last.pod_failures.max(1),
        None if has_run_well(last, now) => 1,
        None => last.pod_failures.saturating_add(1),
    };
    Ended {
        failures,
        replace_at: since.unwrap_or(now) + backoff::delay(FIRST_DELAY, LONGEST_DELAY, failures, &pod.uid),
        told: since.is_some(),
    }
}

/// Since when the status has told of an ended pod. A pod that ended without ever being ready did not change the status of
/// `Ready`, whose time may lie long before the pod's: such pods, refused by a node again and again, would be replaced without pause.
fn since(last: &WorkspaceStatus, pod: &SeenPod) -> Option<Timestamp> {
    let ready = last.condition(ConditionType::Ready)?;
    let created = pod.created_at;
    let told = ready.last_transition_time.0;
    (ready.reason == Reason::PodFailed.as_str()).then_some(created.map_or(told, |created| created.max(told)))
}

fn has_run_well(last: &WorkspaceStatus, now: Timestamp) -> bool {
    last.condition(ConditionType::Ready)
        .is_some_and(|ready| ready.status == "True" && now >= ready.last_transition_time.0 + FORGOTTEN_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn last(status: &str, reason: &str, since: i64, pod_failures: u32) -> WorkspaceStatus {
        WorkspaceStatus {
            conditions: vec![Condition {
                type_: "Ready".into(),
                status: status.into(),
                reason: reason.into(),
                message: String::new(),
                last_transition_time: Time(at(since)),
                observed_generation: None,
            }],
            pod_failures,
            ..WorkspaceStatus::default()
        }
    }

    #[test]
    fn each_pod_that_ends_is_counted_once_and_waits_longer() {
        let pod = json!({"metadata": {"creationTimestamp": at(100)}});
        let pod = SeenPod::of(&serde_json::from_value(pod).unwrap());
        for (last, now, failures, told, longest) in [
            (WorkspaceStatus::default(), 100, 1, false, 30),
            (last("False", "PodFailed", 100, 1), 110, 1, true, 20),
            // Never ready, so the condition is as old as the first of them.
            (last("False", "PodFailed", 0, 3), 110, 3, true, 110),
            (last("False", "Progressing", 0, 3), 100, 4, false, 240),
            (last("False", "Progressing", 0, 50), 100, 51, false, 600),
            (last("True", "Running", 50, 3), 100, 4, false, 240),
            (last("True", "Running", -600, 3), 100, 1, false, 30),
        ] {
            let ended = ended(&last, &pod, at(now));
            assert_eq!((ended.failures, ended.told), (failures, told), "{last:?}");
            let wait = ended.replace_at.as_second() - at(now).as_second();
            assert!(wait <= longest && wait >= longest * 3 / 4 - 30, "{wait} of {longest}");
        }
    }
}

//! A pod becomes the moment from which its user waits for it, for the metric of how long workspaces take to start. Pure.

use super::requests::Requests;
use super::seen::SeenPod;
use crate::api::Workspace;
use crate::api::status::ConditionType;
use jiff::{SignedDuration, Timestamp};

/// A pod that was made later than this after a request was made for another reason, or had to wait for room that a quota
/// left: the longest bucket would say no more of it.
const BELONGS_TOGETHER: SignedDuration = SignedDuration::from_mins(10);

/// The API server's clock, which stamps the pod, and ours, which stamps the status, may differ by this much.
const CLOCKS_DIFFER_BY: SignedDuration = SignedDuration::from_secs(30);

/// When the workspace was created, woken or told to restart, if that made this pod; else when the pod was made. `None` when
/// the pod has taken connections before: one that recovers is not one that starts.
pub fn began(workspace: &Workspace, requests: Requests, pod: &SeenPod) -> Option<Timestamp> {
    let made = pod.created_at?;
    let status = workspace.status.as_ref();
    let ready = status.and_then(|status| status.condition(ConditionType::Ready));
    if ready.is_some_and(|ready| ready.last_transition_time.0 > made + CLOCKS_DIFFER_BY) {
        return None;
    }
    let created = workspace.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let asked = [created, requests.wake_requested_at].into_iter().flatten().max();
    Some(
        asked
            .filter(|asked| *asked <= made && made.duration_since(*asked) <= BELONGS_TOGETHER)
            .unwrap_or(made),
    )
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::*;
    use crate::api::WorkspaceStatus;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_wait_begins_with_the_request_that_made_the_pod() {
        // Created, woken, not ready since, pod made: begins.
        let table = [
            ("created", 0, None, 0, 2, Some(0)),
            ("woken", 0, Some(5000), 3000, 5001, Some(5000)),
            ("replaced long after it was created", 0, None, 5000, 5001, Some(5001)),
            ("replaced long after it was woken", 0, Some(100), 5000, 5001, Some(5001)),
            (
                "a request while it runs is none for this pod",
                0,
                Some(60),
                0,
                2,
                Some(2),
            ),
            ("the clocks differ a little", 0, None, 20, 2, Some(0)),
            ("it was ready before", 0, None, 900, 2, None),
        ];
        for (what, created, woken, since, made, expected) in table {
            let mut workspace = given::workspace(given::spec());
            workspace.metadata.creation_timestamp = Some(Time(at(created)));
            workspace.status = Some(WorkspaceStatus {
                conditions: vec![Condition {
                    type_: ConditionType::Ready.as_str().to_owned(),
                    status: "False".to_owned(),
                    last_transition_time: Time(at(since)),
                    message: String::new(),
                    reason: "Progressing".to_owned(),
                    observed_generation: None,
                }],
                ..WorkspaceStatus::default()
            });
            let requests = Requests {
                wake_requested_at: woken.map(at),
                restart_requested_at: None,
            };
            let mut pod = Pod::default();
            pod.metadata.creation_timestamp = Some(Time(at(made)));
            let pod = SeenPod::of(&pod);
            assert_eq!(began(&workspace, requests, &pod), expected.map(at), "{what}");
        }
    }
}

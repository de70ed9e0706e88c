//! What a person wants of their workspace becomes an annotation that the operator acts on.

use super::workspaces::{ApiSnafu, EnsureError, Workspaces, as_gateway};
use crate::api::{Phase, Workspace};
use crate::clock::is_ahead;
use crate::labels::{REQUESTED_BY, RESTART_REQUESTED_AT, WAKE_REQUESTED_AT};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::Patch;
use serde_json::json;
use snafu::ResultExt;

impl Workspaces {
    /// Asks the operator for a new pod, as the documented annotation does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn request_restart(&self, name: &str, request_id: &str, now: Timestamp) -> Result<(), EnsureError> {
        let done = self.get(name).and_then(|workspace| restarted_at(&workspace));
        let asked = self.request(name, RESTART_REQUESTED_AT, request_id, done, now).await;
        asked.context(ApiSnafu {
            operation: "restart",
            name,
        })
    }

    /// Asks the operator to start a stopped workspace; `false` when that is not needed, or was asked already.
    pub(super) async fn wake(
        &self,
        workspace: &Workspace,
        request_id: &str,
        now: Timestamp,
    ) -> Result<bool, EnsureError> {
        if !is_to_be_woken(workspace, now) {
            return Ok(false);
        }
        let name = workspace.name_any();
        let asked = self.request(&name, WAKE_REQUESTED_AT, request_id, stopped_at(workspace), now);
        asked.await.context(ApiSnafu {
            operation: "wake",
            name,
        })?;
        Ok(true)
    }

    /// Writes down that something is asked for, and by which request. Our clock may be fast, and what is dated ahead counts for nothing until
    /// then: the API server's, which stamps every write, is taken instead.
    async fn request(
        &self,
        name: &str,
        what: &str,
        request_id: &str,
        done: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let write = async |at: Timestamp| {
            let at = at.to_string();
            let patch = json!({"metadata": {"annotations": {REQUESTED_BY: format!("{request_id}@{at}"), what: at}}});
            self.api.patch(name, &as_gateway(), &Patch::Merge(patch)).await
        };
        let at = later_than(done, now);
        let stamps = write(at).await?.metadata.managed_fields.unwrap_or_default();
        let written_at = stamps.into_iter().filter_map(|stamp| stamp.time).max();
        let Some(Time(written_at)) = written_at.filter(|written_at| is_ahead(at, written_at.0)) else {
            return Ok(());
        };
        let ahead = at.duration_since(written_at).as_secs();
        tracing::warn!(
            seconds = ahead,
            "the clock is ahead of the API server's, whose time is taken for what is asked for"
        );
        match later_than(done, written_at) {
            // The operator's is ahead as well.
            same if same == at => Ok(()),
            earlier => {
                let corrected = write(earlier).await.map(drop);
                if corrected.is_err() {
                    // Nothing may come of it later.
                    let nothing = json!({"metadata": {"annotations": {what: null}}});
                    let _ = self.api.patch(name, &as_gateway(), &Patch::Merge(nothing)).await;
                }
                corrected
            }
        }
    }
}

/// When a request is dated: later than what was last done, so that clocks that differ lose none.
fn later_than(done: Option<Timestamp>, now: Timestamp) -> Timestamp {
    done.map_or(now, |done| now.max(done + SignedDuration::from_secs(1)))
}

fn stopped_at(workspace: &Workspace) -> Option<Timestamp> {
    let stopped = workspace.status.as_ref()?.stopped_at.as_ref();
    stopped.map(|at| at.0)
}

fn restarted_at(workspace: &Workspace) -> Option<Timestamp> {
    let restarted = workspace.status.as_ref()?.restarted_at.as_ref();
    restarted.map(|at| at.0)
}

/// Whether it is stopped, and nobody has asked for its start since.
fn is_to_be_woken(workspace: &Workspace, now: Timestamp) -> bool {
    if workspace.status.as_ref().and_then(|status| status.phase) != Some(Phase::Stopped) {
        return false;
    }
    let requested = workspace.annotations().get(WAKE_REQUESTED_AT);
    let requested: Option<Timestamp> = requested.and_then(|text| text.parse().ok());
    match (stopped_at(workspace), requested) {
        // One that is dated ahead counts for nothing until then.
        (Some(stopped), Some(requested)) => requested <= stopped || is_ahead(requested, now),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{WorkspaceSpec, WorkspaceStatus};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn workspace(phase: Phase, stopped: Option<i64>, requested: Option<&str>) -> Workspace {
        let mut workspace = Workspace::new("a", WorkspaceSpec::default());
        workspace.status = Some(WorkspaceStatus {
            phase: Some(phase),
            stopped_at: stopped.map(|seconds| Time(at(seconds))),
            ..WorkspaceStatus::default()
        });
        if let Some(requested) = requested {
            workspace
                .annotations_mut()
                .insert(WAKE_REQUESTED_AT.into(), requested.into());
        }
        workspace
    }

    #[test]
    fn only_a_stopped_workspace_is_woken_and_only_once() {
        let ahead = Some("2100-01-01T00:00:00Z");
        let [before, since] = [5, 11].map(|seconds| at(seconds).to_string());
        for (phase, stopped, requested, woken) in [
            (Phase::Running, None, None, false),
            (Phase::Failed, Some(10), None, false),
            (Phase::Stopped, Some(10), None, true),
            (Phase::Stopped, Some(10), Some(before.as_str()), true),
            (Phase::Stopped, Some(10), Some(since.as_str()), false),
            (Phase::Stopped, Some(10), Some("yesterday"), true),
            (Phase::Stopped, None, None, true),
            (Phase::Stopped, Some(10), ahead, true),
        ] {
            let workspace = workspace(phase, stopped, requested);
            assert_eq!(
                is_to_be_woken(&workspace, at(100)),
                woken,
                "{phase} {stopped:?} {requested:?}"
            );
        }
    }

    #[test]
    fn a_request_is_dated_later_than_what_was_done() {
        for (done, expected) in [(None, 100), (Some(10), 100), (Some(100), 101), (Some(200), 201)] {
            assert_eq!(later_than(done.map(at), at(100)), at(expected), "{done:?}");
        }
    }
}

//! What is decided of a workspace becomes what its status will say: phase, reason and words. Pure.

use super::enforcement::Enforcement;
use super::requests::PassedOver;
use super::volume::Size;
use crate::api::status::{StopReason, TerminalSession};
use crate::api::workspace::KeepAlive;
use crate::api::{Phase, Reason, WorkspaceStatus};
use crate::render::ValidWorkspace;
use crate::units::go_duration::GoDuration;
use jiff::Timestamp;
use std::sync::Arc;

/// What the status will say.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub phase: Phase,
    pub reason: Reason,
    pub message: String,
    pub volume_bound: bool,
    pub pod_scheduled: bool,
    pub image_pulled: bool,
    pub container_started: bool,
    pub has_pod: bool,
    /// `Some` while the workspace is meant to be stopped.
    pub stopped_at: Option<Timestamp>,
    /// Why the pod is being stopped, or was; until the next one runs.
    pub stop_reason: Option<StopReason>,
    pub stops_at: Option<Timestamp>,
    /// The last restart request that was acted upon.
    pub restarted_at: Option<Timestamp>,
    /// Pods in a row that have ended by themselves.
    pub pod_failures: u32,
    pub volume_size: Size,
    /// What the pod was made from that has changed since.
    pub outdated: Vec<&'static str>,
    /// What the ceilings did not allow, in words.
    pub limited: Vec<String>,
    /// Why nothing outside the cluster is reached, though that is allowed.
    pub egress_refused: Option<Arc<str>>,
    /// Why an object is not as it should be, while the terminal takes connections all the same.
    pub not_applied: Option<(Reason, String)>,
    /// Requests that do not count.
    pub passed_over: Option<PassedOver>,
    pub enforcement: Enforcement,
    pub sessions: Vec<TerminalSession>,
    /// Until when there was one of them.
    pub last_connected: Option<Timestamp>,
}

impl State {
    /// A write was refused. A terminal that takes connections goes on doing so: whatever could not be changed was there before its pod was
    /// made.
    pub fn after_failure(self, reason: Reason, message: String) -> Self {
        if self.phase == Phase::Running {
            return Self {
                not_applied: Some((reason, message)),
                ..self
            };
        }
        failed(self, reason, message)
    }
}

pub fn failed(state: State, reason: Reason, message: String) -> State {
    State {
        phase: Phase::Failed,
        reason,
        message,
        ..state
    }
}

pub fn stopped(workspace: &ValidWorkspace, last: &WorkspaceStatus, state: State) -> State {
    let was_idle =
        |status: &WorkspaceStatus| status.phase == Some(Phase::Stopped) && status.stop_reason == Some(StopReason::Idle);
    let message = match state.stop_reason {
        _ if workspace.suspended => "Suspended: it does not start until an administrator allows it".to_owned(),
        // The time that was allowed then, whatever it is now.
        Some(StopReason::Idle) if was_idle(last) => last.message.clone(),
        Some(StopReason::Idle) => format!("Stopped: {}; it starts again on the next visit", idleness(workspace)),
        _ => "Stopped; it starts again on the next visit".to_owned(),
    };
    State {
        phase: Phase::Stopped,
        reason: if workspace.suspended {
            Reason::Suspended
        } else {
            Reason::Stopped
        },
        message,
        pod_failures: 0,
        ..state
    }
}

/// What it is to be idle, in words.
pub(super) fn idleness(workspace: &ValidWorkspace) -> String {
    let nobody = match workspace.keep_alive {
        KeepAlive::Input => "nobody has typed",
        KeepAlive::Connected => "no terminal is open and nobody has typed",
        KeepAlive::Output => "nobody has typed and nothing was printed",
    };
    let timeout = workspace.idle_timeout.map(GoDuration);
    timeout.map_or_else(|| nobody.to_owned(), |timeout| format!("{nobody} for {timeout}"))
}

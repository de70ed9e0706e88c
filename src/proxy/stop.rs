//! Why a conversation is ended from here becomes the client's close frame, the last line of its terminal, and a word for logs.

use super::close::Close;
use crate::api::status::StopReason;

/// Why the caller ends a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    SessionExpired,
    /// The provider was to confirm the session, and does not answer. It is not over by that.
    SessionUnconfirmed,
    /// By an administrator, by the provider, or by signing out.
    SessionRevoked,
    /// Nobody has used it for as long as a session may be left alone.
    SessionIdle,
    /// The gateway does not know any more who may be here.
    WatchLost,
    /// The workspace is being stopped.
    Workspace(StopReason),
    /// The Workspace was deleted.
    Deleted,
    /// What is said can't be recorded, and must be.
    NotRecorded,
    Shutdown,
}

impl Stop {
    /// Every one that there is.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::SessionExpired,
            Self::SessionUnconfirmed,
            Self::SessionRevoked,
            Self::SessionIdle,
            Self::WatchLost,
            Self::Deleted,
            Self::NotRecorded,
            Self::Shutdown,
        ];
        others
            .into_iter()
            .chain(StopReason::ALL.iter().copied().map(Self::Workspace))
    }

    /// The word for logs and audit lines.
    pub fn reason(self) -> &'static str {
        match self {
            Self::SessionExpired => "session_expired",
            Self::SessionUnconfirmed => "session_unconfirmed",
            Self::SessionRevoked => "session_revoked",
            Self::SessionIdle => "session_idle",
            Self::WatchLost => "watch_lost",
            Self::Workspace(StopReason::Idle) => "workspace_idle",
            Self::Workspace(StopReason::Suspended) => "suspended",
            Self::Workspace(StopReason::Restart) => "workspace_restart",
            Self::Workspace(StopReason::Update) => "workspace_update",
            Self::Workspace(StopReason::Ended) => "workspace_ended",
            Self::Deleted => "workspace_deleted",
            Self::NotRecorded => "not_recorded",
            Self::Shutdown => "shutdown",
        }
    }

    /// What the client is closed with.
    pub(super) fn close(self) -> Close {
        match self {
            Self::SessionExpired | Self::SessionRevoked => Close::SIGNED_OUT,
            Self::SessionIdle => Close::SESSION_IDLE,
            Self::SessionUnconfirmed => Close::NO_PROVIDER,
            Self::WatchLost => Close::LOST_TOUCH,
            Self::Workspace(StopReason::Suspended) => Close::SUSPENDED,
            Self::Workspace(reason) => Close::stopped(reason.word()),
            Self::Deleted => Close::stopped("deleted"),
            Self::NotRecorded => Close::NOT_RECORDED,
            Self::Shutdown => Close::RESTART,
        }
    }

    /// Who stops the workspace and why, for the one who is looking at its terminal. `None` where the terminal goes on elsewhere.
    pub(super) fn last_line(self) -> Option<&'static str> {
        match self {
            Self::SessionExpired
            | Self::SessionUnconfirmed
            | Self::SessionRevoked
            | Self::SessionIdle
            | Self::WatchLost
            | Self::Shutdown => None,
            Self::Workspace(StopReason::Idle) => Some(
                "This workspace is being stopped: nobody has used it for as long as is allowed. It starts again when you want it.",
            ),
            Self::Workspace(StopReason::Suspended) => {
                Some("This workspace is being stopped: an administrator has suspended it.")
            }
            Self::Workspace(StopReason::Restart) => {
                Some("This workspace is being restarted: you or an administrator asked for it.")
            }
            Self::Workspace(StopReason::Update) => {
                Some("This workspace is being restarted: the platform has new settings for it.")
            }
            Self::Workspace(StopReason::Ended) => Some("This workspace has ended unexpectedly, and is started again."),
            Self::Deleted => Some("This workspace is being stopped: it was deleted."),
            Self::NotRecorded => {
                Some("This session ends: it must be recorded, and that is not possible at the moment.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stop_of_a_workspace_is_told_in_plain_text() {
        for reason in StopReason::ALL {
            let stop = Stop::Workspace(*reason);
            let line = stop.last_line().unwrap();
            assert!(line.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{line}");
            assert!((4400..4500).contains(&stop.close().code), "{stop:?}");
        }
        assert_eq!(
            Stop::Workspace(StopReason::Idle).close(),
            Close {
                code: 4410,
                reason: "idle"
            }
        );
        assert_eq!(Stop::Deleted.close().reason, "deleted");
        assert_eq!(Stop::Workspace(StopReason::Suspended).close(), Close::SUSPENDED);
    }
}

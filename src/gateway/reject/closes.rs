//! Each refusal's close code, for a page that asked for a terminal.

use super::Rejection;
use crate::proxy::Close;

impl Rejection {
    /// What our own page is closed with; `None` for what an HTTP answer says to whoever asks.
    pub fn close(&self) -> Option<Close> {
        Some(match self {
            Self::SignedOut | Self::SessionExpired => Close::SIGNED_OUT,
            Self::NotAllowed { .. }
            | Self::ForeignWorkspace { .. }
            | Self::UnboundWorkspace { .. }
            | Self::SeveralWorkspaces { .. }
            | Self::NotOffered
            | Self::SessionsRevoked { .. } => Close::FORBIDDEN,
            Self::WorkspaceSuspended { .. } => Close::SUSPENDED,
            Self::WorkspaceGone | Self::WorkspaceDeleting { .. } => Close::stopped("deleted"),
            Self::WorkspaceNotReady => Close::NOT_READY,
            Self::WorkspaceUnavailable | Self::NotWatched => Close::UNAVAILABLE,
            Self::RateLimited { .. } => Close::RATE_LIMITED,
            Self::ProviderUnavailable | Self::SessionUnconfirmed => Close::NO_PROVIDER,
            Self::NotRecorded => Close::NOT_RECORDED,
            Self::TooManyTerminals => Close::TOO_MANY,
            Self::GatewayFull => Close::FULL,
            Self::InvalidToken
            | Self::TokenExpired
            | Self::WrongAudience
            | Self::ForeignOrigin
            | Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::NotAWebSocket
            | Self::BadHandshake
            | Self::UnknownSignIn
            | Self::InvalidLogout
            | Self::LogoutFailed
            | Self::NotRevoked { .. }
            | Self::TooManyStreams
            | Self::SignInDenied
            | Self::SignInFailed
            | Self::BadTarget
            | Self::LargeBody
            | Self::SlowBody => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_page_is_told_what_helps() {
        let name = || "dev1".to_owned();
        for (rejection, code) in [
            // To the sign-in.
            (Rejection::SessionExpired, Some(4401)),
            // To the page that says why.
            (Rejection::ForeignWorkspace { name: name() }, Some(4403)),
            (Rejection::WorkspaceSuspended { name: name() }, Some(4403)),
            // Again, by itself.
            (Rejection::RateLimited { wait: Duration::ZERO }, Some(1013)),
            (Rejection::WorkspaceNotReady, Some(1013)),
            (Rejection::NotRecorded, Some(4503)),
            (Rejection::TooManyTerminals, Some(4429)),
            // Another site's page learns nothing of it.
            (Rejection::ForeignOrigin, None),
        ] {
            assert_eq!(rejection.close().map(|close| close.code), code, "{rejection:?}");
        }
    }
}

//! A refusal becomes an answer: the only place that chooses status codes and error codes.

mod closes;
mod parts;

use super::pages::MessagePage;
use super::respond::{self, Answer};
use super::workspaces::EnsureError;
use crate::oidc::{NotAllowed, SignInError, TokenError};
use crate::telemetry::metrics::{GatewayMetrics, JsonApiError, RefusalReason};
use crate::telemetry::request_id::RequestId;
use jiff::Timestamp;
use parts::Parts;
use serde::Serialize;
use std::time::Duration;

/// Why a request is not answered as it was meant. Holds nothing that its sender may not know.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Nobody is signed in.
    SignedOut,
    SessionExpired,
    /// The Workspace that the session was for was deleted.
    WorkspaceGone,
    InvalidToken,
    TokenExpired,
    /// The token is for another audience.
    WrongAudience,
    /// The request comes from another site's page.
    ForeignOrigin,
    NotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
    /// A WebSocket's path without a WebSocket's handshake.
    NotAWebSocket,
    BadHandshake,
    RateLimited {
        wait: Duration,
    },
    ProviderUnavailable,
    /// The provider is to confirm the session, and does not answer. It may still stand.
    SessionUnconfirmed,
    /// The sign-in is not one that this browser began, or began too long ago.
    UnknownSignIn,
    /// What the provider says of someone who signed out can't be believed.
    InvalidLogout,
    /// Or can't be acted upon now.
    LogoutFailed,
    /// Signed out in the browser, and nowhere else.
    NotRevoked {
        session: String,
    },
    /// The provider did not let the person in.
    SignInDenied,
    /// The provider's answer could not be used.
    SignInFailed,
    /// Whoever signs in is out at once, until `before`.
    SessionsRevoked {
        before: Timestamp,
    },
    /// Who it is is known, and that they may not enter.
    NotAllowed {
        why: NotAllowed,
    },
    ForeignWorkspace {
        name: String,
    },
    UnboundWorkspace {
        name: String,
    },
    SeveralWorkspaces {
        names: Vec<String>,
    },
    WorkspaceDeleting {
        name: String,
    },
    WorkspaceSuspended {
        name: String,
    },
    /// No class of workspaces is for the person's groups.
    NotOffered,
    WorkspaceUnavailable,
    /// This gateway hears nothing of the Workspaces.
    NotWatched,
    WorkspaceNotReady,
    /// Sessions must be recorded, and this one can't be.
    NotRecorded,
    /// The user has as many terminals open as one may have.
    TooManyTerminals,
    /// The user follows their workspace as often as one may.
    TooManyStreams,
    /// This gateway has as many open as it may have.
    GatewayFull,
    /// It does not say, or says twice, to whom it is sent.
    BadTarget,
    LargeBody,
    SlowBody,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    error: &'static str,
    message: String,
    request_id: &'a str,
}

impl Rejection {
    /// What is said of a request that is refused whoever sends it.
    pub fn of(reason: RefusalReason) -> Self {
        match reason {
            RefusalReason::LargeBody => Self::LargeBody,
            RefusalReason::SlowBody => Self::SlowBody,
            RefusalReason::MalformedBody => Self::InvalidLogout,
            RefusalReason::TooManyTerminalsOfUser => Self::TooManyTerminals,
            RefusalReason::TooManyTerminals | RefusalReason::TooManyConnections => Self::GatewayFull,
            _ => Self::BadTarget,
        }
    }

    /// Whether signing in is the way on.
    pub fn is_signed_out(&self) -> bool {
        matches!(self, Self::SignedOut | Self::SessionExpired | Self::WorkspaceGone)
    }

    /// A page for a person, or JSON for a program.
    ///
    /// `contact` is whom a person may ask; empty when nobody said.
    pub fn answer(&self, html: bool, id: &RequestId, contact: &str, metrics: &GatewayMetrics) -> Answer {
        let Parts {
            status,
            code,
            title,
            text,
            hint,
            ask,
            action,
            header,
        } = self.parts();
        let whom = match (ask, contact) {
            (false, _) => String::new(),
            (true, "") => "Ask the administrator of your cluster.".to_owned(),
            (true, contact) => format!("Whom to ask: {contact}"),
        };
        let hint = format!("{hint} {whom}");
        let hint = hint.trim();
        let mut answer = if html {
            respond::page(status, &MessagePage::new(title, &text, hint, action, id.as_str()))
        } else {
            let label = JsonApiError {
                http_status: status.as_u16(),
                error_code: code,
            };
            metrics.json_api_errors.get_or_create(&label).inc();
            let body = ErrorBody {
                error: code,
                message: format!("{text} {hint}").trim_end().to_owned(),
                request_id: id.as_str(),
            };
            respond::json(status, &body)
        };
        if let Some((name, value)) = header {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}

impl From<&TokenError> for Rejection {
    fn from(error: &TokenError) -> Self {
        match error {
            TokenError::Expired => Self::TokenExpired,
            TokenError::Audience | TokenError::AuthorizedParty => Self::WrongAudience,
            TokenError::Provider { .. } => Self::ProviderUnavailable,
            TokenError::NotAllowed { why } => Self::NotAllowed { why: *why },
            _ => Self::InvalidToken,
        }
    }
}

impl From<&SignInError> for Rejection {
    fn from(error: &SignInError) -> Self {
        match error {
            SignInError::Token {
                source: TokenError::NotAllowed { why },
            } => Self::NotAllowed { why: *why },
            error if error.is_provider_unavailable() => Self::ProviderUnavailable,
            _ => Self::SignInFailed,
        }
    }
}

impl From<EnsureError> for Rejection {
    fn from(error: EnsureError) -> Self {
        match error {
            EnsureError::NotWatched => Self::NotWatched,
            EnsureError::Ambiguous { names } => Self::SeveralWorkspaces { names },
            EnsureError::OtherOwner { name } => Self::ForeignWorkspace { name },
            EnsureError::NoOwner { name } => Self::UnboundWorkspace { name },
            EnsureError::Deleting { name } => Self::WorkspaceDeleting { name },
            EnsureError::Suspended { name } => Self::WorkspaceSuspended { name },
            EnsureError::NotOffered => Self::NotOffered,
            EnsureError::Api { .. } => Self::WorkspaceUnavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs of version 1.1 rely on these.
    #[test]
    fn codes_of_the_api() {
        for (rejection, status, code) in [
            (Rejection::SignedOut, 401, "unauthorized"),
            (Rejection::InvalidToken, 401, "unauthorized"),
            (Rejection::SessionExpired, 401, "token_expired"),
            (Rejection::WorkspaceGone, 401, "token_expired"),
            (Rejection::TokenExpired, 401, "token_expired"),
            (Rejection::WrongAudience, 403, "forbidden"),
            (Rejection::ForeignOrigin, 403, "forbidden"),
            (Rejection::RateLimited { wait: Duration::ZERO }, 429, "rate_limited"),
            (Rejection::WorkspaceUnavailable, 500, "workspace_unavailable"),
            (Rejection::WorkspaceNotReady, 503, "workspace_not_ready"),
            (Rejection::NotWatched, 503, "workspace_not_ready"),
        ] {
            let parts = rejection.parts();
            assert_eq!((parts.status.as_u16(), parts.code), (status, code), "{rejection:?}");
        }
    }

    #[test]
    fn only_json_counts_as_an_api_error() {
        let metrics = GatewayMetrics::default();
        let id = RequestId::of(&hyper::HeaderMap::new(), 1);
        let page = Rejection::NotFound.answer(true, &id, "", &metrics);
        assert_eq!(page.status(), 404);
        assert!(!metrics.encode().contains("not_found"));
        let json = Rejection::NotFound.answer(false, &id, "", &metrics);
        assert_eq!(json.headers()["content-type"], "application/json");
        assert!(
            metrics
                .encode()
                .contains(r#"http_status="404",error_code="not_found"} 1"#)
        );
    }
}

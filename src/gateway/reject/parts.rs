//! Each refusal's status, code, words and way on.

use super::Rejection;
use crate::api::Reason;
use crate::api::hint::remediation;
use crate::gateway::pages::Link;
use crate::gateway::route::LOGIN;
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use jiff::Timestamp;
use std::borrow::Cow;
use std::time::Duration;

/// What a rejection looks like.
pub struct Parts {
    pub status: StatusCode,
    /// For programs: `error` of the JSON.
    pub code: &'static str,
    pub title: &'static str,
    pub text: Cow<'static, str>,
    pub hint: &'static str,
    /// Whether only someone else can help.
    pub ask: bool,
    pub action: Link,
    /// One more header.
    pub header: Option<(HeaderName, HeaderValue)>,
}

const SIGN_IN: Link = Link {
    label: "Sign in",
    href: LOGIN,
};
const AGAIN: Link = Link {
    label: "Try again",
    href: "/",
};
const HOME: Link = Link {
    label: "Go to your workspace",
    href: "/",
};
/// RFC 6750, section 3.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"devplane\"");
const INVALID_TOKEN: HeaderValue = HeaderValue::from_static("Bearer realm=\"devplane\", error=\"invalid_token\"");
/// Seconds until a client may ask again for a workspace that starts.
const SOON: HeaderValue = HeaderValue::from_static("2");

impl Rejection {
    pub(super) fn parts(&self) -> Parts {
        let parts = |status, code, title, text: &'static str| Parts {
            status,
            code,
            title,
            text: Cow::Borrowed(text),
            hint: "",
            ask: false,
            action: AGAIN,
            header: None,
        };
        match self {
            Self::SignedOut => Parts {
                action: SIGN_IN,
                header: Some((WWW_AUTHENTICATE, CHALLENGE)),
                ..parts(
                    StatusCode::UNAUTHORIZED,
                    "unauthorized",
                    "Not signed in",
                    "This needs a signed-in user. Programs send an ID token as `Authorization: Bearer`.",
                )
            },
            Self::SessionExpired => Parts {
                action: SIGN_IN,
                header: Some((WWW_AUTHENTICATE, CHALLENGE)),
                ..parts(
                    StatusCode::UNAUTHORIZED,
                    "token_expired",
                    "Session expired",
                    "The session has ended. Sign in again.",
                )
            },
            Self::WorkspaceGone => Parts {
                action: SIGN_IN,
                header: Some((WWW_AUTHENTICATE, CHALLENGE)),
                ..parts(
                    StatusCode::UNAUTHORIZED,
                    "token_expired",
                    "Workspace deleted",
                    "The workspace that the session was for was deleted, and the session ended with it. Sign in again for a new one.",
                )
            },
            Self::InvalidToken => Parts {
                action: SIGN_IN,
                header: Some((WWW_AUTHENTICATE, INVALID_TOKEN)),
                ..parts(
                    StatusCode::UNAUTHORIZED,
                    "unauthorized",
                    "Token refused",
                    "The Authorization header holds no ID token of the configured issuer that can be verified. Get a new one, and send it as `Authorization: Bearer`.",
                )
            },
            Self::TokenExpired => Parts {
                action: SIGN_IN,
                header: Some((WWW_AUTHENTICATE, INVALID_TOKEN)),
                ..parts(
                    StatusCode::UNAUTHORIZED,
                    "token_expired",
                    "Token expired",
                    "The ID token has expired. Get a new one.",
                )
            },
            Self::WrongAudience => parts(
                StatusCode::FORBIDDEN,
                "forbidden",
                "Token for another audience",
                "The ID token was made for another audience than this gateway. Get one for the client that the gateway is at the identity provider.",
            ),
            Self::ForeignOrigin => Parts {
                action: HOME,
                ..parts(
                    StatusCode::FORBIDDEN,
                    "forbidden",
                    "Refused",
                    "The request does not come from this gateway's own page: its Origin header is another one, or missing. Open the page at its own address; programs send an ID token as `Authorization: Bearer`.",
                )
            },
            Self::NotFound => Parts {
                action: HOME,
                ..parts(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    "Not found",
                    "There is nothing at this address. Your workspace is at `/`.",
                )
            },
            Self::MethodNotAllowed { allow } => Parts {
                action: HOME,
                header: Some((ALLOW, HeaderValue::from_static(allow))),
                ..parts(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    "Not possible",
                    "This address does not take that method. Use one that the Allow header lists.",
                )
            },
            Self::NotAWebSocket => Parts {
                action: HOME,
                header: Some((UPGRADE, HeaderValue::from_static("websocket"))),
                ..parts(
                    StatusCode::UPGRADE_REQUIRED,
                    "upgrade_required",
                    "A WebSocket is needed",
                    "This address takes WebSocket connections only. Open your workspace at `/`, or ask with a WebSocket's handshake.",
                )
            },
            Self::BadHandshake => Parts {
                action: HOME,
                ..parts(
                    StatusCode::BAD_REQUEST,
                    "bad_request",
                    "Not a handshake",
                    "A terminal needs WebSocket version 13, a Sec-WebSocket-Key and the subprotocol `tty`. Send all of them.",
                )
            },
            Self::RateLimited { wait } => Parts {
                header: Some((RETRY_AFTER, seconds(*wait))),
                ..parts(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limited",
                    "Too many requests",
                    "Wait a moment, then try again; the Retry-After header says how many seconds.",
                )
            },
            Self::TooManyTerminals => Parts {
                action: HOME,
                ..parts(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too_many_terminals",
                    "Too many terminals",
                    "As many terminals of yours are open as one user may have. Close another one, then try again.",
                )
            },
            Self::TooManyStreams => Parts {
                action: HOME,
                header: Some((RETRY_AFTER, HeaderValue::from_static("30"))),
                ..parts(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too_many_streams",
                    "Too many followers",
                    "Your workspace is followed as often as one user may. Close a tab or a program that does, then try again.",
                )
            },
            Self::GatewayFull => Parts {
                header: Some((RETRY_AFTER, HeaderValue::from_static("30"))),
                ..parts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "gateway_full",
                    "No place for another terminal",
                    "As many terminals are open here as there may be. Try again later.",
                )
            },
            Self::BadTarget => Parts {
                action: HOME,
                ..parts(
                    StatusCode::BAD_REQUEST,
                    "bad_request",
                    "Not a request",
                    "A request names its host once: in one Host header, which its target does not contradict. Send it so; if you did, ask whoever runs the proxy in front.",
                )
            },
            Self::LargeBody => parts(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "Too large",
                "The request's body is larger than what this address takes. Send a smaller one.",
            ),
            Self::SlowBody => parts(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "Too slow",
                "The request's body did not come in in time. Send it again.",
            ),
            Self::ProviderUnavailable => Parts {
                hint: "The gateway tries again by itself; its log says why it can't.",
                header: Some((RETRY_AFTER, HeaderValue::from_static("5"))),
                ..parts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "provider_unavailable",
                    "Sign-in is not possible now",
                    "The identity provider can't be reached.",
                )
            },
            Self::SessionUnconfirmed => Parts {
                hint: "Load the page again in a minute, or sign in again.",
                action: SIGN_IN,
                header: Some((RETRY_AFTER, HeaderValue::from_static("30"))),
                ..parts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "session_unconfirmed",
                    "Your session can't be confirmed now",
                    "The identity provider is asked every now and then whether your session still stands, and does not answer at the moment.",
                )
            },
            Self::UnknownSignIn => Parts {
                action: SIGN_IN,
                ..parts(
                    StatusCode::BAD_REQUEST,
                    "sign_in_unknown",
                    "Sign-in not completed",
                    "This sign-in was begun in another browser, more than ten minutes ago, or was used already.",
                )
            },
            // Back-Channel Logout 1.0, section 2.8: 400 for both.
            Self::InvalidLogout => parts(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "Not a logout token",
                "The form has no field logout_token, or one that can't be believed. Look into the gateway's log, which says why.",
            ),
            Self::LogoutFailed => parts(
                StatusCode::BAD_REQUEST,
                "logout_failed",
                "Nobody was signed out",
                "The session could not be ended now. Send the token again.",
            ),
            Self::NotRevoked { session } => Parts {
                text: Cow::Owned(format!(
                    "You are signed out in this browser only: the cluster could not be told that your session {session} has ended. Terminals that are open elsewhere go on."
                )),
                hint: "Close them, and sign out at the identity provider too; this page goes on to it by itself where it can. To be sure, have that session ended by its name.",
                ask: true,
                action: SIGN_IN,
                ..parts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "not_revoked",
                    "Signed out in this browser only",
                    "",
                )
            },
            Self::SignInDenied => Parts {
                action: SIGN_IN,
                ..parts(
                    StatusCode::FORBIDDEN,
                    "sign_in_denied",
                    "Sign-in denied",
                    "The identity provider did not let you in.",
                )
            },
            Self::SignInFailed => Parts {
                action: SIGN_IN,
                hint: "If it happens again, show this page to the administrator: the log has the reason.",
                ..parts(
                    StatusCode::BAD_GATEWAY,
                    "sign_in_failed",
                    "Sign-in failed",
                    "The identity provider's answer can't be used.",
                )
            },
            Self::SessionsRevoked { before } => Parts {
                text: match *before {
                    last if last == Timestamp::MAX => Cow::Borrowed(
                        "An administrator has ended all sessions of yours, with a time that can't be read; until it is mended, nobody can sign in as you.",
                    ),
                    before => Cow::Owned(format!(
                        "An administrator has ended all sessions of yours that begin before {before:.0}."
                    )),
                },
                hint: "Sign in again after that, or have the annotation workspace.devplane.io/sessions-revoked-before of your workspace set to an earlier time.",
                ask: true,
                action: SIGN_IN,
                ..parts(StatusCode::FORBIDDEN, "forbidden", "Your sessions are ended", "")
            },
            Self::NotAllowed { why } => Parts {
                text: Cow::Owned(format!(
                    "You are signed in, but you may not use this service. {}",
                    why.sentence()
                )),
                hint: "When that has been changed at the identity provider, sign in again.",
                ask: true,
                action: SIGN_IN,
                ..parts(StatusCode::FORBIDDEN, "forbidden", "No access", "")
            },
            Self::ForeignWorkspace { name } => Parts {
                text: Cow::Owned(format!("The workspace {name} belongs to another user.")),
                ask: true,
                ..parts(StatusCode::FORBIDDEN, "forbidden", "Not your workspace", "")
            },
            Self::UnboundWorkspace { name } => Parts {
                text: Cow::Owned(format!(
                    "The workspace {name} does not say whose it is: its spec.user.issuer and spec.user.subject are not set."
                )),
                hint: "An administrator sets both fields to the owner's `iss` and `sub`.",
                ask: true,
                ..parts(StatusCode::FORBIDDEN, "forbidden", "Workspace without an owner", "")
            },
            Self::SeveralWorkspaces { names } => Parts {
                text: Cow::Owned(format!(
                    "Several workspaces record you as their owner: {}.",
                    names.join(", ")
                )),
                hint: "An administrator leaves spec.user.issuer and spec.user.subject on one of them only.",
                ask: true,
                ..parts(StatusCode::FORBIDDEN, "forbidden", "More than one workspace", "")
            },
            Self::WorkspaceDeleting { name } => Parts {
                text: Cow::Owned(format!(
                    "The workspace {name} is being deleted. Try again when it is gone."
                )),
                header: Some((RETRY_AFTER, SOON)),
                ..parts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "workspace_not_ready",
                    "Workspace is being deleted",
                    "",
                )
            },
            Self::WorkspaceSuspended { name } => Parts {
                text: Cow::Owned(format!(
                    "The workspace {name} was suspended by an administrator. Your files are kept."
                )),
                hint: remediation(Reason::Suspended),
                ask: true,
                ..parts(StatusCode::FORBIDDEN, "forbidden", "Workspace suspended", "")
            },
            Self::NotOffered => Parts {
                hint: "With a group that may have one, sign in again.",
                ask: true,
                ..parts(
                    StatusCode::FORBIDDEN,
                    "forbidden",
                    "No workspace for you",
                    "None of your groups may have a workspace of this class.",
                )
            },
            Self::WorkspaceUnavailable => Parts {
                hint: "If it happens again, show this page to the administrator: the log has the reason.",
                ..parts(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "workspace_unavailable",
                    "No workspace",
                    "The cluster refused to find or make your workspace.",
                )
            },
            Self::NotRecorded => Parts {
                header: Some((RETRY_AFTER, SOON)),
                ..parts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "not_recorded",
                    "Not recorded",
                    "Sessions are recorded here, and that is not possible at the moment.",
                )
            },
            Self::NotWatched => Parts {
                hint: "Load the page again in a moment: the gateway goes on by itself when the cluster answers, and another replica may be well. If it lasts, show this page to the administrator.",
                header: Some((RETRY_AFTER, SOON)),
                ..parts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "workspace_not_ready",
                    "The gateway is cut off",
                    "This gateway hears nothing of the cluster's API server, and without that nobody is let in: it can't know whose sessions were ended.",
                )
            },
            Self::WorkspaceNotReady => Parts {
                header: Some((RETRY_AFTER, SOON)),
                ..parts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "workspace_not_ready",
                    "Not ready yet",
                    "The workspace is starting. /api/workspace/events tells when it is ready.",
                )
            },
        }
    }
}

/// Whole seconds, at least one (RFC 9110, section 10.2.3).
fn seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from((wait.as_secs_f64().ceil() as u64).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of those that are met by programs: the others have a hint, or say whom to ask.
    #[test]
    fn a_refusal_says_what_to_do_next() {
        for rejection in [
            Rejection::SessionExpired,
            Rejection::WorkspaceGone,
            Rejection::InvalidToken,
            Rejection::TokenExpired,
            Rejection::WrongAudience,
            Rejection::ForeignOrigin,
            Rejection::NotFound,
            Rejection::MethodNotAllowed { allow: "GET" },
            Rejection::NotAWebSocket,
            Rejection::BadHandshake,
            Rejection::RateLimited { wait: Duration::ZERO },
            Rejection::TooManyTerminals,
            Rejection::TooManyStreams,
            Rejection::BadTarget,
            Rejection::LargeBody,
            Rejection::SlowBody,
            Rejection::InvalidLogout,
            Rejection::LogoutFailed,
        ] {
            let text = rejection.parts().text;
            let says = |step: &&str| text.contains(*step);
            let steps = [
                "Sign in",
                "Get ",
                "Open ",
                "Use ",
                "Send ",
                "Close ",
                "Wait ",
                "Look ",
                "is at `/`",
            ];
            assert!(steps.iter().any(says), "{rejection:?}: {text}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up() {
        assert_eq!(seconds(Duration::ZERO), "1");
        assert_eq!(seconds(Duration::from_millis(1200)), "2");
    }
}

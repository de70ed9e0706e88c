//! What someone did, or was refused, becomes one JSON line that can be kept as evidence.
//!
//! Every event is one variant of [`Event`]; none has a field that could hold a token, a cookie, a secret or a header. The
//! keys are stable: schema version `1`.

use crate::api::Phase;

/// The `tracing` target of audit lines; filters never drop it.
pub const TARGET: &str = "devplane_audit";

/// The version of the keys below.
pub const SCHEMA_VERSION: &str = "1";

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    Denied,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }
}

/// What was done to a Workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Get,
    Restart,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Restart => "restart",
        }
    }
}

/// The person and the request of a gateway event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Actor<'a> {
    pub request_id: &'a str,
    /// The exact `sub`, once it is known.
    pub subject: Option<&'a str>,
    pub user_id: Option<&'a str>,
}

/// The Workspace that an event is about.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub namespace: &'a str,
    pub workspace: &'a str,
}

/// An event worth keeping.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A browser was sent to the provider.
    LoginRedirect {
        actor: Actor<'a>,
    },
    CallbackSuccess {
        actor: Actor<'a>,
    },
    /// `reason` is a fixed word, never text of the provider or the request.
    CallbackFailure {
        actor: Actor<'a>,
        reason: &'static str,
    },
    TokenRejected {
        actor: Actor<'a>,
        reason: &'static str,
    },
    RateLimitExceeded {
        actor: Actor<'a>,
        reason: &'static str,
    },
    EnsureExists {
        actor: Actor<'a>,
        target: Target<'a>,
        action: Action,
        outcome: Outcome,
        reason: &'static str,
    },
    EnsureRunning {
        actor: Actor<'a>,
        target: Target<'a>,
        action: Action,
        outcome: Outcome,
        reason: &'static str,
    },
    SessionStart {
        actor: Actor<'a>,
        target: Target<'a>,
    },
    SessionEnd {
        actor: Actor<'a>,
        target: Target<'a>,
        reason: &'static str,
    },
    /// A session is not recorded, or not wholly, though it should be.
    RecordingFailed {
        actor: Actor<'a>,
        target: Target<'a>,
        reason: &'static str,
    },
    PhaseTransition {
        target: Target<'a>,
        user_id: &'a str,
        from: Option<Phase>,
        to: Phase,
        reason: &'static str,
        pod: &'a str,
        service_endpoint: &'a str,
        message: &'a str,
    },
}

/// The keys of one line. What is absent is left out.
#[derive(Default)]
struct Line<'a> {
    component: &'static str,
    event: &'static str,
    actor: Actor<'a>,
    target: Option<Target<'a>>,
    action: Option<Action>,
    outcome: Option<Outcome>,
    reason: Option<&'static str>,
    transition: Option<Transition<'a>>,
}

struct Transition<'a> {
    from: Option<Phase>,
    to: Phase,
    pod: &'a str,
    service_endpoint: &'a str,
    message: &'a str,
}

impl<'a> From<&Event<'a>> for Line<'a> {
    fn from(event: &Event<'a>) -> Self {
        let gateway = |event, actor, outcome| Line {
            component: "gateway",
            event,
            actor,
            outcome: Some(outcome),
            ..Line::default()
        };
        match *event {
            Event::LoginRedirect { actor } => gateway("devplane.audit.oidc.login.redirect", actor, Outcome::Success),
            Event::CallbackSuccess { actor } => {
                gateway("devplane.audit.oidc.callback.success", actor, Outcome::Success)
            }
            Event::CallbackFailure { actor, reason } => Line {
                reason: Some(reason),
                ..gateway("devplane.audit.oidc.callback.failure", actor, Outcome::Failure)
            },
            Event::TokenRejected { actor, reason } => Line {
                reason: Some(reason),
                ..gateway("devplane.audit.auth.token.rejected", actor, Outcome::Denied)
            },
            Event::RateLimitExceeded { actor, reason } => Line {
                reason: Some(reason),
                ..gateway("devplane.audit.rate_limit.exceeded", actor, Outcome::Denied)
            },
            Event::EnsureExists {
                actor,
                target,
                action,
                outcome,
                reason,
            } => Line {
                target: Some(target),
                action: Some(action),
                reason: Some(reason),
                ..gateway("devplane.audit.workspace.ensure_exists", actor, outcome)
            },
            Event::EnsureRunning {
                actor,
                target,
                action,
                outcome,
                reason,
            } => Line {
                target: Some(target),
                action: Some(action),
                reason: Some(reason),
                ..gateway("devplane.audit.workspace.ensure_running", actor, outcome)
            },
            Event::SessionStart { actor, target } => Line {
                target: Some(target),
                ..gateway("devplane.audit.ws.session.start", actor, Outcome::Success)
            },
            Event::SessionEnd { actor, target, reason } => Line {
                target: Some(target),
                reason: Some(reason),
                ..gateway("devplane.audit.ws.session.end", actor, Outcome::Success)
            },
            Event::RecordingFailed { actor, target, reason } => Line {
                target: Some(target),
                reason: Some(reason),
                ..gateway("devplane.audit.recording.failed", actor, Outcome::Failure)
            },
            Event::PhaseTransition {
                target,
                user_id,
                from,
                to,
                reason,
                pod,
                service_endpoint,
                message,
            } => Line {
                component: "workspace-controller",
                event: "devplane.audit.workspace.phase_transition",
                actor: Actor {
                    request_id: "",
                    subject: None,
                    user_id: Some(user_id),
                },
                target: Some(target),
                action: None,
                outcome: Some(if to == Phase::Failed {
                    Outcome::Failure
                } else {
                    Outcome::Success
                }),
                reason: Some(reason),
                transition: Some(Transition {
                    from,
                    to,
                    pod,
                    service_endpoint,
                    message,
                }),
            },
        }
    }
}

/// Writes one event.
pub fn emit(event: &Event<'_>) {
    let Line {
        component,
        event,
        actor,
        target,
        action,
        outcome,
        reason,
        transition,
    } = Line::from(event);
    let transition = transition.as_ref();
    tracing::event!(target: TARGET, tracing::Level::INFO, {
        devplane.audit.schema_version = SCHEMA_VERSION,
        devplane.component = component,
        devplane.event = event,
        devplane.request_id = (!actor.request_id.is_empty()).then_some(actor.request_id),
        actor.subject = actor.subject,
        userId = actor.user_id,
        namespace = target.map(|target| target.namespace),
        workspace = target.map(|target| target.workspace),
        action = action.map(Action::as_str),
        outcome = outcome.map(Outcome::as_str),
        reason = reason,
        fromPhase = transition.map(|t| t.from.map_or("", Phase::as_str)),
        toPhase = transition.map(|t| t.to.as_str()),
        pod = transition.map(|t| t.pod),
        serviceEndpoint = transition.map(|t| t.service_endpoint),
        message = transition.map(|t| t.message),
    });
}

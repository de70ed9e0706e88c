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

/// What was done to a Workspace, or to what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Get,
    Restart,
    Update,
    Delete,
    Suspend,
    Resume,
    RevokeSession,
    RevokeSessions,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Restart => "restart",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::RevokeSession => "revoke_session",
            Self::RevokeSessions => "revoke_sessions",
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

/// The program that writes a line, where several write the same event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Component {
    #[default]
    Gateway,
    Operator,
}

impl Component {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Operator => "workspace-controller",
        }
    }
}

/// The recording of a session.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    pub id: &'a str,
    /// The end of its chain; `None` while it goes on, and when its end did not come to disk in time.
    pub final_hash: Option<&'a str>,
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
        recorded: Option<Recorded<'a>>,
    },
    SessionEnd {
        actor: Actor<'a>,
        target: Target<'a>,
        reason: &'static str,
        recorded: Option<Recorded<'a>>,
    },
    /// The gateway revoked a session, or all of a user that began before now: `session` is `None` then.
    SessionRevoked {
        actor: Actor<'a>,
        target: Target<'a>,
        session: Option<&'a str>,
        reason: &'static str,
    },
    /// A program has begun with these settings.
    ConfigLoaded {
        component: Component,
        config_hash: &'a str,
        version: &'a str,
    },
    /// A session is not recorded, or not wholly, though it should be.
    RecordingFailed {
        actor: Actor<'a>,
        target: Target<'a>,
        reason: &'static str,
    },
    /// Somebody changed a Workspace: `field_manager` is what they call themselves there, which the API server keeps
    /// and does not check.
    Administered {
        target: Target<'a>,
        user_id: &'a str,
        request_id: &'a str,
        action: Action,
        field_manager: Option<&'a str>,
        session: Option<&'a str>,
    },
    /// The operator wrote a policy, or took one away: `old` is what was there before, `new` what is there now.
    PolicyChanged {
        target: Target<'a>,
        user_id: &'a str,
        policy: &'a str,
        old: Option<&'a str>,
        new: Option<&'a str>,
    },
    PhaseTransition {
        target: Target<'a>,
        user_id: &'a str,
        /// Of who asked for this start.
        request_id: &'a str,
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
    component: Component,
    event: &'static str,
    actor: Actor<'a>,
    target: Option<Target<'a>>,
    action: Option<Action>,
    outcome: Option<Outcome>,
    reason: Option<&'static str>,
    transition: Option<Transition<'a>>,
    recorded: Option<Recorded<'a>>,
    session: Option<&'a str>,
    config: Option<Config<'a>>,
    field_manager: Option<&'a str>,
    policy: Option<Policy<'a>>,
}

struct Config<'a> {
    hash: &'a str,
    version: &'a str,
}

struct Policy<'a> {
    name: &'a str,
    old: Option<&'a str>,
    new: Option<&'a str>,
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
            component: Component::Gateway,
            event,
            actor,
            outcome: Some(outcome),
            ..Line::default()
        };
        let operator = |event, request_id, user_id, target| Line {
            component: Component::Operator,
            event,
            actor: Actor {
                request_id,
                subject: None,
                user_id: Some(user_id),
            },
            target: Some(target),
            outcome: Some(Outcome::Success),
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
            Event::SessionStart {
                actor,
                target,
                recorded,
            } => Line {
                target: Some(target),
                recorded,
                ..gateway("devplane.audit.ws.session.start", actor, Outcome::Success)
            },
            Event::SessionEnd {
                actor,
                target,
                reason,
                recorded,
            } => Line {
                target: Some(target),
                reason: Some(reason),
                recorded,
                ..gateway("devplane.audit.ws.session.end", actor, Outcome::Success)
            },
            Event::SessionRevoked {
                actor,
                target,
                session,
                reason,
            } => Line {
                target: Some(target),
                session,
                action: Some(match session {
                    Some(_) => Action::RevokeSession,
                    None => Action::RevokeSessions,
                }),
                reason: Some(reason),
                ..gateway("devplane.audit.session.revoked", actor, Outcome::Success)
            },
            Event::ConfigLoaded {
                component,
                config_hash,
                version,
            } => Line {
                component,
                event: "devplane.audit.config.loaded",
                outcome: Some(Outcome::Success),
                config: Some(Config {
                    hash: config_hash,
                    version,
                }),
                ..Line::default()
            },
            Event::RecordingFailed { actor, target, reason } => Line {
                target: Some(target),
                reason: Some(reason),
                ..gateway("devplane.audit.recording.failed", actor, Outcome::Failure)
            },
            Event::Administered {
                target,
                user_id,
                request_id,
                action,
                field_manager,
                session,
            } => Line {
                action: Some(action),
                field_manager,
                session,
                ..operator("devplane.audit.workspace.administered", request_id, user_id, target)
            },
            Event::PolicyChanged {
                target,
                user_id,
                policy,
                old,
                new,
            } => Line {
                action: Some(match (old, new) {
                    (_, None) => Action::Delete,
                    (Some(_), Some(_)) => Action::Update,
                    (None, Some(_)) => Action::Create,
                }),
                policy: Some(Policy { name: policy, old, new }),
                ..operator("devplane.audit.workspace.policy_changed", "", user_id, target)
            },
            Event::PhaseTransition {
                target,
                user_id,
                request_id,
                from,
                to,
                reason,
                pod,
                service_endpoint,
                message,
            } => Line {
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
                ..operator("devplane.audit.workspace.phase_transition", request_id, user_id, target)
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
        recorded,
        session,
        config,
        field_manager,
        policy,
    } = Line::from(event);
    let (transition, config, policy) = (transition.as_ref(), config.as_ref(), policy.as_ref());
    tracing::event!(target: TARGET, tracing::Level::INFO, {
        devplane.audit.schema_version = SCHEMA_VERSION,
        devplane.component = component.as_str(),
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
        session = session,
        recording = recorded.map(|recorded| recorded.id),
        recordingFinalHash = recorded.and_then(|recorded| recorded.final_hash),
        version = config.map(|config| config.version),
        configHash = config.map(|config| config.hash),
        fieldManager = field_manager,
        policy = policy.map(|policy| policy.name),
        oldHash = policy.and_then(|policy| policy.old),
        newHash = policy.and_then(|policy| policy.new),
    });
}

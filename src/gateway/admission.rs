//! A caller becomes the owner of a Workspace: the rules between a request and a workspace, in the order in which they apply.

use super::authn::{Caller, authenticate};
use super::limits::{AdmittedTo, Limited, Tokens};
use super::origin::is_same_origin;
use super::reject::Rejection;
use super::service::{Asked, Gateway};
use super::session::Session;
use super::sign_ins::is_registered;
use super::workspaces::{EnsureError, Ensured};
use crate::api::Workspace;
use crate::audit::{self, Action, Actor, Event, Outcome, Target};
use crate::identity::UserId;
use crate::telemetry::metrics::{RateLimitEndpoint, RateLimitHit};
use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Someone at their own Workspace.
pub struct Admitted {
    pub caller: Caller,
    pub workspace: Arc<Workspace>,
}

/// `authenticate -> same origin -> rate limit -> ensure`. The Workspace is the caller's own: no part of a request names one.
///
/// # Errors
/// At the first rule that is not met.
pub async fn admit(gateway: &Arc<Gateway>, asked: &Asked, to: AdmittedTo) -> Result<Admitted, Rejection> {
    let caller = authenticate(gateway, asked).await?;
    if asked.needs_origin() && !is_same_origin(asked.request.headers(), caller.via, &gateway.public_origin) {
        audit::emit(&Event::TokenRejected {
            actor: caller.actor(asked),
            reason: "foreign_origin",
        });
        return Err(Rejection::ForeignOrigin);
    }
    take(gateway, asked, &caller, to)?;
    let workspace = ensure(gateway, asked, &caller).await?;
    if let Some(session) = caller
        .session
        .as_ref()
        .filter(|session| !is_registered(&workspace, session))
    {
        register(gateway, session.clone(), workspace.name_any(), asked.now);
    }
    Ok(Admitted { caller, workspace })
}

/// Seconds after each try to note a session that failed: together less than the two minutes in which one stands without.
const NOTED_AFTER: [u64; 7] = [1, 2, 5, 10, 20, 30, 30];

/// No request waits for it.
fn register(gateway: &Arc<Gateway>, session: Session, name: String, now: Timestamp) {
    let own = Arc::clone(gateway);
    gateway.drain.spawn(async move {
        for seconds in NOTED_AFTER {
            match own.workspaces.register(&name, &session, now).await {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(session_id = session.id, workspace = name, %error, "a session can't be noted");
                }
                _ => return,
            }
            tokio::select! {
                () = own.drain.stopping() => return,
                () = sleep(Duration::from_secs(seconds)) => {}
            }
        }
    });
}

fn take(gateway: &Gateway, asked: &Asked, caller: &Caller, to: AdmittedTo) -> Result<(), Rejection> {
    let taken = gateway.limits.take(to, &caller.person.identity.subject);
    taken.map_err(|limited| gateway.limited(to.endpoint(), limited, caller.actor(asked)))
}

async fn ensure(gateway: &Gateway, asked: &Asked, caller: &Caller) -> Result<Arc<Workspace>, Rejection> {
    let exists = |name: &str, action, reason| {
        audit::emit(&Event::EnsureExists {
            actor: caller.actor(asked),
            target: gateway.target(name),
            action,
            outcome: Outcome::Success,
            reason,
        });
    };
    match gateway
        .workspaces
        .ensure(&caller.person, asked.id.as_str(), asked.now)
        .await
    {
        Ok(Ensured {
            workspace,
            created,
            woken,
        }) => {
            let name = workspace.name_any();
            if created {
                exists(&name, Action::Create, "created");
            } else {
                exists(&name, Action::Get, "found");
            }
            if woken {
                audit::emit(&Event::EnsureRunning {
                    actor: caller.actor(asked),
                    target: gateway.target(&name),
                    action: Action::Restart,
                    outcome: Outcome::Success,
                    reason: "woken",
                });
            }
            Ok(workspace)
        }
        Err(error) => Err(gateway.without_workspace(error, &caller.user_id, caller.actor(asked))),
    }
}

impl Gateway {
    /// Tells why a user has no Workspace to enter.
    pub fn without_workspace(&self, error: EnsureError, user_id: &UserId, actor: Actor<'_>) -> Rejection {
        tracing::warn!(request_id = actor.request_id, user_id = user_id.as_str(), %error, "no workspace for a user");
        let rejection = Rejection::from(error);
        let (outcome, reason) = match rejection {
            Rejection::ForeignWorkspace { .. } => (Outcome::Denied, "other_owner"),
            Rejection::UnboundWorkspace { .. } => (Outcome::Denied, "no_owner"),
            Rejection::SeveralWorkspaces { .. } => (Outcome::Denied, "ambiguous"),
            Rejection::WorkspaceSuspended { .. } => (Outcome::Denied, "suspended"),
            _ => (Outcome::Failure, "unavailable"),
        };
        audit::emit(&Event::EnsureExists {
            actor,
            target: self.target(user_id.as_str()),
            action: Action::Get,
            outcome,
            reason,
        });
        rejection
    }

    /// One more try to sign in from the address of a request.
    ///
    /// # Errors
    /// When there were too many.
    pub fn take_sign_in(&self, asked: &Asked) -> Result<(), Rejection> {
        let taken = self.limits.take_sign_in(asked.client);
        taken.map_err(|limited| self.limited(RateLimitEndpoint::SignIn, limited, asked.nobody()))
    }

    /// Whether a Bearer token of the address of a request may be looked at.
    ///
    /// # Errors
    /// When there were too many bad ones.
    pub fn may_show_bearer(&self, asked: &Asked) -> Result<(), Rejection> {
        let may = self.limits.may_show_bearer(asked.client);
        may.map_err(|limited| self.limited(Tokens::Bearer.endpoint(), limited, asked.nobody()))
    }

    /// One more bad token from the address of a request.
    ///
    /// # Errors
    /// When there were too many.
    pub fn take_bad(&self, tokens: Tokens, asked: &Asked) -> Result<(), Rejection> {
        let taken = self.limits.take_bad(tokens, asked.client);
        taken.map_err(|limited| self.limited(tokens.endpoint(), limited, asked.nobody()))
    }

    fn limited(&self, endpoint: RateLimitEndpoint, limited: Limited, actor: Actor<'_>) -> Rejection {
        let Limited { scope, wait } = limited;
        let hit = RateLimitHit { endpoint, scope };
        self.metrics.rate_limit_hits.get_or_create(&hit).inc();
        audit::emit(&Event::RateLimitExceeded {
            actor,
            reason: scope.as_str(),
        });
        Rejection::RateLimited { wait }
    }

    /// A Workspace in audit lines.
    pub fn target<'a>(&'a self, workspace: &'a str) -> Target<'a> {
        Target {
            namespace: &self.workspaces.namespace,
            workspace,
        }
    }
}

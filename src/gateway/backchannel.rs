//! The provider's word that someone has signed out becomes the end of their sessions on every gateway.
//!
//! `POST /backchannel-logout` revokes what the logout token names, in the annotations of the Workspace, which every gateway watches. A
//! token that comes again to the same gateway is refused; to another one it changes nothing: a session that was revoked stays
//! so, and a subject's sessions are only revoked up to the time at which the token was made. Of whom no Workspace tells, this gateway
//! remembers it.

use super::departures::Whose;
use super::index::recorded_owner;
use super::limits::Tokens;
use super::reject::Rejection;
use super::respond::{self, Answer};
use super::service::{Asked, Gateway};
use super::standing::Over;
use super::workspaces::EnsureError;
use crate::audit::{self, Actor, Event};
use crate::identity::{Identity, UserId};
use crate::oidc::{Logout, LogoutError};
use crate::telemetry::metrics::{BackchannelLogout, LogoutOutcome};
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The most tokens that are remembered. They are signed by the provider, so nobody else can fill this up; when it is full, the ones that
/// end first are forgotten, and what they would do again changes nothing.
const REMEMBERED: usize = 4096;

/// The logout tokens of the last minutes.
#[derive(Default)]
pub struct Seen(Mutex<HashMap<String, Timestamp>>);

impl Seen {
    /// Whether it is the first time.
    fn is_new(&self, id: &str, expires: Timestamp, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, until| *until > now);
        if seen.len() >= REMEMBERED
            && let Some(first) = seen.iter().min_by_key(|(_, until)| **until).map(|(id, _)| id.clone())
        {
            seen.remove(&first);
        }
        seen.insert(id.to_owned(), expires).is_none()
    }

    /// What could not be done may be asked for again.
    fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// # Errors
/// When the token is not one to believe, or what it names can't be revoked now.
pub async fn logout(gateway: &Gateway, asked: &Asked) -> Result<Answer, Rejection> {
    let counted = |outcome| {
        gateway
            .metrics
            .backchannel_logouts
            .get_or_create(&BackchannelLogout { outcome })
            .inc()
    };
    let refused = |reason: &'static str| {
        counted(LogoutOutcome::Invalid);
        audit::emit(&Event::TokenRejected {
            actor: asked.nobody(),
            reason,
        });
        let taken = gateway.take_bad(Tokens::Logout, asked);
        taken.err().unwrap_or(Rejection::InvalidLogout)
    };
    let token = asked.form_field("logout_token").ok_or_else(|| refused("malformed"))?;
    let logout = gateway.provider.verify_logout(&token).await.map_err(|error| {
        tracing::warn!(request_id = asked.id.as_str(), %error, "a logout token is refused");
        match error {
            // Nobody's fault: the provider may send it again.
            LogoutError::Provider => {
                counted(LogoutOutcome::Failed);
                Rejection::LogoutFailed
            }
            error => refused(error.reason()),
        }
    })?;
    if !gateway.logouts_seen.is_new(&logout.id, logout.expires, asked.now) {
        return Err(refused("replayed"));
    }
    match revoke(gateway, asked, &logout).await {
        Ok(revoked) => {
            counted(if revoked {
                LogoutOutcome::Revoked
            } else {
                LogoutOutcome::Unknown
            });
            tracing::info!(
                request_id = asked.id.as_str(),
                revoked,
                "the provider signed someone out"
            );
            Ok(respond::text(respond::PLAIN, String::new()))
        }
        Err(error) => {
            counted(LogoutOutcome::Failed);
            gateway.logouts_seen.forget(&logout.id);
            tracing::error!(request_id = asked.id.as_str(), %error, "a session that the provider ended can't be revoked");
            Err(Rejection::LogoutFailed)
        }
    }
}

/// Whether there was someone to sign out.
async fn revoke(gateway: &Gateway, asked: &Asked, logout: &Logout) -> Result<bool, EnsureError> {
    let now = asked.now;
    let workspaces = &gateway.workspaces;
    let owner = |subject: &String| Identity {
        issuer: gateway.provider.issuer().to_owned(),
        subject: subject.clone(),
    };
    let workspace = match (&logout.subject, &logout.provider_session) {
        (Some(subject), _) => workspaces.find(&owner(subject))?,
        (None, Some(session)) => workspaces.with_provider_session(session)?,
        (None, None) => None,
    };
    // By the provider's clock, which may be late.
    let before = now.min(logout.issued + gateway.provider.clock_skew());
    let Some(workspace) = workspace else {
        let (whose, before) = match (&logout.provider_session, &logout.subject) {
            (Some(session), _) => (Whose::Session(session.clone()), now),
            (None, Some(subject)) => (Whose::Owner(owner(subject)), before),
            (None, None) => return Ok(false),
        };
        workspaces.departures.note(whose, before, Over::Revoked, now);
        return Ok(false);
    };
    let name = workspace.name_any();
    match &logout.provider_session {
        Some(session) => workspaces.revoke(&name, &[session], now).await?,
        None => workspaces.revoke_before(&workspace, before).await?,
    }
    let owner = recorded_owner(&workspace);
    let user_id = owner.as_ref().map(UserId::of);
    audit::emit(&Event::SessionRevoked {
        actor: Actor {
            request_id: asked.id.as_str(),
            subject: owner.as_ref().map(|owner| owner.subject.as_str()),
            user_id: user_id.as_ref().map(UserId::as_str),
        },
        target: gateway.target(&name),
        session: logout.provider_session.as_deref(),
        reason: "backchannel_logout",
    });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_once_and_the_memory_is_bounded() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let seen = Seen::default();
        assert!(seen.is_new("a", at(10), at(0)) && !seen.is_new("a", at(10), at(9)));
        seen.forget("a");
        assert!(seen.is_new("a", at(10), at(9)));
        for id in 0..2 * REMEMBERED {
            seen.is_new(&id.to_string(), at(100), at(20));
        }
        assert_eq!(seen.0.lock().unwrap().len(), REMEMBERED);
    }
}

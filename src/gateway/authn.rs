//! A request becomes a caller: someone whose ID token or session is valid.
//!
//! A session is compared with what its Workspace records of it, and confirmed by the provider when that is due. Then, and when it
//! was not used for a while, the answer brings the browser a newer cookie.
//!
//! A Bearer token wins over a cookie, and a bad one is refused whatever the cookie says. Tokens in URLs are not looked at: they
//! end up in logs and histories.

use super::limits::Tokens;
use super::origin::Via;
use super::refresh::{catch_up, refresh};
use super::reject::Rejection;
use super::service::{Asked, Gateway};
use super::session::{Presented, Session};
use super::standing::{Over, after};
use crate::api::Workspace;
use crate::audit::{self, Actor, Event};
use crate::identity::UserId;
use crate::oidc::Person;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use kube::ResourceExt;
use std::sync::Arc;

/// Who asks.
#[derive(Debug)]
pub struct Caller {
    pub person: Person,
    pub user_id: UserId,
    pub via: Via,
    /// `None` for a program that came with a token.
    pub session: Option<Session>,
}

impl Caller {
    fn new(person: Person, via: Via, session: Option<Session>) -> Self {
        Self {
            user_id: UserId::of(&person.identity),
            person,
            via,
            session,
        }
    }

    /// For the log, when it is a session.
    pub fn session_id(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.id.as_str())
    }

    /// This caller in the audit lines of a request.
    pub fn actor<'a>(&'a self, asked: &'a Asked) -> Actor<'a> {
        Actor {
            request_id: asked.id.as_str(),
            subject: Some(&self.person.identity.subject),
            user_id: Some(self.user_id.as_str()),
        }
    }
}

/// # Errors
/// When nobody is signed in, or what is presented is not valid.
pub async fn authenticate(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Caller, Rejection> {
    let headers = asked.request.headers();
    if headers.contains_key(AUTHORIZATION) {
        gateway.may_show_bearer(asked)?;
    }
    let token = bearer(headers).map_err(|NotBearer| {
        rejected(asked, None, "malformed_header");
        failed(gateway, asked, Rejection::InvalidToken)
    })?;
    match token {
        Some(token) => match gateway.provider.verify_bearer(token).await {
            Ok(person) => {
                let workspace = gateway.workspaces.find(&person.identity).ok().flatten();
                let standing = gateway
                    .workspaces
                    .token_stands(&person, workspace.as_deref(), asked.now);
                standing.map_err(|over| ended(asked, &person, over))?;
                Ok(Caller::new(person, Via::BearerToken, None))
            }
            Err(error) => {
                rejected(asked, None, error.reason());
                Err(failed(gateway, asked, Rejection::from(&error)))
            }
        },
        None => match gateway.cookies.session(headers) {
            Presented::Session(session) if session.person.identity.issuer == gateway.provider.issuer() => {
                let session = keep(gateway, asked, *session).await?;
                Ok(Caller::new(session.person.clone(), Via::Cookie, Some(session)))
            }
            // Of a provider that was configured before.
            Presented::Session(session) => {
                rejected(asked, Some(&session.person), "issuer");
                Err(Rejection::SignedOut)
            }
            Presented::Nothing => Err(Rejection::SignedOut),
        },
    }
}

/// A session as it is now, and a newer cookie for its browser where that is called for.
async fn keep(gateway: &Arc<Gateway>, asked: &Asked, mut session: Session) -> Result<Session, Rejection> {
    let (now, rules) = (asked.now, &gateway.session_rules);
    let is_use = asked.route().is_use();
    let seen = session.seen;
    let used = if is_use { now } else { seen };
    let stands = |session: &Session, workspace: Option<&Workspace>| {
        let standing = gateway
            .workspaces
            .session_stands(session, workspace, seen, gateway.clock.now());
        standing.map_err(|over| ended(asked, &session.person, over))
    };
    let found = gateway.workspaces.find(&session.person.identity);
    // Whether it is revoked can't be known then.
    let mut workspace = found.map_err(|error| {
        let user_id = UserId::of(&session.person.identity);
        let actor = actor(asked, Some(&session.person), Some(&user_id));
        gateway.without_workspace(error, &user_id, actor)
    })?;
    let mut standing = stands(&session, workspace.as_deref())?;
    let mut is_confirmed = standing.confirmed(now).is_ok();
    if let (Some(current), Some(due)) = (&workspace, standing.refresh_at)
        && due <= now
    {
        let name = current.name_any();
        if let Some(newer) = refresh(gateway, &session, &name, used, is_confirmed).await {
            workspace = Some(newer);
        }
        // A revocation is an annotation, which the watch may have shown meanwhile; and another gateway's word, too.
        for workspace in [gateway.workspaces.get(&name), workspace.clone()] {
            standing = stands(&session, workspace.as_deref())?;
            is_confirmed |= standing.confirmed(now).is_ok();
        }
    }
    if !is_confirmed {
        let over = match workspace {
            Some(_) => Over::Unconfirmed,
            // What the provider would say has no place to be written to. Signing in makes one.
            None => Over::Expired,
        };
        return Err(ended(asked, &session.person, over));
    }
    let mut is_newer = workspace
        .as_deref()
        .is_some_and(|workspace| catch_up(&mut session, workspace));
    if is_use && after(seen, rules.use_noted_every()) <= now {
        session.seen = now;
        is_newer = true;
    }
    if is_newer {
        // Its terminals may have it confirmed for as long as it may last at all.
        let ends = match session.refresh {
            Some(_) => after(session.began, rules.lifetime),
            None => standing.ends,
        };
        let headers = asked.request.headers();
        if let Some(cookies) = gateway.cookies.keep_session(&session, ends, headers, now) {
            // Once in a request.
            let _ = asked.cookies.set(cookies);
        }
    }
    Ok(session)
}

/// Tokens that are tried out count as tries to sign in: when there were too many, no signature is checked any more. That the provider is
/// away is nobody's fault.
fn failed(gateway: &Gateway, asked: &Asked, rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::ProviderUnavailable => rejection,
        rejection => gateway.take_bad(Tokens::Bearer, asked).err().unwrap_or(rejection),
    }
}

fn ended(asked: &Asked, person: &Person, over: Over) -> Rejection {
    rejected(asked, Some(person), over.reason());
    match over {
        Over::Unconfirmed => Rejection::SessionUnconfirmed,
        Over::Gone => Rejection::WorkspaceGone,
        Over::Revoked | Over::Expired | Over::Idle => Rejection::SessionExpired,
    }
}

/// `person` is whose it is, or was: nobody may enter with it, but that it was theirs is known.
fn rejected(asked: &Asked, person: Option<&Person>, reason: &'static str) {
    let user_id = person.map(|person| UserId::of(&person.identity));
    let actor = actor(asked, person, user_id.as_ref());
    audit::emit(&Event::TokenRejected { actor, reason });
}

fn actor<'a>(asked: &'a Asked, person: Option<&'a Person>, user_id: Option<&'a UserId>) -> Actor<'a> {
    Actor {
        request_id: asked.id.as_str(),
        subject: person.map(|person| person.identity.subject.as_str()),
        user_id: user_id.map(UserId::as_str),
    }
}

/// An `Authorization` header that is no single Bearer token.
#[derive(Debug, PartialEq, Eq)]
struct NotBearer;

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1; the scheme in any case, RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, NotBearer> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| NotBearer)?,
        (Some(_), Some(_)) => return Err(NotBearer),
    };
    let (scheme, token) = value.split_once(' ').ok_or(NotBearer)?;
    let token = token.trim();
    let is_one = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains([' ', ',']);
    is_one.then_some(Some(token)).ok_or(NotBearer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn of(values: &[&'static str]) -> Result<Option<String>, NotBearer> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers).map(|token| token.map(str::to_owned))
    }

    #[test]
    fn one_bearer_token_or_none() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["Bearer a.b.c"]), Ok(Some("a.b.c".into())));
        assert_eq!(of(&["bearer  a.b.c "]), Ok(Some("a.b.c".into())));
        for refused in [
            "",
            "Bearer",
            "Bearer ",
            "Basic dTpw",
            "a.b.c",
            "Bearer a b",
            "Bearer a,b",
        ] {
            assert_eq!(of(&[refused]), Err(NotBearer), "{refused:?}");
        }
        assert_eq!(of(&["Bearer a", "Bearer a"]), Err(NotBearer));
    }
}

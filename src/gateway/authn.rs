//! A request becomes a caller: someone whose ID token or session is valid.
//!
//! A Bearer token wins over a cookie, and a bad one is refused whatever the cookie says. Tokens in URLs are not looked at: they
//! end up in logs and histories.

use super::origin::Via;
use super::reject::Rejection;
use super::service::{Asked, Gateway};
use super::session::Presented;
use crate::audit::{self, Actor, Event};
use crate::identity::UserId;
use crate::oidc::Person;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

/// Who asks.
#[derive(Debug)]
pub struct Caller {
    pub person: Person,
    pub user_id: UserId,
    pub via: Via,
    /// For the log, when it is a session.
    pub session_id: Option<String>,
}

impl Caller {
    fn new(person: Person, via: Via, session_id: Option<String>) -> Self {
        Self {
            user_id: UserId::of(&person.identity),
            person,
            via,
            session_id,
        }
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
pub async fn authenticate(gateway: &Gateway, asked: &Asked) -> Result<Caller, Rejection> {
    let headers = asked.request.headers();
    let token = bearer(headers).map_err(|NotBearer| {
        rejected(asked, "malformed_header");
        Rejection::InvalidToken
    })?;
    match token {
        Some(token) => match gateway.provider.verify_bearer(token).await {
            Ok(person) => Ok(Caller::new(person, Via::BearerToken, None)),
            Err(error) => {
                rejected(asked, error.reason());
                Err(Rejection::from(&error))
            }
        },
        None => match gateway.cookies.session(headers, asked.now) {
            Presented::Session(session) if session.person.identity.issuer == gateway.provider.issuer() => {
                Ok(Caller::new(session.person, Via::Cookie, Some(session.id)))
            }
            // Of a provider that was configured before.
            Presented::Session(_) => {
                rejected(asked, "issuer");
                Err(Rejection::SignedOut)
            }
            Presented::Expired => {
                rejected(asked, "session_expired");
                Err(Rejection::SessionExpired)
            }
            Presented::Nothing => Err(Rejection::SignedOut),
        },
    }
}

fn rejected(asked: &Asked, reason: &'static str) {
    let actor = asked.nobody();
    audit::emit(&Event::TokenRejected { actor, reason });
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

//! A visitor becomes someone who is signed in, and the other way round (OpenID Connect Core 1.0, section 3.1).

use super::authn::authenticate;
use super::departures::Whose;
use super::origin::{Via, is_same_origin};
use super::pages::{Link, MessagePage, SignOutPage};
use super::reject::Rejection;
use super::respond::{self, Answer};
use super::return_path::return_path;
use super::route::LOGIN;
use super::service::{Asked, Gateway};
use super::session::{Presented, Refresh, Session};
use super::sign_ins::valid_until;
use super::standing::{Over, after, revoked_before};
use crate::audit::{self, Actor, Event};
use crate::clock::until;
use crate::config::session::SessionRules;
use crate::identity::{Identity, UserId};
use crate::oidc::{Attempt, SignedIn};
use hyper::StatusCode;
use hyper::header::{HeaderValue, REFRESH, SET_COOKIE};
use jiff::Timestamp;
use kube::ResourceExt;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use url::Url;

/// How many seconds a page is shown before the browser goes on: one that only says that all is well, and one to be read.
const SEEN_WITHIN: u8 = 5;
const READ_WITHIN: u8 = 30;
/// For the API server to take a revocation, while a person waits.
const REVOKE_WITHIN: Duration = Duration::from_secs(10);
/// Of a time in whole seconds, what is meant with it.
const SECOND: Duration = Duration::from_secs(1);

/// The query parameter with the path to go on to.
const RETURN: &str = "return";

/// Where to sign in and come back from.
pub fn login_url(path_and_query: &str) -> String {
    if path_and_query == "/" {
        return LOGIN.to_owned();
    }
    let login = format!("{LOGIN}?");
    let query_begins = login.len();
    let mut query = url::form_urlencoded::Serializer::for_suffix(login, query_begins);
    query.append_pair(RETURN, path_and_query).finish()
}

/// Sends the browser to the provider.
///
/// # Errors
/// When the provider was not reached yet, or too many come from this address.
pub async fn start(gateway: &Gateway, asked: &Asked) -> Result<Answer, Rejection> {
    gateway.take_sign_in(asked)?;
    let wanted = asked.parameter(RETURN).unwrap_or_default();
    let (url, attempt) = gateway.provider.start_sign_in().await.map_err(|error| {
        tracing::warn!(request_id = asked.id.as_str(), %error, "nobody can sign in");
        Rejection::ProviderUnavailable
    })?;
    let headers = asked.request.headers();
    let path = return_path(&wanted, &gateway.public_url);
    let mut answer = respond::redirect(url.as_str());
    for cookie in gateway.cookies.begin_attempt(attempt, path, headers, asked.now) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    audit::emit(&Event::LoginRedirect { actor: asked.nobody() });
    Ok(answer)
}

/// Takes the provider's answer, which the browser brings back.
///
/// # Errors
/// When this browser did not begin that sign-in. Any other failure is an answer too: it takes the used cookie away.
pub async fn finish(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Answer, Rejection> {
    gateway.take_sign_in(asked)?;
    let state = asked.parameter("state").unwrap_or_default();
    let attempt = gateway.cookies.attempt(asked.request.headers(), &state, asked.now);
    let Some((attempt, path)) = attempt else {
        // Reloading the callback, or going back to it, after a sign-in that worked.
        if authenticate(gateway, asked).await.is_ok() {
            return Ok(respond::redirect("/"));
        }
        return Err(failed(asked, "unknown_state", Rejection::UnknownSignIn));
    };
    let mut answer = match signed_in(gateway, asked, attempt, &path).await {
        Ok(answer) => answer,
        Err(rejection) => gateway.refuse(&rejection, asked),
    };
    answer
        .headers_mut()
        .append(SET_COOKIE, gateway.cookies.end_attempt(&state));
    Ok(answer)
}

async fn signed_in(gateway: &Gateway, asked: &Asked, attempt: Attempt, path: &str) -> Result<Answer, Rejection> {
    // RFC 9207: an answer of another provider than the one that was asked.
    if asked
        .parameter("iss")
        .is_some_and(|issuer| issuer != gateway.provider.issuer())
    {
        return Err(failed(asked, "issuer", Rejection::SignInFailed));
    }
    match asked.parameter("error").as_deref() {
        None => {}
        Some("access_denied") => return Err(failed(asked, "access_denied", Rejection::SignInDenied)),
        Some("temporarily_unavailable" | "server_error") => {
            return Err(failed(asked, "provider_unavailable", Rejection::ProviderUnavailable));
        }
        Some(_) => return Err(failed(asked, "provider_error", Rejection::SignInFailed)),
    }
    let code = asked.parameter("code").unwrap_or_default();
    let signed_in = gateway.provider.finish_sign_in(code, attempt).await.map_err(|error| {
        tracing::warn!(request_id = asked.id.as_str(), %error, "a sign-in failed");
        failed(asked, error.reason(), Rejection::from(&error))
    })?;
    let began = may_begin(gateway, &signed_in.person.identity).await;
    let began = began.map_err(|rejection| failed(asked, "sessions_revoked", rejection))?;
    let session = begin(signed_in, &gateway.session_rules, began);
    let ends = match session.refresh {
        Some(_) => after(session.began, gateway.session_rules.lifetime),
        None => session.valid_until,
    };
    let headers = asked.request.headers();
    let Some(cookies) = gateway.cookies.keep_session(&session, ends, headers, asked.now) else {
        return Err(failed(asked, "session_too_large", Rejection::SignInFailed));
    };
    let identity = &session.person.identity;
    let user_id = UserId::of(identity);
    tracing::info!(
        request_id = asked.id.as_str(),
        session_id = session.id,
        user_id = user_id.as_str(),
        refresh_token = session.refresh.is_some(),
        "signed in"
    );
    audit::emit(&Event::CallbackSuccess {
        actor: Actor {
            request_id: asked.id.as_str(),
            subject: Some(&identity.subject),
            user_id: Some(user_id.as_str()),
        },
    });
    let mut answer = respond::redirect(path);
    for cookie in cookies {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(answer)
}

/// When a session can begin that is not over at once: with one that is, a browser would be sent to sign in again and again.
///
/// # Errors
/// When the person's sessions are revoked for longer than the rest of this second, as an administrator may have meant it.
async fn may_begin(gateway: &Gateway, identity: &Identity) -> Result<Timestamp, Rejection> {
    let now = gateway.clock.now();
    let workspace = gateway.workspaces.find(identity).ok().flatten();
    let before = workspace.map_or(Timestamp::MIN, |workspace| revoked_before(workspace.annotations()));
    match until(before, now) {
        Duration::ZERO => Ok(now),
        rest if rest <= SECOND => {
            sleep(rest).await;
            Ok(gateway.clock.now().max(before))
        }
        _ => Err(Rejection::SessionsRevoked { before }),
    }
}

/// With a refresh token the provider is asked every now and then; without one the session ends with the ID token.
fn begin(signed_in: SignedIn, rules: &SessionRules, now: Timestamp) -> Session {
    let SignedIn { person, refresh_token } = signed_in;
    let refresh = refresh_token.map(|token| Refresh {
        token,
        at: after(now, rules.refresh_every),
        count: 0,
    });
    let valid_until = match refresh {
        Some(_) => valid_until(now, rules, now),
        None => person.expires,
    };
    Session::begin(person, refresh, valid_until, now)
}

fn failed(asked: &Asked, reason: &'static str, rejection: Rejection) -> Rejection {
    let actor = asked.nobody();
    audit::emit(&Event::CallbackFailure { actor, reason });
    rejection
}

/// Ends the browser's session, wherever it was opened, and sends the browser on to the provider, which ends its own.
///
/// Not by a redirect: a page may post only to its own origin (`form-action`), and browsers hold that against redirects too.
///
/// # Errors
/// When another site's page asks for it.
pub async fn end(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Answer, Rejection> {
    if !is_same_origin(asked.request.headers(), Via::Cookie, &gateway.public_origin) {
        return Err(Rejection::ForeignOrigin);
    }
    let provider = gateway.provider.end_session_url(gateway.post_logout_url.as_ref());
    // However it stands: what may be of use to whoever has a copy of it is revoked.
    let revoked = match gateway.cookies.session(asked.request.headers()) {
        Presented::Session(session) => revoke(gateway, asked, &session).await,
        Presented::Nothing => Ok(()),
    };
    let mut answer = match revoked {
        Ok(()) => signed_out(provider.as_ref()),
        Err(rejection) => onward(gateway.refuse(&rejection, asked), provider.as_ref(), READ_WITHIN),
    };
    for cookie in gateway.cookies.end_session(asked.request.headers()) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(answer)
}

/// Asks first: a link on another site can bring a browser here, and must not sign anyone out.
pub fn ask_to_end() -> Answer {
    respond::page(StatusCode::OK, &SignOutPage::new())
}

/// Without the cookie the session is over in this browser, but not for who has a copy of it, nor in open terminals.
async fn revoke(gateway: &Gateway, asked: &Asked, session: &Session) -> Result<(), Rejection> {
    let failed = |error: &dyn Display| {
        let (request_id, session_id) = (asked.id.as_str(), session.id.as_str());
        tracing::error!(request_id, session_id, %error, "a session that its user ended can't be revoked");
        Rejection::NotRevoked {
            session: session.id.clone(),
        }
    };
    let found = gateway.workspaces.find(&session.person.identity);
    let Some(workspace) = found.map_err(|error| failed(&error))? else {
        let whose = Whose::Session(session.id.clone());
        let departures = &gateway.workspaces.departures;
        departures.note(whose, asked.now, Over::Revoked, asked.now);
        return Ok(());
    };
    let name = workspace.name_any();
    let ids = [session.id.as_str()];
    match timeout(REVOKE_WITHIN, gateway.workspaces.revoke(&name, &ids, asked.now)).await {
        Ok(revoked) => revoked.map_err(|error| failed(&error))?,
        Err(_) => return Err(failed(&"the API server does not answer")),
    }
    let identity = &session.person.identity;
    audit::emit(&Event::SessionRevoked {
        actor: Actor {
            request_id: asked.id.as_str(),
            subject: Some(&identity.subject),
            user_id: Some(UserId::of(identity).as_str()),
        },
        target: gateway.target(&name),
        session: Some(&session.id),
        reason: "sign_out",
    });
    Ok(())
}

/// What a browser shows that has no session any more; it goes on to `provider` by itself.
pub fn signed_out(provider: Option<&Url>) -> Answer {
    let text = "Your session in this browser has ended. Your workspace keeps what you left in it.";
    let action = Link {
        label: "Sign in again",
        href: LOGIN,
    };
    let page = MessagePage::new("Signed out", text, "", action, "");
    onward(respond::page(StatusCode::OK, &page), provider, SEEN_WITHIN)
}

/// Goes on to the provider after some seconds.
fn onward(mut answer: Answer, provider: Option<&Url>, seconds: u8) -> Answer {
    // A URL is ASCII without control characters.
    let onward = provider.and_then(|url| HeaderValue::from_str(&format!("{seconds}; url={url}")).ok());
    if let Some(onward) = onward {
        answer.headers_mut().insert(REFRESH, onward);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_back_as_it_was() {
        assert_eq!(login_url("/"), "/login");
        assert_eq!(login_url("/a?b=c&d=e"), "/login?return=%2Fa%3Fb%3Dc%26d%3De");
    }
}

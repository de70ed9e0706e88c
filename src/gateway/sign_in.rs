//! A visitor becomes someone who is signed in, and the other way round (OpenID Connect Core 1.0, section 3.1).

use super::authn::authenticate;
use super::origin::{Via, is_same_origin};
use super::pages::{Link, MessagePage};
use super::reject::Rejection;
use super::respond::{self, Answer};
use super::return_path::return_path;
use super::route::LOGIN;
use super::service::{Asked, Gateway};
use super::session::Session;
use crate::audit::{self, Actor, Event};
use crate::identity::UserId;
use crate::oidc::Attempt;
use hyper::StatusCode;
use hyper::header::SET_COOKIE;

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
/// When the provider was not reached yet.
pub fn start(gateway: &Gateway, asked: &Asked) -> Result<Answer, Rejection> {
    let wanted = asked.parameter(RETURN).unwrap_or_default();
    let (url, attempt) = gateway.provider.start_sign_in().map_err(|error| {
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
pub async fn finish(gateway: &Gateway, asked: &Asked) -> Result<Answer, Rejection> {
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
    let person = gateway.provider.finish_sign_in(code, attempt).await.map_err(|error| {
        tracing::warn!(request_id = asked.id.as_str(), %error, "a sign-in failed");
        failed(asked, error.reason(), Rejection::from(&error))
    })?;
    let session = Session {
        id: format!("{:032x}", rand::random::<u128>()),
        person,
    };
    let Some(cookie) = gateway.cookies.begin_session(&session, asked.now) else {
        return Err(failed(asked, "session_too_large", Rejection::SignInFailed));
    };
    let identity = &session.person.identity;
    let user_id = UserId::of(identity);
    tracing::info!(
        request_id = asked.id.as_str(),
        session_id = session.id,
        user_id = user_id.as_str(),
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
    answer.headers_mut().append(SET_COOKIE, cookie);
    Ok(answer)
}

fn failed(asked: &Asked, reason: &'static str, rejection: Rejection) -> Rejection {
    let actor = asked.nobody();
    audit::emit(&Event::CallbackFailure { actor, reason });
    rejection
}

/// Ends the browser's session. The provider's own goes on.
///
/// # Errors
/// When another site's page asks for it.
pub fn end(gateway: &Gateway, asked: &Asked) -> Result<Answer, Rejection> {
    if !is_same_origin(asked.request.headers(), Via::Cookie, &gateway.public_origin) {
        return Err(Rejection::ForeignOrigin);
    }
    let text = "Your session in this browser has ended. Your workspace keeps what you left in it.";
    let action = Link {
        label: "Sign in again",
        href: LOGIN,
    };
    let page = MessagePage::new("Signed out", text, "", action, "");
    let mut answer = respond::page(StatusCode::OK, &page);
    answer.headers_mut().append(SET_COOKIE, gateway.cookies.end_session());
    Ok(answer)
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

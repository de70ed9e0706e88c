//! A logout token becomes the sessions that it ends (OpenID Connect Back-Channel Logout 1.0), and a sign-out the address at which the
//! provider ends its own session (OpenID Connect RP-Initiated Logout 1.0).

use super::provider::{Discovered, Provider};
use super::verify::{ALGORITHMS, MAX_TOKEN, Unique, provider_session};
use crate::config::syntax::is_secure;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use openidconnect::core::{CoreJsonWebKey, CoreJsonWebKeyUse, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey, JsonWebKeyId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use snafu::Snafu;
use std::time::Duration;
use url::Url;

/// Section 2.4 of the specification.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// The `typ` of logout tokens, and what those say that are not explicitly typed.
const TYPES: [&str; 3] = ["logout+jwt", "application/logout+jwt", "jwt"];
/// How old a token may be that says nothing of its own end, and how far ahead that end may be.
const LONGEST: Duration = Duration::from_secs(600);

/// What a logout token ends: a session of the provider, or all sessions of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logout {
    pub subject: Option<String>,
    /// As [`provider_session`] calls it.
    pub provider_session: Option<String>,
    /// The token's own name: it is good for once (section 2.6).
    pub id: String,
    /// When it was made, by the provider's clock.
    pub issued: Timestamp,
    /// When nobody believes it any more.
    pub expires: Timestamp,
}

/// Why a logout token is not believed. Holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Snafu)]
pub enum LogoutError {
    #[snafu(display("it is no logout token"))]
    Malformed,
    #[snafu(display("it is another kind of token"))]
    Type,
    #[snafu(display("its signature can't be verified"))]
    Signature,
    #[snafu(display("its issuer is another one"))]
    Issuer,
    #[snafu(display("it is for another client"))]
    Audience,
    #[snafu(display("it has expired"))]
    Expired,
    #[snafu(display("it is not valid yet"))]
    NotYetValid,
    #[snafu(display("it does not say that someone signed out"))]
    Event,
    #[snafu(display("it has a nonce, as ID tokens have"))]
    Nonce,
    #[snafu(display("it names neither a session nor a subject"))]
    Nobody,
    #[snafu(display("the provider's keys are not known"))]
    Provider,
}

impl LogoutError {
    /// The word for logs and audit lines.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Type => "type",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Event => "event",
            Self::Nonce => "nonce",
            Self::Nobody => "nobody",
            Self::Provider => "provider_unavailable",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: CoreJwsSigningAlgorithm,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// Extensions that must be understood (RFC 7515, section 4.1.11): none is.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

impl Provider {
    /// Checks a logout token as section 2.6 says.
    ///
    /// # Errors
    /// When it is not one that this program may believe.
    pub async fn verify_logout(&self, token: &str) -> Result<Logout, LogoutError> {
        if token.len() > MAX_TOKEN {
            return Err(LogoutError::Malformed);
        }
        let discovered = self.discovered().map_err(|_| LogoutError::Provider)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(LogoutError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(LogoutError::Malformed)?;
        let header: Header = decoded(header).ok_or(LogoutError::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| LogoutError::Malformed)?;
        let Unique(claims) = decoded(payload).ok_or(LogoutError::Malformed)?;
        if header
            .typ
            .as_ref()
            .is_some_and(|typ| !TYPES.contains(&typ.to_ascii_lowercase().as_str()))
        {
            return Err(LogoutError::Type);
        }
        if header.crit.is_some() || !ALGORITHMS.contains(&header.alg) {
            return Err(LogoutError::Signature);
        }
        if !is_signed(&discovered, &header, signed.as_bytes(), &signature) {
            self.refresh_keys(&discovered)
                .await
                .map_err(|_| LogoutError::Provider)?;
            if !is_signed(&discovered, &header, signed.as_bytes(), &signature) {
                return Err(LogoutError::Signature);
            }
        }
        check(
            &claims,
            &self.settings.issuer,
            &self.settings.client_id,
            self.clock.now(),
            self.settings.clock_skew,
        )
    }

    /// Where a browser ends its session at the provider; `None` when the provider has no such place. No ID token goes along: it would be
    /// in the browser's history.
    pub fn end_session_url(&self, back: Option<&Url>) -> Option<Url> {
        let discovered = self.discovered().ok()?;
        let endpoint = discovered
            .metadata
            .additional_metadata()
            .end_session_endpoint
            .as_ref()?;
        let mut url = Some(endpoint.url().clone()).filter(is_secure)?;
        let mut query = url.query_pairs_mut();
        query.append_pair("client_id", &self.settings.client_id);
        if let Some(back) = back {
            query.append_pair("post_logout_redirect_uri", back.as_str());
        }
        drop(query);
        Some(url)
    }
}

fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Whether one of the provider's signing keys made the signature: that of the header's `kid` where it has one.
fn is_signed(discovered: &Discovered, header: &Header, message: &[u8], signature: &[u8]) -> bool {
    let keys = discovered.keys.load();
    let kid = header.kid.clone().map(JsonWebKeyId::new);
    let is_meant = |key: &&CoreJsonWebKey| {
        (kid.is_none() || key.key_id() == kid.as_ref())
            && key.key_use().is_none_or(|used| *used == CoreJsonWebKeyUse::Signature)
    };
    let mut keys = keys.keys().iter().filter(is_meant);
    keys.any(|key| key.verify_signature(&header.alg, message, signature).is_ok())
}

/// The claims of a token whose signature is right.
fn check(
    claims: &Map<String, Value>,
    issuer: &str,
    client: &str,
    now: Timestamp,
    skew: Duration,
) -> Result<Logout, LogoutError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let time = |name: &str| {
        let seconds = claims.get(name)?.as_f64().filter(|seconds| seconds.is_finite())?;
        Timestamp::from_second(seconds as i64).ok()
    };
    if text("iss") != Some(issuer) {
        return Err(LogoutError::Issuer);
    }
    let is_for_us = match claims.get("aud") {
        Some(Value::String(audience)) => audience == client,
        Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience == client),
        _ => false,
    };
    if !is_for_us {
        return Err(LogoutError::Audience);
    }
    let issued = time("iat").ok_or(LogoutError::Malformed)?;
    let latest = issued + LONGEST;
    let expires = match claims.get("exp") {
        Some(_) => time("exp").ok_or(LogoutError::Malformed)?.min(latest),
        // Required since the final version of the specification; drafts did not have it.
        None => latest,
    } + skew;
    if expires <= now {
        return Err(LogoutError::Expired);
    }
    if issued > now + skew + Duration::from_secs(1) {
        return Err(LogoutError::NotYetValid);
    }
    let events = claims.get("events").and_then(Value::as_object);
    if !events.is_some_and(|events| events.get(EVENT).is_some_and(Value::is_object)) {
        return Err(LogoutError::Event);
    }
    if claims.contains_key("nonce") {
        return Err(LogoutError::Nonce);
    }
    let id = text("jti").ok_or(LogoutError::Malformed)?.to_owned();
    let (subject, session) = (text("sub").map(str::to_owned), text("sid"));
    if subject.is_none() && session.is_none() {
        return Err(LogoutError::Nobody);
    }
    Ok(Logout {
        subject,
        provider_session: session.map(|sid| provider_session(issuer, sid)),
        id,
        issued,
        expires,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(change: Value) -> Result<Logout, LogoutError> {
        let mut claims = json!({
            "iss": "https://idp.test", "aud": "devplane", "iat": 1_800_000_000, "exp": 1_800_000_120, "jti": "j1",
            "events": {EVENT: {}}, "sub": "dev1", "sid": "s1",
        });
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        let now = Timestamp::from_second(1_800_000_010).unwrap();
        check(
            claims.as_object().unwrap(),
            "https://idp.test",
            "devplane",
            now,
            Duration::from_secs(5),
        )
    }

    #[test]
    fn every_claim_of_a_logout_token_counts() {
        let logout = checked(json!({})).unwrap();
        assert_eq!((logout.subject.as_deref(), logout.id.as_str()), (Some("dev1"), "j1"));
        assert_eq!(
            logout.provider_session,
            Some(provider_session("https://idp.test", "s1"))
        );
        for good in [
            json!({"aud": ["other", "devplane"]}),
            json!({"sub": null}),
            json!({"sid": null}),
            json!({"exp": null}),
            json!({"iat": 1_800_000_015}),
        ] {
            assert!(checked(good.clone()).is_ok(), "{good}");
        }
        for (bad, error) in [
            (json!({"iss": "https://idp.test/"}), LogoutError::Issuer),
            (json!({"iss": null}), LogoutError::Issuer),
            (json!({"aud": "other"}), LogoutError::Audience),
            (json!({"aud": null}), LogoutError::Audience),
            (json!({"iat": null}), LogoutError::Malformed),
            (json!({"iat": "now"}), LogoutError::Malformed),
            (json!({"iat": 1_800_000_030}), LogoutError::NotYetValid),
            (json!({"iat": 1_799_990_000}), LogoutError::Expired),
            (json!({"exp": 1_800_000_004}), LogoutError::Expired),
            (json!({"exp": "later"}), LogoutError::Malformed),
            (json!({"events": null}), LogoutError::Event),
            (json!({"events": {}}), LogoutError::Event),
            (json!({"events": {EVENT: true}}), LogoutError::Event),
            (json!({"events": EVENT}), LogoutError::Event),
            (json!({"nonce": "n"}), LogoutError::Nonce),
            (json!({"jti": null}), LogoutError::Malformed),
            (json!({"sub": null, "sid": null}), LogoutError::Nobody),
        ] {
            assert_eq!(checked(bad.clone()), Err(error), "{bad}");
        }
    }
}

//! A person becomes an encrypted cookie, and a cookie the person again: the only place that knows a cookie.
//!
//! A cookie is encrypted and authenticated (AES-256-GCM, with its name as associated data) with the first key, and read with
//! any: keys rotate without signing anyone out. Nothing is kept on the server, and no token in a cookie. The `__Host-` prefix
//! ties a cookie to this very host over TLS (RFC 6265bis, section 4.1.3.2).

use crate::identity::Identity;
use crate::oidc::{Attempt, Person};
use cookie::time::Duration as MaxAge;
use cookie::{Cookie, CookieJar, Key, SameSite};
use hyper::header::{COOKIE, HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const SESSION: &str = "__Host-devplane-session";
/// With the first characters of the state behind it: each tab that signs in has its own.
const ATTEMPT_PREFIX: &str = "__Host-devplane-login-";
const STATE_CHARACTERS: usize = 8;
/// How long a sign-in may take.
const ATTEMPT_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// Sign-ins at once in one browser; the cookies of others are taken away, so that a request head never gets too large.
const MAX_ATTEMPTS: usize = 6;
/// Browsers keep cookies of at most 4096 bytes, name and attributes included (RFC 6265, section 6.1).
const MAX_COOKIE: usize = 4096;

/// Someone who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The name of the session in log lines; no secret, and of no use to anyone who knows it.
    pub id: String,
    pub person: Person,
}

/// What the session cookie says.
#[derive(Debug, PartialEq, Eq)]
pub enum Presented {
    Nothing,
    Expired,
    Session(Session),
}

#[derive(Deserialize, Serialize)]
struct SealedSession {
    id: String,
    iss: String,
    sub: String,
    email: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    admin: bool,
    /// Seconds since 1970.
    exp: i64,
}

#[derive(Deserialize, Serialize)]
struct SealedAttempt {
    attempt: Attempt,
    return_path: String,
    exp: i64,
}

/// Makes and reads the cookies.
pub struct Cookies {
    keys: Vec<Key>,
}

impl Cookies {
    /// `keys` has at least one: the first encrypts.
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }

    /// The `Set-Cookie` header that begins a session; `None` when it would be larger than browsers keep.
    pub fn begin_session(&self, session: &Session, now: Timestamp) -> Option<HeaderValue> {
        let Session { id, person } = session;
        let Person {
            identity: Identity { issuer, subject },
            email,
            groups,
            is_admin,
            expires,
        } = person;
        let sealed = SealedSession {
            id: id.clone(),
            iss: issuer.clone(),
            sub: subject.clone(),
            email: email.clone(),
            groups: groups.clone(),
            admin: *is_admin,
            exp: expires.as_second(),
        };
        self.set(SESSION, &sealed, expires.duration_since(now))
    }

    pub fn end_session(&self) -> HeaderValue {
        removal(SESSION)
    }

    pub fn session(&self, headers: &HeaderMap, now: Timestamp) -> Presented {
        let Some(sealed) = self.read::<SealedSession>(headers, SESSION) else {
            return Presented::Nothing;
        };
        let Ok(expires) = Timestamp::from_second(sealed.exp) else {
            return Presented::Nothing;
        };
        if expires <= now {
            return Presented::Expired;
        }
        Presented::Session(Session {
            id: sealed.id,
            person: Person {
                identity: Identity {
                    issuer: sealed.iss,
                    subject: sealed.sub,
                },
                email: sealed.email,
                groups: sealed.groups,
                is_admin: sealed.admin,
                expires,
            },
        })
    }

    /// The `Set-Cookie` headers that keep a sign-in in the browser, and take away those of too many others.
    pub fn begin_attempt(
        &self,
        attempt: Attempt,
        return_path: String,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Vec<HeaderValue> {
        let name = attempt_name(&attempt.state);
        let sealed = SealedAttempt {
            attempt,
            return_path,
            exp: (now + ATTEMPT_LIFETIME).as_second(),
        };
        let others: Vec<_> = presented(headers)
            .filter(|cookie| cookie.name().starts_with(ATTEMPT_PREFIX) && cookie.name() != name)
            .collect();
        let surplus = (others.len() + 1).saturating_sub(MAX_ATTEMPTS);
        let removed = others.iter().take(surplus).map(|cookie| removal(cookie.name()));
        self.set(&name, &sealed, ATTEMPT_LIFETIME)
            .into_iter()
            .chain(removed)
            .collect()
    }

    /// The sign-in that `state` belongs to, and where it goes on to.
    pub fn attempt(&self, headers: &HeaderMap, state: &str, now: Timestamp) -> Option<(Attempt, String)> {
        let sealed: SealedAttempt = self.read(headers, &attempt_name(state))?;
        let valid = sealed.attempt.state == state && sealed.exp > now.as_second();
        valid.then_some((sealed.attempt, sealed.return_path))
    }

    /// Takes the cookie of a sign-in away: it is used up.
    pub fn end_attempt(&self, state: &str) -> HeaderValue {
        removal(&attempt_name(state))
    }

    fn set(&self, name: &str, value: &impl Serialize, lifetime: SignedDuration) -> Option<HeaderValue> {
        let max_age = MaxAge::seconds(lifetime.as_secs().max(0));
        let cookie = cookie(name, serde_json::to_string(value).ok()?, max_age);
        let mut jar = CookieJar::new();
        jar.private_mut(self.keys.first()?).add(cookie);
        let header = jar.get(name)?.to_string();
        (header.len() <= MAX_COOKIE).then(|| HeaderValue::from_str(&header).ok())?
    }

    fn read<T: DeserializeOwned>(&self, headers: &HeaderMap, name: &str) -> Option<T> {
        let cookie = presented(headers).find(|cookie| cookie.name() == name)?;
        let jar = CookieJar::new();
        let opened = self
            .keys
            .iter()
            .find_map(|key| jar.private(key).decrypt(cookie.clone()))?;
        serde_json::from_str(opened.value()).ok()
    }
}

fn presented(headers: &HeaderMap) -> impl Iterator<Item = Cookie<'static>> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| Cookie::split_parse(value.to_owned()))
        .filter_map(Result::ok)
}

/// Only characters of a cookie name: `state` comes from a query.
fn attempt_name(state: &str) -> String {
    let state: String = state
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .take(STATE_CHARACTERS)
        .collect();
    format!("{ATTEMPT_PREFIX}{state}")
}

fn cookie(name: &str, value: String, max_age: MaxAge) -> Cookie<'static> {
    Cookie::build((name.to_owned(), value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .max_age(max_age)
        .build()
}

fn removal(name: &str) -> HeaderValue {
    let cookie = cookie(name, String::new(), MaxAge::ZERO);
    // The name is one that a cookie had.
    HeaderValue::from_str(&cookie.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn session(lifetime: i64) -> Session {
        Session {
            id: "s1".into(),
            person: Person {
                identity: Identity {
                    issuer: "https://idp.test".into(),
                    subject: "dev1".into(),
                },
                email: "dev1@example.test".into(),
                groups: vec!["staff".into()],
                is_admin: true,
                expires: now() + SignedDuration::from_secs(lifetime),
            },
        }
    }

    /// What a browser sends back for a `Set-Cookie` header.
    fn sent(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&format!("other=1; {pair}")).unwrap())])
    }

    #[test]
    fn a_session_comes_back_until_it_ends() {
        let cookies = Cookies::new(vec![Key::generate()]);
        let set = cookies.begin_session(&session(60), now()).unwrap();
        let text = set.to_str().unwrap();
        assert!(text.starts_with("__Host-devplane-session="), "{text}");
        for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/", "; Max-Age=60"] {
            assert!(text.contains(attribute), "{text} lacks {attribute}");
        }
        assert!(!text.contains("Domain") && !text.contains("dev1"), "{text}");
        assert_eq!(cookies.session(&sent(&set), now()), Presented::Session(session(60)));
        assert_eq!(
            cookies.session(&sent(&set), now() + SignedDuration::from_secs(60)),
            Presented::Expired
        );
        assert_eq!(
            cookies.session(&sent(&cookies.end_session()), now()),
            Presented::Nothing
        );
        assert_eq!(cookies.session(&HeaderMap::new(), now()), Presented::Nothing);
    }

    #[test]
    fn keys_rotate_and_foreign_or_moved_cookies_are_nothing() {
        let (old, new) = (Key::generate(), Key::generate());
        let before = Cookies::new(vec![old.clone()]);
        let after = Cookies::new(vec![new, old]);
        let set = before.begin_session(&session(60), now()).unwrap();
        assert!(matches!(after.session(&sent(&set), now()), Presented::Session(_)));
        let set = after.begin_session(&session(60), now()).unwrap();
        assert_eq!(before.session(&sent(&set), now()), Presented::Nothing);
        // The name is part of what is authenticated: a login cookie is no session.
        let (state, other) = ("AbCd-_12345", "AbCd-_12999");
        let attempt: Attempt =
            serde_json::from_str(&format!(r#"{{"state":"{state}","nonce":"n","verifier":"v"}}"#)).unwrap();
        let set = before.begin_attempt(attempt, "/".into(), &HeaderMap::new(), now());
        let moved = set[0]
            .to_str()
            .unwrap()
            .replacen("__Host-devplane-login-AbCd-_12", SESSION, 1);
        assert_eq!(
            before.session(&sent(&HeaderValue::from_str(&moved).unwrap()), now()),
            Presented::Nothing
        );
        assert!(before.attempt(&sent(&set[0]), state, now()).is_some());
        // The same first characters, but another state.
        assert!(before.attempt(&sent(&set[0]), other, now()).is_none());
        let late = now() + SignedDuration::from_mins(10);
        assert!(before.attempt(&sent(&set[0]), state, late).is_none());
    }

    #[test]
    fn a_cookie_that_no_browser_keeps_is_not_set() {
        let cookies = Cookies::new(vec![Key::generate()]);
        let mut large = session(60);
        large.person.identity.issuer = "https://idp.test/".to_owned() + &"a".repeat(4000);
        assert_eq!(cookies.begin_session(&large, now()), None);
    }

    #[test]
    fn many_attempts_do_not_fill_the_request_head() {
        let cookies = Cookies::new(vec![Key::generate()]);
        let cookie: Vec<String> = (0..8).map(|i| format!("__Host-devplane-login-{i}=x")).collect();
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&cookie.join("; ")).unwrap())]);
        let attempt: Attempt = serde_json::from_str(r#"{"state":"s","nonce":"n","verifier":"v"}"#).unwrap();
        let set = cookies.begin_attempt(attempt, "/".into(), &headers, now());
        assert_eq!(set.len(), 1 + 3);
    }

    proptest! {
        #[test]
        fn no_cookie_is_too_strange(value in "[ -~]{0,200}") {
            let cookies = Cookies::new(vec![Key::generate()]);
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(&format!("{SESSION}={value}")).unwrap());
            prop_assert_eq!(cookies.session(&headers, now()), Presented::Nothing);
        }
    }
}

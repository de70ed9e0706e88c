//! A person becomes an encrypted cookie, and a cookie the person again: the only place that knows a cookie.
//!
//! A cookie is encrypted and authenticated (AES-256-GCM, with its name as associated data) with the first key, and read with
//! any: keys rotate without signing anyone out. Nothing is kept on the server but what [`Session::seal`] makes, which only this
//! cookie opens. What is too large for one cookie goes on in others. The `__Host-` prefix ties a cookie to this very host over
//! TLS (RFC 6265bis, section 4.1.3.2).

use crate::identity::Identity;
use crate::oidc::{Attempt, Person};
use arc_swap::ArcSwap;
use cookie::time::Duration as MaxAge;
use cookie::{Cookie, CookieJar, Key, SameSite};
use hyper::header::{COOKIE, HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The session, or its first part: then the number of parts and a colon stand in front. The second part ends in `-1`.
const SESSION: &str = "__Host-devplane-session";
/// The most parts: with more, a request head would be larger than reverse proxies take.
const MAX_PARTS: usize = 4;
/// With the first characters of the state behind it: each tab that signs in has its own.
const ATTEMPT_PREFIX: &str = "__Host-devplane-login-";
const STATE_CHARACTERS: usize = 8;
/// How long a sign-in may take.
const ATTEMPT_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// Sign-ins at once in one browser; the cookies of others are taken away, so that a request head never gets too large.
const MAX_ATTEMPTS: usize = 6;
/// Browsers keep cookies of at most 4096 bytes, name and attributes included (RFC 6265, section 6.1).
const MAX_COOKIE: usize = 4096;
/// Of those, what is left for the value beside the name and the attributes.
const MAX_PART: usize = 3900;
/// The name under which a refresh is sealed for the other gateways: no cookie has it.
const HANDOVER: &str = "devplane-refreshed-session";

/// Someone who is signed in.
#[derive(Clone, Debug)]
pub struct Session {
    /// The name of the session in log lines and in the Workspace; no secret, and of no use to anyone who knows it.
    pub id: String,
    /// Opens what gateways leave for each other in the Workspace. At least 32 bytes.
    secret: SecretString,
    pub began: Timestamp,
    /// The last use that the cookie knows of.
    pub seen: Timestamp,
    /// How long it stands unless the provider confirms it.
    pub valid_until: Timestamp,
    /// Where the provider can be asked.
    pub refresh: Option<Refresh>,
    pub person: Person,
}

/// What the provider is asked with.
#[derive(Clone, Debug)]
pub struct Refresh {
    pub token: SecretString,
    /// When to ask.
    pub at: Timestamp,
    /// How often it was asked already.
    pub count: u32,
}

/// What the session cookie says.
#[derive(Debug)]
pub enum Presented {
    Nothing,
    Session(Box<Session>),
}

#[derive(Deserialize, Serialize)]
struct SealedSession {
    id: String,
    secret: String,
    person: SealedPerson,
    /// Milliseconds since 1970, as all times here.
    began: i64,
    seen: i64,
    until: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<SealedRefresh>,
}

#[derive(Deserialize, Serialize)]
struct SealedRefresh {
    token: String,
    at: i64,
    count: u32,
}

#[derive(Deserialize, Serialize)]
struct SealedPerson {
    iss: String,
    sub: String,
    email: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    iat: i64,
    exp: i64,
}

/// What one gateway leaves for the others after it has asked the provider.
#[derive(Deserialize, Serialize)]
struct Handover {
    id: String,
    token: String,
    person: SealedPerson,
}

#[derive(Deserialize, Serialize)]
struct SealedAttempt {
    attempt: Attempt,
    return_path: String,
    exp: i64,
}

impl Session {
    /// A new session of `person` with an id and a secret of its own.
    pub fn begin(person: Person, refresh: Option<Refresh>, valid_until: Timestamp, now: Timestamp) -> Self {
        Self {
            id: format!("{:032x}", rand::random::<u128>()),
            secret: format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()).into(),
            began: now,
            seen: now,
            valid_until,
            refresh,
            person,
        }
    }

    /// What the provider has answered, for the gateways that are shown this session's cookie and for no one else.
    pub fn seal(&self, token: &SecretString, person: &Person) -> Option<String> {
        let handover = Handover {
            id: self.id.clone(),
            token: token.expose_secret().to_owned(),
            person: SealedPerson::from(person),
        };
        seal(&self.key(), HANDOVER, &handover)
    }

    /// What another gateway has sealed.
    pub fn open(&self, sealed: &str) -> Option<(SecretString, Person)> {
        let Handover { id, token, person } = open(&self.key(), HANDOVER, sealed)?;
        let person = person.opened()?;
        let is_own = id == self.id && person.identity == self.person.identity;
        is_own.then(|| (token.into(), person))
    }

    fn key(&self) -> Key {
        Key::derive_from(self.secret.expose_secret().as_bytes())
    }
}

impl From<&Person> for SealedPerson {
    fn from(person: &Person) -> Self {
        let Person {
            identity: Identity { issuer, subject },
            email,
            groups,
            is_admin,
            provider_session,
            issued,
            expires,
        } = person;
        Self {
            iss: issuer.clone(),
            sub: subject.clone(),
            email: email.clone(),
            groups: groups.clone(),
            admin: *is_admin,
            sid: provider_session.clone(),
            iat: issued.as_millisecond(),
            exp: expires.as_millisecond(),
        }
    }
}

impl SealedPerson {
    fn opened(self) -> Option<Person> {
        Some(Person {
            identity: Identity {
                issuer: self.iss,
                subject: self.sub,
            },
            email: self.email,
            groups: self.groups,
            is_admin: self.admin,
            provider_session: self.sid,
            issued: Timestamp::from_millisecond(self.iat).ok()?,
            expires: Timestamp::from_millisecond(self.exp).ok()?,
        })
    }
}

impl SealedSession {
    fn opened(self) -> Option<Session> {
        let refresh = self.refresh.map(|refresh| {
            Some(Refresh {
                token: refresh.token.into(),
                at: Timestamp::from_millisecond(refresh.at).ok()?,
                count: refresh.count,
            })
        });
        Some(Session {
            id: self.id,
            secret: (self.secret.len() >= 32).then(|| self.secret.into())?,
            began: Timestamp::from_millisecond(self.began).ok()?,
            seen: Timestamp::from_millisecond(self.seen).ok()?,
            valid_until: Timestamp::from_millisecond(self.until).ok()?,
            refresh: refresh.map_or(Some(None), |refresh| refresh.map(Some))?,
            person: self.person.opened()?,
        })
    }
}

/// Makes and reads the cookies.
pub struct Cookies {
    keys: ArcSwap<Vec<Key>>,
}

impl Cookies {
    /// `keys` has at least one: the first encrypts.
    pub fn new(keys: Vec<Key>) -> Self {
        Self {
            keys: ArcSwap::from_pointee(keys),
        }
    }

    pub fn keys(&self) -> Arc<Vec<Key>> {
        self.keys.load_full()
    }

    /// Goes on with other keys, of which there is at least one.
    pub fn set_keys(&self, keys: Vec<Key>) {
        self.keys.store(Arc::new(keys));
    }

    /// The `Set-Cookie` headers that keep a session in the browser until `ends`, and take away what is left of a longer one. `None`
    /// when it would be larger than browsers and proxies take.
    pub fn keep_session(
        &self,
        session: &Session,
        ends: Timestamp,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Vec<HeaderValue>> {
        let Session {
            id,
            secret,
            began,
            seen,
            valid_until,
            refresh,
            person,
        } = session;
        let sealed = SealedSession {
            id: id.clone(),
            secret: secret.expose_secret().to_owned(),
            person: SealedPerson::from(person),
            began: began.as_millisecond(),
            seen: seen.as_millisecond(),
            until: valid_until.as_millisecond(),
            refresh: refresh.as_ref().map(|refresh| SealedRefresh {
                token: refresh.token.expose_secret().to_owned(),
                at: refresh.at.as_millisecond(),
                count: refresh.count,
            }),
        };
        let text = seal(self.keys.load().first()?, SESSION, &sealed)?;
        let max_age = MaxAge::seconds(ends.duration_since(now).as_secs().max(0));
        let parts = parts(&text);
        let count = parts.len();
        let set = parts.into_iter().enumerate().map(|(index, value)| {
            let header = cookie(&part_name(index), value, max_age).to_string();
            (index < MAX_PARTS && header.len() <= MAX_COOKIE).then(|| HeaderValue::from_str(&header).ok())?
        });
        let stale = presented_parts(headers).filter(|(index, _)| *index >= count);
        set.chain(stale.map(|(_, name)| Some(removal(&name)))).collect()
    }

    /// Takes every part of the session away.
    pub fn end_session(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let others = presented_parts(headers).filter(|(index, _)| *index > 0);
        let names = std::iter::once(SESSION.to_owned()).chain(others.map(|(_, name)| name));
        names.map(|name| removal(&name)).collect()
    }

    pub fn session(&self, headers: &HeaderMap) -> Presented {
        let opened = join(headers).and_then(|text| {
            let keys = self.keys.load();
            let sealed: SealedSession = keys.iter().find_map(|key| open(key, SESSION, &text))?;
            sealed.opened()
        });
        opened.map_or(Presented::Nothing, |session| Presented::Session(Box::new(session)))
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
        let text = seal(self.keys.load().first()?, name, value)?;
        let header = cookie(name, text, max_age).to_string();
        (header.len() <= MAX_COOKIE).then(|| HeaderValue::from_str(&header).ok())?
    }

    fn read<T: DeserializeOwned>(&self, headers: &HeaderMap, name: &str) -> Option<T> {
        let cookie = presented(headers).find(|cookie| cookie.name() == name)?;
        let keys = self.keys.load();
        keys.iter().find_map(|key| open(key, name, cookie.value()))
    }
}

/// A value as text that only who has the key can read, and under this name only.
fn seal(key: &Key, name: &str, value: &impl Serialize) -> Option<String> {
    let mut jar = CookieJar::new();
    let plain = Cookie::new(name.to_owned(), serde_json::to_string(value).ok()?);
    jar.private_mut(key).add(plain);
    Some(jar.get(name)?.value().to_owned())
}

fn open<T: DeserializeOwned>(key: &Key, name: &str, sealed: &str) -> Option<T> {
    let sealed = Cookie::new(name.to_owned(), sealed.to_owned());
    let opened = CookieJar::new().private(key).decrypt(sealed)?;
    serde_json::from_str(opened.value()).ok()
}

/// The values of the cookies that `text` is kept in. It is base64: ASCII.
fn parts(text: &str) -> Vec<String> {
    let count = text.len().div_ceil(MAX_PART).max(1);
    let mut parts: Vec<String> = (0..count)
        .map(|index| text[index * MAX_PART..text.len().min((index + 1) * MAX_PART)].to_owned())
        .collect();
    if count > 1 {
        parts[0] = format!("{count}:{}", parts[0]);
    }
    parts
}

/// The text that was kept in one or more cookies.
fn join(headers: &HeaderMap) -> Option<String> {
    let part = |index: usize| {
        let name = part_name(index);
        presented(headers).find(|cookie| cookie.name() == name)
    };
    let first = part(0)?;
    let Some((count, text)) = first.value().split_once(':') else {
        return Some(first.value().to_owned());
    };
    let count: usize = count.parse().ok().filter(|count| (2..=MAX_PARTS).contains(count))?;
    let mut text = text.to_owned();
    for index in 1..count {
        text.push_str(part(index)?.value());
    }
    Some(text)
}

fn part_name(index: usize) -> String {
    match index {
        0 => SESSION.to_owned(),
        index => format!("{SESSION}-{index}"),
    }
}

/// The parts of a session that a browser has, with their names.
fn presented_parts(headers: &HeaderMap) -> impl Iterator<Item = (usize, String)> {
    let names = (0..MAX_PARTS).map(|index| (index, part_name(index)));
    names.filter(|(_, name)| presented(headers).any(|cookie| cookie.name() == name.as_str()))
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
#[path = "session_tests.rs"]
pub mod tests;

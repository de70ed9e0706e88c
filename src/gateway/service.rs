//! A request becomes a route, and a route its handler's answer.

use super::backchannel::{self, Seen};
use super::client_address::client_address;
use super::limits::Limits;
use super::places::Terminals;
use super::presence::Presence;
use super::recording::SessionRecording;
use super::reject::Rejection;
use super::respond::{self, Answer};
use super::route::Route;
use super::session::Cookies;
use super::terminal_tls::TerminalTls;
use super::workspaces::Workspaces;
use super::{assets, events, home, sign_in, terminal, wishes};
use crate::audit::Actor;
use crate::clock::Clock;
use crate::config::clipboard::Clipboard;
use crate::config::edge::Edge;
use crate::config::session::SessionRules;
use crate::oidc::Provider;
use crate::serve::drain::Drain;
use crate::serve::listener::Peer;
use crate::telemetry::metrics::{self, GatewayMetrics, RefusalReason};
use crate::telemetry::request_id::RequestId;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, SET_COOKIE};
use hyper::{Method, Request, Version};
use jiff::Timestamp;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use url::Url;

const FORM: &str = "application/x-www-form-urlencoded";
/// A logout token has at most 32 KiB.
const MAX_FORM: usize = 64 * 1024;

/// What all requests share.
pub struct Gateway {
    pub provider: Provider,
    pub cookies: Cookies,
    pub logouts_seen: Seen,
    pub workspaces: Workspaces,
    pub presence: Presence,
    pub limits: Limits,
    pub terminals: Arc<Terminals>,
    pub streams: Arc<Terminals>,
    pub terminal_tls: TerminalTls,
    pub edge: Edge,
    pub clipboard: Clipboard,
    pub metrics: GatewayMetrics,
    /// `None` records nothing.
    pub recording: Option<SessionRecording>,
    pub session_rules: SessionRules,
    pub clock: Arc<dyn Clock>,
    pub drain: Drain,
    pub public_url: Url,
    /// Its ASCII serialization (RFC 6454, section 6.2).
    pub public_origin: String,
    /// Where the provider sends browsers back to that signed out there; it must be registered there.
    pub post_logout_url: Option<Url>,
    /// Whom a refused user may ask; may be empty.
    pub support_contact: String,
}

/// One request. Its body is not read, but for the one route that needs it.
pub struct Asked {
    pub id: RequestId,
    pub now: Timestamp,
    /// When it came, for what is measured.
    pub began: Instant,
    /// Who asks, as far as proxies in front are believed.
    pub client: IpAddr,
    pub request: Request<()>,
    /// For the answer: a session that is newer than what the browser has.
    pub cookies: OnceLock<Vec<HeaderValue>>,
    /// A body of `application/x-www-form-urlencoded`, where the route takes one.
    form: Option<Bytes>,
}

impl Asked {
    pub fn route(&self) -> Route<'_> {
        Route::of(self.request.uri().path())
    }

    /// Whether only our own page, or a program, may ask this: it changes something, or opens a terminal.
    pub fn needs_origin(&self) -> bool {
        self.request.method() == Method::POST || self.route() == Route::Terminal
    }

    /// A query parameter; `None` when it is missing, or there twice (RFC 6749, section 3.1).
    pub fn parameter(&self, name: &str) -> Option<String> {
        only(self.request.uri().query()?.as_bytes(), name)
    }

    /// A field of the form; `None` when it is missing, or there twice.
    pub fn form_field(&self, name: &str) -> Option<String> {
        only(self.form.as_deref()?, name)
    }

    /// An actor who is not known yet, in audit lines.
    pub fn nobody(&self) -> Actor<'_> {
        Actor {
            request_id: self.id.as_str(),
            ..Actor::default()
        }
    }

    /// What outlives the request: not its headers, which hold a cookie.
    pub fn without_request(&self) -> Self {
        Self {
            id: self.id.clone(),
            now: self.now,
            began: self.began,
            client: self.client,
            request: Request::new(()),
            cookies: OnceLock::new(),
            form: None,
        }
    }

    fn wants_html(&self) -> bool {
        let accepts = self.request.headers().get_all(ACCEPT).iter();
        let named = accepts
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains("text/html"));
        named && !self.route().is_api()
    }
}

/// The one value of a key; `None` when it is missing, or there twice.
fn only(encoded: &[u8], name: &str) -> Option<String> {
    let mut values = url::form_urlencoded::parse(encoded).filter(|(key, _)| key == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(value.into_owned()),
        _ => None,
    }
}

/// The body of a request that has a small form in it and sends it in time; nothing when it is of another kind.
async fn form(headers: &HeaderMap, body: Incoming, limit: Duration) -> Result<Option<Bytes>, RefusalReason> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case(FORM) {
        return Ok(None);
    }
    match timeout(limit, Limited::new(body, MAX_FORM).collect()).await {
        Ok(Ok(read)) => Ok(Some(read.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(RefusalReason::LargeBody),
        Ok(Err(_)) => Err(RefusalReason::MalformedBody),
        Err(_) => Err(RefusalReason::SlowBody),
    }
}

/// Whether a request says once to whom it is sent (RFC 9112, section 3.2): a proxy in front may go by one, and another by the other.
fn has_one_target<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
    match (request.uri().authority(), host) {
        (Some(authority), Some(host)) => authority.as_str().as_bytes().eq_ignore_ascii_case(host),
        (None, None) => request.version() < Version::HTTP_11,
        (None, Some(host)) => !host.is_empty() || request.version() < Version::HTTP_11,
        (Some(_), None) => request.version() < Version::HTTP_11,
    }
}

impl Gateway {
    /// Answers one request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let started = Instant::now();
        let id = RequestId::of(request.headers(), rand::random());
        let peer = request.extensions().get::<Peer>();
        let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |Peer(address)| address.ip());
        let client = client_address(peer, request.headers(), &self.edge.trusted_proxies);
        let (head, body) = request.into_parts();
        let (form, refused) = match Route::of(head.uri.path()) {
            Route::BackchannelLogout => match form(&head.headers, body, self.edge.request_timeout).await {
                Ok(form) => (form, None),
                Err(reason) => (None, Some(reason)),
            },
            _ => (None, None),
        };
        let mut asked = Asked {
            id,
            now: self.clock.now(),
            began: started,
            client,
            request: Request::from_parts(head, ()),
            cookies: OnceLock::new(),
            form,
        };
        let refused = refused.or_else(|| (!has_one_target(&asked.request)).then_some(RefusalReason::Target));
        let answered = match refused {
            Some(reason) => {
                self.metrics.refused(reason);
                Err(Rejection::of(reason))
            }
            None => self.dispatch(&mut asked).await,
        };
        let mut answer = answered.unwrap_or_else(|rejection| self.refuse(&rejection, &asked));
        // What signs in or out has its own.
        if !answer.headers().contains_key(SET_COOKIE) {
            for cookie in asked.cookies.take().unwrap_or_default() {
                answer.headers_mut().append(SET_COOKIE, cookie);
            }
        }
        respond::complete(&mut answer, &asked.id, self.public_url.scheme() == "https");
        let (route, status) = (asked.route(), answer.status().as_u16());
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (id, method) = (asked.id.as_str(), asked.request.method().as_str());
        if route.is_probe() || matches!(route, Route::Asset(_)) {
            tracing::debug!(
                request_id = id,
                route = route.name(),
                method,
                status,
                client = %asked.client,
                milliseconds,
                "request"
            );
        } else {
            tracing::info!(
                request_id = id,
                route = route.name(),
                method,
                status,
                client = %asked.client,
                milliseconds,
                "request"
            );
        }
        answer
    }

    async fn dispatch(self: &Arc<Self>, asked: &mut Asked) -> Result<Answer, Rejection> {
        let route = asked.route();
        if !route.allows(asked.request.method()) {
            return Err(Rejection::MethodNotAllowed { allow: route.allow() });
        }
        match route {
            Route::Login => sign_in::start(self, asked).await,
            Route::Callback => sign_in::finish(self, asked).await,
            Route::Logout if asked.request.method() != Method::POST => Ok(sign_in::ask_to_end()),
            Route::Logout => sign_in::end(self, asked).await,
            Route::SignedOut => Ok(sign_in::signed_out(None)),
            Route::BackchannelLogout => backchannel::logout(self, asked).await,
            Route::Workspace => home::api(self, asked).await,
            Route::WorkspaceEvents => events::follow(self, asked).await,
            Route::WorkspaceRestart => wishes::restart(self, asked).await,
            Route::WorkspaceKeepWorking => wishes::keep_working(self, asked).await,
            Route::Terminal => terminal::open(self, asked).await,
            Route::Health => Ok(respond::text(respond::PLAIN, "ok".to_owned())),
            Route::Ready => self.readiness(asked),
            Route::Metrics => Ok(respond::text(metrics::CONTENT_TYPE, self.metrics.encode())),
            Route::Asset(path) => assets::find(path).map(respond::asset).ok_or(Rejection::NotFound),
            Route::Page => home::page(self, asked).await,
            Route::Unknown => {
                super::authn::authenticate(self, asked).await?;
                Err(Rejection::NotFound)
            }
        }
    }

    /// Whether people can sign in and reach their workspaces. With `exclude=provider`, as Kubernetes' own `/readyz` has it, whether those
    /// who are signed in can; a provider that is set up wrongly is no outage of it, and no gateway takes another one's place with that.
    fn readiness(&self, asked: &Asked) -> Result<Answer, Rejection> {
        let has_provider = match asked.parameter("exclude").as_deref() {
            Some("provider") => self.provider.is_discovered_or_away(),
            _ => self.provider.is_discovered(),
        };
        if !has_provider {
            return Err(Rejection::ProviderUnavailable);
        }
        if !self.workspaces.is_watched() {
            return Err(Rejection::NotWatched);
        }
        Ok(respond::text(respond::PLAIN, "ok".to_owned()))
    }

    /// A page for a person, JSON for a program, and the way to sign in for who is not.
    pub fn refuse(&self, rejection: &Rejection, asked: &Asked) -> Answer {
        if rejection.is_signed_out() && matches!(asked.route(), Route::Page | Route::Unknown) {
            let uri = asked.request.uri();
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            return respond::redirect(&sign_in::login_url(path));
        }
        rejection.answer(asked.wants_html(), &asked.id, &self.support_contact, &self.metrics)
    }
}

//! What the gateway has to say becomes HTTP answers, with the headers that every one of them carries.

use super::assets::File;
use crate::telemetry::request_id::{self, RequestId};
use askama::Template;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;

/// What an answer carries: some bytes, or a stream of events.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
pub type Answer = Response<Body>;

/// Pages load their own files and nothing else, run no script that stands in them, and are framed by nobody.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; \
     connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// For every answer. Not `no-referrer`: with that, browsers say `Origin: null` when our own page posts a form (Fetch, "append
/// a request `Origin` header").
const EVERYWHERE: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, PAGE_POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// A year, in seconds.
const HSTS: &str = "max-age=31536000";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
pub const PLAIN: &str = "text/plain; charset=utf-8";
/// The name of an asset holds a hash of its content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Pages and answers tell of a person.
const NO_STORE: &str = "no-store";

pub fn page(status: StatusCode, page: &impl Template) -> Answer {
    match page.render() {
        Ok(html) => of(status, HTML, html.into()),
        // Writing to a String can't fail.
        Err(error) => {
            tracing::error!(%error, "a page can't be rendered");
            of(
                StatusCode::INTERNAL_SERVER_ERROR,
                PLAIN,
                Bytes::from_static(b"internal error\n"),
            )
        }
    }
}

pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(json) => of(status, JSON, json.into()),
        // The values are ours: no map with keys that are no strings.
        Err(error) => {
            tracing::error!(%error, "an answer can't be written as JSON");
            of(StatusCode::INTERNAL_SERVER_ERROR, JSON, Bytes::from_static(b"{}"))
        }
    }
}

pub fn text(content_type: &'static str, text: String) -> Answer {
    of(StatusCode::OK, content_type, text.into())
}

pub fn asset(file: &File) -> Answer {
    let mut answer = of(StatusCode::OK, file.content_type, Bytes::from_static(file.bytes));
    set(&mut answer, CACHE_CONTROL, IMMUTABLE);
    answer
}

/// 302: the browser goes on with GET.
pub fn redirect(location: &str) -> Answer {
    match HeaderValue::from_str(location) {
        Ok(location) => {
            let mut answer = of(StatusCode::FOUND, PLAIN, Bytes::new());
            answer.headers_mut().insert(LOCATION, location);
            answer
        }
        // A URL is ASCII without control characters.
        Err(_) => of(
            StatusCode::INTERNAL_SERVER_ERROR,
            PLAIN,
            Bytes::from_static(b"internal error\n"),
        ),
    }
}

/// Server-sent events (HTML Standard, section 9.2).
pub fn events(events: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
    let frames = events.map(|event| Ok(Frame::data(event)));
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    set(&mut answer, CONTENT_TYPE, "text/event-stream");
    // A reverse proxy that gathers the answer would hold the events back (nginx).
    set(&mut answer, HeaderName::from_static("x-accel-buffering"), "no");
    answer
}

/// Gives an answer what every answer has.
pub fn complete(answer: &mut Answer, id: &RequestId, https: bool) {
    for (name, value) in EVERYWHERE {
        set(answer, name, value);
    }
    if https {
        set(answer, STRICT_TRANSPORT_SECURITY, HSTS);
    }
    answer
        .headers_mut()
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static(NO_STORE));
    answer.headers_mut().insert(request_id::HEADER, id.header());
}

fn of(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes).boxed_unsync());
    *answer.status_mut() = status;
    set(&mut answer, CONTENT_TYPE, content_type);
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}

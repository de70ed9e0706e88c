//! A request becomes its whole answer: bounded in time and size, and never sent on elsewhere.

use crate::causes::with_causes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{DATE, HeaderMap};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls::ClientConfig;
use snafu::{ResultExt, Snafu};
use std::error::Error;
use std::io;
use std::iter;
use std::time::Duration;
use tokio::time::timeout;

/// What is enough for any document that is asked for, and for the server to think about it.
pub const DEFAULT_LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    bytes: 4 << 20,
};

/// How long a whole exchange may take, and how large the body of its answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub time: Duration,
    /// In bytes.
    pub bytes: usize,
}

/// Why there is no answer. Holds nothing of the request, which may hold secrets.
#[derive(Debug, Snafu)]
pub enum HttpError {
    #[snafu(display("can't connect: {}", with_causes(source)))]
    Connect { source: hyper_util::client::legacy::Error },
    #[snafu(display("no answer within {} s", time.as_secs()))]
    Timeout { time: Duration },
    #[snafu(display("the answer is larger than {bytes} bytes"))]
    TooLarge { bytes: usize },
    #[snafu(display("the answer broke off"))]
    BrokenOff,
    /// For whom such an answer is none: it may be that of a proxy in front.
    #[snafu(display("the server, or a proxy in front of it, answered with the HTTP status {status}"))]
    Unavailable { status: u16 },
}

impl HttpError {
    /// What TLS found wrong, where it was that.
    pub fn tls(&self) -> Option<&rustls::Error> {
        let Self::Connect { source } = self else { return None };
        let causes = iter::successors(Some(source as &dyn Error), |error| cause(*error));
        causes.filter_map(|error| error.downcast_ref::<rustls::Error>()).next()
    }
}

/// What time it was at a server when it answered (RFC 9110, section 6.6.1), in whole seconds.
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    // The one form that servers may send (RFC 9110, section 5.6.7); jiff reads it but for the zone's name.
    rfc2822::parse(&text.replace("GMT", "+0000"))
        .ok()
        .map(|date| date.timestamp())
}

/// The next one further down. An [`io::Error`] gives its own error away by another name.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// How long a connection waits for another question: shorter than servers keep one that is idle (5 s is the shortest that is usual), so
/// that none of them closes it while a question is on its way.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// Asks over HTTP/1.1, with TLS where the address says https.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: Limits,
}

impl HttpClient {
    /// Questions in a row share a connection.
    pub fn new(tls: ClientConfig, limits: Limits) -> Self {
        Self::keeping(usize::MAX, tls, limits)
    }

    /// Each question has a connection of its own, for what can't be asked twice: one that was kept may be closed by the server while a
    /// question is on its way (RFC 9112, section 9.5), and nobody knows then whether it has arrived.
    pub fn without_reuse(tls: ClientConfig, limits: Limits) -> Self {
        Self::keeping(0, tls, limits)
    }

    fn keeping(idle_per_host: usize, tls: ClientConfig, limits: Limits) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Self {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEPT_FOR)
                .pool_max_idle_per_host(idle_per_host)
                .build(connector),
            limits,
        }
    }

    /// One exchange. Whatever status it has is an answer.
    ///
    /// # Errors
    /// When no whole answer comes within the limits.
    pub async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError> {
        let Limits { time, bytes } = self.limits;
        let exchange = async {
            let answer = self.client.request(request).await.context(ConnectSnafu)?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, bytes).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpError::TooLarge { bytes }
                } else {
                    HttpError::BrokenOff
                }
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        timeout(time, exchange)
            .await
            .unwrap_or(Err(HttpError::Timeout { time }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(DATE, HeaderValue::from_static("Fri, 27 Nov 2026 23:44:36 GMT"));
        assert_eq!(date(&headers), Some("2026-11-27T23:44:36Z".parse().unwrap()));
        headers.insert(DATE, HeaderValue::from_static("soon"));
        assert_eq!(date(&headers), None);
    }
}

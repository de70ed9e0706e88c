//! What openidconnect asks becomes the provider's answer, and the time at which there last was one.

use crate::http_client::{HttpClient, HttpError, Limits};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Response};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::ClientConfig;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Discovery documents and key sets have a few thousand bytes.
pub(super) const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    bytes: 1 << 20,
};

/// What is posted is a code or a refresh token, which is used up when the provider has it, whether or not its answer comes: an answer that is
/// late is worth waiting for.
const TOKEN_LIMITS: Limits = Limits {
    time: Duration::from_secs(30),
    ..LIMITS
};

/// The client that openidconnect asks through. Plain HTTP is for a provider on a loopback address; `provider` refuses it for every
/// other.
pub struct ProviderClient {
    client: HttpClient,
    token_client: HttpClient,
    /// When the provider last answered; `None` when it did not the last time.
    answered: Mutex<Option<Instant>>,
}

impl ProviderClient {
    pub fn new(tls: ClientConfig) -> Self {
        Self {
            client: HttpClient::new(tls.clone(), LIMITS),
            token_client: HttpClient::new(tls, TOKEN_LIMITS),
            answered: Mutex::default(),
        }
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let client = match *request.method() {
            Method::POST => &self.token_client,
            _ => &self.client,
        };
        let result = client.ask(request.map(|body| Full::new(Bytes::from(body)))).await;
        let result = result.and_then(answered);
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = result.is_ok().then(Instant::now);
        Ok(result?.map(Vec::from))
    }

    /// Whether the provider answered the last time, and that was no longer ago than this.
    pub fn answered_within(&self, time: Duration) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.is_some_and(|at| at.elapsed() < time)
    }
}

/// A provider in trouble, or a proxy in front of one that is down, has said nothing of what it was asked: neither yes nor no.
fn answered(answer: Response<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let status = answer.status();
    if status.is_server_error() {
        return Err(HttpError::Unavailable {
            status: status.as_u16(),
        });
    }
    Ok(answer)
}

impl<'c> AsyncHttpClient<'c> for ProviderClient {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.ask(request))
    }
}

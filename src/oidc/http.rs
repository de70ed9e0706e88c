//! A request to the provider becomes its answer: bounded in time and size, and never redirected.

use crate::causes::with_causes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::ClientConfig;
use snafu::{ResultExt, Snafu};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// For a whole exchange: connecting, asking and reading.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, in bytes. Discovery documents and key sets have a few thousand.
const MAX_ANSWER: usize = 1 << 20;

/// Why the provider gave no answer. Holds nothing of the request, which may hold secrets.
#[derive(Debug, Snafu)]
pub enum HttpError {
    #[snafu(display("can't reach the provider: {}", with_causes(source)))]
    Connect { source: hyper_util::client::legacy::Error },
    #[snafu(display("the provider did not answer within {} s", TIMEOUT.as_secs()))]
    Timeout,
    #[snafu(display("the provider's answer is larger than {MAX_ANSWER} bytes"))]
    TooLarge,
    #[snafu(display("the provider's answer broke off"))]
    BrokenOff,
}

/// The client that openidconnect asks through.
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// When the provider last answered; `None` when it did not the last time.
    answered: Mutex<Option<Instant>>,
}

impl HttpClient {
    pub fn new(tls: ClientConfig) -> Self {
        // Plain HTTP is for a provider on a loopback address; `provider` refuses it for every other.
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            answered: Mutex::default(),
        }
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let exchange = async {
            let answer = self.client.request(request.map(|body| Full::new(Bytes::from(body))));
            let (head, body) = answer.await.context(ConnectSnafu)?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpError::TooLarge
                } else {
                    HttpError::BrokenOff
                }
            })?;
            Ok(HttpResponse::from_parts(head, body.to_bytes().to_vec()))
        };
        let result = tokio::time::timeout(TIMEOUT, exchange).await;
        let result = result.unwrap_or(Err(HttpError::Timeout));
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = result.is_ok().then(Instant::now);
        result
    }

    /// Whether the provider answered the last time, and that was no longer ago than this.
    pub fn answered_within(&self, time: Duration) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.is_some_and(|at| at.elapsed() < time)
    }
}

impl<'c> AsyncHttpClient<'c> for HttpClient {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.ask(request))
    }
}

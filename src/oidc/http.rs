//! What openidconnect asks becomes the provider's answer, and the time at which there last was one.

use crate::http_client::{HttpClient, HttpError, Limits};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::ClientConfig;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Discovery documents and key sets have a few thousand bytes.
pub(super) const LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    bytes: 1 << 20,
};

/// An answer that is late is worth waiting for: a code or a refresh token is used up when the provider has it, whether or not the answer
/// comes.
const TOKEN_LIMITS: Limits = Limits {
    time: Duration::from_secs(30),
    ..LIMITS
};

/// The client that openidconnect asks through. Plain HTTP is for a provider on a loopback address; `provider` refuses it for every
/// other.
pub struct ProviderClient {
    client: HttpClient,
    /// When the provider last answered any of its clients; `None` when it did not the last time.
    answered: Arc<Mutex<Option<Instant>>>,
}

impl ProviderClient {
    /// For what may be asked again: discovery documents and key sets.
    pub fn for_documents(tls: ClientConfig) -> Self {
        Self {
            client: HttpClient::new(tls, LIMITS),
            answered: Arc::default(),
        }
    }

    /// For the token endpoint of the same provider, where what is sent is used up: a connection of its own for each question.
    pub fn for_tokens(&self, tls: ClientConfig) -> Self {
        Self {
            client: HttpClient::without_reuse(tls, TOKEN_LIMITS),
            answered: Arc::clone(&self.answered),
        }
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let result = self.client.ask(request.map(|body| Full::new(Bytes::from(body)))).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}";

    /// Answers the first question of each connection, and leaves the connection open; `next` is what becomes of one with another question.
    async fn provider(next: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if question(&mut stream).await {
                        stream.write_all(ANSWER).await.unwrap();
                    }
                    while question(&mut stream).await && !next.is_empty() {
                        stream.write_all(next).await.unwrap();
                    }
                });
            }
        });
        address
    }

    /// Whether one comes.
    async fn question(stream: &mut TcpStream) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return false,
            }
        }
        true
    }

    fn clients() -> (ProviderClient, ProviderClient) {
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let documents = ProviderClient::for_documents(tls.clone());
        let tokens = documents.for_tokens(tls);
        (documents, tokens)
    }

    async fn ask(client: &ProviderClient, address: SocketAddr) -> Result<HttpResponse, HttpError> {
        let question = hyper::Request::builder()
            .uri(format!("http://{address}/"))
            .body(Vec::new());
        client.call(question.unwrap()).await
    }

    #[tokio::test]
    async fn what_is_used_up_never_meets_a_connection_that_the_provider_closes() {
        let (documents, tokens) = clients();
        let address = provider(b"").await;
        for _ in 0..20 {
            ask(&tokens, address).await.unwrap();
        }
        assert!(
            documents.answered_within(Duration::from_secs(60)),
            "it is the same provider"
        );
    }

    #[tokio::test]
    async fn documents_are_asked_for_over_a_connection_that_is_there() {
        let again = b"HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n";
        let (documents, _) = clients();
        let address = provider(again).await;
        // A connection that is free is known to be so a moment after its answer.
        for _ in 0..100 {
            if ask(&documents, address).await.unwrap().status() == 204 {
                return;
            }
        }
        panic!("every question had a connection of its own");
    }
}

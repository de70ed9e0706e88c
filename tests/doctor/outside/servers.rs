//! Servers of the test's own on loopback addresses: fixed answers, and a way in between that changes what passes.

use crate::authority::{Authority, Served};
use devplane::http_client::{DEFAULT_LIMITS, HttpClient};
use fastwebsockets::Frame;
use fastwebsockets::upgrade::upgrade;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Answer = Response<Full<Bytes>>;

/// The settings of a server at localhost, with a certificate that ends with a year.
pub fn tls(authority: &Authority, year: i32) -> ServerConfig {
    let directory = tempfile::tempdir().unwrap();
    settings(&authority.serve_until(&["localhost"], year, directory.path()))
}

/// The same with a certificate that ends in some days.
pub fn tls_for_days(authority: &Authority, days: u64) -> ServerConfig {
    let directory = tempfile::tempdir().unwrap();
    settings(&authority.serve_for_days(&["localhost"], days, directory.path()))
}

fn settings(served: &Served) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&served.certificate).unwrap()],
            PrivateKeyDer::from_pem_file(&served.key).unwrap(),
        )
        .unwrap()
}

/// Serves until the test ends. Gives the origin.
async fn serve<F, A>(tls: Option<ServerConfig>, answer: F) -> String
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = Arc::clone(&answer);
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                let http = http1::Builder::new();
                match acceptor {
                    None => drop(
                        http.serve_connection(TokioIo::new(stream), service)
                            .with_upgrades()
                            .await,
                    ),
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let _ = http.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                }
            });
        }
    });
    format!("{scheme}://localhost:{port}")
}

/// A server that has `pages`, by path, and nothing else.
pub async fn pages(tls: Option<ServerConfig>, pages: &'static [(&'static str, &'static str)]) -> String {
    serve(tls, async |request| {
        let path = request.uri().path();
        match pages.iter().find(|(at, _)| *at == path) {
            Some((_, page)) => Response::new(Full::from(*page)),
            None => {
                let mut answer = Response::new(Full::default());
                *answer.status_mut() = StatusCode::NOT_FOUND;
                answer
            }
        }
    })
    .await
}

/// A server that is well, and opens WebSockets in order to close them with a code.
pub async fn closing(code: u16) -> String {
    serve(None, move |mut request| async move {
        if request.uri().path() == "/health" {
            return Response::new(Full::from("ok"));
        }
        let (answer, socket) = upgrade(&mut request).unwrap();
        tokio::spawn(async move {
            let mut socket = socket.await.unwrap();
            socket.write_frame(Frame::close(code, b"")).await.unwrap();
        });
        answer.map(|_| Full::default())
    })
    .await
}

/// A way in to `target` that takes request headers out, and lets `change` have its way with each answer, by its path and our origin.
pub async fn between(
    target: String,
    without: &'static [HeaderName],
    change: impl Fn(&str, &str, &mut Response<Bytes>) + Send + Sync + 'static,
) -> String {
    in_front(None, target, without, change).await
}

/// The same, possibly with TLS.
pub async fn in_front(
    tls: Option<ServerConfig>,
    target: String,
    without: &'static [HeaderName],
    change: impl Fn(&str, &str, &mut Response<Bytes>) + Send + Sync + 'static,
) -> String {
    let http = HttpClient::new(devplane::tls::client(None).unwrap(), DEFAULT_LIMITS);
    let change = Arc::new(change);
    serve(tls, move |request: Request<Incoming>| {
        let (http, target, change) = (http.clone(), target.clone(), Arc::clone(&change));
        async move {
            let (mut head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (path, host) = (head.uri.path().to_owned(), head.headers[hyper::header::HOST].clone());
            let whole = head.uri.path_and_query().unwrap().as_str();
            head.uri = format!("{target}{whole}").parse().unwrap();
            for name in without {
                head.headers.remove(name);
            }
            let mut answer = http.ask(Request::from_parts(head, Full::from(body))).await.unwrap();
            change(&path, &format!("http://{}", host.to_str().unwrap()), &mut answer);
            for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
                answer.headers_mut().remove(name);
            }
            answer.map(Full::from)
        }
    })
    .await
}

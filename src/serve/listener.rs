//! A TCP port becomes HTTP/1.1 requests, over TLS when there is a certificate.
//!
//! HTTP/1.1 only: a WebSocket is an upgrade of it (RFC 6455). Every connection is bounded: in number, in the time for its
//! handshake and its request heads, and in their size.

use super::drain::Drain;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use snafu::{ResultExt, Snafu};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Connections at once; the next one waits in the kernel's queue until one ends.
const MAX_CONNECTIONS: usize = 16_384;
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 100;
/// The largest request head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// After a failure of `accept`, most likely too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a request's connection: an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The port can't be listened on.
#[derive(Debug, Snafu)]
#[snafu(display("can't listen on {address}: {source}"), visibility(pub(super)))]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// # Errors
/// When the address is taken, or not allowed.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.context(ListenSnafu { address })
}

/// Answers requests until `drain` says to stop; connections then finish the request that they are in. `head_timeout` is
/// for a request head to come in, and for an idle connection that is kept alive.
pub async fn serve<F, B>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    head_timeout: Duration,
    drain: &Drain,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let acceptor = tls.map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.stopping() => return,
        };
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, Peer(address)),
            Err(error) => {
                tracing::warn!(address = ?listener.local_addr().ok(), %error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A keystroke must not wait for the next one. A connection that has ended by now ends below.
        let _ = stream.set_nodelay(true);
        let (acceptor, answer, stopping) = (acceptor.clone(), answer.clone(), drain.clone());
        drain.spawn(async move {
            match acceptor {
                None => connection(stream, peer, answer, head_timeout, &stopping).await,
                // A failed handshake is the client's affair: a probe, a scanner, a wrong authority.
                Some(acceptor) => match timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, peer, answer, head_timeout, &stopping).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                },
            }
            drop(place);
        });
    }
}

async fn connection<S, F, B>(
    stream: S,
    peer: Peer,
    answer: impl Fn(Request<Incoming>) -> F,
    head_timeout: Duration,
    drain: &Drain,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // How a connection ends is no event: browsers break them off all the time.
    let _ = tokio::select! {
        result = &mut connection => result,
        () = drain.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

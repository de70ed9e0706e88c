//! A TCP port becomes HTTP/1.1 requests, over TLS when there is a certificate.
//!
//! HTTP/1.1 only: a WebSocket is an upgrade of it (RFC 6455). Every connection is bounded: in number, in the time for its
//! handshake and its request heads, in that for its answers to be taken, and in their size; and nothing is taken that two parsers may read differently ([`super::strict`]).

use super::drain::Drain;
use super::stall::{Limit, Stalling};
use super::strict::{self, Strict};
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use snafu::{ResultExt, Snafu};
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const TLS_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 100;
/// The largest request head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// After a failure of `accept`, most likely too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// To a connection that there is no place for. Nothing of its request is read, so its id is ours.
fn no_place(id: &str) -> String {
    let body = format!(
        r#"{{"error":"too_many_connections","message":"Too many connections. Try again later.","requestId":"{id}"}}"#
    );
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-type: application/json\r\nx-request-id: {id}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Why a connection is not served, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    TooManyConnections,
    /// A TLS handshake that failed, or took too long.
    Handshake,
    MalformedHead,
    LargeHead,
    /// It has begun, and did not come in in time.
    SlowHead,
    /// Nothing of an answer was taken in time.
    SlowReader,
}

/// How much is taken of the other side.
#[derive(Clone)]
pub struct Bounds {
    /// For a request head to come in, for an idle connection that is kept alive, and for a peer that takes nothing of its answer.
    pub timeout: Duration,
    /// Connections at once, those that were upgraded not among them; `None` is unlimited.
    pub connections: Option<NonZeroUsize>,
    /// Is told of each refusal, and gives the id under which it is logged: of letters, digits and dashes.
    pub refused: Arc<dyn Fn(Refused, Peer) -> String + Send + Sync>,
}

impl Bounds {
    /// For a port that only the cluster reaches.
    pub fn of_probes(timeout: Duration) -> Self {
        Self {
            timeout,
            connections: NonZeroUsize::new(1024),
            refused: Arc::new(|_, _| "probe".to_owned()),
        }
    }
}

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

/// Listens; on `::`, which is IPv6 and IPv4, where there is no IPv6 on IPv4 alone.
///
/// # Errors
/// When the address is taken, or not allowed.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(address).await;
    let every = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
    if listener.is_err()
        && address == every
        && let Ok(listener) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
    {
        return Ok(listener);
    }
    listener.context(ListenSnafu { address })
}

/// Answers requests until `drain` says to stop; connections then finish the request that they are in.
pub async fn serve<F, B>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    bounds: Bounds,
    drain: &Drain,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let acceptor = tls.map(TlsAcceptor::from);
    let most = bounds.connections.map_or(Semaphore::MAX_PERMITS, NonZeroUsize::get);
    let places = Arc::new(Semaphore::new(most));
    loop {
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
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let id = (bounds.refused)(Refused::TooManyConnections, peer);
            if acceptor.is_none() {
                // There is room in a new connection's buffer.
                let _ = stream.try_write(no_place(&id).as_bytes());
            }
            continue;
        };
        // A keystroke must not wait for the next one. A connection that has ended by now ends below.
        let _ = stream.set_nodelay(true);
        let (acceptor, answer, stopping, bounds) = (acceptor.clone(), answer.clone(), drain.clone(), bounds.clone());
        drain.spawn(async move {
            let (stream, limit) = Stalling::new(stream, bounds.timeout);
            match acceptor {
                None => connection(stream, peer, limit, answer, &bounds, &stopping).await,
                // A failed handshake is the client's affair: a probe, a scanner, a wrong authority.
                Some(acceptor) => match timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, peer, limit, answer, &bounds, &stopping).await,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a TLS handshake failed");
                        (bounds.refused)(Refused::Handshake, peer);
                    }
                    Err(_) => {
                        tracing::debug!("a TLS handshake took too long");
                        (bounds.refused)(Refused::Handshake, peer);
                    }
                },
            }
            drop(place);
        });
    }
}

async fn connection<S, F, B>(
    stream: S,
    peer: Peer,
    limit: Limit,
    answer: impl Fn(Request<Incoming>) -> F,
    bounds: &Bounds,
    drain: &Drain,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let of_answers = limit.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let limit = of_answers.clone();
        let is_last = strict::is_last(request.headers());
        let answered = answer(request);
        async move {
            let mut answer = answered.await;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                limit.lift();
            } else if is_last {
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let (stream, amid_head) = Strict::new(stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = drain.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // How a connection ends is no event: browsers break them off all the time.
    let refused = match result {
        Err(error) if error.is_parse_too_large() => Refused::LargeHead,
        Err(error) if error.is_parse() => Refused::MalformedHead,
        // One that was merely kept alive is no refusal.
        Err(error) if error.is_timeout() && amid_head.get() => Refused::SlowHead,
        Err(_) if limit.is_met() => Refused::SlowReader,
        _ => return,
    };
    (bounds.refused)(refused, peer);
}

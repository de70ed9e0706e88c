//! A workspace's address becomes an open WebSocket to its ttyd.
//!
//! The request is built from nothing: no header, cookie, path or query of a client is in it. The workspace is not
//! trusted: its answer is bounded in time and size, and only its being a valid handshake is looked at.

use super::SUBPROTOCOL;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastwebsockets::handshake::generate_key;
use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use sha1::{Digest, Sha1};
use snafu::{ResultExt, Snafu, ensure};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For connecting and the handshake together.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEADERS: usize = 32;
/// The smallest that hyper takes, in bytes.
const MAX_HEAD: usize = 8192;
/// Where ttyd serves its WebSocket.
const PATH: &str = "/ws";
/// RFC 6455, section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why there is no connection to the workspace.
#[derive(Debug, Snafu)]
pub enum DialError {
    #[snafu(display("can't connect to {host}:{port}: {source}"))]
    Connect {
        host: String,
        port: u16,
        source: std::io::Error,
    },
    #[snafu(display("{host}:{port} did not answer within {} s", TIMEOUT.as_secs()))]
    Timeout { host: String, port: u16 },
    #[snafu(display("{host}:{port} does not prove to be this workspace: {source}"))]
    Identity {
        host: String,
        port: u16,
        source: std::io::Error,
    },
    #[snafu(display("{name} can't be the name of a workspace: {source}"))]
    Name { name: String, source: InvalidDnsNameError },
    #[snafu(display("the workspace's answer to the handshake can't be read: {source}"))]
    Http { source: hyper::Error },
    #[snafu(display("the name {host} can't stand in a request"))]
    Host { host: String, source: http::Error },
    #[snafu(display("the workspace answered the handshake with the HTTP status {status}"))]
    Refused { status: StatusCode },
    #[snafu(display("the workspace's answer is no handshake: its {header} header is wrong"))]
    Handshake { header: HeaderName },
}

/// Who has to be there, and who we are (mutual TLS).
pub struct Identity {
    pub config: Arc<ClientConfig>,
    /// The DNS name in the certificate that is to be shown.
    pub name: String,
}

/// Opens a WebSocket to `host:port`; without an identity, to whatever is there.
///
/// # Errors
/// When nothing listens there, or what answers is no ttyd, or not the one that was meant.
pub async fn dial(host: &str, port: u16, identity: Option<Identity>) -> Result<Upgraded, DialError> {
    match timeout(TIMEOUT, open(host, port, identity)).await {
        Ok(result) => result,
        Err(_) => TimeoutSnafu { host, port }.fail(),
    }
}

async fn open(host: &str, port: u16, identity: Option<Identity>) -> Result<Upgraded, DialError> {
    let stream = TcpStream::connect((host, port))
        .await
        .context(ConnectSnafu { host, port })?;
    // A keystroke must not wait for the next one.
    stream.set_nodelay(true).context(ConnectSnafu { host, port })?;
    let Some(Identity { config, name }) = identity else {
        return upgrade(stream, host, port).await;
    };
    let server = ServerName::try_from(name.as_str()).context(NameSnafu { name: &name })?;
    let stream = TlsConnector::from(config).connect(server.to_owned(), stream).await;
    upgrade(stream.context(IdentitySnafu { host, port })?, host, port).await
}

async fn upgrade(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    port: u16,
) -> Result<Upgraded, DialError> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .context(HttpSnafu)?;
    // Ends with the upgrade, or with `sender`. Its errors reach `send_request`.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let key = generate_key();
    let request = Request::get(PATH)
        .header(HOST, format!("{host}:{port}"))
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .header(SEC_WEBSOCKET_KEY, &key)
        .body(Empty::<Bytes>::new())
        .context(HostSnafu { host })?;
    let mut response = sender.send_request(request).await.context(HttpSnafu)?;
    let status = response.status();
    ensure!(status == StatusCode::SWITCHING_PROTOCOLS, RefusedSnafu { status });
    check(response.headers(), &key)?;
    hyper::upgrade::on(&mut response).await.context(HttpSnafu)
}

/// RFC 6455, section 4.1: what a client must check.
fn check(headers: &HeaderMap, key: &str) -> Result<(), DialError> {
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize());
    for (header, expected, any_case) in [
        (UPGRADE, "websocket", true),
        (CONNECTION, "upgrade", true),
        (SEC_WEBSOCKET_ACCEPT, accept.as_str(), false),
        (SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL, false),
    ] {
        // Twice is not once: who reads the other one sees another handshake.
        let mut values = headers.get_all(&header).iter();
        let found = match (values.next(), values.next()) {
            (Some(value), None) => value.as_bytes(),
            _ => &[],
        };
        let matches = if any_case {
            found.eq_ignore_ascii_case(expected.as_bytes())
        } else {
            found == expected.as_bytes()
        };
        ensure!(matches, HandshakeSnafu { header });
    }
    // None was asked for, and frames would mean something else with one.
    let header = SEC_WEBSOCKET_EXTENSIONS;
    ensure!(!headers.contains_key(&header), HandshakeSnafu { header });
    Ok(())
}

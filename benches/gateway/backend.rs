//! A WebSocket server in a workspace's place: it echoes keys, sends as much output as it is asked for, and swallows pastes.

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{Frame, OpCode, Payload};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The message that asks for `bytes` of output in messages of `frame` bytes each.
pub fn flood(bytes: usize, frame: usize) -> Vec<u8> {
    format!("F{bytes} {frame}").into_bytes()
}

/// How a message begins that is swallowed.
pub const SWALLOWED: u8 = b'x';

/// With settings of TLS it speaks nothing else.
pub async fn start(address: (&str, u16), tls: Option<ServerConfig>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            match acceptor.clone() {
                None => drop(tokio::spawn(connection(stream))),
                Some(acceptor) => drop(tokio::spawn(async move {
                    connection(acceptor.accept(stream).await.unwrap()).await;
                })),
            }
        }
    });
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .with_upgrades();
    let _ = connection.await;
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (mut response, upgraded) = upgrade(&mut request).unwrap();
    let subprotocol = HeaderValue::from_static("tty");
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    tokio::spawn(serve(upgraded));
    Ok(response)
}

async fn serve(upgraded: UpgradeFut) {
    let mut socket = upgraded.await.unwrap();
    socket.set_auto_close(true);
    while let Ok(frame) = socket.read_frame().await {
        match (frame.opcode, frame.payload.first()) {
            (OpCode::Close, _) => return,
            (OpCode::Binary, Some(b'F')) => {
                let text = String::from_utf8(frame.payload[1..].to_vec()).unwrap();
                let (bytes, size) = text.split_once(' ').unwrap();
                let (bytes, size): (usize, usize) = (bytes.parse().unwrap(), size.parse().unwrap());
                let output = vec![b'0'; size];
                for _ in 0..bytes / size {
                    let frame = Frame::binary(Payload::Borrowed(&output));
                    if socket.write_frame(frame).await.is_err() {
                        return;
                    }
                }
            }
            (OpCode::Binary, Some(b'0')) => {
                let keys = frame.payload.to_vec();
                if socket.write_frame(Frame::binary(Payload::Owned(keys))).await.is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
}

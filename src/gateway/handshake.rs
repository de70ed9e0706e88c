//! A request for a WebSocket becomes its 101 and the socket behind it, or a refusal: a close code for our own page, which can't read an
//! answer to a handshake, and an error for everyone else.

use super::origin::{Via, is_same_origin};
use super::reject::Rejection;
use super::respond::Answer;
use super::service::{Asked, Gateway};
use crate::proxy::{self, SUBPROTOCOL, Socket};
use crate::serve::strict::released;
use bytes::Bytes;
use fastwebsockets::WebSocketError;
use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use http_body_util::{BodyExt, Empty};
use hyper::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::upgrade::Upgraded;
use hyper::{HeaderMap, Response};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// By `client=page` in the query our page says that it is one: it understands the gateway's close codes and messages.
const CLIENT: (&str, &str) = ("client", "page");

/// Refusals that pages are being told, of all of them together. They end within seconds; who comes meanwhile is answered by HTTP.
static UNDER_WAY: Semaphore = Semaphore::const_new(64);

/// # Errors
/// When the request is no handshake, or for another subprotocol than ttyd's.
pub fn check(asked: &Asked) -> Result<(), Rejection> {
    if !is_upgrade_request(&asked.request) {
        return Err(Rejection::NotAWebSocket);
    }
    if !offers_subprotocol(asked.request.headers()) {
        return Err(Rejection::BadHandshake);
    }
    Ok(())
}

/// Whether the client speaks ttyd's protocol: a list in one or several headers (RFC 6455, section 11.3.4).
fn offers_subprotocol(headers: &HeaderMap) -> bool {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim() == SUBPROTOCOL)
}

/// Whether our own page asks. A program may say so too, and is told the same.
pub fn is_page(gateway: &Gateway, asked: &Asked) -> bool {
    let headers = asked.request.headers();
    let (name, value) = CLIENT;
    asked.parameter(name).as_deref() == Some(value)
        && !headers.contains_key(AUTHORIZATION)
        && is_same_origin(headers, Via::Cookie, &gateway.public_origin)
}

/// The 101, and what becomes the socket when that has been sent.
///
/// # Errors
/// When the request is none of WebSocket version 13, or was accepted already.
pub fn accept(asked: &mut Asked) -> Result<(Answer, UpgradeFut), Rejection> {
    let (answer, upgraded) = upgrade(&mut asked.request).map_err(|_| Rejection::BadHandshake)?;
    Ok((accepted(answer), upgraded))
}

fn accepted(answer: Response<Empty<Bytes>>) -> Answer {
    let mut answer = answer.map(BodyExt::boxed_unsync);
    let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
    answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    answer
}

/// # Errors
/// When the client has left before it had its 101.
pub async fn socket(upgraded: UpgradeFut) -> Result<Socket, WebSocketError> {
    let upgraded = upgraded.await?.into_inner().into_inner();
    Ok(split(upgraded))
}

/// A plain connection is split without a lock.
fn split(upgraded: Upgraded) -> Socket {
    match released::<TcpStream>(upgraded) {
        Ok((stream, buffered)) => Socket::of_tcp(stream, buffered),
        Err(upgraded) => Socket::from(upgraded),
    }
}

/// Tells why there is no terminal.
///
/// # Errors
/// The refusal itself, for whom it is an answer.
pub fn refuse(gateway: &Arc<Gateway>, asked: &mut Asked, rejection: Rejection) -> Result<Answer, Rejection> {
    let Some(close) = rejection.close().filter(|_| is_page(gateway, asked)) else {
        return Err(rejection);
    };
    // Whoever is refused has no place among the connections any more.
    let Ok(permit) = UNDER_WAY.try_acquire() else {
        return Err(rejection);
    };
    let (answer, upgraded) = accept(asked)?;
    tracing::info!(
        request_id = asked.id.as_str(),
        code = close.code,
        reason = close.reason,
        "a terminal was refused"
    );
    gateway.drain.spawn(async move {
        if let Ok(client) = socket(upgraded).await {
            proxy::refuse(client, close).await;
        }
        drop(permit);
    });
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subprotocol_may_be_one_of_several() {
        for (values, expected) in [
            (&["tty"][..], true),
            (&["other, tty"], true),
            (&["other", " tty"], true),
            (&[], false),
            (&["ttyd"], false),
            (&["TTY"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
            }
            assert_eq!(offers_subprotocol(&headers), expected, "{values:?}");
        }
    }
}

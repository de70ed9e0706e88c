//! A page's handshake at the public address becomes the claim that WebSockets get through to the gateway.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::outside::public::{self, Handshake};
use crate::api::close_code::SIGNED_OUT;
use hyper::Response;
use hyper::body::Bytes;
use std::sync::Arc;
use url::Url;

pub const GET_THROUGH: Check = Claim::error("DP0705", "WebSockets get through to the gateway")
    .why("The page opens, and its terminal never does.")
    .needs(&["DP0704"])
    .docs(
        "A WebSocket is opened at the public address (RFC 6455), as the page does it, and without any credentials: the gateway switches protocols, and closes it with \
         4401, since nobody is signed in. Another code is another's. The gateway looks at the handshake before it asks who it is: 426 tells that something on the way took the \
         upgrade out, 400 the subprotocol, and 401 that it did not know its page by `Origin` and query. Skipped where the gateway has another address of its own, by where it lets users come \
         back to from the provider: it refuses pages of any other. So is a gateway that says to try again later.",
    )
    .check(|context| Box::pin(websocket(context)));

/// Service Restart, and Try Again Later, of the registry of WebSocket close codes (RFC 6455, section 11.7).
const RESTART: u16 = 1012;
const TRY_AGAIN: u16 = 1013;

async fn websocket(context: Arc<Context>) -> Status {
    let url = match context.public().await {
        Ok((url, _)) => url,
        Err(why) => return Status::skip(why),
    };
    let (lost, found) = match public::handshake(&context, url).await {
        Ok(Handshake::Closed(SIGNED_OUT)) => {
            return Status::pass(format!("one is opened, and the gateway closes it with {SIGNED_OUT}"));
        }
        Ok(Handshake::Closed(code @ (RESTART | TRY_AGAIN))) => {
            return Status::skip(format!(
                "one is opened and closed with {code}: whoever does that says to try again later"
            ));
        }
        Ok(Handshake::Closed(code)) => (
            "something on the way opens them itself",
            format!("one that is closed with {code}"),
        ),
        Ok(Handshake::Cut) => (
            "something on the way answers the upgrade and passes nothing on",
            "101, and nothing after it".to_owned(),
        ),
        Ok(Handshake::Answered(answer)) if code_of(&answer) == (401, "unauthorized".to_owned()) => {
            match public::own_origin(&context, url).await {
                Some(own) if own == url.origin() => return page_is_unknown(url),
                Some(own) => {
                    return Status::skip(format!(
                        "the gateway has another address, {}, and refuses pages of {url}",
                        own.ascii_serialization()
                    ));
                }
                None => {
                    return Status::skip(
                        "the gateway refuses the page by HTTP, and does not say which address it was set to have",
                    );
                }
            }
        }
        Ok(Handshake::Answered(answer)) => lost(&answer),
        Err(error) => ("a handshake is not answered", error.to_string()),
    };
    Status::fail(
        format!("WebSockets do not get through to {url}ws: {lost}"),
        found,
        format!("one that the gateway closes with {SIGNED_OUT}"),
        Fix::words(
            "let every proxy on the way pass WebSockets on: HTTP/1.1 with Upgrade and Connection to the gateway, and all Sec-WebSocket headers",
        ),
    )
}

/// Of an answer that is no WebSocket: its HTTP status, and the gateway's own code of an error.
fn code_of(answer: &Response<Bytes>) -> (u16, String) {
    let body = serde_json::from_slice::<serde_json::Value>(answer.body()).unwrap_or_default();
    let code = body["error"].as_str().unwrap_or("no error of the gateway");
    (answer.status().as_u16(), code.to_owned())
}

/// What was lost on the way to the gateway, and what was found of it, by its answer.
fn lost(answer: &Response<Bytes>) -> (&'static str, String) {
    let (status, code) = code_of(answer);
    let lost = match (status, code.as_str()) {
        (426, "upgrade_required") => "something on the way takes the headers Upgrade and Connection out",
        (400, "bad_request") => "something on the way takes Sec-WebSocket headers out",
        _ => "something on the way answers instead of the gateway",
    };
    (lost, format!("HTTP status {status}, {code}"))
}

/// Its own page, at its own address.
fn page_is_unknown(url: &Url) -> Status {
    Status::fail(
        format!(
            "WebSockets get through to {url}ws without what the gateway knows its page by: pages do not learn why they are refused"
        ),
        "HTTP status 401, unauthorized",
        format!("one that the gateway closes with {SIGNED_OUT}"),
        Fix::words(
            "let every proxy on the way keep the header Origin as the browser sends it, and the query (client=page), and add no Authorization; if very many pages are refused at this moment, check again",
        ),
    )
}

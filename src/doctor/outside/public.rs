//! The gateway's public address becomes what browsers meet there.

use super::provider::{Contact, contact};
use crate::clock::{Clock, SystemClock};
use crate::doctor::context::Context;
use crate::http_client::{HttpClient, HttpError, Limits};
use fastwebsockets::{OpCode, Role, WebSocket};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, LOCATION, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use std::time::Duration;
use tokio::time::timeout;
use url::{Origin, Url};

const LIMITS: Limits = Limits {
    time: Duration::from_secs(8),
    bytes: 1 << 20,
};
const DEPLOYMENT: &str = "workspace-gateway";
/// Any 16 bytes (RFC 6455, section 4.1): nobody is in between who could mistake it for another's.
const KEY: &str = "ZGV2cGxhbmUtZG9jdG9yLQ==";

/// Where browsers reach the gateway.
///
/// # Errors
/// Why nothing can be known of it.
pub async fn address(context: &Context) -> Result<Url, String> {
    let installation = &context.installation;
    let gateway = installation.gateway().ok_or("there are no settings of a gateway")?;
    if let Some(why) = &installation.oidc_unknown {
        // The public address may come from the redirect URL.
        let values = installation.values.as_ref();
        if values.is_none_or(|values| values.text("gateway.publicURL").is_empty()) {
            return Err(format!("the public address is not known: {why}"));
        }
    }
    Ok(gateway.public_url.clone())
}

/// The same of a gateway that is installed and ready.
///
/// # Errors
/// Why nothing can be known of it.
pub async fn served(context: &Context) -> Result<Url, String> {
    let url = address(context).await?;
    if context.installation.values.is_none() {
        return Ok(url);
    }
    let namespace = &context.installation.namespace;
    let client = context
        .client()
        .map_err(|_| "there is no API server to ask whether the gateway is installed")?;
    let deployment = Api::<Deployment>::namespaced(client.clone(), namespace)
        .get_opt(DEPLOYMENT)
        .await;
    let deployment =
        deployment.map_err(|error| format!("it can't be seen whether the gateway is installed: {error}"))?;
    let Some(deployment) = deployment else {
        return Err(format!("the gateway is not installed in namespace {namespace}"));
    };
    let ready = deployment
        .status
        .and_then(|status| status.ready_replicas)
        .unwrap_or_default();
    if ready == 0 {
        return Err("no pod of the gateway is ready".to_owned());
    }
    Ok(url)
}

/// How far a connection to it gets.
pub async fn reach(context: &Context, url: &Url) -> Contact {
    let roots = context.gateway_authorities().await.roots();
    contact(url.as_str(), roots, SystemClock.now()).await
}

/// What the gateway says of its health.
///
/// # Errors
/// When no answer comes.
pub async fn health(context: &Context, url: &Url) -> Result<Response<Bytes>, HttpError> {
    let target = format!("{}/health", url.origin().ascii_serialization());
    ask(context, Request::get(target)).await
}

/// The origin that the gateway itself was set to have: of the redirect URL with which it sends to the provider who wants to sign in (RFC 6749,
/// section 4.1.1). `None` when it does not say.
pub async fn own_origin(context: &Context, url: &Url) -> Option<Origin> {
    let target = format!("{}/login", url.origin().ascii_serialization());
    let answer = ask(context, Request::get(target)).await.ok()?;
    let provider = Url::parse(answer.headers().get(LOCATION)?.to_str().ok()?).ok()?;
    let redirect = provider.query_pairs().find(|(name, _)| name == "redirect_uri")?.1;
    Some(Url::parse(&redirect).ok()?.origin())
}

/// What becomes of a handshake.
pub enum Handshake {
    /// No WebSocket.
    Answered(Response<Bytes>),
    /// A WebSocket, which the gateway has closed with this code.
    Closed(u16),
    /// 101, and nothing of a WebSocket after it.
    Cut,
}

/// A terminal's handshake by a page that nobody is signed in at: the gateway tells such a page by the WebSocket that it closes.
///
/// # Errors
/// When no answer comes.
pub async fn handshake(context: &Context, url: &Url) -> Result<Handshake, HttpError> {
    let origin = url.origin().ascii_serialization();
    let request = Request::get(format!("{origin}/ws?client=page"))
        .header(ORIGIN, &origin)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, KEY)
        .header(SEC_WEBSOCKET_PROTOCOL, "tty");
    let answer = ask(context, request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Handshake::Answered(answer));
    }
    let code = timeout(LIMITS.time, close_code(answer)).await;
    Ok(code.ok().flatten().map_or(Handshake::Cut, Handshake::Closed))
}

/// By which a WebSocket is closed (RFC 6455, section 5.5.1).
async fn close_code(answer: Response<Bytes>) -> Option<u16> {
    let upgraded = hyper::upgrade::on(answer).await.ok()?;
    let mut socket = WebSocket::after_handshake(TokioIo::new(upgraded), Role::Client);
    loop {
        let frame = socket.read_frame().await.ok()?;
        if frame.opcode == OpCode::Close {
            return frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        }
    }
}

async fn ask(context: &Context, request: http::request::Builder) -> Result<Response<Bytes>, HttpError> {
    let tls = context.gateway_authorities().await.client();
    match (tls, request.body(Full::default())) {
        (Ok(tls), Ok(request)) => HttpClient::new(tls, LIMITS).ask(request).await,
        // The URL is one, and TLS has its versions.
        _ => Err(HttpError::BrokenOff),
    }
}

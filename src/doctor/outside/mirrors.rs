//! Addresses that workspaces use become what answers there: language models and indexes of packages.

use crate::doctor::check::{Fix, Status};
use crate::doctor::context::Context;
use crate::http_client::{HttpClient, HttpError, Limits};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, StatusCode};
use percent_encoding::percent_decode;
use std::time::Duration;
use tokio::net::lookup_host;
use url::Url;

pub const JSON: &str = "application/json";
/// Why nothing is known of an address that is asked for [`Asked::Elsewhere`].
pub const HERE: &str = "it is a name of the cluster's, which does not resolve here: run the doctor in the cluster";
/// What is expected of whoever presents another certificate.
pub const TRUSTED: &str = "a certificate that workspaces trust";
const LIMITS: Limits = Limits {
    time: Duration::from_secs(8),
    bytes: 4 << 20,
};

/// Why nothing is known of an address.
#[derive(Debug)]
pub enum Asked {
    Answered(Response<Bytes>),
    Failed(HttpError),
    /// It is a name that only the cluster's DNS knows, and this is not in the cluster.
    Elsewhere,
}

/// Asks an address as a workspace would, trusting whom workspaces trust.
pub async fn ask(context: &Context, url: &Url, accept: &'static str) -> Asked {
    let Ok(tls) = context.workspace_authorities().await.client() else {
        return Asked::Failed(HttpError::BrokenOff);
    };
    let mut bare = url.clone();
    // Both can't fail for http.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    let mut request = Request::get(bare.as_str()).header(ACCEPT, accept);
    if let Some(login) = login(url) {
        request = request.header(AUTHORIZATION, login);
    }
    let Ok(request) = request.body(Full::default()) else {
        return Asked::Failed(HttpError::BrokenOff);
    };
    match HttpClient::new(tls, LIMITS).ask(request).await {
        Ok(answer) => Asked::Answered(answer),
        Err(_) if is_only_in_cluster(url).await => Asked::Elsewhere,
        Err(error) => Asked::Failed(error),
    }
}

/// The user and password of an address, as pip and npm show them (RFC 7617).
fn login(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() {
        return None;
    }
    let plain = |text: &str| percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned();
    let pair = format!(
        "{}:{}",
        plain(url.username()),
        plain(url.password().unwrap_or_default())
    );
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether a host is a Service's name, and does not resolve here.
async fn is_only_in_cluster(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let is_service = host.ends_with(".svc") || host.contains(".svc.") || !host.contains('.');
    is_service
        && lookup_host((host, url.port_or_known_default().unwrap_or(80)))
            .await
            .is_err()
}

/// A path below an address, which may end with a slash or not; `None` when it is no URL.
pub fn below(base: &str, path: &str) -> Option<Url> {
    Url::parse(&format!("{}/{path}", base.trim_end_matches('/'))).ok()
}

/// What is told of an address that does not answer.
pub fn unanswered(told: &str, url: &Url, error: &HttpError) -> Status {
    let (expected, fix) = if error.tls().is_some() {
        (
            TRUSTED,
            "put the authority that signed its certificate into customCA.pem, or into the ConfigMap of workspace.defaultCABundle",
        )
    } else {
        (
            "an answer",
            "see that it is up, that its name resolves here, and that nothing between refuses the connection",
        )
    };
    Status::fail(
        format!("{told} does not answer at {}: {error}", shown(url)),
        error.to_string(),
        expected,
        Fix::words(fix),
    )
}

/// What is told of an answer that is not as it should be.
pub fn wrong_status(told: &str, url: &Url, status: StatusCode) -> Status {
    let fix = match status.as_u16() {
        _ if status.is_redirection() => "set the address that it sends to: redirects are not followed",
        401 | 403 => "let workspaces in without credentials, or give them credentials by workspace.pod.env or mounts",
        404 => "correct the address in the values: nothing is there",
        _ => "see the server's log",
    };
    Status::fail(
        format!("{told} answers {} with the HTTP status {status}", shown(url)),
        status.to_string(),
        "200",
        Fix::words(fix),
    )
}

/// Without a user and a password, which an index's address may have.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both can't fail for http.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

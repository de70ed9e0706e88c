//! A path becomes a small page: the listeners for probes and metrics.

use super::drain::Drain;
use super::listener::{self, Bounds, ListenError, ListenSnafu};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use snafu::ResultExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// What a path answers.
pub struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Page {
    pub fn ok(content_type: &'static str, body: String) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body,
        }
    }

    pub fn unavailable(body: String) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            content_type: "text/plain",
            body,
        }
    }
}

/// A running listener; it ends when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request that has not come in whole by then is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers `GET` with what `pages` has for the path, 404 when it has nothing.
///
/// # Errors
/// When the address can't be bound.
pub async fn serve(
    address: SocketAddr,
    pages: impl Fn(&str) -> Option<Page> + Send + Sync + 'static,
) -> Result<Server, ListenError> {
    let listener = listener::listen(address).await?;
    let address = listener.local_addr().context(ListenSnafu { address })?;
    let pages = Arc::new(pages);
    let task = tokio::spawn(async move {
        let answer = move |request| std::future::ready(answer(&request, pages.as_ref()));
        listener::serve(
            listener,
            None,
            Bounds::of_probes(READ_TIMEOUT),
            &Drain::default(),
            answer,
        )
        .await;
    });
    Ok(Server {
        address,
        task: task.abort_handle(),
    })
}

fn answer(request: &Request<Incoming>, pages: &(impl Fn(&str) -> Option<Page> + ?Sized)) -> Response<Full<Bytes>> {
    let page = match *request.method() {
        Method::GET | Method::HEAD => pages(request.uri().path()),
        _ => None,
    };
    let Page {
        status,
        content_type,
        body,
    } = page.unwrap_or_else(|| Page {
        status: StatusCode::NOT_FOUND,
        content_type: "text/plain",
        body: "not found\n".to_owned(),
    });
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

//! A path becomes a small page: the listeners for probes and metrics.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use snafu::{ResultExt, Snafu};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
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

/// The address can't be listened on.
#[derive(Debug, Snafu)]
#[snafu(display("can't listen on {address}: {source}"))]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
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
/// After a failure of `accept`, most likely too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers `GET` with what `pages` has for the path, 404 when it has nothing.
///
/// # Errors
/// When the address can't be bound.
pub async fn serve(
    address: SocketAddr,
    pages: impl Fn(&str) -> Option<Page> + Send + Sync + 'static,
) -> Result<Server, BindError> {
    let listener = TcpListener::bind(address).await.context(BindSnafu { address })?;
    let address = listener.local_addr().context(BindSnafu { address })?;
    let pages = Arc::new(pages);
    let task = tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%address, %error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let pages = Arc::clone(&pages);
            let service = service_fn(move |request| {
                let response = answer(&request, pages.as_ref());
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(READ_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // A probe that hangs up early is no event.
                let _ = connection.await;
            });
        }
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

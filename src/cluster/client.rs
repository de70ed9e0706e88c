//! The surroundings (a pod's service account, or a kubeconfig) become a client of the API server.
//!
//! kube's own client speaks HTTP/1.1, where every request that waits for its answer, and every watch, has a connection for
//! itself. In HTTP/2 (RFC 9113), as Kubernetes' Go clients speak it, they share one.

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use snafu::{ResultExt, Snafu};
use std::time::Duration;
use tower::ServiceBuilder;
use tower::retry::RetryLayer;

/// A connection on which nothing comes for so long is asked for a sign of life (RFC 9113, 6.7), and given up when none comes. Requests
/// that are tried again would go to the same dead peer until then. Together they are less than what a gateway may be without its
/// watch (`SESSION_WATCH_LOSS`: 15 s at least).
const PING_AFTER: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// Bytes that the API server may send of one answer before we have read them. Watches share the connection, so that all of them may
/// send four times as many.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Why there is no client.
#[derive(Debug, Snafu)]
pub enum ConnectError {
    #[snafu(display("can't find out how to reach the API server: {source}"))]
    Infer { source: kube::config::InferConfigError },
    #[snafu(display("can't make a client for the API server: {source}"))]
    Build { source: kube::Error },
    #[snafu(display("the kubeconfig's tls-server-name {name:?} is no DNS name or address: {source}"))]
    ServerName {
        name: String,
        source: rustls_pki_types::InvalidDnsNameError,
    },
}

/// A client from `KUBECONFIG`, `~/.kube/config` or the pod's service account, in that order.
///
/// # Errors
/// When none of them is there or usable. Nothing is sent to the API server yet.
pub async fn connect() -> Result<Client, ConnectError> {
    let config = Config::infer().await.context(InferSnafu)?;
    if config.proxy_url.is_some() {
        // kube says what it can do for a proxy.
        return Client::try_from(config).context(BuildSnafu);
    }
    client(config)
}

fn client(config: Config) -> Result<Client, ConnectError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let mut tls = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config().context(BuildSnafu)?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone();
        let resolver = name.clone().try_into().context(ServerNameSnafu { name })?;
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(resolver));
    }
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(4 * STREAM_WINDOW)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PONG_WITHIN)
        .http2_keep_alive_while_idle(true)
        .build(tls.enable_all_versions().wrap_connector(tcp));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(
            config
                .default_retry
                .then(|| RetryLayer::new(RetryPolicy::server_retry())),
        )
        .option_layer(config.auth_layer().context(BuildSnafu)?)
        .layer(config.extra_headers_layer().context(BuildSnafu)?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

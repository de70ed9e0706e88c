//! The surroundings (a pod's service account, or a kubeconfig) become a client of the API server.

use kube::{Client, Config};
use snafu::{ResultExt, Snafu};

/// Why there is no client.
#[derive(Debug, Snafu)]
pub enum ConnectError {
    #[snafu(display("can't find out how to reach the API server: {source}"))]
    Infer { source: kube::config::InferConfigError },
    #[snafu(display("can't make a client for the API server: {source}"))]
    Build { source: kube::Error },
}

/// A client from `KUBECONFIG`, `~/.kube/config` or the pod's service account, in that order.
///
/// # Errors
/// When none of them is there or usable. Nothing is sent to the API server yet.
pub async fn connect() -> Result<Client, ConnectError> {
    let config = Config::infer().await.context(InferSnafu)?;
    Client::try_from(config).context(BuildSnafu)
}

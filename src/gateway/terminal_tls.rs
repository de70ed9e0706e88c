//! A Workspace becomes a connection to its terminal, and to no other: by mutual TLS, with what the operator issued.
//!
//! The certificate lies in a Secret that the operator keeps, and is followed by a watch: a new one is for new connections. Whether a
//! terminal speaks TLS the status tells, which only operator and gateways write; one that does is never spoken to without.

use super::service::Gateway;
use crate::api::Workspace;
use crate::certificates::{self, HandshakeError, terminal_name};
use crate::config::edge::WorkspaceAddress;
use crate::names::{CERTIFICATE_ENTRIES, GATEWAY_TERMINAL_SECRET, TERMINAL_PORT};
use crate::proxy::{DialError, Identity, dial};
use arc_swap::ArcSwapOption;
use futures::StreamExt;
use hyper::upgrade::Upgraded;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rustls::ClientConfig;
use snafu::{OptionExt, Snafu};

/// Why a terminal can't be entered.
#[derive(Debug, Snafu)]
pub enum Unreachable {
    #[snafu(display("its address is not known"))]
    Address,
    #[snafu(display(
        "this gateway has no certificate for terminals yet: the operator writes the Secret {GATEWAY_TERMINAL_SECRET}"
    ))]
    Certificate,
    #[snafu(context(false), display("{source}"))]
    Dial { source: DialError },
}

impl Unreachable {
    /// The word in audit lines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Address => "not_running",
            Self::Certificate => "no_certificate",
            Self::Dial { .. } => "not_answering",
        }
    }
}

/// The settings of connections to terminals, once there are some.
#[derive(Default)]
pub struct TerminalTls(ArcSwapOption<ClientConfig>);

impl TerminalTls {
    /// Follows the Secret for ever. What can't be used leaves the last good certificate in place.
    pub async fn follow(&self, client: &Client, namespace: &str) {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={GATEWAY_TERMINAL_SECRET}"));
        let mut secrets = watcher(secrets, config).default_backoff().applied_objects().boxed();
        while let Some(secret) = secrets.next().await {
            let secret = match secret {
                Ok(secret) => secret,
                Err(error) => {
                    tracing::warn!(%error, secret = GATEWAY_TERMINAL_SECRET, "the watch of the certificate for terminals failed and is started again");
                    continue;
                }
            };
            match settings(&secret) {
                Ok(config) => {
                    self.0.store(Some(config.into()));
                    let version = secret.resource_version();
                    tracing::info!(
                        secret = GATEWAY_TERMINAL_SECRET,
                        version,
                        "terminals are entered with this certificate"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, secret = GATEWAY_TERMINAL_SECRET, "the certificate for terminals can't be used; delete the Secret to have the operator write it again");
                }
            }
        }
    }
}

fn settings(secret: &Secret) -> Result<ClientConfig, HandshakeError> {
    let entry = |name: &str| secret.data.as_ref().and_then(|data| data.get(name));
    let [authorities, certificate, key] = CERTIFICATE_ENTRIES.map(|name| entry(name).map_or(&[][..], |entry| &entry.0));
    certificates::client(authorities, certificate, key)
}

impl Gateway {
    /// Opens a WebSocket to the terminal of a Workspace that runs.
    ///
    /// # Errors
    /// When it does not answer, or what answers can't prove that it is this Workspace's.
    pub async fn dial_terminal(&self, workspace: &Workspace) -> Result<Upgraded, Unreachable> {
        let status = workspace.status.as_ref().context(AddressSnafu)?;
        let host = match self.edge.workspace_address {
            WorkspaceAddress::Service => &status.service_endpoint,
            WorkspaceAddress::PodIp => &status.pod_ip,
        };
        snafu::ensure!(!host.is_empty(), AddressSnafu);
        let identity = if status.terminal_authority.is_empty() {
            None
        } else {
            Some(Identity {
                config: self.terminal_tls.0.load_full().context(CertificateSnafu)?,
                name: terminal_name(&workspace.uid().unwrap_or_default()),
            })
        };
        Ok(dial(host, TERMINAL_PORT, identity).await?)
    }
}

//! What checks are given: the installation as it is set, a client of the API server, and what they may do.

use super::installation::Installation;
use super::outside::Outside;
use super::probe::Probes;
use crate::cluster::client::ConnectError;
use jiff::Timestamp;
use kube::Client;

/// Shared by all checks of one run.
pub struct Context {
    pub installation: Installation,
    client: Result<Client, ConnectError>,
    pub probes: Probes,
    pub(super) outside: Outside,
    /// When the run began.
    pub now: Timestamp,
}

impl Context {
    pub fn new(
        installation: Installation,
        client: Result<Client, ConnectError>,
        probes: Probes,
        now: Timestamp,
    ) -> Self {
        Self {
            installation,
            client,
            probes,
            outside: Outside::default(),
            now,
        }
    }

    /// The client, or why there is none. Checks that need DP0201 always have one.
    ///
    /// # Errors
    /// When neither a kubeconfig nor a service account was usable.
    pub fn client(&self) -> Result<&Client, &ConnectError> {
        self.client.as_ref()
    }
}

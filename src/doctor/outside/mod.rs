//! What lies outside the API server and several checks look at becomes what was seen there: each thing is looked at once in a run.
//!
//! `authorities` are those that the installation is given, `images` what registries have, `provider` the identity provider, `public` what
//! browsers meet, `mirrors` language models and package indexes.

pub mod authorities;
pub mod images;
pub mod mirrors;
pub mod provider;
pub mod public;

use super::context::Context;
use authorities::Given;
use images::Images;
use provider::Seen;
use tokio::sync::OnceCell;

/// What was looked at.
#[derive(Default)]
pub struct Outside {
    gateway_authorities: OnceCell<Given>,
    workspace_authorities: OnceCell<Given>,
    provider: OnceCell<Seen>,
    images: OnceCell<Images>,
}

impl Context {
    /// The authorities that the gateway is given.
    pub async fn gateway_authorities(&self) -> &Given {
        let cell = &self.outside.gateway_authorities;
        cell.get_or_init(|| authorities::of_gateway(self)).await
    }

    /// The authorities that workspaces are given.
    pub async fn workspace_authorities(&self) -> &Given {
        let cell = &self.outside.workspace_authorities;
        cell.get_or_init(|| authorities::of_workspaces(self)).await
    }

    /// The identity provider, as far as it can be seen.
    pub async fn provider(&self) -> &Seen {
        self.outside.provider.get_or_init(|| provider::look(self)).await
    }

    /// The images of the installation, at their registries.
    pub async fn images(&self) -> &Images {
        self.outside.images.get_or_init(|| images::look(self)).await
    }
}

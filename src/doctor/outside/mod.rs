//! What lies outside the API server and several checks look at becomes what was seen there: each thing is looked at once in a run.
//!
//! `authorities` are those that the installation is given, `images` what registries have, `provider` the identity provider, `public` what
//! browsers meet, `mirrors` addresses that workspaces use, `models` what language model servers have.

pub mod authorities;
pub mod images;
pub mod mirrors;
pub mod models;
pub mod provider;
pub mod public;

use super::context::Context;
use authorities::Given;
use images::Images;
use models::Models;
use provider::{Contact, Seen};
use tokio::sync::OnceCell;
use url::Url;

/// What was looked at.
#[derive(Default)]
pub struct Outside {
    gateway_authorities: OnceCell<Given>,
    workspace_authorities: OnceCell<Given>,
    provider: OnceCell<Seen>,
    images: OnceCell<Images>,
    public: OnceCell<Result<(Url, Contact), String>>,
    models: OnceCell<Models>,
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

    /// Where browsers reach a gateway that is ready, and how far a connection to it gets.
    ///
    /// # Errors
    /// Why nothing can be known of it.
    pub async fn public(&self) -> Result<(&Url, &Contact), &str> {
        let look = async || {
            let url = public::served(self).await?;
            let contact = public::reach(self, &url).await;
            Ok((url, contact))
        };
        let seen = self.outside.public.get_or_init(look).await;
        seen.as_ref()
            .map(|(url, contact)| (url, contact))
            .map_err(String::as_str)
    }

    /// What the language model servers have.
    pub async fn models(&self) -> &Models {
        self.outside.models.get_or_init(|| models::look(self)).await
    }
}

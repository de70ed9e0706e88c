//! A kind becomes whether the API server serves it, by discovery, which everybody may ask (Kubernetes: the role `system:discovery`).

use kube::{Client, Resource};

/// Whether this version of the kind is served now. Without a right on its objects a list could not tell: the API server refuses that of a kind
/// that it does not know, too.
///
/// # Errors
/// When the API server does not answer.
pub async fn is_served<K: Resource<DynamicType = ()>>(client: &Client) -> Result<bool, kube::Error> {
    match client.list_api_group_resources(&K::api_version(&())).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == K::plural(&()))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

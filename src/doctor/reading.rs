//! Requests to the API server become objects, or the status of a check that can't go on without them.

use super::check::{Fix, Status};
use super::context::Context;
use crate::causes::with_causes;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{ApiResource, ListParams};
use kube::core::Object;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Objects that are asked for at once.
const PAGE: u32 = 500;

/// What a check needs, or how it ends without it.
pub type Read<T> = Result<T, Status>;

/// The status of either.
pub fn judged(status: Read<Status>) -> Status {
    status.unwrap_or_else(|status| status)
}

impl Context {
    fn reader(&self) -> Read<Client> {
        let client = self.client();
        client.cloned().map_err(|error| Status::skip(error.to_string()))
    }

    /// An object of a namespace; `None` when there is none of that name.
    ///
    /// # Errors
    /// [`Status::Skip`] when the caller may not read it.
    pub async fn find<K>(&self, namespace: &str, name: &str) -> Read<Option<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        get(Api::namespaced(self.reader()?, namespace), name).await
    }

    /// An object of no namespace; `None` when there is none of that name.
    ///
    /// # Errors
    /// [`Status::Skip`] when the caller may not read it.
    pub async fn find_global<K>(&self, name: &str) -> Read<Option<K>>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        get(Api::all(self.reader()?), name).await
    }

    /// All objects of a namespace, or of all when it is empty, with these labels (`key=value,…`; empty for any).
    ///
    /// # Errors
    /// [`Status::Skip`] when the caller may not list them.
    pub async fn list<K>(&self, namespace: &str, labels: &str) -> Read<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let client = self.reader()?;
        let api = if namespace.is_empty() {
            Api::all(client)
        } else {
            Api::namespaced(client, namespace)
        };
        list(api, labels, &kind::<K>()).await
    }

    /// All objects of a kind that is in no namespace.
    ///
    /// # Errors
    /// [`Status::Skip`] when the caller may not list them.
    pub async fn list_global<K>(&self) -> Read<Vec<K>>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        list(Api::all(self.reader()?), "", &kind::<K>()).await
    }

    /// The same, of any scope, of which no more is read than `K` has.
    ///
    /// # Errors
    /// [`Status::Skip`] when the caller may not list them.
    pub async fn list_parts<Whole, Spec, State>(&self) -> Read<Vec<Object<Spec, State>>>
    where
        Whole: Resource<DynamicType = ()>,
        Spec: Clone + Debug + DeserializeOwned,
        State: Clone + Debug + Default + DeserializeOwned,
    {
        let resource = ApiResource::erase::<Whole>(&());
        list(Api::all_with(self.reader()?, &resource), "", &kind::<Whole>()).await
    }
}

async fn get<K>(api: Api<K>, name: &str) -> Read<Option<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = K::kind(&());
    api.get_opt(name)
        .await
        .map_err(|error| unread(&format!("{kind} {name}"), &error))
}

fn kind<K: Resource<DynamicType = ()>>() -> String {
    format!("objects of kind {}", K::kind(&()))
}

async fn list<K>(api: Api<K>, labels: &str, what: &str) -> Read<Vec<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut parameters = ListParams::default().limit(PAGE).labels(labels);
    let mut all = Vec::new();
    loop {
        let page = api.list(&parameters).await;
        let page = page.map_err(|error| unread(what, &error))?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Why a check goes without `what`, or that it can't be read at all.
pub fn unread(what: &str, error: &kube::Error) -> Status {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            Status::skip(format!("this identity may not read {what}; ask as an administrator"))
        }
        // A kind that this API server does not have.
        kube::Error::Api(status) if status.code == 404 => Status::skip(format!("this API server does not know {what}")),
        error => Status::fail(
            format!("{what} can't be read"),
            with_causes(error),
            "an answer of the API server",
            Fix::words("see what the API server says, and try again"),
        ),
    }
}

//! What the operator writes to a Workspace itself: its finalizer, and its status.

use super::apply::patch_as_operator;
use crate::api::Workspace;
use crate::cluster::lean::Lean;
use crate::labels;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

/// Puts our finalizer on, or takes it off, and gives what was written; `None` when there was nothing to do, or the object is gone or
/// has changed meanwhile. The version in the patch keeps another one's finalizer from being lost.
///
/// # Errors
/// When the API server does not take it.
pub async fn set_finalizer(
    client: &Client,
    workspace: &Lean<Workspace>,
    wanted: bool,
) -> Result<Option<Lean<Workspace>>, kube::Error> {
    let mut finalizers: Vec<&str> = workspace.finalizers().iter().map(String::as_str).collect();
    let before = finalizers.len();
    finalizers.retain(|finalizer| *finalizer != labels::FINALIZER);
    if wanted {
        finalizers.push(labels::FINALIZER);
    }
    if finalizers.len() == before {
        return Ok(None);
    }
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": workspace.resource_version()}});
    let api: Api<Lean<Workspace>> = Api::namespaced(client.clone(), &workspace.namespace().unwrap_or_default());
    let written = api
        .patch(&workspace.name_any(), &patch_as_operator(), &Patch::Merge(patch))
        .await;
    match written {
        Ok(written) => Ok(Some(written)),
        // The watch brings the newer one.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the difference to the last status. Gives the version that the write has made; nothing else of the answer is read.
///
/// # Errors
/// When the API server does not take it.
pub async fn patch_status(client: &Client, workspace: &Workspace, patch: Value) -> Result<Option<String>, kube::Error> {
    #[derive(Deserialize)]
    struct Written {
        metadata: WrittenMetadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct WrittenMetadata {
        resource_version: Option<String>,
    }
    let path = Workspace::url_path(&(), workspace.metadata.namespace.as_deref());
    let request = Request::new(path).patch_subresource(
        "status",
        &workspace.name_any(),
        &PatchParams::default(),
        &Patch::Merge(patch),
    );
    let written = client.request::<Written>(request.map_err(kube::Error::BuildRequest)?);
    Ok(written.await?.metadata.resource_version)
}

//! A Workspace that begins or ends has our finalizer put on or taken off, and its volume kept where that was asked for.

use super::apply::{WriteError, release_claim};
use super::reconcile::{Context, FinalizerSnafu, ReconcileError, ReleaseSnafu};
use super::retain::{self, Leaver};
use super::workspace_writes;
use crate::api::Workspace;
use crate::cluster::lean::Lean;
use kube::ResourceExt;
use snafu::ResultExt;

/// A volume that is to outlive its Workspace has lost its owner long ago, unless that was asked for a moment ago, or while something in
/// the spec was wrong. Only what this Workspace controls is let go of: a volume of its name may be another one's. What can't be read may
/// have asked for its volume to be kept, so it is.
pub async fn keep_volume(lean: &Lean<Workspace>, ctx: &Context) -> Result<(), ReconcileError> {
    let Some(leaver) = Leaver::of(lean) else { return Ok(()) };
    let namespace = lean.namespace().unwrap_or_default();
    for claim in ctx.caches.claims.all() {
        let Some(patch) = retain::release(&claim, &leaver) else {
            continue;
        };
        match release_claim(&ctx.client, &namespace, &claim.name, patch).await {
            Ok(()) => {}
            Err(WriteError::Api {
                source: kube::Error::Api(status),
            }) if status.code == 404 => {}
            Err(source) => return Err(source).context(ReleaseSnafu { name: lean.name_any() }),
        }
    }
    Ok(())
}

/// Puts our finalizer on a Workspace, or takes it off: see [`workspace_writes::set_finalizer`].
pub async fn set_finalizer(
    ctx: &Context,
    workspace: &Lean<Workspace>,
    wanted: bool,
) -> Result<Option<Lean<Workspace>>, ReconcileError> {
    let written = workspace_writes::set_finalizer(&ctx.client, workspace, wanted).await;
    written.context(FinalizerSnafu {
        name: workspace.name_any(),
    })
}

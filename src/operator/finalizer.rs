//! A Workspace that begins or ends has our finalizer put on or taken off, and its volume kept where that was asked for.

use super::apply::{WriteError, release_claim};
use super::reconcile::{Context, FinalizerSnafu, ReconcileError, ReleaseSnafu};
use super::validate::validate;
use super::workspace_writes;
use crate::api::workspace::ReclaimPolicy;
use crate::api::{Workspace, WorkspaceStatus};
use crate::render::desired;
use kube::ResourceExt;
use snafu::ResultExt;

/// A volume that is to outlive its Workspace has lost its owner long ago, unless that was asked for a moment ago.
pub async fn keep_volume(workspace: &Workspace, ctx: &Context) -> Result<(), ReconcileError> {
    let Ok(valid) = validate(workspace, &ctx.settings) else {
        return Ok(());
    };
    if valid.reclaim_policy == ReclaimPolicy::Delete {
        return Ok(());
    }
    let observed = ctx.caches.observe(&valid, &WorkspaceStatus::default());
    let desired = desired(&valid, None);
    match release_claim(&ctx.client, &valid.namespace, &desired, &observed).await {
        Ok(()) => Ok(()),
        Err(WriteError::Api {
            source: kube::Error::Api(status),
        }) if status.code == 404 => Ok(()),
        Err(source) => Err(source).context(ReleaseSnafu {
            name: workspace.name_any(),
        }),
    }
}

/// Puts our finalizer on a Workspace, or takes it off: see [`workspace_writes::set_finalizer`].
pub async fn set_finalizer(
    ctx: &Context,
    workspace: &Workspace,
    wanted: bool,
) -> Result<Option<Workspace>, ReconcileError> {
    let written = workspace_writes::set_finalizer(&ctx.client, workspace, wanted).await;
    written.context(FinalizerSnafu {
        name: workspace.name_any(),
    })
}

/// Takes our finalizer off every Workspace: the namespace is being deleted, and our own rights in it may go at any moment, before the
/// Workspaces. Nobody could take it off then, and the namespace would never end.
pub async fn let_go_of_all(ctx: &Context) -> Result<(), ReconcileError> {
    tracing::info!("the namespace is being deleted: nothing more is made in it");
    for lean in ctx.workspaces.state() {
        let Ok(workspace) = &lean.object else { continue };
        if ctx.memory.let_go(&workspace.uid().unwrap_or_default()) {
            set_finalizer(ctx, workspace, false).await?;
        }
    }
    Ok(())
}

//! What a user wants of their workspace becomes what is written to it: to start anew, and to go on though nobody types.
//!
//! Both change something, so they are `POST`, and a browser's must come from our own page.

use super::admission::{Admitted, admit};
use super::limits::AdmittedTo;
use super::presence::note_use;
use super::progress::View;
use super::reject::Rejection;
use super::respond::{self, Answer};
use super::service::{Asked, Gateway};
use crate::audit::{self, Action, Event, Outcome};
use hyper::StatusCode;
use kube::ResourceExt;
use std::sync::Arc;

/// `POST /api/workspace/restart`: 202, and the events of the Workspace tell the rest.
///
/// # Errors
/// When the user may not enter, or the request can't be written down.
pub async fn restart(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Answer, Rejection> {
    let Admitted { caller, workspace } = admit(gateway, asked, AdmittedTo::Lifecycle).await?;
    let name = workspace.name_any();
    let requested = gateway
        .workspaces
        .request_restart(&name, asked.id.as_str(), asked.now)
        .await;
    audit::emit(&Event::EnsureRunning {
        actor: caller.actor(asked),
        target: gateway.target(&name),
        action: Action::Restart,
        outcome: if requested.is_ok() {
            Outcome::Success
        } else {
            Outcome::Failure
        },
        reason: if requested.is_ok() { "requested" } else { "unavailable" },
    });
    if let Err(error) = requested {
        tracing::warn!(request_id = asked.id.as_str(), workspace = name, %error, "a restart can't be asked for");
        return Err(Rejection::WorkspaceUnavailable);
    }
    let view = View::of(&workspace, &gateway.workspaces.namespace);
    Ok(respond::json(StatusCode::ACCEPTED, &view))
}

/// `POST /api/workspace/keep-working`: counts as a key would.
///
/// # Errors
/// When the user may not enter.
pub async fn keep_working(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Answer, Rejection> {
    let Admitted { workspace, .. } = admit(gateway, asked, AdmittedTo::Lifecycle).await?;
    let name = workspace.name_any();
    note_use(gateway, &name, asked.now);
    let view = View::of(&workspace, &gateway.workspaces.namespace);
    Ok(respond::json(StatusCode::ACCEPTED, &view))
}

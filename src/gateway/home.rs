//! A signed-in user becomes a page: their terminal, or how far its start has come. And the same for programs, as JSON.

use super::admission::admit;
use super::limits::AdmittedTo;
use super::pages::{StartingPage, TerminalPage};
use super::presence::note_use;
use super::progress::View;
use super::reject::Rejection;
use super::respond::{self, Answer};
use super::service::{Asked, Gateway};
use hyper::StatusCode;
use std::sync::Arc;

/// The page at `/`.
///
/// # Errors
/// When the user may not enter, or has no Workspace.
pub async fn page(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Answer, Rejection> {
    let view = entered(gateway, asked).await?;
    Ok(if view.ttyd_ready {
        note_use(gateway, &view.name, asked.now);
        let recorded = gateway.recording.as_ref().map(|recording| recording.notice);
        let page = TerminalPage::of(&view, recorded.unwrap_or_default(), gateway.clipboard.word());
        respond::page(StatusCode::OK, &page)
    } else {
        let page = StartingPage::of(&view, &gateway.support_contact, asked.id.as_str());
        respond::page(StatusCode::OK, &page)
    })
}

/// `GET|POST /api/workspace`.
///
/// # Errors
/// As for the page.
pub async fn api(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Answer, Rejection> {
    let view = entered(gateway, asked).await?;
    Ok(respond::json(StatusCode::OK, &view))
}

async fn entered(gateway: &Arc<Gateway>, asked: &Asked) -> Result<View, Rejection> {
    let admitted = admit(gateway, asked, AdmittedTo::Lifecycle).await?;
    Ok(View::of(&admitted.workspace, &gateway.workspaces.namespace))
}

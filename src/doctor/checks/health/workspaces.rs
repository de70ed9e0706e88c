//! Workspaces become the claim that none is stuck, with the reason that each tells itself.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use crate::api::status::ConditionType;
use crate::api::{Phase, Workspace};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::sync::Arc;

pub const STUCK: Check = Claim::warning("DP1105", "no workspace is stuck")
    .needs(&["DP0401"])
    .why("Its user waits for a terminal that does not come.")
    .docs(
        "Told are Workspaces that have failed, and those that are being made for longer than ten minutes, each with the reason and the hint of its own \
         status. A stopped one is not stuck.",
    )
    .check(|context| Box::pin(async move { judged(stuck(&context).await) }));

const SHOWN: usize = 10;
/// A pull of a large image takes minutes.
const STARTS_WITHIN: SignedDuration = SignedDuration::from_mins(10);

async fn stuck(context: &Arc<Context>) -> Read<Status> {
    let namespace = &context.installation.workspaces;
    let all: Vec<Workspace> = context.list(namespace, "").await?;
    let stuck: Vec<&Workspace> = all.iter().filter(|workspace| is_stuck(workspace, context)).collect();
    if stuck.is_empty() {
        return Ok(Status::pass(format!("Workspaces: {}", all.len())));
    }
    let told: Vec<_> = stuck.iter().take(SHOWN).map(|workspace| told(workspace)).collect();
    let hints: Vec<_> = stuck.iter().filter_map(|workspace| hint(workspace)).collect();
    let hint = hints
        .first()
        .cloned()
        .unwrap_or_else(|| "see what its events say".to_owned());
    Ok(Status::fail(
        format!("{} of {} Workspaces are stuck", stuck.len(), all.len()),
        told.join("\n"),
        "Running, Stopped, or not longer than ten minutes on the way",
        Fix::words(format!(
            "{hint} (kubectl describe workspace {} -n {namespace})",
            stuck[0].name_any()
        )),
    ))
}

fn is_stuck(workspace: &Workspace, context: &Context) -> bool {
    let Some(status) = &workspace.status else {
        return is_old(workspace.creation_timestamp().map(|time| time.0), context);
    };
    match status.phase {
        Some(Phase::Failed) => true,
        Some(Phase::Pending | Phase::Creating) | None => {
            let changed = status
                .condition(ConditionType::Ready)
                .map(|ready| ready.last_transition_time.0);
            is_old(
                changed.or_else(|| workspace.creation_timestamp().map(|time| time.0)),
                context,
            )
        }
        _ => false,
    }
}

fn is_old(since: Option<Timestamp>, context: &Context) -> bool {
    since.is_some_and(|since| context.now.duration_since(since) > STARTS_WITHIN)
}

fn told(workspace: &Workspace) -> String {
    let name = workspace.name_any();
    let Some(status) = &workspace.status else {
        return format!("{name}: no operator has looked at it");
    };
    let ready = status.condition(ConditionType::Ready);
    let reason = ready.map_or("", |ready| ready.reason.as_str());
    let phase = status
        .phase
        .map_or_else(|| "no phase".to_owned(), |phase| phase.to_string());
    format!("{name}: {phase}, {reason}: {}", status.message)
}

fn hint(workspace: &Workspace) -> Option<String> {
    let hint = workspace.status.as_ref()?.remediation_hint.clone();
    (!hint.is_empty()).then(|| hint.trim_end_matches('.').to_owned())
}

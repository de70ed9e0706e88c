//! Deployments, the Lease and the session keys become the claims that operator and gateway work.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use crate::cluster::session_keys;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

pub const OPERATOR: Check = Claim::error("DP1101", "the operator's replicas are up to date and ready")
    .needs(&["DP0401"])
    .why("Without an operator nothing happens to Workspaces.")
    .docs(
        "The Deployment `workspace-operator` must have all its replicas ready, and all of its present template, with images of one digest. Skipped before \
         the installation.",
    )
    .check(|context| Box::pin(async move { judged(deployment(&context, "workspace-operator").await) }));

pub const LEADER: Check = Claim::error("DP1102", "an operator leads")
    .needs(&["DP1101"])
    .why("Operators that wait for the Lease do nothing.")
    .docs(
        "The holder of the Lease `workspace-operator` must be a pod that runs, and renew it (`renewTime`) while the doctor looks on. Of times, the doctor \
         compares the Lease's own alone: its clock may be another.",
    )
    .patience(20)
    .check(|context| Box::pin(async move { judged(leader(&context).await) }));

pub const GATEWAY: Check = Claim::error("DP1103", "the gateway's replicas are ready, and alike")
    .needs(&["DP0401"])
    .why("Replicas with other settings treat one user in two ways; without any, nobody gets in.")
    .docs(
        "The Deployment `workspace-gateway` must have all its replicas ready and of its present template, which holds their settings, and their \
         containers images of one digest. Skipped before the installation.",
    )
    .check(|context| Box::pin(async move { judged(gateway(&context).await) }));

pub const SESSION_KEYS: Check = Claim::error("DP1104", "the keys of sessions are there and usable")
    .needs(&["DP1103"])
    .why("No gateway starts without them.")
    .docs("The Secret `workspace-gateway-session-keys` must have an entry `keys` with a line of base64 for each key of 64 bytes. The content is not shown.")
    .check(|context| Box::pin(async move { judged(keys(&context).await) }));

/// A holder renews every two seconds.
const RENEWED_WITHIN: Duration = Duration::from_secs(12);

async fn gateway(context: &Arc<Context>) -> Read<Status> {
    let values = context.installation.values.as_ref();
    if values.is_some_and(|values| !values.is_true("gateway.enabled")) {
        return Ok(Status::skip("gateway.enabled is false"));
    }
    deployment(context, "workspace-gateway").await
}

async fn deployment(context: &Arc<Context>, name: &str) -> Read<Status> {
    let namespace = &context.installation.namespace;
    let Some(found) = context.find::<Deployment>(namespace, name).await? else {
        return Ok(Status::skip(format!(
            "there is no Deployment {name} in {namespace} yet"
        )));
    };
    let wanted = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = found.status.clone().unwrap_or_default();
    let (updated, ready) = (
        status.updated_replicas.unwrap_or_default(),
        status.ready_replicas.unwrap_or_default(),
    );
    let all = status.replicas.unwrap_or_default();
    let told = format!("{wanted} wanted, {all} there, {updated} of the present template, {ready} ready");
    let scale = || {
        Fix::command(format!(
            "kubectl scale deployment {name} -n {namespace} --replicas={}",
            replicas(context, name)
        ))
    };
    if wanted == 0 {
        return Ok(Status::fail(
            format!("the Deployment {name} is scaled to nothing"),
            told,
            "one replica at least",
            scale(),
        ));
    }
    if found.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
        return Ok(Status::fail(
            format!("the Deployment {name} is paused"),
            "paused: true",
            "a Deployment that follows its template",
            Fix::command(format!("kubectl rollout resume deployment {name} -n {namespace}")),
        ));
    }
    let is_seen = status.observed_generation >= found.metadata.generation;
    if is_seen && updated == wanted && all == wanted && ready == wanted {
        let pods: Vec<Pod> = context.list(namespace, &format!("app={name}")).await?;
        return Ok(match differences(&pods) {
            None => Status::pass(format!("{ready} of {wanted} ready, of one template and one image")),
            Some(found) => Status::fail(
                format!("the replicas of {name} are not alike"),
                found,
                "pods of one template, with images of one digest",
                Fix::command(format!("kubectl rollout restart deployment {name} -n {namespace}")),
            ),
        });
    }
    let why = pods(context, name).await.unwrap_or_default();
    Ok(Status::fail(
        format!("the replicas of {name} are not ready and alike{why}"),
        told,
        format!("{wanted} of the present template, ready, and no other"),
        Fix::words(format!(
            "see what hinders them: kubectl describe pods -n {namespace} -l app={name}; kubectl logs -n {namespace} -l app={name}"
        )),
    ))
}

/// What pods that go on have of more than one kind: templates, by the label of their ReplicaSet, and images, by their digests where nodes tell
/// them. A template has the settings in it, and checksums of what it takes them from.
fn differences(pods: &[Pod]) -> Option<String> {
    const TEMPLATE: &str = "pod-template-hash";
    let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Succeeded" | "Failed");
    let staying: Vec<_> = pods.iter().filter(stays).collect();
    let mut kinds: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for pod in &staying {
        if let Some(hash) = pod.labels().get(TEMPLATE) {
            kinds.entry("templates".to_owned()).or_default().insert(hash);
        }
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        for container in statuses.into_iter().flatten() {
            if let Some((_, digest)) = container.image_id.split_once('@') {
                let images = format!("images of the container {}", container.name);
                kinds.entry(images).or_default().insert(digest);
            }
        }
    }
    let differing: Vec<_> = kinds
        .into_iter()
        .filter(|(_, found)| found.len() > 1)
        .map(|(what, found)| format!("{what}: {}", found.into_iter().collect::<Vec<_>>().join(", ")))
        .collect();
    (!differing.is_empty()).then(|| differing.join("; "))
}

fn replicas(context: &Context, name: &str) -> String {
    let key = format!("{}.replicas", name.trim_start_matches("workspace-"));
    let values = context.installation.values.as_ref();
    let replicas = values
        .map(|values| values.text(&key))
        .filter(|text| !text.is_empty() && text != "0");
    replicas.unwrap_or_else(|| "1".to_owned())
}

/// What containers that wait, wait for.
async fn pods(context: &Arc<Context>, app: &str) -> Option<String> {
    let pods: Vec<Pod> = context
        .list(&context.installation.namespace, &format!("app={app}"))
        .await
        .ok()?;
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref());
    let containers = statuses.flat_map(|status| status.container_statuses.iter().flatten());
    let reasons: BTreeSet<_> = containers
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone())
        .collect();
    (!reasons.is_empty()).then(|| format!(": {}", reasons.into_iter().collect::<Vec<_>>().join(", ")))
}

async fn leader(context: &Arc<Context>) -> Read<Status> {
    let installation = &context.installation;
    let elects = match &installation.values {
        Some(values) => values.is_true("operator.leaderElect"),
        None => installation.operator().is_some_and(|config| config.leader_elect),
    };
    if !elects {
        return Ok(Status::skip("operators do not elect a leader (operator.leaderElect)"));
    }
    let namespace = &installation.namespace;
    let name = "workspace-operator";
    let restart = || Fix::command(format!("kubectl rollout restart deployment {name} -n {namespace}"));
    let Some(first) = context.find::<Lease>(namespace, name).await? else {
        return Ok(Status::fail(
            format!("there is no Lease {name} in {namespace}"),
            "none",
            "one that an operator holds",
            restart(),
        ));
    };
    let (holder, renewed) = held(&first);
    if holder.is_empty() {
        return Ok(Status::fail(
            format!("nobody holds the Lease {name}"),
            "no holder",
            "a pod of the operator",
            restart(),
        ));
    }
    let pod = context.find::<Pod>(namespace, &holder).await?;
    if !pod.as_ref().is_some_and(runs) {
        return Ok(Status::fail(
            format!("the Lease {name} is held by {holder}, which is no pod that runs"),
            pod.map_or_else(
                || "no such pod".to_owned(),
                |pod| format!("a pod in phase {}", phase(&pod)),
            ),
            "a pod of the operator that runs",
            restart(),
        ));
    }
    let waited = tokio::time::Instant::now();
    while waited.elapsed() < RENEWED_WITHIN {
        sleep(Duration::from_millis(500)).await;
        let now = context.find::<Lease>(namespace, name).await?;
        let (now_holder, now_renewed) = now.as_ref().map(held).unwrap_or_default();
        if now_holder == holder && now_renewed > renewed {
            return Ok(Status::pass(format!("{holder} leads")));
        }
    }
    Ok(Status::fail(
        format!("nobody renews the Lease {name}"),
        format!("{holder} holds it, and renews it no longer"),
        "a holder that renews it every few seconds",
        restart(),
    ))
}

/// Who holds it, and when they renewed it.
fn held(lease: &Lease) -> (String, Option<Timestamp>) {
    let spec = lease.spec.clone().unwrap_or_default();
    (
        spec.holder_identity.unwrap_or_default(),
        spec.renew_time.map(|time| time.0),
    )
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
}

fn runs(pod: &Pod) -> bool {
    phase(pod) == "Running" && pod.metadata.deletion_timestamp.is_none()
}

async fn keys(context: &Arc<Context>) -> Read<Status> {
    use session_keys::{ENTRY, KEY_BYTES, NAME};
    let namespace = &context.installation.namespace;
    let restart = format!("kubectl rollout restart deployment workspace-gateway -n {namespace}");
    let Some(secret) = context.find::<Secret>(namespace, NAME).await? else {
        return Ok(Status::fail(
            format!("there is no Secret {NAME} in {namespace}, though the gateway runs"),
            "none",
            "the Secret that the first gateway makes when it starts",
            Fix::command(restart),
        ));
    };
    let entry = secret.data.as_ref().and_then(|data| data.get(ENTRY));
    let keys = entry.and_then(|entry| session_keys::parse(&entry.0));
    if let Some(keys) = keys.filter(|keys| !keys.is_empty()) {
        return Ok(Status::pass(format!("keys: {}", keys.len())));
    }
    Ok(Status::fail(
        format!("the Secret {NAME} in {namespace} is not usable; made anew, it signs everyone out"),
        match entry {
            None => format!("no entry {ENTRY}"),
            Some(entry) => format!("{} bytes in the entry {ENTRY} that are not such lines", entry.0.len()),
        },
        format!("a line of base64 for each key of {KEY_BYTES} bytes"),
        Fix::command(format!("kubectl delete secret {NAME} -n {namespace}\n{restart}")),
    ))
}

//! Namespaces become the claims that they are there, and that the workspaces' admits workspaces and nothing worse.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use std::sync::Arc;

pub const EXIST: Check = Claim::error("DP0401", "the namespaces are there, or will be made")
    .needs(&["DP0201"])
    .why("What belongs into a namespace that is missing, or that is being deleted, can't be made.")
    .docs(
        "The release's namespace may be missing before the installation: `helm install --create-namespace` makes it. The workspaces' is made by \
         the chart, unless `gateway.createWorkspaceNamespace` is false. One that is being deleted takes nothing new.",
    )
    .check(|context| Box::pin(async move { judged(exist(&context).await) }));

pub const SECURITY: Check = Claim::warning("DP0402", "the workspaces' namespace enforces the Pod Security level of the values")
    .needs(&["DP0401"])
    .why("Workspaces satisfy `restricted`; a laxer level lets through pods that others may make there, a mistyped one is none.")
    .docs(
        "The label `pod-security.kubernetes.io/enforce` of the namespace is compared with `workspace.namespacePodSecurity`, or with `restricted` \
         where there are no values. Namespaces that were there before the release keep their labels: the chart does not touch them.",
    )
    .check(|context| Box::pin(async move { judged(security(&context).await) }));

pub const OWN_SECURITY: Check = Claim::warning("DP0415", "the release's namespace enforces the Pod Security level of what the chart runs there")
    .needs(&["DP0401"])
    .why("Operator, gateway and doctor satisfy `restricted`; a laxer level lets through pods that could read the keys of sessions from the node.")
    .docs(
        "The label `pod-security.kubernetes.io/enforce` of the namespace must be `restricted`. Before the installation a namespace that is not there is \
         left out: `helm install --create-namespace` makes it without labels.",
    )
    .check(|context| Box::pin(async move { judged(own_security(&context).await) }));

/// The level that all pods of the chart satisfy.
pub const RESTRICTED: &str = "restricted";
/// The label with the level that a namespace enforces.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

async fn exist(context: &Arc<Context>) -> Read<Status> {
    let installation = &context.installation;
    let values = installation.values.as_ref();
    let is_made = values.is_some_and(|values| values.is_true("gateway.createWorkspaceNamespace"));
    let mut evidence = Vec::new();
    for (name, is_made, by) in [
        (
            &installation.namespace,
            values.is_some(),
            "helm install --create-namespace",
        ),
        (&installation.workspaces, is_made, "the chart"),
    ] {
        let found: Option<Namespace> = context.find_global(name).await?;
        let ends = found
            .as_ref()
            .is_some_and(|found| found.metadata.deletion_timestamp.is_some());
        match found {
            Some(_) if ends => {
                return Ok(Status::fail(
                    format!("the namespace {name} is being deleted"),
                    "Terminating",
                    "Active",
                    Fix::words(format!(
                        "wait until it is gone, or see what holds it: kubectl get namespace {name} -o jsonpath='{{.status.conditions}}'"
                    )),
                ));
            }
            Some(_) => evidence.push(format!("{name} is there")),
            None if is_made => evidence.push(format!("{name} will be made by {by}")),
            None => {
                return Ok(Status::fail(
                    format!("there is no namespace {name}, and nothing makes it"),
                    "none",
                    format!("the namespace {name}"),
                    Fix::command(creation(context, name)),
                ));
            }
        }
    }
    Ok(Status::pass(evidence.join(", ")))
}

/// The commands that come before anything is put into a namespace which is not there yet, though something is to make it; they end with a line break.
pub(super) async fn made_first(context: &Context, name: &str) -> String {
    match context.find_global::<Namespace>(name).await {
        Ok(None) => format!("{}\n", creation(context, name)),
        Ok(Some(_)) | Err(_) => String::new(),
    }
}

fn creation(context: &Context, name: &str) -> String {
    format!(
        "kubectl create namespace {name}\nkubectl label namespace {name} {ENFORCE}={}",
        level(context)
    )
}

/// The level that the values name.
fn level(context: &Context) -> String {
    let values = context.installation.values.as_ref();
    let level = values.map(|values| values.text("workspace.namespacePodSecurity"));
    level
        .filter(|level| !level.is_empty())
        .unwrap_or_else(|| RESTRICTED.to_owned())
}

async fn security(context: &Arc<Context>) -> Read<Status> {
    enforces(context, &context.installation.workspaces, &level(context)).await
}

async fn own_security(context: &Arc<Context>) -> Read<Status> {
    enforces(context, &context.installation.namespace, RESTRICTED).await
}

async fn enforces(context: &Arc<Context>, name: &str, wanted: &str) -> Read<Status> {
    let Some(namespace) = context.find_global::<Namespace>(name).await? else {
        return Ok(Status::skip(format!("the namespace {name} is not there yet")));
    };
    let found = namespace.labels().get(ENFORCE);
    if found.is_some_and(|found| found == wanted) {
        return Ok(Status::pass(format!("{name} enforces {wanted}")));
    }
    Ok(Status::fail(
        format!("the namespace {name} does not enforce the Pod Security level {wanted}"),
        found.map_or("no level", String::as_str),
        wanted,
        Fix::command(format!("kubectl label --overwrite namespace {name} {ENFORCE}={wanted}")),
    ))
}

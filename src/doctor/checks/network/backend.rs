//! The kinds of policies that the cluster knows, and what is there of them, become the claims that the chosen backend is the one that decides.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use crate::api::Workspace;
use crate::api::egress::PolicyBackend;
use crate::causes::with_causes;
use crate::cluster::kinds::is_served;
use crate::labels::{MANAGED_BY, MANAGED_BY_DEVPLANE};
use crate::names::CANARY;
use crate::policy::cilium::CiliumNetworkPolicy;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::{Resource, ResourceExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

pub const CHOSEN: Check = Claim::error("DP0811", "the cluster knows the policies that the settings choose, and has none of another choice left")
    .needs(&["DP0201"])
    .why("Without the kind no workspace starts: its policies come before its pod. What another backend has left adds up with what is allowed now.")
    .docs(
        "With `workspace.networkPolicyBackend: cilium` the API server must serve CiliumNetworkPolicies (`cilium.io/v2`). With `kubernetes`, where it \
         serves them, none that belongs to a Workspace or to the canary may be left in the namespace of the workspaces. The operator deletes them \
         by itself where the chart gave it the right, which it does when the cluster knows the kind.",
    )
    .patience(120)
    .check(|context| Box::pin(async move { judged(chosen(&context).await) }));

pub const USED: Check = Claim::warning("DP0812", "where names outside the cluster are asked for, what polices names is there and chosen")
    .needs(&["DP0811"])
    .why("Names that nobody polices open nothing; a CiliumNetworkPolicy that no agent keeps to polices nothing.")
    .docs(
        "With `workspace.networkPolicyBackend: cilium` a DaemonSet of Cilium's agent (`cilium`, or `anetd` with GKE) must be there: its kind alone may be left of \
         an installation that was removed. With `kubernetes`, where the cluster has Cilium, no Workspace may ask for names \
         (`spec.aiConfig.egressFQDNs`), which that backend leaves out.",
    )
    .check(|context| Box::pin(async move { judged(used(&context).await) }));

/// An operator that takes away what is left needs some time for thousands.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Names in one command.
const AT_ONCE: usize = 50;

fn backend(context: &Context) -> Read<PolicyBackend> {
    let operator = context.installation.operator();
    let operator = operator.ok_or_else(|| Status::skip("the operator's settings are not known"))?;
    Ok(operator.workspace.common.policy_backend)
}

async fn knows_cilium(context: &Context) -> Read<bool> {
    let client = context.client().map_err(|error| Status::skip(error.to_string()))?;
    let served = is_served::<CiliumNetworkPolicy>(client).await;
    served.map_err(|error| {
        Status::skip(format!(
            "the kinds of cilium.io/v2 can't be asked for: {}",
            with_causes(&error)
        ))
    })
}

async fn chosen(context: &Arc<Context>) -> Read<Status> {
    match (backend(context)?, knows_cilium(context).await?) {
        (PolicyBackend::Cilium, true) => Ok(Status::pass("CiliumNetworkPolicies are known (cilium.io/v2)")),
        (PolicyBackend::Cilium, false) => Ok(Status::fail(
            "the cluster does not know CiliumNetworkPolicies",
            "no kind CiliumNetworkPolicy of cilium.io/v2",
            "Cilium's definitions, as Cilium installs them",
            Fix::values("workspace:\n  networkPolicyBackend: kubernetes\n  ai:\n    egressFQDNs: []\n"),
        )),
        (PolicyBackend::Kubernetes, false) => Ok(Status::pass("NetworkPolicies, which every cluster knows")),
        (PolicyBackend::Kubernetes, true) => none_left(context).await,
    }
}

async fn none_left(context: &Arc<Context>) -> Read<Status> {
    let mut left = left(context).await?;
    loop {
        if left.is_empty() {
            return Ok(Status::pass(
                "NetworkPolicies; no CiliumNetworkPolicy of DevPlane's is left",
            ));
        }
        if uses_cilium_still(context).await? {
            return Ok(Status::skip(
                "the operator that is installed still writes CiliumNetworkPolicies; ask again after the upgrade",
            ));
        }
        sleep(LOOK_AGAIN_AFTER).await;
        let now = self::left(context).await?;
        if now.len() >= left.len() {
            return Ok(leftovers(&context.installation.workspaces, &now));
        }
        left = now;
    }
}

/// The names of what the other backend has made, for Workspaces or the canary; those of others are no concern of ours.
async fn left(context: &Arc<Context>) -> Read<Vec<String>> {
    let labels = format!("{MANAGED_BY}={MANAGED_BY_DEVPLANE}");
    let all: Vec<CiliumNetworkPolicy> = context.list(&context.installation.workspaces, &labels).await?;
    let is_ours = |policy: &&CiliumNetworkPolicy| {
        let mut owners = policy.owner_references().iter();
        policy.name_any().ends_with("-egress")
            && owners.any(|owner| owner.kind == Workspace::kind(&()) || owner.name == CANARY)
    };
    Ok(all.iter().filter(is_ours).map(ResourceExt::name_any).collect())
}

fn leftovers(namespace: &str, names: &[String]) -> Status {
    let commands: Vec<String> = names
        .chunks(AT_ONCE)
        .map(|names| {
            format!(
                "kubectl delete ciliumnetworkpolicies.cilium.io -n {namespace} {}",
                names.join(" ")
            )
        })
        .collect();
    let shown = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    Status::fail(
        "CiliumNetworkPolicies of an earlier workspace.networkPolicyBackend are left, and still allow what they say",
        format!("{}: {shown}{}", names.len(), if names.len() > 5 { ", …" } else { "" }),
        "none that belongs to a Workspace or to the canary",
        Fix::command(commands.join("\n")),
    )
}

/// As values are checked before they are installed.
async fn uses_cilium_still(context: &Arc<Context>) -> Read<bool> {
    let found: Option<Deployment> = context
        .find(&context.installation.namespace, "workspace-operator")
        .await?;
    let pod = found.and_then(|deployment| deployment.spec?.template.spec);
    let containers = pod.iter().flat_map(|pod| &pod.containers);
    let mut variables = containers.flat_map(|container| container.env.iter().flatten());
    Ok(variables.any(|variable| {
        variable.name == crate::config::operator::NETWORK_POLICY_BACKEND.env
            && variable.value.as_deref() == Some("cilium")
    }))
}

async fn used(context: &Arc<Context>) -> Read<Status> {
    match (backend(context)?, knows_cilium(context).await?) {
        (PolicyBackend::Cilium, _) => agents(context).await,
        (PolicyBackend::Kubernetes, false) => {
            Ok(Status::pass("the cluster has no Cilium; addresses alone can be said"))
        }
        (PolicyBackend::Kubernetes, true) => asked_for(context).await,
    }
}

async fn agents(context: &Arc<Context>) -> Read<Status> {
    let sets: Vec<DaemonSet> = context.list("", "").await?;
    let agent = sets
        .iter()
        .find(|set| matches!(set.name_any().as_str(), "cilium" | "anetd"));
    Ok(match agent {
        Some(agent) => Status::pass(format!(
            "DaemonSet {}/{}",
            agent.namespace().unwrap_or_default(),
            agent.name_any()
        )),
        None => Status::fail(
            "the cluster knows CiliumNetworkPolicies, and nothing is there that keeps to them",
            "no DaemonSet cilium",
            "Cilium's agent on every node",
            Fix::words(
                "install Cilium, or set workspace.networkPolicyBackend: kubernetes; where the agent has another name, see DP0810 (--probe) and leave this out with --skip DP0812",
            ),
        ),
    })
}

async fn asked_for(context: &Arc<Context>) -> Read<Status> {
    let all: Vec<Workspace> = context.list(&context.installation.workspaces, "").await?;
    let asking = all.iter().filter_map(|workspace| {
        let names = workspace.spec.ai_config.egress_fqdns.as_ref()?;
        (!names.is_empty()).then(|| (workspace.name_any(), names))
    });
    let (workspaces, names): (Vec<_>, Vec<_>) = asking.unzip();
    let names: BTreeSet<&String> = names.into_iter().flatten().collect();
    if workspaces.is_empty() {
        return Ok(Status::pass(
            "no Workspace asks for names; Cilium is there, so workspace.networkPolicyBackend: cilium would know them",
        ));
    }
    let shown = |texts: Vec<&str>| texts.into_iter().take(5).collect::<Vec<_>>().join(", ");
    Ok(Status::fail(
        format!(
            "{} Workspaces ask for names outside the cluster, and get none with workspace.networkPolicyBackend: kubernetes",
            workspaces.len()
        ),
        format!(
            "{} by {}",
            shown(names.into_iter().map(String::as_str).collect()),
            shown(workspaces.iter().map(String::as_str).collect())
        ),
        "workspace.networkPolicyBackend: cilium, as the cluster has Cilium, or no names in spec.aiConfig.egressFQDNs",
        Fix::words(
            "set workspace.networkPolicyBackend: cilium and the names that may be reached in workspace.ai.egressFQDNs, or take the names out of these Workspaces",
        ),
    ))
}

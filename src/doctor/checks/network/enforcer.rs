//! DaemonSets of network plug-ins become the claim that somebody is there who enforces NetworkPolicies.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::ResourceExt;
use std::sync::Arc;

pub const CHECK: Check = Claim::warning("DP0805", "a network plugin that enforces NetworkPolicies is there")
    .needs(&["DP0201"])
    .why("Without one the API server takes policies and nothing keeps to them: workspaces reach each other and everything else.")
    .docs(
        "DaemonSets of the common plug-ins are looked for by name: Calico, Cilium, Antrea, kube-router, OVN-Kubernetes, Kube-OVN, Weave, Azure's agent. \
         Amazon's enforces policies when its agent for them runs and is told to (`--enable-network-policy=true`), kube-router unless it is told not to \
         (`--run-firewall=false`). Only DP0810 shows whether policies are kept to.",
    )
    .check(|context| Box::pin(async move { judged(enforcer(&context).await) }));

type Enforces = fn(&DaemonSet) -> bool;

/// DaemonSets by the beginning of their names, what they are, and whether one enforces policies as it is started.
const ENFORCERS: &[(&str, &str, Enforces)] = &[
    ("calico-node", "Calico", |_| true),
    ("canal", "Canal", |_| true),
    ("cilium", "Cilium", |_| true),
    ("antrea-agent", "Antrea", |_| true),
    ("kube-router", "kube-router", |set| {
        !is_started_with(set, "--run-firewall=false")
    }),
    ("ovnkube", "OVN-Kubernetes", |_| true),
    ("ovs-ovn", "Kube-OVN", |_| true),
    ("kube-ovn", "Kube-OVN", |_| true),
    ("weave-net", "Weave Net", |_| true),
    // On every node of EKS, whether or not policies are enforced.
    ("aws-node", "Amazon VPC CNI", |set| {
        is_started_with(set, "--enable-network-policy=true")
    }),
    ("azure-npm", "Azure NPM", |_| true),
    ("kube-network-policies", "kube-network-policies", |_| true),
    ("anetd", "GKE Dataplane V2", |_| true),
];

/// Whether one of its containers has this argument.
fn is_started_with(set: &DaemonSet, argument: &str) -> bool {
    let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let containers = pod.into_iter().flat_map(|pod| &pod.containers);
    let mut arguments = containers.flat_map(|container| container.command.iter().chain(&container.args).flatten());
    arguments.any(|given| given == argument)
}

async fn enforcer(context: &Arc<Context>) -> Read<Status> {
    let sets: Vec<DaemonSet> = context.list("", "").await?;
    let known = sets.iter().find_map(|set| {
        let name = set.name_any();
        let (_, product, _) = ENFORCERS
            .iter()
            .find(|(prefix, _, enforces)| name.starts_with(prefix) && enforces(set))?;
        Some(format!("{product} ({}/{name})", set.namespace().unwrap_or_default()))
    });
    if let Some(known) = known {
        return Ok(Status::pass(known));
    }
    let names: Vec<_> = sets.iter().map(ResourceExt::name_any).collect();
    Ok(Status::fail(
        "no network plugin that is known to enforce NetworkPolicies",
        if names.is_empty() {
            "no DaemonSet".to_owned()
        } else {
            format!("DaemonSets {}", names.join(", "))
        },
        "one of Calico, Cilium, Antrea, kube-router, OVN-Kubernetes and such",
        Fix::words(
            "install a network plugin that enforces NetworkPolicies; where yours does under another name, see DP0810 (--probe) and leave this out with --skip DP0805",
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_that_may_be_there_without_enforcing_is_asked() {
        let enforces = |name: &str, arguments: &[&str]| {
            let set: DaemonSet = serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "args": arguments}]}}},
            }))
            .unwrap();
            ENFORCERS
                .iter()
                .any(|(prefix, _, enforces)| name.starts_with(prefix) && enforces(&set))
        };
        for (name, arguments, expected) in [
            ("calico-node", &[][..], true),
            ("aws-node", &[], false),
            ("aws-node", &["--enable-network-policy=false"], false),
            ("aws-node", &["--enable-network-policy=true"], true),
            ("kube-router", &["--run-router=true"], true),
            ("kube-router", &["--run-firewall=false"], false),
            ("netd", &[], false),
        ] {
            assert_eq!(enforces(name, arguments), expected, "{name} {arguments:?}");
        }
    }
}

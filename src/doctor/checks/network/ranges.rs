//! Nodes, ServiceCIDRs and DaemonSets become the claims that the cluster's own ranges are known, and that policies are enforced by somebody.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use ipnet::IpNet;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

pub const KNOWN: Check = Claim::error("DP0803", "the cluster's own address ranges are known")
    .needs(&["DP0101", "DP0201"])
    .why("What is not known to be the cluster's counts as outside: workspaces could reach other pods, Services and nodes. Or nothing outside at all.")
    .docs(
        "The ranges of pods (`spec.podCIDRs` of Nodes), of Services (ServiceCIDRs, Kubernetes 1.33 or newer) and the nodes' addresses must lie within \
         `clusterCIDRs`. Without `clusterCIDRs` the operator finds them in the same places, and each Node must tell its own.",
    )
    .check(|context| Box::pin(async move { judged(known(&context).await) }));

pub const ENFORCER: Check = Claim::warning("DP0805", "a network plugin that enforces NetworkPolicies is there")
    .needs(&["DP0201"])
    .why("Without one the API server takes policies and nothing keeps to them: workspaces reach each other and everything else.")
    .docs(
        "DaemonSets of the common plug-ins are looked for by name: Calico, Cilium, Antrea, kube-router, OVN-Kubernetes, Weave, Amazon's and Azure's \
         agents. Only DP0810 shows whether policies are kept to.",
    )
    .check(|context| Box::pin(async move { judged(enforcer(&context).await) }));

/// What the cluster says of itself.
#[derive(Default)]
struct Found {
    ranges: BTreeSet<IpNet>,
    /// Nodes that do not say which addresses their pods have.
    silent: Vec<String>,
    services: usize,
}

async fn found(context: &Arc<Context>) -> Read<Found> {
    let mut found = Found::default();
    let nodes: Vec<Node> = context.list_global().await?;
    for node in &nodes {
        let spec = node.spec.clone().unwrap_or_default();
        let cidrs: Vec<IpNet> = spec
            .pod_cidrs
            .iter()
            .flatten()
            .filter_map(|cidr| cidr.parse().ok())
            .collect();
        if cidrs.is_empty() {
            found.silent.push(node.name_any());
        }
        found.ranges.extend(cidrs);
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        found.ranges.extend(
            internal
                .filter_map(|address| address.address.parse::<IpAddr>().ok())
                .map(IpNet::from),
        );
    }
    for cidr in service_ranges(context).await {
        found.services += 1;
        found.ranges.insert(cidr);
    }
    Ok(found)
}

/// None where the API server does not know the kind, or gives them to nobody like us.
async fn service_ranges(context: &Arc<Context>) -> Vec<IpNet> {
    let Ok(client) = context.client() else {
        return Vec::new();
    };
    for version in ["v1", "v1beta1"] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.k8s.io", version, "ServiceCIDR"));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        if let Ok(list) = api.list(&ListParams::default()).await {
            let cidrs = list
                .items
                .iter()
                .flat_map(|object| object.data["spec"]["cidrs"].as_array().cloned().unwrap_or_default());
            return cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect();
        }
    }
    Vec::new()
}

async fn known(context: &Arc<Context>) -> Read<Status> {
    let operator = context.installation.operator();
    let operator = operator.ok_or_else(|| Status::skip("the operator's settings are not given"))?;
    let given = &operator.cluster_cidrs;
    let found = found(context).await?;
    if given.is_empty() {
        return Ok(findable(&found));
    }
    let missing: Vec<IpNet> = found
        .ranges
        .iter()
        .filter(|range| !given.iter().any(|given| given.contains(*range)))
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(Status::pass(format!(
            "clusterCIDRs hold all {} that the cluster tells of",
            found.ranges.len()
        )));
    }
    let all: Vec<_> = given
        .iter()
        .copied()
        .chain(IpNet::aggregate(&missing))
        .map(|range| range.to_string())
        .collect();
    let listed = |ranges: &[IpNet]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Ok(Status::fail(
        format!("clusterCIDRs lack {}", listed(&missing)),
        listed(given),
        "the ranges of pods, Services and nodes",
        Fix::values(format!(
            "clusterCIDRs: [{}]\n",
            all.iter()
                .map(|range| format!("\"{range}\""))
                .collect::<Vec<_>>()
                .join(", ")
        )),
    ))
}

fn findable(found: &Found) -> Status {
    let why = if !found.silent.is_empty() {
        Some(format!("these Nodes have no podCIDRs: {}", found.silent.join(", ")))
    } else if found.services == 0 {
        Some("there is no ServiceCIDR that can be read (Kubernetes 1.33 or newer)".to_owned())
    } else {
        None
    };
    match why {
        None => Status::pass(format!("{} ranges and addresses are found", found.ranges.len())),
        Some(why) => Status::fail(
            "clusterCIDRs is empty, and the operator can't find the cluster's ranges: workspaces get no external egress",
            why,
            "podCIDRs of every Node, and a ServiceCIDR",
            Fix::words(
                "set clusterCIDRs to the ranges of pods, Services and nodes, such as [10.244.0.0/16, 10.96.0.0/12, 192.168.7.0/24]",
            ),
        ),
    }
}

/// DaemonSets by the beginning of their names, and what they are.
const ENFORCERS: &[(&str, &str)] = &[
    ("calico-node", "Calico"),
    ("canal", "Canal"),
    ("cilium", "Cilium"),
    ("antrea-agent", "Antrea"),
    ("kube-router", "kube-router"),
    ("ovnkube", "OVN-Kubernetes"),
    ("ovs-ovn", "Kube-OVN"),
    ("kube-ovn", "Kube-OVN"),
    ("weave-net", "Weave Net"),
    ("aws-node", "Amazon VPC CNI"),
    ("azure-npm", "Azure NPM"),
    ("kube-network-policies", "kube-network-policies"),
    ("netd", "GKE Dataplane"),
    ("anetd", "GKE Dataplane V2"),
];

async fn enforcer(context: &Arc<Context>) -> Read<Status> {
    let sets: Vec<DaemonSet> = context.list("", "").await?;
    let known = sets.iter().find_map(|set| {
        let name = set.name_any();
        let (_, product) = ENFORCERS.iter().find(|(prefix, _)| name.starts_with(prefix))?;
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

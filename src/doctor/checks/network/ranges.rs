//! What the cluster says of its own address ranges becomes the claim that they are known, by the rules that the operator goes by.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged, unread};
use crate::cluster::kinds::is_served;
use crate::policy::ranges::{API_SERVER_ENDPOINTS, NodeFacts, SlimNode, Statements, holds, of_api_server, of_services};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::ResourceExt;
use kube::core::Object;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;

pub const KNOWN: Check = Claim::error("DP0803", "the cluster's own address ranges are known")
    .needs(&["DP0101", "DP0201"])
    .why("What is not known to be the cluster's counts as outside: workspaces could reach other pods, Services and nodes. Or nothing outside at all.")
    .docs(
        "The ranges of pods (`spec.podCIDRs` of Nodes), of Services (ServiceCIDRs, Kubernetes 1.33 or newer), the nodes' addresses, the API server's \
         (EndpointSlice `default/kubernetes`) and those that pods have must lie within `clusterCIDRs`. Where the cluster does not tell all of them, nobody \
         knows whether `clusterCIDRs` lack some, and the claim is skipped. Without `clusterCIDRs` the operator finds them in the same places, and each must tell.",
    )
    .check(|context| Box::pin(async move { judged(known(&context).await) }));

/// What there is no right to read leaves the check without an answer: the operator's own rights are another matter.
async fn known(context: &Arc<Context>) -> Read<Status> {
    let operator = context.installation.operator();
    let operator = operator.ok_or_else(|| Status::skip("the operator's settings are not given"))?;
    stated(context, |statements| {
        if operator.cluster_cidrs.is_empty() {
            findable(statements)
        } else {
            given(&operator.cluster_cidrs, statements)
        }
    })
    .await
}

/// The cluster's own ranges, as the operator finds them; the inner error is why it does not.
pub async fn found(context: &Arc<Context>) -> Read<Result<Vec<IpNet>, String>> {
    stated(context, |statements| statements.found().map(|found| found.all())).await
}

/// What `judge` makes of all that the cluster says of its ranges.
async fn stated<T>(context: &Arc<Context>, judge: impl FnOnce(&Statements<'_>) -> T) -> Read<T> {
    let nodes = nodes(context).await?;
    let services = services(context).await?;
    let (namespace, name) = API_SERVER_ENDPOINTS;
    let slice: Option<EndpointSlice> = context.find(namespace, name).await?;
    let pods = context.list_parts::<Pod, _, _>().await?;
    Ok(judge(&Statements {
        nodes: Ok(nodes.iter().map(|(name, node)| (name.as_str(), node)).collect()),
        services: services.as_deref().map(<[IpNet]>::to_vec).map_err(String::as_str),
        api_server: Ok(slice.iter().flat_map(of_api_server).collect()),
        departed: Vec::new(),
        pods: addresses(&pods),
    }))
}

async fn nodes(context: &Arc<Context>) -> Read<Vec<(String, NodeFacts)>> {
    let nodes: Vec<SlimNode> = context.list_parts::<Node, _, _>().await?;
    Ok(nodes
        .iter()
        .map(|node| (node.name_any(), NodeFacts::of(node)))
        .collect())
}

/// The inner error is why they are not said.
async fn services(context: &Arc<Context>) -> Read<Result<Vec<IpNet>, String>> {
    let client = context.client().map_err(|error| Status::skip(error.to_string()))?;
    let served = is_served::<ServiceCIDR>(client).await;
    if !served.map_err(|error| unread("the kinds of networking.k8s.io", &error))? {
        return Ok(Err(
            "this API server does not know the kind (Kubernetes 1.33 or newer)".to_owned()
        ));
    }
    let ranges: Vec<ServiceCIDR> = context.list_global().await?;
    Ok(Ok(ranges.iter().flat_map(of_services).collect()))
}

/// Those of the cluster's network: a pod on the network of its node has the node's.
fn addresses(pods: &[Object<PodSpec, PodStatus>]) -> Vec<(&str, IpAddr)> {
    let own = pods.iter().filter(|pod| !pod.spec.host_network);
    let of_node = own.filter_map(|pod| Some((pod.spec.node_name.as_str(), pod.status.as_ref()?)));
    let live = of_node.filter(|(_, status)| !matches!(status.phase.as_str(), "Succeeded" | "Failed"));
    let addresses = live.flat_map(|(node, status)| status.pod_ips.iter().map(move |address| (node, address)));
    addresses
        .filter_map(|(node, address)| Some((node, address.ip.parse().ok()?)))
        .collect()
}

/// What is read of a Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    host_network: bool,
    node_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodAddress>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodAddress {
    ip: String,
}

fn listed(ranges: &[IpNet]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Everything that is spoken of must be within them. That nothing else is there, is known only where all is spoken of.
fn given(given: &[IpNet], statements: &Statements<'_>) -> Status {
    let told = statements.told();
    let is_missing = |range: &&IpNet| !given.iter().any(|given| given.contains(*range));
    let missing = IpNet::aggregate(&told.iter().filter(is_missing).copied().collect());
    if !missing.is_empty() {
        let all: Vec<String> = given
            .iter()
            .chain(&missing)
            .map(|range| format!("\"{range}\""))
            .collect();
        return Status::fail(
            format!("clusterCIDRs lack {}", listed(&missing)),
            listed(given),
            "the ranges of pods, Services, nodes and the API server",
            Fix::values(format!("clusterCIDRs: [{}]\n", all.join(", "))),
        );
    }
    if let Some((_, address)) = statements.pods.iter().find(|(_, address)| !holds(given, *address)) {
        return Status::fail(
            format!("clusterCIDRs lack the range that the pod with the address {address} has its own from"),
            listed(given),
            "the ranges of all pods",
            Fix::words(
                "add the ranges from which the network plugin gives addresses to pods, as it is configured, to clusterCIDRs",
            ),
        );
    }
    match statements.found() {
        Ok(_) => Status::pass(format!(
            "clusterCIDRs hold all {} ranges and addresses of the cluster",
            told.len()
        )),
        Err(why) => Status::skip(format!(
            "all {} ranges and addresses that the cluster tells of are in clusterCIDRs, but it does not tell all ({why}): compare clusterCIDRs with how the network plugin and the API server are configured",
            told.len()
        )),
    }
}

fn findable(statements: &Statements<'_>) -> Status {
    match statements.found() {
        Ok(found) => Status::pass(format!("{} ranges and addresses are found", found.all().len())),
        Err(why) => Status::fail(
            "clusterCIDRs is empty, and the operator can't find the cluster's ranges: workspaces get no external egress",
            why,
            "podCIDRs of every Node, a ServiceCIDR, and the API server's EndpointSlice",
            Fix::words(
                "set clusterCIDRs to the ranges of pods, Services and nodes, such as [10.244.0.0/16, 10.96.0.0/12, 192.168.7.0/24]",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ranges(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| net(text)).collect()
    }

    const ALL: &[&str] = &["10.244.0.0/16", "10.96.0.0/16", "192.168.7.0/24"];

    #[test]
    fn what_the_cluster_does_not_tell_is_not_called_known() {
        let node = NodeFacts {
            pods: ranges(&["10.244.0.0/24"]),
            addresses: vec!["192.168.7.11".parse().unwrap()],
            hides_pods: false,
        };
        let silent = NodeFacts {
            pods: vec![],
            hides_pods: true,
            ..node.clone()
        };
        let elsewhere: IpAddr = "10.50.3.4".parse().unwrap();
        let statements = |node| Statements {
            nodes: Ok(vec![("a", node)]),
            services: Ok(ranges(&["10.96.0.0/16"])),
            api_server: Ok(vec!["192.168.7.2".parse().unwrap()]),
            departed: vec![],
            pods: vec![],
        };
        let kind = |status: &Status| match status {
            Status::Pass { .. } => "passes",
            Status::Fail(_) => "fails",
            Status::Skip { .. } => "is skipped",
        };
        let of = |statements: Statements<'_>, within: &[&str]| {
            (kind(&given(&ranges(within), &statements)), kind(&findable(&statements)))
        };
        assert_eq!(of(statements(&node), ALL), ("passes", "passes"));
        assert_eq!(
            of(statements(&node), &ALL[..2]),
            ("fails", "passes"),
            "the nodes' own addresses"
        );
        assert_eq!(
            of(statements(&silent), ALL),
            ("is skipped", "fails"),
            "pods of this node may have any address"
        );
        let no_services = Statements {
            services: Err("unknown"),
            ..statements(&node)
        };
        assert_eq!(of(no_services, ALL), ("is skipped", "fails"));
        let no_server = Statements {
            api_server: Ok(vec![]),
            ..statements(&node)
        };
        assert_eq!(of(no_server, ALL), ("is skipped", "fails"));
        let foreign = || Statements {
            pods: vec![("a", elsewhere)],
            ..statements(&node)
        };
        assert_eq!(of(foreign(), ALL), ("fails", "fails"), "a pod from elsewhere");
        assert_eq!(
            of(foreign(), &[ALL, &["10.50.0.0/16"]].concat()),
            ("is skipped", "fails")
        );
    }
}

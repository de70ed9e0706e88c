//! What is known of the cluster's DNS becomes the claims that workspaces can resolve names.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use crate::api::egress::Dns;
use crate::connectivity::resolver;
use crate::units::cidr;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub const PODS: Check = Claim::error("DP0801", "the cluster's DNS pods are where the policies let workspaces")
    .needs(&["DP0101", "DP0201"])
    .why("Workspaces may ask these pods alone for names; elsewhere nothing resolves, neither model servers nor mirrors.")
    .docs(
        "Pods with the labels `workspace.dns.podLabels` (`k8s-app=kube-dns` unless set) must be ready in the namespace `workspace.dns.namespace`, and \
         their containers must listen on `workspace.dns.port`, where they name their ports. Where there are none, the usual places are looked at.",
    )
    .check(|context| Box::pin(async move { judged(pods(&context).await) }));

pub const DOMAIN: Check = Claim::error("DP0802", "the cluster's domain is the configured one")
    .needs(&["DP0101", "DP0201"])
    .why("The gateway reaches terminals by names of this domain, unless `gateway.workspaceAddress` is `podIP`.")
    .docs(
        "The zone of the plug-in `kubernetes` in CoreDNS's configuration (ConfigMap `coredns`, or `dns-default` on OpenShift) is compared with \
         `clusterDomain`. In a pod, the search list of `/etc/resolv.conf` is taken instead.",
    )
    .check(|context| Box::pin(async move { judged(domain(&context).await) }));

pub const NODE_LOCAL: Check = Claim::warning("DP0804", "NodeLocal DNSCache is known where there is one")
    .needs(&["DP0101", "DP0201"])
    .why("Pods then ask an address of their node, which the policies of workspaces let through only when it is set.")
    .docs(
        "Pods of `k8s-app=node-local-dns` in `kube-system` are looked for, and the addresses in their arguments are compared with `workspace.dns.nodeLocal`. In a pod, so is \
         the name server of `/etc/resolv.conf` where it is a link-local address, whoever serves there; it is told in any case.",
    )
    .check(|context| Box::pin(async move { judged(node_local(&context).await) }));

/// Where common distributions have their DNS pods.
const USUAL: &[(&str, &str, u16)] = &[
    ("kube-system", "k8s-app=kube-dns", 53),
    ("kube-system", "k8s-app=coredns", 53),
    ("kube-system", "app.kubernetes.io/name=coredns", 53),
    ("openshift-dns", "dns.operator.openshift.io/daemonset-dns=default", 5353),
];

fn dns(context: &Context) -> Read<&Dns> {
    let operator = context.installation.operator();
    let operator = operator.ok_or_else(|| Status::skip("the operator's settings are not given"))?;
    Ok(&operator.workspace.common.dns)
}

fn selector(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Ports that containers name for DNS; none is no contradiction.
fn ports(pod: &Pod) -> Vec<i32> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|port| {
            port.protocol.as_deref() == Some("UDP") || port.name.as_deref().is_some_and(|name| name.starts_with("dns"))
        })
        .map(|port| port.container_port)
        .collect()
}

async fn pods(context: &Arc<Context>) -> Read<Status> {
    let dns = dns(context)?;
    let wanted = selector(&dns.pod_labels);
    let port = dns.port.get();
    let place = format!("{wanted} in {}, port {port}", dns.namespace);
    let found: Vec<Pod> = context.list(&dns.namespace, &wanted).await?;
    let listening: Vec<&Pod> = found
        .iter()
        .filter(|pod| ports(pod).is_empty() || ports(pod).contains(&i32::from(port)))
        .collect();
    let ready = listening.iter().filter(|pod| is_ready(pod)).count();
    if ready > 0 {
        return Ok(Status::pass(format!("{ready} ready: {place}")));
    }
    if !listening.is_empty() {
        return Ok(Status::fail(
            "no DNS pod is ready",
            format!("{} pods, none ready", listening.len()),
            place,
            Fix::words(format!(
                "see why: kubectl describe pods -n {} -l {wanted}",
                dns.namespace
            )),
        ));
    }
    let elsewhere = elsewhere(context, found.first()).await;
    let told = elsewhere.as_ref().map_or_else(
        || "none there, nor in the usual places".to_owned(),
        |one| one.told.clone(),
    );
    let fix = elsewhere.map_or_else(
        || Fix::words("set workspace.dns.namespace, workspace.dns.podLabels and workspace.dns.port to where your cluster's DNS pods are"),
        |one| one.fix(dns),
    );
    Ok(Status::fail(
        "there are no DNS pods where workspaces may ask",
        told,
        place,
        fix,
    ))
}

/// DNS pods in another place.
struct Elsewhere {
    namespace: String,
    labels: BTreeMap<String, String>,
    port: i32,
    told: String,
}

impl Elsewhere {
    fn of(pod: &Pod, labels: &str, usual: u16) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let port = ports(pod).first().copied().unwrap_or_else(|| i32::from(usual));
        let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
        Self {
            told: format!("{labels} in {namespace}, port {port}"),
            namespace,
            labels: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            port,
        }
    }

    fn fix(&self, dns: &Dns) -> Fix {
        let mut text = format!(
            "workspace:\n  dns:\n    namespace: {}\n    port: {}\n    podLabels:\n",
            self.namespace, self.port
        );
        for (key, value) in &self.labels {
            text.push_str(&format!("      {key}: \"{value}\"\n"));
        }
        // Helm merges mappings: what was there before goes only when it is told to.
        for key in dns.pod_labels.keys().filter(|key| !self.labels.contains_key(*key)) {
            text.push_str(&format!("      {key}: null\n"));
        }
        Fix::values(text)
    }
}

async fn elsewhere(context: &Arc<Context>, with_other_port: Option<&Pod>) -> Option<Elsewhere> {
    if let Some(pod) = with_other_port {
        let labels = selector(&dns(context).ok()?.pod_labels);
        return Some(Elsewhere::of(pod, &labels, 53));
    }
    for (namespace, labels, port) in USUAL {
        let found: Vec<Pod> = context.list(namespace, labels).await.unwrap_or_default();
        if let Some(pod) = found.first() {
            return Some(Elsewhere::of(pod, labels, *port));
        }
    }
    // In any namespace, by the label that CoreDNS has nearly everywhere.
    let (_, labels, port) = USUAL[0];
    let found: Vec<Pod> = context.list("", labels).await.unwrap_or_default();
    found.first().map(|pod| Elsewhere::of(pod, labels, port))
}

async fn domain(context: &Arc<Context>) -> Read<Status> {
    let operator = context.installation.operator();
    let operator = operator.ok_or_else(|| Status::skip("the operator's settings are not given"))?;
    let wanted = &operator.workspace.common.cluster_domain;
    let found = match resolver_of_pod().as_deref().and_then(resolver::cluster_domain) {
        Some(domain) => Some(domain),
        None => corefile_domain(context).await?,
    };
    let Some(found) = found else {
        return Ok(Status::skip("CoreDNS's configuration is not where it usually is"));
    };
    if found == *wanted {
        return Ok(Status::pass(found));
    }
    Ok(Status::fail(
        format!("the cluster's domain is {found}, and clusterDomain says {wanted}"),
        found.clone(),
        wanted.clone(),
        Fix::values(format!("clusterDomain: {found}\n")),
    ))
}

/// What this program's own resolver is told, in a pod of the cluster.
fn resolver_of_pod() -> Option<String> {
    let text = std::fs::read_to_string(resolver::RESOLV_CONF).ok()?;
    resolver::cluster_domain(&text).is_some().then_some(text)
}

async fn corefile_domain(context: &Arc<Context>) -> Read<Option<String>> {
    for (namespace, name) in [
        ("kube-system", "coredns"),
        ("openshift-dns", "dns-default"),
        ("kube-system", "rke2-coredns-rke2-coredns"),
    ] {
        let map: Option<ConfigMap> = context.find(namespace, name).await?;
        let corefile = map.and_then(|map| map.data?.remove("Corefile"));
        if let Some(domain) = corefile.as_deref().and_then(zone) {
            return Ok(Some(domain));
        }
    }
    Ok(None)
}

/// The first zone of the plug-in `kubernetes` that is no reverse one.
fn zone(corefile: &str) -> Option<String> {
    let mut plugins = corefile
        .lines()
        .map(str::trim)
        .filter_map(|line| line.strip_prefix("kubernetes "));
    plugins.find_map(|zones| {
        let mut zones = zones.split_whitespace().map(|zone| zone.trim_end_matches('.'));
        let is_zone = |zone: &&str| *zone != "{" && !zone.ends_with(".arpa");
        zones.find(is_zone).map(str::to_owned)
    })
}

async fn node_local(context: &Arc<Context>) -> Read<Status> {
    let dns = dns(context)?;
    let pods: Read<Vec<Pod>> = context.list("kube-system", "k8s-app=node-local-dns").await;
    let asked = resolver_of_pod().as_deref().and_then(resolver::name_server);
    let pods = match pods {
        // Who is asked says enough by itself.
        Err(_) if asked.is_some_and(is_link_local) => vec![],
        pods => pods?,
    };
    Ok(known_caches(&dns.node_local, pods.first().map(local_addresses), asked))
}

/// `of_pods` is what the pods of a cache say that they listen on, where there are such pods; `asked` where a pod asks for names.
fn known_caches(known: &[IpAddr], of_pods: Option<Vec<String>>, asked: Option<IpAddr>) -> Status {
    let told = |what: String| match asked {
        Some(asked) => format!("{what}; pods ask {asked}"),
        None => what,
    };
    let of_node = asked
        .filter(|asked| is_link_local(*asked))
        .map(|asked| asked.to_string());
    if of_pods.is_none() && of_node.is_none() {
        return Status::pass(told("there is none".to_owned()));
    }
    let mut addresses = of_pods.unwrap_or_default();
    addresses.extend(of_node.filter(|asked| !addresses.contains(asked)));
    let is_known = |address: &String| known.iter().any(|known| known.to_string() == *address);
    if !addresses.is_empty() && addresses.iter().all(is_known) {
        return Status::pass(told(addresses.join(", ")));
    }
    let fix = if asked.is_some_and(cidr::is_metadata) {
        Fix::words(
            "pods ask the cloud's metadata address for names, which workspaces may never reach: give the cluster a DNS of its own, or NodeLocal DNSCache",
        )
    } else if addresses.is_empty() {
        Fix::words("set workspace.dns.nodeLocal to the addresses that node-local-dns listens on")
    } else {
        Fix::values(format!(
            "workspace:\n  dns:\n    nodeLocal: [{}]\n",
            addresses.join(", ")
        ))
    };
    let known: Vec<_> = known.iter().map(ToString::to_string).collect();
    Status::fail(
        "names are resolved by a cache on each node (NodeLocal DNSCache), and workspaces may not ask it",
        told(format!("workspace.dns.nodeLocal [{}]", known.join(", "))),
        format!("[{}]", addresses.join(", ")),
        fix,
    )
}

/// No Service has such an address (RFC 3927, RFC 4291): it is the pod's own node that answers there.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Those of `-localip 169.254.20.10,10.96.0.10`: where the cache has taken over the address of the DNS Service, pods go on asking that.
fn local_addresses(pod: &Pod) -> Vec<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let arguments: Vec<&String> = containers
        .flat_map(|container| {
            container
                .command
                .iter()
                .flatten()
                .chain(container.args.iter().flatten())
        })
        .collect();
    let place = arguments
        .iter()
        .position(|argument| argument.trim_start_matches('-') == "localip");
    let listed = place
        .and_then(|place| arguments.get(place + 1))
        .map_or("", |text| text.as_str());
    listed
        .split(',')
        .map(str::trim)
        .filter(|address| address.parse::<IpAddr>().is_ok())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_the_kubernetes_plugins() {
        let corefile = ".:53 {\n    errors\n    kubernetes corp.internal in-addr.arpa ip6.arpa {\n       pods insecure\n    }\n}\n";
        assert_eq!(zone(corefile).as_deref(), Some("corp.internal"));
        assert_eq!(zone("kubernetes {\n}"), None);
    }

    #[test]
    fn a_cache_on_the_node_is_known_by_its_pods_or_by_who_is_asked() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let (service, node) = (at("10.96.0.10"), at("169.254.20.10"));
        let pods = || Some(vec![node.to_string()]);
        assert_eq!(
            known_caches(&[], None, Some(service)),
            Status::pass("there is none; pods ask 10.96.0.10")
        );
        assert_eq!(known_caches(&[], None, None), Status::pass("there is none"));
        for (of_pods, asked) in [
            (pods(), None),
            (None, Some(node)),
            (pods(), Some(service)),
            (pods(), Some(node)),
        ] {
            let Status::Fail(failure) = known_caches(&[], of_pods.clone(), asked) else {
                panic!("{of_pods:?} {asked:?}")
            };
            assert_eq!(failure.expected, "[169.254.20.10]");
            assert!(matches!(known_caches(&[node], of_pods, asked), Status::Pass { .. }));
        }
        // One that does not say where it listens.
        assert!(matches!(known_caches(&[], Some(vec![]), None), Status::Fail(_)));
    }
}

//! What the gateway's NetworkPolicy lets out becomes the claim that the identity provider is among it.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::outside::provider::{Provider, Seen};
use super::super::values::Values;
use super::admitted::namespace_of;
use super::outcome;
use crate::oidc::survey::Discovered;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::Url;

const RESOLVED_WITHIN: Duration = Duration::from_secs(5);

pub const ADMITTED: Check = Claim::error(
    "DP0613",
    "the gateway's NetworkPolicy lets it reach the identity provider",
)
.why("The provider may answer where the doctor runs, and yet gateways never get ready.")
.needs(&["DP0101"])
// To see the provider, and to resolve three names.
.patience(40)
.docs(
    "The policy that the chart makes of these values for the gateway's pods (`networkPolicy`), against the addresses that the hosts of issuer, token endpoint and key set \
     have where the doctor runs, and their ports: every address has to be let out to, but those of a family that `clusterCIDRs` has nothing of. It is judged, and not tried: a pod that it \
     selects would have the gateway's label, and with it be one of its Service's. Other policies of that namespace are not looked at. Skipped is what may be a pod, of which policies see \
     the labels and its own ports: Services of the cluster and their load balancers (where Services may be listed), addresses of `clusterCIDRs`, and, where a rule selects pods, whatever no rule \
     names. So are names that are this machine.",
)
.check(|context| Box::pin(admitted(context)));

async fn admitted(context: Arc<Context>) -> Status {
    let Some(values) = &context.installation.values else {
        return Status::skip("the gateway's policy is known from --values only");
    };
    if !values.is_true("networkPolicy.enabled") {
        return Status::pass("the chart makes no policy for the gateway (networkPolicy.enabled)");
    }
    let provider = match context.provider().await {
        Seen::Unknown { why } => return Status::skip(why.as_str()),
        Seen::Provider(provider) => provider,
    };
    let rules = match rules(values) {
        Ok(rules) => rules,
        Err(error) => return Status::skip(format!("networkPolicy is not as Kubernetes has it: {error}")),
    };
    let operator = context.installation.operator();
    let services: Option<Vec<Service>> = context.list("", "").await.ok();
    let policed = Policed {
        rules,
        cluster: operator.map_or_else(Vec::new, |operator| operator.cluster_cidrs.clone()),
        services: services.map(|services| services.iter().flat_map(outer_addresses).collect()),
    };
    let (mut statuses, mut closed) = (Vec::new(), Vec::new());
    for (host, port) in endpoints(provider) {
        match policed.judge(&host, port).await {
            Verdict::Told(status) => statuses.push(status),
            Verdict::Closed(addresses) => {
                closed.extend(addresses.into_iter().map(|address| (host.clone(), address, port)));
            }
        }
    }
    if closed.is_empty() {
        return outcome::all(statuses, "the issuer names no host");
    }
    refused(values, &closed)
}

fn refused(values: &Values, closed: &[(String, IpAddr, u16)]) -> Status {
    let told = |(host, address, port): &(String, IpAddr, u16)| format!("{host} ({address}), port {port}");
    let told = closed.iter().map(told).collect::<Vec<_>>().join("; ");
    let (mut ports, mut to) = (ports(values), values.get("networkPolicy.oidc.to").clone());
    let found = format!("networkPolicy.oidc: ports {ports:?}, to {to}");
    for (_, address, port) in closed {
        if !ports.contains(&i32::from(*port)) {
            ports.push(i32::from(*port));
        }
        if let Some(peers) = to.as_array_mut().filter(|peers| !peers.is_empty()) {
            let own = json!({"cidr": IpNet::from(*address).to_string()});
            if !peers.contains(&own) {
                peers.push(own);
            }
        }
    }
    Status::fail(
        format!("the gateway's NetworkPolicy does not let it reach {told}"),
        found,
        told,
        Fix::values(format!(
            "networkPolicy:\n  oidc:\n    ports: {}\n    to: {to}\n",
            json!(ports)
        )),
    )
}

/// What the gateway asks: hosts and ports of the issuer, and of what it names.
fn endpoints(provider: &Provider) -> BTreeSet<(String, u16)> {
    let mut urls = vec![provider.settings.issuer.as_str()];
    if let Some(Ok(Discovered { document, .. })) = &provider.discovered
        && document.issuer == provider.settings.issuer
    {
        urls.extend(document.token_endpoint.as_deref());
        urls.extend(document.jwks_uri.as_deref());
    }
    let parsed = urls.into_iter().filter_map(|url| Url::parse(url).ok());
    parsed
        .filter_map(|url| {
            let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
            Some((host, url.port_or_known_default()?))
        })
        .collect()
}

/// The rules by which the gateway's pods get to addresses outside the cluster, as the chart has them (`templates/network-policies.yaml`).
fn rules(values: &Values) -> serde_json::Result<Vec<NetworkPolicyEgressRule>> {
    let rule = |ports: &[i32], peers: Vec<Value>| {
        let ports = ports.iter().map(|port| json!({"protocol": "TCP", "port": port}));
        let mut rule = json!({"ports": ports.collect::<Vec<_>>()});
        if !peers.is_empty() {
            rule["to"] = json!(peers);
        }
        rule
    };
    let list = |path: &str| values.get(path).as_array().cloned().unwrap_or_default();
    let cidrs = list("networkPolicy.apiServer.cidrs").into_iter();
    let api_server = cidrs.map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect();
    let provider = list("networkPolicy.oidc.to").iter().map(peer).collect();
    let mut rules = vec![rule(&numbers(values, "networkPolicy.apiServer.ports"), api_server)];
    rules.extend(list("networkPolicy.extraEgress"));
    rules.push(rule(&ports(values), provider));
    serde_json::from_value(Value::from(rules))
}

fn peer(entry: &Value) -> Value {
    if let Some(cidr) = entry["cidr"].as_str().filter(|cidr| !cidr.is_empty()) {
        return json!({"ipBlock": {"cidr": cidr}});
    }
    let labels = match entry["namespaceLabels"].as_object() {
        Some(labels) if !labels.is_empty() => json!(labels),
        _ => json!({"kubernetes.io/metadata.name": entry["namespace"]}),
    };
    let mut peer = json!({"namespaceSelector": {"matchLabels": labels}});
    if entry["podLabels"].as_object().is_some_and(|labels| !labels.is_empty()) {
        peer["podSelector"] = json!({"matchLabels": entry["podLabels"]});
    }
    peer
}

/// Those of the provider: without any, that of the issuer, which the chart does not know when it is in a Secret.
fn ports(values: &Values) -> Vec<i32> {
    let given = numbers(values, "networkPolicy.oidc.ports");
    if !given.is_empty() {
        return given;
    }
    let is_known = values.text("gateway.oidc.existingSecret").is_empty();
    let issuer = Url::parse(&values.text("gateway.oidc.issuerURL"))
        .ok()
        .filter(|_| is_known);
    let port = issuer.and_then(|issuer| issuer.port_or_known_default());
    vec![i32::from(port.unwrap_or(443))]
}

fn numbers(values: &Values, path: &str) -> Vec<i32> {
    values.texts(path).iter().filter_map(|text| text.parse().ok()).collect()
}

struct Policed {
    rules: Vec<NetworkPolicyEgressRule>,
    /// The cluster's own ranges; empty when they are not known.
    cluster: Vec<IpNet>,
    /// Addresses of any range that nodes lead to pods; `None` when they are not known.
    services: Option<BTreeSet<IpAddr>>,
}

/// Of load balancers, and external ones (Kubernetes, "Service": kube-proxy leads them to the pods without leaving the node).
fn outer_addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let spec = service.spec.iter();
    let external = spec.flat_map(|spec| spec.external_ips.iter().flatten());
    let status = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let balancers = status.flat_map(|balancer| balancer.ingress.iter().flatten());
    let balancers = balancers.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let addresses = external.chain(balancers.filter_map(|ingress| ingress.ip.as_ref()));
    addresses.filter_map(|address| address.parse().ok())
}

enum Verdict {
    Told(Status),
    /// Nothing lets it out to these addresses of the host.
    Closed(Vec<IpAddr>),
}

impl Policed {
    async fn judge(&self, host: &str, port: u16) -> Verdict {
        if namespace_of(host).is_some() {
            let why = format!("{host} is a Service, of which policies see the pods and their ports");
            return Verdict::Told(Status::skip(why));
        }
        let found = match timeout(RESOLVED_WITHIN, lookup_host((host, port))).await {
            Ok(Ok(found)) => found.map(|found| found.ip()).collect(),
            Ok(Err(_)) | Err(_) => return Verdict::Told(Status::skip(format!("{host} does not resolve here"))),
        };
        self.verdict(host, found, port)
    }

    fn verdict(&self, host: &str, found: BTreeSet<IpAddr>, port: u16) -> Verdict {
        let skip = |why: String| Verdict::Told(Status::skip(why));
        if found.iter().any(IpAddr::is_loopback) {
            return skip(format!("{host} is this machine here"));
        }
        if found.iter().any(|address| self.is_inside(*address)) {
            return skip(format!(
                "{host} is in the cluster, of which policies see the pods and their ports"
            ));
        }
        if let Some(address) = found.iter().find(|address| self.is_of_service(**address)) {
            return skip(format!(
                "{address} ({host}) is a load balancer of this cluster, and policies see the pods behind it and their ports"
            ));
        }
        let asked: BTreeSet<IpAddr> = found.into_iter().filter(|address| self.has_family(*address)).collect();
        if asked.is_empty() {
            return skip(format!("{host} has no address here that pods could ask"));
        }
        let (admitted, refused): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .partition(|address| self.rules.iter().any(|rule| admits(rule, *address, port)));
        if refused.is_empty() {
            let told: Vec<_> = admitted.iter().map(IpAddr::to_string).collect();
            let unless = if self.services.is_some() {
                ""
            } else {
                ", unless that is a load balancer of this cluster: its Services may not be listed"
            };
            return Verdict::Told(Status::pass(format!(
                "{host} at {}, port {port}{unless}",
                told.join(", ")
            )));
        }
        if self.rules.iter().any(selects_pods) {
            return skip(format!(
                "no rule names {} ({host}), and one selects pods, to which that address may lead",
                refused[0]
            ));
        }
        Verdict::Closed(refused)
    }

    fn is_of_service(&self, address: IpAddr) -> bool {
        self.services
            .as_ref()
            .is_some_and(|of_services| of_services.contains(&address))
    }

    fn is_inside(&self, address: IpAddr) -> bool {
        self.cluster.iter().any(|range| range.contains(&address))
    }

    /// Whether pods have addresses of this family, as far as is known.
    fn has_family(&self, address: IpAddr) -> bool {
        self.cluster.is_empty()
            || self
                .cluster
                .iter()
                .any(|range| range.addr().is_ipv4() == address.is_ipv4())
    }
}

/// Whether a rule lets TCP out to an address and port, whoever is there.
fn admits(rule: &NetworkPolicyEgressRule, address: IpAddr, port: u16) -> bool {
    let (ports, to) = (
        rule.ports.as_deref().unwrap_or_default(),
        rule.to.as_deref().unwrap_or_default(),
    );
    (ports.is_empty() || ports.iter().any(|allowed| has(allowed, port.into())))
        && (to.is_empty() || to.iter().any(|peer| contains(peer, address)))
}

/// Its ports are those of the pods, whatever the port of what leads to them.
fn selects_pods(rule: &NetworkPolicyEgressRule) -> bool {
    rule.to.iter().flatten().any(|peer| peer.ip_block.is_none())
}

/// A port by name is a container's, which what is outside has none of.
fn has(allowed: &NetworkPolicyPort, port: i32) -> bool {
    let is_tcp = allowed.protocol.as_deref().unwrap_or("TCP") == "TCP";
    is_tcp
        && match (&allowed.port, allowed.end_port) {
            (None, _) => true,
            (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&port),
            (Some(IntOrString::Int(only)), None) => *only == port,
            (Some(IntOrString::String(_)), _) => false,
        }
}

fn contains(peer: &NetworkPolicyPeer, address: IpAddr) -> bool {
    let within = |range: &String| range.parse::<IpNet>().is_ok_and(|range| range.contains(&address));
    peer.ip_block
        .as_ref()
        .is_some_and(|block| within(&block.cidr) && !block.except.iter().flatten().any(within))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::api::networking::v1::NetworkPolicy;

    #[test]
    fn the_rules_are_those_of_the_chart() {
        macro_rules! set {
            ($name:literal) => {
                (
                    include_str!(concat!("../../../tests/chart/values/", $name, ".yaml")),
                    include_str!(concat!("../../../tests/chart/golden/", $name, ".yaml")),
                )
            };
        }
        for (given, rendered) in [
            set!("minimal"),
            set!("full"),
            set!("air-gapped"),
            set!("existing-secret"),
            set!("openshift"),
        ] {
            let of_gateway = |part: &&str| {
                part.contains("\nkind: NetworkPolicy\n") && part.contains("\n  name: workspace-gateway\n")
            };
            let part = rendered.split("\n---\n").find(of_gateway).unwrap();
            let policy: NetworkPolicy = serde_saphyr::from_str(part).unwrap();
            let all = policy.spec.unwrap().egress.unwrap();
            let values = Values::try_from(given).unwrap();
            let ours = rules(&values).unwrap();
            assert!(ours.iter().all(|rule| all.contains(rule)), "{ours:#?} {all:#?}");
            let names = 1 + usize::from(!values.texts("workspace.dns.nodeLocal").is_empty());
            let terminals = 1;
            assert_eq!(all.len(), ours.len() + names + terminals, "{all:#?}");
        }
    }

    fn policed(given: &str) -> Policed {
        Policed {
            rules: rules(&Values::try_from(given).unwrap()).unwrap(),
            cluster: vec!["10.96.0.0/12".parse().unwrap()],
            services: Some(outer_addresses(&balancer("VIP")).collect()),
        }
    }

    fn balancer(mode: &str) -> Service {
        let ingress = json!({"ip": "203.0.113.9", "ipMode": mode});
        let service = json!({
            "spec": {"externalIPs": ["203.0.113.10"]},
            "status": {"loadBalancer": {"ingress": [ingress, {"hostname": "lb.example.test"}]}},
        });
        serde_json::from_value(service).unwrap()
    }

    #[tokio::test]
    async fn what_no_rule_lets_out_is_told_with_the_values_that_do() {
        let judged = async |given: &str, host: &str, port| match policed(given).judge(host, port).await {
            Verdict::Told(status) => status,
            Verdict::Closed(addresses) => {
                let closed: Vec<_> = addresses
                    .into_iter()
                    .map(|address| (host.to_owned(), address, port))
                    .collect();
                refused(&Values::try_from(given).unwrap(), &closed)
            }
        };
        let is_open = async |given: &str, host, port| matches!(judged(given, host, port).await, Status::Pass { .. });
        let issuer = "gateway: {oidc: {issuerURL: 'https://192.0.2.7:8443/realms/a'}}";
        assert!(is_open(issuer, "192.0.2.7", 8443).await);
        // As the API server's rule has it, to which everything may be one.
        assert!(is_open(issuer, "192.0.2.7", 443).await);
        let narrow = "networkPolicy: {apiServer: {cidrs: [192.0.2.1/32]}, oidc: {to: [{cidr: 203.0.113.0/24}, {cidr: 198.51.100.0/24}]}}";
        assert!(is_open(narrow, "198.51.100.9", 443).await);
        let extra = "networkPolicy: {extraEgress: [{ports: [{port: 8000, endPort: 8100}], to: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/32]}}]}]}";
        assert!(is_open(extra, "192.0.2.7", 8050).await);
        for (given, host, port, ports, to) in [
            (
                "gateway: {oidc: {existingSecret: client}}",
                "192.0.2.7",
                8443,
                "[443,8443]",
                "[]",
            ),
            (
                narrow,
                "192.0.2.7",
                443,
                "[443]",
                r#"[{"cidr":"203.0.113.0/24"},{"cidr":"198.51.100.0/24"},{"cidr":"192.0.2.7/32"}]"#,
            ),
            (extra, "192.0.2.8", 8050, "[443,8050]", "[]"),
            (extra, "192.0.2.7", 8101, "[443,8101]", "[]"),
        ] {
            let Status::Fail(failure) = judged(given, host, port).await else {
                panic!("{given} lets out to {host}")
            };
            let snippet = format!("networkPolicy:\n  oidc:\n    ports: {ports}\n    to: {to}\n");
            assert_eq!(failure.fix, Fix::values(snippet.as_str()));
            let texts = [("given".to_owned(), given.to_owned()), ("fix".to_owned(), snippet)];
            let mended = rules(&Values::of(&texts).unwrap()).unwrap();
            let address = host.parse().unwrap();
            assert!(mended.iter().any(|rule| admits(rule, address, port)));
        }
        for unknown in ["idp.keycloak.svc", "10.96.0.9", "localhost"] {
            assert!(
                matches!(judged(issuer, unknown, 8443).await, Status::Skip { .. }),
                "{unknown}"
            );
        }
    }

    #[test]
    fn every_address_has_to_be_let_out_to_and_what_may_lead_to_pods_is_not_known() {
        let by_address = "networkPolicy: {apiServer: {cidrs: [192.0.2.1/32]}, oidc: {to: [{cidr: 198.51.100.0/24}]}}";
        let by_pods = "networkPolicy: {apiServer: {cidrs: [192.0.2.1/32]}, oidc: {ports: [8443], to: [{namespace: keycloak}, {cidr: 198.51.100.7/32}]}}";
        let extra = "networkPolicy: {apiServer: {cidrs: [192.0.2.1/32]}, oidc: {to: [{cidr: 198.51.100.7/32}]}, extraEgress: [{to: [{podSelector: {}}]}]}";
        for (given, addresses, port, expected) in [
            (by_address, &["198.51.100.7", "198.51.100.8"][..], 443, "passes"),
            (by_address, &["198.51.100.7", "192.0.2.7"], 443, "fails for 192.0.2.7"),
            (
                by_address,
                &["192.0.2.7", "192.0.2.8"],
                443,
                "fails for 192.0.2.7 192.0.2.8",
            ),
            // Pods of that cluster have no such addresses to ask from.
            (by_address, &["198.51.100.7", "2001:db8::7"], 443, "passes"),
            (by_address, &["2001:db8::7"], 443, "is skipped"),
            (by_address, &["198.51.100.7", "10.96.0.9"], 443, "is skipped"),
            (by_address, &[], 443, "is skipped"),
            // Of a Service, whatever rules say of its address.
            ("", &["203.0.113.8"], 443, "passes"),
            ("", &["203.0.113.9"], 443, "is skipped"),
            (by_address, &["203.0.113.10"], 443, "is skipped"),
            // A load balancer's port is another one than its pods'.
            (by_pods, &["192.0.2.7"], 443, "is skipped"),
            (by_pods, &["198.51.100.7"], 8443, "passes"),
            (by_pods, &["198.51.100.7", "192.0.2.7"], 8443, "is skipped"),
            (extra, &["192.0.2.7"], 443, "is skipped"),
            (extra, &["198.51.100.7"], 443, "passes"),
        ] {
            let found = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let told = match policed(given).verdict("idp.example.test", found, port) {
                Verdict::Told(Status::Pass { .. }) => "passes".to_owned(),
                Verdict::Told(Status::Skip { .. }) => "is skipped".to_owned(),
                Verdict::Told(Status::Fail(failure)) => failure.problem,
                Verdict::Closed(closed) => {
                    let closed: Vec<_> = closed.iter().map(IpAddr::to_string).collect();
                    format!("fails for {}", closed.join(" "))
                }
            };
            assert_eq!(told, expected, "{given} {addresses:?}");
        }
    }

    #[test]
    fn a_balancer_that_sends_packets_back_in_is_outside() {
        let addresses = |mode| outer_addresses(&balancer(mode)).collect::<Vec<_>>();
        let external: IpAddr = "203.0.113.10".parse().unwrap();
        assert_eq!(addresses("VIP"), [external, "203.0.113.9".parse().unwrap()]);
        assert_eq!(addresses("Proxy"), [external]);
    }
}

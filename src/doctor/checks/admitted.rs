//! What the policies of workspaces let out becomes the claim that language models and mirrors are among it.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::outcome;
use crate::api::egress::{EgressNamespace, PolicyBackend};
use crate::config::operator::WorkspaceDefaults;
use crate::policy::{self, Egress};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use tokio::net::lookup_host;
use url::Url;

pub const ADMITTED: Check = Claim::error(
    "DP1005",
    "the policies of workspaces let them reach language models and mirrors",
)
.why("They may answer where the doctor runs, and yet no workspace gets to them.")
.needs(&["DP0101"])
.docs(
    "The policies that a workspace of no class gets, against the namespace of a Service's name, or else against the addresses that a name has \
     where the doctor runs, and its port. Nothing is sent (DP1006 does). What depends on more is skipped: a part of a namespace, a proxy \
     (`workspace.pod.proxy`), `workspace.ceilings`, addresses while `clusterCIDRs` is empty, and names that are this machine.",
)
.check(|context| Box::pin(admitted(context)));

/// Something that workspaces are set to use.
pub struct Used {
    what: String,
    url: Url,
}

async fn admitted(context: Arc<Context>) -> Status {
    let Some(operator) = context.installation.operator() else {
        return Status::skip("there are no settings of an operator");
    };
    let common = &operator.workspace.common;
    if let Some(why) = depends_on_more(common) {
        return Status::skip(why);
    }
    let policed = Policed {
        egress: egress(common, &operator.cluster_cidrs),
        names_count: common.policy_backend == PolicyBackend::Cilium,
        namespaces: namespaces(&context, &common.egress_namespaces),
    };
    let mut statuses = vec![];
    for used in used(&context, common) {
        statuses.push(policed.judge(&used).await);
    }
    outcome::all(statuses, "workspaces are set to use nothing")
}

/// Why [`egress`] alone does not say what a workspace reaches, where it does not.
pub fn depends_on_more(common: &WorkspaceDefaults) -> Option<&'static str> {
    if common.pod.proxy.is_some() {
        return Some("workspaces go through a proxy (workspace.pod.proxy)");
    }
    (common.egress_ceilings != Default::default()).then_some("workspace.ceilings narrow what workspaces may reach")
}

/// Of a workspace whose spec asks for nothing, where there are no ceilings.
pub fn egress(common: &WorkspaceDefaults, cluster_cidrs: &[IpNet]) -> Egress {
    Egress {
        dns: common.dns.clone(),
        namespaces: common.egress_namespaces.clone(),
        ports: common.egress_ports.clone(),
        cidrs: common.egress_cidrs.clone(),
        fqdns: common.egress_fqdns.clone(),
        cluster_cidrs: cluster_cidrs.into(),
    }
}

/// As they are written in the values, for a snippet that keeps them.
fn namespaces(context: &Context, settled: &[EgressNamespace]) -> Vec<Value> {
    let values = context.installation.values.as_ref();
    let written = values.and_then(|values| values.get("workspace.ai.egressNamespaces").as_array().cloned());
    written.unwrap_or_else(|| settled.iter().map(|namespace| json!(namespace.name)).collect())
}

pub fn used(context: &Context, common: &WorkspaceDefaults) -> Vec<Used> {
    let providers = context
        .installation
        .gateway()
        .map_or(&[][..], |gateway| &gateway.workspace.providers);
    let models = providers.iter().map(|provider| {
        (
            format!("language model server {}", provider.name),
            provider.endpoint.clone(),
        )
    });
    let mirrors = [
        ("the mirror for pip", &common.pip_index_url),
        ("the mirror for npm", &common.npm_registry),
    ];
    let mirrors = mirrors
        .into_iter()
        .filter_map(|(what, url)| Some((what.to_owned(), url.clone()?)));
    let parsed = models
        .chain(mirrors)
        // One that is no URL is told by those who ask it.
        .filter_map(|(what, url)| {
            Some(Used {
                what,
                url: Url::parse(&url).ok()?,
            })
        });
    parsed.collect()
}

impl Used {
    /// Whether it is a Service of the cluster's.
    pub fn is_inside(&self) -> bool {
        namespace_of(self.url.host_str().unwrap_or_default()).is_some()
    }
}

struct Policed {
    egress: Egress,
    /// Whether the backend knows names.
    names_count: bool,
    /// In the values.
    namespaces: Vec<Value>,
}

impl Policed {
    async fn judge(&self, used: &Used) -> Status {
        let host = used.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = used.url.port_or_known_default().and_then(NonZeroU16::new);
        let Some(port) = port else {
            return Status::skip(format!("{} has no port", used.what));
        };
        if let Some(namespace) = namespace_of(host) {
            return self.judge_inside(used, namespace);
        }
        let is_named = host
            .parse()
            .is_ok_and(|name| self.egress.fqdns.iter().any(|allowed| allowed.covers(&name)));
        if self.names_count && is_named && self.egress.ports.contains(&port) {
            return Status::pass(format!("{}: by the name {host}", used.what));
        }
        let addresses: Vec<IpAddr> = match lookup_host((host, port.get())).await {
            Ok(addresses) => addresses.map(|address| address.ip()).collect(),
            Err(_) => return Status::skip(format!("{host} does not resolve here")),
        };
        self.judge_outside(used, &addresses, port)
    }

    fn judge_inside(&self, used: &Used, namespace: &str) -> Status {
        let what = &used.what;
        let mut parts = self
            .egress
            .namespaces
            .iter()
            .filter(|allowed| allowed.name == namespace);
        match parts.next() {
            Some(EgressNamespace {
                ports: None,
                pod_labels,
                ..
            }) if pod_labels.is_empty() => Status::pass(format!("{what}: all of namespace {namespace}")),
            Some(_) => Status::skip(format!(
                "{what} is in namespace {namespace}, of which a part may be reached"
            )),
            None => {
                let found: Vec<_> = self
                    .egress
                    .namespaces
                    .iter()
                    .map(|allowed| allowed.name.as_str())
                    .collect();
                let mut wanted = self.namespaces.clone();
                wanted.push(json!(namespace));
                Status::fail(
                    format!(
                        "{what} is in namespace {namespace}, which the policies of workspaces do not let them reach"
                    ),
                    format!("egressNamespaces: {}", found.join(", ")),
                    namespace,
                    Fix::values(format!(
                        "workspace:\n  ai:\n    egressNamespaces: {}\n",
                        Value::from(wanted)
                    )),
                )
            }
        }
    }

    fn judge_outside(&self, used: &Used, addresses: &[IpAddr], port: NonZeroU16) -> Status {
        let what = &used.what;
        let Some(first) = addresses.first() else {
            return Status::skip(format!("the name of {what} has no address here"));
        };
        if addresses.iter().any(IpAddr::is_loopback) {
            return Status::skip(format!("the name of {what} is this machine here"));
        }
        let Egress {
            ports,
            cidrs,
            cluster_cidrs,
            ..
        } = &self.egress;
        if cluster_cidrs.is_empty() {
            return Status::skip(
                "clusterCIDRs is empty, and what is outside the cluster is not known from the settings",
            );
        }
        if let Some(address) = addresses
            .iter()
            .find(|address| policy::lets_out(&self.egress, **address, port))
        {
            return Status::pass(format!("{what}: {address}, port {port}"));
        }
        let told = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let problem = format!("the policies of workspaces do not let them reach {what} at {told}, port {port}");
        let found = format!("egressCIDRs: {}; egressPorts: {}", listed(cidrs), listed(ports));
        let mut widened = self.egress.clone();
        let mut lines = String::new();
        if !cidrs.iter().any(|range| range.contains(first)) {
            widened.cidrs.push(IpNet::from(*first));
            let all: Vec<_> = widened.cidrs.iter().map(ToString::to_string).collect();
            lines.push_str(&format!("    egressCIDRs: {}\n", json!(all)));
        }
        if !ports.contains(&port) {
            widened.ports.push(port);
            lines.push_str(&format!("    egressPorts: [{}]\n", listed(&widened.ports)));
        }
        let fix = if policy::lets_out(&widened, *first, port) {
            Fix::values(format!("workspace:\n  ai:\n{lines}"))
        } else {
            Fix::words(
                "the address is the cluster's own, or one that is never let out: name the Service in the address (NAME.NAMESPACE.svc), and its namespace \
                 in workspace.ai.egressNamespaces",
            )
        };
        Status::fail(problem, found, format!("{told}, port {port}"), fix)
    }
}

/// Of a Service's name as pods resolve it: `NAME.NAMESPACE.svc`, with the cluster's domain or without.
pub fn namespace_of(host: &str) -> Option<&str> {
    let mut labels = host.split('.').skip(1);
    let namespace = labels.next()?;
    (labels.next()? == "svc").then_some(namespace)
}

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::egress::Dns;

    fn policed() -> Policed {
        Policed {
            egress: Egress {
                dns: Dns::default(),
                namespaces: vec![EgressNamespace::whole("ai-system")],
                ports: vec![NonZeroU16::new(443).unwrap()],
                cidrs: vec!["10.20.0.0/16".parse().unwrap()],
                fqdns: vec![],
                cluster_cidrs: Arc::new(["10.96.0.0/12".parse().unwrap()]),
            },
            names_count: false,
            namespaces: vec![json!("ai-system")],
        }
    }

    async fn judged(url: &str) -> Status {
        let used = Used {
            what: "it".to_owned(),
            url: url.parse().unwrap(),
        };
        policed().judge(&used).await
    }

    #[tokio::test]
    async fn what_policies_drop_is_told_with_the_values_that_let_it_through() {
        let fix = async |url: &str| match judged(url).await {
            Status::Fail(failure) => failure.fix,
            other => panic!("{url}: {other:?}"),
        };
        let values = |lines: &str| Fix::values(format!("workspace:\n  ai:\n{lines}"));
        assert_eq!(
            fix("http://vllm.models.svc.cluster.local:8000").await,
            values("    egressNamespaces: [\"ai-system\",\"models\"]\n")
        );
        assert_eq!(
            fix("http://10.20.1.2:8000").await,
            values("    egressPorts: [443, 8000]\n")
        );
        assert_eq!(
            fix("https://192.0.2.7").await,
            values("    egressCIDRs: [\"10.20.0.0/16\",\"192.0.2.7/32\"]\n")
        );
        for never in ["https://10.96.0.1", "https://169.254.169.254"] {
            assert!(matches!(fix(never).await, Fix::Words(_)), "{never}");
        }
        for fine in ["http://vllm.ai-system.svc:8000", "https://10.20.1.2/v1"] {
            assert!(matches!(judged(fine).await, Status::Pass { .. }), "{fine}");
        }
        assert!(matches!(judged("https://localhost").await, Status::Skip { .. }));
    }
}

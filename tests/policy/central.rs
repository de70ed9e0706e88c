//! A platform team's settings, as the chart gives them to the operator, and what a user asks for become every object of that user's Workspace: by the
//! operator's own reading, checking and rendering.

use crate::evaluator::{End, Pod, Traffic};
use crate::site::{any_egress, any_namespaces, any_ports, any_ranges};
use devplane::api::Workspace;
use devplane::api::egress::{EgressNamespace, PolicyBackend};
use devplane::config::OperatorConfig;
use devplane::config::operator::{SETTINGS, WorkspaceSettings};
use devplane::config::source::Source;
use devplane::operator::validate::validate;
use devplane::policy::{Egress, never};
use devplane::render::{Desired, desired};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroU16;

/// What the operator makes of a Workspace that asks for `ai_config`, where the cluster's own ranges are these.
pub fn rendered(user: &str, settings: &WorkspaceSettings, class: &str, asked: &Value, cluster: &[IpNet]) -> Desired {
    let mut ai_config = asked.clone();
    ai_config["providers"] = json!([{"name": "local", "endpoint": "http://llm.ai-system.svc:8000", "models": ["m"]}]);
    let workspace: Workspace = serde_json::from_value(json!({
        "apiVersion": "workspace.devplane.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": user, "namespace": crate::site::WORKSPACES, "uid": format!("uid-of-{user}"), "generation": 1},
        "spec": {
            "user": {"id": user, "email": format!("{user}@example.test")},
            "resources": {"cpu": "1", "memory": "1Gi", "storage": "1Gi"},
            "className": class, "aiConfig": ai_config,
        },
    }))
    .unwrap();
    let mut valid = validate(&workspace, settings).unwrap();
    valid.egress.cluster_cidrs = cluster.into();
    desired(&valid, None)
}

/// The operator's settings out of its environment.
pub fn configured(environment: &[(&str, String)]) -> OperatorConfig {
    let source = Source::load(None, SETTINGS, |name| match name {
        "WORKSPACE_IMAGE" => Some("registry.test/devplane-workspace:1".to_owned()),
        _ => environment
            .iter()
            .find_map(|(known, value)| (*known == name).then(|| value.clone())),
    })
    .unwrap();
    OperatorConfig::read(&source).unwrap()
}

/// Some of what may be reached; `None` says nothing of it.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub namespaces: Option<Vec<EgressNamespace>>,
    pub ports: Option<Vec<NonZeroU16>>,
    pub cidrs: Option<Vec<IpNet>>,
}

impl Part {
    /// As the values of the chart have it.
    fn words(&self) -> Value {
        let Self {
            namespaces,
            ports,
            cidrs,
        } = self;
        let mut words = Map::new();
        if let Some(namespaces) = namespaces {
            words.insert("egressNamespaces".to_owned(), entries(namespaces));
        }
        if let Some(ports) = ports {
            words.insert("egressPorts".to_owned(), json!(ports));
        }
        if let Some(cidrs) = cidrs {
            words.insert("egressCIDRs".to_owned(), json!(cidrs));
        }
        Value::Object(words)
    }

    /// With what `common` says where this says nothing.
    fn over(&self, common: &Self) -> Self {
        Self {
            namespaces: self.namespaces.clone().or_else(|| common.namespaces.clone()),
            ports: self.ports.clone().or_else(|| common.ports.clone()),
            cidrs: self.cidrs.clone().or_else(|| common.cidrs.clone()),
        }
    }
}

/// A comma at its end: a lone one is none, where nothing at all would be the default.
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("{item},")).collect::<String>() + ","
}

fn entries(namespaces: &[EgressNamespace]) -> Value {
    let entry = |namespace: &EgressNamespace| {
        let EgressNamespace {
            name,
            ports,
            pod_labels,
        } = namespace;
        match ports {
            None if pod_labels.is_empty() => json!(name),
            None => json!({"name": name, "podLabels": pod_labels}),
            Some(ports) => json!({"name": name, "ports": ports, "podLabels": pod_labels}),
        }
    };
    namespaces.iter().map(entry).collect()
}

/// All that decides what one workspace reaches.
#[derive(Clone, Debug)]
pub struct Central {
    /// For all, with the cluster that it is for.
    pub common: Egress,
    pub ceilings: Part,
    /// Of the workspace's class, when it has one.
    pub class: Option<(Part, Part)>,
    /// By the spec. Of namespaces it says names alone; an empty list of them or of ports asks for what all have.
    pub asked: Part,
}

const CLASS: &str = "some";

impl Central {
    /// What dev1 has, who is in the class and asks, and dev2, who is not and asks for nothing.
    pub fn workspaces(&self, backend: PolicyBackend) -> [Desired; 2] {
        let Egress {
            dns,
            namespaces,
            ports,
            cidrs,
            fqdns,
            cluster_cidrs,
        } = &self.common;
        let labels = dns.pod_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let (backend, fqdns) = match backend {
            PolicyBackend::Kubernetes => ("kubernetes", &[][..]),
            PolicyBackend::Cilium => ("cilium", fqdns.as_slice()),
        };
        let classes: Vec<Value> = self
            .class
            .iter()
            .map(|(class, ceilings)| {
                let mut words = class.words();
                words["name"] = json!(CLASS);
                words["ceilings"] = ceilings.words();
                words
            })
            .collect();
        let config = configured(&[
            ("NETWORK_POLICY_BACKEND", backend.to_owned()),
            ("LLM_NAMESPACES", entries(namespaces).to_string()),
            ("EGRESS_PORTS", list(ports)),
            ("EGRESS_CIDRS", list(cidrs)),
            ("EGRESS_FQDNS", list(fqdns)),
            ("CLUSTER_CIDRS", list(cluster_cidrs.iter())),
            ("DNS_NAMESPACE", dns.namespace.clone()),
            ("DNS_POD_LABELS", list(labels)),
            ("DNS_PORT", dns.port.to_string()),
            ("DNS_NODE_LOCAL", list(&dns.node_local)),
            ("WORKSPACE_CEILINGS", self.ceilings.words().to_string()),
            ("WORKSPACE_CLASSES", json!(classes).to_string()),
        ]);
        let class = self.class.as_ref().map_or("", |_| CLASS);
        let mut asked = self.asked.words();
        if let Some(namespaces) = &self.asked.namespaces {
            asked["egressNamespaces"] = namespaces.iter().map(|namespace| json!(namespace.name)).collect();
        }
        let of = |user, class, asked| rendered(user, &config.workspace, class, asked, &config.cluster_cidrs);
        [of("dev1", class, &asked), of("dev2", "", &json!({}))]
    }

    /// Theirs where NetworkPolicies say everything.
    pub fn policies(&self) -> Vec<NetworkPolicy> {
        self.workspaces(PolicyBackend::Kubernetes)
            .map(|workspace| workspace.policies)
            .concat()
    }

    /// The ports outside that dev1 reaches.
    pub fn ports(&self) -> Vec<NonZeroU16> {
        let (settings, most) = self.in_effect();
        let asked = self.asked.ports.clone().filter(|ports| !ports.is_empty());
        let mut ports = asked.or(settings.ports).unwrap_or_default();
        ports.retain(|port| most.ports.as_ref().is_none_or(|most| most.contains(port)));
        ports
    }

    /// What dev1 has by the settings, before ceilings, and the ceilings.
    fn in_effect(&self) -> (Part, Part) {
        let common = Part {
            namespaces: Some(self.common.namespaces.clone()),
            ports: Some(self.common.ports.clone()),
            cidrs: Some(self.common.cidrs.clone()),
        };
        let (class, ceilings) = self.class.clone().unwrap_or_default();
        (class.over(&common), ceilings.over(&self.ceilings))
    }

    /// Whether dev1 is to reach it: both by what is set or asked for, and by every ceiling.
    pub fn lets(&self, to: &End, port: u16, protocol: &str) -> bool {
        let (settings, most) = self.in_effect();
        let pod = to.internal.as_ref();
        self.lets_out(&settings, &most, to.ip, port, protocol)
            || self.resolves(to, port, protocol)
            || pod.is_some_and(|pod| self.lets_in(&settings, &most, pod, port, protocol))
    }

    fn lets_out(&self, settings: &Part, most: &Part, address: IpAddr, port: u16, protocol: &str) -> bool {
        let cluster = &self.common.cluster_cidrs;
        let is_closed = || {
            never()
                .chain(cluster.iter().copied())
                .any(|range| range.contains(&address))
        };
        let has_address = |ranges: &Option<Vec<IpNet>>| ranges.iter().flatten().any(|range| range.contains(&address));
        protocol == "TCP"
            && !cluster.is_empty()
            && !is_closed()
            && (self.asked.cidrs.is_none() || has_address(&self.asked.cidrs))
            // Without a ceiling what is set is the ceiling; with one, what is set is what those have who ask for nothing.
            && (self.asked.cidrs.is_some() && most.cidrs.is_some() || has_address(&settings.cidrs))
            && (most.cidrs.is_none() || has_address(&most.cidrs))
            && self.ports().iter().any(|listed| listed.get() == port)
    }

    fn resolves(&self, to: &End, port: u16, protocol: &str) -> bool {
        let dns = &self.common.dns;
        let pod = to.internal.as_ref();
        let is_dns = pod.is_some_and(|pod| pod.namespace == dns.namespace && has(&dns.pod_labels, pod));
        let by_name = protocol == "TCP" || protocol == "UDP";
        by_name && (is_dns && port == dns.port.get() || dns.node_local.contains(&to.ip) && port == 53)
    }

    fn lets_in(&self, settings: &Part, most: &Part, pod: &Pod, port: u16, protocol: &str) -> bool {
        let has_pod = |parts: &Option<Vec<EgressNamespace>>| {
            parts.iter().flatten().any(|part| {
                let is_port = |ports: &_| protocol == "TCP" && contains(ports, port);
                part.name == pod.namespace && has(&part.pod_labels, pod) && part.ports.as_ref().is_none_or(is_port)
            })
        };
        let names =
            |parts: &Option<Vec<EgressNamespace>>| parts.iter().flatten().any(|part| part.name == pod.namespace);
        let asked = self
            .asked
            .namespaces
            .as_ref()
            .filter(|asked| !asked.is_empty())
            .is_some();
        let wanted = match asked {
            false => has_pod(&settings.namespaces),
            // Of what is set in parts nobody gets the whole by naming it.
            true if most.namespaces.is_none() && names(&settings.namespaces) => {
                names(&self.asked.namespaces) && has_pod(&settings.namespaces)
            }
            true => names(&self.asked.namespaces),
        };
        wanted && (most.namespaces.is_none() || has_pod(&most.namespaces))
    }
}

fn contains(ports: &std::collections::BTreeSet<NonZeroU16>, port: u16) -> bool {
    ports.iter().any(|listed| listed.get() == port)
}

fn has(labels: &crate::evaluator::Labels, pod: &Pod) -> bool {
    labels.iter().all(|(key, value)| pod.pod_labels.get(key) == Some(value))
}

prop_compose! {
    fn any_part()(
        namespaces in option::of(any_namespaces()),
        ports in option::of(any_ports()),
        cidrs in option::of(any_ranges()),
    ) -> Part {
        Part { namespaces, ports, cidrs }
    }
}

prop_compose! {
    pub fn any_central()(
        common in any_egress(),
        ceilings in any_part(),
        class in option::of((any_part(), any_part())),
        asked in any_part(),
    ) -> Central {
        Central { common, ceilings, class, asked }
    }
}

/// What anybody might send, on ports and to places that the settings speak of, and others.
pub fn any_traffic(central: &Central) -> impl Strategy<Value = Traffic> + use<> {
    let parts = [&central.ceilings, &central.asked];
    let parts = parts
        .into_iter()
        .chain(central.class.iter().flat_map(|(class, ceilings)| [class, ceilings]));
    let mut spoken_of = central.common.clone();
    for Part {
        namespaces,
        ports,
        cidrs,
    } in parts
    {
        spoken_of.namespaces.extend(namespaces.iter().flatten().cloned());
        spoken_of.ports.extend(ports.iter().flatten());
        spoken_of.cidrs.extend(cidrs.iter().flatten());
    }
    crate::site::any_traffic(&spoken_of)
}

//! What the chart's Roles give operator, gateway and doctor, and what it takes to install the chart: lists of rights.
//!
//! `install` says what Helm needs, `manifest` writes rights as Roles. The lists are the chart's: tests compare them with what is rendered.

pub mod install;
pub mod manifest;

use super::access::Right;
use super::installation::{Installation, Role};
use super::values::Values;
use crate::api::egress::PolicyBackend;
use crate::cluster::session_keys;
use std::collections::BTreeSet;

const WORKSPACES: &str = "workspace.devplane.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";

/// What a role needs besides what it always does.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Terminals are reached by mutual TLS.
    pub terminal_tls: bool,
    /// The cluster's own address ranges are to be found.
    pub finds_ranges: bool,
    /// Policies of workspaces are Cilium's own.
    pub cilium: bool,
}

/// Rights of one resource, or of one object of it.
struct Rights<'a> {
    namespace: &'a str,
    all: Vec<Right>,
}

impl Rights<'_> {
    fn add(&mut self, group: &str, resources: &[&str], verbs: &[&str]) {
        for resource in resources {
            let rights = verbs
                .iter()
                .map(|verb| Right::within(self.namespace, group, resource, verb));
            self.all.extend(rights);
        }
    }

    fn add_named<T: AsRef<str>>(
        &mut self,
        group: &str,
        resource: &str,
        names: impl IntoIterator<Item = T>,
        verbs: &[&str],
    ) {
        for name in names {
            let rights = verbs
                .iter()
                .map(|verb| Right::within(self.namespace, group, resource, verb).named(name.as_ref()));
            self.all.extend(rights);
        }
    }
}

/// What the chart's Roles give a role. `namespace` is its own, `workspaces` that of the Workspaces.
pub fn of_role(role: Role, namespace: &str, workspaces: &str, extent: Extent) -> Vec<Right> {
    let mut there = Rights {
        namespace: workspaces,
        all: Vec::new(),
    };
    let mut own = Rights {
        namespace,
        all: Vec::new(),
    };
    match role {
        Role::Operator => operator(&mut there, &mut own, extent),
        Role::Gateway => gateway(&mut there, &mut own, extent),
    }
    there.all.append(&mut own.all);
    there.all
}

fn operator(there: &mut Rights<'_>, own: &mut Rights<'_>, extent: Extent) {
    const KEEP: &[&str] = &["create", "get", "list", "patch", "watch"];
    there.add(WORKSPACES, &["workspaces"], &["get", "list", "patch", "watch"]);
    there.add(WORKSPACES, &["workspaces/status"], &["patch"]);
    let workspaces = there.namespace;
    there.add_named("", "namespaces", [workspaces], &["get", "watch"]);
    there.add("", &["pods"], &["create", "delete", "get", "list", "watch"]);
    there.add("", &["persistentvolumeclaims", "serviceaccounts", "services"], KEEP);
    there.add("", &["configmaps"], &["list", "watch"]);
    there.add(RBAC, &["rolebindings", "roles"], KEEP);
    there.add(NETWORKING, &["networkpolicies"], KEEP);
    there.add("events.k8s.io", &["events"], &["create", "patch"]);
    own.add(COORDINATION, &["leases"], &["create"]);
    own.add_named(COORDINATION, "leases", ["workspace-operator"], &["get", "update"]);
    own.add("", &["pods"], &["list", "watch"]);
    if extent.terminal_tls {
        const KEPT: &[&str] = &["workspace-terminal-authorities", "workspace-gateway-terminal-tls"];
        there.add("", &["secrets"], &["create", "get", "patch"]);
        own.add("", &["secrets"], &["create"]);
        own.add_named("", "secrets", KEPT, &["get", "list", "update", "watch"]);
    }
    if extent.cilium {
        there.add("cilium.io", &["ciliumnetworkpolicies"], KEEP);
    }
    if extent.finds_ranges {
        for verb in ["list", "watch"] {
            own.all.push(Right::anywhere("", "nodes", verb));
            own.all.push(Right::anywhere(NETWORKING, "servicecidrs", verb));
            let slices = Right::within("default", "discovery.k8s.io", "endpointslices", verb);
            own.all.push(slices.named("kubernetes"));
        }
    }
}

fn gateway(there: &mut Rights<'_>, own: &mut Rights<'_>, extent: Extent) {
    there.add(
        WORKSPACES,
        &["workspaces"],
        &["create", "get", "list", "patch", "watch"],
    );
    there.add(WORKSPACES, &["workspaces/status"], &["patch"]);
    own.add("", &["secrets"], &["create"]);
    own.add_named("", "secrets", [session_keys::NAME], &["get"]);
    if extent.terminal_tls {
        own.add_named("", "secrets", ["workspace-gateway-terminal-tls"], &["list", "watch"]);
    }
}

/// What the Roles of the chart's doctor give it: to read what it checks, while it runs. `namespace` is its own.
pub fn of_doctor(values: &Values, namespace: &str) -> Vec<Right> {
    const READ: &[&str] = &["get", "list"];
    let workspaces = values.text("gateway.workspaceNamespace");
    let mut own = Rights {
        namespace,
        all: Vec::new(),
    };
    let read: &[&str] = &[
        "configmaps",
        "namespaces",
        "persistentvolumeclaims",
        "pods",
        "serviceaccounts",
        "services",
    ];
    own.add("", read, READ);
    let (ours, theirs) = read_secrets(values);
    own.add_named("", "secrets", &ours, &["get"]);
    own.add("", &["pods/proxy"], &["get"]);
    own.add("apps", &["deployments"], READ);
    own.add(NETWORKING, &["networkpolicies"], &["list"]);
    own.add(COORDINATION, &["leases"], &["get"]);
    own.add(RBAC, &["rolebindings", "roles"], &["get"]);
    let mut there = Rights {
        namespace: &workspaces,
        all: Vec::new(),
    };
    there.add(WORKSPACES, &["workspaces"], READ);
    let read: &[&str] = &["configmaps", "limitranges", "namespaces", "resourcequotas"];
    there.add("", read, READ);
    there.add_named("", "secrets", &theirs, &["get"]);
    there.add(RBAC, &["rolebindings", "roles"], &["get"]);
    there.add("cilium.io", &["ciliumnetworkpolicies"], &["list"]);
    own.all.append(&mut there.all);
    if values.is_true("doctor.clusterWide") {
        let anywhere: &[(&str, &[&str], &[&str])] = &[
            ("", &["namespaces", "nodes", "pods"], READ),
            ("apps", &["daemonsets"], &["list"]),
            ("apiextensions.k8s.io", &["customresourcedefinitions"], &["get"]),
            ("storage.k8s.io", &["storageclasses"], &["list"]),
            (NETWORKING, &["servicecidrs"], &["list"]),
            ("node.k8s.io", &["runtimeclasses"], &["get"]),
            ("scheduling.k8s.io", &["priorityclasses"], &["get"]),
            ("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
        ];
        for (group, resources, verbs) in anywhere {
            for resource in *resources {
                let rights = verbs.iter().map(|verb| Right::anywhere(group, resource, verb));
                own.all.extend(rights);
            }
        }
        let slices = Right::anywhere("discovery.k8s.io", "endpointslices", "get");
        own.all.push(slices.named("kubernetes"));
    }
    own.all
}

/// The Secrets that the values name, of the release's namespace and of the workspaces'.
fn read_secrets(values: &Values) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut own = BTreeSet::from([session_keys::NAME.to_owned()]);
    let items = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &serde_json::Value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    own.extend(
        items(values.get("imagePullSecrets"))
            .iter()
            .filter_map(|secret| name(&secret["name"])),
    );
    let named = [
        "gateway.oidc.existingSecret",
        "gateway.tls.secretName",
        "gateway.sessionRecording.signingKey.secretName",
    ];
    own.extend(named.iter().filter_map(|key| name(values.get(key))));
    let classes = items(values.get("workspace.classes"));
    let pods = classes.iter().map(|class| &class["pod"]);
    let mut theirs = BTreeSet::new();
    for pod in std::iter::once(values.get("workspace.pod")).chain(pods) {
        theirs.extend(items(&pod["imagePullSecrets"]).iter().filter_map(name));
        theirs.extend(items(&pod["mounts"]).iter().filter_map(|mount| name(&mount["secret"])));
    }
    (own, theirs)
}

/// What the chart's Roles give a role in this installation.
pub fn of_installation(installation: &Installation, role: Role) -> Vec<Right> {
    let operator = installation.operator();
    let gateway = installation.gateway();
    let extent = Extent {
        terminal_tls: match (role, gateway) {
            (Role::Gateway, Some(gateway)) => gateway.edge.terminal_tls,
            _ => operator.is_none_or(|config| config.terminal_tls),
        },
        finds_ranges: operator.is_some_and(|config| config.cluster_cidrs.is_empty()),
        cilium: operator.is_some_and(|config| config.workspace.common.policy_backend == PolicyBackend::Cilium),
    };
    of_role(role, &installation.namespace, &installation.workspaces, extent)
}

/// What the Roles that the chart makes give: nobody may make a Role with more than they have themselves (Kubernetes, "Privilege
/// escalation prevention and bootstrapping"), unless by [`unbounded`].
pub fn given(installation: &Installation, values: &Values) -> BTreeSet<Right> {
    let mut all: BTreeSet<_> = of_installation(installation, Role::Operator).into_iter().collect();
    if values.is_true("gateway.enabled") {
        all.extend(of_installation(installation, Role::Gateway));
    }
    if install::has_doctor(values) {
        all.extend(of_doctor(values, &installation.namespace));
    }
    all
}

/// The rights to make Roles and bindings of a namespace, or of none, with more than one has.
pub fn unbounded(namespace: Option<&str>) -> [Right; 2] {
    let resource = if namespace.is_some() { "roles" } else { "clusterroles" };
    ["bind", "escalate"].map(|verb| Right {
        namespace: namespace.map(str::to_owned),
        ..Right::anywhere(RBAC, resource, verb)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::path::Path;

    pub(super) fn chart(path: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart").join(path)).unwrap()
    }

    pub(super) fn rendered(set: &str) -> Vec<Value> {
        let golden = chart(&format!("golden/{set}.yaml"));
        let documents = golden
            .split("\n---\n")
            .map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
        documents.filter(Value::is_object).collect()
    }

    fn texts(value: &Value) -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    }

    /// What the Roles of a service account give.
    fn given(objects: &[Value], account: &str) -> BTreeSet<String> {
        let mut rights = BTreeSet::new();
        for binding in objects.iter().filter(|object| object["subjects"][0]["name"] == account) {
            let role = objects.iter().find(|object| {
                object["kind"] == binding["roleRef"]["kind"]
                    && object["metadata"]["name"] == binding["roleRef"]["name"]
                    && object["metadata"]["namespace"] == binding["metadata"]["namespace"]
            });
            for rule in role.unwrap()["rules"].as_array().unwrap() {
                let names = match texts(&rule["resourceNames"]) {
                    names if names.is_empty() => vec![None],
                    names => names.into_iter().map(Some).collect(),
                };
                for group in texts(&rule["apiGroups"]) {
                    for resource in texts(&rule["resources"]) {
                        for verb in texts(&rule["verbs"]) {
                            for name in &names {
                                let mut right = Right::anywhere(&group, &resource, &verb);
                                right.namespace = binding["metadata"]["namespace"].as_str().map(str::to_owned);
                                right.name.clone_from(name);
                                rights.insert(right.to_string());
                            }
                        }
                    }
                }
            }
        }
        rights
    }

    #[test]
    fn rights_are_those_of_the_charts_roles() {
        for (set, workspaces, finds_ranges) in [("minimal", "workspaces", true), ("full", "terminals", false)] {
            let objects = rendered(set);
            for (role, account) in [
                (Role::Operator, "workspace-operator"),
                (Role::Gateway, "workspace-gateway"),
            ] {
                let extent = Extent {
                    terminal_tls: true,
                    finds_ranges,
                    cilium: set == "full",
                };
                let ours = of_role(role, "workspace-operator-system", workspaces, extent);
                let ours: BTreeSet<_> = ours.iter().map(ToString::to_string).collect();
                assert_eq!(ours, given(&objects, account), "{account} of {set}");
            }
        }
    }

    #[test]
    fn rights_of_the_doctor_are_those_of_its_roles() {
        for set in ["minimal", "full", "operator-only", "high-availability", "air-gapped"] {
            let values = Values::try_from(chart(&format!("values/{set}.yaml")).as_str()).unwrap();
            let ours = of_doctor(&values, "workspace-operator-system");
            let ours: BTreeSet<_> = ours.iter().map(ToString::to_string).collect();
            assert_eq!(ours, given(&rendered(set), "workspace-doctor"), "{set}");
        }
    }
}

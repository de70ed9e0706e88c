//! What the chart's Roles give operator and gateway, and what it takes to install the chart: lists of rights.

use super::access::Right;
use super::installation::Role;
use super::values::Values;

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

    fn add_named(&mut self, group: &str, resource: &str, names: &[&str], verbs: &[&str]) {
        for name in names {
            let rights = verbs
                .iter()
                .map(|verb| Right::within(self.namespace, group, resource, verb).named(name));
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
    there.add(WORKSPACES, &["workspaces"], &["list", "patch", "watch"]);
    there.add(WORKSPACES, &["workspaces/status"], &["patch"]);
    there.add("", &["pods"], &["create", "delete", "get", "list", "watch"]);
    there.add("", &["persistentvolumeclaims", "serviceaccounts", "services"], KEEP);
    there.add("", &["configmaps"], &["list", "watch"]);
    there.add(RBAC, &["rolebindings", "roles"], KEEP);
    there.add(NETWORKING, &["networkpolicies"], KEEP);
    there.add("events.k8s.io", &["events"], &["create", "patch"]);
    own.add(COORDINATION, &["leases"], &["create"]);
    own.add_named(COORDINATION, "leases", &["workspace-operator"], &["get", "update"]);
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
    own.add_named("", "secrets", &["workspace-gateway-session-keys"], &["get"]);
    if extent.terminal_tls {
        own.add_named("", "secrets", &["workspace-gateway-terminal-tls"], &["list", "watch"]);
    }
}

/// What it takes to install the chart with these values: to make and change each kind of object that it has, and to keep Helm's own record.
pub fn to_install(values: &Values, namespace: &str) -> Vec<Right> {
    const VERBS: &[&str] = &["create", "get", "patch"];
    let workspaces = values.text("gateway.workspaceNamespace");
    let mut own = Rights {
        namespace,
        all: Vec::new(),
    };
    let mut there = Rights {
        namespace: &workspaces,
        all: Vec::new(),
    };
    own.add("", &["secrets"], &["list", "delete"]);
    own.add("", &["secrets", "serviceaccounts", "services"], VERBS);
    own.add("apps", &["deployments"], VERBS);
    own.add(RBAC, &["roles", "rolebindings"], VERBS);
    there.add(RBAC, &["roles", "rolebindings"], VERBS);
    let is = |key: &str| values.is_true(key);
    let is_set = |key: &str| !matches!(values.text(key).as_str(), "");
    if is("canary.enabled") {
        there.add("", &["serviceaccounts"], VERBS);
        there.add("apps", &["deployments"], VERBS);
    }
    if is("networkPolicy.enabled") {
        own.add(NETWORKING, &["networkpolicies"], VERBS);
    }
    own.add("policy", &["poddisruptionbudgets"], VERBS);
    if is("gateway.ingress.enabled") {
        own.add(NETWORKING, &["ingresses"], VERBS);
    }
    if is("gateway.httpRoute.enabled") {
        own.add("gateway.networking.k8s.io", &["httproutes"], VERBS);
    }
    if is("gateway.route.enabled") {
        own.add("route.openshift.io", &["routes"], VERBS);
    }
    if super::values::settings::are_recorded(values) && !is_set("gateway.sessionRecording.volume.existingClaim") {
        own.add("", &["persistentvolumeclaims"], VERBS);
    }
    if is("monitoring.serviceMonitor.enabled") {
        own.add("monitoring.coreos.com", &["servicemonitors"], VERBS);
    }
    if is("monitoring.prometheusRule.enabled") {
        own.add("monitoring.coreos.com", &["prometheusrules"], VERBS);
    }
    let has_doctor = is("doctor.test") || is("doctor.hook");
    if is("monitoring.dashboard.enabled") || values.makes_authorities() || has_doctor {
        own.add("", &["configmaps"], VERBS);
    }
    if has_doctor {
        own.add("batch", &["jobs"], VERBS);
    }
    if values.makes_authorities() {
        there.add("", &["configmaps"], VERBS);
    }
    let has = |key: &str| match values.get(key) {
        serde_json::Value::Object(items) => !items.is_empty(),
        serde_json::Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if has("workspace.quota") {
        there.add("", &["resourcequotas"], VERBS);
    }
    if has("workspace.limitRange") {
        there.add("", &["limitranges"], VERBS);
    }
    let mut all = own.all;
    all.append(&mut there.all);
    let mut anywhere = |group: &str, resource: &str| {
        all.extend(VERBS.iter().map(|verb| Right::anywhere(group, resource, verb)));
    };
    anywhere("apiextensions.k8s.io", "customresourcedefinitions");
    if is("gateway.createWorkspaceNamespace") {
        anywhere("", "namespaces");
    }
    if !has("clusterCIDRs") || (has_doctor && is("doctor.clusterWide")) {
        anywhere(RBAC, "clusterroles");
        anywhere(RBAC, "clusterrolebindings");
    }
    if !has("clusterCIDRs") {
        for resource in ["roles", "rolebindings"] {
            all.extend(VERBS.iter().map(|verb| Right::within("default", RBAC, resource, verb)));
        }
    }
    let has_ceilings = ["cpu", "memory", "storage"]
        .iter()
        .any(|name| is_set(&format!("workspace.ceilings.{name}")));
    if has_ceilings || has("workspace.classes") || has("workspace.allowedImages") {
        for resource in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
            all.extend(
                VERBS
                    .iter()
                    .map(|verb| Right::anywhere("admissionregistration.k8s.io", resource, verb)),
            );
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn chart(path: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart").join(path)).unwrap()
    }

    fn rendered(set: &str) -> Vec<Value> {
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
    fn installing_takes_a_right_for_every_object_of_the_chart() {
        for set in [
            "minimal",
            "full",
            "operator-only",
            "private-ca",
            "gateway-api",
            "openshift",
            "high-availability",
        ] {
            let values = Values::try_from(chart(&format!("values/{set}.yaml")).as_str()).unwrap();
            let rights: BTreeSet<_> = to_install(&values, "workspace-operator-system")
                .iter()
                .map(ToString::to_string)
                .collect();
            for object in rendered(set) {
                // Objects of the values' own are for who writes them.
                if object["metadata"]["labels"]["app.kubernetes.io/part-of"] != "devplane" {
                    continue;
                }
                let kind = object["kind"].as_str().unwrap().to_lowercase();
                let resource = match kind.strip_suffix('y') {
                    Some(stem) => format!("{stem}ies"),
                    None if kind.ends_with('s') => format!("{kind}es"),
                    None => format!("{kind}s"),
                };
                let group = object["apiVersion"]
                    .as_str()
                    .unwrap()
                    .split_once('/')
                    .map_or("", |(group, _)| group);
                let mut right = Right::anywhere(group, &resource, "create");
                right.namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
                assert!(rights.contains(&right.to_string()), "{right} of {set}");
            }
        }
    }
}

//! Values become the objects that the chart makes of them, and these the rights that `helm install --wait`, `helm upgrade`, `helm test` and
//! `helm uninstall` need.

use super::super::access::Right;
use super::super::values::Values;
use super::super::values::settings;
use super::{NETWORKING, RBAC};
use serde_json::Value;
use std::collections::BTreeSet;

const ADMISSION: &str = "admissionregistration.k8s.io";
const MONITORING: &str = "monitoring.coreos.com";
const ROUTES: &str = "route.openshift.io";

/// A kind of object that the chart makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    /// `None` for what is in no namespace.
    pub namespace: Option<String>,
    /// The API group; empty for the core one.
    pub group: &'static str,
    pub resource: &'static str,
    pub life: Life,
}

/// What Helm does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// Made, waited for, changed and removed with the release.
    Release,
    /// The same, but it stays when the release goes (`helm.sh/resource-policy: keep`).
    Kept,
    /// A hook: made, waited for, and removed before it is made again.
    Hook,
}

/// Which namespaces there are before Helm begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The release's.
    pub own: Presence,
    /// The workspaces'.
    pub workspaces: Presence,
}

/// Whether a namespace is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Missing,
    /// The caller may not look. They have rights in it alone, if any, so that nothing of theirs makes it.
    Hidden,
    /// The release has made it, and goes on to keep it.
    OfRelease,
    /// Somebody else has made it: the chart leaves it alone.
    OfOthers,
}

impl Life {
    /// What Helm asks the API server for: version 3 gets what it waits for, version 4 lists and watches it (kstatus).
    fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Release => &["create", "delete", "get", "list", "patch", "watch"],
            Self::Kept => &["create", "get", "list", "patch", "watch"],
            Self::Hook => &["create", "delete", "get", "list", "watch"],
        }
    }
}

/// The kinds of objects that the chart makes of these values, each once; but for `extraObjects`, which are the values' own.
pub fn objects(values: &Values, namespace: &str, standing: Standing) -> BTreeSet<Made> {
    let is = |key: &str| values.is_true(key);
    let has = |key: &str| match values.get(key) {
        Value::Object(items) => !items.is_empty(),
        Value::Array(items) => !items.is_empty(),
        value => !matches!(super::super::values::text(value).as_str(), ""),
    };
    let workspaces = values.text("gateway.workspaceNamespace");
    let mut all = BTreeSet::new();
    let mut add = |place: Option<&str>, group, resources: &[&'static str], life| {
        all.extend(resources.iter().map(|resource| Made {
            namespace: place.map(str::to_owned),
            group,
            resource,
            life,
        }));
    };
    let (own, there, anywhere) = (Some(namespace), Some(workspaces.as_str()), None);
    let bindings: &[&str] = &["roles", "rolebindings"];
    add(own, "", &["serviceaccounts", "services"], Life::Release);
    add(own, "apps", &["deployments"], Life::Release);
    add(own, RBAC, bindings, Life::Release);
    add(there, RBAC, bindings, Life::Release);
    add(there, NETWORKING, &["networkpolicies"], Life::Kept);
    if is("gateway.createWorkspaceNamespace") && matches!(standing.workspaces, Presence::Missing | Presence::OfRelease)
    {
        add(anywhere, "", &["namespaces"], Life::Kept);
    }
    if is("canary.enabled") {
        add(there, "", &["serviceaccounts"], Life::Release);
        add(there, "apps", &["deployments"], Life::Release);
    }
    if is("networkPolicy.enabled") {
        add(own, NETWORKING, &["networkpolicies"], Life::Release);
    }
    let is_doubled = |role: &str| {
        values
            .get(&format!("{role}.replicas"))
            .as_u64()
            .is_some_and(|count| count > 1)
    };
    if is_doubled("operator") || (is("gateway.enabled") && is_doubled("gateway")) {
        add(own, "policy", &["poddisruptionbudgets"], Life::Release);
    }
    if is("gateway.enabled") {
        if !has("gateway.oidc.existingSecret") {
            add(own, "", &["secrets"], Life::Release);
        }
        if is("gateway.ingress.enabled") {
            add(own, NETWORKING, &["ingresses"], Life::Release);
        }
        if is("gateway.httpRoute.enabled") {
            add(own, "gateway.networking.k8s.io", &["httproutes"], Life::Release);
        }
        if is("gateway.route.enabled") {
            add(own, ROUTES, &["routes"], Life::Release);
        }
        if settings::are_recorded(values) && !has("gateway.sessionRecording.volume.existingClaim") {
            add(own, "", &["persistentvolumeclaims"], Life::Kept);
        }
    }
    if is("monitoring.serviceMonitor.enabled") {
        add(own, MONITORING, &["servicemonitors"], Life::Release);
    }
    if is("monitoring.prometheusRule.enabled") {
        add(own, MONITORING, &["prometheusrules"], Life::Release);
    }
    if is("monitoring.dashboard.enabled") {
        add(own, "", &["configmaps"], Life::Release);
    }
    if values.makes_authorities() {
        add(there, "", &["configmaps"], Life::Release);
        if is("gateway.enabled") {
            add(own, "", &["configmaps"], Life::Release);
        }
    }
    if has("workspace.quota") {
        add(there, "", &["resourcequotas"], Life::Release);
    }
    if has("workspace.limitRange") {
        add(there, "", &["limitranges"], Life::Release);
    }
    if !has("clusterCIDRs") {
        add(anywhere, RBAC, &["clusterroles", "clusterrolebindings"], Life::Release);
        add(Some("default"), RBAC, bindings, Life::Release);
    }
    let has_ceilings = values.get("workspace.ceilings").as_object().into_iter().flatten();
    let has_ceilings = has_ceilings
        .filter(|(_, amount)| !amount.is_array())
        .any(|(name, _)| has(&format!("workspace.ceilings.{name}")));
    if has_ceilings || has("workspace.classes") || has("workspace.allowedImages") {
        let policies: &[&str] = &["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
        add(anywhere, ADMISSION, policies, Life::Release);
    }
    if has_doctor(values) {
        add(own, "", &["secrets", "serviceaccounts"], Life::Hook);
        add(own, RBAC, bindings, Life::Hook);
        add(there, RBAC, bindings, Life::Hook);
        if is("doctor.clusterWide") {
            add(anywhere, RBAC, &["clusterroles", "clusterrolebindings"], Life::Hook);
        }
        add(own, "batch", &["jobs"], Life::Hook);
    }
    all
}

/// Whether the doctor is in the cluster, too.
pub fn has_doctor(values: &Values) -> bool {
    values.is_true("doctor.test") || values.is_true("doctor.hook")
}

/// What it takes to install, upgrade, test and remove the chart with these values; but for what making Roles takes, which [`given`] has.
///
/// [`given`]: super::given
pub fn to_install(values: &Values, namespace: &str, standing: Standing) -> Vec<Right> {
    let workspaces = values.text("gateway.workspaceNamespace");
    let mut all: BTreeSet<Right> = BTreeSet::new();
    let of = |place: Option<&str>, group: &str, resource: &str, verb: &str| Right {
        namespace: place.map(str::to_owned),
        ..Right::anywhere(group, resource, verb)
    };
    for made in objects(values, namespace, standing) {
        let verbs = made.life.verbs().iter();
        all.extend(verbs.map(|verb| of(made.namespace.as_deref(), made.group, made.resource, verb)));
    }
    let own = Some(namespace);
    let mut add = |place: Option<&str>, group: &str, resources: &[&str], verbs: &[&str]| {
        for resource in resources {
            all.extend(verbs.iter().map(|verb| of(place, group, resource, verb)));
        }
    };
    // Helm's record of each revision.
    add(own, "", &["secrets"], &["create", "delete", "get", "list", "update"]);
    // The definition is made when it is not there. Helm tries it without looking, and asks for the state of what there is.
    add(
        None,
        "apiextensions.k8s.io",
        &["customresourcedefinitions"],
        &["create", "get", "list", "watch"],
    );
    // --wait looks at what a Deployment has made.
    let canary = values.is_true("canary.enabled").then_some(workspaces.as_str());
    for place in [own, canary].into_iter().filter(Option::is_some) {
        add(place, "apps", &["replicasets"], &["list"]);
        add(place, "", &["pods"], &["list"]);
    }
    if has_doctor(values) {
        // Helm shows what the doctor has said.
        add(own, "", &["pods/log"], &["get"]);
    }
    if values.is_true("gateway.enabled") && values.is_true("gateway.route.enabled") {
        // A Route with a host, or with a certificate of a Secret.
        add(own, ROUTES, &["routes/custom-host"], &["create", "update"]);
    }
    // helm install --create-namespace
    if standing.own == Presence::Missing {
        add(None, "", &["namespaces"], &["create"]);
    }
    // The chart asks whose the workspaces' namespace is. A namespace counts as being in itself.
    all.insert(Right::within(&workspaces, "", "namespaces", "get").named(&workspaces));
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{chart, rendered};
    use super::*;

    const ALL: &[&str] = &[
        "minimal",
        "full",
        "operator-only",
        "private-ca",
        "gateway-api",
        "openshift",
        "high-availability",
        "air-gapped",
        "existing-secret",
    ];

    /// The kinds of rendered objects, by the rules of Kubernetes' own plurals.
    fn kinds(objects: &[Value]) -> BTreeSet<(Option<String>, String, String, Life)> {
        // Objects of the values' own are for who writes them.
        let ours = objects
            .iter()
            .filter(|object| object["metadata"]["labels"]["app.kubernetes.io/part-of"] == "devplane");
        let each = ours.map(|object| {
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            let resource = match kind.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None if kind.ends_with('s') => format!("{kind}es"),
                None => format!("{kind}s"),
            };
            let version = object["apiVersion"].as_str().unwrap();
            let group = version.split_once('/').map_or("", |(group, _)| group);
            let annotations = &object["metadata"]["annotations"];
            let life = match () {
                () if annotations["helm.sh/hook"].is_string() => Life::Hook,
                () if annotations["helm.sh/resource-policy"] == "keep" => Life::Kept,
                () => Life::Release,
            };
            let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
            (namespace, group.to_owned(), resource, life)
        });
        each.collect()
    }

    #[test]
    fn kinds_are_those_of_the_rendered_chart() {
        let standing = Standing {
            own: Presence::OfOthers,
            workspaces: Presence::Missing,
        };
        for set in ALL {
            let values = Values::try_from(chart(&format!("values/{set}.yaml")).as_str()).unwrap();
            let ours = objects(&values, "workspace-operator-system", standing);
            let ours: BTreeSet<_> = ours
                .into_iter()
                .map(|made| {
                    (
                        made.namespace,
                        made.group.to_owned(),
                        made.resource.to_owned(),
                        made.life,
                    )
                })
                .collect();
            assert_eq!(ours, kinds(&rendered(set)), "{set}");
        }
    }

    #[test]
    fn namespaces_that_are_there_take_no_rights_outside_them() {
        let values = Values::try_from(chart("values/full.yaml").as_str()).unwrap();
        let clusterwide = |standing| {
            let rights = to_install(&values, "control", standing);
            let outside = rights.into_iter().filter(|right| right.namespace.is_none());
            outside
                .filter(|right| right.resource == "namespaces")
                .map(|right| right.to_string())
                .collect::<Vec<_>>()
        };
        let standing = |own, workspaces| Standing { own, workspaces };
        assert!(clusterwide(standing(Presence::OfOthers, Presence::OfOthers)).is_empty());
        assert_eq!(
            clusterwide(standing(Presence::Missing, Presence::OfOthers)),
            ["create namespaces"]
        );
        assert!(clusterwide(standing(Presence::OfOthers, Presence::Missing)).contains(&"create namespaces".to_owned()));
    }
}

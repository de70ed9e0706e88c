//! Rights become the Roles and bindings that give them, as YAML for `kubectl apply`.

use super::super::access::Right;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const RBAC: &str = "rbac.authorization.k8s.io";

/// A Role and its binding for each namespace of `rights`, and the same for what is in none, for `user`: the name that the API server
/// knows them by. Applied again, they give what `rights` say then.
pub fn roles(rights: &BTreeSet<Right>, user: &str) -> String {
    let name = name(user);
    let mut by_namespace: BTreeMap<Option<&str>, Vec<&Right>> = BTreeMap::new();
    for right in rights {
        by_namespace.entry(right.namespace.as_deref()).or_default().push(right);
    }
    let mut text = String::new();
    for (namespace, rights) in by_namespace {
        let prefix = if namespace.is_some() { "" } else { "Cluster" };
        let metadata = match namespace {
            Some(namespace) => format!("{{name: {name}, namespace: {namespace}}}"),
            None => format!("{{name: {name}}}"),
        };
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "---\napiVersion: {RBAC}/v1\nkind: {prefix}Role\nmetadata: {metadata}\nrules:\n{}---\napiVersion: {RBAC}/v1\nkind: {prefix}RoleBinding\n\
             metadata: {metadata}\nroleRef: {{apiGroup: {RBAC}, kind: {prefix}Role, name: {name}}}\nsubjects:\n- {}\n",
            rules(&rights),
            subject(user),
        );
    }
    text
}

/// No other user's.
fn name(user: &str) -> String {
    let digest = Sha256::digest(user.as_bytes());
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("devplane-installer-{digits}")
}

/// As JSON, which is YAML.
fn subject(user: &str) -> String {
    let account = user.strip_prefix("system:serviceaccount:");
    match account.and_then(|account| account.split_once(':')) {
        Some((namespace, name)) => json!({"kind": "ServiceAccount", "namespace": namespace, "name": name}),
        None => json!({"apiGroup": RBAC, "kind": "User", "name": user}),
    }
    .to_string()
}

/// One rule for all resources of a group that have the same verbs, and the same name.
fn rules(rights: &[&Right]) -> String {
    type Of<'a> = (&'a str, Option<&'a str>);
    let mut verbs: BTreeMap<(Of<'_>, &str), BTreeSet<&str>> = BTreeMap::new();
    for right in rights {
        let of = (right.group.as_str(), right.name.as_deref());
        verbs.entry((of, &right.resource)).or_default().insert(&right.verb);
    }
    let mut resources: BTreeMap<(Of<'_>, BTreeSet<&str>), Vec<&str>> = BTreeMap::new();
    for ((of, resource), verbs) in verbs {
        resources.entry((of, verbs)).or_default().push(resource);
    }
    let mut text = String::new();
    for (((group, name), verbs), resources) in resources {
        let verbs: Vec<_> = verbs.into_iter().collect();
        let names = name.map_or_else(String::new, |name| format!(", resourceNames: [{name}]"));
        let _ = writeln!(
            text,
            "- {{apiGroups: [{group:?}], resources: [{}]{names}, verbs: [{}]}}",
            resources.join(", "),
            verbs.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn rights_are_grouped_to_rules() {
        let rights = BTreeSet::from([
            Right::within("a", "", "pods", "get"),
            Right::within("a", "", "pods", "list"),
            Right::within("a", "", "services", "get"),
            Right::within("a", "", "services", "list"),
            Right::within("a", "", "secrets", "get").named("keys"),
            Right::anywhere("apps", "daemonsets", "list"),
        ]);
        let text = roles(&rights, "system:serviceaccount:ci:deployer");
        let documents: Vec<Value> = text
            .split("---\n")
            .filter(|part| !part.is_empty())
            .map(|part| serde_saphyr::from_str(part).unwrap())
            .collect();
        let kinds: Vec<_> = documents.iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
        assert_eq!(
            documents[2]["rules"],
            json!([
                {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list"]},
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["keys"], "verbs": ["get"]},
            ])
        );
        assert_eq!(
            documents[3]["subjects"][0],
            json!({"kind": "ServiceAccount", "namespace": "ci", "name": "deployer"})
        );
        let text = roles(&rights, "o'brien: \"x\"");
        let binding: Value = serde_saphyr::from_str(text.split("---\n").nth(2).unwrap()).unwrap();
        assert_eq!(binding["subjects"][0]["name"], "o'brien: \"x\"");
    }
}

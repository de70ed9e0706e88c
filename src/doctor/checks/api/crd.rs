//! The installed CustomResourceDefinition becomes the claim that it is what this executable prints.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use crate::api::Workspace;
use crate::causes::with_causes;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, CustomResourceExt};
use std::sync::Arc;

pub const CHECK: Check = CLAIM.check(|context| Box::pin(check(context)));

const CLAIM: Claim = Claim::error(
    "DP0202",
    "the CustomResourceDefinition is installed and is this version's",
)
.needs(&["DP0201"])
.why("Without it there are no Workspaces; an older one drops the fields that this version writes. Helm installs it, but never upgrades it.")
.docs(
    "`workspaces.workspace.devplane.io` is compared with what `devplane crd-gen` of this executable prints. What the API server adds by default \
     is no difference.",
);

pub const STORED: Check = Claim::error("DP0204", "the definition is in force, and one version alone is stored")
    .needs(&["DP0202"])
    .why("Objects that are stored in another version can't be read any more once that version is gone.")
    .docs("The conditions `Established` and `NamesAccepted` must be True, and `status.storedVersions` may have nothing but what `spec.versions` stores.")
    .check(|context| Box::pin(async move { judged(stored(&context).await) }));

async fn stored(context: &Arc<Context>) -> Read<Status> {
    let name = Workspace::crd_name();
    let Some(installed) = context.find_global::<CustomResourceDefinition>(name).await? else {
        return Ok(Status::skip("it has gone meanwhile"));
    };
    let status = installed.status.unwrap_or_default();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let is_in_force = |kind: &str| conditions.iter().any(|one| one.type_ == kind && one.status == "True");
    if let Some(missing) = ["Established", "NamesAccepted"]
        .into_iter()
        .find(|kind| !is_in_force(kind))
    {
        return Ok(Status::fail(
            format!("the CustomResourceDefinition {name} is not in force"),
            format!("{missing} is not True"),
            format!("{missing}: True"),
            Fix::words(format!(
                "see why, mostly another definition with the same names: kubectl describe crd {name}"
            )),
        ));
    }
    let current = installed.spec.versions.iter().find(|version| version.storage);
    let current = current.map_or("", |version| version.name.as_str());
    let stored = status.stored_versions.unwrap_or_default();
    let old: Vec<_> = stored.iter().filter(|version| *version != current).cloned().collect();
    if old.is_empty() {
        return Ok(Status::pass(current));
    }
    Ok(Status::fail(
        format!("Workspaces may be stored in the old version {}", old.join(", ")),
        format!("status.storedVersions [{}]", stored.join(", ")),
        format!("[{current}]"),
        Fix::command(format!(
            "kubectl get workspaces -A -o json | kubectl replace -f -\nkubectl patch crd {name} --subresource=status --type merge -p '{{\"status\":{{\"storedVersions\":[\"{current}\"]}}}}'"
        )),
    ))
}

const INSTALL: &str = "devplane crd-gen | kubectl apply --server-side -f -";
/// Helm, or whoever installed it, owns the fields by now.
const UPGRADE: &str = "devplane crd-gen | kubectl apply --server-side --force-conflicts -f -";

async fn check(context: Arc<Context>) -> Status {
    let name = Workspace::crd_name();
    let Ok(client) = context.client() else {
        return Status::skip("there is no client");
    };
    let installed = match Api::<CustomResourceDefinition>::all(client.clone()).get_opt(name).await {
        Ok(Some(installed)) => installed,
        Ok(None) => {
            return Status::fail(
                format!("the CustomResourceDefinition {name} is not installed"),
                "none",
                "that of `devplane crd-gen`",
                Fix::command(INSTALL),
            );
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Status::skip("this identity may not read CustomResourceDefinitions; ask as an administrator");
        }
        Err(error) => {
            return Status::fail(
                format!("the CustomResourceDefinition {name} can't be read"),
                with_causes(&error),
                "that of `devplane crd-gen`",
                Fix::words(format!(
                    "see whether the API server gives it to you: kubectl get crd {name}"
                )),
            );
        }
    };
    let ours = serde_json::to_value(Workspace::crd().spec).unwrap_or_default();
    let theirs = serde_json::to_value(&installed.spec).unwrap_or_default();
    match difference("spec", &ours, &theirs) {
        None => Status::pass(format!("{name} is the same as `devplane crd-gen` prints")),
        Some(path) => Status::fail(
            format!("the CustomResourceDefinition {name} is not this version's"),
            format!("another value at {path}"),
            "that of `devplane crd-gen`",
            Fix::command(UPGRADE),
        ),
    }
}

/// The first place at which `theirs` lacks something of `ours`. What the API server adds by default is no difference.
fn difference(path: &str, ours: &serde_json::Value, theirs: &serde_json::Value) -> Option<String> {
    use serde_json::Value::{Array, Object};
    match (ours, theirs) {
        (Object(ours), Object(theirs)) => ours.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match theirs.get(key) {
                Some(other) => difference(&path, value, other),
                None if is_empty(value) => None,
                None => Some(path),
            }
        }),
        (Array(ours), Array(theirs)) if ours.len() == theirs.len() => ours
            .iter()
            .zip(theirs)
            .enumerate()
            .find_map(|(index, (ours, theirs))| difference(&format!("{path}[{index}]"), ours, theirs)),
        _ => (ours != theirs).then(|| path.to_owned()),
    }
}

/// The API server drops empty lists and `false` on the way in.
fn is_empty(value: &serde_json::Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.is_null() || value == &serde_json::Value::Bool(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_what_is_missing_or_other_but_not_what_was_added() {
        let ours = json!({"a": {"b": [1, 2]}, "empty": []});
        assert_eq!(
            difference("spec", &ours, &json!({"a": {"b": [1, 2], "more": true}})),
            None
        );
        assert_eq!(
            difference("spec", &ours, &json!({"a": {"b": [1, 3]}})),
            Some("spec.a.b[1]".into())
        );
        assert_eq!(
            difference("spec", &ours, &json!({"a": {"b": [1]}})),
            Some("spec.a.b".into())
        );
        assert_eq!(difference("spec", &ours, &json!({})), Some("spec.a".into()));
    }
}

//! The installed CustomResourceDefinition becomes the claim that it is what this executable prints.

use super::super::check::Status;
use crate::api::Workspace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt};

const INSTALL: &str = "devplane crd-gen | kubectl apply --server-side -f -";
/// Helm, or whoever installed it, owns the fields by now.
const UPGRADE: &str = "devplane crd-gen | kubectl apply --server-side --force-conflicts -f -";

pub async fn check(client: &Client) -> Status {
    let name = Workspace::crd_name();
    let installed = match Api::<CustomResourceDefinition>::all(client.clone()).get_opt(name).await {
        Ok(Some(installed)) => installed,
        Ok(None) => {
            return Status::Fail {
                problem: format!("{name} is not installed"),
                fix: INSTALL.to_owned(),
            };
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Status::Skip {
                why: "this identity may not read CustomResourceDefinitions; ask as an administrator".to_owned(),
            };
        }
        Err(error) => {
            return Status::Fail {
                problem: format!("can't read {name}: {error}"),
                fix: format!("see whether the API server gives it to you: kubectl get crd {name}"),
            };
        }
    };
    let ours = serde_json::to_value(Workspace::crd().spec).unwrap_or_default();
    let theirs = serde_json::to_value(&installed.spec).unwrap_or_default();
    match difference("spec", &ours, &theirs) {
        None => Status::Pass {
            evidence: format!("{name} is the same as `devplane crd-gen` prints"),
        },
        Some(path) => Status::Fail {
            problem: format!("{name} differs from this version's at {path}"),
            fix: UPGRADE.to_owned(),
        },
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

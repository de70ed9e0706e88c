//! The owners of an object become whose it is. Pure.

use crate::api::Workspace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

/// The object that another one belongs to (Kubernetes API: the owner with `controller: true`, of which there is one at most).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    pub uid: Box<str>,
    /// Its name, if it is a Workspace.
    pub workspace: Option<Box<str>>,
}

impl Controller {
    pub fn of<K: Resource>(object: &K) -> Option<Self> {
        Self::among(object.owner_references())
    }

    pub fn among(owners: &[OwnerReference]) -> Option<Self> {
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        let is_workspace = owner.kind == Workspace::kind(&()) && owner.api_version == Workspace::api_version(&());
        Some(Self {
            uid: owner.uid.as_str().into(),
            workspace: is_workspace.then(|| owner.name.as_str().into()),
        })
    }

    /// Whether it is the object of this uid.
    pub fn is(controller: Option<&Self>, uid: &str) -> bool {
        controller.is_some_and(|controller| &*controller.uid == uid)
    }
}

/// Whether the object of this uid controls it.
pub fn is_controlled_by<K: Resource>(object: &K, owner_uid: &str) -> bool {
    Controller::is(Controller::of(object).as_ref(), owner_uid)
}

/// Whose an object is, as a Workspace sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Own,
    /// Of a Workspace that had the same name. There is but one of a name, so that one is gone, and what it owned goes after it (Kubernetes:
    /// garbage collection).
    Earlier,
    Foreign,
}

impl Whose {
    pub fn of(controller: Option<&Controller>, name: &str, uid: &str) -> Self {
        match controller {
            Some(controller) if &*controller.uid == uid => Self::Own,
            Some(controller) if controller.workspace.as_deref() == Some(name) => Self::Earlier,
            _ => Self::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn pod(owners: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"ownerReferences": owners}})).unwrap()
    }

    #[test]
    fn whose_an_object_is_stands_in_its_controlling_owner() {
        let api_version = "workspace.devplane.io/v1alpha1";
        let owner = |kind: &str, name: &str, uid: &str, controller: bool| json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": controller});
        let ours = |uid: &str| owner("Workspace", "dev1", uid, true);
        for (owners, expected) in [
            (json!([]), Whose::Foreign),
            (json!([ours("new")]), Whose::Own),
            (json!([owner("Workspace", "dev2", "x", false), ours("new")]), Whose::Own),
            (json!([owner("Workspace", "dev1", "new", false)]), Whose::Foreign),
            (json!([ours("old")]), Whose::Earlier),
            (json!([owner("Workspace", "dev1", "old", false)]), Whose::Foreign),
            (json!([owner("Workspace", "dev2", "old", true)]), Whose::Foreign),
            (json!([owner("ReplicaSet", "dev1", "old", true)]), Whose::Foreign),
            (
                json!([{"apiVersion": "v1", "kind": "Workspace", "name": "dev1", "uid": "old", "controller": true}]),
                Whose::Foreign,
            ),
        ] {
            let controller = Controller::of(&pod(&owners));
            assert_eq!(Whose::of(controller.as_ref(), "dev1", "new"), expected, "{owners}");
        }
    }
}

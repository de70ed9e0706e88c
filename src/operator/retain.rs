//! A volume claim and what is to become of it when its Workspace is deleted become a change of its owner. Pure.
//!
//! Garbage collection deletes what a deleted Workspace owns, so a claim that is to be retained has no owner. Labels and
//! annotations then say whose it is, and only a Workspace of the same user, with the same recorded owner, gets it again.

use super::owner::is_controlled_by;
use super::validate::owner;
use crate::api::Workspace;
use crate::api::workspace::ReclaimPolicy;
use crate::cluster::lean::Lean;
use crate::labels::{OWNER_ID, RECLAIM_POLICY, RECLAIM_RETAIN, USER, WORKSPACE_NAME};
use crate::render::ValidWorkspace;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::{Value, json};

/// Whether an earlier Workspace of the same user has left the claim, and nobody has taken it up.
pub fn is_left_for(claim: &PersistentVolumeClaim, workspace: &ValidWorkspace) -> bool {
    let label = |key| claim.labels().get(key).map(String::as_str);
    let owner = claim.annotations().get(OWNER_ID).map(String::as_str);
    label(RECLAIM_POLICY) == Some(RECLAIM_RETAIN)
        && label(USER) == Some(workspace.user.as_str())
        && owner == workspace.owner.as_ref().map(|owner| owner.as_str())
        && !claim
            .owner_references()
            .iter()
            .any(|owner| owner.controller == Some(true))
}

/// A Workspace that ends and leaves its volume.
#[derive(Clone, Debug)]
pub struct Leaver {
    uid: String,
    name: String,
    /// What the claim will say of who gets it again.
    owner: Option<String>,
}

/// Of a volume whose owner could not be read: it is no user id, so nobody gets the volume before an administrator has set another one.
const OWNER_UNREADABLE: &str = "unreadable";

impl Leaver {
    /// `None` when the volume is to go with it. Nothing else of the spec counts: its volume is not lost because something else in it is wrong.
    pub fn of(lean: &Lean<Workspace>) -> Option<Self> {
        let owner = match &lean.object {
            Ok(workspace) if workspace.spec.persistence.reclaim_policy == ReclaimPolicy::Delete => return None,
            Ok(workspace) => owner(&workspace.spec.user).map(|owner| owner.to_string()),
            Err(_) => Some(OWNER_UNREADABLE.to_owned()),
        };
        Some(Self {
            uid: lean.uid()?,
            name: lean.name_any(),
            owner,
        })
    }
}

/// The change that lets go of the claim; `None` when the Workspace does not control it.
pub fn release(claim: &PersistentVolumeClaim, leaver: &Leaver) -> Option<Value> {
    let Leaver { uid, name, owner } = leaver;
    let told = [Some(RECLAIM_RETAIN.to_owned()), Some(name.clone()), owner.clone()];
    is_controlled_by(claim, uid).then(|| change(claim, uid, &[], told))
}

/// The change (RFC 7396) that makes the claim's owner, and what it says of it, as desired; `None` when it is so. It holds the version that
/// it was made for: another one's change meanwhile is not undone.
pub fn patch(claim: &PersistentVolumeClaim, desired: &PersistentVolumeClaim, owner_uid: &str) -> Option<Value> {
    let wanted = desired.owner_references();
    let owned = is_controlled_by(claim, owner_uid);
    let told = |claim: &PersistentVolumeClaim| {
        [
            claim.labels().get(RECLAIM_POLICY).cloned(),
            claim.annotations().get(WORKSPACE_NAME).cloned(),
            claim.annotations().get(OWNER_ID).cloned(),
        ]
    };
    let told_then = told(desired);
    if owned != wanted.is_empty() && told(claim) == told_then {
        return None;
    }
    Some(change(claim, owner_uid, wanted, told_then))
}

/// What is said are the label of the policy, and the annotations of the Workspace's name and of its recorded owner.
fn change(
    claim: &PersistentVolumeClaim,
    owner_uid: &str,
    wanted: &[OwnerReference],
    [policy, name, owner]: [Option<String>; 3],
) -> Value {
    let others = claim.owner_references().iter().filter(|owner| owner.uid != owner_uid);
    let owners: Vec<&OwnerReference> = others.chain(wanted).collect();
    json!({"metadata": {
        "uid": claim.metadata.uid,
        "resourceVersion": claim.metadata.resource_version,
        "ownerReferences": owners,
        "labels": {RECLAIM_POLICY: policy},
        "annotations": {WORKSPACE_NAME: name, OWNER_ID: owner},
    }})
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::super::validate::validate;
    use super::*;
    use crate::render::desired;

    fn workspace(policy: ReclaimPolicy) -> ValidWorkspace {
        let mut spec = given::spec();
        spec["user"]["issuer"] = json!("https://idp.test");
        spec["user"]["subject"] = json!("dev1");
        ValidWorkspace {
            reclaim_policy: policy,
            ..validate(&given::workspace(spec), &given::settings()).unwrap()
        }
    }

    fn claim(policy: ReclaimPolicy) -> PersistentVolumeClaim {
        desired(&workspace(policy), None).pvc
    }

    #[test]
    fn the_owner_follows_the_policy() {
        let (deleted, retained) = (claim(ReclaimPolicy::Delete), claim(ReclaimPolicy::Retain));
        for same in [&deleted, &retained] {
            assert_eq!(patch(same, same, "uid-1"), None);
        }
        let release = patch(&deleted, &retained, "uid-1").unwrap();
        assert_eq!(release["metadata"]["ownerReferences"], json!([]));
        assert_eq!(release["metadata"]["labels"][RECLAIM_POLICY], "Retain");
        let adopt = patch(&retained, &deleted, "uid-1").unwrap();
        assert_eq!(adopt["metadata"]["ownerReferences"][0]["uid"], "uid-1");
        assert!(adopt["metadata"]["labels"][RECLAIM_POLICY].is_null());
    }

    fn leaver(uid: &str, policy: &str) -> Option<Leaver> {
        let mut spec = given::spec();
        spec["user"]["issuer"] = json!("https://idp.test");
        spec["user"]["subject"] = json!("someone else");
        spec["className"] = json!("one that is no more");
        let mut workspace = serde_json::to_value(given::workspace(spec)).unwrap();
        workspace["spec"]["persistence"] = json!({"reclaimPolicy": policy});
        workspace["metadata"]["uid"] = json!(uid);
        Leaver::of(&serde_json::from_str(&workspace.to_string()).unwrap())
    }

    #[test]
    fn a_workspace_lets_go_of_nothing_but_what_is_its_own() {
        let owned = claim(ReclaimPolicy::Delete);
        let left = release(&owned, &leaver("uid-1", "Retain").unwrap()).unwrap();
        assert_eq!(left["metadata"]["ownerReferences"], json!([]));
        assert_eq!(left["metadata"]["labels"][RECLAIM_POLICY], RECLAIM_RETAIN);
        assert_ne!(left["metadata"]["annotations"][OWNER_ID], Value::Null);
        // Another Workspace of the same user.id: the volume keeps who owns it.
        let other = leaver("uid-2", "Retain").unwrap();
        assert_eq!(release(&owned, &other), None);
        assert_eq!(release(&claim(ReclaimPolicy::Retain), &other), None);
        assert!(leaver("uid-1", "Delete").is_none());
    }

    #[test]
    fn the_volume_of_what_can_t_be_read_stays_and_nobody_gets_it() {
        let leaver = leaver("uid-1", "Nonsense").unwrap();
        let left = release(&claim(ReclaimPolicy::Delete), &leaver).unwrap();
        assert_eq!(left["metadata"]["ownerReferences"], json!([]));
        assert_eq!(left["metadata"]["annotations"][OWNER_ID], OWNER_UNREADABLE);
        assert!(OWNER_UNREADABLE != workspace(ReclaimPolicy::Delete).owner.unwrap().as_str());
    }

    #[test]
    fn another_owner_is_kept() {
        let mut owned = claim(ReclaimPolicy::Delete);
        let other = OwnerReference {
            uid: "other".into(),
            ..OwnerReference::default()
        };
        owned.owner_references_mut().push(other);
        let release = patch(&owned, &claim(ReclaimPolicy::Retain), "uid-1").unwrap();
        assert_eq!(release["metadata"]["ownerReferences"][0]["uid"], "other");
    }

    #[test]
    fn only_the_same_person_gets_it_again() {
        let left = claim(ReclaimPolicy::Retain);
        let same = workspace(ReclaimPolicy::Delete);
        assert!(is_left_for(&left, &same));
        let nobody = ValidWorkspace {
            owner: None,
            ..same.clone()
        };
        assert!(!is_left_for(&left, &nobody));
        let other = ValidWorkspace {
            user: "dev2".parse().unwrap(),
            ..same.clone()
        };
        assert!(!is_left_for(&left, &other));
        assert!(!is_left_for(&claim(ReclaimPolicy::Delete), &same), "it is owned");
    }
}

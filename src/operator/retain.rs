//! A volume claim and what is to become of it when its Workspace is deleted become a change of its owner. Pure.
//!
//! Garbage collection deletes what a deleted Workspace owns, so a claim that is to be retained has no owner. Labels and
//! annotations then say whose it is, and only a Workspace of the same user, with the same recorded owner, gets it again.

use super::owner::Controller;
use super::seen::{KeptFor, SeenClaim};
use super::validate::owner;
use crate::api::Workspace;
use crate::api::workspace::ReclaimPolicy;
use crate::cluster::lean::Lean;
use crate::labels::{OWNER_ID, RECLAIM_POLICY, RECLAIM_RETAIN, WORKSPACE_NAME};
use crate::render::{ValidWorkspace, volume_claim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::{Value, json};

/// Whether an earlier Workspace of the same user has left the claim, and nobody has taken it up.
pub fn is_left_for(claim: &SeenClaim, workspace: &ValidWorkspace) -> bool {
    claim.kept_for.policy.as_deref() == Some(RECLAIM_RETAIN)
        && claim.user.as_deref() == Some(workspace.user.as_str())
        && claim.kept_for.owner.as_deref() == workspace.owner.as_ref().map(|owner| owner.as_str())
        && claim.controller().is_none()
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
pub fn release(claim: &SeenClaim, leaver: &Leaver) -> Option<Value> {
    let Leaver { uid, name, owner } = leaver;
    let told = KeptFor {
        policy: Some(RECLAIM_RETAIN.into()),
        workspace: Some(name.as_str().into()),
        owner: owner.as_deref().map(Box::from),
    };
    Controller::is(claim.controller().as_ref(), uid).then(|| change(claim, uid, &[], &told))
}

/// The change (RFC 7396) that makes the claim's owner, and what it says of it, as desired; `None` when it is so. It holds the version that
/// it was made for: another one's change meanwhile is not undone.
pub fn patch(claim: &SeenClaim, workspace: &ValidWorkspace) -> Option<Value> {
    let desired = SeenClaim::of(&volume_claim(workspace));
    let owned = Controller::is(claim.controller().as_ref(), &workspace.uid);
    if owned != desired.owners.is_empty() && claim.kept_for == desired.kept_for {
        return None;
    }
    Some(change(claim, &workspace.uid, &desired.owners, &desired.kept_for))
}

fn change(claim: &SeenClaim, owner_uid: &str, wanted: &[OwnerReference], told: &KeptFor) -> Value {
    let others = claim.owners.iter().filter(|owner| owner.uid != owner_uid);
    let owners: Vec<&OwnerReference> = others.chain(wanted).collect();
    json!({"metadata": {
        "uid": claim.uid,
        "resourceVersion": claim.resource_version,
        "ownerReferences": owners,
        "labels": {RECLAIM_POLICY: told.policy},
        "annotations": {WORKSPACE_NAME: told.workspace, OWNER_ID: told.owner},
    }})
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::super::validate::validate;
    use super::*;

    fn workspace(policy: ReclaimPolicy) -> ValidWorkspace {
        let mut spec = given::spec();
        spec["user"]["issuer"] = json!("https://idp.test");
        spec["user"]["subject"] = json!("dev1");
        ValidWorkspace {
            reclaim_policy: policy,
            ..validate(&given::workspace(spec), &given::settings()).unwrap()
        }
    }

    fn claim(policy: ReclaimPolicy) -> SeenClaim {
        SeenClaim::of(&volume_claim(&workspace(policy)))
    }

    #[test]
    fn the_owner_follows_the_policy() {
        let [delete, retain] = [ReclaimPolicy::Delete, ReclaimPolicy::Retain].map(workspace);
        let [deleted, retained] = [&delete, &retain].map(|workspace| SeenClaim::of(&volume_claim(workspace)));
        for (claim, same) in [(&deleted, &delete), (&retained, &retain)] {
            assert_eq!(patch(claim, same), None);
        }
        let release = patch(&deleted, &retain).unwrap();
        assert_eq!(release["metadata"]["ownerReferences"], json!([]));
        assert_eq!(release["metadata"]["labels"][RECLAIM_POLICY], "Retain");
        let adopt = patch(&retained, &delete).unwrap();
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
        owned.owners = owned.owners.into_iter().chain([other]).collect();
        let release = patch(&owned, &workspace(ReclaimPolicy::Retain)).unwrap();
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

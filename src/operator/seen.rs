//! An object as the API server tells of it becomes just what a pass reads of it, before a cache keeps it. Pure.

use super::content::{Content, Decided};
use super::drift::Template;
use super::owner::Controller;
use super::pod_state::{self, PodState, shortened};
use crate::api::Workspace;
use crate::cluster::lean::{Lean, ManagedFields};
use crate::labels;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What `kubectl apply` leaves on every object: all of it once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object that is compared as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub controller: Option<Controller>,
    pub content: Content,
    /// Its own, where it may have to be deleted.
    pub uid: Option<Box<str>>,
}

impl Seen {
    pub fn of<K: Decided>(object: &K) -> Self {
        Self {
            controller: Controller::of(object),
            content: object.content(),
            uid: None,
        }
    }

    pub fn deletable<K: Decided>(object: &K) -> Self {
        Self {
            uid: object.meta().uid.as_deref().map(Box::from),
            ..Self::of(object)
        }
    }
}

/// A workspace's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPod {
    pub uid: String,
    pub controller: Option<Controller>,
    pub created_at: Option<Timestamp>,
    pub state: PodState,
    /// While it may be connected to.
    pub address: Option<Box<str>>,
    /// The scheduler has found a node.
    pub scheduled: bool,
    /// Its name.
    pub node: Option<Box<str>>,
    /// The image is on the node.
    pub image_pulled: bool,
    /// The container runs.
    pub started: bool,
    /// Its ID, while it runs.
    pub container: Option<Box<str>>,
    pub template: Template,
}

impl SeenPod {
    pub fn of(pod: &Pod) -> Self {
        Self {
            uid: pod.uid().unwrap_or_default(),
            controller: Controller::of(pod),
            created_at: pod.creation_timestamp().map(|time| time.0),
            state: pod_state::of(pod),
            address: pod_state::address(pod).map(Box::from),
            scheduled: pod_state::is_scheduled(pod),
            node: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.as_deref())
                .map(Box::from),
            image_pulled: pod_state::has_image(pod),
            started: pod_state::is_started(pod),
            container: pod_state::container_id(pod).map(Box::from),
            template: Template::of(pod),
        }
    }
}

/// A workspace's volume claim.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenClaim {
    pub name: Box<str>,
    pub uid: Option<Box<str>>,
    pub resource_version: Option<Box<str>>,
    pub owners: Box<[OwnerReference]>,
    /// The label that says whose it is.
    pub user: Option<Box<str>>,
    pub kept_for: KeptFor,
    pub is_being_deleted: bool,
    pub phase: ClaimPhase,
    /// The size asked for, as a Kubernetes quantity.
    pub asked: Option<Box<str>>,
    /// The size that is there, as a Kubernetes quantity.
    pub there: Option<Box<str>>,
    /// The volume has grown, and its file system has not yet: the node makes it larger where a pod has it mounted, and otherwise when
    /// one starts (Kubernetes API: `FileSystemResizePending`).
    pub waits_for_node: bool,
    /// Why the storage, or then the node, did not make it larger (Kubernetes API: `ControllerResizeError`, `NodeResizeError`).
    pub growth_error: Option<Box<str>>,
}

/// What a claim says of who gets it again when its Workspace is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptFor {
    /// The label of its reclaim policy.
    pub policy: Option<Box<str>>,
    /// The annotation with the name of the Workspace that has left it.
    pub workspace: Option<Box<str>>,
    /// The annotation with the recorded owner of that one.
    pub owner: Option<Box<str>>,
}

/// `status.phase` (Kubernetes API: PersistentVolumeClaim).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimPhase {
    /// Or none yet.
    Pending,
    Bound,
    /// The volume behind it is gone.
    Lost,
}

impl SeenClaim {
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        let label = |key| claim.labels().get(key).map(|value| value.as_str().into());
        let annotation = |key| claim.annotations().get(key).map(|value| value.as_str().into());
        let storage = |amounts: Option<&BTreeMap<String, Quantity>>| Some(amounts?.get("storage")?.0.as_str().into());
        let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let status = claim.status.as_ref();
        let condition = |types: &[&str]| {
            let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.find(|condition| types.contains(&&*condition.type_) && condition.status == "True")
        };
        Self {
            name: claim.name_any().into(),
            uid: claim.metadata.uid.as_deref().map(Box::from),
            resource_version: claim.metadata.resource_version.as_deref().map(Box::from),
            owners: claim.owner_references().into(),
            user: label(labels::USER),
            kept_for: KeptFor {
                policy: label(labels::RECLAIM_POLICY),
                workspace: annotation(labels::WORKSPACE_NAME),
                owner: annotation(labels::OWNER_ID),
            },
            is_being_deleted: claim.metadata.deletion_timestamp.is_some(),
            phase: match status.and_then(|status| status.phase.as_deref()) {
                Some("Bound") => ClaimPhase::Bound,
                Some("Lost") => ClaimPhase::Lost,
                _ => ClaimPhase::Pending,
            },
            asked: storage(resources.and_then(|resources| resources.requests.as_ref())),
            there: storage(status.and_then(|status| status.capacity.as_ref())),
            waits_for_node: condition(&["FileSystemResizePending"]).is_some(),
            growth_error: condition(&["ControllerResizeError", "NodeResizeError"])
                .map(|condition| shortened(condition.message.as_deref().unwrap_or_default()).into()),
        }
    }

    pub fn controller(&self) -> Option<Controller> {
        Controller::among(&self.owners)
    }
}

/// Of a Workspace, which is kept as it is but for what nobody reads.
pub fn workspace(workspace: &mut Lean<Workspace>) {
    workspace.managed_fields = ManagedFields::default();
    // What gateways tell each other, some kilobytes for each browser.
    if let Ok(Workspace {
        status: Some(status), ..
    }) = &mut workspace.object
    {
        status.sign_ins = Vec::new();
    }
    if let Some(annotations) = workspace.meta_mut().annotations.as_mut() {
        annotations.remove(LAST_APPLIED);
    }
}

/// Whether a gateway's pod may still have terminals open.
pub fn is_alive(gateway: &Pod) -> bool {
    let phase = gateway.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Failed" | "Succeeded"))
}

/// The digest of a ConfigMap's contents: it is all that is needed of them.
pub fn digest(config_map: &ConfigMap) -> String {
    let contents = serde_json::to_vec(&(&config_map.data, &config_map.binary_data)).unwrap_or_default();
    HEXLOWER.encode(&Sha256::digest(contents)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_pass_reads_of_a_claim_is_kept() {
        let claim = json!({
            "metadata": {
                "name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "labels": {labels::USER: "dev1", labels::RECLAIM_POLICY: "Retain"},
                "annotations": {labels::WORKSPACE_NAME: "dev1", labels::OWNER_ID: "o", "pv.kubernetes.io/bind-completed": "yes"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Workspace", "name": "dev1", "uid": "w", "controller": true}],
            },
            "spec": {"resources": {"requests": {"storage": "2Gi"}}, "volumeName": "v"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": [
                {"type": "FileSystemResizePending", "status": "True"},
                {"type": "NodeResizeError", "status": "True", "message": "no space"},
            ]},
        });
        let of = |claim: &serde_json::Value| SeenClaim::of(&serde_json::from_value(claim.clone()).unwrap());
        let SeenClaim {
            name,
            uid,
            resource_version,
            owners,
            user,
            kept_for,
            is_being_deleted,
            phase,
            asked,
            there,
            waits_for_node,
            growth_error,
        } = of(&claim);
        assert_eq!(
            (&*name, uid.as_deref(), resource_version.as_deref()),
            ("c", Some("u"), Some("7"))
        );
        assert_eq!((&*owners[0].uid, user.as_deref()), ("w", Some("dev1")));
        let told = [&kept_for.policy, &kept_for.workspace, &kept_for.owner].map(Option::as_deref);
        assert_eq!(told, [Some("Retain"), Some("dev1"), Some("o")]);
        assert_eq!(
            (phase, asked.as_deref(), there.as_deref()),
            (ClaimPhase::Bound, Some("2Gi"), Some("1Gi"))
        );
        assert!(waits_for_node && !is_being_deleted);
        assert_eq!(growth_error.as_deref(), Some("no space"));

        let mut ending = claim;
        ending["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
        ending["status"] = json!({"phase": "Lost"});
        let SeenClaim {
            is_being_deleted,
            phase,
            there,
            waits_for_node,
            growth_error,
            ..
        } = of(&ending);
        assert!(is_being_deleted && !waits_for_node && growth_error.is_none() && there.is_none());
        assert_eq!(phase, ClaimPhase::Lost);
        ending["status"] = json!(null);
        assert_eq!(of(&ending).phase, ClaimPhase::Pending);
    }

    #[test]
    fn a_gateway_that_has_ended_is_not_there() {
        for (phase, alive) in [
            ("Running", true),
            ("Pending", true),
            ("Failed", false),
            ("Succeeded", false),
        ] {
            let pod = json!({"metadata": {"name": "g"}, "status": {"phase": phase}});
            assert_eq!(is_alive(&serde_json::from_value(pod).unwrap()), alive, "{phase}");
        }
    }

    #[test]
    fn a_digest_changes_with_the_contents_alone() {
        let of = |data, name| {
            digest(&serde_json::from_value(json!({"metadata": {"name": name}, "data": {"ca.crt": data}})).unwrap())
        };
        assert_eq!(of("a", "x"), of("a", "y"));
        assert_ne!(of("a", "x"), of("b", "x"));
    }
}

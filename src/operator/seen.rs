//! An object as the API server tells of it becomes just what a pass reads of it, before a cache keeps it. Pure.

use super::content::{Content, Decided};
use super::drift::Template;
use super::owner::Controller;
use super::pod_state::{self, PodState};
use crate::api::Workspace;
use crate::cluster::lean::{Lean, ManagedFields};
use crate::labels;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
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

/// A volume claim without what nobody reads.
pub fn claim(claim: PersistentVolumeClaim) -> PersistentVolumeClaim {
    let PersistentVolumeClaim { metadata, spec, status } = claim;
    let of = |map: Option<BTreeMap<String, String>>, keys: &[&str]| {
        map.map(|mut map| {
            map.retain(|key, _| keys.contains(&key.as_str()));
            map
        })
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            deletion_timestamp: metadata.deletion_timestamp,
            owner_references: metadata.owner_references,
            labels: of(metadata.labels, &[labels::USER, labels::RECLAIM_POLICY]),
            annotations: of(metadata.annotations, &[labels::WORKSPACE_NAME, labels::OWNER_ID]),
            ..ObjectMeta::default()
        },
        spec: spec.map(|spec| PersistentVolumeClaimSpec {
            resources: spec.resources,
            ..PersistentVolumeClaimSpec::default()
        }),
        status: status.map(|status| PersistentVolumeClaimStatus {
            phase: status.phase,
            capacity: status.capacity,
            conditions: status.conditions,
            ..PersistentVolumeClaimStatus::default()
        }),
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
        let read = json!({
            "metadata": {
                "name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "labels": {labels::USER: "dev1", labels::RECLAIM_POLICY: "Retain"},
                "annotations": {labels::WORKSPACE_NAME: "dev1", labels::OWNER_ID: "o"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Workspace", "name": "dev1", "uid": "w", "controller": true}],
            },
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": [{"type": "FileSystemResizePending", "status": "True"}]},
        });
        let mut there = read.clone();
        there["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
        there["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
        there["spec"]["volumeName"] = json!("v");
        there["status"]["accessModes"] = json!(["ReadWriteOnce"]);
        let [read, there] = [read, there].map(|value| serde_json::from_value(value).unwrap());
        assert_eq!(claim(there), read);
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

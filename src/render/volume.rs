//! The volume claim that holds the home directory. It is made once and outlives every pod.

use super::valid::ValidWorkspace;
use crate::api::workspace::ReclaimPolicy;
use crate::labels;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub fn claim(mut metadata: ObjectMeta, workspace: &ValidWorkspace) -> PersistentVolumeClaim {
    if workspace.reclaim_policy == ReclaimPolicy::Retain {
        // Garbage collection would take it with its owner.
        metadata.owner_references = None;
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(labels::RECLAIM_POLICY.to_owned(), labels::RECLAIM_RETAIN.to_owned());
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(labels::WORKSPACE_NAME.to_owned(), workspace.name.clone());
        annotations.extend(
            workspace
                .owner
                .as_ref()
                .map(|owner| (labels::OWNER_ID.to_owned(), owner.to_string())),
        );
    }
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: workspace.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), workspace.storage.to_api())].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

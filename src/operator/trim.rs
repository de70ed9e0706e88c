//! An object as the API server tells of it becomes one with just what a pass reads, before a cache keeps it. Pure.
//!
//! What is desired survives: an object that lost a field here which [`super::plan`] compares would be written on every pass.

use crate::labels;
use crate::render::CONTAINER;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus, Pod, PodCondition, PodSpec, PodStatus, Service, ServiceSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

/// What `kubectl apply` leaves on every object: all of it once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// For every kind.
pub fn metadata<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = metadata.annotations.as_mut() {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }
}

pub fn service(service: &mut Service) {
    service.status = None;
    service.spec = service.spec.take().map(|spec| ServiceSpec {
        cluster_ip: spec.cluster_ip,
        selector: spec.selector,
        ports: spec.ports,
        ..ServiceSpec::default()
    });
}

pub fn claim(claim: &mut PersistentVolumeClaim) {
    claim.spec = claim.spec.take().map(|spec| PersistentVolumeClaimSpec {
        resources: spec.resources,
        ..PersistentVolumeClaimSpec::default()
    });
    claim.status = claim.status.take().map(|status| PersistentVolumeClaimStatus {
        phase: status.phase,
        capacity: status.capacity,
        conditions: status.conditions,
        ..PersistentVolumeClaimStatus::default()
    });
}

/// A workspace's pod: whose it is, what it was made from, and how it is.
pub fn pod(pod: &mut Pod) {
    pod.metadata.labels = None;
    if let Some(annotations) = pod.metadata.annotations.as_mut() {
        annotations.retain(|key, _| key == labels::TEMPLATE_HASH || key == labels::CA_BUNDLE_DIGEST);
    }
    pod.spec = pod.spec.take().map(template);
    pod.status = pod.status.take().map(status);
}

/// Of a template that has changed, what differs is named: [`super::drift`].
fn template(spec: PodSpec) -> PodSpec {
    let container = |container: Container| Container {
        name: container.name,
        image: container.image,
        env: container.env,
        resources: container.resources,
        ..Container::default()
    };
    let volume = |volume: Volume| Volume {
        name: volume.name,
        config_map: volume.config_map,
        secret: volume.secret,
        empty_dir: volume.empty_dir.map(|directory| EmptyDirVolumeSource {
            medium: None,
            size_limit: directory.size_limit,
        }),
        ..Volume::default()
    };
    PodSpec {
        containers: spec.containers.into_iter().take(1).map(container).collect(),
        volumes: spec.volumes.map(|volumes| volumes.into_iter().map(volume).collect()),
        node_selector: spec.node_selector,
        affinity: spec.affinity,
        runtime_class_name: spec.runtime_class_name,
        priority_class_name: spec.priority_class_name,
        image_pull_secrets: spec.image_pull_secrets,
        dns_config: spec.dns_config,
        ..PodSpec::default()
    }
}

/// As much as [`super::pod_state`] reads.
fn status(status: PodStatus) -> PodStatus {
    let condition = |condition: PodCondition| PodCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        ..PodCondition::default()
    };
    let container = |container: ContainerStatus| ContainerStatus {
        name: container.name,
        image_id: container.image_id,
        state: container.state,
        last_state: container.last_state,
        ..ContainerStatus::default()
    };
    let conditions = status.conditions.into_iter().flatten();
    let conditions = conditions.filter(|condition| matches!(condition.type_.as_str(), "Ready" | "PodScheduled"));
    let containers = status.container_statuses.into_iter().flatten();
    let containers = containers.filter(|container| container.name == CONTAINER);
    PodStatus {
        phase: status.phase,
        reason: status.reason,
        message: status.message,
        conditions: Some(conditions.map(condition).collect()),
        container_statuses: Some(containers.map(container).collect()),
        pod_ip: status.pod_ip,
        ..PodStatus::default()
    }
}

/// A gateway's pod: whether it is there.
pub fn gateway(pod: &mut Pod) {
    let metadata = std::mem::take(&mut pod.metadata);
    pod.metadata = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        ..ObjectMeta::default()
    };
    pod.spec = None;
    pod.status = pod.status.take().map(|status| PodStatus {
        phase: status.phase,
        ..PodStatus::default()
    });
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::super::validate::validate;
    use super::super::{drift, pod_state};
    use super::*;
    use crate::render::{Desired, desired};
    use serde_json::{Value, json};

    fn given(change: impl FnOnce(&mut Value)) -> Desired {
        let mut spec = given::spec();
        change(&mut spec);
        desired(&validate(&given::workspace(spec), &given::settings()).unwrap(), None)
    }

    /// The kinds that are compared field by field.
    #[test]
    fn nothing_is_lost_that_is_desired() {
        let Desired { service: wanted, .. } = given(|_| ());
        let mut there = wanted.clone();
        metadata(&mut there);
        service(&mut there);
        assert_eq!(there, wanted);
    }

    #[test]
    fn what_a_pass_reads_of_a_claim_is_kept() {
        let read = json!({
            "metadata": {"name": "c", "annotations": {"a": "b"}},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": [{"type": "FileSystemResizePending", "status": "True"}]},
        });
        let mut there = read.clone();
        there["metadata"]["annotations"][LAST_APPLIED] = json!("{}");
        there["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
        there["spec"]["volumeName"] = json!("v");
        there["status"]["accessModes"] = json!(["ReadWriteOnce"]);
        let [read, mut there] = [read, there].map(|value| serde_json::from_value(value).unwrap());
        metadata(&mut there);
        claim(&mut there);
        assert_eq!(there, read);
    }

    #[test]
    fn what_differs_in_a_pod_is_still_named() {
        let changes: [fn(&mut Value); 4] = [
            |_| (),
            |spec| spec["resources"]["cpu"] = json!("3"),
            |spec| spec["tls"] = json!({"customCABundle": {"name": "ca"}}),
            |spec| spec["aiConfig"]["providers"][0]["models"] = json!(["n"]),
        ];
        for change in changes {
            let (full, wanted) = (given(change).pod, given(|_| ()).pod);
            let mut trimmed = full.clone();
            pod(&mut trimmed);
            assert_eq!(drift::changed(&trimmed, &wanted), drift::changed(&full, &wanted));
        }
    }

    #[test]
    fn a_pod_s_state_is_still_read() {
        let container = |state: Value| {
            json!([{"name": "other", "image": "", "imageID": "", "ready": false, "restartCount": 0},
            {"name": CONTAINER, "image": "i", "imageID": "x", "ready": false, "restartCount": 1, "state": state,
             "lastState": {"terminated": {"exitCode": 3}}}])
        };
        for status in [
            json!({"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]}),
            json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}),
            json!({"phase": "Pending", "containerStatuses": container(json!({"waiting": {"reason": "CrashLoopBackOff", "message": "why"}}))}),
            json!({"phase": "Running", "containerStatuses": container(json!({"running": {}}))}),
        ] {
            let full: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
            let mut trimmed = full.clone();
            pod(&mut trimmed);
            assert_eq!(pod_state::of(&trimmed), pod_state::of(&full));
            assert_eq!(pod_state::is_started(&trimmed), pod_state::is_started(&full));
            assert_eq!(pod_state::has_image(&trimmed), pod_state::has_image(&full));
            assert_eq!(pod_state::is_scheduled(&trimmed), pod_state::is_scheduled(&full));
        }
    }

    #[test]
    fn of_a_gateway_only_its_being_there_is_kept() {
        let mut there = serde_json::from_value(json!({
            "metadata": {"name": "g", "namespace": "n", "labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running", "podIP": "10.0.0.1"},
        }))
        .unwrap();
        gateway(&mut there);
        let kept = json!({"metadata": {"name": "g", "namespace": "n"}, "status": {"phase": "Running"}});
        assert_eq!(there, serde_json::from_value(kept).unwrap());
    }
}

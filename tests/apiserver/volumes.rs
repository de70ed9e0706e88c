//! Volumes that outlive their Workspace, volumes that wait for a restart, and certificates that change.

use crate::apiserver::ApiServer;
use crate::eventually::eventually;
use crate::operator::{Site, phase, reason, spec};
use crate::recovery::is_told;
use devplane::api::status::ConditionType;
use devplane::api::{Phase, Reason, Workspace};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

fn claims(site: &Site) -> Api<PersistentVolumeClaim> {
    Api::namespaced(site.client.clone(), &site.namespace)
}

async fn delete(site: &Site, name: &str) {
    site.workspaces().delete(name, &DeleteParams::default()).await.unwrap();
    assert!(eventually(async || site.workspaces().get_opt(name).await.unwrap().is_none()).await);
}

fn is_made(workspace: &Workspace) -> bool {
    let status = workspace.status.as_ref();
    phase(workspace) == Some(Phase::Creating) && status.is_some_and(|status| !status.pod_name.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_volume_waits_for_its_owner_alone() {
    let site = Site::new("retain").await;
    site.server.collect_garbage();
    let _operator = site.operator(&[]);
    let mut kept = spec("dev1");
    kept["persistence"] = json!({"reclaimPolicy": "Retain"});
    site.create("dev1", &kept).await;
    site.until("dev1", "made", is_made).await;
    let volume = claims(&site).get("dev1-workspace-pvc").await.unwrap();
    assert_eq!(volume.owner_references(), []);
    // Another Workspace of the same user.id asks for the volume to be kept when it goes: it is not its own.
    let mut thief = kept.clone();
    thief["user"]["subject"] = json!("someone else");
    site.create("thief", &thief).await;
    site.until("thief", "refused", |w| reason(w) == "NameConflict").await;
    delete(&site, "thief").await;
    let same = claims(&site).get("dev1-workspace-pvc").await.unwrap();
    assert_eq!(
        (same.annotations(), same.owner_references()),
        (volume.annotations(), volume.owner_references())
    );
    delete(&site, "dev1").await;
    // The garbage collector has been here.
    assert!(eventually(async || site.pods().get_opt("dev1-workspace-pod").await.unwrap().is_none()).await);
    assert!(
        eventually(async || site
            .kubectl(&["get", "services,networkpolicies", "-o", "name"])
            .is_empty())
        .await
    );
    let left = claims(&site).get("dev1-workspace-pvc").await.unwrap();
    assert_eq!(
        (left.uid(), left.metadata.deletion_timestamp.is_some()),
        (volume.uid(), false)
    );
    assert_eq!(left.labels()["workspace.devplane.io/reclaim-policy"], "Retain");

    let mut other = spec("dev1");
    other["user"]["subject"] = json!("someone else");
    site.create("other", &other).await;
    let refused = site.until("other", "refused", |w| reason(w) == "NameConflict").await;
    let message = refused.status.unwrap().message;
    assert!(
        message.contains("PersistentVolumeClaim dev1-workspace-pvc"),
        "{message}"
    );
    let untouched = claims(&site).get("dev1-workspace-pvc").await.unwrap();
    assert_eq!(untouched.resource_version(), left.resource_version());
    delete(&site, "other").await;

    site.create("dev1", &spec("dev1")).await;
    let again = site.until("dev1", "made", is_made).await;
    let adopted = claims(&site).get("dev1-workspace-pvc").await.unwrap();
    assert_eq!(
        (adopted.uid(), adopted.owner_references()[0].uid.clone()),
        (volume.uid(), again.uid().unwrap())
    );
    delete(&site, "dev1").await;
    assert!(eventually(async || claims(&site).get_opt("dev1-workspace-pvc").await.unwrap().is_none()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_grows_at_the_next_start_is_told_of() {
    let site = Site::new("resize").await;
    let _operator = site.operator(&[]);
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "resize"},
        "provisioner": "none.test", "allowVolumeExpansion": true,
    });
    site.create_objects(&class);
    let mut given = spec("dev1");
    given["persistence"] = json!({"storageClass": "resize"});
    site.create("dev1", &given).await;
    site.until("dev1", "made", is_made).await;
    let told = async |status: Value| {
        let patch = Patch::Merge(json!({ "status": status }));
        claims(&site)
            .patch_status("dev1-workspace-pvc", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    let size = |w: &Workspace| {
        let status = w.status.as_ref();
        let condition = status.and_then(|status| status.condition(ConditionType::VolumeSizeAsRequested));
        condition.map(|condition| (condition.reason.clone(), condition.message.clone()))
    };
    told(json!({"phase": "Bound", "capacity": {"storage": "1Gi"}})).await;
    site.patch("dev1", &json!({"spec": {"resources": {"storage": "3Gi"}}}))
        .await;
    site.until("dev1", "Resizing", |w| {
        size(w).is_some_and(|(reason, _)| reason == "Resizing")
    })
    .await;
    told(json!({"conditions": [{"type": "FileSystemResizePending", "status": "True"}]})).await;
    site.until("dev1", "waiting for a start", |w| {
        size(w).is_some_and(|(reason, message)| reason == "Resizing" && message.contains("when the workspace starts"))
    })
    .await;
    told(json!({"conditions": [], "capacity": {"storage": "3Gi"}})).await;
    site.until("dev1", "AsRequested", |w| {
        size(w).is_some_and(|(reason, _)| reason == "AsRequested")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_certificates_reach_a_pod_as_its_policy_says() {
    let site = Site::new("certificates").await;
    let _operator = site.operator(&[]);
    site.create_objects(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authorities"}, "data": {"ca.crt": "one"},
    }));
    let pod = |id: &str| format!("{id}-workspace-pod");
    let mut uids = Vec::new();
    for (id, policy) in [("atonce", "Immediate"), ("manual", "Manual")] {
        let mut given = spec(id);
        given["tls"] = json!({"customCABundle": {"name": "authorities"}});
        given["lifecycle"] = json!({"updatePolicy": policy});
        site.create(id, &given).await;
        site.until(id, "made", is_made).await;
        assert!(eventually(async || site.pods().get_opt(&pod(id)).await.unwrap().is_some()).await);
        site.make_ready(&pod(id)).await;
        site.until(id, "Running", |w| phase(w) == Some(Phase::Running)).await;
        uids.push(site.pods().get(&pod(id)).await.unwrap().uid());
    }
    site.kubectl(&[
        "patch",
        "configmap",
        "authorities",
        "-p",
        r#"{"data":{"ca.crt":"two"}}"#,
    ]);
    let replaced = async || {
        let pod = site.pods().get_opt(&pod("atonce")).await.unwrap();
        pod.is_some_and(|pod| pod.uid() != uids[0])
    };
    assert!(eventually(replaced).await);
    let pending = |w: &Workspace| {
        let status = w.status.as_ref();
        let condition = status.and_then(|status| status.condition(ConditionType::UpdatePending));
        condition.is_some_and(|condition| condition.status == "True" && condition.message.contains("CA certificates"))
    };
    site.until("manual", "out of date", pending).await;
    assert_eq!(site.pods().get(&pod("manual")).await.unwrap().uid(), uids[1]);
    site.kubectl(&[
        "patch",
        "configmap",
        "authorities",
        "-p",
        r#"{"data":{"ca.crt":"one"}}"#,
    ]);
    site.until("manual", "up to date", |w| !pending(w)).await;
}

/// The class is gone, so nothing could be made of the spec: the volume is kept all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_kept_though_something_else_in_the_spec_is_wrong() {
    let site = Site::new("retain-invalid").await;
    site.server.collect_garbage();
    let _operator = site.operator(&[]);
    site.create("dev1", &spec("dev1")).await;
    site.until("dev1", "made", is_made).await;
    let wrong = json!({"spec": {"className": "gone", "persistence": {"reclaimPolicy": "Retain"}}});
    site.patch("dev1", &wrong).await;
    site.until("dev1", "wrong", |w| reason(w) == "ValidationFailed").await;
    delete(&site, "dev1").await;
    assert!(eventually(async || site.pods().get_opt("dev1-workspace-pod").await.unwrap().is_none()).await);
    let left = claims(&site).get("dev1-workspace-pvc").await.unwrap();
    assert_eq!(
        (left.owner_references(), left.metadata.deletion_timestamp.is_some()),
        (&[][..], false)
    );
    assert_eq!(left.labels()["workspace.devplane.io/reclaim-policy"], "Retain");
}

/// With the API server's own admission: a claim grows only where its StorageClass allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_grows_where_its_storage_class_allows() {
    let site = Site::new("grow").await;
    site.forbids();
    let _operator = site.operator(&[]);
    for (id, expandable) in [("dev1", true), ("dev2", false)] {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": format!("grow-{id}")},
            "provisioner": "none.test", "allowVolumeExpansion": expandable,
        });
        site.server.kubectl_ok(&["apply", "-f", "-"], Some(&class.to_string()));
        let mut spec = spec(id);
        spec["persistence"] = json!({"storageClass": format!("grow-{id}")});
        site.apply(id, &spec);
        let claim = format!("{id}-workspace-pvc");
        let claims = claims(&site);
        assert!(eventually(async || claims.get_opt(&claim).await.unwrap().is_some()).await);
        // What the volume controller would write.
        let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        claims
            .patch_status(&claim, &PatchParams::default(), &Patch::Merge(bound))
            .await
            .unwrap();
        let size = |w: &Workspace| {
            let condition = w
                .status
                .as_ref()
                .and_then(|s| s.condition(ConditionType::VolumeSizeAsRequested));
            condition.map(|condition| condition.reason.clone()).unwrap_or_default()
        };
        site.until(id, "AsRequested", |w| size(w) == "AsRequested").await;
        spec["resources"]["storage"] = json!("3Gi");
        site.apply(id, &spec);
        let asked = async || {
            let claim = claims.get(&claim).await.unwrap();
            claim.spec.unwrap().resources.unwrap().requests.unwrap()["storage"]
                .0
                .clone()
        };
        if expandable {
            site.until(id, "Resizing", |w| size(w) == "Resizing").await;
            assert!(eventually(async || asked().await == "3Gi").await);
            let grown = json!({"status": {"capacity": {"storage": "3Gi"}}});
            claims
                .patch_status(&claim, &PatchParams::default(), &Patch::Merge(grown))
                .await
                .unwrap();
            site.until(id, "AsRequested", |w| size(w) == "AsRequested").await;
        } else {
            let refused = site.until(id, "ResizeRefused", |w| size(w) == "ResizeRefused").await;
            let status = refused.status.unwrap();
            let condition = status.condition(ConditionType::VolumeSizeAsRequested).unwrap();
            assert!(condition.message.contains("storageclass"), "{}", condition.message);
            assert_ne!(status.phase, Some(Phase::Failed));
            assert_eq!(asked().await, "1Gi");
        }
        spec["resources"]["storage"] = json!("500Mi");
        site.apply(id, &spec);
        site.until(id, "CantShrink", |w| size(w) == "CantShrink").await;
    }
}

/// With the controller that binds volumes to claims: the disk behind one goes, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_has_lost_its_volume_is_told_of_and_goes_on_when_it_is_back() {
    let server: &'static ApiServer = Box::leak(Box::new(ApiServer::start()));
    let site = Site::at(server, "lost").await;
    server.bind_volumes();
    let operator = site.operator(&[]);
    let volume = |claim: Option<&PersistentVolumeClaim>| {
        let bound_to = claim.map(|claim| json!({"namespace": "lost", "name": claim.name_any(), "uid": claim.uid()}));
        site.create_objects(&json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "disks",
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"}, "claimRef": bound_to,
            },
        }));
    };
    volume(None);
    let mut given = spec("dev1");
    given["persistence"] = json!({"storageClass": "disks"});
    site.create("dev1", &given).await;
    site.runs("dev1").await;
    let claim = async || claims(&site).get("dev1-workspace-pvc").await.unwrap();
    let is = async |phase: &str| {
        let held = eventually(async || {
            claim()
                .await
                .status
                .is_some_and(|status| status.phase.as_deref() == Some(phase))
        });
        assert!(held.await, "the claim is not {phase}: {:?}", claim().await.status);
    };
    is("Bound").await;

    site.kubectl(&["delete", "pv", "disk", "--wait=false"]);
    site.kubectl(&[
        "patch",
        "pv",
        "disk",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    is("Lost").await;
    is_told(&site, "dev1", Reason::PVCLost).await;

    volume(Some(&claim().await));
    is("Bound").await;
    site.until("dev1", "Running", |w| phase(w) == Some(Phase::Running))
        .await;
    assert!(!operator.log().contains("NameConflict"), "{}", operator.log());
    server.stop();
}

//! StorageClasses become the claims that workspaces' volumes can be made, can grow, and land where the pods are.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::probe::ProbeError;
use super::super::super::reading::{Read, judged};
use super::super::super::wanted::Wanted;
use super::super::super::{amounts, probe};
use super::super::pods::{least, resources};
use crate::causes::with_causes;
use k8s_openapi::api::core::v1::{LimitRange, Node, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub const CLASS: Check = Claim::error("DP0403", "the StorageClass of workspaces is there")
    .needs(&["DP0101", "DP0201"])
    .why("Without it a workspace's volume stays pending, and the workspace never starts.")
    .docs(
        "The class is `workspace.storageClass`, or the one that has the annotation `storageclass.kubernetes.io/is-default-class`. Of several \
         defaults, Kubernetes takes the newest.",
    )
    .check(|context| Box::pin(async move { judged(class(&context).await) }));

pub const EXPANDS: Check = Claim::warning("DP0404", "volumes of workspaces can grow")
    .needs(&["DP0403"])
    .why("A workspace whose storage is raised keeps its old size, and says so in `VolumeSizeAsRequested`.")
    .docs("`allowVolumeExpansion` of the StorageClass is looked at. Whether the driver can do it, its documentation says.")
    .check(|context| Box::pin(async move { judged(expands(&context).await) }));

pub const BINDING: Check = Claim::warning("DP0405", "volumes are made where their pods can run")
    .needs(&["DP0403"])
    .why("A volume that is made before its pod has a node may lie in another zone, where the pod can't run.")
    .docs(
        "`volumeBindingMode: Immediate` is told where it can go wrong: when the nodes are in several zones, or `workspace.pod` selects among \
         them. The binding mode of a StorageClass can't be changed.",
    )
    .check(|context| Box::pin(async move { judged(binding(&context).await) }));

pub const TRIAL: Check = Claim::error("DP0406", "a volume like a workspace's is made")
    .needs(&["DP0401", "DP0403", "DP0407", "DP0408"])
    .why("A provisioner that does not work is noticed by the first user otherwise.")
    .docs(
        "A PersistentVolumeClaim as a workspace's, but of 1Gi or the least that a LimitRange allows, is made in the workspaces' namespace, and is waited \
         for until it is bound. \
         Where the class waits for a first consumer, a pod that only waits is made, too. A volume that was there before and was bound to the claim is kept as it is, and told of.",
    )
    .probe()
    .patience(90)
    .check(|context| Box::pin(async move { judged(trial(&context).await) }));

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const ZONE: &str = "topology.kubernetes.io/zone";
const FIRST_CONSUMER: &str = "WaitForFirstConsumer";
const GIBI: i128 = 1000 << 30;

/// The one that applies, by the API server's own rule.
fn chosen<'a>(classes: &'a [StorageClass], name: Option<&str>) -> Option<&'a StorageClass> {
    match name {
        Some(name) => classes.iter().find(|class| class.name_any() == name),
        None => classes
            .iter()
            .filter(|class| class.annotations().get(DEFAULT).is_some_and(|is| is == "true"))
            .max_by_key(|class| (class.creation_timestamp(), class.name_any())),
    }
}

async fn class(context: &Arc<Context>) -> Read<Status> {
    let wanted = Wanted::of(context)?.storage_class;
    let classes: Vec<StorageClass> = context.list_global().await?;
    if let Some(class) = chosen(&classes, wanted) {
        let which = if wanted.is_some() {
            ""
        } else {
            ", the cluster's default"
        };
        return Ok(Status::pass(format!(
            "{}{which} ({})",
            class.name_any(),
            class.provisioner
        )));
    }
    let names: Vec<_> = classes.iter().map(ResourceExt::name_any).collect();
    let problem = match wanted {
        Some(name) => format!("there is no StorageClass {name}, which workspace.storageClass names"),
        None => "the cluster has no default StorageClass, and workspace.storageClass names none".to_owned(),
    };
    let other = chosen(&classes, None)
        .map(ResourceExt::name_any)
        .or_else(|| names.first().cloned());
    let fix = match other {
        Some(other) => Fix::values(format!("workspace:\n  storageClass: {other}\n")),
        None => Fix::words("install a storage driver with a StorageClass; workspaces keep their files on its volumes"),
    };
    let found = if names.is_empty() {
        "no StorageClass at all".to_owned()
    } else {
        names.join(", ")
    };
    Ok(Status::fail(
        problem,
        found,
        "a StorageClass that volumes can be made of",
        fix,
    ))
}

pub(super) async fn the_class(context: &Context) -> Read<StorageClass> {
    let classes: Vec<StorageClass> = context.list_global().await?;
    let name = Wanted::of(context)?.storage_class;
    let class = chosen(&classes, name).cloned();
    class.ok_or_else(|| Status::skip("the StorageClass has gone meanwhile"))
}

async fn expands(context: &Arc<Context>) -> Read<Status> {
    let class = the_class(context).await?;
    let name = class.name_any();
    if class.allow_volume_expansion == Some(true) {
        return Ok(Status::pass(format!("{name} allows it")));
    }
    Ok(Status::fail(
        format!("the StorageClass {name} does not let volumes grow"),
        "allowVolumeExpansion is not true",
        "allowVolumeExpansion: true",
        Fix::command(format!(
            "kubectl patch storageclass {name} -p '{{\"allowVolumeExpansion\":true}}'"
        )),
    ))
}

async fn binding(context: &Arc<Context>) -> Read<Status> {
    let class = the_class(context).await?;
    let name = class.name_any();
    let mode = class.volume_binding_mode.as_deref().unwrap_or("Immediate");
    if mode == FIRST_CONSUMER {
        return Ok(Status::pass(format!("{name} waits for the pod")));
    }
    let nodes: Vec<Node> = context.list_global().await?;
    let zones: BTreeSet<_> = nodes.iter().filter_map(|node| node.labels().get(ZONE)).collect();
    let selects = !Wanted::of(context)?.pod.node_selector.is_empty();
    if zones.len() < 2 && !selects {
        return Ok(Status::pass(format!(
            "{name} does not wait, and every node is as good as another"
        )));
    }
    let reason = if zones.len() > 1 {
        format!("the nodes are in {} zones", zones.len())
    } else {
        "workspace.pod.nodeSelector selects among the nodes".to_owned()
    };
    let classes: Vec<StorageClass> = context.list_global().await?;
    let waiting = classes
        .iter()
        .find(|class| class.volume_binding_mode.as_deref() == Some(FIRST_CONSUMER));
    let fix = match waiting {
        Some(other) => Fix::values(format!("workspace:\n  storageClass: {}\n", other.name_any())),
        None => Fix::words(format!(
            "make a StorageClass with volumeBindingMode {FIRST_CONSUMER} and name it in workspace.storageClass"
        )),
    };
    Ok(Status::fail(
        format!("the StorageClass {name} makes volumes before their pods have a node, and {reason}"),
        mode,
        FIRST_CONSUMER,
        fix,
    ))
}

async fn trial(context: &Arc<Context>) -> Read<Status> {
    let class = the_class(context).await?;
    let wanted = Wanted::of(context)?;
    let namespace = &context.installation.workspaces;
    let client = context.client().map_err(|error| Status::skip(error.to_string()))?;
    let name = context.probes.name("volume");
    let ranges: Vec<LimitRange> = context.list(namespace, "").await?;
    let least = least(&ranges, &["PersistentVolumeClaim"], "storage");
    let size = amounts::text(wanted.storage.min(GIBI.max(least)));
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class.name_any(), "resources": {"requests": {"storage": size}}},
    });
    context
        .probes
        .create(client, namespace, claim)
        .await
        .map_err(|error| refused(&error))?;
    if class.volume_binding_mode.as_deref() == Some(FIRST_CONSUMER) {
        let pod = consumer(context, &wanted, &name, &resources(&ranges));
        context
            .probes
            .create(client, namespace, pod)
            .await
            .map_err(|error| refused(&error))?;
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(75) {
        let found: Option<PersistentVolumeClaim> = context.find(namespace, &name).await?;
        let phase = found.and_then(|claim| claim.status?.phase).unwrap_or_default();
        if phase == "Bound" {
            return Ok(Status::pass(format!(
                "a volume of {size} was bound after {} s",
                begin.elapsed().as_secs()
            )));
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(Status::fail(
        format!("a volume of the StorageClass {} is not made", class.name_any()),
        "a claim that is still Pending after 75 s",
        "Bound",
        Fix::words(format!(
            "see what the provisioner {} says: kubectl get events -n {namespace} --field-selector reason=ProvisioningFailed",
            class.provisioner
        )),
    ))
}

/// A pod that only waits, where a workspace's would run.
fn consumer(context: &Context, wanted: &Wanted<'_>, claim: &str, resources: &Value) -> Value {
    let image = context
        .installation
        .operator()
        .map(|config| config.workspace.common.image.clone());
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": claim},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "nodeSelector": wanted.pod.node_selector, "tolerations": wanted.pod.tolerations,
            "imagePullSecrets": wanted.pod.image_pull_secrets.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "wait", "image": image, "command": ["sleep", "120"],
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "resources": resources,
                "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
            }],
            "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

fn refused(error: &ProbeError) -> Status {
    if matches!(error, ProbeError::Create { source: kube::Error::Api(status), .. } if status.code == 404) {
        return Status::skip("the namespace is not there yet");
    }
    Status::fail(
        "the API server does not take a volume like a workspace's",
        with_causes(error),
        format!("a claim with the label {}", probe::LABEL),
        Fix::words("change what refuses it, such as a quota, a LimitRange or an admission webhook"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core;

    #[test]
    fn where_there_is_no_namespace_yet_nothing_is_known_of_its_volumes() {
        let answered = |code| {
            refused(&ProbeError::Create {
                kind: "PersistentVolumeClaim".to_owned(),
                name: "a".to_owned(),
                source: kube::Error::Api(core::Status::failure("no", "").with_code(code).boxed()),
            })
        };
        assert!(matches!(answered(404), Status::Skip { .. }));
        assert!(matches!(answered(403), Status::Fail(_)));
    }
}

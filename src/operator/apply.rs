//! Steps become writes to the API server, in their order; the first that fails ends the pass.

use super::plan::Step;
use crate::render::Desired;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snafu::{ResultExt, Snafu};
use std::fmt::Debug;

/// Owns every field that the operator sets (Kubernetes: server-side apply).
pub const FIELD_MANAGER: &str = "devplane-operator";

/// A step that the API server did not take.
#[derive(Debug, Snafu)]
#[snafu(display("{step:?} failed: {source}"))]
pub struct ApplyError {
    pub step: Step,
    pub source: kube::Error,
}

/// Takes every step. `observed_pod` is the pod that the plan has seen: only that one may be deleted.
///
/// # Errors
/// The first step that failed; the ones before it are done and the ones behind it are not.
pub async fn apply(
    client: &Client,
    namespace: &str,
    desired: &Desired,
    observed_pod: Option<&Pod>,
    steps: &[Step],
) -> Result<(), ApplyError> {
    for &step in steps {
        let result = match step {
            Step::ApplyPolicy(index) => server_side(client, namespace, &desired.policies[index]).await,
            Step::ApplyServiceAccount => server_side(client, namespace, &desired.service_account).await,
            Step::ApplyRole => server_side(client, namespace, &desired.role).await,
            Step::ApplyRoleBinding => server_side(client, namespace, &desired.role_binding).await,
            Step::ApplyService => server_side(client, namespace, &desired.service).await,
            Step::CreateVolumeClaim => create(client, namespace, &desired.pvc).await,
            Step::CreatePod => create(client, namespace, &desired.pod).await,
            Step::DeletePod => match observed_pod {
                Some(pod) => delete_pod(client, namespace, pod).await,
                None => Ok(()),
            },
        };
        result.context(ApplySnafu { step })?;
    }
    Ok(())
}

/// Forced: what the operator sets is decided by the operator, whoever set it before.
async fn server_side<K>(client: &Client, namespace: &str, object: &K) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let api = Api::<K>::namespaced(client.clone(), namespace);
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object))
        .await
        .map(drop)
}

/// For objects that can't be changed once they are there.
async fn create<K>(client: &Client, namespace: &str, object: &K) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    Api::<K>::namespaced(client.clone(), namespace)
        .create(&parameters, object)
        .await
        .map(drop)
}

async fn delete_pod(client: &Client, namespace: &str, pod: &Pod) -> Result<(), kube::Error> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    Api::<Pod>::namespaced(client.clone(), namespace)
        .delete(&pod.name_any(), &parameters)
        .await
        .map(drop)
}

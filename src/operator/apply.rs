//! Steps become writes to the API server, in their order; the first that fails ends the pass.

use super::observe::Observed;
use super::owner::{Controller, Whose, is_controlled_by};
use super::plan::Step;
use super::pod_state::shortened;
use super::retain;
use super::seen::SeenClaim;
use crate::certificates::{Authorities, CertificateError, terminal_name};
use crate::labels::{ISSUED_AT, OWNER_ID, TERMINAL_AUTHORITY};
use crate::names::PodName;
use crate::policy::cilium::CiliumNetworkPolicy;
use crate::render::{self, ValidWorkspace, policy_names, terminal_secret};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{PartialObjectMeta, Request};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use snafu::{ResultExt, Snafu};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Owns every field that the operator sets (Kubernetes: server-side apply).
pub const FIELD_MANAGER: &str = "devplane-operator";

/// A certificate that has waited longer for its pod is issued anew.
const LONGEST_BEFORE_ITS_POD: SignedDuration = SignedDuration::from_secs(20);

/// How the operator makes and replaces objects.
pub fn as_operator() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// How the operator changes parts of objects.
pub fn patch_as_operator() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A step that was not done.
#[derive(Debug, Snafu)]
#[snafu(display("{step:?} failed: {source}"))]
pub struct ApplyError {
    pub step: Step,
    pub source: WriteError,
}

/// Why a write was not done.
#[derive(Debug, Snafu)]
pub enum WriteError {
    /// The API server did not take it.
    #[snafu(context(false), display("{source}"))]
    Api { source: kube::Error },
    /// An object that no watch of ours shows has the name already, and it is not this Workspace's.
    #[snafu(display("{object} of this name does not belong to this Workspace"))]
    Foreign { object: String },
    #[snafu(context(false), display("{source}"))]
    Certificate { source: CertificateError },
}

/// Who vouches for the terminal of a pod that is about to be made.
#[derive(Clone, Copy)]
pub struct Voucher<'a> {
    pub authorities: &'a Authorities,
    pub now: Timestamp,
}

/// What came of the steps besides their being done.
#[derive(Debug, Default)]
pub struct Applied {
    /// Why the API server did not let the volume grow.
    pub growth_refused: Option<String>,
}

/// Takes every step. What the plan has not seen is created, never patched: a patch would change an object of that name that
/// the watches don't show because it is not ours. `observed.pod` is the only pod that may be deleted. Each object is built when its
/// turn comes: all of one workspace take a hundred kilobytes, and many workspaces are worked on at once.
///
/// # Errors
/// The first step that failed; the ones before it are done and the ones behind it are not.
pub async fn apply(
    client: &Client,
    workspace: &ValidWorkspace,
    observed: &Observed,
    voucher: Option<Voucher<'_>>,
    steps: &[Step],
) -> Result<Applied, ApplyError> {
    let writer = Writer {
        client,
        namespace: &workspace.namespace,
    };
    let mut applied = Applied::default();
    for &step in steps {
        let result = match step {
            Step::ApplyPolicy(index) => {
                let policy = std::mem::take(&mut render::policies(workspace)[index]);
                writer.write(&policy, observed.policies[index].is_some()).await
            }
            Step::ApplyCiliumPolicy => match render::cilium_policy(workspace) {
                Some(policy) => writer.write(&policy, observed.cilium_policy.is_some()).await,
                None => Ok(()),
            },
            Step::DeleteCiliumPolicy => match observed.cilium_policy.as_deref().and_then(|seen| seen.uid.as_deref()) {
                Some(uid) => {
                    let [_, egress, _] = policy_names(&workspace.user);
                    writer.delete::<CiliumNetworkPolicy>(&egress, uid).await
                }
                None => Ok(()),
            },
            Step::ApplyServiceAccount => {
                let account = render::service_account(workspace);
                writer.write(&account, observed.service_account.is_some()).await
            }
            Step::ApplyRole => writer.write(&render::role(workspace), observed.role.is_some()).await,
            Step::ApplyRoleBinding => {
                let binding = render::role_binding(workspace);
                writer.write(&binding, observed.role_binding.is_some()).await
            }
            Step::ApplyService => {
                writer
                    .write(&render::service(workspace), observed.service.is_some())
                    .await
            }
            Step::CreateVolumeClaim => writer.create(&render::volume_claim(workspace)).await,
            Step::SetVolumeClaimOwner => match observed.pvc.as_deref() {
                Some(claim) => writer.set_owner(claim, workspace).await,
                None => Ok(()),
            },
            Step::GrowVolumeClaim => {
                let refused = writer.grow(&render::volume_claim(workspace)).await;
                refused.map(|refused| applied.growth_refused = refused)
            }
            Step::IssueCertificate => match voucher {
                Some(voucher) => writer.issue(workspace, voucher).await,
                None => Ok(()),
            },
            Step::CreatePod => {
                let ca_digest = observed.ca_digest.as_deref();
                writer.create(&render::pod(workspace, ca_digest)).await
            }
            Step::DeletePod => match observed.pod.as_deref() {
                Some(pod) => {
                    let name = PodName::of(&workspace.user);
                    writer.delete::<Pod>(name.as_str(), &pod.uid).await
                }
                None => Ok(()),
            },
        };
        result.context(ApplySnafu { step })?;
    }
    Ok(applied)
}

/// Whether the step makes an object that was not there.
pub fn creates(step: Step, observed: &Observed) -> bool {
    match step {
        Step::ApplyPolicy(index) => observed.policies[index].is_none(),
        Step::ApplyCiliumPolicy => observed.cilium_policy.is_none(),
        Step::ApplyServiceAccount => observed.service_account.is_none(),
        Step::ApplyRole => observed.role.is_none(),
        Step::ApplyRoleBinding => observed.role_binding.is_none(),
        Step::ApplyService => observed.service.is_none(),
        Step::CreateVolumeClaim | Step::CreatePod => true,
        Step::SetVolumeClaimOwner
        | Step::GrowVolumeClaim
        | Step::IssueCertificate
        | Step::DeletePod
        | Step::DeleteCiliumPolicy => false,
    }
}

/// Takes the owner off a volume claim that is to outlive it.
///
/// # Errors
/// When the API server does not take it.
pub async fn release_claim(client: &Client, namespace: &str, name: &str, patch: Value) -> Result<(), WriteError> {
    Writer { client, namespace }.patch_claim(name, patch).await
}

/// Writes to one namespace.
struct Writer<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Writer<'_> {
    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn write<K: Object>(&self, object: &K, exists: bool) -> Result<(), WriteError> {
        if !exists {
            return self.create(object).await;
        }
        // Forced: what the operator sets is decided by the operator, whoever set it before.
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.api::<K>()
            .patch(&object.name_any(), &parameters, &Patch::Apply(object))
            .await?;
        Ok(())
    }

    async fn create<K: Object>(&self, object: &K) -> Result<(), WriteError> {
        let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
        let request = Request::new(K::url_path(&(), Some(self.namespace))).create(&as_operator(), body);
        // The watch tells of what was made: the answer is as large as the object, and nobody reads it.
        let created = self
            .client
            .request::<IgnoredAny>(request.map_err(kube::Error::BuildRequest)?);
        let Err(error) = created.await else { return Ok(()) };
        if matches!(&error, kube::Error::Api(status) if status.code == 409) {
            let there = self.api::<K>().get_metadata_opt(&object.name_any()).await?;
            if let Some(there) = there {
                if is_earlier(&there, object) {
                    return Err(error.into());
                }
                if !is_same(&there, object) {
                    let object = format!("{} {}", K::kind(&()), object.name_any());
                    return ForeignSnafu { object }.fail();
                }
                self.show(&there, object).await?;
            }
        }
        Err(error.into())
    }

    /// An object of ours that somebody has taken the labels off is not told of by our watches, and a pod without them is outside of its
    /// policies. They are put on again; a pod is deleted, for the operator may not change pods.
    async fn show<K: Object>(&self, there: &PartialObjectMeta<K>, object: &K) -> Result<(), WriteError> {
        let wanted = object.labels();
        if wanted.iter().all(|(key, value)| there.labels().get(key) == Some(value)) {
            return Ok(());
        }
        let name = object.name_any();
        tracing::warn!(kind = %K::kind(&()), name, "an object had lost its labels");
        if K::kind(&()) == Pod::kind(&()) {
            return self.delete::<K>(&name, &there.uid().unwrap_or_default()).await;
        }
        let patch = Patch::Merge(json!({"metadata": {"uid": there.uid(), "labels": wanted}}));
        let patched = self.client.request::<IgnoredAny>(
            Request::new(K::url_path(&(), Some(self.namespace)))
                .patch(&name, &patch_as_operator(), &patch)
                .map_err(kube::Error::BuildRequest)?,
        );
        patched.await?;
        Ok(())
    }

    /// Writes the certificate for the next pod. No watch of ours shows Secrets, so one of an earlier pod is in the way: it is changed if
    /// it belongs to this Workspace, unless it was written a moment ago, by an operator that did not come to make the pod.
    async fn issue(&self, workspace: &ValidWorkspace, voucher: Voucher<'_>) -> Result<(), WriteError> {
        let Voucher { authorities, now } = voucher;
        let authority = authorities.for_workspaces(now);
        let issued = authority.workspace(&terminal_name(&workspace.uid))?;
        let contents = [authorities.of_gateways(), issued.certificate, issued.key];
        let secret = terminal_secret(workspace, &authority.id, now, contents);
        let secrets = self.api::<Secret>();
        let taken = match secrets.create(&as_operator(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => status,
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        };
        let Some(there) = secrets.get_metadata_opt(&secret.name_any()).await? else {
            return Err(kube::Error::Api(taken).into());
        };
        if is_earlier(&there, &secret) {
            return Err(kube::Error::Api(taken).into());
        }
        if !is_controlled_by(&there, &workspace.uid) {
            let object = format!("Secret {}", secret.name_any());
            return ForeignSnafu { object }.fail();
        }
        if is_fresh(&there, &secret, now) {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": there.metadata.resource_version, "annotations": secret.metadata.annotations},
            "data": secret.data,
        });
        secrets
            .patch(&secret.name_any(), &patch_as_operator(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    async fn set_owner(&self, claim: &SeenClaim, workspace: &ValidWorkspace) -> Result<(), WriteError> {
        let Some(patch) = retain::patch(claim, workspace) else {
            return Ok(());
        };
        self.patch_claim(&claim.name, patch).await
    }

    async fn patch_claim(&self, name: &str, patch: Value) -> Result<(), WriteError> {
        let claims = self.api::<PersistentVolumeClaim>();
        claims.patch(name, &patch_as_operator(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Asks for the size of `claim`; gives the API server's reason when that is not allowed (its admission: the StorageClass does
    /// not allow it, or a quota does not).
    async fn grow(&self, claim: &PersistentVolumeClaim) -> Result<Option<String>, WriteError> {
        let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let patch =
            json!({"spec": {"resources": {"requests": resources.and_then(|resources| resources.requests.as_ref())}}});
        let claims = self.api::<PersistentVolumeClaim>();
        match claims
            .patch(&claim.name_any(), &patch_as_operator(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => Ok(Some(shortened(&status.message))),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete<K: Object>(&self, name: &str, uid: &str) -> Result<(), WriteError> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        self.api::<K>().delete(name, &parameters).await?;
        Ok(())
    }
}

/// Whether what is there is what we wanted to make: the cache lags. A volume claim that is to be retained has no owner to go by.
fn is_same<K: Object>(there: &PartialObjectMeta<K>, object: &K) -> bool {
    match object.owner_references().first() {
        Some(owner) => is_controlled_by(there, &owner.uid),
        None => {
            let owner_id = |annotations: &BTreeMap<String, String>| annotations.get(OWNER_ID).cloned();
            there.owner_references().is_empty()
                && object
                    .labels()
                    .iter()
                    .all(|(key, value)| there.labels().get(key) == Some(value))
                && owner_id(there.annotations()) == owner_id(object.annotations())
        }
    }
}

/// Whether what is there is of an earlier Workspace of the same name: it goes by itself, and is waited for.
fn is_earlier<K: Object>(there: &PartialObjectMeta<K>, object: &K) -> bool {
    let controller = Controller::of(there);
    let mut owners = object.owner_references().iter();
    owners.any(|owner| Whose::of(controller.as_ref(), &owner.name, &owner.uid) == Whose::Earlier)
}

/// Whether a terminal's certificate can only be for the pod that is about to be made: it is of this authority, and from a moment ago.
fn is_fresh(there: &PartialObjectMeta<Secret>, wanted: &Secret, now: Timestamp) -> bool {
    let is_same = |key| there.annotations().get(key) == wanted.annotations().get(key);
    let issued_at = there.annotations().get(ISSUED_AT).and_then(|at| at.parse().ok());
    is_same(TERMINAL_AUTHORITY) && issued_at.is_some_and(|at: Timestamp| at <= now && now < at + LONGEST_BEFORE_ITS_POD)
}

/// What every kind that we write has in common.
trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize
{
}

impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize
{
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::super::validate::validate;
    use super::*;
    use crate::api::workspace::ReclaimPolicy;
    use crate::render::desired;

    /// As it is there once it was made from `object`.
    fn there(object: &PersistentVolumeClaim) -> PartialObjectMeta<PersistentVolumeClaim> {
        PartialObjectMeta {
            metadata: object.metadata.clone(),
            ..PartialObjectMeta::default()
        }
    }

    #[test]
    fn a_certificate_waits_for_its_pod_and_for_no_other() {
        let workspace = validate(&given::workspace(given::spec()), &given::settings()).unwrap();
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let of = |authority, seconds| terminal_secret(&workspace, authority, at(seconds), Default::default());
        for (there, wanted, fresh) in [
            (of("a", 0), of("a", 1), true),
            (of("a", 0), of("a", 19), true),
            (of("a", 0), of("a", 20), false),
            (of("a", 2), of("a", 1), false),
            (of("a", 0), of("b", 1), false),
            (Secret::default(), of("a", 1), false),
        ] {
            let now = wanted.annotations()[ISSUED_AT].parse().unwrap();
            let there = PartialObjectMeta {
                metadata: there.metadata,
                ..PartialObjectMeta::default()
            };
            assert_eq!(is_fresh(&there, &wanted, now), fresh, "{there:?}");
        }
    }

    #[test]
    fn what_we_made_a_moment_ago_is_no_foreign_object() {
        let workspace = validate(&given::workspace(given::spec()), &given::settings()).unwrap();
        let retained = ValidWorkspace {
            reclaim_policy: ReclaimPolicy::Retain,
            ..workspace.clone()
        };
        let owned_by_other = ValidWorkspace {
            owner: Some("other".parse().unwrap()),
            ..retained.clone()
        };
        let claim = |workspace| desired(workspace, None).pvc;
        assert!(is_same(&there(&claim(&workspace)), &claim(&workspace)));
        assert!(is_same(&there(&claim(&retained)), &claim(&retained)));
        for foreign in [
            claim(&workspace),
            claim(&owned_by_other),
            PersistentVolumeClaim::default(),
        ] {
            assert!(!is_same(&there(&foreign), &claim(&retained)), "{foreign:?}");
        }
        assert!(!is_same(&there(&claim(&retained)), &claim(&workspace)));
    }
}

//! Watch caches become what is there now of one workspace's objects, and whose it is.

use super::retain;
use crate::api::WorkspaceStatus;
use crate::api::status::TerminalSession;
use crate::labels;
use crate::names::{
    AccountName, DenyAllPolicyName, EgressPolicyName, IngressPolicyName, PodName, PvcName, ServiceName,
};
use crate::render::ValidWorkspace;
use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::runtime::reflector::store::WriterDropped;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The caches of every kind that a workspace owns.
#[derive(Clone)]
pub struct Caches {
    pub service_accounts: Store<ServiceAccount>,
    pub roles: Store<Role>,
    pub role_bindings: Store<RoleBinding>,
    pub policies: Store<NetworkPolicy>,
    pub services: Store<Service>,
    pub claims: Store<PersistentVolumeClaim>,
    pub pods: Store<Pod>,
    /// Without their data: [`digest`] has put its digest in the place.
    pub config_maps: Store<ConfigMap>,
    /// The pods of the gateway, in its own namespace.
    pub gateways: Store<Pod>,
}

/// What is there of one workspace; `None` is not there.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub service_account: Option<Arc<ServiceAccount>>,
    pub role: Option<Arc<Role>>,
    pub role_binding: Option<Arc<RoleBinding>>,
    /// In the order of [`crate::render::Desired::policies`].
    pub policies: [Option<Arc<NetworkPolicy>>; 3],
    pub service: Option<Arc<Service>>,
    pub pvc: Option<Arc<PersistentVolumeClaim>>,
    pub pod: Option<Arc<Pod>>,
    /// The digest of the CA bundle's contents.
    pub ca_digest: Option<String>,
    /// The open terminals whose gateway is still there.
    pub sessions: Vec<TerminalSession>,
}

impl Caches {
    /// Waits until every cache has had its first list. An unfilled cache would look like missing objects.
    ///
    /// # Errors
    /// When a watch has ended for good, which is so only while the process stops.
    pub async fn filled(&self) -> Result<(), WriterDropped> {
        tokio::try_join!(
            self.service_accounts.wait_until_ready(),
            self.roles.wait_until_ready(),
            self.role_bindings.wait_until_ready(),
            self.policies.wait_until_ready(),
            self.services.wait_until_ready(),
            self.claims.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.config_maps.wait_until_ready(),
            self.gateways.wait_until_ready(),
        )
        .map(drop)
    }

    /// Looks up each object by its name, and leaves out the sessions of gateways that have died.
    pub fn observe(&self, workspace: &ValidWorkspace, last: &WorkspaceStatus) -> Observed {
        let user = &workspace.user;
        let namespace = workspace.namespace.as_str();
        let account = AccountName::of(user);
        let policy = |name: &str| get(&self.policies, namespace, name);
        Observed {
            service_account: get(&self.service_accounts, namespace, account.as_str()),
            role: get(&self.roles, namespace, account.as_str()),
            role_binding: get(&self.role_bindings, namespace, account.as_str()),
            policies: [
                policy(DenyAllPolicyName::of(user).as_str()),
                policy(EgressPolicyName::of(user).as_str()),
                policy(IngressPolicyName::of(user).as_str()),
            ],
            service: get(&self.services, namespace, ServiceName::of(user).as_str()),
            pvc: get(&self.claims, namespace, PvcName::of(user).as_str()),
            pod: get(&self.pods, namespace, PodName::of(user).as_str()),
            ca_digest: workspace
                .ca_bundle
                .as_ref()
                .and_then(|name| self.ca_digest(namespace, name)),
            sessions: self.live(&last.sessions),
        }
    }
}

impl Caches {
    fn ca_digest(&self, namespace: &str, name: &str) -> Option<String> {
        let config_map = get(&self.config_maps, namespace, name)?;
        config_map.annotations().get(labels::CA_BUNDLE_DIGEST).cloned()
    }

    fn live(&self, sessions: &[TerminalSession]) -> Vec<TerminalSession> {
        if sessions.is_empty() {
            return Vec::new();
        }
        let gateways = self.gateways.state();
        let is_there = |name: &str| {
            gateways.iter().any(|pod| {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                pod.metadata.name.as_deref() == Some(name) && !matches!(phase, Some("Failed" | "Succeeded"))
            })
        };
        sessions
            .iter()
            .filter(|session| is_there(&session.gateway))
            .cloned()
            .collect()
    }
}

/// Puts a digest in the place of a ConfigMap's contents: it is all that is needed of them.
pub fn digest(config_map: &mut ConfigMap) {
    let (text, binary) = (config_map.data.take(), config_map.binary_data.take());
    let contents = serde_json::to_vec(&(text, binary)).unwrap_or_default();
    let digest = HEXLOWER.encode(&Sha256::digest(contents)[..8]);
    config_map.annotations_mut().clear();
    config_map
        .annotations_mut()
        .insert(labels::CA_BUNDLE_DIGEST.to_owned(), digest);
}

fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

impl Observed {
    /// Objects of our names that some other object, or nobody, controls, as `Kind name`. A volume claim that was left by an earlier
    /// Workspace of the same user is none.
    pub fn foreign(&self, workspace: &ValidWorkspace) -> Vec<String> {
        let owner_uid = workspace.uid.as_str();
        let mut foreign = Vec::new();
        collect(&mut foreign, owner_uid, self.service_account.as_deref());
        collect(&mut foreign, owner_uid, self.role.as_deref());
        collect(&mut foreign, owner_uid, self.role_binding.as_deref());
        for policy in &self.policies {
            collect(&mut foreign, owner_uid, policy.as_deref());
        }
        collect(&mut foreign, owner_uid, self.service.as_deref());
        let claim = self.pvc.as_deref();
        collect(
            &mut foreign,
            owner_uid,
            claim.filter(|claim| !retain::is_left_for(claim, workspace)),
        );
        collect(&mut foreign, owner_uid, self.pod.as_deref());
        foreign
    }
}

fn collect<K: Resource<DynamicType = ()>>(foreign: &mut Vec<String>, owner_uid: &str, object: Option<&K>) {
    let Some(object) = object else { return };
    if !is_controlled_by(object, owner_uid) {
        foreign.push(format!("{} {}", K::kind(&()), object.name_any()));
    }
}

/// Whether the object of this uid is the controlling owner (Kubernetes API: at most one owner is).
pub fn is_controlled_by<K: Resource>(object: &K, owner_uid: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == owner_uid)
}

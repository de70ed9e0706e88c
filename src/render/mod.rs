//! A checked Workspace becomes every object that it should have. Pure: equal input gives equal objects, byte for byte.

mod canary;
mod pod;
mod rbac;
mod service;
mod template_hash;
mod terminal;
mod valid;
mod volume;

pub use canary::canary_policies;
pub use pod::CONTAINER;
pub use terminal::terminal_secret;
pub use valid::{CanaryPlace, Platform, ValidWorkspace};

use crate::api::Workspace;
use crate::api::egress::PolicyBackend;
use crate::identity::UserId;
use crate::names::{
    AccountName, DenyAllPolicyName, EgressPolicyName, IngressPolicyName, PodName, PvcName, ServiceName,
};
use crate::policy::cilium::{self, CiliumNetworkPolicy};
use crate::{labels, policy};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// Every object of one workspace.
#[derive(Clone, Debug)]
pub struct Desired {
    pub policies: [NetworkPolicy; 3],
    /// With that backend: what may be reached, in the place of what the second of `policies` says otherwise.
    pub cilium_policy: Option<CiliumNetworkPolicy>,
    pub service_account: ServiceAccount,
    pub role: Role,
    pub role_binding: RoleBinding,
    pub service: Service,
    pub pvc: PersistentVolumeClaim,
    pub pod: Pod,
}

/// Builds all of them. `ca_digest` stands for the contents of the CA bundle, when it has one.
pub fn desired(workspace: &ValidWorkspace, ca_digest: Option<&str>) -> Desired {
    Desired {
        policies: policies(workspace),
        cilium_policy: cilium_policy(workspace),
        service_account: service_account(workspace),
        role: role(workspace),
        role_binding: role_binding(workspace),
        service: service(workspace),
        pvc: volume_claim(workspace),
        pod: pod(workspace, ca_digest),
    }
}

/// What denies everything, what allows to reach something, and what allows the gateways in.
pub fn policies(workspace: &ValidWorkspace) -> [NetworkPolicy; 3] {
    let pod_labels = labels::of(&workspace.user);
    let egress = match workspace.platform.policy_backend {
        PolicyBackend::Kubernetes => policy::egress(&pod_labels, &workspace.egress),
        PolicyBackend::Cilium => policy::no_egress(&pod_labels),
    };
    let [deny_all, may_reach, from_gateways] = policy_names(&workspace.user);
    let of = |name: &str, spec| NetworkPolicy {
        metadata: metadata(workspace, name),
        spec: Some(spec),
    };
    let ingress = policy::ingress_gateway(&pod_labels, &workspace.platform.gateway_namespace);
    [
        of(&deny_all, policy::deny_all(&pod_labels)),
        of(&may_reach, egress),
        of(&from_gateways, ingress),
    ]
}

/// What may be reached, where policies are Cilium's.
pub fn cilium_policy(workspace: &ValidWorkspace) -> Option<CiliumNetworkPolicy> {
    let [_, egress, _] = policy_names(&workspace.user);
    (workspace.platform.policy_backend == PolicyBackend::Cilium).then(|| CiliumNetworkPolicy {
        metadata: metadata(workspace, &egress),
        spec: cilium::egress(&labels::of(&workspace.user), &workspace.egress),
    })
}

/// What the pod runs as.
pub fn service_account(workspace: &ValidWorkspace) -> ServiceAccount {
    let account = AccountName::of(&workspace.user);
    rbac::service_account(metadata(workspace, account.as_str()))
}

/// What that account may do.
pub fn role(workspace: &ValidWorkspace) -> Role {
    let account = AccountName::of(&workspace.user);
    rbac::role(metadata(workspace, account.as_str()), workspace)
}

pub fn role_binding(workspace: &ValidWorkspace) -> RoleBinding {
    let account = AccountName::of(&workspace.user);
    rbac::role_binding(metadata(workspace, account.as_str()), &account, &workspace.namespace)
}

/// What leads to the terminal.
pub fn service(workspace: &ValidWorkspace) -> Service {
    let name = ServiceName::of(&workspace.user);
    service::service(metadata(workspace, name.as_str()), labels::of(&workspace.user))
}

/// The claim of the volume that is the user's home.
pub fn volume_claim(workspace: &ValidWorkspace) -> PersistentVolumeClaim {
    volume::claim(metadata(workspace, PvcName::of(&workspace.user).as_str()), workspace)
}

/// The pod; `ca_digest` as in [`desired`].
pub fn pod(workspace: &ValidWorkspace, ca_digest: Option<&str>) -> Pod {
    let name = PodName::of(&workspace.user);
    pod::pod(metadata(workspace, name.as_str()), workspace, ca_digest)
}

/// The names of [`Desired::policies`], in their order.
pub fn policy_names(user: &UserId) -> [String; 3] {
    [
        DenyAllPolicyName::of(user).to_string(),
        EgressPolicyName::of(user).to_string(),
        IngressPolicyName::of(user).to_string(),
    ]
}

/// The DNS name of the Service.
pub fn endpoint(workspace: &ValidWorkspace) -> String {
    ServiceName::of(&workspace.user).endpoint(&workspace.namespace, &workspace.platform.cluster_domain)
}

/// Name, labels, and the Workspace as the controlling owner, so that garbage collection takes the object with it.
///
/// `blockOwnerDeletion` is left out: the deletion of a Workspace need not wait for its objects, and setting it needs rights
/// on the owner's finalizers where the OwnerReferencesPermissionEnforcement admission plugin runs.
fn metadata(workspace: &ValidWorkspace, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(workspace.namespace.clone()),
        labels: Some(labels::of(&workspace.user)),
        owner_references: Some(vec![OwnerReference {
            api_version: Workspace::api_version(&()).into_owned(),
            kind: Workspace::kind(&()).into_owned(),
            name: workspace.name.clone(),
            uid: workspace.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

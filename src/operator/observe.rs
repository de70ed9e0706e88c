//! Watch caches become what is there now of one workspace's objects, and whose it is.

use super::cache::Cache;
use super::enforcement::{Enforcement, Gate};
use super::owner::{Controller, Whose};
use super::retain;
use super::seen::{Seen, SeenClaim, SeenPod};
use crate::api::WorkspaceStatus;
use crate::api::egress::PolicyBackend;
use crate::api::status::TerminalSession;
use crate::names::{
    AccountName, DenyAllPolicyName, EgressPolicyName, IngressPolicyName, PodName, PvcName, ServiceName,
};
use crate::policy::cilium::CiliumNetworkPolicy;
use crate::render::ValidWorkspace;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Resource;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::error::RecvError;
use tokio::time::timeout;

/// How long is waited for the list of a kind that the cluster may not know.
const OPTIONAL_WITHIN: Duration = Duration::from_secs(10);

/// The caches of every kind that a workspace owns.
#[derive(Clone)]
pub struct Caches {
    pub service_accounts: Cache<Arc<Seen>>,
    pub roles: Cache<Arc<Seen>>,
    pub role_bindings: Cache<Arc<Seen>>,
    pub policies: Cache<Arc<Seen>>,
    /// With that backend, or where it may have left some. It is not waited for long: a cluster may not know the kind.
    pub cilium_policies: Option<Cache<Arc<Seen>>>,
    pub services: Cache<Arc<Seen>>,
    pub claims: Cache<Arc<SeenClaim>>,
    pub pods: Cache<Arc<SeenPod>>,
    /// The digests of the ConfigMaps' contents.
    pub config_maps: Cache<Arc<str>>,
    /// The pods of the gateway that live, in its own namespace.
    pub gateways: Cache<()>,
}

/// Objects that have names of ours, as `Kind name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfOthers {
    /// Of somebody else, or nobody.
    pub foreign: Vec<String>,
    /// Of an earlier Workspace of the same name. They go by themselves.
    pub left: Vec<String>,
}

/// What is there of one workspace; `None` is not there.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub service_account: Option<Arc<Seen>>,
    pub role: Option<Arc<Seen>>,
    pub role_binding: Option<Arc<Seen>>,
    /// In the order of [`crate::render::Desired::policies`].
    pub policies: [Option<Arc<Seen>>; 3],
    pub cilium_policy: Option<Arc<Seen>>,
    /// A policy that is to be there could not be seen.
    pub policies_unreadable: bool,
    pub service: Option<Arc<Seen>>,
    pub pvc: Option<Arc<SeenClaim>>,
    pub pod: Option<Arc<SeenPod>>,
    /// The digest of the CA bundle's contents.
    pub ca_digest: Option<Arc<str>>,
    /// The open terminals whose gateway is still there.
    pub sessions: Vec<TerminalSession>,
    /// What the canary has found, and what follows from it: the same for all.
    pub enforcement: Enforcement,
    pub gate: Gate,
}

impl Caches {
    /// Waits until every cache has had its first list, and for what the cluster may not know for a while. An unfilled cache would look
    /// like missing objects.
    ///
    /// # Errors
    /// When a watch has ended for good, which is so only while the process stops.
    pub async fn filled(&self) -> Result<(), RecvError> {
        tokio::try_join!(
            self.service_accounts.filled(),
            self.roles.filled(),
            self.role_bindings.filled(),
            self.policies.filled(),
            self.services.filled(),
            self.claims.filled(),
            self.pods.filled(),
            self.config_maps.filled(),
            self.gateways.filled(),
        )?;
        if let Some(policies) = &self.cilium_policies {
            let _ = timeout(OPTIONAL_WITHIN, policies.filled()).await;
        }
        Ok(())
    }

    /// Looks up each object by its name, and leaves out the sessions of gateways that have died.
    pub fn observe(&self, workspace: &ValidWorkspace, last: &WorkspaceStatus) -> Observed {
        let user = &workspace.user;
        let account = AccountName::of(user);
        let cilium_policies = self.cilium_policies.as_ref();
        let by_cilium = workspace.platform.policy_backend == PolicyBackend::Cilium;
        // With the other backend those of others are no concern of ours.
        let concerns = |policy: &Arc<Seen>| by_cilium || Controller::is(policy.controller.as_ref(), &workspace.uid);
        Observed {
            service_account: self.service_accounts.get(account.as_str()),
            role: self.roles.get(account.as_str()),
            role_binding: self.role_bindings.get(account.as_str()),
            policies: [
                self.policies.get(DenyAllPolicyName::of(user).as_str()),
                self.policies.get(EgressPolicyName::of(user).as_str()),
                self.policies.get(IngressPolicyName::of(user).as_str()),
            ],
            cilium_policy: cilium_policies
                .and_then(|policies| policies.get(EgressPolicyName::of(user).as_str()))
                .filter(concerns),
            policies_unreadable: by_cilium && cilium_policies.is_none_or(|policies| !policies.is_filled()),
            service: self.services.get(ServiceName::of(user).as_str()),
            pvc: self.claims.get(PvcName::of(user).as_str()),
            pod: self.pods.get(PodName::of(user).as_str()),
            ca_digest: workspace.ca_bundle.as_ref().and_then(|name| self.config_maps.get(name)),
            sessions: self.live(&last.sessions),
            enforcement: Enforcement::default(),
            gate: Gate::default(),
        }
    }

    fn live(&self, sessions: &[TerminalSession]) -> Vec<TerminalSession> {
        let is_there = |session: &&TerminalSession| self.gateways.contains(&session.gateway);
        sessions.iter().filter(is_there).cloned().collect()
    }
}

impl Observed {
    /// Objects of our names that are not this Workspace's. A volume claim that an earlier Workspace of the same user has left for
    /// the next is none.
    pub fn of_others(&self, workspace: &ValidWorkspace) -> OfOthers {
        let user = &workspace.user;
        let account = AccountName::of(user);
        let mut others = OfOthers::default();
        let mut check = |controller: Option<Option<&Controller>>, kind: &str, name: &str| {
            let Some(controller) = controller else { return };
            match Whose::of(controller, &workspace.name, &workspace.uid) {
                Whose::Own => {}
                Whose::Earlier => others.left.push(format!("{kind} {name}")),
                Whose::Foreign => others.foreign.push(format!("{kind} {name}")),
            }
        };
        check(
            seen(&self.service_account),
            &ServiceAccount::kind(&()),
            account.as_str(),
        );
        check(seen(&self.role), &Role::kind(&()), account.as_str());
        check(seen(&self.role_binding), &RoleBinding::kind(&()), account.as_str());
        let [deny_all, egress, ingress] = &self.policies;
        let policy = NetworkPolicy::kind(&());
        check(seen(deny_all), &policy, DenyAllPolicyName::of(user).as_str());
        check(seen(egress), &policy, EgressPolicyName::of(user).as_str());
        check(seen(ingress), &policy, IngressPolicyName::of(user).as_str());
        check(
            seen(&self.cilium_policy),
            &CiliumNetworkPolicy::kind(&()),
            EgressPolicyName::of(user).as_str(),
        );
        check(seen(&self.service), &Service::kind(&()), ServiceName::of(user).as_str());
        let claim = self.pvc.as_deref();
        let claim = claim.filter(|claim| !retain::is_left_for(claim, workspace));
        let controller_of_claim = claim.map(SeenClaim::controller);
        check(
            controller_of_claim.as_ref().map(Option::as_ref),
            &PersistentVolumeClaim::kind(&()),
            PvcName::of(user).as_str(),
        );
        let pod = self.pod.as_deref().map(|pod| pod.controller.as_ref());
        check(pod, &Pod::kind(&()), PodName::of(user).as_str());
        others
    }
}

/// Whose it is, if it is there.
fn seen(object: &Option<Arc<Seen>>) -> Option<Option<&Controller>> {
    object.as_deref().map(|object| object.controller.as_ref())
}

//! The backend of policies and what the API server serves become whether Cilium's own kind has to be followed.
//!
//! With Cilium it has to, of course. With the other backend, too, where that kind is served: policies add up, so what a CiliumNetworkPolicy of
//! before allows would go on to be allowed. Those of Workspaces are taken away by their passes, that of the canary here. The other way round
//! nothing is left: the NetworkPolicy for egress has the same name with both, and gets empty.

use super::failure::error_text;
use crate::api::egress::PolicyBackend;
use crate::cluster::kinds::is_served;
use crate::config::OperatorConfig;
use crate::labels::{CANARY_SELECTOR, MANAGED_SELECTOR};
use crate::names::CANARY;
use crate::policy::cilium::CiliumNetworkPolicy;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use std::time::Duration;
use tokio::time::sleep;

/// Attempts to learn it, as an API server may be away for a moment.
const ATTEMPTS: u32 = 5;
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// Whether CiliumNetworkPolicies are followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cilium {
    Followed,
    /// There is none of ours, or there is no right to see them.
    Ignored,
}

impl Cilium {
    /// Asks the API server, and takes away what the other backend has left for the canary.
    pub async fn of(client: &Client, config: &OperatorConfig) -> Self {
        if config.workspace.common.policy_backend == PolicyBackend::Cilium {
            return Self::Followed;
        }
        let policies = Api::<CiliumNetworkPolicy>::namespaced(client.clone(), &config.namespace);
        for _ in 0..ATTEMPTS {
            match Self::left(client, &policies).await {
                Ok(cilium) => return cilium,
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    tracing::warn!(
                        "the cluster knows CiliumNetworkPolicies, and there is no right to list and delete them in the namespace of the Workspaces: any that an \
                         earlier NETWORK_POLICY_BACKEND=cilium has left still allow what they say (devplane doctor --only DP0811 shows them)"
                    );
                    return Self::Ignored;
                }
                Err(error) => {
                    tracing::warn!(
                        error = error_text(&error),
                        "it is not known whether CiliumNetworkPolicies are left"
                    );
                    sleep(BETWEEN_ATTEMPTS).await;
                }
            }
        }
        Self::Ignored
    }

    async fn left(client: &Client, policies: &Api<CiliumNetworkPolicy>) -> Result<Self, kube::Error> {
        if !is_served::<CiliumNetworkPolicy>(client).await? {
            return Ok(Self::Ignored);
        }
        policies
            .list_metadata(&ListParams::default().labels(MANAGED_SELECTOR).limit(1))
            .await?;
        for policy in policies
            .list_metadata(&ListParams::default().labels(CANARY_SELECTOR))
            .await?
        {
            if is_of_the_canary(&policy) {
                let parameters = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: policy.uid(),
                        resource_version: None,
                    }),
                    ..DeleteParams::default()
                };
                policies.delete(&policy.name_any(), &parameters).await?;
            }
        }
        Ok(Self::Followed)
    }
}

fn is_of_the_canary<K: Resource>(policy: &K) -> bool {
    let mut owners = policy.owner_references().iter();
    owners.any(|owner| owner.kind == ServiceAccount::kind(&()) && owner.name == CANARY)
}

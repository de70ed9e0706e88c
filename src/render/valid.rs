//! What builders may read: a Workspace whose every value was checked, with the operator's settings filled in.

use crate::api::account_right::AccountRight;
use crate::api::egress::PolicyBackend;
use crate::api::pod_settings::PodSettings;
use crate::api::workspace::{KeepAlive, Provider, ReclaimPolicy, UpdatePolicy};
use crate::identity::UserId;
use crate::policy::Egress;
use crate::units::quantity::Quantity;
use std::collections::BTreeSet;
use std::time::Duration;

/// A Workspace that can be built.
#[derive(Clone, Debug)]
pub struct ValidWorkspace {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub user: UserId,
    pub email: String,
    pub cpu: Quantity,
    pub memory: Quantity,
    pub storage: Quantity,
    /// Whether the spec itself asks for just that: it is neither the platform's default nor its ceiling.
    pub asks_for_storage: bool,
    pub providers: Vec<Provider>,
    pub egress: Egress,
    /// `None` is the cluster's default StorageClass.
    pub storage_class: Option<String>,
    /// A ConfigMap with CA certificates.
    pub ca_bundle: Option<String>,
    /// `None` never stops.
    pub idle_timeout: Option<Duration>,
    pub keep_alive: KeepAlive,
    pub update_policy: UpdatePolicy,
    /// How long nobody must have been there for [`UpdatePolicy::WhenIdle`].
    pub update_when_idle_for: Duration,
    pub reclaim_policy: ReclaimPolicy,
    /// The id of the recorded owner, when one is recorded.
    pub owner: Option<UserId>,
    /// What the ceilings did not allow, in words.
    pub limited: Vec<String>,
    pub suspended: bool,
    /// Which authority vouches for the terminal. `None`: it is reached without TLS.
    pub terminal_authority: Option<String>,
    pub platform: Platform,
}

/// What the platform team set for every workspace.
#[derive(Clone, Debug)]
pub struct Platform {
    pub image: String,
    pub image_pull_policy: Option<String>,
    pub gateway_namespace: String,
    pub policy_backend: PolicyBackend,
    pub cluster_domain: String,
    pub pip_index_url: Option<String>,
    pub pip_trusted_host: Option<String>,
    pub npm_registry: Option<String>,
    pub pod: PodSettings,
    /// Of the workspace's account.
    pub rights: BTreeSet<AccountRight>,
}

/// Where the canary is, and what it is policed like.
#[derive(Clone, Debug)]
pub struct CanaryPlace {
    pub namespace: String,
    /// Of its ServiceAccount.
    pub account_uid: String,
    /// Of a workspace whose spec asks for nothing.
    pub egress: Egress,
    pub policy_backend: PolicyBackend,
    pub gateway_namespace: String,
    pub operator_namespace: String,
}

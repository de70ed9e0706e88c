//! What a platform team gives to the pod of every workspace: where it runs and what is in it. Nothing here can change what the
//! pod is allowed: its security context, account, commands and own volumes are not among the fields.

use k8s_openapi::api::core::v1::{Affinity, PodDNSConfig, Toleration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// Names and forms are those of the Kubernetes API's PodSpec, where it has the field.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodSettings {
    /// Names of Secrets in the Workspaces' namespace with which nodes pull the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Such as gVisor's or Kata's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<PodDNSConfig>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// More environment variables, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The proxy that programs use, by the variables that they commonly read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// ConfigMaps and Secrets to read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What is requested of the scheduler; the limits, which a Workspace sets, where it says nothing or more than they do.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,
    /// What device plugins offer, such as `nvidia.com/gpu`: whole numbers, request and limit alike (Kubernetes, "Extended resources"). No field of a
    /// Workspace asks for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extended_resources: BTreeMap<String, NonZeroU32>,
    /// Mounts the token of the workspace's own service account, which has no rights but those of a class; with such rights it is mounted anyway.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub automount_service_account_token: bool,
    /// The most that `/tmp` may hold, as a quantity. The pod is evicted above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmp_size_limit: Option<String>,
}

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in upper and lower case.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Proxy {
    pub http: String,
    pub https: String,
    pub no: String,
}

/// One ConfigMap or Secret of the Workspaces' namespace, as read-only files.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// The directory in the container.
    pub path: String,
    #[serde(flatten)]
    pub source: MountSource,
}

/// Where a mount's files come from, by name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MountSource {
    ConfigMap(String),
    Secret(String),
}

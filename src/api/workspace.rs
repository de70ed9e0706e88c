//! `Workspace` of `workspace.devplane.io/v1alpha1`: one user's terminal, asked for.
//!
//! The fields of version 1.1 are open at the API server, as they were then: an object that was accepted once is accepted
//! again, and the operator says in `status` what is wrong with it. Fields that are newer are checked by the schema.
//! CEL rules (Kubernetes API: `x-kubernetes-validations`) keep the identity of a user from being changed once it is set.

#![expect(clippy::duplicated_attributes, reason = "printer columns repeat their keys")]

use super::status::WorkspaceStatus;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the user of one workspace gets.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "workspace.devplane.io",
    version = "v1alpha1",
    kind = "Workspace",
    plural = "workspaces",
    shortname = "ws",
    namespaced,
    status = "WorkspaceStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "An isolated, persistent terminal of one signed-in user.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user.email"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Sessions", type_ = "string", json_path = ".status.sessions[*].clientAddress"),
    printcolumn(name = "Last accessed", type_ = "date", json_path = ".status.lastAccessed"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.user) || has(self.user)")
        .message("user can't be removed: make another Workspace for another user")
)]
pub struct WorkspaceSpec {
    /// Whose workspace it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub user: User,
    /// What the pod and its volume may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// The language models that the assistant may use, and what the pod may reach for them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ai_config: AiConfig,
    /// Where the home directory is kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub persistence: Persistence,
    /// Whom the pod's TLS clients trust.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: Tls,
    /// When the pod stops.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lifecycle: Lifecycle,
    /// The class of the platform's configuration that it is made from; empty is the configuration that is common to all.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(length(max = 63))]
    pub class_name: String,
    /// Keeps the pod stopped and its user out, whatever they ask, until it is false again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspended: bool,
}

/// Whose workspace it is. Each field is immutable once it is set.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.id) || oldSelf.id == '' || (has(self.id) && self.id == oldSelf.id)")
        .message("user.id is immutable once set: it names the user's volume"),
    validation = Rule::new("!has(oldSelf.email) || oldSelf.email == '' || (has(self.email) && self.email == oldSelf.email)")
        .message("user.email is immutable once set"),
    validation = Rule::new("!has(oldSelf.issuer) || (has(self.issuer) && self.issuer == oldSelf.issuer)")
        .message("user.issuer is immutable once set: it decides who may enter"),
    validation = Rule::new("!has(oldSelf.subject) || (has(self.subject) && self.subject == oldSelf.subject)")
        .message("user.subject is immutable once set: it decides who may enter"),
    validation = Rule::new("has(self.issuer) == has(self.subject)")
        .message("user.issuer and user.subject belong together: set both or neither"),
)]
pub struct User {
    /// The user id: an RFC 1035 label of at most 49 characters. Names every object of the workspace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The email address of the ID token, for people to read; nothing is decided by it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// The exact `iss` of the user's ID tokens (OpenID Connect Core 1.0, section 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^\\s?#]+$"))]
    pub issuer: Option<String>,
    /// The exact `sub` of the user's ID tokens: at most 255 characters (OpenID Connect Core 1.0, section 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub subject: Option<String>,
}

/// Amounts as Kubernetes quantities.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// CPU of the pod, requested and limit, such as `2` or `500m`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpu: String,
    /// Memory of the pod, requested and limit, such as `4Gi`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub memory: String,
    /// Size of the volume that holds the home directory, such as `20Gi`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub storage: String,
}

/// The language models of a workspace.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AiConfig {
    /// OpenAI-compatible backends; each name once, each with at least one model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Provider>,
    /// Namespaces whose pods the workspace may reach, on any port unless the platform's settings name some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress_namespaces: Vec<String>,
    /// TCP ports that the workspace may reach at addresses outside the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress_ports: Vec<i32>,
    /// Addresses outside the cluster that the workspace may reach on those ports, as ranges; absent is what the platform allows, `[]` none.
    #[serde(rename = "egressCIDRs", skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(max = 43), regex(pattern = r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"))
    )]
    pub egress_cidrs: Option<Vec<String>>,
    /// Names outside the cluster that the workspace may reach on those ports, such as `git.corp.example` or `*.corp.example`; absent is what the
    /// platform allows, `[]` none. Only where the platform enforces names.
    #[serde(rename = "egressFQDNs", skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(max = 253), regex(pattern = r"^([*][.])?[a-z0-9.-]+$"))
    )]
    pub egress_fqdns: Option<Vec<String>>,
}

/// One OpenAI-compatible backend.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Provider {
    /// A name of your choice, shown to the user in front of its models.
    pub name: String,
    /// The URL without `/v1`, such as `http://vllm.ai-system.svc:8000`.
    pub endpoint: String,
    /// The names of its models.
    pub models: Vec<String>,
}

/// Where the home directory is kept.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Persistence {
    /// The StorageClass of the volume; empty is the cluster's default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub storage_class: String,
    /// What becomes of the volume when the Workspace is deleted.
    #[serde(skip_serializing_if = "is_default")]
    pub reclaim_policy: ReclaimPolicy,
}

/// What becomes of the volume when the Workspace is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ReclaimPolicy {
    /// It goes too.
    #[default]
    Delete,
    /// It stays, and is taken up again by a Workspace of the same user.
    Retain,
}

/// Whom the pod's TLS clients trust.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// A ConfigMap in the workspace's namespace that holds CA certificates in PEM form.
    #[serde(rename = "customCABundle", skip_serializing_if = "is_default")]
    pub custom_ca_bundle: ConfigMapReference,
}

/// A ConfigMap by its name.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct ConfigMapReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// When the pod stops.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// The pod stops after this long without input, as a Go duration; empty is the operator's setting, `0` never.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub idle_timeout: String,
    /// What counts as activity.
    #[serde(skip_serializing_if = "is_default")]
    pub keep_alive: KeepAlive,
    /// When a running pod is replaced because what it was made from has changed.
    #[serde(skip_serializing_if = "is_default")]
    pub update_policy: UpdatePolicy,
}

/// What keeps a workspace from being idle.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum KeepAlive {
    /// What its user types.
    #[default]
    Input,
    /// An open terminal, whether anyone types or not.
    Connected,
    /// What its user types, and what the terminal prints: a long build goes on.
    Output,
}

/// When a running pod is replaced because what it was made from has changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum UpdatePolicy {
    /// When no terminal is open and nobody has typed for five minutes (the operator's `UPDATE_WHEN_IDLE_FOR`), or at the next start.
    #[default]
    WhenIdle,
    /// At once.
    Immediate,
    /// At the next restart or start.
    Manual,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

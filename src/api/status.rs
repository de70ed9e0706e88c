//! `status` of a Workspace: its phase, the reason for it, and the conditions that people and programs watch.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What became of a Workspace. Written by the operator, but for `lastAccessed`, `sessions` and `signIns`, which the gateway writes.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// Where the workspace is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The pod's name, while there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_name: String,
    /// The pod's address, while it is there and is not ending.
    #[serde(rename = "podIP", default, skip_serializing_if = "String::is_empty")]
    pub pod_ip: String,
    /// The ID of the container that runs the workspace, while it does. In another one no program goes on that ran in the last.
    #[serde(rename = "containerID", default, skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// The DNS name of the Service: `<service>.<namespace>.svc.<cluster domain>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_endpoint: String,
    /// The authority that vouches for the pod's terminal; empty for one that is reached without TLS.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub terminal_authority: String,
    /// One sentence for people on how the workspace is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// One sentence on what to check, when something is wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remediation_hint: String,
    /// `Ready` and the steps towards it: `VolumeBound`, `PodScheduled`, `ImagePulled`, `ContainerStarted`. And
    /// `VolumeSizeAsRequested`, `UpdatePending`, `WithinCeilings`, `EgressAsConfigured`, where a canary runs
    /// `PolicyEnforced`, while a running workspace's objects can't be put right `ObjectsApplied`, and while a request
    /// is passed over `RequestsAccepted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The last activity of the user (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_accessed: Option<Time>,
    /// Until when a terminal was open (RFC 3339); while one is, `sessions` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_connected: Option<Time>,
    /// When the workspace was last stopped (RFC 3339); a wake request counts when it is later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// Why its pod is being stopped, or was; absent from when the next one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// When the workspace stops unless its user types before (RFC 3339); absent while it does not run, and when it never stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops_at: Option<Time>,
    /// The last restart request that was acted upon, as it was given (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<Time>,
    /// How many pods in a row have ended by themselves. Each is replaced later than the one before; a start that someone asked for,
    /// and ten minutes of taking connections, begin anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub pod_failures: u32,
    /// The terminals that are open. Each gateway writes its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub sessions: Vec<TerminalSession>,
    /// Who is signed in: one entry for each browser, until its session is over. The gateways write it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub sign_ins: Vec<SignIn>,
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl WorkspaceStatus {
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.type_ == kind.as_str())
    }

    /// Whether the terminal takes connections.
    pub fn is_ready(&self) -> bool {
        self.phase == Some(Phase::Running)
            && self
                .condition(ConditionType::Ready)
                .is_some_and(|condition| condition.status == "True")
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// One open terminal.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminalSession {
    /// Of this terminal alone; log lines have it too.
    pub id: String,
    /// The `id` of the sign-in that it belongs to; empty for a program that came with a token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sign_in: String,
    /// When it was opened (RFC 3339).
    pub since: Time,
    /// When its user last typed (RFC 3339), to a minute or so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_input: Option<Time>,
    /// The address that the terminal was opened from, as the gateway saw it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_address: String,
    /// What the browser calls itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// The pod of the gateway that serves it.
    pub gateway: String,
}

/// One browser that is signed in.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    /// What the session is called in log lines, and revoked by. It lets nobody in.
    pub id: String,
    /// When its user signed in (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When it is over, unless the identity provider confirms it before (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// When it was last used (RFC 3339), to a sixteenth of a session's idle lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active: Option<Time>,
    /// A hash of what the identity provider calls its own session.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider_session: String,
    /// When the identity provider is next asked whether it still stands (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_at: Option<Time>,
    /// How often the identity provider has confirmed it.
    #[serde(default)]
    pub refreshes: u32,
    /// The gateway that is asking the identity provider now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshing: Option<Refreshing>,
    /// What the identity provider answered last, encrypted with a key that only the browser's cookie holds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sealed: String,
}

/// A gateway that is asking the identity provider about a session; the others wait.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refreshing {
    /// Its pod.
    pub gateway: String,
    /// Since when (RFC 3339, with fractions).
    pub since: MicroTime,
}

/// Where a workspace is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum Phase {
    /// Seen, nothing made yet.
    Pending,
    /// Its objects are being made, or its pod is starting.
    Creating,
    /// The terminal takes connections.
    Running,
    /// Something is wrong; `message` says what and `remediationHint` what to check.
    Failed,
    /// Its pod is gone, its volume kept, until the user comes back.
    Stopped,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Creating => "Creating",
            Self::Running => "Running",
            Self::Failed => "Failed",
            Self::Stopped => "Stopped",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a pod is stopped. It is written before the pod is deleted, so that whoever is in it can be told.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum StopReason {
    /// Nobody has used it for as long as is allowed; it starts again on the next visit.
    Idle,
    /// An administrator has suspended it.
    Suspended,
    /// A restart was asked for.
    Restart,
    /// What the pod is made from has changed.
    Update,
    /// The pod has ended without being asked to, such as one that its node evicted.
    Ended,
}

impl StopReason {
    pub const ALL: &[Self] = &[Self::Idle, Self::Suspended, Self::Restart, Self::Update, Self::Ended];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Suspended => "Suspended",
            Self::Restart => "Restart",
            Self::Update => "Update",
            Self::Ended => "Ended",
        }
    }

    /// The word in log lines, metric labels and close frames.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Suspended => "suspended",
            Self::Restart => "restart",
            Self::Update => "update",
            Self::Ended => "ended",
        }
    }
}

/// The types of the conditions on a Workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    Ready,
    /// The volume claim is bound to a volume.
    VolumeBound,
    /// The pod has a node.
    PodScheduled,
    /// The image is there.
    ImagePulled,
    /// The container runs.
    ContainerStarted,
    /// The volume has the size that the spec asks for.
    VolumeSizeAsRequested,
    /// The pod was made from other settings than those of now.
    UpdatePending,
    /// The platform's ceilings allow all that the spec asks for.
    WithinCeilings,
    /// What the settings allow outside the cluster is reached.
    EgressAsConfigured,
    /// What NetworkPolicies forbid is refused, as the canary has tried.
    PolicyEnforced,
    /// The objects beside a pod that runs are as they should be. It is there only while they are not.
    ObjectsApplied,
    /// The annotations that ask for something are times that have come. It is there only while one is not.
    RequestsAccepted,
}

impl ConditionType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::VolumeBound => "VolumeBound",
            Self::PodScheduled => "PodScheduled",
            Self::ImagePulled => "ImagePulled",
            Self::ContainerStarted => "ContainerStarted",
            Self::VolumeSizeAsRequested => "VolumeSizeAsRequested",
            Self::UpdatePending => "UpdatePending",
            Self::WithinCeilings => "WithinCeilings",
            Self::EgressAsConfigured => "EgressAsConfigured",
            Self::PolicyEnforced => "PolicyEnforced",
            Self::ObjectsApplied => "ObjectsApplied",
            Self::RequestsAccepted => "RequestsAccepted",
        }
    }
}

macro_rules! reasons {
    ($($name:ident,)+) => {
        /// Why `Ready` is as it is: a stable word for programs (Kubernetes API conventions: `reason`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($name,)+ }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    Running,
    Progressing,
    Stopped,
    Suspended,
    Failed,
    ValidationFailed,
    RBACReconcileFailed,
    NetworkPolicyReconcileFailed,
    PoliciesNotEnforced,
    PVCReadFailed,
    PVCCreateFailed,
    PVCLost,
    CABundleNotFound,
    CertificatesUnavailable,
    PodReadFailed,
    PodCreateFailed,
    ServiceEnsureFailed,
    NameConflict,
    Unschedulable,
    PodFailed,
    PodUnknown,
    ImagePullBackOff,
    ErrImagePull,
    InvalidImageName,
    CrashLoopBackOff,
    CreateContainerError,
    PodNotReadyToStartContainers,
    Forbidden,
    QuotaExceeded,
    Timeout,
    AdmissionWebhook,
    APIError,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

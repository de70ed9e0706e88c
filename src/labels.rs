//! The label, annotation and finalizer keys that DevPlane writes, and the selectors that find what it wrote.

use crate::identity::UserId;
use std::collections::BTreeMap;

/// On every object of a workspace: `app=workspace`, `user=<id>`, `managed-by=devplane`.
pub const APP: &str = "app";
pub const USER: &str = "user";
pub const MANAGED_BY: &str = "managed-by";

pub const APP_WORKSPACE: &str = "workspace";
pub const APP_GATEWAY: &str = "workspace-gateway";
pub const APP_OPERATOR: &str = "workspace-operator";
pub const APP_CANARY: &str = "workspace-canary";
pub const MANAGED_BY_DEVPLANE: &str = "devplane";

/// Selects the pods of the gateway.
pub const GATEWAY_SELECTOR: &str = "app=workspace-gateway";

/// Selects the pods of the canary.
pub const CANARY_SELECTOR: &str = "app=workspace-canary";

/// Selects every object that belongs to some workspace.
pub const MANAGED_SELECTOR: &str = "app=workspace,managed-by=devplane";

/// The label that Kubernetes itself puts on every namespace.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

pub const FINALIZER: &str = "workspace.devplane.io/finalizer";

/// On a Workspace, written by the gateway or an administrator, an RFC 3339 time: a Workspace that stopped before it is
/// started again.
pub const WAKE_REQUESTED_AT: &str = "workspace.devplane.io/wake-requested-at";

/// On a Workspace, an RFC 3339 time: its pod is replaced once for each later time than `status.restartedAt`, and a stopped
/// Workspace is started.
pub const RESTART_REQUESTED_AT: &str = "workspace.devplane.io/restart-requested-at";

/// On a Workspace, written by the gateway: the request that had it made; or, with `@` and the time of the wake or restart
/// annotation behind it, the one that asked for that.
pub const REQUESTED_BY: &str = "workspace.devplane.io/requested-by";

/// The name under which gateways change Workspaces (Kubernetes API: `metadata.managedFields`).
pub const GATEWAY_MANAGER: &str = "devplane-gateway";

/// Asks a gateway to listen to a workspace that stays awake while it prints, with the size of its screen and the pod that stops as JSON; the one that takes it off does.
pub const LISTEN: &str = "workspace.devplane.io/listen";

/// On a Workspace, an RFC 3339 time: every session of its user that began before it is over.
pub const SESSIONS_REVOKED_BEFORE: &str = "workspace.devplane.io/sessions-revoked-before";

/// On a Workspace, with the id of a session behind it: that session is over. The value is the RFC 3339 time of the revocation;
/// the gateway puts it there when it is something else, and takes the annotation away when no such session can be left.
pub const REVOKED_SESSION: &str = "revoked-session.workspace.devplane.io/";

/// On a Pod, the hash of the template that it was made from.
pub const TEMPLATE_HASH: &str = "workspace.devplane.io/template-hash";

/// On a Pod, the digest of the CA certificates that it started with.
pub const CA_BUNDLE_DIGEST: &str = "workspace.devplane.io/ca-bundle-digest";

/// On a Pod, the authority that vouches for its terminal; a Pod without it is reached without TLS. On Secrets with
/// certificates, who has issued them.
pub const TERMINAL_AUTHORITY: &str = "workspace.devplane.io/terminal-authority";

/// On the Secret with the certificate of a terminal, the RFC 3339 time at which it was issued.
pub const ISSUED_AT: &str = "workspace.devplane.io/issued-at";

/// On the Secret with the authorities, an RFC 3339 time: another one is made, once for each time that is later than the last one's.
pub const ROTATE_REQUESTED_AT: &str = "workspace.devplane.io/rotate-requested-at";

/// On a volume claim that outlives its Workspace, as a label with the value `Retain`; and as annotations the Workspace that it
/// was last of, and the id of the recorded owner, who alone gets it again.
pub const RECLAIM_POLICY: &str = "workspace.devplane.io/reclaim-policy";
pub const RECLAIM_RETAIN: &str = "Retain";
pub const WORKSPACE_NAME: &str = "workspace.devplane.io/workspace";
pub const OWNER_ID: &str = "workspace.devplane.io/owner-id";

/// The labels by which policies select the canary's pods. No workspace has them, whatever its user is called.
pub fn of_canary() -> BTreeMap<String, String> {
    [(APP, APP_CANARY), (MANAGED_BY, MANAGED_BY_DEVPLANE)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The labels of every object of one workspace.
pub fn of(user: &UserId) -> BTreeMap<String, String> {
    [
        (APP, APP_WORKSPACE),
        (USER, user.as_str()),
        (MANAGED_BY, MANAGED_BY_DEVPLANE),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

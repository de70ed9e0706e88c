//! What the account of a workspace may do, as a class says it: words for rights on single objects of that workspace's user.
//!
//! Kubernetes can't narrow `list` and `watch` of a namespace down to one user's objects, and a `patch` of one's own Workspace would change its
//! class and its ceilings. So there is no word for either.

use serde::{Deserialize, Serialize};

/// One right; each is a rule of the workspace's Role, narrowed down to one object by its name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AccountRight {
    /// To read its Workspace, with the status.
    ReadWorkspace,
    /// To read its pod.
    ReadPod,
    /// To delete its pod, which is then made anew: a restart.
    RestartPod,
    /// To read the claim of its volume.
    ReadVolume,
}

//! A reason becomes one sentence that says what to check. A hint is fixed text, so it can never hold a secret.

use super::status::Reason;

/// What to check when a workspace is in this state; empty when nothing is wrong.
pub fn remediation(reason: Reason) -> &'static str {
    match reason {
        Reason::Running | Reason::Progressing | Reason::Stopped => "",
        Reason::Suspended => {
            "Ask the administrator of your cluster: setting spec.suspended to false lets you in again."
        }
        Reason::Failed => "Check the Workspace's events and the operator's log.",
        Reason::ValidationFailed => "Correct the field that the message names in the Workspace's spec.",
        Reason::RBACReconcileFailed => {
            "Check that the operator's Role may manage ServiceAccounts, Roles and RoleBindings in this namespace."
        }
        Reason::NetworkPolicyReconcileFailed => {
            "Check that the operator's Role may manage NetworkPolicies in this namespace."
        }
        Reason::PVCReadFailed => {
            "Check that the API server answers and that the operator may read PersistentVolumeClaims."
        }
        Reason::PVCCreateFailed => {
            "Check that the StorageClass exists and that the namespace's ResourceQuota leaves room for the volume."
        }
        Reason::PVCLost => {
            "The volume behind the claim is gone: restore it from a backup, or delete the claim to start empty."
        }
        Reason::CABundleNotFound => {
            "Make the ConfigMap that the message names in the Workspace's namespace, or correct spec.tls.customCABundle.name."
        }
        Reason::CertificatesUnavailable => {
            "Ask the administrator of your cluster to put back the Secret workspace-terminal-authorities of the control plane as the operator wrote it, or to delete it: it is made anew then, and every workspace that runs needs another pod."
        }
        Reason::PodReadFailed => "Check that the API server answers and that the operator may read Pods.",
        Reason::PodCreateFailed => {
            "Check the namespace's ResourceQuota, LimitRange and Pod Security level against the workspace's resources."
        }
        Reason::ServiceEnsureFailed => "Check that the operator's Role may manage Services in this namespace.",
        Reason::PoliciesNotEnforced => {
            "Check that the cluster's network plugin enforces NetworkPolicies on every node; `kubectl get events` and the operator's log name the connections, and `devplane doctor` tells more."
        }
        Reason::NameConflict => {
            "An object of this name belongs to someone else: rename or delete it, or give the workspace another user.id."
        }
        Reason::Unschedulable => {
            "Check the free CPU and memory, taints and labels of the nodes, and the volume's zone, for what the message names; a new node is used by itself."
        }
        Reason::PodFailed => "Check the pod's events and its last log lines; the node may have evicted it.",
        Reason::PodUnknown => {
            "Check the node that runs the pod: the control plane has lost contact with it; if it is gone for good, taint it with node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or delete the pod with --grace-period=0 --force."
        }
        Reason::ImagePullBackOff | Reason::ErrImagePull => {
            "Check that the image exists in the registry, that the node reaches it, and that the pull secret is valid."
        }
        Reason::InvalidImageName => "Correct the workspace image in the operator's settings.",
        Reason::CrashLoopBackOff => "Read the log of the container's last run: kubectl logs --previous.",
        Reason::CreateContainerError => {
            "Check that the ConfigMaps and Secrets that workspace.pod of the settings names are there with the entries that it names, and what the message says of the container."
        }
        Reason::PodNotReadyToStartContainers => {
            "Read the pod's events: a volume, ConfigMap or Secret that it mounts is missing or can't be mounted, its node's network plugin gives it no address, or, before Kubernetes 1.36, the image is still being pulled. It goes on by itself when that is put right."
        }
        Reason::Forbidden => {
            "Check the operator's Role, and the namespace's LimitRange, Pod Security level and, on OpenShift, SecurityContextConstraints, for what the message names."
        }
        Reason::QuotaExceeded => {
            "Raise the ResourceQuota that the message names, or stop or delete other workspaces; it is tried again by itself."
        }
        Reason::Timeout => "Check that the API server and its admission webhooks answer; it is tried again by itself.",
        Reason::AdmissionWebhook => "Check the admission policy or webhook that the message names.",
        Reason::APIError => "Check the message and the API server's log; it is tried again by itself.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_one_sentence() {
        for reason in Reason::ALL {
            let hint = remediation(*reason);
            let fine = matches!(reason, Reason::Running | Reason::Progressing | Reason::Stopped);
            assert_eq!(hint.is_empty(), fine, "{reason}");
            assert!(fine || hint.ends_with('.'), "{reason}");
        }
    }
}

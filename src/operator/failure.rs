//! An error of the API server becomes a reason for people, and whether it is one at all.

use super::apply::WriteError;
use super::plan::Step;
use crate::api::Reason;
use kube::core::Status;
use std::time::Duration;

/// What an error of a step means for the Workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A watch cache lags behind the API server; the next pass sees what is there.
    Stale,
    /// The namespace is being deleted, and everything in it with it.
    NamespaceEnds,
    Failure {
        reason: Reason,
        message: String,
    },
}

impl Meaning {
    /// Of an API server that has kept us waiting.
    pub fn no_answer(waited: Duration) -> Self {
        Self::Failure {
            reason: Reason::Timeout,
            message: format!("the API server has not answered within {} s", waited.as_secs()),
        }
    }
}

/// First by what the API server says, then by the kind of object.
pub fn meaning(step: Step, error: &WriteError) -> Meaning {
    let error = match error {
        WriteError::Api { source } => source,
        WriteError::Certificate { source } => {
            return Meaning::Failure {
                reason: by_kind(step),
                message: source.to_string(),
            };
        }
        WriteError::Foreign { .. } => {
            return Meaning::Failure {
                reason: Reason::NameConflict,
                message: error.to_string(),
            };
        }
    };
    let message = || super::pod_state::shortened(&error_text(error));
    let kube::Error::Api(status) = error else {
        return Meaning::Failure {
            reason: Reason::Timeout,
            message: message(),
        };
    };
    // Server-side apply that is forced has no conflicts, so a 409 is always about an object that is, or is not, there already.
    if status.code == 409 || (status.code == 404 && matches!(step, Step::DeletePod | Step::DeleteCiliumPolicy)) {
        return Meaning::Stale;
    }
    if namespace_ends(status) {
        return Meaning::NamespaceEnds;
    }
    Meaning::Failure {
        reason: classified(status).unwrap_or_else(|| by_kind(step)),
        message: message(),
    }
}

/// Kubernetes says so of each object that would be new there.
fn namespace_ends(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn classified(status: &Status) -> Option<Reason> {
    let text = status.message.to_lowercase();
    match status.code {
        403 if text.contains("exceeded quota") => Some(Reason::QuotaExceeded),
        403 => Some(Reason::Forbidden),
        408 | 503 | 504 => Some(Reason::Timeout),
        _ if text.contains("webhook") || text.contains("admission") => Some(Reason::AdmissionWebhook),
        _ => None,
    }
}

fn by_kind(step: Step) -> Reason {
    match step {
        Step::ApplyPolicy(_) | Step::ApplyCiliumPolicy | Step::DeleteCiliumPolicy => {
            Reason::NetworkPolicyReconcileFailed
        }
        Step::ApplyServiceAccount | Step::ApplyRole | Step::ApplyRoleBinding => Reason::RBACReconcileFailed,
        Step::ApplyService => Reason::ServiceEnsureFailed,
        Step::CreateVolumeClaim | Step::SetVolumeClaimOwner | Step::GrowVolumeClaim => Reason::PVCCreateFailed,
        Step::IssueCertificate | Step::CreatePod => Reason::PodCreateFailed,
        Step::DeletePod => Reason::APIError,
    }
}

/// The API server's own sentence when there is one.
pub fn error_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, message: &str) -> WriteError {
        let status = Status {
            code,
            message: message.into(),
            ..Status::default()
        };
        WriteError::Api {
            source: kube::Error::Api(Box::new(status)),
        }
    }

    fn reason(step: Step, error: &WriteError) -> Option<Reason> {
        match meaning(step, error) {
            Meaning::Stale | Meaning::NamespaceEnds => None,
            Meaning::Failure { reason, .. } => Some(reason),
        }
    }

    #[test]
    fn the_server_s_word_comes_first_then_the_kind() {
        use Step::{ApplyPolicy, ApplyRole, ApplyService, CreatePod, CreateVolumeClaim, DeleteCiliumPolicy, DeletePod};
        for (step, code, message, expected) in [
            (
                CreatePod,
                403,
                "pods \"p\" is forbidden: exceeded quota: q",
                Some(Reason::QuotaExceeded),
            ),
            (
                CreatePod,
                403,
                "pods \"p\" is forbidden: violates PodSecurity",
                Some(Reason::Forbidden),
            ),
            (CreatePod, 503, "", Some(Reason::Timeout)),
            (
                CreatePod,
                500,
                "failed calling webhook \"x\"",
                Some(Reason::AdmissionWebhook),
            ),
            (CreatePod, 422, "invalid", Some(Reason::PodCreateFailed)),
            (CreateVolumeClaim, 422, "invalid", Some(Reason::PVCCreateFailed)),
            (ApplyRole, 500, "", Some(Reason::RBACReconcileFailed)),
            (ApplyPolicy(0), 500, "", Some(Reason::NetworkPolicyReconcileFailed)),
            (ApplyService, 409, "already exists", None),
            (ApplyService, 422, "invalid", Some(Reason::ServiceEnsureFailed)),
            (CreatePod, 409, "already exists", None),
            (DeletePod, 404, "not found", None),
            (DeletePod, 409, "uid differs", None),
            (DeleteCiliumPolicy, 404, "not found", None),
            (DeleteCiliumPolicy, 500, "", Some(Reason::NetworkPolicyReconcileFailed)),
        ] {
            assert_eq!(reason(step, &api(code, message)), expected, "{step:?} {code}");
        }
    }
}

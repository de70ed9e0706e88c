//! DP02: the API server, its version, the definition of Workspaces, and what a role may do.

mod crd;
mod permissions;

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use crate::causes::with_causes;
use std::sync::Arc;

pub const CHECKS: &[Check] = &[
    VERSION.check(|context| Box::pin(version(context))),
    crd::CHECK,
    permissions::CHECK,
    crd::STORED,
];

const VERSION: Claim = Claim::error("DP0201", "the API server answers and is Kubernetes 1.27 or newer")
    .why("Operator and gateway do everything through the API server; rules of the CustomResourceDefinition need 1.27.")
    .docs(
        "The API server of `KUBECONFIG`, of `~/.kube/config` or of the pod's service account is asked for its version. Everything that is read \
         from the cluster rests on this claim.",
    );

/// CEL rules in CustomResourceDefinitions are on by default since 1.25 and their message expressions since 1.27.
const OLDEST_MINOR: u32 = 27;

async fn version(context: Arc<Context>) -> Status {
    let newer = format!("an API server of Kubernetes 1.{OLDEST_MINOR} or newer");
    let client = match context.client() {
        Ok(client) => client,
        Err(error) => {
            return Status::fail(
                error.to_string(),
                "no client",
                newer,
                Fix::words("set KUBECONFIG to a kubeconfig, or run in a pod with a service account"),
            );
        }
    };
    let version = match client.apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            return Status::fail(
                format!("the API server does not answer: {}", with_causes(&error)),
                "no answer",
                newer,
                Fix::words("check the server address of the kubeconfig, and that this machine reaches it"),
            );
        }
    };
    // Managed clusters write such as "27+".
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    match (version.major.parse::<u32>(), digits.parse::<u32>()) {
        (Ok(major), Ok(minor)) if (major, minor) >= (1, OLDEST_MINOR) => Status::pass(version.git_version),
        _ => Status::fail(
            "the API server is too old",
            version.git_version,
            newer,
            Fix::words(format!("upgrade the cluster to Kubernetes 1.{OLDEST_MINOR} or newer")),
        ),
    }
}

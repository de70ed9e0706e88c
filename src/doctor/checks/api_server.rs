//! `GET /version` becomes the claim that the API server answers and is new enough.

use super::super::check::Status;
use kube::Client;

/// CEL rules in CustomResourceDefinitions are on by default since 1.25 and their message expressions since 1.27.
const OLDEST_MINOR: u32 = 27;

pub async fn check(client: &Client) -> Status {
    let version = match client.apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            return Status::Fail {
                problem: format!("the API server does not answer: {error}"),
                fix: "check the server address of the kubeconfig, and that this machine reaches it".to_owned(),
            };
        }
    };
    // Managed clusters write such as "27+".
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    match (version.major.parse::<u32>(), digits.parse::<u32>()) {
        (Ok(major), Ok(minor)) if (major, minor) >= (1, OLDEST_MINOR) => Status::Pass {
            evidence: version.git_version,
        },
        _ => Status::Fail {
            problem: format!("the API server is {}", version.git_version),
            fix: format!("upgrade the cluster to Kubernetes 1.{OLDEST_MINOR} or newer"),
        },
    }
}

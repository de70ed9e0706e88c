//! Claims about an installation become findings: what holds, what does not, and how to mend it.
//!
//! `check` is the vocabulary, `catalog` the list of claims with their stable codes, `checks` the proofs, `report` the
//! text for people. A check that needs a failed one is skipped with the reason. Nothing here leaves the cluster.
//! `images` lists what to copy into a closed network and `recording` looks into recorded sessions, both away from any cluster.

pub mod catalog;
mod check;
mod checks;
pub mod fetch;
pub mod images;
pub mod recording;
pub mod report;
pub mod values;

pub use check::{Claim, Finding, Severity, Status};
pub use checks::configuration::Configuration;

use crate::cluster::client::ConnectError;
use kube::Client;

/// Whose configuration and permissions are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Operator,
    Gateway,
}

/// Runs every check, in the order of the catalog.
pub async fn run(configuration: &Configuration, client: Result<Client, ConnectError>) -> Vec<Finding> {
    let mut findings = vec![catalog::CONFIGURATION.finding(configuration.status())];
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            findings.push(catalog::API_SERVER.finding(Status::Fail {
                problem: error.to_string(),
                fix: "set KUBECONFIG to a kubeconfig, or run in a pod with a service account".to_owned(),
            }));
            findings.extend(skipped("the API server can't be asked"));
            return findings;
        }
    };
    let version = checks::api_server::check(&client).await;
    let reachable = !matches!(version, Status::Fail { .. });
    findings.push(catalog::API_SERVER.finding(version));
    if reachable {
        findings.push(catalog::CRD.finding(checks::crd::check(&client).await));
        findings.push(catalog::PERMISSIONS.finding(checks::permissions::check(&client, configuration).await));
    } else {
        findings.extend(skipped("the API server does not answer as it should"));
    }
    findings
}

fn skipped(why: &str) -> [Finding; 2] {
    [catalog::CRD, catalog::PERMISSIONS].map(|claim| claim.finding(Status::Skip { why: why.to_owned() }))
}

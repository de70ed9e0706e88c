//! The settings of a role become the claim that they are complete, by the very reader that the role itself uses.

use super::super::Role;
use super::super::check::Status;
use crate::config::{GatewayConfig, OperatorConfig, Problems, Source};

/// What the checks need to know of the configuration.
pub struct Configuration {
    pub role: Role,
    /// The namespace of the Workspaces.
    pub namespace: String,
    /// The role's own namespace.
    pub pod_namespace: String,
    problems: Option<Problems>,
}

impl Configuration {
    /// Reads the settings of `role`. The namespaces fall back to their defaults when the rest is not valid.
    pub fn of(role: Role, source: &Source) -> Self {
        let read = match role {
            Role::Operator => OperatorConfig::read(source).map(|config| (config.namespace, config.pod_namespace)),
            Role::Gateway => GatewayConfig::read(source).map(|config| (config.namespace, config.pod_namespace)),
        };
        let (namespaces, problems) = match read {
            Ok(namespaces) => (namespaces, None),
            Err(problems) => (
                ("workspaces".to_owned(), "workspace-operator-system".to_owned()),
                Some(problems),
            ),
        };
        Self {
            role,
            namespace: namespaces.0,
            pod_namespace: namespaces.1,
            problems,
        }
    }

    pub fn status(&self) -> Status {
        match &self.problems {
            None => Status::Pass {
                evidence: format!("Workspaces are in namespace {}", self.namespace),
            },
            Some(problems) => Status::Fail {
                problem: problems.to_string(),
                fix: "correct each setting as said above; the chart sets them all from its values".to_owned(),
            },
        }
    }
}

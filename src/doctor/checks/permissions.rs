//! `SelfSubjectAccessReview`s become the claim that this identity may do what its role needs.

use super::super::Role;
use super::super::check::Status;
use super::configuration::Configuration;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

/// Which namespace a right is needed in.
#[derive(Clone, Copy)]
enum Where {
    Workspaces,
    Own,
}

/// One right: where, API group, resource with its subresource, verbs.
type Need = (Where, &'static str, &'static str, &'static [&'static str]);

const OPERATOR: &[Need] = &[
    (
        Where::Workspaces,
        "workspace.devplane.io",
        "workspaces",
        &["list", "patch", "watch"],
    ),
    (
        Where::Workspaces,
        "workspace.devplane.io",
        "workspaces/status",
        &["patch"],
    ),
    (
        Where::Workspaces,
        "",
        "pods",
        &["create", "delete", "get", "list", "watch"],
    ),
    (
        Where::Workspaces,
        "",
        "persistentvolumeclaims",
        &["create", "get", "list", "patch", "watch"],
    ),
    (
        Where::Workspaces,
        "",
        "services",
        &["create", "get", "list", "patch", "watch"],
    ),
    (
        Where::Workspaces,
        "",
        "serviceaccounts",
        &["create", "get", "list", "patch", "watch"],
    ),
    (
        Where::Workspaces,
        "rbac.authorization.k8s.io",
        "roles",
        &["create", "get", "list", "patch", "watch"],
    ),
    (
        Where::Workspaces,
        "rbac.authorization.k8s.io",
        "rolebindings",
        &["create", "get", "list", "patch", "watch"],
    ),
    (
        Where::Workspaces,
        "networking.k8s.io",
        "networkpolicies",
        &["create", "get", "list", "patch", "watch"],
    ),
    (Where::Workspaces, "events.k8s.io", "events", &["create", "patch"]),
    (Where::Own, "coordination.k8s.io", "leases", &["create"]),
];

const GATEWAY: &[Need] = &[
    (
        Where::Workspaces,
        "workspace.devplane.io",
        "workspaces",
        &["create", "get", "list", "patch", "watch"],
    ),
    (
        Where::Workspaces,
        "workspace.devplane.io",
        "workspaces/status",
        &["patch"],
    ),
    (Where::Own, "", "secrets", &["create"]),
];

/// Questions that are under way at once.
const CONCURRENT: usize = 8;

pub async fn check(client: &Client, configuration: &Configuration) -> Status {
    let needs = match configuration.role {
        Role::Operator => OPERATOR,
        Role::Gateway => GATEWAY,
    };
    let questions = needs.iter().flat_map(|&(place, group, resource, verbs)| {
        let namespace = match place {
            Where::Workspaces => &configuration.namespace,
            Where::Own => &configuration.pod_namespace,
        };
        verbs
            .iter()
            .map(move |verb| (namespace.as_str(), group, resource, *verb))
    });
    let total = needs.iter().map(|need| need.3.len()).sum::<usize>();
    let answers: Vec<_> = stream::iter(questions)
        .map(|question| async move { (question, allowed(client, question).await) })
        .buffered(CONCURRENT)
        .collect()
        .await;
    let mut missing = Vec::new();
    for ((namespace, group, resource, verb), answer) in answers {
        match answer {
            Ok(true) => {}
            Ok(false) => missing.push(format!(
                "{verb} {resource}{}{group} in {namespace}",
                if group.is_empty() { "" } else { "." }
            )),
            Err(error) => {
                return Status::Fail {
                    problem: format!("can't ask for permissions: {error}"),
                    fix: "check that the API server answers; every identity may ask for its own permissions".to_owned(),
                };
            }
        }
    }
    if missing.is_empty() {
        return Status::Pass {
            evidence: format!("all {total} rights are there"),
        };
    }
    Status::Fail {
        problem: format!("not allowed: {}", missing.join(", ")),
        fix: "install the chart's Roles: helm upgrade with rights to make Roles, or ask an administrator to".to_owned(),
    }
}

async fn allowed(
    client: &Client,
    (namespace, group, resource, verb): (&str, &str, &str, &str),
) -> Result<bool, kube::Error> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

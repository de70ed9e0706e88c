//! DP03: rights of who installs, and of the service accounts of operator and gateway.

use super::super::access::{Right, Subject, missing};
use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::installation::Role;
use super::super::reading::{Read, judged};
use super::super::rights::{self, Extent};
use crate::api::egress::PolicyBackend;
use crate::causes::with_causes;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use std::collections::BTreeSet;
use std::sync::Arc;

pub const CHECKS: &[Check] = &[
    INSTALL.check(|context| Box::pin(async move { judged(install(&context).await) })),
    OPERATOR.check(|context| Box::pin(async move { judged(account(&context, Role::Operator).await) })),
    GATEWAY.check(|context| Box::pin(async move { judged(account(&context, Role::Gateway).await) })),
];

const INSTALL: Claim = Claim::error("DP0301", "this identity may install the chart")
    .needs(&["DP0201"])
    .why("`helm install` ends halfway otherwise.")
    .docs(
        "For each kind of object that the chart makes with these values, `create`, `get` and `patch` are asked for, and what Helm needs for its own \
         record. Who makes Roles must have what they give, or the right to `escalate`.",
    );

const OPERATOR: Claim = Claim::error("DP0302", "the operator's service account may do what the operator does")
    .needs(&["DP0201"])
    .why("What the operator is refused it can't do: workspaces do not start.")
    .docs("Every right of the chart's Roles is asked for, by SubjectAccessReviews, once the service account is there.");

const GATEWAY: Claim = Claim::error("DP0303", "the gateway's service account may do what the gateway does")
    .needs(&["DP0201"])
    .why("What the gateway is refused it can't do: users can't sign in, or get no workspace.")
    .docs("Every right of the chart's Roles is asked for, by SubjectAccessReviews, once the service account is there.");

async fn install(context: &Arc<Context>) -> Read<Status> {
    let installation = &context.installation;
    let Some(values) = &installation.values else {
        return Ok(Status::skip("who installs gives --values, a role does not install"));
    };
    let client = context.client().map_err(|error| Status::skip(error.to_string()))?;
    let mut lacks = asked(
        client,
        &Subject::Caller,
        rights::to_install(values, &installation.namespace),
    )
    .await?;
    // An identity inside the cluster, such as that of `helm test`, is not the one that installed.
    let given: Vec<Right> = [Role::Operator, Role::Gateway]
        .into_iter()
        .flat_map(|role| of(context, role))
        .collect();
    if lacks.is_empty() && !asked(client, &Subject::Caller, given.clone()).await?.is_empty() {
        let namespaces: BTreeSet<_> = given.iter().map(|right| right.namespace.clone()).collect();
        let escalate = namespaces.into_iter().map(|namespace| Right {
            namespace: namespace.clone(),
            ..Right::anywhere(
                "rbac.authorization.k8s.io",
                if namespace.is_some() { "roles" } else { "clusterroles" },
                "escalate",
            )
        });
        lacks = asked(client, &Subject::Caller, escalate.collect()).await?;
    }
    if lacks.is_empty() {
        return Ok(Status::pass("every kind of object that the chart makes may be made"));
    }
    Ok(Status::fail(
        format!("not allowed: {}", told(&lacks)),
        format!("{} rights are missing", lacks.len()),
        "the right to make each object of the chart",
        Fix::words("install as somebody who may, or have an administrator of the cluster give you these rights"),
    ))
}

fn told(rights: &[Right]) -> String {
    const SHOWN: usize = 12;
    let mut text = rights
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if rights.len() > SHOWN {
        text.push_str(&format!(", and {} more", rights.len() - SHOWN));
    }
    text
}

/// What the chart's Roles give a role in this installation.
fn of(context: &Context, role: Role) -> Vec<Right> {
    let installation = &context.installation;
    let operator = installation.operator();
    let extent = Extent {
        terminal_tls: operator.is_none_or(|config| config.terminal_tls),
        finds_ranges: operator.is_some_and(|config| config.cluster_cidrs.is_empty()),
        cilium: operator.is_some_and(|config| config.workspace.common.policy_backend == PolicyBackend::Cilium),
    };
    rights::of_role(role, &installation.namespace, &installation.workspaces, extent)
}

async fn asked(client: &kube::Client, subject: &Subject, rights: Vec<Right>) -> Read<Vec<Right>> {
    missing(client, subject, rights).await.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 403 => Status::skip(
            "this identity may not ask for the rights of others (create subjectaccessreviews.authorization.k8s.io)",
        ),
        error => Status::fail(
            "permissions can't be asked for",
            with_causes(&error),
            "an answer of the API server",
            Fix::words("check that the API server answers"),
        ),
    })
}

async fn account(context: &Arc<Context>, role: Role) -> Read<Status> {
    let installation = &context.installation;
    let (name, is_installed) = match role {
        Role::Operator => ("workspace-operator", true),
        Role::Gateway => (
            "workspace-gateway",
            installation
                .values
                .as_ref()
                .is_none_or(|values| values.is_true("gateway.enabled")),
        ),
    };
    if !is_installed {
        return Ok(Status::skip("gateway.enabled is false"));
    }
    let namespace = &installation.namespace;
    if context.find::<ServiceAccount>(namespace, name).await?.is_none() {
        return Ok(Status::skip(format!(
            "there is no service account {name} in {namespace} yet"
        )));
    }
    if context
        .find_global::<Namespace>(&installation.workspaces)
        .await?
        .is_none()
    {
        return Ok(Status::skip(format!(
            "there is no namespace {} to have rights in",
            installation.workspaces
        )));
    }
    let client = context.client().map_err(|error| Status::skip(error.to_string()))?;
    let subject = Subject::ServiceAccount {
        namespace: namespace.clone(),
        name: name.to_owned(),
    };
    let wanted = of(context, role);
    let total = wanted.len();
    let lacks = asked(client, &subject, wanted).await?;
    if lacks.is_empty() {
        return Ok(Status::pass(format!("all {total} rights are there")));
    }
    Ok(Status::fail(
        format!("{name} in {namespace} is not allowed: {}", told(&lacks)),
        format!("{} of {total} rights are missing", lacks.len()),
        "the rights of the chart's Roles",
        binding_fix(context, name, &lacks).await,
    ))
}

/// A binding that is gone can be made again by itself; a Role can't.
async fn binding_fix(context: &Arc<Context>, name: &str, lacks: &[Right]) -> Fix {
    let installation = &context.installation;
    let places: BTreeSet<_> = lacks.iter().map(|right| right.namespace.clone()).collect();
    let mut commands = Vec::new();
    for place in places {
        let role = match &place {
            Some(place) => context.find::<k8s_openapi::api::rbac::v1::Role>(place, name).await,
            None => Ok(None),
        };
        let (Some(place), Ok(Some(_))) = (place, role) else {
            return whole();
        };
        // With a binding in its place, it is the Role that is not the chart's.
        if !matches!(context.find::<RoleBinding>(&place, name).await, Ok(None)) {
            return whole();
        }
        commands.push(format!(
            "kubectl create rolebinding {name} -n {place} --role={name} --serviceaccount={}:{name}",
            installation.namespace
        ));
    }
    Fix::command(commands.join("\n"))
}

fn whole() -> Fix {
    Fix::words(
        "make the chart's Roles again: helm upgrade --install with the same values, as somebody who may make Roles",
    )
}

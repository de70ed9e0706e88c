//! DP03: rights of who installs, and of the service accounts of operator and gateway.

use super::super::access::{self, Right, Subject, missing};
use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::installation::{Installation, Role};
use super::super::reading::{Read, judged};
use super::super::rights::install::{Presence, Standing, to_install};
use super::super::rights::{self, manifest};
use super::super::values::Values;
use super::cluster::namespaces::{ENFORCE, RESTRICTED};
use crate::causes::with_causes;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Helm writes it on what a release has made.
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";

pub const CHECKS: &[Check] = &[
    INSTALL.check(|context| Box::pin(async move { judged(install(&context).await) })),
    OPERATOR.check(|context| Box::pin(async move { judged(account(&context, Role::Operator).await) })),
    GATEWAY.check(|context| Box::pin(async move { judged(account(&context, Role::Gateway).await) })),
];

const INSTALL: Claim = Claim::error("DP0301", "this identity may install the chart")
    .needs(&["DP0201"])
    .why("`helm install` ends halfway otherwise.")
    .docs(
        "For each kind of object that the chart makes with these values, the rights are asked for with which `helm install --wait`, `helm upgrade`, \
         `helm test` and `helm uninstall` work, and those on the Secrets in which Helm keeps its record. Who makes Roles must have what they \
         give, or the rights to `escalate` and `bind`. `extraObjects` are not looked at.",
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
    let namespace = &installation.namespace;
    let standing = standing(context).await?;
    let wanted = to_install(values, namespace, standing);
    let given = rights::given(installation, values);
    let total = wanted.len() + given.len();
    let mut lacks = asked(client, &Subject::Caller, wanted).await?;
    lacks.extend(not_to_be_given(client, &given).await?);
    if lacks.is_empty() {
        let more = match values.get("extraObjects").as_array() {
            Some(extra) if !extra.is_empty() => "; extraObjects are not looked at",
            _ => "",
        };
        return Ok(Status::pass(format!("all {total} rights are there{more}")));
    }
    Ok(Status::fail(
        format!("not allowed: {}", told(&lacks)),
        format!("{} of {total} rights are missing", lacks.len()),
        "what helm needs to install, upgrade, test and remove this chart",
        match access::caller(client).await {
            Some(user) => Fix::command(granting(values, namespace, standing, given, &user)),
            None => {
                Fix::words("install as somebody who may, or have an administrator of the cluster give you these rights")
            }
        },
    ))
}

async fn standing(context: &Arc<Context>) -> Read<Standing> {
    let Installation {
        namespace, workspaces, ..
    } = &context.installation;
    Ok(Standing {
        own: presence(context, namespace).await?,
        workspaces: presence(context, workspaces).await?,
    })
}

async fn presence(context: &Arc<Context>, name: &str) -> Read<Presence> {
    match context.find_global::<Namespace>(name).await {
        Err(Status::Skip { .. }) => Ok(Presence::Hidden),
        Err(status) => Err(status),
        Ok(None) => Ok(Presence::Missing),
        Ok(Some(found)) if found.annotations().get(RELEASE_NAMESPACE) == Some(&context.installation.namespace) => {
            Ok(Presence::OfRelease)
        }
        Ok(Some(_)) => Ok(Presence::OfOthers),
    }
}

/// Those of `given` that the caller does not have, where they may not give what they do not have either.
async fn not_to_be_given(client: &kube::Client, given: &BTreeSet<Right>) -> Read<Vec<Right>> {
    let lacks = asked(client, &Subject::Caller, given.iter().cloned().collect()).await?;
    let namespaces: BTreeSet<_> = lacks.iter().map(|right| right.namespace.clone()).collect();
    let mut bounded = BTreeSet::new();
    for namespace in namespaces {
        let unbounded = rights::unbounded(namespace.as_deref()).to_vec();
        if !asked(client, &Subject::Caller, unbounded).await?.is_empty() {
            bounded.insert(namespace);
        }
    }
    Ok(lacks
        .into_iter()
        .filter(|right| bounded.contains(&right.namespace))
        .collect())
}

/// What an administrator runs to let `user` install: namespaces that are missing, and Roles in them.
fn granting(values: &Values, namespace: &str, standing: Standing, given: BTreeSet<Right>, user: &str) -> String {
    let workspaces = values.text("gateway.workspaceNamespace");
    let level = values.text("workspace.namespacePodSecurity");
    let mut text = "# as an administrator of the cluster\n".to_owned();
    let mut made = |name: &str, presence: Presence, level: &str| {
        if matches!(presence, Presence::Missing | Presence::Hidden) {
            text.push_str(&format!(
                "kubectl get namespace {name} >/dev/null 2>&1 || {{ kubectl create namespace {name} && kubectl label namespace {name} {ENFORCE}={level}; }}\n"
            ));
            return Presence::OfOthers;
        }
        presence
    };
    let then = Standing {
        own: made(namespace, standing.own, RESTRICTED),
        workspaces: made(&workspaces, standing.workspaces, &level),
    };
    let mut all = given;
    all.extend(to_install(values, namespace, then));
    format!("{text}kubectl apply -f - <<'END'\n{}END", manifest::roles(&all, user))
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
    let wanted = rights::of_installation(installation, role);
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

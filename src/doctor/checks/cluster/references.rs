//! Names in the settings become the claims that what they name is there, and is of the right kind.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::outside::images;
use super::super::super::reading::{Read, judged};
use super::super::super::values::Values;
use super::super::super::values::settings::OIDC;
use super::namespaces::made_first;
use crate::api::pod_settings::{MountSource, PodSettings};
use crate::registry::{Credentials, key_of};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const RUNTIME_CLASS: Check = Claim::error("DP0410", "the runtime classes of workspaces are there")
    .needs(&["DP0101", "DP0201"])
    .why("The API server refuses pods of a runtime class that it does not know.")
    .docs("`workspace.pod.runtimeClassName`, and that of each class in `workspace.classes`.")
    .check(|context| Box::pin(async move { judged(runtime_classes(&context).await) }));

pub const PRIORITY_CLASSES: Check = Claim::error("DP0411", "the priority classes are there")
    .needs(&["DP0101", "DP0201"])
    .why("The API server refuses pods of a priority class that it does not know.")
    .docs("`operator.priorityClassName`, `gateway.priorityClassName`, `workspace.pod.priorityClassName`, and those of `workspace.classes`.")
    .check(|context| Box::pin(async move { judged(priority_classes(&context).await) }));

pub const PULL_SECRETS: Check = Claim::error("DP0412", "the pull secrets are there")
    .needs(&["DP0101", "DP0401"])
    .why("Nodes pull without credentials then, and the registry refuses them: `ImagePullBackOff`.")
    .docs(
        "`imagePullSecrets` in the release's namespace and `workspace.pod.imagePullSecrets` in the workspaces'. Each must be of the type \
         `kubernetes.io/dockerconfigjson` (or `kubernetes.io/dockercfg`) and hold logins that a kubelet can read. Whether a registry takes them, \
         DP0506 says.",
    )
    .check(|context| Box::pin(async move { judged(pull_secrets(&context).await) }));

pub const AUTHORITIES: Check = Claim::error("DP0413", "the ConfigMaps with certificate authorities are there")
    .needs(&["DP0101", "DP0401"])
    .why("A pod that mounts a ConfigMap that is missing does not start.")
    .docs(
        "`customCA.configMap` in both namespaces, `gateway.tls.customCABundle` in the release's, `workspace.defaultCABundle` in the workspaces'. \
         What the certificates are worth, DP0501 says.",
    )
    .check(|context| Box::pin(async move { judged(authorities(&context).await) }));

pub const SECRETS: Check = Claim::error("DP0414", "the Secrets, ConfigMaps and volumes that the values name are there")
    .needs(&["DP0101", "DP0401"])
    .why("A pod that mounts something that is missing does not start.")
    .docs(
        "`gateway.oidc.existingSecret` with its four keys, `gateway.tls.secretName`, the key and the volume of `gateway.sessionRecording`, and \
         `workspace.pod.mounts`.",
    )
    .check(|context| Box::pin(async move { judged(secrets(&context).await) }));

/// The pod settings of all workspaces and of each class.
fn pods(context: &Context) -> Read<Vec<&PodSettings>> {
    let operator = context.installation.operator();
    let workspace = &operator
        .ok_or_else(|| Status::skip("the operator's settings are not given"))?
        .workspace;
    let of_classes = workspace.classes.iter().map(|class| &class.defaults.pod);
    Ok(std::iter::once(&workspace.common.pod).chain(of_classes).collect())
}

fn values(context: &Context) -> Read<&Values> {
    let values = context.installation.values.as_ref();
    values.ok_or_else(|| Status::skip("values alone say it: give --values"))
}

async fn runtime_classes(context: &Arc<Context>) -> Read<Status> {
    let names: BTreeSet<_> = pods(context)?
        .into_iter()
        .filter_map(|pod| pod.runtime_class_name.clone())
        .collect();
    for name in &names {
        if context.find_global::<RuntimeClass>(name).await?.is_none() {
            return Ok(Status::fail(
                format!("there is no RuntimeClass {name}, which workspace.pod or a class of workspaces names"),
                "none",
                format!("the RuntimeClass {name}"),
                Fix::words(format!(
                    "install the runtime on the nodes and make RuntimeClass {name} with its handler, or leave runtimeClassName out"
                )),
            ));
        }
    }
    Ok(Status::pass(listed(&names)))
}

fn listed(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none is named".to_owned();
    }
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

async fn priority_classes(context: &Arc<Context>) -> Read<Status> {
    let mut names: BTreeSet<_> = pods(context)?
        .into_iter()
        .filter_map(|pod| pod.priority_class_name.clone())
        .collect();
    if let Some(values) = &context.installation.values {
        let roles = ["operator.priorityClassName", "gateway.priorityClassName"].map(|key| values.text(key));
        names.extend(roles.into_iter().filter(|name| !name.is_empty()));
    }
    for name in &names {
        if context.find_global::<PriorityClass>(name).await?.is_none() {
            return Ok(Status::fail(
                format!("there is no PriorityClass {name}, which the values name"),
                "none",
                format!("the PriorityClass {name}"),
                Fix::command(format!("kubectl create priorityclass {name} --value=1000")),
            ));
        }
    }
    Ok(Status::pass(listed(&names)))
}

async fn pull_secrets(context: &Arc<Context>) -> Read<Status> {
    let installation = &context.installation;
    let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
    if let Some(values) = &installation.values {
        let listed = values.get("imagePullSecrets").as_array().map_or(&[][..], Vec::as_slice);
        let names = listed.iter().filter_map(|entry| entry["name"].as_str());
        wanted.extend(names.map(|name| (installation.namespace.clone(), name.to_owned())));
    }
    let of_pods = pods(context)?.into_iter().flat_map(|pod| &pod.image_pull_secrets);
    wanted.extend(of_pods.map(|name| (installation.workspaces.clone(), name.clone())));
    for (namespace, name) in &wanted {
        let found: Option<Secret> = context.find(namespace, name).await?;
        let told = match &found {
            None => "none".to_owned(),
            Some(secret) => match images::add(&mut Credentials::default(), name, secret) {
                Ok(()) => continue,
                Err(error) => error.to_string(),
            },
        };
        return Ok(Status::fail(
            format!("there is no pull secret {name} in namespace {namespace} that nodes can use"),
            told,
            "a Secret of type kubernetes.io/dockerconfigjson",
            pull_fix(context, namespace, name, found.is_some())
                .await
                .after(&made_first(context, namespace).await),
        ));
    }
    let names = wanted
        .into_iter()
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect();
    Ok(Status::pass(listed(&names)))
}

/// A copy of the one in the other namespace, where there is one.
async fn pull_fix(context: &Arc<Context>, namespace: &str, name: &str, is_there: bool) -> Fix {
    let installation = &context.installation;
    let other = if namespace == installation.namespace {
        &installation.workspaces
    } else {
        &installation.namespace
    };
    let found: Option<Secret> = context.find(other, name).await.unwrap_or_default();
    let usable = found.filter(|secret| images::add(&mut Credentials::default(), name, secret).is_ok());
    let kind = usable.and_then(|secret| secret.type_);
    if let Some((kind, file)) = kind.and_then(|kind| key_of(&kind).map(|file| (kind, file))) {
        let escaped = file.replacen('.', "\\.", 1);
        let replace = if is_there {
            format!("kubectl delete secret {name} -n {namespace}\n")
        } else {
            String::new()
        };
        return Fix::command(format!(
            "{replace}kubectl get secret {name} -n {other} -o 'jsonpath={{.data.{escaped}}}' | base64 -d | \
             kubectl create secret generic {name} -n {namespace} --type={kind} --from-file={file}=/dev/stdin"
        ));
    }
    Fix::words(format!(
        "kubectl create secret docker-registry {name} -n {namespace} --docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD"
    ))
}

async fn authorities(context: &Arc<Context>) -> Read<Status> {
    let installation = &context.installation;
    let mut wanted: BTreeMap<(String, String), Option<String>> = BTreeMap::new();
    if let Some(values) = &installation.values
        && values.is_true("gateway.enabled")
        && let Some((name, key)) = values.gateway_authorities()
    {
        wanted.insert((installation.namespace.clone(), name), Some(key));
    }
    let of_workspaces = installation
        .operator()
        .and_then(|config| config.workspace.common.ca_bundle_config_map.clone());
    if let Some(name) = of_workspaces {
        wanted.insert((installation.workspaces.clone(), name), None);
    }
    if let Some(values) = &installation.values
        && values.makes_authorities()
    {
        wanted.retain(|(_, name), _| name != "devplane-custom-ca");
    }
    for ((namespace, name), key) in &wanted {
        let found: Option<ConfigMap> = context.find(namespace, name).await?;
        let keys: Vec<String> = found
            .iter()
            .flat_map(|map| map.data.iter().flatten())
            .map(|(key, _)| key.clone())
            .collect();
        let is_there = match key {
            Some(key) => keys.contains(key),
            None => !keys.is_empty(),
        };
        if is_there {
            continue;
        }
        let key = key.as_deref().unwrap_or("ca.crt");
        return Ok(Status::fail(
            format!("there is no ConfigMap {name} with the key {key} in namespace {namespace}"),
            match found {
                None => "none".to_owned(),
                Some(_) => format!("one with the keys [{}]", keys.join(", ")),
            },
            format!("certificates (PEM) under {key}"),
            authorities_fix(context, namespace, name, key, found.is_some())
                .await
                .after(&made_first(context, namespace).await),
        ));
    }
    let names = wanted
        .into_keys()
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect();
    Ok(Status::pass(listed(&names)))
}

/// A copy of the one in the other namespace, where there is one.
async fn authorities_fix(context: &Arc<Context>, namespace: &str, name: &str, key: &str, is_there: bool) -> Fix {
    let installation = &context.installation;
    let other = if namespace == installation.namespace {
        &installation.workspaces
    } else {
        &installation.namespace
    };
    let found: Option<ConfigMap> = context.find(other, name).await.unwrap_or_default();
    let source = found.and_then(|map| map.data?.into_keys().next());
    if is_there {
        return Fix::words(format!(
            "put the authorities' certificates in PEM form under {key} into ConfigMap {name} of namespace {namespace}"
        ));
    }
    match source {
        Some(source) => Fix::command(format!(
            "kubectl create configmap {name} -n {namespace} --from-literal={key}=\"$(kubectl get configmap {name} -n {other} -o 'jsonpath={{.data.{}}}')\"",
            source.replace('.', "\\.")
        )),
        None => Fix::command(format!(
            "# the file ca.crt has the authorities' certificates in PEM form\nkubectl create configmap {name} -n {namespace} --from-file={key}=ca.crt"
        )),
    }
}

/// A named object and the keys that it must have.
struct Named {
    namespace: String,
    kind: Kind,
    name: String,
    keys: Vec<String>,
    /// The key of the values that names it.
    by: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    ConfigMap,
    Volume,
}

async fn secrets(context: &Arc<Context>) -> Read<Status> {
    let wanted = named(context)?;
    for Named {
        namespace,
        kind,
        name,
        keys,
        by,
    } in &wanted
    {
        let (word, found) = match kind {
            Kind::Secret => {
                let found: Option<Secret> = context.find(namespace, name).await?;
                (
                    "Secret",
                    found.map(|found| found.data.unwrap_or_default().into_keys().collect::<Vec<_>>()),
                )
            }
            Kind::ConfigMap => {
                let found: Option<ConfigMap> = context.find(namespace, name).await?;
                (
                    "ConfigMap",
                    found.map(|found| found.data.unwrap_or_default().into_keys().collect()),
                )
            }
            Kind::Volume => {
                let found: Option<PersistentVolumeClaim> = context.find(namespace, name).await?;
                ("PersistentVolumeClaim", found.map(|_| Vec::new()))
            }
        };
        let Some(found) = found else {
            return Ok(Status::fail(
                format!("there is no {word} {name} in namespace {namespace}, which {by} names"),
                "none",
                format!("{word} {name}{}", with_keys(keys)),
                Fix::words(format!("make it in {namespace}, or change {by}")),
            ));
        };
        let missing: Vec<_> = keys.iter().filter(|key| !found.contains(key)).cloned().collect();
        if !missing.is_empty() {
            return Ok(Status::fail(
                format!(
                    "the {word} {name} in namespace {namespace} lacks {}",
                    missing.join(", ")
                ),
                format!("the keys [{}]", found.join(", ")),
                format!("the keys [{}]", keys.join(", ")),
                Fix::words(format!("add them, as {by} needs them")),
            ));
        }
    }
    let names = wanted
        .iter()
        .map(|one| format!("{}/{}", one.namespace, one.name))
        .collect();
    Ok(Status::pass(listed(&names)))
}

fn with_keys(keys: &[String]) -> String {
    if keys.is_empty() {
        String::new()
    } else {
        format!(" with the keys [{}]", keys.join(", "))
    }
}

fn named(context: &Context) -> Read<Vec<Named>> {
    let values = values(context)?;
    let namespace = &context.installation.namespace;
    let mut wanted = Vec::new();
    let mut add = |kind, by: &'static str, keys: Vec<String>| {
        let name = values.text(by);
        if !name.is_empty() {
            wanted.push(Named {
                namespace: namespace.clone(),
                kind,
                name,
                keys,
                by,
            });
        }
    };
    if values.is_true("gateway.enabled") {
        let keys = OIDC.map(|(_, key, _)| key.to_owned()).into();
        add(Kind::Secret, "gateway.oidc.existingSecret", keys);
        add(
            Kind::Secret,
            "gateway.tls.secretName",
            vec!["tls.crt".to_owned(), "tls.key".to_owned()],
        );
        if super::super::super::values::settings::are_recorded(values) {
            let key = values.text("gateway.sessionRecording.signingKey.key");
            add(
                Kind::Secret,
                "gateway.sessionRecording.signingKey.secretName",
                vec![key],
            );
            add(Kind::Volume, "gateway.sessionRecording.volume.existingClaim", vec![]);
        }
    }
    for mount in pods(context)?.into_iter().flat_map(|pod| &pod.mounts) {
        let (kind, name) = match &mount.source {
            MountSource::ConfigMap(name) => (Kind::ConfigMap, name),
            MountSource::Secret(name) => (Kind::Secret, name),
        };
        wanted.push(Named {
            namespace: context.installation.workspaces.clone(),
            kind,
            name: name.clone(),
            keys: vec![],
            by: "workspace.pod.mounts",
        });
    }
    Ok(wanted)
}

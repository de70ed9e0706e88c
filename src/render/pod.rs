//! The pod: one container that runs the terminal, under the `restricted` Pod Security Standard.

use super::template_hash::template_hash;
use super::valid::{Platform, ValidWorkspace};
use crate::api::pod_settings::{MountSource, PodSettings, Proxy};
use crate::labels;
use crate::names::TERMINAL_PORT;
use crate::names::{AccountName, PvcName, TerminalSecretName};
use crate::units::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// The name of the one container.
pub const CONTAINER: &str = "workspace";

const PORT_NAME: &str = "ttyd";
const HOME: &str = "/workspace";
const CA_DIRECTORY: &str = "/etc/ssl/certs/custom";
/// Where the certificate of the terminal is, as the image's entrypoint is told.
const TERMINAL_DIRECTORY: &str = "/etc/devplane/terminal";
/// Between SIGTERM and SIGKILL. The image's entrypoint saves the screens first, and then gives programs 20 seconds of it.
const GRACE_SECONDS: i64 = 30;
/// The user and group of the workspace image.
const UID: i64 = 1000;

pub fn pod(mut metadata: ObjectMeta, workspace: &ValidWorkspace, ca_digest: Option<&str>) -> Pod {
    let spec = spec(workspace);
    let PodSettings {
        labels: more_labels,
        annotations,
        ..
    } = &workspace.platform.pod;
    let hash = template_hash(&spec, more_labels, annotations);
    let mut annotations = annotations.clone();
    annotations.insert(labels::TEMPLATE_HASH.to_owned(), hash);
    // The contents are no part of the template, but a pod that has started keeps the certificates that it found.
    let authority = workspace.terminal_authority.clone();
    annotations.extend(authority.map(|authority| (labels::TERMINAL_AUTHORITY.to_owned(), authority)));
    annotations.extend(ca_digest.map(|digest| (labels::CA_BUNDLE_DIGEST.to_owned(), digest.to_owned())));
    metadata.annotations = Some(annotations);
    let own = metadata.labels.unwrap_or_default();
    metadata.labels = Some(more_labels.clone().into_iter().chain(own).collect());
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

fn spec(workspace: &ValidWorkspace) -> PodSpec {
    // Without `..`: a new setting has to be put somewhere.
    let PodSettings {
        image_pull_secrets,
        node_selector,
        tolerations,
        affinity,
        priority_class_name,
        runtime_class_name,
        dns_config,
        labels: _,
        annotations: _,
        env: _,
        proxy: _,
        mounts: _,
        requests: _,
        extended_resources: _,
        automount_service_account_token,
        tmp_size_limit: _,
    } = &workspace.platform.pod;
    let rights = &workspace.platform.rights;
    let secret = |name: &String| LocalObjectReference { name: name.clone() };
    PodSpec {
        image_pull_secrets: some(image_pull_secrets.iter().map(secret).collect()),
        node_selector: (!node_selector.is_empty()).then(|| node_selector.clone()),
        tolerations: some(tolerations.clone()),
        affinity: affinity.clone(),
        priority_class_name: priority_class_name.clone(),
        runtime_class_name: runtime_class_name.clone(),
        dns_config: dns_config.clone(),
        containers: vec![container(workspace)],
        volumes: Some(volumes(workspace)),
        service_account_name: Some(AccountName::of(&workspace.user).to_string()),
        // Rights are of no use without.
        automount_service_account_token: Some(*automount_service_account_token || !rights.is_empty()),
        // Otherwise every Service of every user in the namespace would be told to every pod.
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(UID),
            run_as_group: Some(UID),
            fs_group: Some(UID),
            // Large volumes need not be walked on every start.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        restart_policy: Some("Always".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        ..PodSpec::default()
    }
}

fn container(workspace: &ValidWorkspace) -> Container {
    let limits: BTreeMap<String, Quantity> = [("cpu", &workspace.cpu), ("memory", &workspace.memory)]
        .map(|(name, amount)| (name.to_owned(), amount.clone()))
        .into();
    let mut requests = limits.clone();
    for (name, amount) in &workspace.platform.pod.requests {
        // Never more than the limit, which the API server would refuse.
        if let Ok(amount) = amount.parse::<Quantity>()
            && limits.get(name).is_none_or(|limit| amount < *limit)
        {
            requests.insert(name.clone(), amount);
        }
    }
    // The same in both, as Kubernetes wants it of extended resources: they can't be overcommitted.
    let devices = &workspace.platform.pod.extended_resources;
    let to_api = |amounts: &BTreeMap<String, Quantity>| {
        let amounts = amounts.iter().map(|(name, amount)| (name.clone(), amount.to_api()));
        let devices = devices
            .iter()
            .map(|(name, count)| (name.clone(), ApiQuantity(count.to_string())));
        Some(amounts.chain(devices).collect())
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(workspace.platform.image.clone()),
        image_pull_policy: workspace.platform.image_pull_policy.clone(),
        env: Some(environment(workspace)),
        ports: Some(vec![ContainerPort {
            name: Some(PORT_NAME.to_owned()),
            container_port: TERMINAL_PORT.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(ResourceRequirements {
            requests: to_api(&requests),
            limits: to_api(&limits),
            claims: None,
        }),
        // A user waits for this probe at every start.
        readiness_probe: Some(Probe {
            tcp_socket: Some(TCPSocketAction {
                port: IntOrString::Int(TERMINAL_PORT.into()),
                host: None,
            }),
            period_seconds: Some(2),
            timeout_seconds: Some(2),
            ..Probe::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(workspace)),
        working_dir: Some(HOME.to_owned()),
        ..Container::default()
    }
}

fn environment(workspace: &ValidWorkspace) -> Vec<EnvVar> {
    let Platform {
        pip_index_url,
        pip_trusted_host,
        npm_registry,
        pod,
        ..
    } = &workspace.platform;
    // Plain strings in plain structs: there is nothing in them that JSON can't hold.
    let providers = serde_json::to_string(&workspace.providers).unwrap_or_else(|_| "[]".to_owned());
    let set = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    let mut env = vec![
        set("HOME", HOME),
        set("AI_PROVIDERS_JSON", &providers),
        set("USER_EMAIL", &workspace.email),
        set("USER_ID", workspace.user.as_str()),
    ];
    if workspace.terminal_authority.is_some() {
        env.push(set("DEVPLANE_TERMINAL_TLS", TERMINAL_DIRECTORY));
    }
    if workspace.ca_bundle.is_some() {
        env.push(set("CUSTOM_CA_MOUNTED", "true"));
    }
    for (name, value) in [
        ("PIP_INDEX_URL", pip_index_url),
        ("PIP_TRUSTED_HOST", pip_trusted_host),
        ("npm_config_registry", npm_registry),
    ] {
        env.extend(value.as_ref().map(|value| set(name, value)));
    }
    if let Some(Proxy { http, https, no }) = &pod.proxy {
        // Programs disagree about the case.
        for (upper, lower, value) in [
            ("HTTP_PROXY", "http_proxy", http),
            ("HTTPS_PROXY", "https_proxy", https),
            ("NO_PROXY", "no_proxy", no),
        ] {
            if !value.is_empty() {
                env.extend([set(upper, value), set(lower, value)]);
            }
        }
    }
    env.extend(pod.env.iter().map(|(name, value)| set(name, value)));
    env
}

fn volumes(workspace: &ValidWorkspace) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: "home".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: PvcName::of(&workspace.user).to_string(),
                read_only: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: workspace.platform.pod.tmp_size_limit.clone().map(ApiQuantity),
                medium: None,
            }),
            ..Volume::default()
        },
    ];
    volumes.extend(workspace.terminal_authority.as_ref().map(|_| Volume {
        name: "terminal".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(TerminalSecretName::of(&workspace.user).to_string()),
            // For the pod's group, which is the user's.
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }));
    volumes.extend(workspace.ca_bundle.as_ref().map(|name| Volume {
        name: "custom-ca".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: name.clone(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }));
    let more = workspace.platform.pod.mounts.iter().enumerate();
    volumes.extend(more.map(|(index, mount)| {
        let volume = Volume {
            name: mount_name(index),
            ..Volume::default()
        };
        match &mount.source {
            MountSource::ConfigMap(name) => Volume {
                config_map: Some(ConfigMapVolumeSource {
                    name: name.clone(),
                    ..ConfigMapVolumeSource::default()
                }),
                ..volume
            },
            MountSource::Secret(name) => Volume {
                secret: Some(SecretVolumeSource {
                    secret_name: Some(name.clone()),
                    ..SecretVolumeSource::default()
                }),
                ..volume
            },
        }
    }));
    volumes
}

fn mount_name(index: usize) -> String {
    format!("platform-{index}")
}

/// The list, or nothing where it is empty.
fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

fn mounts(workspace: &ValidWorkspace) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("home", HOME, None), mount("tmp", "/tmp", None)];
    mounts.extend(
        workspace
            .terminal_authority
            .as_ref()
            .map(|_| mount("terminal", TERMINAL_DIRECTORY, Some(true))),
    );
    mounts.extend(
        workspace
            .ca_bundle
            .as_ref()
            .map(|_| mount("custom-ca", CA_DIRECTORY, Some(true))),
    );
    let more = workspace.platform.pod.mounts.iter().enumerate();
    mounts.extend(more.map(|(index, more)| mount(&mount_name(index), &more.path, Some(true))));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_period_is_longer_than_what_the_image_waits() {
        let entrypoint = include_str!("../../deploy/images/workspace/entrypoint.sh");
        let waits = entrypoint.lines().find_map(|line| line.strip_prefix("HANGUP_SECONDS="));
        let waits: i64 = waits.unwrap().parse().unwrap();
        assert!(
            waits + 5 <= GRACE_SECONDS,
            "{waits} s for programs, and the saving of the screens"
        );
    }
}

//! The pod: one container that runs the terminal, under the `restricted` Pod Security Standard.

use super::template_hash::template_hash;
use super::valid::{Platform, ValidWorkspace};
use crate::labels;
use crate::names::TERMINAL_PORT;
use crate::names::{AccountName, PvcName};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
    SecurityContext, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The name of the one container.
pub const CONTAINER: &str = "workspace";

const PORT_NAME: &str = "ttyd";
const HOME: &str = "/workspace";
const CA_DIRECTORY: &str = "/etc/ssl/certs/custom";
/// The user and group of the workspace image.
const UID: i64 = 1000;

pub fn pod(mut metadata: ObjectMeta, workspace: &ValidWorkspace) -> Pod {
    let spec = spec(workspace);
    metadata.annotations = Some([(labels::TEMPLATE_HASH.to_owned(), template_hash(&spec))].into());
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

fn spec(workspace: &ValidWorkspace) -> PodSpec {
    PodSpec {
        containers: vec![container(workspace)],
        volumes: Some(volumes(workspace)),
        service_account_name: Some(AccountName::of(&workspace.user).to_string()),
        // Nothing in a workspace speaks to the API server as itself.
        automount_service_account_token: Some(false),
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
        termination_grace_period_seconds: Some(30),
        ..PodSpec::default()
    }
}

fn container(workspace: &ValidWorkspace) -> Container {
    let amounts = Some(
        [("cpu", &workspace.cpu), ("memory", &workspace.memory)]
            .map(|(k, v)| (k.to_owned(), v.to_api()))
            .into(),
    );
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
            requests: amounts.clone(),
            limits: amounts,
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
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
    ];
    volumes.extend(workspace.ca_bundle.as_ref().map(|name| Volume {
        name: "custom-ca".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: name.clone(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }));
    volumes
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
            .ca_bundle
            .as_ref()
            .map(|_| mount("custom-ca", CA_DIRECTORY, Some(true))),
    );
    mounts
}

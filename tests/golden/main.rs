//! Every object that the operator makes for a Workspace, as YAML in `snapshots/`: a change of a security context, a right or a
//! policy is a diff to review.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use devplane::api::account_right::AccountRight;
use devplane::api::egress::{Dns, EgressNamespace, PolicyBackend};
use devplane::api::pod_settings::PodSettings;
use devplane::api::workspace::{KeepAlive, Provider, ReclaimPolicy, UpdatePolicy};
use devplane::policy::Egress;
use devplane::render::{CanaryPlace, Desired, Platform, ValidWorkspace, canary_policies, desired, endpoint};
use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

fn plain() -> ValidWorkspace {
    ValidWorkspace {
        name: "dev1".into(),
        namespace: "workspaces".into(),
        uid: "6f1c7a52-0000-0000-0000-000000000000".into(),
        user: "dev1-otjrsw5vpwvz7p7b".parse().unwrap(),
        email: "dev1@example.test".into(),
        cpu: "2".parse().unwrap(),
        memory: "4Gi".parse().unwrap(),
        asks_for_storage: true,
        storage: "20Gi".parse().unwrap(),
        providers: vec![Provider {
            name: "local".into(),
            endpoint: "http://llm.ai-system.svc:8000".into(),
            models: vec!["qwen3".into()],
        }],
        egress: Egress {
            dns: Dns::default(),
            namespaces: vec![EgressNamespace::whole("ai-system")],
            ports: [22, 443].map(|port| NonZeroU16::new(port).unwrap()).into(),
            cidrs: ["0.0.0.0/0", "::/0"].map(|range| range.parse().unwrap()).into(),
            fqdns: vec![],
            cluster_cidrs: ["10.244.0.0/16", "10.96.0.0/16"]
                .map(|range| range.parse().unwrap())
                .into(),
        },
        storage_class: None,
        ca_bundle: None,
        idle_timeout: Some(Duration::from_secs(3600)),
        keep_alive: KeepAlive::default(),
        update_policy: UpdatePolicy::default(),
        update_when_idle_for: Duration::from_secs(300),
        reclaim_policy: ReclaimPolicy::default(),
        owner: None,
        limited: vec![],
        suspended: false,
        terminal_authority: Some("0123456789abcdef".to_owned()),
        platform: Platform {
            image: "registry.test/devplane-workspace:1".into(),
            image_pull_policy: None,
            gateway_namespace: "workspace-operator-system".into(),
            policy_backend: PolicyBackend::Kubernetes,
            cluster_domain: "cluster.local".into(),
            pip_index_url: None,
            pip_trusted_host: None,
            npm_registry: None,
            pod: PodSettings::default(),
            rights: BTreeSet::new(),
        },
    }
}

const EVERY_POD_SETTING: &str = r#"{
    "imagePullSecrets": ["registry"], "nodeSelector": {"pool": "dev"}, "tolerations": [{"key": "dev", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]}}},
    "priorityClassName": "workspaces", "runtimeClassName": "gvisor", "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "labels": {"team": "platform"}, "annotations": {"example.test/scrape": "no"}, "env": {"GOPROXY": "https://nexus.test/go"},
    "proxy": {"http": "http://proxy.test:3128", "https": "http://proxy.test:3128", "no": ".svc,.cluster.local"},
    "mounts": [{"path": "/etc/corp", "configMap": "corp"}, {"path": "/etc/keys", "secret": "keys"}],
    "requests": {"cpu": "100m", "memory": "64Gi"}, "extendedResources": {"nvidia.com/gpu": 1}, "tmpSizeLimit": "2Gi", "automountServiceAccountToken": true
}"#;

fn everything() -> ValidWorkspace {
    let plain = plain();
    ValidWorkspace {
        storage_class: Some("fast".into()),
        ca_bundle: Some("corporate-ca".into()),
        platform: Platform {
            image_pull_policy: Some("IfNotPresent".into()),
            cluster_domain: "corp.internal".into(),
            pip_index_url: Some("https://nexus.test/pypi/simple".into()),
            pip_trusted_host: Some("nexus.test".into()),
            npm_registry: Some("https://nexus.test/npm".into()),
            pod: serde_json::from_str(EVERY_POD_SETTING).unwrap(),
            ..plain.platform
        },
        ..plain
    }
}

fn closed() -> ValidWorkspace {
    let plain = plain();
    ValidWorkspace {
        egress: Egress {
            namespaces: vec![],
            cluster_cidrs: [].into(),
            ..plain.egress
        },
        ..plain
    }
}

fn yaml(workspace: &ValidWorkspace) -> String {
    let Desired {
        policies,
        cilium_policy,
        service_account,
        role,
        role_binding,
        service,
        pvc,
        pod,
    } = desired(workspace, None);
    let endpoint = endpoint(workspace);
    let mut text = format!("# endpoint: {endpoint}\n");
    let mut add = |object: serde_json::Value| {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&object).unwrap());
    };
    for policy in policies {
        add(serde_json::to_value(policy).unwrap());
    }
    if let Some(policy) = cilium_policy {
        add(serde_json::to_value(policy).unwrap());
    }
    add(serde_json::to_value(service_account).unwrap());
    add(serde_json::to_value(role).unwrap());
    add(serde_json::to_value(role_binding).unwrap());
    add(serde_json::to_value(service).unwrap());
    add(serde_json::to_value(pvc).unwrap());
    add(serde_json::to_value(pod).unwrap());
    text
}

#[test]
fn a_plain_workspace() {
    insta::assert_snapshot!(yaml(&plain()));
}

#[test]
fn a_workspace_with_every_setting() {
    insta::assert_snapshot!(yaml(&everything()));
}

/// Of a class that gives every right that there is: each on one object of that user, by its name.
#[test]
fn a_workspace_of_a_class_with_rights() {
    let mut workspace = plain();
    // Its name may be another one than its user's.
    workspace.name = "of-dev1".into();
    workspace.platform.rights = [
        AccountRight::ReadWorkspace,
        AccountRight::ReadPod,
        AccountRight::RestartPod,
        AccountRight::ReadVolume,
    ]
    .into();
    let Desired {
        service_account,
        role,
        role_binding,
        pod,
        ..
    } = desired(&workspace, None);
    for rule in role.rules.as_ref().unwrap() {
        let is_one = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| list.len() == 1 && list[0] != "*");
        assert!(
            is_one(&rule.resource_names) && is_one(&rule.resources) && is_one(&rule.api_groups),
            "{rule:?}"
        );
        assert!(
            rule.verbs.iter().all(|verb| ["get", "delete"].contains(&verb.as_str())),
            "{rule:?}"
        );
    }
    assert_eq!(pod.spec.unwrap().automount_service_account_token, Some(true));
    let text = [
        serde_saphyr::to_string(&service_account),
        serde_saphyr::to_string(&role),
        serde_saphyr::to_string(&role_binding),
    ];
    insta::assert_snapshot!(text.map(Result::unwrap).join("---\n"));
}

/// The terminal is reached in plain text: no certificate is mounted, and nothing says so to the image.
#[test]
fn the_pod_of_a_workspace_without_terminal_tls() {
    let workspace = ValidWorkspace {
        terminal_authority: None,
        ..plain()
    };
    insta::assert_snapshot!(serde_saphyr::to_string(&desired(&workspace, None).pod).unwrap());
}

#[test]
fn a_workspace_in_a_cluster_whose_ranges_are_unknown() {
    insta::assert_snapshot!(yaml(&closed()));
}

/// What it may reach outside is said by name, too.
#[test]
fn a_workspace_policed_by_cilium() {
    let mut workspace = plain();
    workspace.platform.policy_backend = PolicyBackend::Cilium;
    workspace.egress.dns.node_local = vec!["169.254.20.10".parse().unwrap()];
    workspace.egress.cidrs = vec!["198.51.100.0/24".parse().unwrap()];
    workspace.egress.fqdns = ["git.corp.example", "*.nexus.corp.example"]
        .map(|name| name.parse().unwrap())
        .into();
    let Desired {
        policies: [_, egress, _],
        cilium_policy,
        ..
    } = desired(&workspace, None);
    let both = [
        serde_json::to_value(cilium_policy).unwrap(),
        serde_json::to_value(egress).unwrap(),
    ];
    insta::assert_snapshot!(
        both.map(|object| serde_saphyr::to_string(&object).unwrap())
            .join("---\n")
    );
}

/// Its claim has no owner, so that it outlives the Workspace, and says whose it is; its pod says which certificates it started with.
#[test]
fn a_workspace_with_a_retained_volume_and_certificates() {
    let workspace = ValidWorkspace {
        reclaim_policy: ReclaimPolicy::Retain,
        owner: Some("owner-1".parse().unwrap()),
        ca_bundle: Some("corporate-ca".into()),
        ..plain()
    };
    let Desired { pvc, pod, .. } = desired(&workspace, Some("0123456789abcdef"));
    let text = [serde_saphyr::to_string(&pvc), serde_saphyr::to_string(&pod.metadata)];
    insta::assert_snapshot!(text.map(Result::unwrap).join("---\n"));
}

/// Its first three policies are those of a workspace that asks for nothing, but for the pods that they select.
#[test]
fn the_policies_of_the_canary() {
    let workspace = plain();
    let place = CanaryPlace {
        namespace: workspace.namespace.clone(),
        account_uid: "0b5c7a52-0000-0000-0000-000000000000".into(),
        egress: workspace.egress.clone(),
        policy_backend: workspace.platform.policy_backend,
        gateway_namespace: workspace.platform.gateway_namespace.clone(),
        operator_namespace: "workspace-operator-system".into(),
    };
    let (policies, _) = canary_policies(&place);
    let mut of_workspace = desired(&workspace, None).policies;
    for (policy, same) in of_workspace.iter_mut().zip(&policies) {
        let (policy, same) = (policy.spec.as_mut().unwrap(), same.spec.as_ref().unwrap());
        assert_ne!(policy.pod_selector, same.pod_selector);
        policy.pod_selector.clone_from(&same.pod_selector);
        assert_eq!(policy, same);
    }
    let mut text = String::new();
    for policy in policies {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&serde_json::to_value(policy).unwrap()).unwrap());
    }
    insta::assert_snapshot!(text);
}

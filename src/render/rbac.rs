//! The identity of a workspace in the cluster: an account without any right, but for those that its class gives it.
//!
//! Every rule names one object of that user. In a shared namespace any other rule on pods, ConfigMaps, Services or events would show one user
//! what another one does; and `list` and `watch` can't be narrowed down to what a Role may name.

use super::valid::ValidWorkspace;
use crate::api::Workspace;
use crate::api::account_right::AccountRight;
use crate::names::{AccountName, PodName, PvcName};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

pub fn service_account(metadata: ObjectMeta) -> ServiceAccount {
    ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

pub fn role(metadata: ObjectMeta, workspace: &ValidWorkspace) -> Role {
    let rules = workspace.platform.rights.iter().map(|right| rule(*right, workspace));
    // Said where there are none, not left out: an apply takes away the rules of 1.1.
    Role {
        metadata,
        rules: Some(rules.collect()),
    }
}

fn rule(right: AccountRight, workspace: &ValidWorkspace) -> PolicyRule {
    let user = &workspace.user;
    match right {
        AccountRight::ReadWorkspace => named::<Workspace>(&workspace.name, "get"),
        AccountRight::ReadPod => named::<Pod>(PodName::of(user).as_str(), "get"),
        AccountRight::RestartPod => named::<Pod>(PodName::of(user).as_str(), "delete"),
        AccountRight::ReadVolume => named::<PersistentVolumeClaim>(PvcName::of(user).as_str(), "get"),
    }
}

/// One verb on one object.
fn named<K: Resource<DynamicType = ()>>(name: &str, verb: &str) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![K::group(&()).into_owned()]),
        resources: Some(vec![K::plural(&()).into_owned()]),
        resource_names: Some(vec![name.to_owned()]),
        verbs: vec![verb.to_owned()],
        non_resource_urls: None,
    }
}

pub fn role_binding(metadata: ObjectMeta, account: &AccountName, namespace: &str) -> RoleBinding {
    RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: account.to_string(),
        },
        subjects: Some(vec![Subject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: account.to_string(),
            namespace: Some(namespace.to_owned()),
        }]),
    }
}

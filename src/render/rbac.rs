//! The identity of a workspace in the cluster: an account without any right.
//!
//! The Role has no rules on purpose. In a shared namespace every rule on pods, ConfigMaps, Services or events would show one
//! user what another one does.

use crate::names::AccountName;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub fn service_account(metadata: ObjectMeta) -> ServiceAccount {
    ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

pub fn role(metadata: ObjectMeta) -> Role {
    // Said, not left out: an apply takes away the rules of 1.1.
    Role {
        metadata,
        rules: Some(vec![]),
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

//! An object becomes a hash of what the operator decides about it, so that what is there and what is desired can be compared
//! without keeping either. Pure.
//!
//! What others add beside that is left alone (labels, annotations, what the API server and admission fill in), but not within
//! it: a rule that someone put into a policy must go, and so must a label that keeps a policy or a Service from selecting the
//! pod.

use crate::labels;
use crate::policy::cilium::CiliumNetworkPolicy;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The first 128 bits of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content([u8; 16]);

impl Content {
    /// In hexadecimal, for people.
    pub fn text(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// Empty lists count as left out: the API server drops them.
    pub fn of(decided: &impl Serialize) -> Self {
        let mut value = serde_json::to_value(decided).unwrap_or_default();
        drop_empty(&mut value);
        let digest = Sha256::digest(value.to_string());
        let mut content = [0; 16];
        content.copy_from_slice(&digest[..16]);
        Self(content)
    }
}

fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_empty);
            fields.retain(|_, value| !value.is_null());
        }
        Value::Array(items) if items.is_empty() => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// A kind of which the operator decides the contents.
pub trait Decided: Resource<DynamicType = ()> + Sized {
    /// What it decides besides the labels and the owner.
    fn decided(&self) -> impl Serialize;

    fn content(&self) -> Content {
        let labels = [labels::APP, labels::USER, labels::MANAGED_BY].map(|key| self.labels().get(key));
        Content::of(&(labels, self.decided()))
    }
}

impl Decided for NetworkPolicy {
    fn decided(&self) -> impl Serialize {
        &self.spec
    }
}

impl Decided for CiliumNetworkPolicy {
    fn decided(&self) -> impl Serialize {
        &self.spec
    }
}

impl Decided for ServiceAccount {
    fn decided(&self) -> impl Serialize {
        self.automount_service_account_token
    }
}

impl Decided for Role {
    fn decided(&self) -> impl Serialize {
        &self.rules
    }
}

impl Decided for RoleBinding {
    fn decided(&self) -> impl Serialize {
        (&self.role_ref, &self.subjects)
    }
}

impl Decided for Service {
    fn decided(&self) -> impl Serialize {
        let spec = self.spec.as_ref();
        spec.map(|spec| (&spec.cluster_ip, &spec.selector, &spec.ports))
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::super::validate::validate;
    use super::*;
    use crate::render::{Desired, desired};
    use k8s_openapi::api::core::v1::LocalObjectReference;
    use serde_json::json;

    fn given() -> Desired {
        desired(
            &validate(&given::workspace(given::spec()), &given::settings()).unwrap(),
            None,
        )
    }

    #[test]
    fn what_others_add_beside_is_no_difference() {
        let Desired {
            service,
            service_account,
            role,
            ..
        } = given();
        let mut there = service.clone();
        there.labels_mut().insert("team".into(), "a".into());
        there.annotations_mut().insert("seen".into(), "yes".into());
        let spec = there.spec.as_mut().unwrap();
        spec.cluster_ips = Some(vec!["None".into()]);
        spec.session_affinity = Some("None".into());
        assert_eq!(there.content(), service.content());

        let mut there = service_account.clone();
        there.image_pull_secrets = Some(vec![LocalObjectReference { name: "pull".into() }]);
        assert_eq!(there.content(), service_account.content());

        let dropped_by_the_api_server = Role {
            rules: None,
            ..role.clone()
        };
        assert_eq!(dropped_by_the_api_server.content(), role.content());
    }

    #[test]
    fn what_others_change_within_is_one() {
        let Desired {
            service,
            policies,
            role,
            ..
        } = given();
        let mut there = service.clone();
        there.labels_mut().insert(labels::USER.into(), "other".into());
        assert_ne!(there.content(), service.content());

        let mut there = service.clone();
        let selector = there.spec.as_mut().unwrap().selector.as_mut().unwrap();
        selector.insert("never".into(), "there".into());
        assert_ne!(there.content(), service.content());

        let changed = |policy: &NetworkPolicy, path: &str, value: Value| -> NetworkPolicy {
            let mut there = serde_json::to_value(policy).unwrap();
            there["spec"][path] = value;
            serde_json::from_value(there).unwrap()
        };
        let [deny_all, egress, _] = &policies;
        assert_ne!(changed(deny_all, "egress", json!([{}])).content(), deny_all.content());
        assert_ne!(changed(egress, "policyTypes", json!([])).content(), egress.content());

        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
        let there = Role {
            rules: serde_json::from_value(rules).unwrap(),
            ..role.clone()
        };
        assert_ne!(there.content(), role.content());
    }
}

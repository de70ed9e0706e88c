//! A pod that runs and the pod that would be made now become the names of what differs. Pure.

use super::content::Content;
use crate::labels::{CA_BUNDLE_DIGEST, TEMPLATE_HASH, TERMINAL_AUTHORITY};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;

/// What a pod was made from, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The hash decides: the API server and admission plugins add to a pod, so its fields alone can't.
    hash: Option<String>,
    ca_digest: Option<String>,
    /// The authority that vouches for its terminal.
    pub authority: Option<String>,
    parts: [Part; 9],
}

/// A part that users know by a name, and the hash of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    name: &'static str,
    content: Content,
    /// Nothing is said of it, and admission plugins may fill it in.
    left_open: bool,
}

impl Template {
    pub fn of(pod: &Pod) -> Self {
        let annotation = |key| pod.annotations().get(key).cloned();
        let spec = pod.spec.as_ref();
        let container = spec.and_then(|spec| spec.containers.first());
        let classes = spec.map(|spec| (&spec.runtime_class_name, &spec.priority_class_name));
        let part = |name, content| Part {
            name,
            content,
            left_open: false,
        };
        let optional = |name, content, is_there: Option<bool>| Part {
            left_open: is_there != Some(true),
            ..part(name, content)
        };
        Self {
            hash: annotation(TEMPLATE_HASH),
            ca_digest: annotation(CA_BUNDLE_DIGEST),
            authority: annotation(TERMINAL_AUTHORITY),
            parts: [
                part("image", Content::of(&container.map(|container| &container.image))),
                part("environment", Content::of(&container.map(environment))),
                part(
                    "resources",
                    Content::of(&container.map(|container| &container.resources)),
                ),
                part("volumes", Content::of(&spec.map(volumes))),
                part(
                    "node selection",
                    Content::of(&spec.map(|spec| (&spec.node_selector, &spec.affinity))),
                ),
                part("DNS", Content::of(&spec.map(|spec| &spec.dns_config))),
                part("runtime class", Content::of(&classes.map(|(runtime, _)| runtime))),
                optional(
                    "priority class",
                    Content::of(&classes.map(|(_, priority)| priority)),
                    classes.map(|(_, priority)| priority.is_some()),
                ),
                optional(
                    "pull secrets",
                    Content::of(&spec.map(|spec| &spec.image_pull_secrets)),
                    spec.map(|spec| spec.image_pull_secrets.is_some()),
                ),
            ],
        }
    }
}

/// What a pod was made from that is no longer so; empty when nothing is.
pub fn changed(pod: &Template, wanted: &Template) -> Vec<&'static str> {
    // A ConfigMap that is gone changes nothing in a pod that runs.
    let certificates = (wanted.ca_digest.is_some() && wanted.ca_digest != pod.ca_digest).then_some("CA certificates");
    let authority = (pod.authority != wanted.authority).then_some("terminal certificate");
    let certificates = certificates.into_iter().chain(authority);
    if pod.hash == wanted.hash {
        return certificates.collect();
    }
    let parts = pod.parts.iter().zip(&wanted.parts);
    let different = parts.filter(|(there, wanted)| !wanted.left_open && there.content != wanted.content);
    let mut changed: Vec<&str> = different.map(|(_, wanted)| wanted.name).chain(certificates).collect();
    if changed.is_empty() {
        changed.push("settings");
    }
    changed
}

fn environment(container: &Container) -> Vec<(&str, Option<&str>)> {
    let variables = container.env.iter().flatten();
    variables
        .map(|variable| (variable.name.as_str(), variable.value.as_deref()))
        .collect()
}

/// Names and sources, without the modes that the API server fills in.
fn volumes(spec: &PodSpec) -> Vec<[Option<&str>; 4]> {
    let volumes = spec.volumes.iter().flatten();
    let volumes = volumes.map(|volume| {
        let size = volume
            .empty_dir
            .as_ref()
            .and_then(|directory| directory.size_limit.as_ref());
        [
            Some(volume.name.as_str()),
            volume.config_map.as_ref().map(|source| source.name.as_str()),
            volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()),
            size.map(|size| size.0.as_str()),
        ]
    });
    volumes.collect()
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::super::validate::validate;
    use super::*;
    use crate::render::desired;
    use serde_json::{Value, json};

    fn changed(pod: &Pod, desired: &Pod) -> Vec<&'static str> {
        super::changed(&Template::of(pod), &Template::of(desired))
    }

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut spec = given::spec();
        change(&mut spec);
        desired(&validate(&given::workspace(spec), &given::settings()).unwrap(), None).pod
    }

    #[test]
    fn what_differs_is_named() {
        let old = pod(|_| ());
        assert_eq!(changed(&old, &pod(|_| ())), Vec::<&str>::new());
        assert_eq!(
            changed(&old, &pod(|spec| spec["resources"]["cpu"] = json!("3"))),
            ["resources"]
        );
        assert_eq!(
            changed(
                &old,
                &pod(|spec| spec["tls"] = json!({"customCABundle": {"name": "ca"}}))
            ),
            ["environment", "volumes"]
        );
        assert_eq!(
            changed(
                &old,
                &pod(|spec| spec["aiConfig"]["providers"][0]["models"] = json!(["n"]))
            ),
            ["environment"]
        );
    }

    /// The API server fills in what was left out, and admission plugins add tolerations.
    #[test]
    fn what_others_added_is_no_difference() {
        let mut old = pod(|_| ());
        let spec = old.spec.as_mut().unwrap();
        spec.dns_policy = Some("ClusterFirst".into());
        spec.tolerations = Some(vec![k8s_openapi::api::core::v1::Toleration::default()]);
        assert_eq!(changed(&old, &pod(|_| ())), Vec::<&str>::new());
    }

    #[test]
    fn other_certificates_are_told_and_absent_ones_are_not() {
        let with = |digest: Option<&str>| {
            let mut pod = pod(|_| ());
            let annotations = pod.metadata.annotations.as_mut().unwrap();
            annotations.extend(digest.map(|digest| (CA_BUNDLE_DIGEST.to_owned(), digest.to_owned())));
            pod
        };
        for (running, now, expected) in [
            (Some("a"), Some("a"), &[][..]),
            (Some("a"), Some("b"), &["CA certificates"]),
            (Some("a"), None, &[]),
            (None, Some("b"), &["CA certificates"]),
        ] {
            assert_eq!(changed(&with(running), &with(now)), expected, "{running:?} {now:?}");
        }
    }

    #[test]
    fn a_terminal_of_another_authority_is_told() {
        let of = |authority: Option<&str>| {
            let mut pod = pod(|_| ());
            let annotations = pod.metadata.annotations.as_mut().unwrap();
            annotations.extend(authority.map(|authority| (TERMINAL_AUTHORITY.to_owned(), authority.to_owned())));
            pod
        };
        for (running, now, expected) in [
            (None, None, &[][..]),
            (Some("a"), Some("a"), &[]),
            (Some("a"), Some("b"), &["terminal certificate"]),
            (None, Some("a"), &["terminal certificate"]),
            (Some("a"), None, &["terminal certificate"]),
        ] {
            assert_eq!(changed(&of(running), &of(now)), expected, "{running:?} {now:?}");
        }
    }

    #[test]
    fn what_has_no_name_is_still_told() {
        let mut old = pod(|_| ());
        old.metadata.annotations = None;
        assert_eq!(changed(&old, &pod(|_| ())), ["settings"]);
    }
}

//! A pod that runs and the pod that would be made now become the names of what differs. Pure.

use crate::labels::{CA_BUNDLE_DIGEST, TEMPLATE_HASH};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;

/// What a pod was made from that is no longer so; empty when nothing is. The hash decides: the API server and admission
/// plugins add to a pod, so its fields alone can't.
pub fn changed(pod: &Pod, desired: &Pod) -> Vec<&'static str> {
    let annotation = |pod: &Pod, key| pod.annotations().get(key).cloned();
    // A ConfigMap that is gone changes nothing in a pod that runs.
    let certificates = annotation(desired, CA_BUNDLE_DIGEST);
    let certificates_differ = certificates.is_some() && certificates != annotation(pod, CA_BUNDLE_DIGEST);
    if annotation(pod, TEMPLATE_HASH) == annotation(desired, TEMPLATE_HASH) {
        return if certificates_differ {
            vec!["CA certificates"]
        } else {
            vec![]
        };
    }
    let (Some(pod), Some(desired)) = (pod.spec.as_ref(), desired.spec.as_ref()) else {
        return vec!["settings"];
    };
    let mut changed = Vec::new();
    let mut note = |name, differs: bool| {
        if differs {
            changed.push(name);
        }
    };
    if let (Some(container), Some(wanted)) = (pod.containers.first(), desired.containers.first()) {
        note("image", container.image != wanted.image);
        note("environment", environment(container) != environment(wanted));
        note("resources", container.resources != wanted.resources);
    }
    note("CA certificates", certificates_differ);
    note("volumes", volumes(pod) != volumes(desired));
    note(
        "node selection",
        pod.node_selector != desired.node_selector || pod.affinity != desired.affinity,
    );
    note("runtime class", pod.runtime_class_name != desired.runtime_class_name);
    note(
        "priority class",
        desired.priority_class_name.is_some() && pod.priority_class_name != desired.priority_class_name,
    );
    note(
        "pull secrets",
        desired.image_pull_secrets.is_some() && pod.image_pull_secrets != desired.image_pull_secrets,
    );
    note("DNS", pod.dns_config != desired.dns_config);
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
    fn what_has_no_name_is_still_told() {
        let mut old = pod(|_| ());
        old.metadata.annotations = None;
        assert_eq!(changed(&old, &pod(|_| ())), ["settings"]);
    }
}

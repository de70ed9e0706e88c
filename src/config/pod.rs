//! A JSON text becomes checked [`PodSettings`].

use super::{metadata_key, syntax};
use crate::api::pod_settings::{Mount, MountSource, PodSettings};
use crate::units::quantity::Quantity;
use serde_json::Value;

/// What the operator sets by itself.
const OWN_ENVIRONMENT: &[&str] = &[
    "AI_PROVIDERS_JSON",
    "CUSTOM_CA_MOUNTED",
    "DEVPLANE_TERMINAL_TLS",
    "HOME",
    "PIP_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "USER_EMAIL",
    "USER_ID",
    "npm_config_registry",
];
/// Directories that are the workspace's own; nothing may lie over them.
const OWN_DIRECTORIES: &[&str] = &["/workspace", "/tmp", "/etc/ssl/certs/custom", "/etc/devplane"];

/// # Errors
/// What was expected, and where it is not so.
pub fn parse(text: &str) -> Result<PodSettings, String> {
    let given: Value = serde_json::from_str(text).map_err(|error| format!("a JSON object ({error})"))?;
    // serde would take a list for the fields in their order.
    if !given.is_object() {
        return Err("a JSON object".to_owned());
    }
    let settings: PodSettings = serde_json::from_value(given.clone())
        .map_err(|error| format!("settings of a pod as in the chart's workspace.pod ({error})"))?;
    // The Kubernetes types pass over what they do not know.
    let kept = serde_json::to_value(&settings).unwrap_or_default();
    if let Some(path) = unknown(&given, &kept) {
        return Err(format!("only fields that Kubernetes knows, which {path} is not"));
    }
    check(&settings)?;
    Ok(settings)
}

/// `settings` with each field that the JSON object `text` has in the place of its own.
///
/// # Errors
/// What was expected, and where it is not so.
pub fn parse_over(text: &Value, settings: &PodSettings) -> Result<PodSettings, String> {
    let (Ok(Value::Object(mut fields)), Value::Object(over)) = (serde_json::to_value(settings), text) else {
        return Err("a JSON object as its pod".to_owned());
    };
    fields.extend(over.clone());
    parse(&Value::Object(fields).to_string())
}

/// Where `given` has something that is not in `kept`.
fn unknown(given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(key, value)| match kept.get(key) {
            Some(kept) => unknown(value, kept).map(|path| format!("{key}.{path}")),
            None if is_empty(value) => None,
            None => Some(key.clone()),
        }),
        (Value::Array(given), Value::Array(kept)) => {
            let mut pairs = given.iter().zip(kept).enumerate();
            pairs.find_map(|(index, (given, kept))| unknown(given, kept).map(|path| format!("{index}.{path}")))
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn check(settings: &PodSettings) -> Result<(), String> {
    let PodSettings {
        image_pull_secrets,
        labels,
        annotations,
        env,
        mounts,
        requests,
        extended_resources,
        tmp_size_limit,
        ..
    } = settings;
    for name in image_pull_secrets {
        syntax::dns_subdomain(name).map_err(|expected| format!("{expected} in imagePullSecrets, not {name:?}"))?;
    }
    labels.keys().try_for_each(|key| metadata_key::label(key))?;
    for (key, value) in labels {
        syntax::label_value(value).map_err(|expected| format!("{expected} as the label {key}, not {value:?}"))?;
    }
    annotations.keys().try_for_each(|key| metadata_key::annotation(key))?;
    for name in env.keys() {
        let is_name = !name.is_empty() && !name.contains('=') && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name || OWN_ENVIRONMENT.contains(&name.as_str()) {
            return Err(format!(
                "names of environment variables that are not the operator's own, unlike {name:?}"
            ));
        }
    }
    for (index, Mount { path, source }) in mounts.iter().enumerate() {
        if mounts[..index].iter().any(|earlier| earlier.path == *path) {
            return Err(format!("one mount at {path}, not two"));
        }
        let (MountSource::ConfigMap(name) | MountSource::Secret(name)) = source;
        syntax::dns_subdomain(name).map_err(|expected| format!("{expected} as the source of {path}, not {name:?}"))?;
        check_directory(path)?;
    }
    for (name, amount) in requests {
        if !["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) {
            return Err(format!(
                "requests for cpu, memory or ephemeral-storage, not for {name:?}: what devices offer is asked for by extendedResources"
            ));
        }
        check_quantity(amount)?;
    }
    for name in extended_resources.keys() {
        check_extended_resource(name)?;
    }
    tmp_size_limit.as_deref().map_or(Ok(()), check_quantity)
}

/// Kubernetes' `IsExtendedResourceName`: a qualified name with a domain that is not Kubernetes' own, and that can stand in a quota behind `requests.`.
fn check_extended_resource(name: &str) -> Result<(), String> {
    let of_kubernetes = name.contains("kubernetes.io/") || name.starts_with("requests.");
    match syntax::qualified_name(name) {
        Ok((Some(domain), _)) if !of_kubernetes && syntax::dns_subdomain(&format!("requests.{domain}")).is_ok() => {
            Ok(())
        }
        _ => Err(format!(
            "names with the domain of their maker, such as nvidia.com/gpu, in extendedResources, unlike {name:?}"
        )),
    }
}

fn check_directory(path: &str) -> Result<(), String> {
    let is_plain =
        path.starts_with('/') && path.len() > 1 && !path.contains(':') && !path.split('/').any(|part| part == "..");
    let covers = |own: &&str| **own == *path || own.starts_with(&format!("{}/", path.trim_end_matches('/')));
    let inside = |own: &&str| path.starts_with(&format!("{own}/"));
    if !is_plain || OWN_DIRECTORIES.iter().any(|own| covers(own) || inside(own)) {
        return Err(format!(
            "an absolute path for each mount, apart from {}, unlike {path:?}",
            OWN_DIRECTORIES.join(", ")
        ));
    }
    Ok(())
}

fn check_quantity(text: &str) -> Result<(), String> {
    let parsed = text.parse::<Quantity>();
    parsed.map(drop).map_err(|expected| format!("{expected}, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;
    use std::sync::LazyLock;

    #[test]
    fn every_field_is_taken() {
        let text = r#"{
            "imagePullSecrets": ["registry"], "nodeSelector": {"pool": "dev"}, "tolerations": [{"key": "dev", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}}, "priorityClassName": "low", "runtimeClassName": "gvisor", "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
            "labels": {"team": "a"}, "annotations": {"example.test/a": "b"}, "env": {"GOPROXY": "https://nexus.test/go"},
            "proxy": {"https": "http://proxy.test:3128", "no": ".svc"}, "mounts": [{"path": "/etc/corp", "configMap": "corp"}, {"path": "/etc/keys", "secret": "keys"}],
            "requests": {"cpu": "100m"}, "extendedResources": {"nvidia.com/gpu": 1, "smarter-devices/fuse": 2}, "tmpSizeLimit": "2Gi"
        }"#;
        let settings = parse(text).unwrap();
        assert_eq!(settings.mounts[1].source, MountSource::Secret("keys".into()));
        assert_eq!(parse("{}").unwrap(), PodSettings::default());
    }

    #[test]
    fn what_could_not_be_meant_is_told() {
        for (text, told) in [
            ("[]", "a JSON object"),
            ("{", "a JSON object"),
            (r#"{"securityContext": {}}"#, "securityContext"),
            (r#"{"serviceAccountName": "x"}"#, "serviceAccountName"),
            (r#"{"tolerations": [{"kee": "a"}]}"#, "tolerations.0.kee"),
            (
                r#"{"affinity": {"nodeAffinity": {"required": {"a": 1}}}}"#,
                "affinity.nodeAffinity.required",
            ),
            (r#"{"labels": {"app": "x"}}"#, "label or annotation app"),
            (
                r#"{"annotations": {"workspace.devplane.io/template-hash": "x"}}"#,
                "template-hash",
            ),
            (
                r#"{"annotations": {"container.apparmor.security.beta.kubernetes.io/workspace": "unconfined"}}"#,
                "no annotation container.apparmor.security.beta.kubernetes.io/workspace: nodes might read from it what would change the security context",
            ),
            (r#"{"labels": {"a b": "x"}}"#, "a b"),
            (r#"{"annotations": {"/a": "x"}}"#, "/a"),
            (r#"{"env": {"USER_ID": "x"}}"#, "USER_ID"),
            (r#"{"env": {"A=B": "x"}}"#, "A=B"),
            (
                r#"{"mounts": [{"path": "/workspace/x", "secret": "a"}]}"#,
                "/workspace/x",
            ),
            (r#"{"mounts": [{"path": "/etc/ssl", "secret": "a"}]}"#, "/etc/ssl"),
            (r#"{"mounts": [{"path": "/", "secret": "a"}]}"#, "absolute path"),
            (r#"{"mounts": [{"path": "/a/../tmp", "secret": "a"}]}"#, "absolute path"),
            (r#"{"mounts": [{"path": "/a", "secret": "A b"}]}"#, "A b"),
            (
                r#"{"mounts": [{"path": "/a", "secret": "b"}, {"path": "/a", "configMap": "c"}]}"#,
                "one mount at /a",
            ),
            (r#"{"labels": {"team": "Team A"}}"#, "as the label team"),
            (r#"{"requests": {"gpu": "1"}}"#, "gpu"),
            (r#"{"requests": {"nvidia.com/gpu": "1"}}"#, "extendedResources"),
            (r#"{"extendedResources": {"gpu": 1}}"#, "such as nvidia.com/gpu"),
            (r#"{"extendedResources": {"hugepages-2Mi": 1}}"#, "hugepages-2Mi"),
            (
                r#"{"extendedResources": {"kubernetes.io/gpu": 1}}"#,
                "kubernetes.io/gpu",
            ),
            (
                r#"{"extendedResources": {"node.kubernetes.io/gpu": 1}}"#,
                "node.kubernetes.io/gpu",
            ),
            (
                r#"{"extendedResources": {"requests.nvidia.com/gpu": 1}}"#,
                "requests.nvidia.com/gpu",
            ),
            (r#"{"extendedResources": {"nvidia.com/": 1}}"#, "nvidia.com/"),
            (r#"{"extendedResources": {"nvidia.com/a/b": 1}}"#, "nvidia.com/a/b"),
            (r#"{"extendedResources": {"Nvidia.com/gpu": 1}}"#, "Nvidia.com/gpu"),
            (r#"{"extendedResources": {"nvidia.com/gpu": 0}}"#, "nonzero"),
            (r#"{"extendedResources": {"nvidia.com/gpu": 1.5}}"#, "1.5"),
            (r#"{"extendedResources": {"nvidia.com/gpu": "500m"}}"#, "500m"),
            (r#"{"requests": {"cpu": "lots"}}"#, "lots"),
            (r#"{"tmpSizeLimit": "0"}"#, "positive"),
            (r#"{"imagePullSecrets": ["A"]}"#, "imagePullSecrets"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    /// What the chart lets through, so that Helm tells it, and not an operator that does not start.
    fn chart_takes(field: &str, settings: &Value) -> bool {
        static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
            let text = include_str!("../../chart/devplane/values.schema.json");
            let mut schema: Value = serde_json::from_str(text).unwrap();
            schema["properties"] = serde_json::json!({"pod": {"$ref": "#/definitions/podSettings"}});
            jsonschema::validator_for(&schema).unwrap()
        });
        SCHEMA.is_valid(&serde_json::json!({"pod": {field: settings}}))
    }

    fn assert_alike(field: &str, settings: &Value) {
        let told = parse(&serde_json::json!({field: settings}).to_string());
        assert_eq!(
            chart_takes(field, settings),
            told.is_ok(),
            "{field} {settings}: {told:?}"
        );
    }

    /// The edges of every rule on names: domains of runtimes with something before or behind them, characters and lengths at their ends.
    fn names() -> impl Strategy<Value = String> {
        let domain = select(
            metadata_key::known()
                .map(str::to_owned)
                .chain(["x.test", "requests", "a", "A.test", "-a", "a..b", ""].map(str::to_owned))
                .chain([62, 63, 64].map(|length| "a".repeat(length)))
                .chain([9, 10].map(|last| format!("{0}.{0}.{0}.{1}", "a".repeat(58), "a".repeat(58 + last))))
                .collect::<Vec<_>>(),
        );
        let before = select(vec!["", "x.", "x", ".", "requests."]);
        let between = select(vec!["", "/", "//", ".x/", "x/", ".", ".x"]);
        let behind = prop_oneof![
            select(vec![
                "",
                "POD",
                "gpu",
                "-",
                "a b",
                "user",
                "app",
                "safe-to-evict",
                "egress-bandwidth",
                "ü"
            ])
            .prop_map(str::to_owned),
            "[a-zA-Z._-]{61,64}",
        ];
        (before, domain, between, behind)
            .prop_map(|(before, domain, between, behind)| [before, &domain, between, &behind].concat())
    }

    proptest! {
        #[test]
        fn the_chart_refuses_what_the_operator_would(name in names(), number in 0..=u64::from(u32::MAX) + 1) {
            for field in ["labels", "annotations", "env"] {
                assert_alike(field, &serde_json::json!({&name: "x"}));
            }
            assert_alike("labels", &serde_json::json!({"team": &name}));
            for number in [1, number] {
                assert_alike("extendedResources", &serde_json::json!({&name: number}));
            }
        }
    }

    #[test]
    fn the_chart_knows_the_names_that_are_the_operator_s_own_and_those_of_nodes() {
        let own = OWN_ENVIRONMENT.iter().copied().chain(metadata_key::known());
        for name in own.flat_map(|name| {
            [
                name.to_owned(),
                format!("{name}/x"),
                format!("x.{name}/x"),
                format!("{name}x"),
            ]
        }) {
            for field in ["labels", "annotations", "env"] {
                assert_alike(field, &serde_json::json!({&name: "x"}));
            }
            assert_alike("extendedResources", &serde_json::json!({&name: 1}));
        }
        for number in [0, 1, u64::from(u32::MAX), u64::from(u32::MAX) + 1] {
            assert_alike("extendedResources", &serde_json::json!({"nvidia.com/gpu": number}));
        }
    }
}

//! Values become environment variables of operator and gateway, as `operator-deployment.yaml` and `gateway-deployment.yaml` write them.

use super::{Values, text};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How a value becomes a variable. One that comes out empty is left out: the executable knows the default.
#[derive(Clone, Copy)]
enum Form {
    /// A scalar.
    Text,
    /// Joined by this.
    Joined(&'static str),
    /// Joined by commas; a lone comma is the empty list.
    List,
    /// Always as JSON.
    Json,
    /// As JSON, unless it is empty.
    JsonUnlessEmpty,
    /// `key=value`, joined by commas.
    Labels,
    /// Names joined by commas; as JSON, if one is more than a name.
    Namespaces,
    /// Of several values.
    Made(fn(&Values) -> String),
}

use Form::{Joined, Json, JsonUnlessEmpty, Labels, List, Made, Namespaces, Text};

/// A variable, the key of the values that gives it, and how.
type Rule = (&'static str, &'static str, Form);

const COMMON: &[Rule] = &[
    ("NAMESPACE", "gateway.workspaceNamespace", Text),
    ("LOG_LEVEL", "log.level", Text),
    ("LOG_FORMAT", "log.format", Text),
    ("TERMINAL_TLS", "workspace.terminalTLS", Text),
    ("WORKSPACE_CLASSES", "workspace.classes", JsonUnlessEmpty),
];

const OPERATOR: &[Rule] = &[
    ("LEADER_ELECT", "operator.leaderElect", Text),
    ("CLUSTER_DOMAIN", "clusterDomain", Text),
    ("CLUSTER_CIDRS", "clusterCIDRs", Joined(",")),
    ("WORKSPACE_IMAGE", "workspace.image", Made(Values::workspace_image)),
    (
        "WORKSPACE_IMAGE_PULL_POLICY",
        "workspace.imagePullPolicy",
        Made(pull_policy),
    ),
    ("LLM_NAMESPACES", "workspace.ai.egressNamespaces", Namespaces),
    ("EGRESS_PORTS", "workspace.ai.egressPorts", List),
    ("EGRESS_CIDRS", "workspace.ai.egressCIDRs", List),
    ("EGRESS_FQDNS", "workspace.ai.egressFQDNs", Joined(",")),
    ("NETWORK_POLICY_BACKEND", "workspace.networkPolicyBackend", Text),
    ("DNS_NAMESPACE", "workspace.dns.namespace", Text),
    ("DNS_POD_LABELS", "workspace.dns.podLabels", Labels),
    ("DNS_PORT", "workspace.dns.port", Text),
    ("DNS_NODE_LOCAL", "workspace.dns.nodeLocal", Joined(",")),
    ("IDLE_TIMEOUT", "workspace.idleTimeout", Text),
    ("UPDATE_WHEN_IDLE_FOR", "workspace.updateWhenIdleFor", Text),
    (
        "DEFAULT_CA_BUNDLE_CONFIGMAP",
        "workspace.defaultCABundle.configMapName",
        Made(Values::workspace_authorities),
    ),
    ("PIP_INDEX_URL", "workspace.packageMirrors.pip.indexUrl", Text),
    ("PIP_TRUSTED_HOST", "workspace.packageMirrors.pip.trustedHost", Text),
    ("NPM_REGISTRY", "workspace.packageMirrors.npm.registry", Text),
    ("CANARY_ENABLED", "canary.enabled", Text),
    ("CANARY_INTERVAL", "canary.interval", Text),
    ("POLICY_ENFORCEMENT_REQUIRED", "canary.holdNewWorkspaces", Text),
    ("WORKSPACE_CEILINGS", "workspace.ceilings", Made(ceilings)),
    ("WORKSPACE_ALLOWED_IMAGES", "workspace.allowedImages", List),
    ("WORKSPACE_POD", "workspace.pod", JsonUnlessEmpty),
];

const GATEWAY: &[Rule] = &[
    ("PUBLIC_URL", "gateway.publicURL", Text),
    ("OIDC_AUDIENCE", "gateway.oidc.audience", Text),
    ("OIDC_CLOCK_SKEW", "gateway.oidc.clockSkew", Text),
    ("OIDC_GROUPS_CLAIM", "gateway.oidc.groupsClaim", Text),
    ("OIDC_ALLOWED_GROUPS", "gateway.oidc.allowedGroups", JsonUnlessEmpty),
    (
        "OIDC_ALLOWED_EMAIL_DOMAINS",
        "gateway.oidc.allowedEmailDomains",
        Joined(","),
    ),
    ("OIDC_REQUIRED_CLAIMS", "gateway.oidc.requiredClaims", JsonUnlessEmpty),
    ("OIDC_ADMIN_GROUPS", "gateway.oidc.adminGroups", JsonUnlessEmpty),
    (
        "OIDC_POST_LOGOUT_REDIRECT_URL",
        "gateway.oidc.postLogoutRedirectURL",
        Text,
    ),
    ("OIDC_SCOPES", "gateway.oidc.scopes", Joined(" ")),
    ("SESSION_LIFETIME", "gateway.session.lifetime", Text),
    ("SESSION_IDLE_LIFETIME", "gateway.session.idleLifetime", Text),
    ("SESSION_REFRESH_INTERVAL", "gateway.session.refreshInterval", Text),
    ("SESSION_REFRESH_GRACE", "gateway.session.refreshGrace", Text),
    ("SESSION_WATCH_LOSS", "gateway.session.watchLoss", Text),
    ("SUPPORT_CONTACT", "gateway.supportContact", Text),
    ("GATEWAY_CLIPBOARD", "gateway.clipboard", Text),
    (
        "TLS_CERT_FILE",
        "gateway.tls.secretName",
        Made(|v| serving(v, "tls.crt")),
    ),
    (
        "TLS_KEY_FILE",
        "gateway.tls.secretName",
        Made(|v| serving(v, "tls.key")),
    ),
    (
        "CA_BUNDLE_FILE",
        "gateway.tls.customCABundle.configMapName",
        Made(authorities),
    ),
    ("AI_PROVIDERS_JSON", "workspace.ai.providers", Json),
    ("DEFAULT_CPU", "workspace.defaultResources.cpu", Text),
    ("DEFAULT_MEMORY", "workspace.defaultResources.memory", Text),
    ("DEFAULT_STORAGE", "workspace.defaultResources.storage", Text),
    ("DEFAULT_STORAGE_CLASS", "workspace.storageClass", Text),
    ("SESSION_RECORDING_ENABLED", "gateway.sessionRecording.enabled", Text),
    ("SESSION_RECORDING_MODE", "gateway.sessionRecording.mode", Text),
    (
        "SESSION_RECORDING_DIR",
        "gateway.sessionRecording.enabled",
        Made(recordings),
    ),
    (
        "SESSION_RECORDING_ON_FAILURE",
        "gateway.sessionRecording.onFailure",
        Text,
    ),
    ("SESSION_RECORDING_INPUT", "gateway.sessionRecording.input", Text),
    ("SESSION_RECORDING_FSYNC", "gateway.sessionRecording.fsync", Text),
    (
        "SESSION_RECORDING_CHECKPOINT_RECORDS",
        "gateway.sessionRecording.checkpoint.records",
        Text,
    ),
    (
        "SESSION_RECORDING_CHECKPOINT_INTERVAL",
        "gateway.sessionRecording.checkpoint.interval",
        Text,
    ),
    (
        "SESSION_RECORDING_KEY_FILE",
        "gateway.sessionRecording.signingKey.secretName",
        Made(recording_key),
    ),
    ("SESSION_RECORDING_COMPRESS", "gateway.sessionRecording.compress", Text),
    ("SESSION_RECORDING_KEEP_FOR", "gateway.sessionRecording.keepFor", Text),
    ("SESSION_RECORDING_MAX_SIZE", "gateway.sessionRecording.maxSize", Text),
    ("SESSION_RECORDING_NOTICE", "gateway.sessionRecording.notice", Text),
    (
        "GATEWAY_RL_LIFECYCLE_GLOBAL_RPS",
        "gateway.rateLimit.lifecycle.globalRPS",
        Text,
    ),
    (
        "GATEWAY_RL_LIFECYCLE_GLOBAL_BURST",
        "gateway.rateLimit.lifecycle.globalBurst",
        Text,
    ),
    (
        "GATEWAY_RL_LIFECYCLE_PER_USER_RPS",
        "gateway.rateLimit.lifecycle.perUserRPS",
        Text,
    ),
    (
        "GATEWAY_RL_LIFECYCLE_PER_USER_BURST",
        "gateway.rateLimit.lifecycle.perUserBurst",
        Text,
    ),
    (
        "GATEWAY_RL_WS_GLOBAL_RPS",
        "gateway.rateLimit.websocket.globalRPS",
        Text,
    ),
    (
        "GATEWAY_RL_WS_GLOBAL_BURST",
        "gateway.rateLimit.websocket.globalBurst",
        Text,
    ),
    (
        "GATEWAY_RL_WS_PER_USER_RPS",
        "gateway.rateLimit.websocket.perUserRPS",
        Text,
    ),
    (
        "GATEWAY_RL_WS_PER_USER_BURST",
        "gateway.rateLimit.websocket.perUserBurst",
        Text,
    ),
    (
        "GATEWAY_RL_SIGN_IN_PER_ADDRESS_RPS",
        "gateway.rateLimit.signIn.perAddressRPS",
        Text,
    ),
    (
        "GATEWAY_RL_SIGN_IN_PER_ADDRESS_BURST",
        "gateway.rateLimit.signIn.perAddressBurst",
        Text,
    ),
    ("GATEWAY_MAX_CONNECTIONS", "gateway.limits.connections", Text),
    ("GATEWAY_MAX_TERMINALS", "gateway.limits.terminals", Text),
    (
        "GATEWAY_MAX_TERMINALS_PER_USER",
        "gateway.limits.terminalsPerUser",
        Text,
    ),
    ("GATEWAY_TRUSTED_PROXIES", "gateway.trustedProxies", Joined(",")),
    ("GATEWAY_WORKSPACE_ADDRESS", "gateway.workspaceAddress", Text),
    ("GATEWAY_REQUEST_TIMEOUT", "gateway.requestTimeout", Text),
    ("GATEWAY_DRAIN_TIMEOUT", "gateway.drainSeconds", Made(drain)),
];

/// From the Secret that the gateway has them from: its keys are in the middle.
pub const OIDC: [(&str, &str, &str); 4] = [
    ("OIDC_ISSUER_URL", "issuer-url", "gateway.oidc.issuerURL"),
    ("OIDC_CLIENT_ID", "client-id", "gateway.oidc.clientID"),
    ("OIDC_CLIENT_SECRET", "client-secret", "gateway.oidc.clientSecret"),
    ("OIDC_REDIRECT_URL", "redirect-url", "gateway.oidc.redirectURL"),
];

/// Environment variables by name.
pub type Variables = BTreeMap<String, String>;

/// Those of the operator's pod. `namespace` is the release's.
pub fn operator(values: &Values, namespace: &str) -> Variables {
    let mut variables = rendered(values, OPERATOR);
    variables.insert("GATEWAY_NAMESPACE".to_owned(), namespace.to_owned());
    variables.insert("POD_NAMESPACE".to_owned(), namespace.to_owned());
    variables
}

/// Those of the gateway's pod, but for those of [`OIDC`].
pub fn gateway(values: &Values, namespace: &str) -> Variables {
    let mut variables = rendered(values, GATEWAY);
    variables.insert("PORT".to_owned(), "8080".to_owned());
    variables.insert("PROBE_PORT".to_owned(), "8081".to_owned());
    variables.insert("POD_NAMESPACE".to_owned(), namespace.to_owned());
    variables
}

/// The key of the values that a variable comes from.
pub fn values_key(variable: &str) -> Option<&'static str> {
    let rules = COMMON.iter().chain(OPERATOR).chain(GATEWAY);
    let mut keys = rules
        .map(|(name, key, _)| (*name, *key))
        .chain(OIDC.map(|(name, _, key)| (name, key)));
    keys.find(|(name, _)| *name == variable).map(|(_, key)| key)
}

fn rendered(values: &Values, rules: &[Rule]) -> Variables {
    let all = COMMON
        .iter()
        .chain(rules)
        .map(|(name, key, form)| ((*name).to_owned(), form.text(values, key)));
    all.filter(|(_, text)| !text.is_empty()).collect()
}

impl Form {
    fn text(self, values: &Values, key: &str) -> String {
        let value = values.get(key);
        match self {
            Self::Text => text(value),
            Self::Joined(with) => values.texts(key).join(with),
            Self::List => list(&values.texts(key)),
            Self::Json => value.to_string(),
            Self::JsonUnlessEmpty if is_empty(value) => String::new(),
            Self::JsonUnlessEmpty => value.to_string(),
            Self::Labels => {
                let labels = value.as_object().into_iter().flatten();
                labels
                    .map(|(key, value)| format!("{key}={}", text(value)))
                    .collect::<Vec<_>>()
                    .join(",")
            }
            Self::Namespaces => {
                let is_plain = value.as_array().is_none_or(|items| items.iter().all(Value::is_string));
                if is_plain {
                    list(&values.texts(key))
                } else {
                    value.to_string()
                }
            }
            Self::Made(make) => make(values),
        }
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        ",".to_owned()
    } else {
        items.join(",")
    }
}

/// As Go's templates see it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
    }
}

/// Of workspaces whose class says nothing else.
pub fn pull_policy(values: &Values) -> String {
    super::first([values.text("workspace.imagePullPolicy"), values.text("imagePullPolicy")])
}

/// Amounts that are set, as text, and every list.
fn ceilings(values: &Values) -> String {
    let all = values.get("workspace.ceilings").as_object().into_iter().flatten();
    let set = all.filter(|(_, value)| value.is_array() || !is_empty(value));
    let set: Map<String, Value> = set
        .map(|(key, value)| {
            (
                key.clone(),
                if value.is_array() {
                    value.clone()
                } else {
                    text(value).into()
                },
            )
        })
        .collect();
    if set.is_empty() {
        String::new()
    } else {
        Value::Object(set).to_string()
    }
}

fn serving(values: &Values, file: &str) -> String {
    match values.text("gateway.tls.secretName") {
        name if name.is_empty() => String::new(),
        _ => format!("/etc/devplane/tls/{file}"),
    }
}

fn authorities(values: &Values) -> String {
    let found = values.gateway_authorities();
    found.map_or_else(String::new, |(_, key)| format!("/etc/devplane/ca/{key}"))
}

/// Whether terminals are recorded.
pub fn are_recorded(values: &Values) -> bool {
    values.is_true("gateway.sessionRecording.enabled") && values.text("gateway.sessionRecording.mode") != "off"
}

fn recordings(values: &Values) -> String {
    if are_recorded(values) {
        "/var/lib/devplane/recordings".to_owned()
    } else {
        String::new()
    }
}

fn recording_key(values: &Values) -> String {
    let name = values.text("gateway.sessionRecording.signingKey.secretName");
    if name.is_empty() || !are_recorded(values) {
        return String::new();
    }
    format!(
        "/etc/devplane/recording/{}",
        values.text("gateway.sessionRecording.signingKey.key")
    )
}

fn drain(values: &Values) -> String {
    format!("{}s", values.text("gateway.drainSeconds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Each set of values of the chart's own tests, and what Helm made of it.
    fn rendered_by_helm() -> Vec<(String, String, String)> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart");
        let sets = std::fs::read_dir(chart.join("values")).unwrap();
        let sets = sets.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let read = |directory: &str, set: &str| std::fs::read_to_string(chart.join(directory).join(set)).unwrap();
        sets.map(|set| (set.clone(), read("values", &set), read("golden", &set)))
            .collect()
    }

    /// The plain variables of a Deployment that Helm has rendered.
    fn helms(golden: &str, deployment: &str) -> Option<BTreeMap<String, Value>> {
        let documents = golden
            .split("\n---\n")
            .map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
        let mut deployments =
            documents.filter(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == deployment);
        let container = deployments.next()?["spec"]["template"]["spec"]["containers"][0].clone();
        let variables = container["env"].as_array().unwrap().iter();
        let plain = variables.filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)));
        // An empty variable is an unset one, and the allocator's are no settings of ours.
        let plain = plain.filter(|(name, text)| !text.is_empty() && !name.starts_with("MIMALLOC_"));
        Some(plain.map(|(name, text)| (name.to_owned(), meant(text))).collect())
    }

    /// Go escapes characters in JSON that serde does not.
    fn meant(text: &str) -> Value {
        let json = text.starts_with(['{', '[']).then(|| serde_json::from_str(text).ok());
        json.flatten().unwrap_or_else(|| text.into())
    }

    fn ours(variables: Variables, otherwise: &[&str]) -> BTreeMap<String, Value> {
        let plain = variables
            .into_iter()
            .filter(|(name, _)| !otherwise.contains(&name.as_str()));
        plain.map(|(name, text)| (name, meant(&text))).collect()
    }

    #[test]
    fn values_become_the_settings_that_helm_renders() {
        let sets = rendered_by_helm();
        assert!(sets.len() > 4);
        for (set, values, golden) in &sets {
            let values = Values::try_from(values.as_str()).unwrap();
            let namespace = "workspace-operator-system";
            // One of the sets is rendered in part.
            let Some(helms_operator) = helms(golden, "workspace-operator") else {
                continue;
            };
            assert_eq!(
                ours(operator(&values, namespace), &["POD_NAMESPACE", "LEADER_ELECT"]),
                helms_operator,
                "operator of {set}"
            );
            if let Some(helms) = helms(golden, "workspace-gateway") {
                assert_eq!(
                    ours(gateway(&values, namespace), &["POD_NAMESPACE"]),
                    helms,
                    "gateway of {set}"
                );
            }
        }
    }

    #[test]
    fn each_variable_is_known_by_the_key_that_gives_it() {
        assert_eq!(values_key("DEFAULT_CPU"), Some("workspace.defaultResources.cpu"));
        assert_eq!(values_key("OIDC_ISSUER_URL"), Some("gateway.oidc.issuerURL"));
        assert_eq!(values_key("POD_NAME"), None);
        let values = Values::try_from("").unwrap();
        for (_, key, _) in COMMON.iter().chain(OPERATOR).chain(GATEWAY) {
            let parent = key
                .rsplit_once('.')
                .map_or(values.all(), |(parent, _)| values.get(parent));
            let last = key.rsplit('.').next().unwrap();
            assert!(parent.get(last).is_some(), "{key} is no key of the chart");
        }
    }
}

//! Settings of roles, or values of the chart, become what is known of an installation before anything is asked.

use super::values::Values;
use super::values::settings::{self, OIDC, Variables};
use crate::causes::with_causes;
use crate::config::{GatewayConfig, OperatorConfig, Problems, Setting, Source, gateway, operator};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// Before anything is checked.
const SECRET_WITHIN: Duration = Duration::from_secs(5);

/// Whose configuration and permissions are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Operator,
    Gateway,
}

/// What is known of an installation.
pub struct Installation {
    /// The control plane's, which is the release's.
    pub namespace: String,
    /// Where users' pods are.
    pub workspaces: String,
    /// When it is given as values. Otherwise it is given as the settings of one role.
    pub values: Option<Values>,
    pub operator: Option<Result<OperatorConfig, Problems>>,
    pub gateway: Option<Result<GatewayConfig, Problems>>,
    /// Why issuer, client and redirect URL are not known, when they are not: then those of `gateway` mean nothing.
    pub oidc_unknown: Option<String>,
    /// Issuer, client and redirect URL are those of the environment, as the values do not have them.
    pub oidc_of_environment: bool,
}

/// Where the four settings of [`OIDC`] come from, when the values name a Secret of the caller's.
pub enum OidcSource {
    /// The values have them.
    Values,
    /// The keys of the Secret and their values.
    Secret(BTreeMap<String, String>),
    /// The same, of the environment variables `OIDC_...` that a gateway reads.
    Environment(BTreeMap<String, String>),
    /// It can't be had, and why.
    Unknown(String),
}

/// Finds the OIDC client that the values speak of: in the values where they have all of it, in the Secret that they name, or in the
/// environment (as in a pod that the chart makes, whose values have no client secret).
pub async fn oidc_source(
    values: &Values,
    namespace: &str,
    client: Option<&Client>,
    environment: impl Fn(&str) -> Option<String>,
) -> OidcSource {
    let name = values.text("gateway.oidc.existingSecret");
    let is_complete = OIDC.iter().all(|(_, _, key)| !values.text(key).is_empty());
    if !values.is_true("gateway.enabled") || (name.is_empty() && is_complete) {
        return OidcSource::Values;
    }
    let of_secret = match client {
        _ if name.is_empty() => OidcSource::Values,
        Some(client) => oidc_secret(&name, namespace, client).await,
        None => OidcSource::Unknown(format!("it is in the Secret {name}, and there is no API server to ask")),
    };
    if matches!(of_secret, OidcSource::Secret(_)) {
        return of_secret;
    }
    let given = OIDC.map(|(variable, key, _)| environment(variable).map(|text| (key.to_owned(), text)));
    if given.iter().all(Option::is_some) {
        return OidcSource::Environment(given.into_iter().flatten().collect());
    }
    of_secret
}

async fn oidc_secret(name: &str, namespace: &str, client: &Client) -> OidcSource {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    match timeout(SECRET_WITHIN, secrets.get_opt(name)).await {
        Ok(Ok(Some(secret))) => {
            let data = secret.data.into_iter().flatten();
            OidcSource::Secret(
                data.filter_map(|(key, bytes)| Some((key, String::from_utf8(bytes.0).ok()?)))
                    .collect(),
            )
        }
        Ok(Ok(None)) => OidcSource::Unknown(format!("there is no Secret {name} in namespace {namespace}")),
        Ok(Err(error)) => OidcSource::Unknown(format!("the Secret {name} can't be read: {}", with_causes(&error))),
        Err(_) => OidcSource::Unknown(format!("the Secret {name} can't be read: no answer")),
    }
}

impl Installation {
    /// Of the settings of one role, as it reads them itself.
    pub fn of_role(role: Role, source: &Source) -> Self {
        let (operator, gateway) = match role {
            Role::Operator => (Some(OperatorConfig::read(source)), None),
            Role::Gateway => (None, Some(GatewayConfig::read(source))),
        };
        Self::of(None, operator, gateway)
    }

    /// Of the values that Helm gets. `namespace` is the release's.
    pub fn of_values(values: Values, namespace: &str, oidc: OidcSource) -> Self {
        let operator = read(
            &settings::operator(&values, namespace),
            operator::SETTINGS,
            OperatorConfig::read,
        );
        let mut oidc_unknown = None;
        let oidc_of_environment = matches!(oidc, OidcSource::Environment(_));
        let gateway = values.is_true("gateway.enabled").then(|| {
            let mut variables = settings::gateway(&values, namespace);
            let public = values.text("gateway.publicURL");
            let mut lacks = Vec::new();
            for (name, secret_key, key) in OIDC {
                let text = match &oidc {
                    OidcSource::Values => values.text(key),
                    OidcSource::Secret(keys) | OidcSource::Environment(keys) => {
                        keys.get(secret_key).cloned().unwrap_or_else(|| {
                            lacks.push(secret_key);
                            placeholder(name, &public)
                        })
                    }
                    OidcSource::Unknown(_) => placeholder(name, &public),
                };
                variables.insert(name.to_owned(), text);
            }
            oidc_unknown = match oidc {
                OidcSource::Unknown(why) => Some(why),
                _ if lacks.is_empty() => None,
                _ => Some(format!("its Secret lacks {}", lacks.join(", "))),
            };
            read(&variables, gateway::SETTINGS, GatewayConfig::read)
        });
        let workspaces = values.text("gateway.workspaceNamespace");
        Self {
            namespace: namespace.to_owned(),
            workspaces,
            oidc_unknown,
            oidc_of_environment,
            ..Self::of(Some(values), Some(operator), gateway)
        }
    }

    fn of(
        values: Option<Values>,
        operator: Option<Result<OperatorConfig, Problems>>,
        gateway: Option<Result<GatewayConfig, Problems>>,
    ) -> Self {
        let of_operator = operator.as_ref().and_then(|read| read.as_ref().ok());
        let of_gateway = gateway.as_ref().and_then(|read| read.as_ref().ok());
        let known = of_operator.map(|config| (&config.pod_namespace, &config.namespace));
        let known = known.or_else(|| of_gateway.map(|config| (&config.pod_namespace, &config.namespace)));
        let (namespace, workspaces) = known.map_or_else(
            || ("workspace-operator-system".to_owned(), "workspaces".to_owned()),
            |(namespace, workspaces)| (namespace.clone(), workspaces.clone()),
        );
        Self {
            namespace,
            workspaces,
            values,
            operator,
            gateway,
            oidc_unknown: None,
            oidc_of_environment: false,
        }
    }

    /// The operator's settings, when they are given and valid.
    pub fn operator(&self) -> Option<&OperatorConfig> {
        self.operator.as_ref()?.as_ref().ok()
    }

    /// The gateway's settings, when they are given and valid. Mind `oidc_unknown`.
    pub fn gateway(&self) -> Option<&GatewayConfig> {
        self.gateway.as_ref()?.as_ref().ok()
    }

    /// The role whose settings these are, when they are those of one.
    pub fn role(&self) -> Option<Role> {
        match (&self.values, &self.operator) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(Role::Operator),
            (None, None) => Some(Role::Gateway),
        }
    }
}

/// Something that passes for what nobody knows yet.
fn placeholder(name: &str, public: &str) -> String {
    let origin = if public.is_empty() {
        "https://unknown.invalid"
    } else {
        public.trim_end_matches('/')
    };
    match name {
        "OIDC_ISSUER_URL" => "https://unknown.invalid".to_owned(),
        "OIDC_REDIRECT_URL" => format!("{origin}/callback"),
        _ => "unknown".to_owned(),
    }
}

fn read<T>(
    variables: &Variables,
    settings: &[Setting],
    read: impl Fn(&Source) -> Result<T, Problems>,
) -> Result<T, Problems> {
    match Source::load(None, settings, |name| variables.get(name).cloned()) {
        Ok(source) => read(&source),
        // There is no file that could be wrong.
        Err(_) => Err(Problems(vec![])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = include_str!("../../tests/chart/values/minimal.yaml");
    const EXISTING: &str = include_str!("../../tests/chart/values/existing-secret.yaml");

    #[test]
    fn values_are_read_as_the_roles_read_them() {
        let values = Values::try_from(MINIMAL).unwrap();
        let installation = Installation::of_values(values, "control", OidcSource::Values);
        assert_eq!(installation.operator().unwrap().pod_namespace, "control");
        assert_eq!(installation.workspaces, "workspaces");
        assert_eq!(installation.gateway().unwrap().oidc.issuer, "https://idp.example.test");
        assert_eq!(installation.role(), None);
    }

    #[test]
    fn a_secret_that_is_not_known_is_no_problem_of_the_values() {
        let values = Values::try_from(EXISTING).unwrap();
        let installation = Installation::of_values(values, "control", OidcSource::Unknown("no rights".to_owned()));
        assert!(
            installation.gateway().is_some(),
            "{:?}",
            installation.gateway.unwrap().err()
        );
        assert_eq!(installation.oidc_unknown.as_deref(), Some("no rights"));
    }

    #[tokio::test]
    async fn the_environment_fills_in_what_the_values_do_not_have_and_is_told() {
        let everything = |_: &str| Some("https://environment.example.test/callback".to_owned());
        let complete = Values::try_from(MINIMAL).unwrap();
        let source = oidc_source(&complete, "control", None, everything).await;
        assert!(
            matches!(source, OidcSource::Values),
            "what the values say is what helm gets"
        );

        let without_secret = Values::try_from(
            MINIMAL
                .replace("clientSecret: planted-secret", "clientSecret: ''")
                .as_str(),
        );
        for values in [without_secret.unwrap(), Values::try_from(EXISTING).unwrap()] {
            let source = oidc_source(&values, "control", None, everything).await;
            assert!(matches!(source, OidcSource::Environment(_)));
            let installation = Installation::of_values(values, "control", source);
            assert!(installation.oidc_of_environment);
            let issuer = &installation.gateway().unwrap().oidc.issuer;
            assert_eq!(issuer, "https://environment.example.test/callback");
        }
    }
}

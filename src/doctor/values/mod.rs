//! Values files become the values that the chart renders: its defaults, with each file merged over them as Helm does.
//!
//! `settings` renders them to the settings of operator and gateway.

pub mod public_hosts;
pub mod settings;

use serde_json::{Map, Value};
use snafu::{ResultExt, Snafu};
use std::path::PathBuf;

const DEFAULTS: &str = include_str!("../../../chart/devplane/values.yaml");
const CHART: &str = include_str!("../../../chart/devplane/Chart.yaml");

/// The values of a release.
#[derive(Clone, Debug)]
pub struct Values {
    /// With the chart's defaults.
    all: Value,
    /// What the files say.
    given: Value,
}

/// Why a values file can't be used.
#[derive(Debug, Snafu)]
pub enum ValuesError {
    #[snafu(display("can't read the values file {}: {source}", path.display()))]
    Read { path: PathBuf, source: std::io::Error },
    #[snafu(display("{name} is no YAML with keys at its top: {reason}"))]
    Parse { name: String, reason: String },
}

impl Values {
    /// The chart's defaults with each file over what was before it.
    ///
    /// # Errors
    /// When a file can't be read, or is no YAML mapping.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ValuesError> {
        let mut texts = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(path).context(ReadSnafu { path })?;
            texts.push((path.display().to_string(), text));
        }
        Self::of(&texts)
    }

    /// As [`Self::load`], of names and texts.
    ///
    /// # Errors
    /// When a text is no YAML mapping.
    pub fn of(texts: &[(String, String)]) -> Result<Self, ValuesError> {
        let mut all = mapping("the chart's values", DEFAULTS)?;
        let mut given = Value::Object(Map::new());
        for (name, text) in texts {
            let values = mapping(&format!("the values file {name}"), text)?;
            merge(&mut all, &values, true);
            merge(&mut given, &values, false);
        }
        Ok(Self { all, given })
    }

    /// The value at `path`, levels separated by dots. A key with a dot in it can't be asked for.
    pub fn get(&self, path: &str) -> &Value {
        path.split('.').fold(&self.all, |value, key| &value[key])
    }

    /// Scalars as the chart writes them; nothing of what is empty, a list or a mapping.
    pub fn text(&self, path: &str) -> String {
        text(self.get(path))
    }

    pub fn is_true(&self, path: &str) -> bool {
        self.get(path).as_bool().unwrap_or_default()
    }

    /// The texts of a list's scalars.
    pub fn texts(&self, path: &str) -> Vec<String> {
        let items = self.get(path).as_array().map_or(&[][..], Vec::as_slice);
        items.iter().map(text).collect()
    }

    /// What the files say, without the chart's defaults.
    pub fn given(&self) -> &Value {
        &self.given
    }

    /// All of it, with the chart's defaults.
    pub fn all(&self) -> &Value {
        &self.all
    }

    /// The image of the operator, as the chart has it.
    pub fn operator_image(&self) -> String {
        self.image("operator.image")
    }

    /// The image of the gateway, as the chart has it.
    pub fn gateway_image(&self) -> String {
        self.image("gateway.image")
    }

    /// The image of workspaces, but for classes that have their own.
    pub fn workspace_image(&self) -> String {
        first([
            self.text("workspace.image"),
            format!("devplane-workspace:{}", app_version()),
        ])
    }

    /// The ConfigMap of the release's namespace with the authorities that the gateway trusts, and its key.
    pub fn gateway_authorities(&self) -> Option<(String, String)> {
        let own = self.text("gateway.tls.customCABundle.configMapName");
        if !own.is_empty() {
            return Some((own, self.text("gateway.tls.customCABundle.key")));
        }
        let key = if self.makes_authorities() {
            "ca.crt".to_owned()
        } else {
            self.text("customCA.configMap.key")
        };
        Some((self.common_authorities(), key)).filter(|(name, _)| !name.is_empty())
    }

    /// The ConfigMap of the workspaces' namespace with the authorities that workspaces trust; empty when there is none.
    pub fn workspace_authorities(&self) -> String {
        first([
            self.text("workspace.defaultCABundle.configMapName"),
            self.common_authorities(),
        ])
    }

    /// Whether the chart makes the ConfigMap with authorities itself.
    pub fn makes_authorities(&self) -> bool {
        !self.text("customCA.pem").is_empty()
    }

    fn common_authorities(&self) -> String {
        if self.makes_authorities() {
            return "devplane-custom-ca".to_owned();
        }
        self.text("customCA.configMap.name")
    }

    fn image(&self, own: &str) -> String {
        first([
            self.text(own),
            self.text("image"),
            format!("devplane:{}", app_version()),
        ])
    }
}

/// `appVersion` of the chart that this executable belongs to.
pub fn app_version() -> String {
    let chart = mapping("the chart", CHART).unwrap_or_default();
    text(&chart["appVersion"])
}

/// The first that is not empty.
fn first<const N: usize>(texts: [String; N]) -> String {
    let mut texts = texts.into_iter();
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

/// As `devplane.text` of the chart: whole numbers without an exponent.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match number.as_f64() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "it is whole, and this is how the chart writes it"
            )]
            Some(float) if number.is_f64() && float.fract() == 0.0 => (float as i64).to_string(),
            _ => number.to_string(),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn mapping(name: &str, text: &str) -> Result<Value, ValuesError> {
    let parsed: Result<Value, _> = serde_saphyr::from_str(text);
    let reason = match parsed {
        Ok(value @ Value::Object(_)) => return Ok(value),
        // An empty file is an empty mapping.
        Ok(Value::Null) => return Ok(Value::Object(Map::new())),
        Ok(_) => "its top level is no mapping".to_owned(),
        // Without the lines around it: one of them may hold a secret.
        Err(error) => error.without_snippet().to_string(),
    };
    ParseSnafu { name, reason }.fail()
}

/// Helm's rule: mappings are merged, `null` takes a default away (`removes`), the rest is replaced.
fn merge(into: &mut Value, from: &Value, removes: bool) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else {
        return;
    };
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (_, Value::Null) if removes => {
                into.remove(key);
            }
            (Some(inner @ Value::Object(_)), Value::Object(_)) => merge(inner, value, removes),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Of one text.
impl TryFrom<&str> for Values {
    type Error = ValuesError;

    fn try_from(text: &str) -> Result<Self, ValuesError> {
        Self::of(&[("values".to_owned(), text.to_owned())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_merged_as_helm_does() {
        let first = (
            "a".to_owned(),
            "gateway: {replicas: 3, ingress: {host: a.test}}\nworkspace: {ai: {egressPorts: [1, 2]}}".to_owned(),
        );
        let second = (
            "b".to_owned(),
            "gateway: {ingress: {host: b.test}}\nworkspace: {ai: {egressPorts: [3]}, dns: null}".to_owned(),
        );
        let values = Values::of(&[first, second]).unwrap();
        assert_eq!(values.text("gateway.replicas"), "3");
        assert_eq!(values.text("gateway.ingress.host"), "b.test");
        assert_eq!(values.text("gateway.ingress.enabled"), "false");
        assert_eq!(values.texts("workspace.ai.egressPorts"), ["3"]);
        assert_eq!(values.get("workspace.dns"), &Value::Null);
        assert_eq!(values.given()["gateway"]["replicas"], 3);
        assert_eq!(values.given()["gateway"].get("service"), None);
    }

    #[test]
    fn images_fall_back_as_in_the_chart() {
        let values = Values::try_from("").unwrap();
        assert_eq!(values.operator_image(), format!("devplane:{}", app_version()));
        assert_eq!(app_version(), env!("CARGO_PKG_VERSION"));
        let values = Values::try_from("image: a:1\ngateway: {image: b:2}").unwrap();
        assert_eq!(
            (values.operator_image(), values.gateway_image()),
            ("a:1".into(), "b:2".into())
        );
    }

    #[test]
    fn a_refusal_shows_nothing_of_the_file() {
        for wrong in [
            "gateway: {oidc: {clientSecret: planted-secret\nx: 1",
            "gateway:\n  clientSecret: \"planted-secret",
            "clientSecret: planted-secret\nb: [",
        ] {
            let told = Values::try_from(wrong).unwrap_err().to_string();
            assert!(told.contains("line ") && !told.contains("planted"), "{told}");
        }
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for wrong in ["- a", "text", "a: [", "{"] {
            assert!(Values::try_from(wrong).is_err(), "{wrong}");
        }
    }
}

//! Defaults < file < environment, merged by figment, with the origin of each value kept for messages.

use super::setting::Setting;
use data_encoding::HEXLOWER;
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Where settings come from.
#[derive(Clone, Debug)]
pub struct Source {
    figment: Figment,
    file: Option<Dict>,
}

/// Why the configuration file can't be used.
#[derive(Debug, snafu::Snafu)]
pub enum FileError {
    #[snafu(display("can't read the configuration file {path}: {source}"))]
    Read { path: String, source: std::io::Error },
    #[snafu(display("the configuration file {path} is not YAML with keys at its top: {reason}"))]
    Parse { path: String, reason: String },
}

/// A value as the text that the environment would have given, and where it came from.
pub struct Found {
    pub text: String,
    pub origin: String,
}

impl Source {
    /// Reads the file, when there is one, and looks up the environment through `env`.
    ///
    /// # Errors
    /// When the file can't be read or is no YAML mapping.
    pub fn load(
        file: Option<&Path>,
        settings: &[Setting],
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, FileError> {
        let file = file.map(read_file).transpose()?;
        let mut figment = Figment::new().merge(Layer::defaults(settings));
        if let Some((name, values)) = &file {
            figment = figment.merge(Layer {
                name: format!("file {name}"),
                values: values.clone(),
            });
        }
        for setting in settings {
            // An empty variable is an unset one: a chart renders an unused value that way.
            if let Some(text) = env(setting.env).filter(|text| !text.is_empty()) {
                let values = figment::util::nest(setting.path, Value::from(text))
                    .into_dict()
                    .unwrap_or_default();
                figment = figment.merge(Layer {
                    name: format!("environment variable {}", setting.env),
                    values,
                });
            }
        }
        Ok(Self {
            figment,
            file: file.map(|(_, values)| values),
        })
    }

    /// The value of a setting; an empty one counts as absent.
    pub fn find(&self, setting: &Setting) -> Option<Found> {
        let value = self.figment.find_value(setting.path).ok()?;
        let origin = self
            .figment
            .get_metadata(value.tag())
            .map_or_else(|| "default".to_owned(), |m| m.name.to_string());
        let text = as_text(&value);
        (!text.is_empty()).then_some(Found { text, origin })
    }

    /// SHA-256 over the effective value of each setting, in hexadecimal: two processes with the same are set alike. Of a secret it is
    /// only known whether it is set, so that nothing can be tried out.
    pub fn digest(&self, settings: &[Setting]) -> String {
        let mut hash = Sha256::new();
        for setting in settings {
            let found = self.find(setting);
            let value = match &found {
                Some(_) if setting.secret => Some("set"),
                Some(found) => Some(found.text.as_str()),
                None => None,
            };
            // With its length, so that no value looks like the settings behind it.
            let length = value.map_or(-1, |value| i64::try_from(value.len()).unwrap_or(i64::MAX));
            hash.update(format!("{}={length}:{}\n", setting.env, value.unwrap_or_default()));
        }
        HEXLOWER.encode(&hash.finalize())
    }

    /// Keys of the file that no setting has.
    pub fn unknown_keys(&self, settings: &[Setting]) -> Vec<String> {
        let mut unknown = Vec::new();
        if let Some(file) = &self.file {
            collect_unknown(file, "", settings, &mut unknown);
        }
        unknown
    }
}

fn collect_unknown(dict: &Dict, prefix: &str, settings: &[Setting], unknown: &mut Vec<String>) {
    for (key, value) in dict {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        if settings.iter().any(|setting| setting.path == path) {
            continue;
        }
        let below = format!("{path}.");
        match value.as_dict() {
            Some(inner) if settings.iter().any(|setting| setting.path.starts_with(&below)) => {
                collect_unknown(inner, &path, settings, unknown);
            }
            _ => unknown.push(path),
        }
    }
}

fn read_file(path: &Path) -> Result<(String, Dict), FileError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
        path: name.clone(),
        source,
    })?;
    let value: serde_json::Value = serde_saphyr::from_str(&text).map_err(|error| FileError::Parse {
        path: name.clone(),
        // Without the lines around it: one of them may hold a secret.
        reason: error.without_snippet().to_string(),
    })?;
    match Value::serialize(&value) {
        Ok(Value::Dict(_, values)) => Ok((name, values)),
        // An empty file is an empty mapping.
        _ if value.is_null() => Ok((name, Dict::new())),
        _ => Err(FileError::Parse {
            path: name,
            reason: "its top level is no mapping".to_owned(),
        }),
    }
}

/// The text that an environment variable would hold: lists of plain values joined by commas, the rest as JSON.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        // Nothing is not the same as no value: the default would take its place.
        Value::Array(_, items) if items.is_empty() => "[]".to_owned(),
        Value::Array(_, items) if items.iter().all(|item| item.as_dict().is_none()) => {
            items.iter().map(as_text).collect::<Vec<_>>().join(",")
        }
        Value::Empty(..) => String::new(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// One named layer of values.
struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    fn defaults(settings: &[Setting]) -> Self {
        let mut figment = Figment::new();
        for setting in settings {
            if let Some(default) = setting.default {
                figment = figment.merge((setting.path, default));
            }
        }
        let values = figment.extract::<Dict>().unwrap_or_default();
        Self {
            name: "default".to_owned(),
            values,
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(untagged(&self.values)))
    }
}

/// Values without the tags of another layer, so that each is known by the layer that gives it.
fn untagged(values: &Dict) -> Dict {
    fn strip(value: &Value) -> Value {
        match value {
            Value::Dict(_, dict) => Value::Dict(Tag::Default, untagged(dict)),
            Value::Array(_, items) => Value::Array(Tag::Default, items.iter().map(strip).collect()),
            Value::String(_, text) => Value::String(Tag::Default, text.clone()),
            Value::Num(_, number) => Value::Num(Tag::Default, *number),
            Value::Bool(_, boolean) => Value::Bool(Tag::Default, *boolean),
            Value::Char(_, character) => Value::Char(Tag::Default, *character),
            Value::Empty(_, empty) => Value::Empty(Tag::Default, *empty),
        }
    }
    values.iter().map(|(key, value)| (key.clone(), strip(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::setting::setting;
    use super::*;

    #[test]
    fn a_digest_is_of_what_is_set_and_of_no_secret() {
        const SETTINGS: [Setting; 3] = [
            setting("A", "a").default("1"),
            setting("B", "b"),
            setting("SECRET", "secret").secret(),
        ];
        let digest = |env: &[(&str, &str)]| {
            let find = |name: &str| {
                let found = env.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            Source::load(None, &SETTINGS, find).unwrap().digest(&SETTINGS)
        };
        let plain = digest(&[]);
        assert_eq!(
            (plain.len(), &plain),
            (64, &digest(&[("A", "1")])),
            "a default is a value"
        );
        assert_ne!(plain, digest(&[("A", "2")]));
        assert_ne!(plain, digest(&[("B", "1")]));
        assert_ne!(digest(&[("A", "2\nB=1:x")]), digest(&[("A", "2"), ("B", "x")]));
        assert_ne!(plain, digest(&[("SECRET", "a")]));
        assert_eq!(digest(&[("SECRET", "a")]), digest(&[("SECRET", "b")]));
    }
}

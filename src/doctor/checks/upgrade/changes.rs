//! What has become of each key of 1.1's values, and whether the values at hand have to be looked at for it.

use super::super::super::values::Values;
use serde::Deserialize;
use serde_json::Value;
use std::sync::LazyLock;

/// By key, as in docs/setup/upgrade-from-1.1.md.
pub static CHANGES: LazyLock<Vec<Change>> =
    LazyLock::new(|| serde_json::from_str(include_str!("changes-since-1.1.json")).unwrap_or_default());

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// In 1.1, levels separated by dots.
    pub key: String,
    pub fate: Fate,
    /// The key that says it now.
    pub now: String,
    /// What to do, or to know; Markdown.
    pub note: String,
    warn: Option<Warn>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// As it was.
    Same,
    /// It is there and means more, or something safer.
    Look,
    /// The chart does not have it.
    Gone,
}

/// When values that have the key are not as they should be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Warn {
    /// It is an image whose tag begins so.
    ImageOf(String),
    /// Another key is not set.
    Unless(String),
    Always(bool),
}

impl Change {
    /// Whether `values` are to be changed for it.
    pub fn concerns(&self, values: &Values) -> bool {
        let given = at(values.given(), &self.key);
        if !is_set(given) {
            return false;
        }
        match &self.warn {
            None => false,
            Some(Warn::Always(always)) => *always,
            Some(Warn::Unless(other)) => !is_set(values.get(other)),
            Some(Warn::ImageOf(version)) => tag(given.as_str().unwrap_or_default()).starts_with(version),
        }
    }
}

/// That of a key which the chart no longer has.
pub fn gone(path: &str) -> Option<&'static Change> {
    let mut gone = CHANGES.iter().filter(|change| change.fate == Fate::Gone);
    gone.find(|change| change.key == path)
}

fn at<'a>(values: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(values, |value, key| &value[key])
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(keys) => !keys.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// The tag of an image, without a leading `v`; empty when it has none.
fn tag(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':'));
    tag.map_or("", |(_, tag)| tag.strip_prefix('v').unwrap_or(tag))
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;
    use serde_json::json;

    /// Values with one key.
    fn with(key: &str, value: &Value) -> Value {
        key.rsplit('.').fold(value.clone(), |inner, key| json!({ key: inner }))
    }

    fn values(all: &[Value]) -> Values {
        let texts: Vec<_> = all
            .iter()
            .map(|value| ("values".to_owned(), value.to_string()))
            .collect();
        Values::of(&texts).unwrap()
    }

    #[test]
    fn every_key_of_before_is_known_or_said_to_be_gone() {
        assert!(CHANGES.len() > 30);
        for Change {
            key, fate, now, note, ..
        } in CHANGES.iter()
        {
            let refused = !keys::unknown(&with(key, &json!("x"))).is_empty();
            assert_eq!(refused, *fate == Fate::Gone, "{key}");
            assert!(
                keys::unknown(&with(now, &json!("x"))).is_empty(),
                "{key} is {now} now, which there is not"
            );
            assert!(*fate == Fate::Same || !note.is_empty(), "{key} does not say what to do");
        }
    }

    #[test]
    fn every_row_that_warns_does_so_until_it_is_mended() {
        for change in CHANGES.iter() {
            let old = match &change.warn {
                Some(Warn::ImageOf(_)) => json!("registry.test:5000/a:v1.1.3@sha256:0"),
                _ => json!("x"),
            };
            let given = with(&change.key, &old);
            let concerned = change.concerns(&values(std::slice::from_ref(&given)));
            assert_eq!(concerned, change.warn.is_some(), "{}", change.key);
            let mended = match &change.warn {
                Some(Warn::ImageOf(_)) => with(&change.key, &json!("registry.test:5000/a:2.0.0")),
                Some(Warn::Unless(other)) => with(other, &json!(["x"])),
                _ => with(&change.key, &json!("")),
            };
            assert!(!change.concerns(&values(&[given, mended])), "{}", change.key);
        }
        assert!(
            !CHANGES.iter().any(|change| change.concerns(&values(&[]))),
            "the chart's own"
        );
    }

    #[test]
    fn the_page_says_the_same() {
        let page = include_str!("../../../../docs/setup/upgrade-from-1.1.md");
        for Change {
            key, fate, now, note, ..
        } in CHANGES.iter()
        {
            let fate = match fate {
                Fate::Same => "as it was",
                Fate::Look => "look at it",
                Fate::Gone => "gone",
            };
            let row = format!("| `{key}` | {fate} | `{now}` | {note} |\n");
            assert!(
                page.contains(&row),
                "docs/setup/upgrade-from-1.1.md lacks the row\n{row}"
            );
        }
        assert_eq!(
            page.lines().filter(|line| line.starts_with("| `")).count(),
            CHANGES.len()
        );
    }

    #[test]
    fn tags_are_found_behind_ports_and_before_digests() {
        for (image, expected) in [
            ("a:1.1", "1.1"),
            ("r.test:5000/a", ""),
            ("r.test:5000/b/a:v1.1@sha256:0", "1.1"),
            ("a@sha256:0", ""),
        ] {
            assert_eq!(tag(image), expected, "{image}");
        }
    }
}

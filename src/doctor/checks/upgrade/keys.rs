//! Values and the chart's schema become the keys that the chart does not have.

use serde_json::Value;
use std::sync::LazyLock;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../../../chart/devplane/values.schema.json");
    serde_json::from_str(text).unwrap_or_default()
});

/// A key that helm would refuse.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Such as `workspace.classes[0].gpus`.
    pub path: String,
    /// The key beside it that was meant, when one is that like it.
    pub meant: Option<String>,
}

/// In the order of `given`.
pub fn unknown(given: &Value) -> Vec<Unknown> {
    let mut found = Vec::new();
    look(&SCHEMA, given, "", &mut found);
    found
}

fn look(node: &Value, given: &Value, path: &str, found: &mut Vec<Unknown>) {
    let node = resolved(node);
    match given {
        Value::Object(keys) => {
            for (key, value) in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let property = node["properties"].get(key);
                match (property, &node["additionalProperties"]) {
                    // A key of before: the schema has it to say what to set.
                    (Some(property), _) if property.get("const").is_some() => found.push(Unknown { path, meant: None }),
                    (Some(property), _) => look(property, value, &path, found),
                    (None, Value::Bool(false)) => found.push(Unknown {
                        meant: meant(node, key),
                        path,
                    }),
                    (None, other) => look(other, value, &path, found),
                }
            }
        }
        Value::Array(items) => {
            let of_items = resolved(&node["items"]);
            for (index, item) in items.iter().enumerate() {
                // Either a name, or an object.
                let node = of_items.get("else").unwrap_or(of_items);
                look(node, item, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// What a `$ref` leads to.
fn resolved(mut node: &Value) -> &Value {
    while let Some(pointer) = node["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        node = SCHEMA.pointer(pointer).unwrap_or(&Value::Null);
    }
    node
}

/// The one that is at most two letters away, or the same in other case.
fn meant(node: &Value, key: &str) -> Option<String> {
    let known = node["properties"].as_object()?;
    let is_like = |known: &str| distance(&known.to_lowercase(), &key.to_lowercase()) <= 2;
    known.keys().find(|known| is_like(known)).cloned()
}

/// Levenshtein's: letters to put in, take out or exchange.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(given: Value) -> Vec<String> {
        unknown(&given).into_iter().map(|unknown| unknown.path).collect()
    }

    #[test]
    fn a_key_that_helm_would_refuse_is_found_wherever_it_is() {
        let given = json!({
            "gatway": {}, "gateway": {"replica": 2, "oidc": {"clientId": "a"}, "terminationGracePeriodSeconds": 60, "resources": {"request": {}}},
            "workspace": {
                "classes": [{"name": "a"}, {"name": "b", "gpus": 1, "pod": {"securityContext": {}}}],
                "ai": {"egressNamespaces": ["a", {"name": "b", "port": 1}]},
            },
        });
        let found = [
            "gateway.oidc.clientId",
            "gateway.replica",
            "gateway.resources.request",
            "gateway.terminationGracePeriodSeconds",
            "gatway",
            "workspace.ai.egressNamespaces[1].port",
            "workspace.classes[1].gpus",
            "workspace.classes[1].pod.securityContext",
        ];
        let mut paths = paths(given);
        paths.sort();
        assert_eq!(paths, found);
    }

    #[test]
    fn what_kubernetes_or_the_user_names_is_not_ours_to_know() {
        let given = json!({
            "gateway": {"affinity": {"nodeAffinity": {}}, "podAnnotations": {"a/b": "c"}, "nodeSelector": {"pool": "a"}, "oidc": {"requiredClaims": {"acr": "gold"}}},
            "workspace": {"quota": {"requests.cpu": "2"}, "pod": {"env": {"A": "b"}}},
            "extraObjects": [{"kind": "ConfigMap", "data": {}}, "kind: ConfigMap"], "global": {"a": 1},
        });
        assert_eq!(paths(given), Vec::<String>::new());
    }

    #[test]
    fn the_key_that_was_meant_is_offered() {
        let meant = |given: Value| unknown(&given).remove(0).meant;
        assert_eq!(meant(json!({"gateway": {"replica": 2}})).as_deref(), Some("replicas"));
        assert_eq!(
            meant(json!({"gateway": {"oidc": {"clientid": "a"}}})).as_deref(),
            Some("clientID")
        );
        assert_eq!(meant(json!({"elsewhere": {}})), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

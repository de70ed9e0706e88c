//! Texts of the values become the public hosts that they name.

use serde_json::Value;

/// Well-known registries of images, and package indexes, with all that is below them.
const PUBLIC: &[&str] = &[
    "docker.io",
    "docker.com",
    "ghcr.io",
    "quay.io",
    "gcr.io",
    "pkg.dev",
    "registry.k8s.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "registry.gitlab.com",
    "registry.redhat.io",
    "registry.access.redhat.com",
    "nvcr.io",
    "cgr.dev",
    "lscr.io",
    "docker.elastic.co",
    "pypi.org",
    "pythonhosted.org",
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "proxy.golang.org",
    "sum.golang.org",
    "crates.io",
    "repo.maven.apache.org",
    "repo1.maven.org",
    "rubygems.org",
    "huggingface.co",
];

/// Where a value names a public host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// Levels separated by dots, places in lists in brackets.
    pub path: String,
    pub host: &'static str,
}

/// All of them, in the order of the values. Nothing else of a value is told: it may hold a secret.
pub fn in_values(values: &Value) -> Vec<Mention> {
    let mut found = Vec::new();
    search(values, "", &mut found);
    found
}

fn search(value: &Value, path: &str, found: &mut Vec<Mention>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                search(value, &path, found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                search(value, &format!("{path}[{index}]"), found);
            }
        }
        Value::String(text) => {
            let mut hosts: Vec<_> = text.split(|c: char| !is_of_host(c)).filter_map(public).collect();
            hosts.sort_unstable();
            hosts.dedup();
            found.extend(hosts.into_iter().map(|host| Mention {
                path: path.to_owned(),
                host,
            }));
        }
        _ => {}
    }
}

fn is_of_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-')
}

fn public(word: &str) -> Option<&'static str> {
    let word = word.trim_matches('.').to_ascii_lowercase();
    let is_below = |host: &str| {
        word.strip_suffix(host)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    PUBLIC.iter().copied().find(|host| is_below(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_host_is_found_wherever_it_is_named() {
        let host = PUBLIC[0];
        let values = json!({
            "image": format!("{host}/library/devplane:2"),
            "extraObjects": [{"a": "kind: Pod\n"}, format!("spec:\n  image: \"registry-1.{host}/a:1\"\n")],
            "workspace": {"packageMirrors": {"pip": {"indexUrl": format!("https://user:planted@{}/simple", PUBLIC[16])}}},
            "doctor": {"skip": [format!("*.{host}")]},
        });
        let found: Vec<_> = in_values(&values)
            .into_iter()
            .map(|one| format!("{} {}", one.path, one.host))
            .collect();
        assert_eq!(
            found,
            [
                format!("doctor.skip[0] {host}"),
                format!("extraObjects[1] {host}"),
                format!("image {host}"),
                format!("workspace.packageMirrors.pip.indexUrl {}", PUBLIC[16]),
            ]
        );
    }

    #[test]
    fn a_name_that_is_only_like_one_is_none() {
        let host = PUBLIC[0];
        for text in [
            format!("my{host}/a"),
            format!("{host}.corp.example/a"),
            format!("r.example/{host}x"),
        ] {
            assert_eq!(in_values(&json!({ "image": text })), vec![], "{text}");
        }
        assert_eq!(
            in_values(&json!({"image": "r.example/devplane:2", "replicas": 2})),
            vec![]
        );
    }
}

//! `WWW-Authenticate` becomes what a registry wants to see (RFC 9110, section 11.6.1; the token protocol of `distribution`).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use std::collections::BTreeMap;
use url::Url;

/// A way to show who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A token from elsewhere, which the login is shown instead (RFC 6750).
    Bearer {
        realm: Url,
        service: Option<String>,
        scope: Option<String>,
    },
    /// The login itself (RFC 7617).
    Basic,
}

impl Challenge {
    /// The first that is known; Bearer before Basic, as container runtimes do. `None` when there is none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter();
        let all: Vec<_> = texts
            .filter_map(|text| text.to_str().ok())
            .flat_map(challenges)
            .collect();
        let bearer = all
            .iter()
            .filter(|(scheme, _)| scheme == "bearer")
            .find_map(|(_, parameters)| {
                let parameter = |name: &str| parameters.get(name).cloned();
                Some(Self::Bearer {
                    realm: Url::parse(parameters.get("realm")?).ok()?,
                    service: parameter("service"),
                    scope: parameter("scope"),
                })
            });
        let basic = || all.iter().any(|(scheme, _)| scheme == "basic").then_some(Self::Basic);
        bearer.or_else(basic)
    }
}

/// The challenges of one header: schemes in lower case, each with its parameters.
fn challenges(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = vec![];
    for item in items(text) {
        // A scheme stands before its first parameter, with blanks between; later parameters have no blank in their names.
        let (scheme, parameter) = match item.split_once([' ', '\t']) {
            Some((scheme, rest)) if !scheme.contains('=') => (Some(scheme), rest.trim_start()),
            _ if !item.contains('=') => (Some(item), ""),
            _ => (None, item),
        };
        if let Some(scheme) = scheme {
            found.push((scheme.to_ascii_lowercase(), BTreeMap::new()));
        }
        if let (Some((name, value)), Some((_, parameters))) = (parameter.split_once('='), found.last_mut()) {
            parameters.insert(name.trim().to_ascii_lowercase(), unquoted(value.trim()));
        }
    }
    found
}

/// What is between commas that are in no quoted string.
fn items(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|c| {
        let (is_escaped, ends) = (escaped, c == ',' && !quoted);
        escaped = quoted && !is_escaped && c == '\\';
        quoted ^= c == '"' && !is_escaped;
        ends
    });
    parts.map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// RFC 9110, section 5.6.4.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    let kept = inner.chars().filter(|&c| {
        escaped = c == '\\' && !escaped;
        !escaped
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(texts: &[&'static str]) -> Option<Challenge> {
        let headers = texts
            .iter()
            .map(|text| (WWW_AUTHENTICATE, HeaderValue::from_static(text)));
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, value);
        }
        Challenge::of(&all)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: Url::parse(realm).unwrap(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn registries_say_it_in_many_ways() {
        let scope = "repository:a:pull,push";
        let full = r#"Bearer realm="https://auth.corp/token",service="r.corp",scope="repository:a:pull,push""#;
        assert_eq!(
            of(&[full]),
            bearer("https://auth.corp/token", Some("r.corp"), Some(scope))
        );
        let spaced = "bearer  Realm=\"https://a.corp/t\" , service=r";
        assert_eq!(of(&[spaced]), bearer("https://a.corp/t", Some("r"), None));
        let both = r#"Basic realm="a, b=\"c\"", Bearer realm="https://a.corp/t""#;
        assert_eq!(of(&[both]), bearer("https://a.corp/t", None, None));
        assert_eq!(of(&["Negotiate", "Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(of(&["Basic"]), Some(Challenge::Basic));
        for none in [
            &[][..],
            &["Negotiate"],
            &["Bearer service=x"],
            &["Bearer realm=\"no url\""],
            &[",,="],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
